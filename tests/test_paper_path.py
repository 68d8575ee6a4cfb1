"""Scale `paper` on real formats: the real tiny architecture and tokenizer, random weights, real speech, and no network.

What the Hub and its cache look like is imitated under a temporary `HF_HOME`; what is read from there goes all the way to records.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from asum_lib import hub
from asum_lib.corpora import read_audio, windows
from asum_lib.errors import InputError
from asum_lib.models import transcribe
from asum_lib.models.real import save_weights
from asum_lib.paths import NOTEBOOKS, REPOSITORY
from asum_lib.study import calibration, fit, records, run, whisper_quant

RATE_HZ = 16_000
MODEL_COMMIT, DATA_COMMIT = "a1" * 20, "b2" * 20
ONE_CELL = {"scale": "paper", "size": "tiny", "precisions": ["fp32"], "methods": ["none"]}


@dataclass(frozen=True)
class Line:
    """A line of a manifest to be written, with its audio: 16 kHz mono float32, shape (n,)."""

    id: str
    text: str
    samples: np.ndarray
    split: str = "test"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> Path:
    """An empty cache of the study, and of the Hub one to which the network adds nothing; its folder."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "asum"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test where anything in this process tried to connect anywhere, whether or not that was noticed."""
    tried = []

    def refuse(self, address):
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    yield
    assert tried == []


@pytest.fixture(scope="module")
def checkpoint(real_tiny, tmp_path_factory) -> Path:
    """Random weights that write differently on hearing differently: else no test here could tell one utterance from another."""
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("listens") / "whisper-tiny-random"
    shutil.copytree(real_tiny, folder)
    weights = load_file(folder / "model.safetensors")
    louder = {name: 10 * tensor for name, tensor in weights.items() if ".encoder_attn." in name and name.endswith(".weight")}
    save_weights(folder, weights | louder)
    return folder


@pytest.fixture(scope="module")
def librispeech(real_data) -> list[Line]:
    """29 real utterances of 1 to 15 s."""
    folder = real_data / "librispeech-84-121123"
    lines = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    return [Line(line["id"], line["text"], read_audio(folder / line["audio"])) for line in lines]


def manifest(folder: Path, *lines: Line) -> str:
    """Write a corpus as anyone would bring it; returns the path of its manifest."""
    import soundfile

    (folder / "audio").mkdir(parents=True)
    entries = []
    for line in lines:
        soundfile.write(folder / "audio" / f"{line.id}.flac", line.samples, RATE_HZ)
        entries.append({"id": line.id, "audio": f"audio/{line.id}.flac", "text": line.text, "split": line.split})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return str(folder / "manifest.jsonl")


def shard(path: Path, *lines: Line) -> bytes:
    """Write lines as the Hub keeps them, bytes of audio files in a column of Parquet; returns the file's bytes."""
    import io

    import pyarrow
    import pyarrow.parquet
    import soundfile

    rows = []
    for line in lines:
        soundfile.write(file := io.BytesIO(), line.samples, RATE_HZ, format="FLAC")
        rows.append({"id": line.id, "audio": {"bytes": file.getvalue(), "path": f"{line.id}.flac"}, "text": line.text})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path.read_bytes()


def fetched(cache: Path, repository: str, commit: str, files: dict[str, bytes]) -> Path:
    """The cache of the Hub after a fetch: blobs named by their hash, links to them in the snapshot, the commit of main. Returns the snapshot."""
    storage = cache / repository
    snapshot = storage / "snapshots" / commit
    for name, content in files.items():
        large = name.endswith((".safetensors", ".parquet"))
        digest = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        blob, link = storage / "blobs" / digest.hexdigest(), snapshot / name
        for file in (blob, link):
            file.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(commit)
    return snapshot


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_note(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a checkpoint that does not say of itself that its weights are random."""
    config = json.loads(files["config.json"])
    del config["asum_note"]
    return files | {"config.json": json.dumps(config).encode()}


@pytest.mark.slow
def test_a_local_checkpoint_folder_hears_real_speech_in_8_and_4_bits(checkpoint, librispeech, tmp_path):
    corpus = manifest(tmp_path / "few-real", librispeech[0], librispeech[7])
    precisions = {"precisions": ["int8", "int4"]}
    row = whisper_quant.run(**ONE_CELL | precisions, corpus=corpus, model=str(checkpoint), results_dir=str(tmp_path / "results"))
    assert [record.status for record in row.records] == ["ok", "ok"]
    name = f"whisper-tiny-random-tiny-int8-none-{row.records[0].cell['own']}-s0.json"
    assert row.paths[0] == tmp_path / "results" / "paper" / "format_check_few-real" / name
    assert row.records[0].config["checkpoint_note"] == "random weights, format check only"
    assert row.records[0].metrics["wer_pct"].signature.startswith("wer|norm:whisper-en")
    assert row.records[0].provenance["model_revision"] is None
    for path in row.paths:
        first, second = records.read_samples(path)
        assert (first["reference"], second["reference"]) == ("GO DO YOU HEAR", "WHAT DO YOU MEAN SIR")
        assert first["hypothesis"] != second["hypothesis"]


@pytest.mark.slow
def test_a_checkpoint_and_parquet_as_the_hub_keeps_them_are_heard_without_network(checkpoint, librispeech, caches, tmp_path, no_network):
    from safetensors.torch import load_file

    (folder := tmp_path / "sharded").mkdir()
    save_weights(folder, load_file(checkpoint / "model.safetensors"), shards=2)
    files = contents(checkpoint) | contents(folder)
    del files["model.safetensors"]
    fetched(caches, "models--imitation--whisper-tiny-random", MODEL_COMMIT, files)
    corpus = tmp_path / "two-shards"
    shard(corpus / "test-00000-of-00002.parquet", librispeech[0], librispeech[1])
    shard(corpus / "test-00001-of-00002.parquet", librispeech[7])
    row = whisper_quant.run(**ONE_CELL, corpus=str(corpus), model="imitation/whisper-tiny-random", results_dir=str(tmp_path / "results"))
    [record], [path] = row.records, row.paths
    assert (record.status, record.table) == ("ok", "format_check_two-shards")
    assert record.config["checkpoint"] == "imitation/whisper-tiny-random"
    assert record.provenance["model_revision"] == MODEL_COMMIT
    assert record.provenance["dataset_revision"] is None  # a folder has none
    samples = records.read_samples(path)
    assert [sample["id"] for sample in samples] == ["84-121123-0000", "84-121123-0001", "84-121123-0007"]
    assert [sample["reference"] for sample in samples] == [librispeech[0].text, librispeech[1].text, "WHAT DO YOU MEAN SIR"]
    assert len({sample["hypothesis"] for sample in samples}) == 3


@pytest.fixture
def pinned(caches, tmp_path, monkeypatch):
    """hub.yaml with other revisions, and without the known sizes and hashes of what they hold."""
    import yaml

    entries = yaml.safe_load(hub.PINS.read_text())
    model = {"whisper-tiny": entries["whisper-tiny"] | {"revision": MODEL_COMMIT, "pinned": {}}}
    data = {name: entries[name] | {"revision": DATA_COMMIT, "pinned": {}} for name in ("librispeech", "librispeech-train")}
    (tmp_path / "hub.yaml").write_text(yaml.safe_dump(model | data))
    monkeypatch.setattr(hub, "PINS", tmp_path / "hub.yaml")


@pytest.fixture
def test_clean(caches, librispeech, tmp_path) -> Path:
    """Two utterances where the test shard of LibriSpeech lies after `asum fetch librispeech`."""
    content = shard(tmp_path / "0000.parquet", librispeech[0], librispeech[7])
    return fetched(caches, "datasets--openslr--librispeech_asr", DATA_COMMIT, {"clean/test/0000.parquet": content})


@pytest.mark.slow
def test_a_size_and_a_corpus_by_name_give_the_record_that_calibration_reads(
    checkpoint, caches, pinned, test_clean, tmp_path, monkeypatch, no_network
):
    fetched(caches, "models--openai--whisper-tiny", MODEL_COMMIT, without_note(contents(checkpoint)))
    results = tmp_path / "results"
    row = whisper_quant.run(**ONE_CELL, corpus="librispeech", results_dir=str(results))
    [record], [path] = row.records, row.paths
    assert path == results / "paper" / "whisper_librispeech" / "whisper-tiny-fp32-none-s0.json"
    assert (record.status, record.config["checkpoint"]) == ("ok", "openai/whisper-tiny")
    assert "checkpoint_note" not in record.config
    assert (record.provenance["model_revision"], record.provenance["dataset_revision"]) == (MODEL_COMMIT, DATA_COMMIT)
    found = calibration.calibration("tiny", results)
    assert (found.state, found.reason) == ("not measured", "measured on 2 utterances of 2620")
    monkeypatch.setattr(calibration, "UTTERANCES", 2)
    found = calibration.calibration("tiny", results)  # nothing but their number was in the way
    assert found.state != "not measured" and found.measured == record.metrics["wer_pct"].value


def test_random_weights_under_a_published_name_do_not_reach_the_studys_tables(checkpoint, caches, pinned, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run_cells", lambda cells, **options: asked.extend(cells) or [(Path(), None)])
    fetched(caches, "models--openai--whisper-tiny", MODEL_COMMIT, contents(checkpoint))
    whisper_quant.run(**ONE_CELL, corpus="librispeech")
    assert [(cell.table, cell.name) for cell in asked] == [("format_check_librispeech", "whisper-tiny-fp32-none-s0")]


def refusal(tmp_path: Path, **parameters) -> str:
    """The one line with which a run is refused; it has written nothing."""
    with pytest.raises(InputError) as error:
        whisper_quant.run(**ONE_CELL | parameters, results_dir=str(tmp_path / "results"))
    assert not (tmp_path / "results").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_fetched_is_named_with_the_command_that_fetches_it(checkpoint, caches, pinned, tmp_path, no_network):
    assert refusal(tmp_path, corpus="librispeech") == "openai/whisper-tiny at revision a1a1a1a1 is not fetched: run `asum fetch whisper-tiny`"
    fetched(caches, "models--openai--whisper-tiny", MODEL_COMMIT, contents(checkpoint))
    assert refusal(tmp_path, corpus="librispeech") == "openslr/librispeech_asr at revision b2b2b2b2 is not fetched: run `asum fetch librispeech`"


def test_training_needs_a_part_of_librispeech_that_the_test_split_does_not(checkpoint, test_clean, pinned, tmp_path):
    said = refusal(tmp_path, corpus="librispeech", model=str(checkpoint), precisions=["int8"], methods=["adalora"])
    assert said.startswith("openslr/librispeech_asr is not fetched as a whole (clean/validation/0000.parquet, ")
    assert "asum fetch librispeech-train" in said


TRAINED = ONE_CELL | {"precisions": ["int8"], "methods": ["adalora"], "rates": ["1"], "epochs": 3}


@pytest.fixture
def taught(librispeech, tmp_path) -> str:
    """A manifest with a training utterance of 2 s, one that is longer than a window, and one each to choose by and to test."""
    chosen = zip(librispeech[12:15], ("train", "dev", "test"), strict=True)
    short = [Line(line.id, line.text, line.samples[: 2 * RATE_HZ], split) for line, split in chosen]
    long = librispeech[5]
    return manifest(tmp_path / "taught", *short, Line("long", long.text, np.tile(long.samples, 3), "train"))


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_record_of_an_undisturbed_one(checkpoint, taught, tmp_path, monkeypatch, capsys):
    def train(results: str):
        row = whisper_quant.run(**TRAINED, corpus=taught, model=str(checkpoint), results_dir=str(tmp_path / results))
        return row.records[0], records.read_samples(row.paths[0])

    undisturbed, samples = train("undisturbed")
    assert (undisturbed.status, undisturbed.config["autocast"]) == ("ok", None)
    assert "1 of 2 training utterances are longer than the model's window and left out" in capsys.readouterr().err
    execution = {"micro_batch_size": None, "gradient_checkpointing": False, "autocast": None, "train_utterances": 1, "train_left_out": 1}
    [start] = undisturbed.config["execution"]["starts"]
    assert undisturbed.config["execution"] == {"processes": 1, "windows": 1, "starts": [start]} | execution
    assert undisturbed.config["training_text"] == "lower case"  # LibriSpeech's is in capitals
    assert [row["step"] for row in undisturbed.history] == [0, 1, 2, 3]
    assert [row["kept_rank_mean"] for row in undisturbed.history] == [12, 12, 8, 8]
    assert undisturbed.params["kept_rank_mean"] == 8
    assert undisturbed.history[3]["train_loss"] < undisturbed.history[1]["train_loss"]
    assert [(sample["split"], sample.get("epoch")) for sample in samples] == [("dev", 0), ("dev", 1), ("dev", 2), ("dev", 3), ("test", None)]

    with monkeypatch.context() as patch:
        heard = []

        def killed(*arguments, **options):
            heard.append(1)
            if len(heard) == 2:  # after the first epoch
                raise KeyboardInterrupt
            return through(*arguments, **options)

        through = transcribe.transcribe
        patch.setattr(transcribe, "transcribe", killed)
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    assert not list((tmp_path / "killed").rglob("*.json*"))
    [state] = (tmp_path / "asum" / "training").glob("*/training.pt")
    assert state.parent.name == undisturbed.fingerprint[:32]

    record, again = train("killed")
    assert "going on in epoch 1, after step 1" in capsys.readouterr().err
    assert record.history == undisturbed.history
    assert len(record.config["execution"]["starts"]) == 2
    assert again == samples
    assert record.metrics == undisturbed.metrics
    assert record.fingerprint == undisturbed.fingerprint
    assert not state.exists()


@pytest.mark.slow
def test_an_utterance_of_65_s_is_heard_whole_and_is_one_hypothesis(checkpoint, librispeech, tmp_path):
    speech = np.concatenate([line.samples for line in librispeech[:14]])[: 65 * RATE_HZ]
    assert len(speech) == 65 * RATE_HZ
    path = manifest(tmp_path / "long", Line("long", "GO DO YOU HEAR", speech))
    pieces = list(windows(Path(path).parent / "audio" / "long.flac", 30.0))
    assert len(pieces) >= 3 and np.array_equal(np.concatenate(pieces), speech)
    parts = [Line(f"part-{number}", "GO", piece) for number, piece in enumerate(pieces)]
    path = manifest(tmp_path / "both", Line("long", "GO DO YOU HEAR", speech), *parts)
    row = whisper_quant.run(**ONE_CELL, corpus=path, model=str(checkpoint), results_dir=str(tmp_path / "results"))
    assert row.records[0].config["execution"]["windows"] == 2 * len(pieces)
    long, *short = records.read_samples(row.paths[0])
    assert (long["id"], long["duration_s"]) == ("long", 65.0)
    assert long["hypothesis"] == " ".join(sample["hypothesis"] for sample in short)
    assert len({sample["hypothesis"] for sample in short}) == len(pieces)  # else their order would not show


def test_a_run_of_which_nothing_fits_the_memory_is_refused_before_anything_is_measured(checkpoint, taught, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "free_bytes", lambda on_gpu=False: 2_000_000_000)
    said = refusal(tmp_path, corpus=taught, model=str(checkpoint), precisions=["fp32", "int8"], methods=["adalora", "full"])
    names = r"whisper-tiny-random-tiny-int8-adalora-r8-\w{10}-s0, whisper-tiny-random-tiny-fp32-full-\w{10}-s0"
    assert re.match(rf"none of 2 cells to measure fits \({names}\): this Whisper in int8, method adalora, ", said)
    assert "and 2.0 GB is free on this machine: what would fit is " in said and "method none (" in said
    assert not (tmp_path / "asum" / "features").exists()


def test_a_cell_that_does_not_fit_the_memory_is_said_first_and_the_others_are_measured(checkpoint, taught, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fit, "free_bytes", lambda on_gpu=False: 2_000_000_000)
    asked = ONE_CELL | {"methods": ["none", "full"], "corpus": taught, "model": str(checkpoint)}
    row = whisper_quant.run(**asked, results_dir=str(tmp_path / "results"))
    assert [record.status for record in row.records] == ["ok", "failed"]
    assert row.records[1].reason.startswith("MemoryError: this Whisper in fp32, method full, ")
    first = capsys.readouterr().err.splitlines()[0]
    assert re.match(r"whisper-tiny-random-tiny-fp32-full-\w{10}-s0 will not be measured: ", first) and "what would fit is" in first


def test_a_published_size_that_does_not_fit_is_named_as_such(checkpoint, caches, pinned, test_clean, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "free_bytes", lambda on_gpu=False: 500_000_000)
    fetched(caches, "models--openai--whisper-tiny", MODEL_COMMIT, contents(checkpoint))
    said = refusal(tmp_path, corpus="librispeech")
    assert said.startswith("none of 1 cells to measure fits (whisper-tiny-fp32-none-s0): Whisper tiny in fp32, method none, 32 utterances")


@pytest.mark.parametrize(("name", "kept_bytes", "reason"), [("config.json", 100, "config.json: not JSON"), ("model.safetensors", -1, "cut off")])
def test_a_damaged_checkpoint_is_refused_before_anything_is_measured(checkpoint, librispeech, tmp_path, name, kept_bytes, reason):
    shutil.copytree(checkpoint, folder := tmp_path / "damaged")
    (folder / name).write_bytes((checkpoint / name).read_bytes()[:kept_bytes])
    said = refusal(tmp_path, corpus=manifest(tmp_path / "one", librispeech[0]), model=str(folder))
    assert said.startswith(f"checkpoint {folder}: ") and reason in said
    assert not (tmp_path / "asum" / "features").exists()


def papermill(tmp_path: Path, *parameters: str) -> subprocess.CompletedProcess:
    """The notebook as a person runs it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "whisper_quant.ipynb"), str(tmp_path / "out.ipynb"), "--no-progress-bar"]
    return subprocess.run([*command, *parameters], capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_papermill_runs_the_notebook_on_a_checkpoint_folder_and_a_manifest(checkpoint, librispeech, tmp_path):
    corpus = manifest(tmp_path / "one", librispeech[0])
    given = {"scale": "paper", "size": "tiny", "model": checkpoint, "corpus": corpus, "results_dir": tmp_path / "results"}
    lists = ["-y", 'precisions: ["fp32"]', "-y", 'methods: ["none"]']
    ended = papermill(tmp_path, *(str(word) for name, value in given.items() for word in ("-p", name, value)), *lists)
    assert ended.returncode == 0, ended.stderr[-3000:]
    [path] = (tmp_path / "results" / "paper" / "format_check_one").glob("whisper-tiny-random-tiny-fp32-none-*-s0.json")
    record = records.read(path)
    assert (record.status, record.provenance["notebook"]) == ("ok", "notebooks/whisper_quant.ipynb")


@pytest.mark.slow
def test_papermill_ends_with_the_one_line_where_a_size_is_unknown(tmp_path):
    ended = papermill(tmp_path, "-p", "scale", "paper", "-p", "size", "huge", "-p", "results_dir", str(tmp_path / "results"))
    assert ended.returncode != 0
    assert ended.stderr.strip().splitlines()[-1].startswith("InputError: unknown size 'huge': choose from tiny, base, small, medium, large, large-v2")
    assert not (tmp_path / "results").exists()
