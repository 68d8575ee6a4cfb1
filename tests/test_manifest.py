"""Manifests that people write: what is read as it is meant, and what is refused, all of it at once and by its line."""

import hashlib
import json
import os

import numpy as np
import pytest
import soundfile

from asum_lib.corpora.manifest import materialize, read_manifest
from asum_lib.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """A folder with `ok.wav`, half a second."""
    (tmp_path / "set").mkdir()
    soundfile.write(tmp_path / "set" / "ok.wav", 0.1 * (-1.0) ** np.arange(8_000), 16_000)
    return tmp_path / "set"


def write(folder, *lines):
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def line(identity, audio="ok.wav", text="one", **more):
    return {"id": identity, "audio": audio, "text": text} | more


def refusal(path, split="test"):
    """The one line that it is refused with."""
    with pytest.raises(InputError) as error:
        read_manifest(path, split)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_manifest_is_a_corpus(folder):
    corpus = read_manifest(write(folder, line("a"), line(7, text=""), line(7.5, text="two  words")), "test")
    assert (corpus.name, corpus.split) == ("set", "test")
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [("a", "one", 0.5), ("7", "", 0.5), ("7.5", "two  words", 0.5)]
    assert corpus.audio_s == 1.5 and corpus.texts == ["one", "", "two  words"]


def test_splits_are_told_apart_and_an_empty_one_is_refused(folder):
    path = write(folder, line("a", text="learn", split="train"), line("b", text="ask", split="test"), line("c", text="too"))
    assert read_manifest(path, "train").texts == ["learn"]
    assert read_manifest(path, "test").texts == ["ask", "too"]
    assert refusal(path, "dev") == f"{path}: no utterance has split 'dev'"


def test_the_normalized_text_serves_where_there_is_no_text(folder):
    path = write(folder, line("a", text="One.", normalized_text="one"), line("b", text=" ", normalized_text="two"))
    path.write_text(path.read_text() + '\n{"id": "c", "audio": "ok.wav", "normalized_text": "three"}')
    said = []
    assert read_manifest(path, "test", said.append).texts == ["One.", "two", "three"]
    assert said == ["set test: 2 of 3 utterances have no text: their normalized_text is used"]


@pytest.mark.parametrize(("given", "speaker"), [("28113", "28113"), (7, "7"), ("None", None), ("", None), (None, None)])
def test_a_speaker_is_read_under_either_name(folder, given, speaker):
    for key in ("speaker", "speaker_id"):
        [utterance] = read_manifest(write(folder, line("a", **{key: given})), "test").utterances
        assert utterance.speaker == speaker


def test_a_speaker_that_is_no_name_is_refused(folder):
    assert 'line 1: speaker is ["a"]: a name or a number is needed' in refusal(write(folder, line("a", speaker=["a"])))


def test_empty_references_are_counted_in_test_and_refused_in_train(folder):
    said = []
    lines = line("a"), line("b", text=""), line("c", text="  ")
    assert read_manifest(write(folder, *lines), "test", said.append).texts == ["one", "", "  "]
    assert said == ["set test: 2 of 3 utterances have an empty text: each word heard there is an insertion"]
    path = write(folder, *(entry | {"split": "train"} for entry in lines))
    assert refusal(path, "train") == (
        f"{path}: 2 faults: line 2: text is empty in train: give what is said, or leave the line out; "
        "line 3: text is empty in train: give what is said, or leave the line out"
    )


def test_a_split_without_any_text_is_refused(folder):
    path = write(folder, line("a", text=""), line("b", text=""))
    assert refusal(path) == f"{path}: the text of all 2 utterances of test is empty: transcripts are needed to score against"


def test_all_faults_are_listed_at_once_by_line(folder):
    (folder / "empty.wav").touch()
    (folder / "letter.wav").write_text("not audio")
    soundfile.write(folder / "zero.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    soundfile.write(folder / "cut.flac", np.sin(np.arange(160_000)), 16_000)
    os.truncate(folder / "cut.flac", (folder / "cut.flac").stat().st_size // 2)
    soundfile.write(folder.parent / "outside.wav", np.zeros(8), 16_000)
    (folder / "link.wav").symlink_to(folder.parent / "outside.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    path = write(
        folder,
        line("a"),
        line("a", text="again"),
        line("b", "gone.wav"),
        line("c", "empty.wav"),
        line("d", "letter.wav"),
        line("e", "zero.wav"),
        line("f", "nan.wav"),
        line("g", "cut.flac"),
        line("h", "../outside.wav"),
        line("i", "/outside.wav"),
        line("j", "link.wav"),
        line("k", "."),
        line("l", "loop.wav"),
        line("m", duration_s=0.7),
    )
    assert refusal(path).split(": ", 1)[1] == "; ".join(
        [
            "13 faults: line 2: id 'a' is that of line 1 too: ids must differ",
            "line 3: 'gone.wav' is not there: an audio file is needed",
            "line 4: 'empty.wav' is empty (0 bytes): copy the file anew",
            "line 5: 'letter.wav' is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed",
            "line 6: 'zero.wav' has no samples (zero-length, or broken off): audio of at least some milliseconds is needed",
            "line 7: 'nan.wav' has a sample at 0.000 s that is no finite number (NaN or infinite): write it anew without",
            "line 8: 'cut.flac' is broken somewhere after 0 s: copy it anew",
            "line 9: '../outside.wav' leaves the manifest's folder: copy the file into it",
            "line 10: '/outside.wav' leaves the manifest's folder: copy the file into it",
            "line 11: 'link.wav' leaves the manifest's folder: copy the file into it",
            "line 12: '.' is a folder: an audio file is needed",
            "line 13: 'loop.wav' cannot be read (a link to itself)",
            "line 14: 'ok.wav' holds 0.50 s of audio, but duration_s is 0.7: copy the file anew, or correct duration_s",
        ]
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{oops", "is not JSON: an object with id, audio and text is needed"),
        ("[" * 100_000, "is not JSON: an object with id, audio and text is needed"),
        ('["a", "ok.wav", "one"]', 'is ["a", "ok.wav", "one"]: a JSON object with id, audio and text is needed'),
        ("null", "is null: a JSON object with id, audio and text is needed"),
        ("{}", "has no id, has no audio, has no text"),
        ('{"id": "a", "audio": "ok.wav"}', "has no text"),
        ('{"id": "a", "audio": "ok.wav", "text": null}', "text is null: a string is needed"),
        ('{"id": "a", "audio": "ok.wav", "text": 7}', "text is 7: a string is needed"),
        ('{"id": "a", "audio": "ok.wav", "text": "\\ud800"}', "text is '\\ud800': a string is needed"),
        ('{"id": null, "audio": "ok.wav", "text": ""}', "id null cannot be used: 1 to 200 printable characters or a number are needed"),
        ('{"id": true, "audio": "ok.wav", "text": ""}', "id true cannot be used: 1 to 200 printable characters or a number are needed"),
        ('{"id": NaN, "audio": "ok.wav", "text": ""}', "id NaN cannot be used: 1 to 200 printable characters or a number are needed"),
        ('{"id": ["a"], "audio": "ok.wav", "text": ""}', 'id ["a"] cannot be used: 1 to 200 printable characters or a number are needed'),
        ('{"id": "a\\nb", "audio": "ok.wav", "text": ""}', "id 'a\\nb' cannot be used: 1 to 200 printable characters or a number are needed"),
        ('{"id": " ", "audio": "ok.wav", "text": ""}', "id ' ' cannot be used: 1 to 200 printable characters or a number are needed"),
        ('{"id": "a", "audio": 5, "text": ""}', "audio is 5: the path of a file beside the manifest is needed"),
        ('{"id": "a", "audio": "", "text": ""}', "audio is '': the path of a file beside the manifest is needed"),
        ('{"id": "a", "audio": "ok.wav\\u0000", "text": ""}', "audio is 'ok.wav\\x00': the path of a file beside the manifest is needed"),
        ('{"id": "a", "audio": "ok.wav", "text": "", "split": "eval"}', "split is 'eval': choose from train, dev, test"),
        ('{"id": "a", "audio": "ok.wav", "text": "", "duration_s": "1 s"}', "duration_s is '1 s': seconds are needed"),
        ('{"id": "a", "audio": "ok.wav", "text": "", "duration_s": NaN}', "duration_s is NaN: seconds are needed"),
    ],
)
def test_a_line_that_is_no_utterance_is_refused(folder, text, fault):
    path = write(folder, line("first"), text)
    assert refusal(path) == f"{path}: 1 fault: line 2: {fault}"


def test_an_id_of_any_length_and_kind_is_shown_in_one_short_line(folder):
    message = refusal(write(folder, line("x" * 5_000)))
    assert "line 1: id 'xxx" in message and len(message) < 400


def test_faults_beyond_twenty_are_counted(folder):
    message = refusal(write(folder, *(line(f"u{i}", "gone.wav") for i in range(50))))
    assert "50 faults" in message and "line 20:" in message and "line 21:" not in message and message.endswith("; and 30 more")


def test_the_files_of_other_splits_are_looked_for_too_but_not_decoded(folder):
    (folder / "letter.wav").write_text("not audio")
    lines = line("a"), line("b", "letter.wav", split="dev")
    assert len(read_manifest(write(folder, *lines), "test").utterances) == 1
    assert "line 2: 'letter.wav' is not audio" in refusal(write(folder, *lines), "dev")
    assert "line 3: 'gone.wav' is not there" in refusal(write(folder, *lines, line("c", "gone.wav", split="train")), "test")


def test_what_is_no_manifest_is_refused_in_one_line(folder):
    what = "a JSON-lines file with id, audio and text on each line"
    path = folder / "manifest.jsonl"
    assert refusal(path) == f"manifest not found: {path} ({what})"
    path.touch()
    assert refusal(path) == f"manifest is empty: {path} ({what} is needed)"
    path.write_text("\n \n")
    assert refusal(path) == f"manifest is empty: {path} ({what} is needed)"
    path.write_bytes((folder / "ok.wav").read_bytes())
    assert refusal(path) == f"manifest is no text file: {path} ({what}, in UTF-8, is needed)"
    path.write_bytes('{"id": "a", "audio": "ok.wav", "text": "café"}'.encode("latin-1"))
    assert refusal(path) == f"{path}: 1 fault: line 1: is not UTF-8: save the manifest in UTF-8"
    path.unlink()
    path.mkdir()
    assert refusal(path) == f"manifest is a folder: {path} ({what} is needed)"


def test_line_ends_of_windows_a_byte_order_mark_and_line_separators_in_a_text_are_no_faults(folder):
    path = folder / "manifest.jsonl"
    lines = (json.dumps(entry, ensure_ascii=False) for entry in (line("a", text="one\u2028two\x85"), line("b", text="naïve")))
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\r\n")
    assert read_manifest(path, "test").texts == ["one\u2028two\x85", "naïve"]


def test_the_fingerprint_follows_ids_texts_and_audio_and_nothing_else(folder):
    before = read_manifest(write(folder, line("a"), line("b")), "test").fingerprint
    assert read_manifest(write(folder, line("a", duration_s=0.5), line("b", speaker="x")), "test").fingerprint == before
    renamed = read_manifest(write(folder, line("a"), line("c")), "test").fingerprint
    retold = read_manifest(write(folder, line("a"), line("b", text="two")), "test").fingerprint
    soundfile.write(folder / "ok.wav", np.full(8_000, 0.2), 16_000)
    heard = read_manifest(write(folder, line("a"), line("b")), "test").fingerprint
    assert len({before, renamed, retold, heard}) == 4


def test_the_fingerprint_is_the_sha256_of_ids_texts_and_the_sha256_of_files(folder):
    audio = hashlib.sha256((folder / "ok.wav").read_bytes()).digest()
    expected = hashlib.sha256(b"a\0one\0" + audio + b"7\0\0" + audio).hexdigest()
    assert read_manifest(write(folder, line("a"), line(7, text="")), "test").fingerprint == expected


def test_audio_is_decoded_once_a_corpus(folder, cache, monkeypatch):
    decoded = []
    from asum_lib.corpora import manifest

    real = manifest.duration_s
    monkeypatch.setattr(manifest, "duration_s", lambda path, say: decoded.append(path) or real(path, say))
    path = write(folder, line("a"), line("b"))
    first = read_manifest(path, "test")
    assert len(decoded) == 2
    assert read_manifest(path, "test") == first and len(decoded) == 2
    write(folder, line("a"), line("b", duration_s=3))
    assert "duration_s is 3" in refusal(path)  # the manifest's own word is compared each time
    (kept,) = (cache / "decoded").iterdir()
    kept.write_text("[0.5")
    write(folder, line("a"), line("b"))
    assert read_manifest(path, "test") == first and len(decoded) == 4


def test_faulty_audio_is_found_again_the_next_time(folder):
    soundfile.write(folder / "nan.wav", np.array([np.nan]), 16_000, subtype="FLOAT")
    path = write(folder, line("a", "nan.wav"))
    assert refusal(path) == refusal(path)
    assert "no finite number" in refusal(path)


def test_a_cache_that_cannot_be_written_is_no_fault(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "file"))
    assert len(read_manifest(write(folder, line("a")), "test").utterances) == 1


def test_a_large_manifest_says_how_far_it_is(folder):
    said = []
    read_manifest(write(folder, *(line(f"u{i}") for i in range(1_000))), "test", said.append)
    assert said == [
        "set test: 500 of 1000 files read",
        "set test: 1000 of 1000 files read",
        "set test: 500 of 1000 files decoded",
        "set test: 1000 of 1000 files decoded",
    ]


@pytest.mark.parametrize(("name", "count"), [("spoken-digits", 300), ("librispeech-84-121123", 29), ("voxpopuli-dev", 351)])
def test_real_manifests_are_read(real_data, name, count):
    corpus = read_manifest(real_data / name / "manifest.jsonl", "test")
    assert (corpus.name, len(corpus.utterances)) == (name, count)
    assert all(text.strip() for text in corpus.texts)  # 12 of VoxPopuli's texts are empty: their normalized_text serves


def test_the_fingerprint_of_real_manifests_is_the_one_that_records_of_them_have(real_data):
    assert read_manifest(real_data / "librispeech-84-121123" / "manifest.jsonl", "test").fingerprint.startswith("702316355607")
    assert read_manifest(real_data / "spoken-digits" / "manifest.jsonl", "test").fingerprint.startswith("6f1b1a276acb")


def made(folder, takes):
    return materialize(folder, "toy", "test", "f" * 64, takes)


def test_a_corpus_is_made_once_and_read_back(tmp_path):
    samples = np.linspace(-0.5, 0.5, 1_600, dtype=np.float32)
    corpus = made(tmp_path / "toy", [("a", "one", samples)])
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [("a", "one", 0.1)]
    np.testing.assert_allclose(soundfile.read(corpus.utterances[0].audio)[0], samples, atol=2**-15)
    never = (pytest.fail("made again") for _ in range(1))
    assert made(tmp_path / "toy", never) == corpus


def test_a_corpus_is_there_whole_or_not_at_all(tmp_path):
    def breaking():
        yield "a", "one", np.zeros(160, np.float32)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        made(tmp_path / "toy", breaking())
    assert not (tmp_path / "toy").exists()
    assert len(made(tmp_path / "toy", [("a", "one", np.zeros(160, np.float32))]).utterances) == 1


ALTERED = {
    "manifest.jsonl": lambda content: content.replace(b'"one"', b'"two"'),
    "audio/a.flac": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "content.sha256": lambda content: b"",
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_cache_is_never_used(tmp_path, name):
    takes = [("a", "one", np.linspace(-0.5, 0.5, 1_600, dtype=np.float32))]
    whole = made(tmp_path / "toy", takes)
    before = (tmp_path / "toy" / name).read_bytes()
    (tmp_path / "toy" / name).write_bytes(ALTERED[name](before))
    assert made(tmp_path / "toy", takes) == whole
    assert (tmp_path / "toy" / name).read_bytes() == before


def test_two_makers_of_one_corpus_do_not_disturb_each_other(tmp_path):
    def slower():
        yield "a", "one", np.zeros(160, np.float32)
        made(tmp_path / "sets" / "toy", [("a", "one", np.zeros(160, np.float32))])  # another process is done first

    assert [u.id for u in made(tmp_path / "sets" / "toy", slower()).utterances] == ["a"]
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["toy"]


@pytest.mark.parametrize("key", ["offset", "start", "start_time"])
def test_a_part_of_a_file_is_refused(folder, key):
    assert f"line 1: {key} is 0.5: parts of files are not read" in refusal(write(folder, line("a", **{key: 0.5})))


def test_a_start_at_zero_is_the_whole_file(folder):
    assert read_manifest(write(folder, line("a", start=0)), "test").texts == ["one"]


def test_a_key_that_stands_twice_is_refused(folder):
    twice = '{"id": "a", "audio": "other.wav", "audio": "ok.wav", "text": "x"}'
    assert "line 1: has 'audio' twice" in refusal(write(folder, twice))


def test_a_text_of_punctuation_alone_is_said(folder):
    said = []
    read_manifest(write(folder, line("a", text="..."), line("b")), "test", said.append)
    assert any("1 of 2 utterances have a text without a letter or digit" in one for one in said)
