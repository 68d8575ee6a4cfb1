"""The graph of the study: its runs cover the planned grid exactly, and it runs again only what has changed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asum_lib.paths import REPOSITORY
from asum_lib.study import learning_rates, talk_cells
from asum_lib.study.cells import SIZES, make_row
from asum_lib.study.tables import GRIDS, planned
from asum_lib.study.text_cells import COMBINATIONS, TABLE_OF, make_text_cell, planned_search, planned_text

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path):
    """An empty study beside the real workflow: a notebook, checkpoints and the record files of the whole grid, all without content."""
    for table in GRIDS["mini"]:
        for cell in planned(table):
            touch(cell.path(tmp_path / "results"))
    for cell in [*learning_rates.planned_rates(), *planned_search(), *(cell for name in TABLE_OF["mini"].values() for cell in planned_text(name))]:
        touch(cell.path(tmp_path / "results"))
    for cell in (cell for table in talk_cells.TABLES for cell in talk_cells.planned_talks(table)):
        touch(cell.path(tmp_path / "results"))
    for corpus in TABLE_OF["mini"]:
        touch(tmp_path / "results" / "mini" / "corpora" / f"{corpus}-test.json")
    for path in [
        *(f"notebooks/{name}.ipynb" for name in ("whisper_quant", "learning_rates", "corpora", "peft_rouge", "memory_footprint")),
        *(f"notebooks/{name}.ipynb" for name in ("e2e_summarization", "video_frames")),
        ".ci/check_book.py",
        "workflow/build_book.py",
        *(f"checkpoints/whisper-{size}/model.safetensors" for size in SIZES),
        *(f"checkpoints/{model}-mini/model.safetensors" for model in ("t5", "mbart")),
    ]:
        touch(tmp_path / path)
    return tmp_path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def snakemake(study: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "workflow" / "Snakefile"), "--cores", "2"]
    command += ["--rerun-triggers", "mtime", "input", *options]
    environment = {**os.environ, "ASUM_HOME": str(study), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=study, env=environment, capture_output=True, text=True, timeout=300)


def dry_run(study: Path) -> str:
    """What Snakemake would do in `study`, commands included."""
    done = snakemake(study, "--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def parameters(command: str) -> dict:
    """The notebook's parameters in a papermill command."""
    words, values = shlex.split(command.split(" 2>&1")[0]), {}
    for option, *rest in zip(words, words[1:], [*words[2:], ""], strict=False):
        if option == "-p":
            values[rest[0]] = rest[1]
        if option == "-y":
            values |= yaml.safe_load(rest[0])
    return values


def runs(output: str, notebook: str = "whisper_quant") -> list[dict]:
    return [parameters(line.strip()) for line in output.splitlines() if f"/papermill notebooks/{notebook}.ipynb" in line]


def finish(study: Path) -> None:
    """What a finished study leaves behind."""
    for command in re.findall(r"build/\w+-\S+\.ipynb", dry_run(study)):
        touch(study / command)
    touch(study / "_build" / "html" / "index.html")
    touch(study / "build" / "book.checked")


def test_the_memory_notebook_runs_for_its_smallest_model(study):
    [line] = {line.strip() for line in dry_run(study).splitlines() if "/papermill notebooks/memory_footprint.ipynb" in line}
    assert parameters(line) == {"model": "whisper-tiny"}


def test_runs_cover_every_planned_cell_and_no_other(study):
    cells = [cell for run in runs(dry_run(study)) for cell in make_row(run.pop("size"), run.pop("precisions"), run.pop("methods"), **run)]
    assert len(cells) == len(set(cells))
    assert set(cells) == {cell for table in GRIDS["mini"] for cell in planned(table)}


def test_the_grid_of_every_corpus_and_model_is_a_run(study):
    found = runs(dry_run(study), "peft_rouge")
    assert sorted((run["corpus"], run["model"], run["grid"]) for run in found) == sorted((*pair, "True") for pair in COMBINATIONS)


def test_the_learning_rates_of_every_size_are_a_run_with_its_seeds(study):
    found = {run["size"]: tuple(run["seeds"]) for run in runs(dry_run(study), "learning_rates")}
    assert found == learning_rates.SEEDS


def test_a_removed_record_of_a_text_cell_runs_its_grid_again(study):
    finish(study)
    make_text_cell("news-ru", "mbart", method="adalora", seed=1).path(study / "results").unlink()
    (run,) = runs(dry_run(study), "peft_rouge")
    assert (run["corpus"], run["model"]) == ("news-ru", "mbart")


def test_a_removed_record_of_what_trains_nothing_runs_its_notebooks_again(study):
    finish(study)
    make_text_cell("news-ru", "lead3").path(study / "results").unlink()
    (study / "results" / "mini" / "corpora" / "howto-text-test.json").unlink()
    output = dry_run(study)
    assert [(run["corpus"], run["model"]) for run in runs(output, "peft_rouge")] == [("news-ru", "mbart")]
    assert [run["corpus"] for run in runs(output, "corpora")] == ["howto-text"]


def test_nothing_to_do_when_nothing_changed(study):
    finish(study)
    assert runs(dry_run(study)) == []
    assert "Nothing to be done" in dry_run(study)


def test_a_removed_record_runs_its_notebook_again_and_no_other(study):
    finish(study)
    (study / "results/mini/whisper_wer/whisper-small-int8-adalora-r8-s1.json").unlink()
    (run,) = runs(dry_run(study))
    assert (run["size"], run["corpus"], run["methods"]) == ("small", "howto", ["adalora"])


def test_a_new_checkpoint_runs_the_notebooks_of_its_size_again(study):
    finish(study)
    checkpoint = touch(study / "checkpoints/whisper-tiny/model.safetensors")
    checkpoint.write_text("other weights")
    os.utime(checkpoint, (2_000_000_000, 2_000_000_000))
    assert {run["size"] for run in runs(dry_run(study))} == {"tiny"}


def test_a_changed_page_builds_the_book_and_runs_no_notebook(study):
    finish(study)
    touch(study / "book/index.md").write_text("A new page")
    output = dry_run(study)
    assert runs(output) == []
    assert "workflow/build_book.py" in output


def test_a_book_that_is_gone_is_built_again_and_no_notebook_run(study):
    finish(study)
    shutil.rmtree(study / "_build")
    output = dry_run(study)
    assert runs(output) == []
    assert "workflow/build_book.py" in output


def test_a_book_that_cannot_be_built_leaves_the_last_one(study):
    finish(study)
    (study / "_build" / "html" / "index.html").write_text("good")
    (study / "book").mkdir()
    (study / "book" / "index.md").write_text("A new page")
    (study / "workflow" / "build_book.py").write_text("raise SystemExit('book/index.md failed')")
    done = snakemake(study, "--quiet", "host", "reason", "rules", "--", "book")
    assert done.returncode == 1
    assert (study / "_build" / "html" / "index.html").read_text() == "good"
    assert "book/index.md failed" in done.stdout + done.stderr
    assert "workflow/build_book.py" in dry_run(study)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_study_and_make_test_are_what_the_readme_says():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for target in ("study", "test", "book", "clean"):
        assert f"make {target}" in readme
        done = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
