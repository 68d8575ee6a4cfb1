"""Synthetic speech: what comes out of the synthesiser, the trimmer and the room."""

import numpy as np
import pytest

from asum_lib.corpora.speech import SAMPLE_RATE_HZ, add_room, synthesize, trim


def test_speech_is_16_khz_mono_float32_of_a_plausible_length():
    samples = synthesize("fill the hole with soil", "en-us", rate_wpm=175)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 1.0 < len(samples) / SAMPLE_RATE_HZ < 2.5  # five words at 175 a minute are 1.7 s
    assert 0.1 < np.abs(samples).max() <= 1


def test_a_faster_rate_makes_shorter_speech():
    slow, fast = (len(synthesize("fill the hole with soil", "en-us", rate_wpm=rate)) for rate in (120, 240))
    assert fast < 0.7 * slow


def test_the_same_words_sound_the_same_whatever_was_said_before():
    first = synthesize("seven three five", "en-us+f2")
    synthesize("stir in the lavender slowly", "en-gb-scotland+f3")
    np.testing.assert_array_equal(synthesize("seven three five", "en-us+f2"), first)


def test_an_unknown_voice_is_named():
    with pytest.raises(ValueError, match="en-gb-atlantis"):
        synthesize("hello", "en-gb-atlantis")


def test_trim_cuts_what_stays_under_the_threshold_at_both_ends_only():
    samples = np.array([0, 0.004, 0.2, 0, -0.3, 0.005, 0], dtype=np.float32)
    np.testing.assert_array_equal(trim(samples), np.array([0.2, 0, -0.3], dtype=np.float32))


def test_trimming_silence_leaves_nothing():
    assert len(trim(np.zeros(100, dtype=np.float32))) == 0


@pytest.mark.parametrize("snr_db", [5, 20])
def test_noise_is_as_strong_as_asked(snr_db):
    """A sine of amplitude 0.4 has power 0.08; at 20 dB the noise has 0.0008, at 5 dB 0.0253."""
    signal = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32)
    mixed = add_room(signal, np.random.default_rng(0), snr_db)
    along = (mixed @ signal) / (signal @ signal)  # how much of the signal is left after the limit at 0.7
    noise = mixed / along - signal
    measured_db = 10 * np.log10(0.08 / np.mean(noise**2))
    assert measured_db == pytest.approx(snr_db, abs=0.5)
    assert np.abs(mixed).max() <= 0.7 + 1e-6


def test_an_echo_returns_three_times_each_weaker():
    """A click of 1 with echo 0.5 comes back as 0.5, 0.25 and 0.125, 30 to 60 ms a reflection; the noise is 100 dB down."""
    click = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    click[0] = 1
    heard = add_room(click, np.random.default_rng(0), snr_db=100, echo=0.5)
    heard /= heard[0]  # the limiter has scaled it
    at = np.flatnonzero(heard > 0.01)
    np.testing.assert_allclose(np.sort(heard[at])[::-1], [1, 0.5, 0.25, 0.125], atol=1e-3)
    assert at[1] >= 0.03 * SAMPLE_RATE_HZ and at[-1] <= 0.18 * SAMPLE_RATE_HZ


def test_the_room_depends_on_its_generator_alone():
    signal = np.sin(np.arange(4_000) / 10).astype(np.float32)
    same = [add_room(signal, np.random.default_rng(3), 10, 0.2) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], add_room(signal, np.random.default_rng(4), 10, 0.2))
