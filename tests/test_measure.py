"""`asum measure`: the notebook's work without the notebook, by one process or by several, with the paths of the records on stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib import cli
from asum_lib.corpora import howto, materialize
from asum_lib.models import loading
from asum_lib.paths import REPOSITORY
from asum_lib.study import records, run

# `--multi_gpu` also where there is no GPU: with `--cpu` accelerate starts a single process, whatever the number asked for
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "0"]
NAME = "whisper-tiny-fp32-none-*-s0.json"  # with the digest of the corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A manifest of 70 generated utterances: two batches, so that two processes have something to share."""
    folder = tmp_path_factory.mktemp("corpora") / "seventy"
    takes = howto.takes("target", "test")[:70]
    assert run.EVALUATION_BATCH < len(takes) <= 2 * run.EVALUATION_BATCH
    materialize(folder, "seventy", "test", "", ((take.id, take.text, howto.speak(take)) for take in takes))
    return folder / "manifest.jsonl"


def command(folder: Path, corpus: Path) -> list[str]:
    """The arguments of `asum` that measure one cell of the corpus into `folder`."""
    given = ["size=tiny", "precisions=fp32", "methods=none", f"corpus={corpus}", f"results_dir={folder / 'results'}"]
    return ["measure", "whisper_quant", *(word for parameter in given for word in ("-p", parameter))]


@pytest.fixture
def alone(corpus, tmp_path, monkeypatch) -> Path:
    """The record of this process."""
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    assert cli.main(command(tmp_path, corpus)) == 0
    return next((tmp_path / "results" / "mini" / "whisper_seventy").glob(NAME))


@pytest.fixture(scope="module")
def pair(tmp_path_factory, corpus) -> tuple[subprocess.CompletedProcess, Path]:
    """(the finished launcher of two processes, the record that they should have written); caches are empty, there is no GPU."""
    folder = tmp_path_factory.mktemp("pair")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    environment |= {"ASUM_CACHE": str(folder / "cache")}
    ended = subprocess.run(
        [sys.executable, *LAUNCH, "-m", "asum_lib", *command(folder, corpus)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended, next((folder / "results" / "mini" / "whisper_seventy").glob(NAME))


def test_the_path_of_the_record_is_all_of_stdout(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    assert cli.main(command(tmp_path, corpus)) == 0
    out, err = capsys.readouterr()
    [path] = (tmp_path / "results" / "mini" / "whisper_seventy").glob(NAME)
    assert out == f"{path}\n"
    assert f"[1/1] {path.stem} on manifest.jsonl: measuring" in err


@pytest.mark.slow
def test_of_two_processes_one_speaks_and_one_record_is_written(pair):
    ended, path = pair
    assert ended.stdout == f"{path}\n"
    assert ended.stderr.count(": measuring") == 1
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.name.replace(".json", ".samples.jsonl.gz")]


@pytest.mark.slow
def test_two_processes_share_a_cell_and_their_record_is_that_of_one(alone, pair, corpus):
    one, two = records.read(alone), records.read(pair[1])
    assert (one.config["execution"]["processes"], two.config["execution"]["processes"]) == (1, 2)
    assert two.provenance["command"].startswith("accelerate launch --multi_gpu --num_processes 2 -m asum_lib measure whisper_quant -p ")
    assert two.fingerprint == one.fingerprint
    assert two.metrics["wer_pct"] == one.metrics["wer_pct"]
    samples = records.read_samples(pair[1])
    assert [sample["id"] for sample in samples] == [json.loads(line)["id"] for line in corpus.read_text().splitlines()]
    assert samples == records.read_samples(alone)
    assert len({sample["hypothesis"] for sample in samples}) > 60  # else their order would not show


def test_another_notebook_is_refused_in_one_line(capsys):
    assert cli.main(["measure", "ladder"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "asum: unknown notebook 'ladder': choose from memory_footprint, peft_rouge, whisper_quant\n")


def test_an_unknown_size_is_refused_in_one_line(capsys):
    assert cli.main(["measure", "whisper_quant", "-p", "size=huge"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "asum: unknown size 'huge': choose from tiny, base, small, medium, large\n")


def test_a_cell_that_fails_gives_exit_status_1_and_the_path_of_its_record(corpus, tmp_path, monkeypatch, capsys):
    def no_room(*given):
        raise MemoryError("no room for this")

    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "load", no_room)
    assert cli.main(command(tmp_path, corpus)) == 1
    [path] = (tmp_path / "results" / "mini" / "whisper_seventy").glob(NAME)
    assert capsys.readouterr().out == f"{path}\n"
    assert records.read(path).reason == "MemoryError: no room for this"
