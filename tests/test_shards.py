"""Data sets as `datasets` writes and reads them are corpora; what is packed to do harm is refused."""

import csv
import io
import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from asum_lib.corpora import load_corpus, manifest, parquet
from asum_lib.corpora.text_files import load_file
from asum_lib.errors import InputError

TEXT = "all you need is a glass jar"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def sound(seconds=0.5):
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, round(16_000 * seconds)), 16_000, format="FLAC")
    return file.getvalue()


@pytest.fixture
def audiofolder(tmp_path):
    """Two files and their metadata, one of each split."""
    folder = tmp_path / "folder"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "a.flac").write_bytes(sound())
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "transcription"), ("train/a.flac", "one"), ("test/a.flac", f"{TEXT},\nand")])
    return folder


def saved(folder, split=None, **columns):
    from datasets import Dataset

    data = Dataset.from_dict(columns, split=split)
    data.save_to_disk(folder)
    return folder


def texts(path, split="test"):
    return load_corpus(str(path), split).texts


def refusal(path, split="test"):
    with pytest.raises(InputError) as error:
        load_corpus(str(path), split)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_save_to_disk_wrote_is_a_corpus(tmp_path):
    folder = saved(tmp_path / "saved", audio=[{"bytes": sound(), "path": None}], sentence=[TEXT])
    assert texts(folder) == [TEXT]
    assert load_corpus(str(folder), "test").audio_s == 0.5


def test_splits_that_save_to_disk_wrote_are_kept_apart(tmp_path):
    from datasets import Dataset, DatasetDict

    audio = [{"bytes": sound(), "path": None}]
    one, other = (Dataset.from_dict({"audio": audio, "text": [text]}) for text in ("one", "other"))
    DatasetDict({"train": one, "validation": other}).save_to_disk(tmp_path / "saved")
    assert texts("saved", "train") == ["one"] and texts("saved", "dev") == ["other"]
    assert refusal("saved").endswith("no file is of split 'test': it has train, dev")


def test_audio_that_rows_name_is_read_beside_the_set(tmp_path):
    (tmp_path / "a.flac").write_bytes(sound())
    for path in ("a.flac", str(tmp_path / "a.flac")):
        assert texts(saved(tmp_path / "saved", audio=[{"bytes": None, "path": path}], text=[TEXT])) == [TEXT]


def test_audio_elsewhere_is_refused_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "a.flac").write_bytes(sound())
    (tmp_path / "here" / "sets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    audio = [{"bytes": None, "path": str(tmp_path / "a.flac")}, {"bytes": None, "path": "gone.flac"}] * 2
    folder = saved(tmp_path / "here" / "sets" / "saved", audio=audio, text=[TEXT] * 4)
    reason = refusal(folder)
    assert "which is neither beside the data set nor under this folder" in reason
    assert "'gone.flac', is not there" in reason and reason.count(parquet.EMBED) == 1


def test_the_lines_that_take_audio_in_are_right(tmp_path):
    from datasets import Audio, Dataset
    from datasets.table import embed_table_storage

    (tmp_path / "a.flac").write_bytes(sound())
    data = Dataset.from_dict({"audio": ["a.flac"], "text": [TEXT]}).cast_column("audio", Audio(decode=False))
    data.with_format("arrow").map(embed_table_storage, batched=True).save_to_disk("saved")
    (tmp_path / "a.flac").unlink()
    assert texts("saved") == [TEXT]


@pytest.mark.parametrize("named", ["folder", "folder/metadata.csv"])
def test_an_audiofolder_is_a_corpus(audiofolder, named):
    assert texts(named) == [f"{TEXT},\nand"] and texts(named, "train") == ["one"]


def test_an_audiofolder_of_json_lines_is_a_corpus(audiofolder):
    (audiofolder / "metadata.csv").unlink()
    (audiofolder / "test" / "metadata.jsonl").write_text(json.dumps({"file_name": "a.flac", "text": TEXT}))
    assert texts("folder") == [TEXT]


def test_changed_audio_of_an_audiofolder_is_read_anew(audiofolder):
    before = load_corpus("folder", "test")
    (audiofolder / "test" / "a.flac").write_bytes(sound(0.7))
    after = load_corpus("folder", "test")
    assert (before.audio_s, after.audio_s) == (0.5, 0.7) and before.fingerprint != after.fingerprint


@pytest.mark.parametrize("text", ["file_name\na.flac\n", "path,text\na.flac,x\n", "", '"file_name,text\nx', "\xff"])
def test_a_table_that_says_no_corpus_is_refused(tmp_path, text):
    (tmp_path / "metadata.csv").write_bytes(text.encode("latin-1"))
    assert "metadata.csv" in refusal("metadata.csv")


def test_single_parquet_files_are_corpora(tmp_path):
    table = pyarrow.table({"audio": [{"bytes": sound(), "path": None}], "text": [TEXT]})
    for name in ("test-00000-of-00002.parquet", "a.parquet"):
        pyarrow.parquet.write_table(table, tmp_path / name)
        assert texts(name) == [TEXT]


def test_a_parquet_packed_too_tightly_is_refused(tmp_path):
    table = pyarrow.table({"audio": [{"bytes": bytes(100_000_000), "path": None}], "text": ["x"]})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False)
    assert "times its size, as no recordings or texts do: make it anew" in refusal("bomb.parquet")


def test_one_recording_repeated_for_ever_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_SPARE_BYTES", 0)
    audio = pyarrow.array([{"bytes": sound(), "path": None}] * 2_000)
    table = pyarrow.table({"audio": audio, "text": ["x"] * 2_000})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert "as no recordings are: make it anew" in refusal("bomb.parquet")


@pytest.mark.parametrize("state", ["", "{}", '{"_data_files": [{"filename": "../a.arrow"}]}', "[" * 100_000])
def test_a_state_save_to_disk_did_not_write_is_refused(tmp_path, state):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text(state)
    assert refusal("saved").endswith("save the data set anew")


DEEP = "[" * 100_000 + "]" * 100_000
LINES = {
    '{"id": ' + DEEP + ', "audio": "a.flac", "text": "x"}': "line 1: is not JSON",
    '{"id": "a", "audio": "a.flac", "text": ' + "[" * 900 + "]" * 900 + "}": "line 1: text is ",
    '{"id": ' + "9" * 5_000 + ', "audio": "a.flac", "text": "x"}': "line 1: is not JSON",
    '{"id": ' + "9" * 4_000 + ', "audio": "a.flac", "text": "x"}': "line 1: id 9",
    '{"id": 1, "audio": "a.flac", "text": "x", "duration_s": ' + "9" * 400 + "}": "line 1: duration_s is 9",
    '{"id": 1, "audio": "a.flac", "text": "' + "x" * 3_000_000 + '"}': "line 1: has 3.0 MB in one line: at most 1 MB are read",
    '{"id": 1, "audio": "pipe.wav", "text": "x"}': "line 1: 'pipe.wav' is no regular file",
}


@pytest.mark.parametrize(("line", "reason"), LINES.items(), ids=range(len(LINES)))
def test_a_hostile_line_of_a_manifest_is_one_fault(tmp_path, line, reason):
    (tmp_path / "a.flac").write_bytes(sound())
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "manifest.jsonl").write_text(line)
    said = refusal("manifest.jsonl")
    assert reason in said and len(said) < 1_000


def test_a_pipe_or_huge_file_as_manifest_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert refusal("pipe.jsonl").startswith("manifest is no regular file: pipe.jsonl")
    with (tmp_path / "large.jsonl").open("wb") as file:
        file.truncate(manifest.LARGEST_BYTES + 1)
    assert refusal("large.jsonl").startswith("manifest has 0.5 GB: large.jsonl (at most 0.5 GB")


def test_what_is_odd_in_the_files_of_a_manifest_is_said(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000)
    for number in range(manifest.NOTES_SHOWN + 2):
        soundfile.write(tmp_path / f"{number}.wav", np.stack([samples, -samples], axis=1), 16_000)
    lines = [{"id": str(n), "audio": f"{n}.wav", "text": "x"} for n in range(manifest.NOTES_SHOWN + 2)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = []
    load_corpus("manifest.jsonl", "test", said.append)
    assert sum("opposite phase" in line for line in said) == manifest.NOTES_SHOWN
    assert said[-1].endswith("2 more files with notes like these")


def refused_texts(path):
    with pytest.raises(InputError) as error:
        load_file(path, "test", "set", "en")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_hostile_files_of_texts_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert refused_texts(tmp_path / "pipe.jsonl").endswith("is no regular file (a pipe, a socket or a device)")
    (tmp_path / "long.jsonl").write_bytes(b'{"text": "' + b"x" * 70_000_000)
    assert refused_texts(tmp_path / "long.jsonl").endswith("line 1: longer than 67 MB: give a document a line")
    table = pyarrow.table({"text": ["x" * 100_000_000], "summary": ["x"]})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False)
    assert refused_texts(tmp_path / "bomb.parquet").endswith("as no recordings or texts do: make it anew")
