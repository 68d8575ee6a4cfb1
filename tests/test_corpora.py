"""Manifests as corpora, audio as models want it, and features that are never cut."""

import json

import numpy as np
import pytest
import soundfile

from asum_lib import corpora
from asum_lib.corpora import Corpus, Utterance, load_corpus, log_mel, materialize, read_audio, read_manifest
from asum_lib.errors import InputError


def write_manifest(folder, *lines):
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def write_tone(path, rate_hz=16_000, seconds=1.0, channels=1):
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(int(rate_hz * seconds)) / rate_hz)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate_hz)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_manifest_is_a_corpus(tmp_path):
    write_tone(tmp_path / "a.wav", seconds=0.5)
    write_tone(tmp_path / "b.wav", rate_hz=8_000, seconds=2)
    write_manifest(tmp_path, {"id": "a", "audio": "a.wav", "text": "one"}, {"id": 7, "audio": "b.wav", "text": ""})
    corpus = load_corpus(str(tmp_path), "test")
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [("a", "one", 0.5), ("7", "", 2.0)]
    assert corpus.audio_s == 2.5 and corpus.texts == ["one", ""]
    assert load_corpus(str(tmp_path / "manifest.jsonl"), "test") == corpus


def test_splits_of_a_manifest_are_told_apart_and_an_empty_one_is_refused(tmp_path):
    write_tone(tmp_path / "a.wav")
    write_manifest(tmp_path, *({"id": s, "audio": "a.wav", "text": s, "split": s} for s in ("train", "test")))
    assert load_corpus(str(tmp_path), "train").texts == ["train"]
    with pytest.raises(InputError, match="no utterance has split 'dev'"):
        load_corpus(str(tmp_path), "dev")


def test_all_faults_of_a_manifest_are_listed_at_once(tmp_path):
    write_tone(tmp_path / "ok.wav")
    path = write_manifest(
        tmp_path,
        {"id": "a", "audio": "ok.wav", "text": "fine"},
        {"id": "a", "audio": "ok.wav", "text": "twice"},
        {"id": "b", "audio": "gone.wav", "text": "missing"},
        {"id": "c", "audio": "../outside.wav", "text": "escapes"},
        {"id": "d", "audio": "ok.wav"},
        "{not json",
    )
    write_tone(tmp_path.parent / "outside.wav")
    with pytest.raises(InputError) as error:
        read_manifest(path, "test")
    message = str(error.value)
    assert "5 faults" in message and "\n" not in message
    for fault in (
        "line 2: id 'a' occurs twice",
        "line 3: no readable audio at 'gone.wav'",
        "line 4: '../outside.wav' leaves the manifest's folder",
        "line 5: needs a JSON object with id, audio and text (KeyError('text'))",
        "line 6: needs a JSON object",
    ):
        assert fault in message


def test_the_fingerprint_of_a_manifest_follows_texts_and_audio(tmp_path):
    entry = {"id": "a", "audio": "a.wav", "text": "one"}
    write_tone(tmp_path / "a.wav")
    path = write_manifest(tmp_path, entry)
    before = read_manifest(path, "test").fingerprint
    assert read_manifest(path, "test").fingerprint == before
    write_manifest(tmp_path, entry | {"text": "two"})
    retold = read_manifest(path, "test").fingerprint
    write_tone(tmp_path / "a.wav", seconds=0.9)
    assert len({before, retold, read_manifest(path, "test").fingerprint}) == 3


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("howto", "validation", "unknown split 'validation': choose from train, dev, test"),
        ("how2", "test", "unknown corpus 'how2': choose from howto, howto-source, digits, or give the path of a manifest.jsonl"),
        ("nowhere/manifest.jsonl", "test", "manifest not found: nowhere/manifest.jsonl"),
    ],
)
def test_what_is_no_corpus_is_refused_in_one_line(name, split, message):
    with pytest.raises(InputError, match=message):
        load_corpus(name, split)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2)])
def test_any_audio_is_read_as_16_khz_mono(tmp_path, rate_hz, channels):
    samples = read_audio(write_tone(tmp_path / "a.wav", rate_hz, seconds=1.0, channels=channels))
    assert samples.shape == (16_000,) and samples.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) == 200  # bins of 1 Hz: the tone is still at 200 Hz
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.0], [0.25, -0.25]]), 16_000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), [0.25, 0.0])


def made(folder, takes):
    return materialize(folder, "toy", "test", "f" * 64, takes)


def test_a_corpus_is_made_once_and_read_back(tmp_path):
    samples = np.linspace(-0.5, 0.5, 1_600, dtype=np.float32)
    corpus = made(tmp_path / "toy", [("a", "one", samples)])
    assert [(u.id, u.text, u.duration_s) for u in corpus.utterances] == [("a", "one", 0.1)]
    np.testing.assert_allclose(read_audio(corpus.utterances[0].audio), samples, atol=2**-15)
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


def test_two_makers_of_one_corpus_do_not_disturb_each_other(tmp_path):
    def slower():
        yield "a", "one", np.zeros(160, np.float32)
        made(tmp_path / "toy", [("a", "one", np.zeros(160, np.float32))])  # another process is done first

    assert [u.id for u in made(tmp_path / "toy", slower()).utterances] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def tones(folder, *seconds):
    utterances = [Utterance(f"u{i}", write_tone(folder / f"u{i}.wav", seconds=s), "", s) for i, s in enumerate(seconds)]
    return Corpus("tones", "test", "-".join(map(str, seconds)), tuple(utterances))


def test_features_are_cached_and_padded_to_the_window(tmp_path, cache):
    from asum_lib.models import ladder

    corpus = tones(tmp_path, 1.0, 4.0)
    features = log_mel(corpus, ladder.extractor())
    assert features.shape == (2, 80, 200) and features.dtype == np.float32  # 4 s of 20 ms frames
    (path,) = (cache / "features").iterdir()
    written = path.stat().st_mtime_ns
    np.testing.assert_array_equal(log_mel(corpus, ladder.extractor()), features)
    assert path.stat().st_mtime_ns == written
    assert np.array(features[0, :, 60:]).max() < np.array(features[0, :, :50]).max()  # silence after the tone


def test_an_utterance_longer_than_the_window_is_named_and_refused(tmp_path, cache):
    from asum_lib.models import ladder

    with pytest.raises(InputError, match=r"2 of 3 utterances of tones are longer than the model's 4 s window \(longest: u1, 6.0 s\)"):
        log_mel(tones(tmp_path, 1.0, 6.0, 4.1), ladder.extractor())


@pytest.mark.parametrize(("folder", "count"), [("spoken-digits", 300), ("librispeech-84-121123", 29), ("voxpopuli-dev", 351)])
def test_real_manifests_are_read(real_data, folder, count):
    corpus = load_corpus(str(real_data / folder), "test")
    assert (corpus.name, len(corpus.utterances)) == (folder, count)
    stated = {}
    for line in (real_data / folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stated[str(entry["id"])] = entry["duration_s"]
    for utterance in corpus.utterances:
        assert utterance.duration_s == pytest.approx(stated[utterance.id], abs=0.02)
    samples = read_audio(corpus.utterances[0].audio)
    assert len(samples) == pytest.approx(16_000 * corpus.utterances[0].duration_s, abs=2)


def test_real_utterances_over_30_s_are_refused_by_a_30_s_model(real_data, cache):
    from transformers import WhisperFeatureExtractor

    corpus = load_corpus(str(real_data / "voxpopuli-dev"), "test")
    longest = max(corpus.utterances, key=lambda utterance: utterance.duration_s)
    assert longest.duration_s > 30
    with pytest.raises(InputError, match=f"longer than the model's 30 s window .longest: {longest.id}, {longest.duration_s:.1f} s"):
        log_mel(corpus, WhisperFeatureExtractor(feature_size=80))


def test_generated_corpora_are_the_ones_that_the_module_names():
    assert corpora.GENERATED == ("howto", "howto-source", "digits")
