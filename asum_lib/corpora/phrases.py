"""A recording of any length as phrases: pieces between pauses that fit a model's window, each with its time.

`audio.windows` cuts where the window ends, which loses nothing and may cut through a sentence. Here a recording is cut where the speaker
pauses, and pauses are left out, so that a window holds what was said in one breath. What counts as a pause is told from the recording
itself: a level between its quiet and its loud parts, found anew for each minute. A phrase that is longer than the window is cut at its
quietest place, as `audio.windows` does. With `fill` neighbouring phrases share a window as long as they fit, which is right for a model
whose window is 30 s.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.corpora.audio import cut_to, samples_of
from asum_lib.corpora.speech import SAMPLE_RATE_HZ

PAUSE_S = 0.35
MARGIN_S = 0.1  # kept on both sides of a phrase
# Of speech: a click is none. Of 104 takes of the 26 shortest English words by eSpeak NG at 175 to 260 words
# a minute, the shortest is 0.12 s over the level that counts as speech ("if"), the median 0.28 s.
SHORTEST_S = 0.12
# Before the first sound, for models that know utterances that begin with it. Mini Whisper medium on 48 utterances of dev
# as eSpeak NG speaks them, with its quiet in front: WER 104 % as they are, and with 0, 0.02, 0.05 and 0.1 s of it 14, 6, 46 and 95 %.
ONSET_S = 0.02
LEAST_QUIET_S = 0.08  # of utterances that begin with their first sound, a start that was cut at its level would lose some of it
_CHUNK_S = 60
_SHORT_S = 5  # a remainder at the end that is shorter is held to the level of the minute before it
_HOP = SAMPLE_RATE_HZ // 100
_QUIET_PCT, _LOUD_PCT = 10, 95
_SHARE = 0.4  # of the way from quiet to loud, in dB, above which it is speech
_LEAST_CONTRAST_DB = 6  # below that nothing can be told apart: all is kept
_DEEPEST_DB = 50  # below the loud parts: digital silence is no quieter than that
_SILENCE_DB = -75  # of full scale: what never exceeds it is silence


@dataclass(frozen=True)
class Phrase:
    """A piece of a recording that starts `start_s` seconds after its beginning; 16 kHz mono float32, shape (n,)."""

    start_s: float
    samples: np.ndarray
    joined_s: tuple[tuple[float, float], ...] = ()  # (start, end) of the phrases that share it, where more than one do

    @property
    def phrases_s(self) -> tuple[tuple[float, float], ...]:
        """(start, end) of each phrase in it, seconds from the recording's beginning."""
        return self.joined_s or ((self.start_s, self.end_s),)

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / SAMPLE_RATE_HZ


def phrases(
    path: Path,
    window_s: float,
    fill: bool = False,
    read: Callable[[float], None] = lambda seconds: None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Phrase]:
    """The phrases of an audio file in order, each of at most `window_s`; none where all is silence. A minute or two lie in memory.

    `read` is told after each block how many seconds of the file are read, and `say` what a person should know of the file. Raises
    `audio.AudioError`, for faults further in when it gets there.
    """
    pieces = _cut(_speech(_told(samples_of(path, say), read)), window_s)
    return _filled(pieces, window_s) if fill else (piece for piece, _ in pieces)


def _told(blocks: Iterator[np.ndarray], read: Callable[[float], None]) -> Iterator[np.ndarray]:
    count = 0
    for block in blocks:
        count += len(block)
        read(count / SAMPLE_RATE_HZ)
        yield block


def _speech(blocks: Iterator[np.ndarray]) -> Iterator[tuple[Phrase, np.ndarray]]:
    """(phrase, the pause before it as samples) of any length up to about a minute."""
    rest, offset, before = np.zeros(0, np.float32), 0, np.zeros(0, np.float32)
    ended, usual_db = False, None
    while not ended:
        parts, length = [rest], len(rest)
        while length < _CHUNK_S * SAMPLE_RATE_HZ:
            block = next(blocks, None)
            if block is None:
                ended = True
                break
            parts.append(block)
            length += len(block)
        rest = np.concatenate(parts)
        done, level_db = 0, _levels_db(rest)
        if usual_db is None or len(rest) >= _SHORT_S * SAMPLE_RATE_HZ:
            usual_db = _threshold_db(level_db)
        for start, stop in _runs(level_db, usual_db, len(rest)):
            if not ended and stop >= len(rest) - round(PAUSE_S * SAMPLE_RATE_HZ) and start:
                break  # it may go on: it is looked at again, with what follows
            before = np.concatenate([before, rest[done:start]])
            yield Phrase((offset + start) / SAMPLE_RATE_HZ, rest[start:stop]), before
            before, done = np.zeros(0, np.float32), stop
        else:
            start = max(done, len(rest) - round(PAUSE_S * SAMPLE_RATE_HZ)) if not ended else len(rest)
        start = max(start, done)
        before = np.concatenate([before, rest[done:start]])[-_CHUNK_S * SAMPLE_RATE_HZ :]
        rest, offset = rest[start:], offset + start


def from_first_sound(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks of a recording without the quiet before its first sound, of which `ONSET_S` stays.

    All of it where the quiet is shorter than `LEAST_QUIET_S`, where the first minute is silent, and where nothing can be told apart there.
    """
    blocks, first = iter(blocks), np.zeros(0, np.float32)
    for block in blocks:
        first = np.concatenate([first, block])
        if len(first) >= _CHUNK_S * SAMPLE_RATE_HZ:
            break
    level_db = _levels_db(first)
    runs = _runs(level_db, _threshold_db(level_db), len(first), margin_s=0)
    start = runs[0][0] if runs else 0
    yield first[start - round(ONSET_S * SAMPLE_RATE_HZ) :] if start >= LEAST_QUIET_S * SAMPLE_RATE_HZ else first
    yield from blocks


def _levels_db(samples: np.ndarray) -> np.ndarray:
    """The level of each hundredth of a second, smoothed over five."""
    frames = len(samples) // _HOP
    if not frames:
        return np.zeros(0)
    power = np.square(samples[: frames * _HOP].reshape(frames, _HOP), dtype=np.float64).mean(axis=1)
    width = min(5, frames)
    return 10 * np.log10(np.convolve(power, np.full(width, 1 / width), mode="same") + 1e-12)


def _threshold_db(level_db: np.ndarray) -> float | None:
    """The level over which it is speech: None where all is silence, minus infinity where nothing can be told apart."""
    loud = np.percentile(level_db, _LOUD_PCT) if len(level_db) else -np.inf
    if loud < _SILENCE_DB:
        return None
    quiet = np.percentile(np.maximum(level_db, loud - _DEEPEST_DB), _QUIET_PCT)
    return -np.inf if loud - quiet < _LEAST_CONTRAST_DB else quiet + _SHARE * (loud - quiet)


def _runs(level_db: np.ndarray, threshold_db: float | None, count: int, margin_s: float = MARGIN_S) -> list[tuple[int, int]]:
    """(start, stop) of what lies between pauses in `count` samples of these levels, margins included."""
    if threshold_db is None or len(level_db) < 100 * SHORTEST_S:
        return []
    if threshold_db == -np.inf:
        return [(0, count)]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level_db > threshold_db, [0]]).astype(int)))
    runs: list[list[int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < 100 * PAUSE_S:
            runs[-1][1] = stop
        else:
            runs.append([start, stop])
    margin = round(margin_s * SAMPLE_RATE_HZ)
    spoken = [(start * _HOP, stop * _HOP) for start, stop in runs if stop - start >= 100 * SHORTEST_S]
    return [(max(0, start - margin), min(count, stop + margin)) for start, stop in spoken]


def _cut(pieces, window_s: float) -> Iterator[tuple[Phrase, np.ndarray]]:
    for phrase, before in pieces:
        start_s = phrase.start_s
        for samples in cut_to([phrase.samples], window_s):
            yield Phrase(start_s, samples), before
            start_s, before = start_s + len(samples) / SAMPLE_RATE_HZ, before[:0]


def _filled(pieces, window_s: float) -> Iterator[Phrase]:
    """Neighbours joined, with the pause between them, as long as they fit the window."""
    held: Phrase | None = None
    for phrase, before in pieces:
        if held is not None and phrase.end_s - held.start_s <= window_s:
            samples = np.concatenate([held.samples, before, phrase.samples])
            held = Phrase(held.start_s, samples, held.phrases_s + phrase.phrases_s)
            continue
        if held is not None:
            yield held
        held = phrase
    if held is not None:
        yield held
