"""Data sets in the Hub's own layout: Parquet shards with audio bytes, in a snapshot folder or any other."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from asum_lib import hub
from asum_lib.corpora import dataset_revision, load_corpus, parquet, read_audio
from asum_lib.corpora.manifest import read_manifest
from asum_lib.corpora.parquet import load_folder, load_hub
from asum_lib.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tone(hz=200, form="FLAC"):
    """The bytes of an audio file of 0.1 s."""
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * hz * np.arange(1_600) / 16_000), 16_000, format=form)
    return file.getvalue()


def row(identity, text="one", content=None, **more):
    return {"id": identity, "audio": {"bytes": tone() if content is None else content, "path": f"{identity}.flac"}, "text": text} | more


AUDIO = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


FEATURES = {"id": {"dtype": "string", "_type": "Value"}, "audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}


def write(path, *rows):
    """A shard as the Hub has it: the struct of bytes and path, the types of `datasets` in the metadata, several row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pyarrow.array([entry[name] for entry in rows], type=AUDIO if name == "audio" else None) for name in rows[0]}
    table = pyarrow.table(columns)
    if set(columns) == set(FEATURES):
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def refusal(load, *arguments):
    with pytest.raises(InputError) as error:
        load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_become_utterances_with_their_bytes_as_they_are(tmp_path):
    a, b = tone(200), tone(300, "WAV")
    write(tmp_path / "set" / "test.parquet", row("84-0:1", "GO DO", a), row("84-0:2", "YOU HEAR", b))
    corpus = load_folder(tmp_path / "set", "test")
    assert (corpus.name, corpus.split) == ("set", "test")
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [("84-0:1", "GO DO", 0.1), ("84-0:2", "YOU HEAR", 0.1)]
    assert [u.audio.name for u in corpus.utterances] == ["000000-84-0-1.flac", "000001-84-0-2.wav"]
    assert [u.audio.read_bytes() for u in corpus.utterances] == [a, b]


def test_shards_are_read_in_order_and_unpacked_once(tmp_path, cache, monkeypatch):
    write(tmp_path / "set" / "test-00001-of-00002.parquet", row("c", "three"))
    write(tmp_path / "set" / "test-00000-of-00002.parquet", row("a", "one"), row("b", "two"))
    corpus = load_folder(tmp_path / "set", "test")
    assert corpus.texts == ["one", "two", "three"]
    monkeypatch.setattr(parquet, "_unpack", lambda *arguments: pytest.fail("unpacked again"))
    assert load_folder(tmp_path / "set", "test") == corpus
    assert [path.name for path in (cache / "corpora").iterdir()] == [corpus.utterances[0].audio.parent.parent.name]


def test_changed_shards_are_unpacked_anew(tmp_path):
    path = write(tmp_path / "set" / "test.parquet", row("a", "one"))
    before = load_folder(tmp_path / "set", "test")
    write(path, row("a", "two"))
    os.utime(path, ns=(0, 0))
    after = load_folder(tmp_path / "set", "test")
    assert after.texts == ["two"] and after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "damage", [lambda folder: next(folder.glob("audio/*")).write_bytes(tone(400)), lambda folder: (folder / "manifest.jsonl").unlink()]
)
def test_rows_that_were_altered_since_are_unpacked_anew(tmp_path, damage):
    write(tmp_path / "set" / "test.parquet", row("a", "one"))
    whole = load_folder(tmp_path / "set", "test")
    damage(whole.utterances[0].audio.parents[1])
    assert load_folder(tmp_path / "set", "test") == whole
    assert whole.utterances[0].audio.read_bytes() == tone()


def test_parquet_and_files_of_the_same_utterances_have_one_fingerprint(tmp_path):
    write(tmp_path / "set" / "test.parquet", row("a", "one", tone(200)), row("b", "", tone(300)))
    (tmp_path / "files").mkdir()
    for name, hz in (("a", 200), ("b", 300)):
        (tmp_path / "files" / f"{name}.flac").write_bytes(tone(hz))
    lines = [{"id": "a", "audio": "a.flac", "text": "one"}, {"id": "b", "audio": "b.flac", "text": ""}]
    (tmp_path / "files" / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert load_folder(tmp_path / "set", "test").fingerprint == read_manifest(tmp_path / "files" / "manifest.jsonl", "test").fingerprint


@pytest.mark.parametrize(
    ("names", "train", "dev", "test"),
    [
        (["train.parquet", "validation.parquet", "test.parquet"], "train.parquet", "validation.parquet", "test.parquet"),
        (["data/train-0.parquet", "data/dev-0.parquet"], "data/train-0.parquet", "data/dev-0.parquet", None),
        (
            ["train.100/0000.parquet", "validation/0000.parquet", "test/0000.parquet"],
            *[f"{s}/0000.parquet" for s in ("train.100", "validation", "test")],
        ),
        (["0000.parquet"], None, None, "0000.parquet"),
        (["my_latest_talks.parquet"], None, None, "my_latest_talks.parquet"),
    ],
)
def test_splits_are_told_by_names(tmp_path, names, train, dev, test):
    for name in names:
        write(tmp_path / "set" / name, row("a", name))
    for split, name in (("train", train), ("dev", dev), ("test", test)):
        if name:
            assert load_folder(tmp_path / "set", split).texts == [name]
        else:
            assert f"no file is of split '{split}': it has " in refusal(load_folder, tmp_path / "set", split)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"text": "a", "normalized_text": "b", "raw_text": "c"}, "a"),
        ({"raw_text": "It costs 5.", "normalized_text": "it costs five"}, "it costs five"),
        ({"raw_text": "It costs 5.", "normalized_text": ""}, "It costs 5."),
        ({"text": None, "normalized_text": "b"}, "b"),
        ({"transcription": "d"}, "d"),
        ({"sentence": "e", "label": "f"}, "e"),
    ],
)
def test_the_text_is_found_by_the_column_name(tmp_path, texts, expected):
    rows = [{"audio": row("a")["audio"]} | texts, {"audio": row("b")["audio"]} | dict.fromkeys(texts, "x")]  # no id: a running number
    write(tmp_path / "set" / "test.parquet", *rows)
    assert [(u.id, u.text) for u in load_folder(tmp_path / "set", "test").utterances] == [("000000", expected), ("000001", "x")]


def test_rows_without_a_text_are_kept_in_test_and_left_out_in_train(tmp_path):
    for split in ("test", "train"):
        write(tmp_path / "set" / f"{split}.parquet", row("a"), row("b", ""), row("c", None))
    said = []
    assert load_folder(tmp_path / "set", "test", said.append).texts == ["one", "", ""]
    assert load_folder(tmp_path / "set", "train", said.append).texts == ["one"]
    assert said == [
        "set test: 2 of 3 utterances have an empty text: each word heard there is an insertion",
        "set train: 2 rows without a text are left out",
    ]


def test_a_split_whose_texts_are_held_back_is_refused(tmp_path):
    write(tmp_path / "set" / "test.parquet", row("a", ""), row("b", None))
    assert refusal(load_folder, tmp_path / "set", "test") == (
        f"{tmp_path / 'set'}: no row of set test has a text: transcripts are needed to score against"
    )


def test_faulty_rows_are_listed_at_once_and_nothing_is_left_behind(tmp_path, cache):
    write(tmp_path / "set" / "test-00000-of-00002.parquet", row("a"), row("b", content=b"not audio"), row("c") | {"audio": None})
    write(tmp_path / "set" / "test-00001-of-00002.parquet", row("d", content=b""), row("a", "again"), row(None))
    assert refusal(load_folder, tmp_path / "set", "test").split(": ", 1)[1] == "; ".join(
        [
            "5 faults: test-00000-of-00002.parquet row 2: its audio is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed",
            "test-00000-of-00002.parquet row 3: has no audio bytes",
            f"test-00001-of-00002.parquet row 1: has no audio bytes, and the file that it names, 'd.flac', is not there: {parquet.EMBED}",
            "test-00001-of-00002.parquet row 2: id 'a' is that of test-00000-of-00002.parquet row 1 too",
            "test-00001-of-00002.parquet row 3: has no id",
        ]
    )
    assert list((cache / "corpora").iterdir()) == []


def test_what_a_killed_run_left_is_removed_a_day_later(tmp_path, cache):
    path = write(tmp_path / "set" / "test.parquet", row("a"))
    unpacked = load_folder(tmp_path / "set", "test").utterances[0].audio.parents[1]
    shutil.rmtree(unpacked)
    old, new = (cache / "corpora" / f".{unpacked.name}-{name}" for name in ("old", "new"))
    for left in (old, new):
        (left / "audio").mkdir(parents=True)
    os.utime(old, (0, 0))
    assert load_folder(tmp_path / "set", "test").texts == ["one"]
    assert (old.exists(), new.exists(), path.exists()) == (False, True, True)


def test_faulty_and_missing_shards_are_listed_before_a_row_is_unpacked(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    cut = write(folder / "test-00000-of-00005.parquet", row("a"))
    os.truncate(cut, cut.stat().st_size // 2)
    write(folder / "test-00001-of-00005.parquet", {"file": "a.flac", "text": "one"})
    write(folder / "test-00002-of-00005.parquet", {"audio": row("a")["audio"], "label": 3})
    (folder / "test-00003-of-00005.parquet").touch()
    monkeypatch.setattr(parquet, "_unpack", lambda *arguments: pytest.fail("unpacked"))
    assert refusal(load_folder, folder, "test") == f"{folder}: " + "; ".join(
        [
            "5 faults: test-00004-of-00005.parquet is missing: fetch or copy it too",
            "test-00000-of-00005.parquet is no whole Parquet file: fetch or copy it anew",
            "test-00001-of-00005.parquet has no audio column (a struct with bytes): it has file, text",
            f"test-00002-of-00005.parquet has no text column ({', '.join(parquet.TEXTS)}): it has audio, label",
            "test-00003-of-00005.parquet is no whole Parquet file: fetch or copy it anew",
        ]
    )


def test_a_gap_in_numbered_shards_is_missed(tmp_path):
    for number in (0, 2):
        write(tmp_path / "set" / "test" / f"{number:04d}.parquet", row("a"))
    assert refusal(load_folder, tmp_path / "set", "test") == f"{tmp_path / 'set'}: 1 fault: test/0001.parquet is missing: fetch or copy it too"


def test_a_shard_with_a_hole_is_refused(tmp_path, cache):
    path = write(tmp_path / "set" / "test.parquet", *(row(f"u{i}", content=np.random.default_rng(i).bytes(4_000)) for i in range(4)))
    data = bytearray(path.read_bytes())
    data[4:2_000] = bytes(1_996)
    path.write_bytes(data)
    assert "test.parquet is broken after row 0: fetch or copy it anew" in refusal(load_folder, tmp_path / "set", "test")
    assert list((cache / "corpora").iterdir()) == []


def test_too_little_room_is_said_before_the_start(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "set" / "test.parquet", row("a"))
    os.truncate(path, 0)
    write(path, row("a", content=bytes(3_000_000)))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 100_000))
    message = refusal(load_folder, tmp_path / "set", "test")
    assert message.startswith("set test needs 0.0 GB to be unpacked") and message.endswith("or set ASUM_CACHE to a folder that has it")


def snapshot(root, repository="openslr/librispeech_asr", revision="7" * 40):
    """A snapshot folder as the Hub's cache has it; its files are links to blobs."""
    folder = root / "hub" / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision
    folder.mkdir(parents=True)
    return folder


def link(folder, name, *rows):
    """A shard as the cache has it: a link to a blob that is named by its hash."""
    blob = write(folder.parents[1] / "blobs" / hashlib.sha256(name.encode()).hexdigest(), *rows)
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(os.path.relpath(blob, (folder / name).parent))


def test_librispeech_is_read_from_the_snapshot(tmp_path):
    folder = snapshot(tmp_path)
    for name, text in (("train.100", "learn"), ("train.360", "more"), ("validation", "choose"), ("test", "ask")):
        link(folder, f"clean/{name}/0000.parquet", row("a", text, file="a.flac", speaker_id=84, chapter_id=1))
    for split, text in (("train", "learn"), ("dev", "choose"), ("test", "ask")):
        corpus = load_hub("librispeech", folder, split)
        assert (corpus.name, corpus.split, corpus.texts) == ("librispeech", split, [text])


def test_librispeech_is_read_from_the_configuration_all_too(tmp_path):
    folder = snapshot(tmp_path)
    for name, text in (("train.clean.100", "learn"), ("validation.clean", "choose"), ("test.clean", "ask"), ("test.other", "not this")):
        write(folder / "all" / name / "0000.parquet", row("a", text))
    assert [load_hub("librispeech", folder, split).texts for split in ("train", "dev", "test")] == [["learn"], ["choose"], ["ask"]]


def test_slue_voxpopuli_is_read_by_its_normalized_text(tmp_path):
    folder = snapshot(tmp_path, "asapp/slue")
    for name in ("train", "validation", "test"):
        entry = {"index": 0, "id": "x:1", "audio": row("a")["audio"], "speaker_id": "1", "normalized_text": f"five {name}", "raw_text": f"5 {name}."}
        write(folder / "voxpopuli" / f"{name}-00000-of-00001.parquet", entry)
        write(folder / "voxceleb" / f"{name}-00000-of-00001.parquet", entry)
    for split, text in (("train", "five train"), ("dev", "five validation"), ("test", "five test")):
        assert load_hub("slue-voxpopuli", folder, split).texts == [text]


@pytest.mark.parametrize(("split", "part"), [("train", "librispeech-train"), ("dev", "librispeech-train"), ("test", "librispeech")])
def test_a_split_that_is_not_in_the_snapshot_is_said_with_what_fetches_it(tmp_path, split, part):
    said = refusal(load_hub, "librispeech", snapshot(tmp_path), split)
    assert said.startswith(f"librispeech {split} is not fetched: ") and said.endswith(f"; run `asum fetch {part}`")


@pytest.fixture
def librispeech(tmp_path, monkeypatch):
    """The snapshot folder of librispeech in an empty Hugging Face cache, at the pinned revision but of any size."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pins = tuple(replace(pin, pinned=()) for pin in hub.repositories())
    monkeypatch.setattr(hub, "repositories", lambda: pins)
    return tmp_path / "hf" / "hub" / "datasets--openslr--librispeech_asr" / "snapshots" / hub.find("librispeech").revision


def test_librispeech_test_needs_no_other_split(librispeech):
    write(librispeech / "clean" / "test" / "0000.parquet", row("a", "ask"))
    assert load_corpus("librispeech", "test").texts == ["ask"]
    assert dataset_revision("librispeech") == "71cacbfb7e2354c4226d01e70d77d5fca3d04ba1"
    for split in ("train", "dev"):
        assert refusal(load_corpus, "librispeech", split) == (
            "openslr/librispeech_asr is not fetched as a whole (clean/validation/0000.parquet, clean/train.100/0000.parquet, "
            "clean/train.100/0001.parquet and 12 more missing): run `asum fetch librispeech-train`"
        )


def test_librispeech_train_and_dev_need_no_test(librispeech):
    for shard in range(14):
        write(librispeech / "clean" / "train.100" / f"{shard:04d}.parquet", row(f"a{shard}", f"learn {shard}"))
    write(librispeech / "clean" / "validation" / "0000.parquet", row("a", "choose"))
    assert load_corpus("librispeech", "train").texts == [f"learn {shard}" for shard in range(14)]
    assert load_corpus("librispeech", "dev").texts == ["choose"]
    assert dataset_revision("librispeech") == "71cacbfb7e2354c4226d01e70d77d5fca3d04ba1"
    assert refusal(load_corpus, "librispeech", "test").endswith("(clean/test/0000.parquet missing): run `asum fetch librispeech`")


def test_unpacking_needs_little_memory(tmp_path):
    """300 MB of audio in row groups of 15 MB, as the Hub has them."""
    path = tmp_path / "set" / "test.parquet"
    path.parent.mkdir()
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).integers(-(2**15), 2**15, 750_000, dtype=np.int16), 16_000, format="WAV")
    schema = pyarrow.schema({"id": pyarrow.int64(), "audio": AUDIO, "text": pyarrow.string()})
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        for start in range(0, 200, 10):
            rows = [row(number, content=file.getvalue()) for number in range(start, start + 10)]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    assert path.stat().st_size > 290e6
    code = (
        "import sys; from pathlib import Path; from asum_lib.corpora.parquet import load_folder\n"
        "print(len(load_folder(Path(sys.argv[1]), 'test').utterances))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path.parent)], capture_output=True, text=True, check=True)
    rows, peak_kib = map(int, done.stdout.split())
    assert rows == 200 and peak_kib < 200 * 1_024
    shutil.rmtree(tmp_path / "cache")
    path.unlink()


def test_real_speech_in_two_shards_is_the_speech_of_the_files(tmp_path, real_data):
    source = real_data / "librispeech-84-121123"
    entries = [json.loads(line) for line in (source / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row(entry["id"], entry["text"], (source / entry["audio"]).read_bytes(), speaker_id=84, chapter_id=121_123) for entry in entries]
    write(tmp_path / "set" / "data" / "test-00000-of-00002.parquet", *rows[:15])
    write(tmp_path / "set" / "data" / "test-00001-of-00002.parquet", *rows[15:])
    corpus, files = load_folder(tmp_path / "set", "test"), read_manifest(source / "manifest.jsonl", "test")
    assert corpus.fingerprint == files.fingerprint and len(corpus.utterances) == 29
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [(u.id, u.text, u.duration_s) for u in files.utterances]
    np.testing.assert_array_equal(read_audio(corpus.utterances[28].audio), read_audio(files.utterances[28].audio))


@pytest.mark.slow
def test_our_imitation_is_what_the_datasets_library_takes_for_audio(tmp_path, monkeypatch):
    import datasets

    path = write(tmp_path / "set" / "test-00000-of-00001.parquet", row("a"))
    loaded = datasets.load_dataset("parquet", data_files={"test": str(path)}, cache_dir=str(tmp_path / "datasets"))["test"]
    assert isinstance(loaded.features["audio"], datasets.Audio)
    assert loaded.cast_column("audio", datasets.Audio(decode=False))[0]["audio"]["bytes"] == tone()
