"""The table of learning rates: each size fine-tuned at five fractions of its pre-training rate, tried on target and source by epoch.

With AdaLoRA means int8 + AdaLoRA, the paper's configuration; without means full fine-tuning in full precision. The claims on it, A8
and A9, have their rules in the ledger, on the table `whisper_wer`. What this table adds is read by these rules, written before
its grid was run (the rates 1 and 1/40 on the target were known from `whisper_wer` by then):

- a rate is best for a size and method if its test WER is the lowest of the five; others tie with it by Holm within these five;
- it harms if test WER is above that of the same model before training, and forgets if dev WER on the source after the last
  epoch is above that before the first, each by bootstrap paired over utterances, Holm-corrected within size and method;
- larger models forget more if that change on the source is larger for large than for tiny, at the same rate and method.
"""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study.cells import EPOCHS, RATES, SIZES, Cell, make_cell
from asum_lib.study.execute import parameters_of
from asum_lib.study.records import Record

NOTEBOOK = "notebooks/learning_rates.ipynb"
PRECISION_OF = {"full": "fp32", "adalora": "int8"}
SEEDS = {"tiny": (0, 1, 2), "base": (0, 1, 2), "small": (0, 1, 2), "medium": (0,), "large": (0,)}  # as many as two cores had time for


@dataclass(frozen=True)
class Row:
    """The measured cells of one size: parallel tuples of record paths and records."""

    size: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


def make_rates(size: str, rates=RATES, methods=tuple(PRECISION_OF), seeds=(0,), epochs: int = EPOCHS) -> list[Cell]:
    """The cells of one size; raises `InputError` with the choices."""
    for name, values in {"rates": rates, "methods": methods, "seeds": seeds}.items():
        if isinstance(values, str) or not list(values):
            raise InputError(f"{name} {values!r} is not a list with at least one entry")
    for method in methods:
        if method not in PRECISION_OF:
            raise InputError(f"unknown method {method!r} of the learning rates: choose from {', '.join(PRECISION_OF)}")
    return [
        make_cell(size, PRECISION_OF[method], method, corpus="howto", rate=rate, seed=seed, epochs=epochs, forgetting=True)
        for seed in seeds
        for method in methods
        for rate in rates
    ]


def planned_rates() -> list[Cell]:
    """Every cell of the table, seeds included."""
    return [cell for size in SIZES for cell in make_rates(size, seeds=SEEDS[size])]


def run(
    size: str = "small",
    rates: list = RATES,
    methods: list = ("full", "adalora"),
    seeds: list = (0,),
    epochs: int = EPOCHS,
    results_dir: str = "",
) -> Row:
    """Measure (or read, where fresh) the cells of one size; progress goes to stderr."""
    from asum_lib.study.run import run_cells

    cells = make_rates(size, rates, methods, seeds, epochs)
    paths, found = zip(*run_cells(cells, results=Path(results_dir) if results_dir else RESULTS, notebook=NOTEBOOK), strict=True)
    return Row(size, paths, found)


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `execute.parameters_of`."""
    return parameters_of(run, namespace)


if __name__ == "__main__":  # the planned cells of the sizes named, the first seed of all of them first
    import sys

    from asum_lib.study.run import run_cells

    run_cells(sorted((cell for cell in planned_rates() if cell.size in sys.argv[1:]), key=lambda cell: cell.seed), results=RESULTS, notebook=NOTEBOOK)
