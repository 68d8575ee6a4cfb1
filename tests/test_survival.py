"""Faults that take whole runs to try: the study in an odd folder, killed, interrupted, started twice, with a notebook that raises, without network.

What is quick to try is in `test_faults`, whose table says where every fault is tried. The longest one is `runs/survive.py`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

from asum_lib.paths import REPOSITORY
from asum_lib.study import records

pytestmark = pytest.mark.slow

STUDY = ("asum_lib", "book", "checkpoints", "notebooks", "results", "workflow", ".ci", "Makefile", "_config.yml", "_toc.yml", "pyproject.toml")
WHISPER = ["-p", "size=tiny", "-p", "methods=none", "-p", "precisions=fp32,int8,int4"]
CELLS = [f"mini/whisper_wer/whisper-tiny-{precision}-none-s0.json" for precision in ("fp32", "int8", "int4")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """The study in a folder whose path has spaces and letters of two alphabets, with this environment as its `.venv`."""
    folder = tmp_path_factory.mktemp("дом с пробелом") / "asum ü's"
    folder.mkdir()
    for name in (*STUDY, "requirements.lock", "constraints.txt"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            shutil.copy2(source, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def at(folder: Path, **more) -> dict:
    """The environment in which `asum_lib` is that of `folder`."""
    environment = {name: value for name, value in os.environ.items() if name != "ASUM_HOME"}
    return environment | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"} | more


def run(folder: Path, *command, **environment) -> subprocess.CompletedProcess:
    """A command with the environment's Python, in `folder`."""
    python = str(folder / ".venv" / "bin" / "python")
    done = subprocess.run([python, *map(str, command)], cwd=folder, env=at(folder, **environment), capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def snakemake(folder: Path, *targets: str) -> subprocess.CompletedProcess:
    """The part of `make study` that makes `targets`, with its options."""
    options = ["--cores", "2", "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "input", "--keep-going", "--show-failed-logs"]
    command = [str(folder / ".venv" / "bin" / "python"), "-m", "snakemake", "--snakefile", "workflow/Snakefile", *options, "--", *targets]
    return subprocess.run(command, cwd=folder, env=at(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)


def essence(path: Path) -> tuple:
    """What a record says of its cell, and every transcript."""
    record = records.read(path)
    return record.status, record.fingerprint, record.metrics, records.read_samples(path)


# A path with spaces and other letters


def test_a_table_and_a_run_in_an_odd_folder(odd):
    table = run(odd, "-m", "asum_lib", "table", "rouge_gazeta", "--format", "json")
    assert table.returncode == 0 and len(json.loads(table.stdout)) > 50
    done = run(odd, "-m", "asum_lib", "run", "corpora", "-p", "corpus=news-ru", "-p", "limit=2", "-p", f"results_dir={odd / 'итог'}")
    assert (done.returncode, done.stdout) == (0, f"{odd}/build/corpora-news_ru-limit2-{done.stdout.rsplit('limit2-', 1)[1]}")
    assert records.read(odd / "итог" / "mini" / "corpora" / "news-ru-test-first2.json").metrics["documents"].value == 2


def test_papermill_in_an_odd_folder_measures_what_the_study_recorded(odd):
    parameters = ["-p", "size", "tiny", "-p", "results_dir", odd / "мера", "-y", 'methods: ["none"]', "-y", 'precisions: ["fp32"]']
    done = run(odd, "-m", "papermill", "notebooks/whisper_quant.ipynb", odd / "build" / "мера.ipynb", "--no-progress-bar", *parameters)
    assert done.returncode == 0, done.stderr
    found, recorded = (records.read(folder / CELLS[0]) for folder in (odd / "мера", odd / "results"))
    assert found.fingerprint == recorded.fingerprint
    assert recorded.metrics["wer_pct"].lo <= found.metrics["wer_pct"].value <= recorded.metrics["wer_pct"].hi


def test_the_graph_runs_in_an_odd_folder(odd):
    done = snakemake(odd, "build/corpora-news-ru.ipynb")
    assert done.returncode == 0, done.stdout
    assert (odd / "build" / "corpora-news-ru.ipynb").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["study", "book", "test", "lint", "bench", "clean", "help"])
def test_every_target_of_make_can_be_told_in_an_odd_folder(odd, target):
    done = subprocess.run(["make", "--dry-run", target], cwd=odd, env=at(odd), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# A notebook that raises


@pytest.fixture
def quick_notebooks(odd):
    """`corpora` does nothing but raise for one of the corpora; put back in the end."""
    path = odd / "notebooks" / "corpora.ipynb"
    whole = path.read_bytes()
    notebook = nbformat.read(path, 4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    notebook.cells = [
        parameters,
        nbformat.v4.new_code_cell("if corpus == 'news-ru':\n    raise RuntimeError('the tape is torn')\nprint('read', corpus)"),
    ]
    nbformat.write(notebook, path)
    yield ["build/corpora-news-ru.ipynb", "build/corpora-howto-text.ipynb"]
    path.write_bytes(whole)


def test_a_notebook_that_raises_is_named_with_its_error_and_the_others_run(odd, quick_notebooks):
    for target in quick_notebooks:
        (odd / target).unlink(missing_ok=True)
    done = snakemake(odd, *quick_notebooks)
    assert done.returncode == 1
    assert "[corpora news-ru] RuntimeError: the tape is torn" in done.stdout
    assert "[corpora howto-text] read howto-text" in done.stdout
    assert [(odd / target).is_file() for target in quick_notebooks] == [False, True]
    again = snakemake(odd, *quick_notebooks)
    assert again.returncode == 1 and "[corpora howto-text]" not in again.stdout


# Interrupted, and started twice


def wait_for(condition, seconds: float, process: subprocess.Popen) -> None:
    start = time.monotonic()
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() - start < seconds, "it took too long"
        time.sleep(0.1)


def hears_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so would all that the tests start there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(not all(map(shutil.which, ("make", "flock"))), reason="make or flock is not installed")
def test_a_second_study_is_refused_and_ctrl_c_ends_the_first_with_all_that_it_started(odd):
    command, log = ["make", "--old-file=.venv/.installed", "study"], odd / "build" / "study.log"
    (odd / "build").mkdir(exist_ok=True)
    with open(log, "wb") as file:
        first = subprocess.Popen(command, cwd=odd, env=at(odd), stdout=file, stderr=file, start_new_session=True, preexec_fn=hears_ctrl_c)
    wait_for(lambda: "Executing notebook with kernel" in log.read_text(encoding="utf-8"), 300, first)
    second = subprocess.run(command, cwd=odd, env=at(odd), capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert second.stderr.splitlines()[0] == "another make study is running in this folder"
    os.killpg(first.pid, signal.SIGINT)
    try:
        assert first.wait(120) == -signal.SIGINT  # which a shell shows as 130
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text(encoding="utf-8").partition("Terminating processes on user request")[0]
    assert subprocess.run(["flock", "--nonblock", "build/.lock", "true"], cwd=odd).returncode == 0
    for path in (odd / "results").rglob("*.json"):
        if path.parent.parent.name == "mini":
            records.read(path)
    assert not list((odd / "results").rglob(".*.tmp"))


# Killed


def test_a_killed_run_keeps_what_it_has_measured_and_the_next_one_ends_with_the_same_results(tmp_path):
    def measure(folder: Path) -> list[str]:
        return [sys.executable, "-m", "asum_lib", "measure", "whisper_quant", *WHISPER, "-p", f"results_dir={folder}"]

    undisturbed = subprocess.run(measure(tmp_path / "reference"), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = subprocess.Popen(measure(tmp_path / "killed"), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "killed" / CELLS[0]).exists(), 300, killed)
    killed.kill()
    killed.wait()
    kept = [cell for cell in CELLS if (tmp_path / "killed" / cell).exists()]
    before = {cell: (tmp_path / "killed" / cell).read_bytes() for cell in kept}
    again = subprocess.run(measure(tmp_path / "killed"), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert again.stderr.count("already measured") == len(kept) >= 1
    assert all((tmp_path / "killed" / cell).read_bytes() == content for cell, content in before.items())
    for cell in CELLS:
        assert essence(tmp_path / "killed" / cell) == essence(tmp_path / "reference" / cell)


# No network, and a locale without UTF-8


@pytest.mark.skipif(shutil.which("unshare") is None or subprocess.run(["unshare", "--net", "true"]).returncode != 0, reason="it takes root")
def test_a_run_needs_no_network_device_and_no_setting_that_says_so(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    command = ["unshare", "--net", sys.executable, "-m", "asum_lib", "measure", "whisper_quant", *WHISPER, "-p", f"results_dir={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / cell) for cell in CELLS]


def test_a_run_on_russian_text_in_a_locale_without_utf8_writes_the_same_record(tmp_path):
    def measured(name: str, **locale) -> Path:
        parameters = ["-p", "corpus=news-ru", "-p", "model=mbart", "-p", "methods=none", "-p", "limit=2", "-p", f"results_dir={tmp_path / name}"]
        done = run(REPOSITORY, "-m", "asum_lib", "run", "peft_rouge", *parameters, "-o", tmp_path / f"{name}.ipynb", **locale)
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / name}.ipynb\n")
        return next((tmp_path / name / "mini" / "rouge_gazeta").glob("mbart-mini-fp32-none-*-s0.json"))

    in_c = measured("c", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert essence(in_c) == essence(measured("utf8", LC_ALL="C.UTF-8"))
    assert "Traceback" not in (tmp_path / "c.ipynb").read_text(encoding="utf-8")
