"""Talks with summaries from files: manifests with audio or features, How2's folders, and every fault in one line."""

import json
import shutil
import struct

import numpy as np
import pytest
import soundfile

from asum_lib.corpora import talk_files, texts
from asum_lib.corpora.talk_files import load_file, need_audio, read_features
from asum_lib.errors import InputError

RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder with one second of audio as `a.wav`, and 150 frames of features as `a.npy`."""
    home = tmp_path / "talks"
    home.mkdir()
    soundfile.write(home / "a.wav", np.full(RATE_HZ, 0.1, np.float32), RATE_HZ)
    np.save(home / "a.npy", np.ones((150, 43), np.float32))
    return home


def manifest(folder, *lines, end="\n", start=""):
    (folder / "manifest.jsonl").write_bytes((start + end.join(json.dumps(line, ensure_ascii=False) for line in lines)).encode())
    return folder


def line(identity="a", **fields):
    return {"id": identity, "audio": "a.wav", "text": "he boils water", "summary": "boil water"} | fields


def refusal(path, split="test"):
    with pytest.raises(InputError) as caught:
        load_file(path, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_manifest_with_audio_gives_talks(folder):
    talks = load_file(manifest(folder, line(), line("b", split="train")), "test", "mine")
    (talk,) = talks.talks
    assert (talks.name, talks.split, talks.language) == ("mine", "test", "en")
    assert (talk.id, talk.audio, talk.features, talk.duration_s) == ("a", (folder / "a.wav").resolve(), None, 1.0)
    assert (talk.transcript, talk.summary, talk.facts) == ("he boils water", "boil water", ())


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_any_audio_that_libsndfile_reads_goes_through(folder, suffix):
    soundfile.write(folder / f"b.{suffix}", np.full((44_100, 2), 0.1, np.float32), 44_100)
    (talk,) = load_file(manifest(folder, line(audio=f"b.{suffix}")), "test").talks
    assert talk.duration_s == pytest.approx(1.0, abs=0.06)


def test_a_manifest_with_features_gives_their_place(folder):
    entry = {"id": "a", "features": "a.npy", "summary": "boil water", "duration_s": 1.5}
    (talk,) = load_file(manifest(folder, entry), "test").talks
    assert (talk.audio, talk.duration_s, talk.transcript) == (None, 1.5, "")
    assert read_features(talk.features).shape == (150, 43)


def test_features_may_lie_in_an_archive(folder):
    data = b"a " + matrix(np.arange(6).reshape(3, 2))
    (folder / "feats.ark").write_bytes(data)
    (talk,) = load_file(manifest(folder, {"id": "a", "features": "feats.ark:2", "summary": "x"}), "test").talks
    assert read_features(talk.features).tolist() == [[0, 1], [2, 3], [4, 5]] and talk.duration_s == 0.03


def test_a_transcript_may_be_unknown_and_has_two_names(folder):
    found = load_file(manifest(folder, line("a", transcript="said"), {"id": "b", "audio": "a.wav", "summary": "x"}), "test")
    assert [talk.transcript for talk in found.talks] == ["said", ""]


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(folder):
    found = load_file(manifest(folder, line("a"), line("b"), end="\r\n", start="\ufeff"), "test")
    assert [talk.id for talk in found.talks] == ["a", "b"]


def test_the_fingerprint_covers_the_summary_and_the_file(folder):
    first = load_file(manifest(folder, line()), "test").fingerprint
    assert load_file(manifest(folder, line()), "test").fingerprint == first
    assert load_file(manifest(folder, line(summary="other")), "test").fingerprint != first
    soundfile.write(folder / "a.wav", np.full(RATE_HZ, 0.2, np.float32), RATE_HZ)
    assert load_file(manifest(folder, line()), "test").fingerprint != first


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"summary": " "}, "line 1: summary is ' ': a text that is not empty is needed"),
        ({"summary": None}, "line 1: summary is null"),
        ({"audio": "b.wav"}, "line 1: 'b.wav' is not there: an audio file is needed"),
        ({"audio": "../a.wav"}, "line 1: '../a.wav' leaves the manifest's folder"),
        ({"features": "a.npy"}, "line 1: has audio and features: one is needed"),
        ({"text": 3}, "line 1: text is 3: a string is needed"),
        ({"split": "val"}, "line 1: split is 'val': choose from train, dev, test"),
        ({"duration_s": 2.0}, "line 1: 'a.wav' holds 1.00 s of audio, but duration_s is 2"),
        ({"duration_s": "1"}, "line 1: duration_s is '1': seconds are needed"),
        ({"id": ""}, "line 1: id '' cannot be used"),
    ],
)
def test_a_fault_is_named_with_file_and_line(folder, fields, fault):
    found = refusal(manifest(folder, line(**fields)))
    assert f"{folder / 'manifest.jsonl'}: 1 fault: " in found and fault in found


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ("b.npy", "'b.npy' is not there: a file of features is needed"),
        ("bad.npy", "'bad.npy' is not a whole .npy file"),
        ("flat.npy", "holds float64 of shape (3,): floats of shape (frames, bins) are needed"),
        ("words.npy", "floats of shape (frames, bins) are needed"),
        ("nan.npy", "has a value that is no finite number"),
        ("objects.npy", "is not a whole .npy file"),
        ("packed.npy", "'packed.npy' is not a whole .npy file"),
        ("a.npy:7", "is no binary matrix of Kaldi"),
        ("gunzip -c a.gz |", "is a command, and none is run"),
    ],
)
def test_faulty_features_are_named(folder, features, fault):
    (folder / "bad.npy").write_bytes((folder / "a.npy").read_bytes()[:500])
    np.savez(folder / "packed.npz", np.zeros((3, 3)))
    (folder / "packed.npz").rename(folder / "packed.npy")
    np.save(folder / "flat.npy", np.zeros(3))
    np.save(folder / "words.npy", np.array([["a"]]))
    np.save(folder / "nan.npy", np.full((2, 2), np.nan))
    np.save(folder / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    assert fault in refusal(manifest(folder, {"id": "a", "features": features, "summary": "x"}))


def test_all_faults_are_listed_at_once(folder):
    (folder / "c.wav").write_bytes(b"no audio")
    found = refusal(
        manifest(folder, line("a", summary=""), line("a"), {"id": "b", "audio": "a.wav"}, line("c", audio="c.wav"), {"id": "d", "summary": "x"})
    )
    assert "5 faults: " in found
    for fault in ("line 1: summary is ''", "line 2: id 'a' is that of line 1 too", "line 3: has no summary", "line 4: 'c.wav' is not audio"):
        assert fault in found
    assert "line 5: has neither audio nor features" in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "manifest is empty"),
        (b"\n\n", "manifest is empty"),
        (b"{}\n\xff\n", "line 2: is not UTF-8"),
        (b"[1]", "a JSON object with id, summary and audio or features is needed"),
        (b'{"id": "a"', "line 1: is not JSON"),
    ],
)
def test_a_file_that_is_no_manifest_is_said(folder, content, message):
    (folder / "manifest.jsonl").write_bytes(content)
    assert message in refusal(folder)


def test_a_split_that_is_not_there_is_said(folder):
    assert refusal(manifest(folder, line()), "train").endswith("no talk has split 'train'")
    assert refusal(folder.parent / "absent").endswith("no such file or folder")


# How2 ---------------------------------------------------------------------------------------------------------------------


def matrix(values):
    """A float matrix of Kaldi, byte by byte as its format has it."""
    values = np.asarray(values, "<f4")
    return b"\0BFM " + struct.pack("<bibi", 4, values.shape[0], 4, values.shape[1]) + values.tobytes()


def archive(path, **matrices):
    """Write an archive and give the lines of its list, with the name of the file as it is given."""
    data, lines = b"", []
    for identity, values in matrices.items():
        data += f"{identity} ".encode()
        lines.append(f"{identity} {path.name}:{len(data)}")
        data += matrix(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return lines


FRAMES = {"vid1": np.full((120, 43), 1.0), "vid2": np.full((250, 43), 2.0)}
SUMMARIES = {"vid1": "learn to boil water in this free video .", "vid2": "an expert explains how to fold paper ."}
TRANSCRIPTS = {"vid1": "hi , today we boil water .", "vid2": "take a sheet of paper ."}


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{identity} {text}\n" for identity, text in rows.items()), encoding="utf-8")


def released(tmp_path, name="dev5_test_sum", summaries=SUMMARIES, home="how2_release"):
    """How2 as it is unpacked."""
    root = tmp_path / "how2" / home
    table(root / "data" / name / "text", summaries)
    lines = archive(root / "audio" / "fbank_pitch" / "raw_fbank_pitch.1.ark", **FRAMES)
    (root / "audio" / "fbank_pitch" / f"{name}.scp").write_text("\n".join(lines) + "\n")
    return tmp_path / "how2"


def prepared(tmp_path):
    """The same after ESPnet's recipe: a list beside the summaries, with whole paths."""
    folder = released(tmp_path, home="")
    scp = folder / "audio" / "fbank_pitch" / "dev5_test_sum.scp"
    lines = [row.split() for row in scp.read_text().splitlines()]
    (folder / "data" / "dev5_test_sum" / "feats.scp").write_text("".join(f"{key} {scp.parent / where}\n" for key, where in lines))
    scp.unlink()
    return folder


@pytest.mark.parametrize("layout", [released, prepared])
def test_how2_is_read_as_it_is_released_and_as_espnet_prepares_it(tmp_path, layout):
    talks = load_file(layout(tmp_path), "test", "how2-summaries")
    assert {talk.id: talk.summary for talk in talks.talks} == SUMMARIES
    assert [(talk.audio, talk.duration_s, talk.transcript) for talk in talks.talks] == [(None, 1.2, ""), (None, 2.5, "")]
    assert [float(read_features(talk.features).mean()) for talk in talks.talks] == [1.0, 2.0]


@pytest.mark.parametrize(("split", "name"), [("train", "tr_2000h_sum"), ("dev", "cv05_sum"), ("test", "dev5_test_sum")])
def test_how2s_splits_have_espnets_names(tmp_path, split, name):
    assert len(load_file(released(tmp_path, name), split).talks) == 2


def test_how2s_transcripts_go_with_the_talks_where_they_are_there(tmp_path):
    folder = released(tmp_path)
    table(folder / "sum_devtest" / "tran.tok.txt", TRANSCRIPTS)
    table(folder / "sum_devtest" / "desc.tok.txt", SUMMARIES)
    assert {talk.id: talk.transcript for talk in load_file(folder, "test").talks} == TRANSCRIPTS


def test_an_id_without_features_is_left_out_of_the_release_and_told(tmp_path):
    said = []
    talks = load_file(released(tmp_path, summaries=SUMMARIES | {"vid3": "no sound ."}), "test", progress=said.append)
    assert [talk.id for talk in talks.talks] == ["vid1", "vid2"]
    assert "1 ids of test have a summary or features alone, and are left out" in said[0]


def test_an_id_without_features_is_a_fault_of_a_prepared_folder(tmp_path):
    folder = prepared(tmp_path)
    table(folder / "data" / "dev5_test_sum" / "text", SUMMARIES | {"vid3": "no sound ."})
    assert "text line 3: vid3 is not in" in refusal(folder)


def test_faults_of_a_how2_folder_are_listed(tmp_path):
    folder = prepared(tmp_path)
    table(folder / "data" / "dev5_test_sum" / "text", {"vid1": "", "vid2": "fold ."})
    ark = folder / "audio" / "fbank_pitch" / "raw_fbank_pitch.1.ark"
    ark.write_bytes(ark.read_bytes()[:-10])
    found = refusal(folder)
    assert "2 faults: line 1: vid1 has no summary; line 2: " in found and "is broken off: 10 of 43000 bytes are missing" in found


def test_a_folder_that_is_neither_is_told_what_would_be_right(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "data/dev5_test_sum/text is needed, with feats.scp beside it" in refusal(tmp_path / "empty")


def test_whisper_is_told_that_it_cannot_read_features(tmp_path, folder):
    talks = load_file(released(tmp_path), "test", "how2-summaries")
    with pytest.raises(InputError) as caught:
        need_audio(talks, "Whisper")
    expected = (
        "corpus how2-summaries: 2 of 2 talks have features of 43 bins, 40 filterbanks and 3 values of pitch as How2 gives them out, and no audio"
    )
    assert str(caught.value).startswith(expected)
    need_audio(load_file(manifest(folder, line()), "test"), "Whisper")


def how2_texts(tmp_path, transcripts=TRANSCRIPTS, summaries=SUMMARIES):
    table(tmp_path / "texts" / "sum_devtest" / "tran.tok.txt", transcripts)
    table(tmp_path / "texts" / "sum_devtest" / "desc.tok.txt", summaries)
    return tmp_path / "texts"


def test_how2s_text_alone_is_a_corpus_of_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_HOW2_SUMMARIES", str(how2_texts(tmp_path, dict(reversed(TRANSCRIPTS.items())))))
    texts.load_texts.cache_clear()
    corpus = texts.load_texts("how2-text", "test")
    texts.load_texts.cache_clear()
    assert [(one.id, one.text, one.reference) for one in corpus.documents] == [(key, TRANSCRIPTS[key], SUMMARIES[key]) for key in SUMMARIES]
    assert "a corpus of texts, not of talks" in refusal(tmp_path / "texts")


def test_how2s_texts_are_paired_by_their_ids(tmp_path):
    with pytest.raises(InputError, match=r"desc.tok.txt line 2: vid2 is not in .*tran.tok.txt"):
        talk_files.how2_rows(how2_texts(tmp_path, {"vid1": "hi ."}), "test")
    assert talk_files.how2_rows(tmp_path, "test") is None


def test_talks_are_found_by_name_and_by_path(folder, tmp_path, monkeypatch):
    from asum_lib.corpora.talks import load_talks

    load_talks.cache_clear()
    monkeypatch.delenv("ASUM_HOW2_SUMMARIES", raising=False)
    with pytest.raises(InputError, match=r"how2-summaries is not on this machine.*set ASUM_HOW2_SUMMARIES"):
        load_talks("how2-summaries", "test")
    monkeypatch.setenv("ASUM_HOW2_SUMMARIES", str(released(tmp_path)))
    assert (load_talks("how2-summaries", "test").name, len(load_talks("how2-summaries", "test").talks)) == ("how2-summaries", 2)
    assert load_talks(str(manifest(folder, line())), "test").name == "talks"
    load_talks.cache_clear()


def test_real_recordings_go_through(real_data, tmp_path):
    """LibriSpeech's FLAC files as talks, whose summaries are made up."""
    source = real_data / "librispeech-84-121123"
    shutil.copytree(source / "audio", tmp_path / "l" / "audio")
    rows = [json.loads(row) for row in (source / "manifest.jsonl").read_text().splitlines()]
    found = load_file(manifest(tmp_path / "l", *({**row, "summary": "a chapter"} for row in rows)), "test")
    assert len(found.talks) == 29
    assert sum(talk.duration_s for talk in found.talks) == pytest.approx(sum(row["duration_s"] for row in rows), abs=0.1)
