"""Audio files as models want them: 16 kHz mono float32, whole (`read_audio`) or in pieces of bounded length (`windows`).

Whatever libsndfile reads goes through (WAV, FLAC, Ogg, MP3; any rate from 4 kHz up, any number of
channels), and what `ffmpeg` reads where that is installed. Channels are averaged; where two of them
cancel each other out, the loudest is taken, which is said; so is a constant offset, which is taken off. A file is decoded and resampled block by
block, which gives the same samples as in one go, bit for bit, so only what is asked for lies in
memory. Its length is what it decodes to, whatever its header says: `containers` finds the streams
of joined and chained files. Silence is audio like any other. What cannot be used raises
`AudioError`, an `InputError` that names the file: not there, empty, unreadable, broken off, without
samples, or with samples that are no finite numbers or far out of range.

What cannot be told is not found: a file that lost whole frames in its middle may be just shorter.
The `duration_s` of a manifest finds that.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.corpora import containers, ffmpeg
from asum_lib.corpora.parts import AudioError, Part, Slice
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.paths import readable

__all__ = ["AudioError", "cut_to", "duration_s", "is_audio", "read_audio", "samples_of", "usable", "windows"]

_BLOCK_SAMPLES = 1 << 18  # of all channels: some megabytes
_LOWEST_HZ, _HIGHEST_HZ = 4_000, 768_000  # below is no speech; a broken header may state 1 Hz, and 16,000 times the samples
_QUIET_S = 0.05  # on real speech, longer stretches miss pauses more often and shorter ones fall into the gap of a plosive
_SHORTEST_S = 0.1  # of a last piece
_UNKNOWN_FRAMES = 2**62  # a header that leaves the length open gives more than that
_ROUNDED_S = 0.02  # what a length may lose where a decoder leaves padding out
_HIGHEST = 10.0  # of a sample: full scale is 1, and float recordings may go some way beyond it
_OFFSET = 0.02  # of full scale: no file of this study's corpora has a mean above 0.009
_OFFSET_BELOW_HZ = 5.0
_FAINT = 0.01  # of full scale, a peak of -40 dB: models that know usual levels err, and below -75 dB all is silence
_PIECE_S = 1.0  # in which channels are looked at
_CANCELLED = 0.25  # of their power, what two channels keep in their sum where they cancel each other out
_HEARD = 10**-5.5  # mean square, -55 dB of full scale: below that channels are but noise

Say = Callable[[str], None]


def _silent(line: str) -> None:
    pass


def read_audio(path: Path) -> np.ndarray:
    """The whole file as 16 kHz mono float32, shape (n,), n > 0, all finite. Raises `AudioError`."""
    return np.concatenate(list(_blocks(path)))


def windows(path: Path, window_s: float) -> Iterator[np.ndarray]:
    """Consecutive pieces of at most `window_s` seconds that together are `read_audio(path)`, 16 kHz mono float32, shape (n,).

    A file of at most `window_s` is one piece. A longer one is cut at the quietest place of the last quarter of each window
    (the last such place, so that silence is cut late), and no piece is shorter than 0.1 s. At most two windows and a block
    lie in memory, however long the file is. Raises `AudioError`, for faults further in when it gets there.
    """
    yield from cut_to(samples_of(path), window_s)


def samples_of(path: Path, say: Say = _silent) -> Iterator[np.ndarray]:
    """The file block by block, 16 kHz mono float32; together they are `read_audio(path)`.

    What a person should know of it, such as channels that cancel each other out, goes to `say`.
    Raises `AudioError`.
    """
    return _blocks(path, say)


def cut_to(blocks: Iterable[np.ndarray], window_s: float) -> Iterator[np.ndarray]:
    """What `windows` gives of a file, of the blocks of its samples."""
    limit, shortest = round(window_s * SAMPLE_RATE_HZ), round(_SHORTEST_S * SAMPLE_RATE_HZ)
    if limit < 4 * shortest:
        raise ValueError(f"a window of {window_s} s is too short: {4 * _SHORTEST_S:g} s is the least")
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= limit + shortest:
            cut = _quietest(rest, limit * 3 // 4, limit)
            yield rest[:cut].copy()
            rest = rest[cut:]
    if len(rest) > limit:
        cut = _quietest(rest, limit * 3 // 4, min(limit, len(rest) - shortest))
        yield rest[:cut].copy()
        rest = rest[cut:]
    yield rest.copy()


def duration_s(path: Path, say: Say = _silent) -> float:
    """Seconds of audio in the file, by decoding all of it (a few thousand times faster than real time). Raises `AudioError`."""
    frames: dict[int, int] = {}
    for block, rate_hz in _decoded(path, say):
        frames[rate_hz] = frames.get(rate_hz, 0) + len(block)
    return sum(count / rate_hz for rate_hz, count in frames.items())


def usable(path: Path) -> str | None:
    """What is wrong with a path before anything of it is read; None where it is a regular file."""
    try:
        if path.is_dir():
            return "is a folder, not an audio file"
        if not path.exists():
            return "no such audio file"
        if not path.is_file():
            return "is no regular file (a pipe, a socket or a device): an audio file is needed"
        if not path.stat().st_size:
            return "is empty (0 bytes): copy the audio file anew"
        path.open("rb").close()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def is_audio(path: Path) -> bool:
    """Whether a regular file begins like audio that can be read, whatever its name is."""
    import soundfile

    if usable(path):
        return False
    if ffmpeg.known(path):
        return True
    try:
        with soundfile.SoundFile(Slice(path, Part(0, path.stat().st_size))):
            return True
    except (OSError, TypeError, soundfile.SoundFileError):
        return False


def _quietest(samples: np.ndarray, low: int, high: int) -> int:
    """The middle of the last of the quietest 50 ms stretches of samples[low:high], an index into `samples`."""
    width = min(round(_QUIET_S * SAMPLE_RATE_HZ), high - low)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[low:high], dtype=np.float64))])
    stretches = energy[width:] - energy[:-width]
    return low + len(stretches) - 1 - int(np.argmin(stretches[::-1])) + width // 2


def _blocks(path: Path, say: Say = _silent) -> Iterator[np.ndarray]:
    """The file at 16 kHz, block by block."""
    stream, stream_hz, count = None, SAMPLE_RATE_HZ, 0
    for block, rate_hz in _decoded(path, say):
        if rate_hz != stream_hz:  # at the start, or a file of several rates
            if stream is not None:
                rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
                count += len(rest)
                yield rest
            stream, stream_hz = None, rate_hz
        if rate_hz != SAMPLE_RATE_HZ:
            import soxr

            stream = stream or soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
            block = stream.resample_chunk(block)
        count += len(block)
        yield block
    if stream is not None:
        block = stream.resample_chunk(np.zeros(0, np.float32), last=True)
        count += len(block)
        yield block
    if not count:
        raise AudioError(path, "no samples at 16 kHz: audio of at least some milliseconds is needed")


def _decoded(path: Path, say: Say) -> Iterator[tuple[np.ndarray, int]]:
    """Mono float32 blocks of the file as it is, each with the rate in Hz; checks all that is promised in the module's docstring."""
    path = Path(path)
    if fault := usable(path):
        raise AudioError(path, fault)
    try:
        parts = containers.parts(path)
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror})") from None
    centred, mix, done_s, highest, empty = _Centred(path, say), _Downmix(path, say), 0.0, 0.0, True
    for number, part in enumerate(parts or [None], start=1):
        for block, rate_hz in _channels(path, part, done_s, say):
            if not _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ:
                needed = f"from {_LOWEST_HZ} to {_HIGHEST_HZ} is needed"
                raise AudioError(path, f"has a sample rate of {rate_hz} Hz: {needed}")
            _check(path, block, rate_hz, done_s)
            block = centred(block, rate_hz)
            highest = max(highest, float(np.abs(block).max()))
            yield mix(block, rate_hz), rate_hz
            done_s += len(block) / rate_hz
            empty = False
        if part and part.note:
            say(f"{readable(path)}: {part.note}")
        if number == len(parts) > 1:
            say(f"{readable(path)}: holds {number} recordings one after the other: all are read")
    if 0 < highest < _FAINT:
        say(f"{readable(path)}: is very quiet, no sample is above {highest:.2g} of full scale: amplify it if words are missing")
    if empty:
        raise AudioError(path, "has no samples (zero-length, or broken off): audio of at least some milliseconds is needed")


def _channels(path: Path, part: Part | None, before_s: float, say: Say) -> Iterator[tuple[np.ndarray, int]]:
    """(float32 of shape (frames, channels), rate in Hz) of a part of a file, or of a file of no known parts."""
    import soundfile

    known = part is not None
    whole = part is None or (part.start == 0 and not part.head and part.stop == path.stat().st_size)
    if part is None:  # without its name: libsndfile takes any text that is called .vox or .gsm for sound
        part = Part(0, path.stat().st_size)
    opened = os.fsencode(path) if whole and known else Slice(path, part)
    try:
        file = soundfile.SoundFile(opened)
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless audio (.raw), whose rate nobody knows
        if whole:
            yield from _by_ffmpeg(path, say)
            return
        raise AudioError(path, f"is broken somewhere after {before_s:.0f} s: copy it anew") from None
    with file:
        rate_hz, promised, done = file.samplerate, file.frames, 0
        if not known and file.format == "MP3":
            raise AudioError(path, "is MP3 whose length cannot be told: convert it to WAV or FLAC")
        if file.format == "MP3":  # whose own number counts padding, or is an estimate
            promised = 0
        if known:
            promised = max(promised, round((part.least_s - _ROUNDED_S) * rate_hz))
        frames = max(1, _BLOCK_SAMPLES // file.channels)
        while True:
            try:
                block = file.read(frames, dtype="float32", always_2d=True)
            except soundfile.SoundFileError:
                at_s = before_s + done / rate_hz
                raise AudioError(path, f"is broken somewhere after {at_s:.0f} s: copy it anew") from None
            if not len(block):
                break
            done += len(block)
            yield block, rate_hz
            if len(block) < frames:  # the end, or damage: soundfile would seek there, and read some of it again
                break
        if done < promised < _UNKNOWN_FRAMES:
            raise AudioError(path, f"is broken off: it should hold {promised / rate_hz:.1f} s, {done / rate_hz:.1f} s can be read: copy it anew")


def _by_ffmpeg(path: Path, say: Say) -> Iterator[tuple[np.ndarray, int]]:
    if not ffmpeg.known(path):
        raise AudioError(path, "is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed")
    if not ffmpeg.found():
        raise AudioError(path, "is of a kind that only ffmpeg reads, which is not on the PATH: install ffmpeg, or convert it to WAV or FLAC")
    yield from ffmpeg.blocks(path, _BLOCK_SAMPLES)
    if ffmpeg.has_second_track(path):
        say(f"{readable(path)}: holds several sound tracks, and the first is read: save another as a file of its own")


def _check(path: Path, block: np.ndarray, rate_hz: int, before_s: float) -> None:
    """Refuse samples that are no numbers, or on another scale."""
    peaks = np.abs(block).max(axis=1)
    if peaks.max() <= _HIGHEST:  # not so of NaN
        return
    first = int(np.argmin(peaks <= _HIGHEST))
    where_s = before_s + first / rate_hz
    if not np.isfinite(peaks[first]):
        raise AudioError(path, f"has a sample at {where_s:.3f} s that is no finite number (NaN or infinite): write it anew without")
    raise AudioError(
        path, f"has a sample of {peaks[first]:g} at {where_s:.3f} s, and full scale is 1: divide its samples, e.g. by 32768 where they were 16-bit"
    )


@dataclass
class _Centred:
    """Channels without a constant offset, which some recorders add: in pauses it would pass for sound."""

    path: Path
    say: Say
    state: np.ndarray | None = None  # of the filter, once an offset was found

    def __call__(self, block: np.ndarray, rate_hz: int) -> np.ndarray:
        offset = block.mean(axis=0, dtype=np.float64)
        if self.state is None:
            largest = float(offset[np.argmax(np.abs(offset))])
            if abs(largest) < _OFFSET or len(block) < _PIECE_S * rate_hz / 2:  # of some milliseconds the mean says nothing
                return block
            self.say(f"{readable(self.path)}: has a constant offset of {largest:.2f} of full scale, which is taken off")
        from scipy.signal import lfilter

        if self.state is None or self.state.shape[1] != block.shape[1]:
            self.state = -offset[None, :]
        kept = 1 - 2 * np.pi * _OFFSET_BELOW_HZ / rate_hz
        centred, self.state = lfilter([1, -1], [1, -kept], block, axis=0, zi=self.state)
        return centred.astype(np.float32)


@dataclass
class _Downmix:
    """The mean of all channels; where two cancel each other out, the loudest channel."""

    path: Path
    say: Say
    taken: int | None = None  # this channel, and not the mean, since the last piece that was heard
    said: bool = False

    def __call__(self, block: np.ndarray, rate_hz: int) -> np.ndarray:
        mono = block.mean(axis=1)
        if block.shape[1] > 1:
            width = round(_PIECE_S * rate_hz)
            for start in range(0, len(block), width):
                piece = block[start : start + width]
                self._choose(piece)
                if self.taken is not None:
                    mono[start : start + width] = piece[:, self.taken]
        return mono

    def _choose(self, piece: np.ndarray) -> None:
        products = (piece.T @ piece).astype(np.float64) / len(piece)
        power = np.diag(products)
        if self.taken is not None and self.taken >= len(power):
            self.taken = None
        if power.max() < _HEARD:
            return
        pairs = power[:, None] + power[None, :]
        kept = pairs + 2 * products
        if not ((kept < _CANCELLED * pairs) & (pairs > _CANCELLED * power.sum())).any():
            self.taken = None
            return
        if self.taken is None or power[self.taken] < power.max() / 2:
            self.taken = int(np.argmax(power))
        if not self.said:
            self.said = True
            which = f"channel {self.taken + 1} of {len(power)}, the loudest, is taken"
            self.say(f"{readable(self.path)}: its channels cancel each other out (opposite phase): {which}")
