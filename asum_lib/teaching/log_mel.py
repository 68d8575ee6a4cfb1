"""From a waveform to what Whisper's encoder gets, in numpy, step by step: frames, power, mel filters, log, clipping, convolutions.

The study itself computes features with transformers' `WhisperFeatureExtractor` and keeps them with `asum_lib.corpora.features`;
`features` below does the same in numpy, a short function for each step, and is held against it. Samples are float in
[-1, 1] at 16 kHz.

    >>> hz_to_mel(440), round(hz_to_mel(4_000), 2)
    (6.6, 35.16)
    >>> frames_of(2.5), positions_of(2.5)
    (250, 125)
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from asum_lib.corpora import SAMPLE_RATE_HZ, howto
from asum_lib.teaching.worked import quiet

FRAME_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ
MEL_BINS = 80
UTTERANCE = "target-test-0002-3"


@dataclass(frozen=True)
class Steps:
    """One utterance on its way to log-mel features."""

    text: str
    samples: np.ndarray  # (samples,)
    loudest: int  # frame with the most power
    power: np.ndarray  # (frames, frequencies), of the frames that start within the utterance
    features: np.ndarray  # (mel bins, frames), the same frames of the padded window


def utterance(identity: str = UTTERANCE) -> tuple[str, np.ndarray]:
    """(text, samples) of one utterance of the corpus `howto`, spoken anew: the same on every machine."""
    take = next(take for take in howto.takes("target", "test") if take.id == identity)
    return take.text, howto.speak(take)


def hz_to_mel(hz: float | np.ndarray) -> float | np.ndarray:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1,000 Hz = 15 mel, then 27 mel for each factor of 6.4."""
    above = 15 + 27 * np.log(np.maximum(hz, 1_000) / 1_000) / np.log(6.4)
    mel = np.where(np.asarray(hz) < 1_000, 3 * np.asarray(hz) / 200, above)
    return mel if mel.ndim else float(mel)


def mel_to_hz(mel: float | np.ndarray) -> float | np.ndarray:
    """The inverse of `hz_to_mel`."""
    above = 1_000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27)
    hz = np.where(np.asarray(mel) < 15, 200 * np.asarray(mel) / 3, above)
    return hz if hz.ndim else float(hz)


def frequencies_hz() -> np.ndarray:
    """(201,) the frequencies of a frame's spectrum: 0 to 8,000 Hz, 40 Hz apart."""
    return np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)


def in_window(samples: np.ndarray, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """(window,) the samples with silence after them, or their beginning."""
    return np.pad(samples[:window_samples].astype(float), (0, max(0, window_samples - len(samples))))


def frames(samples: np.ndarray, hop_samples: int = HOP_SAMPLES) -> np.ndarray:
    """(samples // hop, 400) overlapping pieces, centred on every `hop_samples`-th sample; the ends are mirrored, as torch.stft does."""
    mirrored = np.pad(samples, FRAME_SAMPLES // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(mirrored, FRAME_SAMPLES)[::hop_samples][: len(samples) // hop_samples]


def power_spectra(pieces: np.ndarray) -> np.ndarray:
    """(frames, 201) squared magnitudes of the Fourier transforms of frames under a Hann window."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES)
    return np.abs(np.fft.rfft(pieces * window)) ** 2


@cache
def mel_filters(bins: int = MEL_BINS) -> np.ndarray:
    """(201, bins) triangles whose corners are evenly spaced in mel from 0 to 8,000 Hz, each of area 1 over its frequencies in Hz."""
    corners_hz = _corners_hz(bins)
    low, centre, high = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    hz = frequencies_hz()[:, None]
    return np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre))) * 2 / (high - low)


def centres_hz(bins: int = MEL_BINS) -> np.ndarray:
    """(bins,) where the filters of `mel_filters` have their peaks."""
    return _corners_hz(bins)[1:-1]


def whisper_scale(mel_power: np.ndarray) -> np.ndarray:
    """log10, cut 8 below its maximum (80 dB), then (x + 4) / 4: the values span at most 2. Radford et al. 2022, as released."""
    logarithm = np.log10(np.maximum(mel_power, 1e-10))
    return (np.maximum(logarithm, logarithm.max() - 8) + 4) / 4


def features(samples: np.ndarray, hop_samples: int = HOP_SAMPLES, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """(80, frames) log-mel features of one window, silence added or the end cut."""
    pieces = frames(in_window(samples, window_samples), hop_samples)
    mel_power = power_spectra(pieces) @ mel_filters()
    return whisper_scale(mel_power).T


def whisper_features(samples: np.ndarray, ladder: bool = False) -> np.ndarray:
    """(80, frames) by transformers' `WhisperFeatureExtractor`: of the real sizes, or of this study's `ladder`."""
    quiet()
    from transformers import WhisperFeatureExtractor

    from asum_lib.models import ladder as mini

    extractor = mini.extractor() if ladder else WhisperFeatureExtractor()
    return extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features[0]


def frames_of(duration_s: float, hop_samples: int = HOP_SAMPLES) -> int:
    """Frames whose centre lies within a duration."""
    return int(duration_s * SAMPLE_RATE_HZ) // hop_samples


def convolved(length: int, stride: int, kernel: int = 3, padding: int = 1) -> int:
    """Positions after a convolution over `length` positions."""
    return (length + 2 * padding - kernel) // stride + 1


def positions_of(duration_s: float, hop_samples: int = HOP_SAMPLES) -> int:
    """Encoder positions of a duration: two convolutions over 3 positions, the second of stride 2."""
    return convolved(convolved(frames_of(duration_s, hop_samples), stride=1), stride=2)


def encoder_lengths(values: np.ndarray, size: str = "tiny") -> tuple[int, int, int]:
    """(frames, positions after the first, after the second convolution) of features (80, frames), by a mini model's own convolutions."""
    import torch

    encoder = _speech(size).model.get_encoder()
    with torch.no_grad():
        first = encoder.conv1(torch.from_numpy(np.ascontiguousarray(values[None], dtype=np.float32)))
        second = encoder.conv2(torch.nn.functional.gelu(first))
    return values.shape[1], first.shape[-1], second.shape[-1]


def tokens(text: str, size: str = "tiny") -> list[str]:
    """The pieces that a mini model's decoder is to write for a text, special tokens included."""
    quiet()
    from asum_lib.models import ladder, loading

    tokenizer, _ = loading.load_parts(str(ladder.checkpoint(size)))
    return [tokenizer.decode([token]) for token in tokenizer(text).input_ids]


def steps(identity: str = UTTERANCE) -> Steps:
    """An utterance with its spectra and features, the padding left out."""
    text, samples = utterance(identity)
    count = frames_of(len(samples) / SAMPLE_RATE_HZ)
    power = power_spectra(frames(in_window(samples))[:count])
    return Steps(text, samples, int(power.sum(axis=1).argmax()), power, features(samples)[:, :count])


def plot_steps(data: Steps) -> object:
    """Waveform, spectrum of the loudest frame with the mel filters' centres, and log-mel features."""
    from asum_lib import figures

    figure, (wave, spectrum, image) = figures.subplots(rows=3, height_in=7)
    duration_s, at_s = len(data.samples) / SAMPLE_RATE_HZ, data.loudest * HOP_SAMPLES / SAMPLE_RATE_HZ
    frame_s = FRAME_SAMPLES / SAMPLE_RATE_HZ
    wave.plot(np.arange(len(data.samples)) / SAMPLE_RATE_HZ, data.samples, color=figures.COLOURS[0], linewidth=0.4)
    wave.axvspan(at_s - frame_s / 2, at_s + frame_s / 2, color=figures.COLOURS[3], alpha=0.6)
    wave.set(title=f"waveform: “{data.text}”", xlabel="time, s", ylabel="amplitude", xlim=(0, duration_s))
    decibel = 10 * np.log10(np.maximum(data.power[data.loudest], 1e-10))
    spectrum.plot(frequencies_hz(), decibel, color=figures.COLOURS[3], linewidth=1)
    spectrum.plot(centres_hz(), np.full(MEL_BINS, decibel.min()), "|", color=figures.COLOURS[7], markersize=8)
    spectrum.set(title="power spectrum of the marked frame; ticks: centres of the mel filters", xlabel="frequency, Hz", ylabel="dB", xlim=(0, 8_000))
    shown = image.imshow(data.features, origin="lower", aspect="auto", cmap="cividis", extent=(0, duration_s, 0, MEL_BINS))
    image.set(title="log-mel features", xlabel="time, s", ylabel="mel filter")
    image.grid(False)
    figure.colorbar(shown, ax=image, label="value", pad=0.01)
    peak_hz = frequencies_hz()[data.power[data.loudest].argmax()]
    return figures.show(
        figure,
        f"Three pictures of “{data.text}”, {duration_s:.2f} s. The waveform, a frame of 25 ms marked at {at_s:.2f} s. The power spectrum "
        f"of that frame, strongest at {peak_hz:.0f} Hz, with the centres of 80 mel filters, close together below 1,000 Hz and wide apart "
        f"above. The log-mel features, 80 filters by {data.features.shape[1]} frames, with values from {data.features.min():.2f} to "
        f"{data.features.max():.2f}.",
    )


def _corners_hz(bins: int) -> np.ndarray:
    return mel_to_hz(np.linspace(0, hz_to_mel(SAMPLE_RATE_HZ / 2), bins + 2))


@cache
def _speech(size: str):
    quiet()
    from asum_lib.models import ladder, loading

    return loading.load(str(ladder.checkpoint(size)), "fp32", scale="mini")
