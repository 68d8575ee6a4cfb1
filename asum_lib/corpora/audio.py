"""Audio files as models want them: 16 kHz mono float32, whole (`read_audio`) or in pieces of bounded length (`windows`).

Whatever libsndfile reads goes through (WAV, FLAC, Ogg, MP3; any rate from 4 kHz up, any number of channels, which are
averaged). A file is decoded and resampled block by block, which gives the same samples as in one go, bit for bit, so only
what is asked for lies in memory. Silence is audio like any other. What cannot be used raises `AudioError`, an `InputError`
that names the file: not there, empty, unreadable, broken off, without samples, or with samples that are no finite numbers.

What cannot be told is not found: an Ogg Opus or MP3 file that lost a piece of its middle is just shorter. The `duration_s`
of a manifest finds that.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError

_BLOCK_SAMPLES = 1 << 18  # of all channels: some megabytes
_LOWEST_HZ, _HIGHEST_HZ = 4_000, 768_000  # below is no speech; a broken header may state 1 Hz, and 16,000 times the samples
_QUIET_S = 0.05  # on real speech, longer stretches miss pauses more often and shorter ones fall into the gap of a plosive
_SHORTEST_S = 0.1  # of a last piece
_UNKNOWN_FRAMES = 2**62  # a header that leaves the length open gives more than that
_OPEN_ENDED_BYTES = 0x7FFF_F000  # the same in RIFF and AIFF, written by programs that could not seek back
_MISCOUNTED_BYTES = 1_024  # some programs count the header too


class AudioError(InputError):
    """Audio that cannot be used: `path: reason`, and `reason` alone for a list of faults."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def read_audio(path: Path) -> np.ndarray:
    """The whole file as 16 kHz mono float32, shape (n,), n > 0, all finite. Raises `AudioError`."""
    return np.concatenate(list(_blocks(path)))


def windows(path: Path, window_s: float) -> Iterator[np.ndarray]:
    """Consecutive pieces of at most `window_s` seconds that together are `read_audio(path)`, 16 kHz mono float32, shape (n,).

    A file of at most `window_s` is one piece. A longer one is cut at the quietest place of the last quarter of each window
    (the last such place, so that silence is cut late), and no piece is shorter than 0.1 s. At most two windows and a block
    lie in memory, however long the file is. Raises `AudioError`, for faults further in when it gets there.
    """
    yield from _cut(_blocks(path), window_s)


def cut_to(samples: np.ndarray, window_s: float) -> Iterator[np.ndarray]:
    """What `windows` gives of a file, of samples that are in memory."""
    yield from _cut([samples], window_s)


def samples_of(path: Path) -> Iterator[np.ndarray]:
    """The file block by block, 16 kHz mono float32; together they are `read_audio(path)`. Raises `AudioError`."""
    return _blocks(path)


def _cut(blocks: Iterable[np.ndarray], window_s: float) -> Iterator[np.ndarray]:
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


def duration_s(path: Path) -> float:
    """Seconds of audio in the file, by decoding all of it (a few thousand times faster than real time). Raises `AudioError`."""
    frames = 0
    for block, rate_hz in _decoded(path):
        frames, rate = frames + len(block), rate_hz
    return frames / rate


def _quietest(samples: np.ndarray, low: int, high: int) -> int:
    """The middle of the last of the quietest 50 ms stretches of samples[low:high], an index into `samples`."""
    width = min(round(_QUIET_S * SAMPLE_RATE_HZ), high - low)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[low:high], dtype=np.float64))])
    stretches = energy[width:] - energy[:-width]
    return low + len(stretches) - 1 - int(np.argmin(stretches[::-1])) + width // 2


def _blocks(path: Path) -> Iterator[np.ndarray]:
    """The file at 16 kHz, block by block."""
    stream, count = None, 0
    for block, rate_hz in _decoded(path):
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


def _decoded(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Mono float32 blocks of the file as it is, each with the rate in Hz; checks all that is promised in the module's docstring."""
    import soundfile

    path = Path(path)
    try:
        if not path.is_file():
            raise AudioError(path, "is a folder, not an audio file" if path.is_dir() else "no such audio file")
        if not path.stat().st_size:
            raise AudioError(path, "is empty (0 bytes): copy the audio file anew")
        path.open("rb").close()
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror})") from None
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless audio (.raw), whose rate nobody knows
        raise AudioError(path, "is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed") from None
    with file:
        rate_hz, promised, done, frames = file.samplerate, file.frames, 0, max(1, _BLOCK_SAMPLES // file.channels)
        if not _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ:
            raise AudioError(path, f"has a sample rate of {rate_hz} Hz: from {_LOWEST_HZ} to {_HIGHEST_HZ} is needed")
        if (lost := _lost(file.extra_info)) is not None:
            raise AudioError(path, f"is broken off: {lost:.0%} of the audio that its header promises is missing: copy it anew")
        if file.format == "OGG":
            whole, last_frame = _ogg_end(path)
            if not whole:
                raise AudioError(path, "is broken off: its end is missing: copy it anew")
            if file.subtype == "VORBIS":
                promised = max(promised, last_frame)
        while True:
            try:
                block = file.read(frames, dtype="float32", always_2d=True).mean(axis=1)
            except soundfile.SoundFileError:
                raise AudioError(path, f"is broken somewhere after {done / rate_hz:.0f} s: copy it anew") from None
            if not len(block):
                break
            finite = np.isfinite(block)
            if not finite.all():
                where_s = (done + int(np.argmin(finite))) / rate_hz
                raise AudioError(path, f"has a sample at {where_s:.3f} s that is no finite number (NaN or infinite): write it anew without")
            done += len(block)
            yield block, rate_hz
        if not done:
            raise AudioError(path, "has no samples (zero-length, or broken off): audio of at least some milliseconds is needed")
        if done < promised < _UNKNOWN_FRAMES and not (file.format == "MP3" and done > 0.99 * promised):  # MP3 headers only estimate
            raise AudioError(path, f"is broken off: it should hold {promised / rate_hz:.1f} s, {done / rate_hz:.1f} s can be read: copy it anew")


def _lost(header: str) -> float | None:
    """The missing share of a WAV or AIFF file, by libsndfile's log of its header; None where nothing is missing.

    For these formats libsndfile takes the size of the file for the truth, and only notes what the header says.
    """
    match = re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", header, flags=re.MULTILINE)
    if not match:
        return None
    promised, there = map(int, match.groups())
    return 1 - there / promised if there + _MISCOUNTED_BYTES < promised < _OPEN_ENDED_BYTES else None


def _ogg_end(path: Path) -> tuple[bool, int]:
    """Whether the last page of an Ogg file is marked as the end of the stream, and its position (for Vorbis, in frames).

    libsndfile takes the last page that it finds for the end, and a page that it cannot read, too.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * 65_307))  # twice the longest page: it holds the start of the last one
        tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    return len(page) >= 27 and bool(page[5] & 4), int.from_bytes(page[6:14], "little", signed=True)
