"""The steps from waveform to log-mel that the chapter works by hand, held against transformers' feature extractor and a real encoder."""

import numpy as np
import pytest

from asum_lib.teaching import log_mel


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return log_mel.utterance()[1]


@pytest.mark.parametrize(("hz", "mel"), [(0, 0), (440, 6.6), (1_000, 15), (4_000, 35.1638), (6_400, 42), (8_000, 45.2456)])
def test_mel_of_a_frequency_and_back(hz, mel):
    assert log_mel.hz_to_mel(hz) == pytest.approx(mel, abs=1e-4)
    assert log_mel.mel_to_hz(log_mel.hz_to_mel(hz)) == pytest.approx(hz)


def test_mel_of_many_frequencies():
    assert log_mel.hz_to_mel(np.array([440, 1_000])).tolist() == pytest.approx([6.6, 15])


def test_frames_are_centred_on_every_hop_and_mirrored_at_the_start():
    pieces = log_mel.frames(np.arange(1_000.0))
    assert pieces.shape == (6, 400)
    assert pieces[:, 200].tolist() == [0, 160, 320, 480, 640, 800]
    assert pieces[0, 199:202].tolist() == [1, 0, 1]


def test_a_tone_is_where_its_frequency_is():
    """440 Hz is the 11th of frequencies 40 Hz apart."""
    tone = np.cos(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    power = log_mel.power_spectra(log_mel.frames(tone))[50]
    assert power.shape == (201,)
    assert power.argmax() == 11
    assert log_mel.frequencies_hz()[11] == 440


def test_filters_are_transformers_and_each_has_area_one():
    from transformers import WhisperFeatureExtractor

    filters = log_mel.mel_filters()
    assert filters == pytest.approx(WhisperFeatureExtractor().mel_filters, abs=1e-12)
    assert 40 * filters[:, 40:].sum(axis=0) == pytest.approx(np.ones(40), abs=0.07)  # sampled every 40 Hz
    assert log_mel.centres_hz()[0] == pytest.approx(37.239, abs=1e-3)


def test_powers_of_the_page():
    assert log_mel.whisper_scale(np.array([100.0, 1.0, 0.0])).tolist() == [1.5, 1.0, -0.5]


def test_ours_and_theirs(samples):
    assert abs(log_mel.features(samples) - log_mel.whisper_features(samples)).max() < 1e-4


def test_ours_and_theirs_with_the_hop_and_window_of_the_mini_ladder(samples):
    theirs = log_mel.whisper_features(samples, ladder=True)
    assert theirs.shape == (80, 200)
    assert abs(log_mel.features(samples, 320, 4 * 16_000) - theirs).max() < 1e-4


def test_what_is_longer_than_the_window_is_cut():
    noise = np.random.default_rng(0).normal(size=31 * 16_000)
    assert log_mel.in_window(noise).tolist() == noise[: 30 * 16_000].tolist()
    assert abs(log_mel.features(noise) - log_mel.whisper_features(noise)).max() < 1e-4


def test_ten_times_as_loud_is_half_a_unit_more(samples):
    louder = log_mel.features(10 * samples.astype(float)) - log_mel.features(samples)
    assert louder == pytest.approx(np.full((80, 3_000), 0.5))


def test_lengths_of_the_page(samples):
    assert log_mel.encoder_lengths(log_mel.whisper_features(samples)) == (3_000, 3_000, 1_500)
    assert log_mel.encoder_lengths(log_mel.whisper_features(samples, ladder=True)) == (200, 200, 100)
    assert (log_mel.positions_of(30), log_mel.positions_of(4, 320)) == (1_500, 100)
    assert (log_mel.positions_of(2.5), log_mel.positions_of(2.5, 320)) == (125, 63)


def test_a_position_sees_five_frames():
    import torch

    encoder = log_mel._speech("tiny").model.get_encoder()
    values = torch.zeros(1, 80, 40, requires_grad=True)
    encoder.conv2(torch.nn.functional.gelu(encoder.conv1(values)))[0, :, 10].sum().backward()
    assert values.grad.abs().sum(dim=(0, 1)).nonzero().flatten().tolist() == [18, 19, 20, 21, 22]


def test_tokens_join_to_the_text():
    text, _ = log_mel.utterance()
    first, second, *pieces, last = log_mel.tokens(text)
    assert (first, second, last) == ("<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>")
    assert "".join(pieces) == text == "now spin the wheel gently"


def test_seventeen_filters_lie_above_a_telephones_edge():
    below = log_mel.frequencies_hz() <= 4_000
    assert (log_mel.mel_filters()[below].sum(axis=0) == 0).sum() == 17


def test_the_picture_says_what_is_in_it():
    data = log_mel.steps()
    assert data.features.shape == (80, 128)
    assert data.power.shape == (128, 201)
    shown = log_mel.plot_steps(data).data
    assert "Three pictures of “now spin the wheel gently”, 1.29 s." in shown
    assert "80 filters by 128 frames" in shown
