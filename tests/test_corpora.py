"""Corpora by name and by path: which there are, where they come from, and what is said where one is not there."""

import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from asum_lib import corpora, hub
from asum_lib.corpora import dataset_revision, generated_fingerprint, load_corpus, read_audio, windows
from asum_lib.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("ASUM_HOW2", raising=False)


@pytest.fixture
def folder(tmp_path):
    """A manifest of one utterance, `set/manifest.jsonl`."""
    (tmp_path / "set").mkdir()
    soundfile.write(tmp_path / "set" / "a.wav", np.full(8_000, 0.1), 16_000)
    (tmp_path / "set" / "manifest.jsonl").write_text('{"id": "a", "audio": "a.wav", "text": "one"}\n')
    return tmp_path / "set"


def write_shard(path, audio, text="one"):
    path.parent.mkdir(parents=True)
    rows = {"id": ["a"], "audio": [{"bytes": audio.read_bytes(), "path": audio.name}], "text": [text]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)


def test_the_corpora_are_the_ones_that_the_module_names():
    assert corpora.GENERATED == ("howto", "howto-source", "digits")
    assert corpora.HUB == {"librispeech": "openslr/librispeech_asr", "slue-voxpopuli": "asapp/slue"}
    assert corpora.NAMES == ("howto", "howto-source", "digits", "librispeech", "slue-voxpopuli", "how2")


def test_a_manifest_is_a_corpus_by_its_path_and_by_its_folder(folder):
    corpus = load_corpus(str(folder), "test")
    assert (corpus.name, corpus.split, corpus.texts) == ("set", "test", ["one"])
    assert load_corpus(str(folder / "manifest.jsonl"), "test") == corpus


def test_a_manifest_of_the_working_folder_is_named_by_that_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_corpus("manifest.jsonl", "test").name == load_corpus(".", "test").name == "set"


def test_a_folder_with_parquet_files_is_a_corpus(folder, tmp_path):
    write_shard(tmp_path / "hub-set" / "data" / "test-00000-of-00001.parquet", folder / "a.wav")
    corpus = load_corpus(str(tmp_path / "hub-set"), "test")
    assert (corpus.name, corpus.texts) == ("hub-set", ["one"])
    assert corpus.fingerprint == load_corpus(str(folder), "test").fingerprint


def test_a_manifest_beside_parquet_files_is_what_counts(folder):
    write_shard(folder / "data" / "test-00000-of-00001.parquet", folder / "a.wav", text="other")
    assert load_corpus(str(folder), "test").texts == ["one"]


@pytest.mark.parametrize("given", ["manifest.jsonl", "."])
def test_how2_is_the_manifest_that_the_environment_names(folder, monkeypatch, given):
    monkeypatch.setenv("ASUM_HOW2", str(folder / given))
    corpus = load_corpus("how2", "test")
    assert (corpus.name, corpus.texts) == ("how2", ["one"])


def test_a_corpus_of_the_hub_is_read_from_its_snapshot(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "datasets--openslr--librispeech_asr" / "snapshots" / ("0123456789" * 4)
    write_shard(snapshot / "clean" / "test" / "0000.parquet", folder / "a.wav", text="GO DO YOU HEAR")
    monkeypatch.setattr(hub, "snapshot", {"openslr/librispeech_asr": snapshot}.__getitem__)
    corpus = load_corpus("librispeech", "test")
    assert (corpus.name, corpus.texts) == ("librispeech", ["GO DO YOU HEAR"])
    assert dataset_revision("librispeech") == "0123456789" * 4


def test_only_what_comes_from_a_snapshot_has_a_revision(folder, tmp_path):
    snapshot = tmp_path / "datasets--some--set" / "snapshots" / ("a1" * 20)
    snapshot.mkdir(parents=True)
    assert dataset_revision(str(snapshot)) == "a1" * 20
    names = ["howto", "howto-source", "digits", "how2", "librispeech", "slue-voxpopuli", str(folder), str(folder / "manifest.jsonl"), "nowhere"]
    assert [dataset_revision(name) for name in names] == [None] * 9  # the two of the Hub are not fetched here


def test_only_generated_corpora_have_a_fingerprint_without_being_made(folder):
    assert all(generated_fingerprint(name, "test") for name in corpora.GENERATED)
    assert [generated_fingerprint(name, "test") for name in ("librispeech", "slue-voxpopuli", "how2", str(folder))] == [None] * 4


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("howto", "validation", "unknown split 'validation': choose from train, dev, test"),
        (
            "how3",
            "test",
            "unknown corpus 'how3': choose from howto, howto-source, digits, librispeech, slue-voxpopuli, how2, "
            "or give the path of a manifest.jsonl, of Parquet files, of an AudioFolder or of what save_to_disk of datasets wrote",
        ),
        ("nowhere/manifest.jsonl", "test", "manifest not found: nowhere/manifest.jsonl"),
        ("how2", "test", "how2 is not on this machine: its authors give it out by a request form; then write a manifest.jsonl"),
        ("librispeech", "test", "is not fetched: run `asum fetch librispeech`"),
        ("slue-voxpopuli", "test", "is not fetched: run `asum fetch slue-voxpopuli`"),
    ],
)
def test_what_is_no_corpus_is_refused_in_one_line(name, split, message):
    with pytest.raises(InputError) as error:
        load_corpus(name, split)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_a_corpus_is_refused(tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"manifest not found: .*bare/manifest\.jsonl"):
        load_corpus(str(tmp_path / "bare"), "test")


def test_audio_is_read_by_the_functions_of_the_audio_module():
    from asum_lib.corpora import audio

    assert read_audio is audio.read_audio and windows is audio.windows


def test_importing_the_corpora_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow', 'soundfile', 'soxr'}"
    code = f"import sys, asum_lib.corpora, asum_lib.corpora.parquet; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
