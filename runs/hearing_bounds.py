"""How sure a Whisper is of speech and of noise: the figures behind the bounds in `asum_lib.models.recognize`.

    python runs/hearing_bounds.py MANIFEST --split dev --asr FOLDER

A line a kind: how many windows, the mean log-probability of their words at the lowest, 1st, 50th and 99th percentile and the
highest, and the range of the probability that nobody speaks. The noise is made here: white, brown, swelling as of traffic,
mains hum, clicks and a melody, at three levels, windows of 2, 5 and 30 s, four times. About ten minutes on a free core with tiny.en.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from asum_lib.corpora import load_corpus
from asum_lib.corpora.audio import read_audio
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.models import adapted
from asum_lib.models.recognize import Heard, recognize

LEVELS = (0.001, 0.01, 0.05)  # of full scale
LENGTHS_S = (2, 5, 30)
SEEDS = 4
PERCENTILES = (0, 1, 50, 99, 100)


def noises(rng) -> Iterator[np.ndarray]:
    """Half a minute of each kind of noise."""
    time_s = np.arange(30 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for level in LEVELS:
        white = rng.normal(0, level, len(time_s))
        brown = np.cumsum(white) - np.convolve(np.cumsum(white), np.ones(800) / 800, "same")
        yield white
        yield brown / np.abs(brown).max() * 5 * level
        yield white * 10 ** (np.sin(2 * np.pi * time_s / 3) * 8 / 20)
    quiet = rng.normal(0, LEVELS[0], len(time_s))
    for hum_hz in (50, 60, 440):
        yield 0.05 * np.sin(2 * np.pi * hum_hz * time_s) + quiet
    clicks = quiet.copy()
    clicks[rng.integers(0, len(clicks), 60)] = 0.5
    yield clicks
    tone_s = time_s[: 2 * SAMPLE_RATE_HZ]
    tones_hz = rng.choice([220, 262, 330, 392, 440, 523], 15)
    yield quiet + np.concatenate([0.1 * np.sin(2 * np.pi * hz * tone_s) * np.exp(-2 * tone_s) for hz in tones_hz])


def line(what: str, heard: list[Heard]) -> str:
    """The figures of one kind of sound; what got no words is not among them."""
    worded = [one for one in heard if one.text]
    logprobs = np.percentile([one.avg_logprob for one in worded], PERCENTILES).round(2)
    silent = [one.no_speech for one in worded if one.no_speech is not None]
    known = f"no_speech {min(silent):.2f} to {max(silent):.2f}" if silent else "no_speech unknown"
    return f"{what}: {len(worded)} of {len(heard)} windows with words, avg_logprob {' '.join(map(str, logprobs))}, {known}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", metavar="MANIFEST")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--asr", required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--first", type=int, default=69, metavar="N", help="utterances (default: 69)")
    options = parser.parse_args()
    speech = adapted.speech(options.asr, options.precision)
    most = speech.extractor.n_samples
    utterances = load_corpus(options.corpus, options.split).utterances[: options.first]
    spoken = [recognize(speech, [read_audio(one.audio)[:most]], 1)[0] for one in utterances]
    print(line(f"speech of {options.corpus} {options.split}", spoken), flush=True)
    sounds = [sound for seed in range(SEEDS) for sound in noises(np.random.default_rng(seed))]
    cut = [sound[: length_s * SAMPLE_RATE_HZ] for sound in sounds for length_s in LENGTHS_S]
    print(line("noise", [recognize(speech, [sound.astype(np.float32)], 1)[0] for sound in cut]))


if __name__ == "__main__":
    main()
