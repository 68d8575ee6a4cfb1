"""Log-mel features on disk: what Whisper's own extractor gives, bit for bit, windows and all."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asum_lib.corpora import read_audio, read_manifest
from asum_lib.corpora.audio import windows
from asum_lib.corpora.features import log_mel
from asum_lib.corpora.phrases import from_first_sound
from asum_lib.models import ladder


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Four utterances for windows of 4 s: short, silent, exactly one window, and ten seconds."""
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    random, lines = np.random.default_rng(0), []
    for name, seconds, loudness in (("short", 1.3, 0.1), ("silent", 2, 0), ("window", 4, 0.1), ("long", 10, 0.1)):
        samples = loudness * random.standard_normal(int(16_000 * seconds))
        soundfile.write(tmp_path / f"{name}.flac", samples.astype(np.float32), 16_000)
        lines.append({"id": name, "audio": f"{name}.flac", "text": name})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_manifest(tmp_path / "manifest.jsonl", "test")


def test_a_window_is_what_the_extractor_gives_for_it_alone(corpus):
    extractor, features = ladder.extractor(), log_mel(corpus, ladder.extractor())
    pieces = [piece for utterance in corpus.utterances for piece in windows(utterance.audio, 4)]
    assert len(features) == len(pieces) >= 3 + 3
    for window, piece in enumerate(pieces):
        expected = extractor(piece, sampling_rate=16_000, return_tensors="np").input_features[0]
        assert np.array_equal(features[window], expected)


def test_a_long_utterance_is_several_windows_and_the_others_are_whole(corpus):
    features = log_mel(corpus, ladder.extractor())
    assert features.utterances.tolist()[:3] == [0, 1, 2]
    assert set(features.utterances.tolist()[3:]) == {3}
    assert features.whole_utterances().utterances.tolist() == [0, 1, 2]
    assert features.of(range(1, 3)).utterances.tolist() == [1, 2]
    assert np.array_equal(features.of(range(1, 3))[1], features[2])


def test_padding_is_not_kept_on_disk(corpus):
    features = log_mel(corpus, ladder.extractor())
    assert features.kept[0] == pytest.approx(1.3 / 4 * 200, abs=2)
    assert features.kept[1] == 0  # silence is one number
    assert features.kept[2] == 200


def test_features_are_computed_once(corpus, monkeypatch):
    first = log_mel(corpus, ladder.extractor())
    monkeypatch.setattr("asum_lib.corpora.features.samples_of", None)  # what would compute them
    assert np.array_equal(log_mel(corpus, ladder.extractor()).batch(range(len(first))), first.batch(range(len(first))))


def test_a_corpus_of_silence_has_features(tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000, np.float32), 16_000)
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "audio": "a.wav", "text": "nothing"}')
    features = log_mel(read_manifest(tmp_path / "manifest.jsonl", "test"), ladder.extractor())
    assert features[0].shape == (80, 200)
    assert np.unique(features[0]).size == 1


def test_killed_while_computing_leaves_nothing_behind_as_finished(corpus, monkeypatch):
    def dies(path):
        yield read_audio(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("asum_lib.corpora.features.samples_of", dies)
        with pytest.raises(KeyboardInterrupt):
            log_mel(corpus, ladder.extractor())
    assert len(log_mel(corpus, ladder.extractor())) >= 6


@pytest.mark.slow
def test_real_speech_of_30_seconds_and_more_is_whispers_own_log_mel(real_data, tmp_path, monkeypatch):
    from transformers import WhisperFeatureExtractor

    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    corpus = read_manifest(real_data / "librispeech-84-121123" / "manifest.jsonl", "test")
    extractor = WhisperFeatureExtractor()
    features = log_mel(corpus, extractor)
    assert len(features) == 29
    for window, utterance in enumerate(corpus.utterances):
        expected = extractor(read_audio(utterance.audio), sampling_rate=16_000, return_tensors="np").input_features[0]
        assert np.array_equal(features[window], expected)


def test_features_from_the_first_sound_are_kept_apart(corpus):
    whole, late = log_mel(corpus, ladder.extractor()), log_mel(replace(corpus, from_first_sound=True), ladder.extractor())
    assert np.array_equal(whole[0], late[0])  # it begins with sound
    path = corpus.utterances[0].audio
    soundfile.write(path, np.concatenate([np.zeros(8_000, np.float32), read_audio(path)]), 16_000)
    moved = replace(corpus, fingerprint="moved")
    heard = np.concatenate(list(from_first_sound([read_audio(path)])))
    for found, samples in ((replace(moved, from_first_sound=True), heard), (moved, read_audio(path))):
        expected = ladder.extractor()(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
        assert np.array_equal(log_mel(found, ladder.extractor())[0], expected)
