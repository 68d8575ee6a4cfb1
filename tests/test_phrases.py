"""Recordings cut into phrases at pauses."""

import numpy as np
import pytest
import soundfile

from asum_lib.corpora import phrases as module
from asum_lib.corpora import talks
from asum_lib.corpora.phrases import phrases

RATE = 16_000


@pytest.fixture
def record(tmp_path):
    """Writes parts (seconds, loudness) of noise, one after the other, as a file, and returns its path."""

    def write(*parts, rate=RATE):
        rng = np.random.default_rng(0)
        samples = np.concatenate([loudness * rng.standard_normal(round(seconds * rate)) for seconds, loudness in parts])
        path = tmp_path / "recording.wav"
        soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
        return path

    return write


def test_a_recording_is_cut_at_its_pauses(record):
    path = record((0.5, 0.001), (2, 0.1), (0.8, 0.001), (1.5, 0.1), (0.5, 0.001))
    found = [(phrase.start_s, phrase.end_s) for phrase in phrases(path, 4)]
    assert np.allclose(found, [(0.5, 2.5), (3.3, 4.8)], atol=module.MARGIN_S + 0.03)


def test_a_short_pause_is_no_cut(record):
    assert len(list(phrases(record((0.5, 0.001), (1, 0.1), (0.2, 0.001), (1, 0.1), (0.5, 0.001)), 4))) == 1


def test_a_phrase_longer_than_the_window_is_cut_within_it_and_loses_nothing(record):
    found = list(phrases(record((0.5, 0.001), (9, 0.1), (0.5, 0.001)), 4))
    assert len(found) == 3
    assert all(len(phrase.samples) <= 4 * RATE for phrase in found)
    assert [round(a.end_s, 6) for a in found[:-1]] == [round(b.start_s, 6) for b in found[1:]]


def test_neighbours_share_a_window_where_they_are_asked_to(record):
    path = record((0.5, 0.001), (2, 0.1), (0.8, 0.001), (1.5, 0.1), (0.8, 0.001), (2, 0.1), (0.5, 0.001))
    assert [round(phrase.end_s - phrase.start_s, 1) for phrase in phrases(path, 5, fill=True)] == pytest.approx([4.5, 2.2], abs=0.1)


def test_silence_has_no_phrase(record):
    assert list(phrases(record((3, 0.0)), 4)) == []


def test_noise_without_a_pause_is_kept_whole(record):
    assert sum(len(phrase.samples) for phrase in phrases(record((10, 0.1)), 4)) == 10 * RATE


def test_pauses_are_found_past_a_minute_as_they_are_before_it(record):
    found = list(phrases(record(*[(2, 0.1), (1, 0.001)] * 50), 4))
    assert np.allclose([phrase.start_s for phrase in found], [3.0 * number for number in range(50)], atol=0.15)


def test_every_test_talk_is_cut_into_its_sentences():
    corpus = talks.load_talks("howto-talks", "dev")
    counts = [len(script.takes) for script in talks.scripts("howto-talks", "dev")]
    assert [len(list(phrases(talk.audio, 4))) for talk in corpus.talks] == counts


@pytest.mark.parametrize("samples", [1, 160, 192, 1_600])
def test_what_is_too_short_for_a_word_has_no_phrase(record, samples):
    assert list(phrases(record((samples / RATE, 0.1)), 4)) == []
    assert list(phrases(record((samples / RATE, 0.0)), 4)) == []


@pytest.mark.parametrize("more_s", [0.012, 0.2, 1.0])
def test_a_quiet_end_after_a_minute_has_no_phrase(record, more_s):
    found = list(phrases(record(*[(2, 0.1), (1, 0.001)] * 20, (more_s, 0.001)), 4))
    assert len(found) == 20


def test_speech_just_after_a_minute_is_a_phrase(record):
    found = list(phrases(record(*[(2, 0.1), (1, 0.001)] * 20, (0.5, 0.1), (0.3, 0.001)), 4))
    assert len(found) == 21 and found[-1].start_s == pytest.approx(60, abs=0.15)


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_the_quiet_before_the_first_sound_is_left_out(record, cut):
    samples = soundfile.read(record((0.5, 0.001), (2, 0.1), (20, 0.001), (70, 0.1)), dtype="float32")[0]
    found = np.concatenate(list(module.from_first_sound(np.array_split(samples, cut))))
    assert len(samples) - len(found) == pytest.approx((0.5 - module.ONSET_S) * RATE, abs=0.03 * RATE)
    np.testing.assert_array_equal(found, samples[-len(found) :])


def test_silence_and_even_noise_are_left_whole(record):
    for samples in (np.zeros(RATE, np.float32), soundfile.read(record((1, 0.1)), dtype="float32")[0]):
        np.testing.assert_array_equal(np.concatenate(list(module.from_first_sound([samples]))), samples)
