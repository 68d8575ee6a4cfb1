# One-line doors to the study. `make study` and `make test` are the two that everybody needs.
# Nothing here asks for the network after `make env`, and nothing needs a compiler.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread a job: two notebooks side by side are faster than one after the other on two threads.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PYTHONNOUSERSITE := 1
export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One study at a time in a folder. The recipe's shell holds the lock, and no job: it is let go of when the last of the run has ended, and by
# the kernel when the run is killed, so nothing needs unlocking by hand.
ALONE := exec 9>build/.lock; ! command -v flock >/dev/null || flock --nonblock 9 || { echo "another make study is running in this folder" >&2; exit 75; };
SNAKEMAKE := $(BIN)/snakemake --snakefile workflow/Snakefile --cores $(JOBS) --scheduler greedy --nolock --rerun-incomplete \
	--rerun-triggers mtime input --quiet host reason rules --keep-going --show-failed-logs

# The build of torch that pip prefers here is installed first, if its hash is in the lock. Left to the lock, pip would take PyPI's
# before one in a folder of wheels, whose hash it does not know before it has chosen.
TORCH = $$(sed -n 's/^torch==//p' constraints.txt)
define CHOOSE_TORCH
rm -rf build/torch && $(BIN)/pip download --progress-bar off --no-deps --dest build/torch torch==$(TORCH) && \
	{ grep -qF -- "$$($(BIN)/pip hash build/torch/*.whl | tail -1)" requirements.lock || \
	{ echo "torch $(TORCH): the build that pip finds has no hash in requirements.lock" >&2; exit 1; }; } && \
	$(BIN)/pip install --progress-bar off --no-deps build/torch/*.whl && rm -rf build/torch
endef

.PHONY: help env study test slow bench book pdf lint lock clean

help:  ## say what the targets do
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1 \2/' | awk '{printf "%s %-7s", $$1, $$2; $$1=$$2=""; print}'

env: $(STAMP)  ## make .venv from requirements.lock

$(STAMP): requirements.lock constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or give its path with make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip list --format freeze | grep -qE "^torch==$(TORCH)(\+|$$)" || { $(CHOOSE_TORCH); }
	$(BIN)/pip install --progress-bar off --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --progress-bar off --constraint constraints.txt torch  # adds the CUDA libraries of PyPI's build, else nothing
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	touch $@

study: env  ## run every notebook at mini scale, then build and check the book in _build/html
	@mkdir -p build
	@$(ALONE) { $(SNAKEMAKE) notebooks && $(SNAKEMAKE) all; } 9>&-
	@echo "The book is in _build/html/index.html"

book: env  ## build and check the book anew, after the notebooks that have not run yet
	@mkdir -p build
	@$(ALONE) { $(SNAKEMAKE) --forcerun book -- book; } 9>&-

pdf: env  ## print the built book into _build/pdf/book.pdf, with the Chromium that is here
	test -f _build/html/index.html || $(MAKE) study
	$(BIN)/python .ci/book_pdf.py _build/html _build/pdf/book.pdf

test: env  ## run the quick tests, in minutes
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow"

slow: env  ## run the slow tests: hostile input, simulations, measurements made again
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m slow

bench: env  ## time our own loop against others, as ratios (about 20 minutes; ARGS="--row ''" leaves the longest part out)
	$(BIN)/python bench/bench_whisper.py $(ARGS)

lint: env  ## check style and that notebooks carry no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find notebooks -name '*.ipynb' -not -path '*/.*' -print0 | xargs -0 -r $(BIN)/nbstripout --verify

# uv asks PyPI for the hashes of all files of a version. Of PyTorch's CPU builds the one that pip finds here is added; add the other processor's by hand.
lock: ## resolve pyproject.toml anew into requirements.lock and constraints.txt (the one target that changes versions)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --progress-bar off ".[dev]"
	build/lock/bin/pip freeze --all --exclude pip --exclude asum | sed -E 's/\+cpu$$//' > build/lock/in.txt
	build/lock/bin/pip install --progress-bar off uv
	build/lock/bin/pip download --progress-bar off --no-deps --dest build/lock/torch "$$(grep '^torch==' build/lock/in.txt)"
	build/lock/bin/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --system-certs \
		--python build/lock/bin/python build/lock/in.txt --output-file build/lock/hashed.txt
	{ grep '^#' requirements.lock; sed "/^torch==/a\\    $$(build/lock/bin/pip hash build/lock/torch/torch-*.whl | tail -1) \\\\" build/lock/hashed.txt; } > build/lock.txt
	{ grep '^#' constraints.txt; sed -nE 's/^([^ #]+==[^ ]+).*/\1/p' build/lock.txt; } > build/constraints.txt
	mv build/lock.txt requirements.lock && mv build/constraints.txt constraints.txt && rm -rf build/lock

clean:  ## remove what was built; environment, records and caches stay
	rm -rf build _build .snakemake .pytest_cache .ruff_cache
