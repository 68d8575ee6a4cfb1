"""The streams in an MP3, by counting its frames: its header only estimates its length, or is of one stream of several.

Sources: ISO/IEC 11172-3, 2.4.1.3, and 13818-3; the Xing, Info and VBRI frames as LAME and Fraunhofer write them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from asum_lib.corpora.parts import SPARE_BYTES, AudioError, Part, after_id3

_KBIT = {
    "1": (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    "2": (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    "3": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "1 of MPEG 2": (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    "2 and 3 of MPEG 2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SEARCHED_BYTES = 1 << 16  # for a first frame, and past what is no frame


@dataclass(frozen=True)
class _Frame:
    """What the four bytes of an MPEG audio header say."""

    size_bytes: int
    samples: int
    rate_hz: int
    channels: int
    layer: int
    version: int  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5

    @property
    def kind(self) -> tuple:
        """What stays the same within a stream."""
        return self.version, self.layer, self.rate_hz, self.channels


def may_be_mp3(path: Path, magic: bytes) -> bool:
    """By its first bytes, or by its name where a stream was cut out in the middle of a frame."""
    named = path.suffix.lower() in (".mp3", ".mp2", ".mpga")
    return named or frame_of(magic[:4]) is not None


@lru_cache(maxsize=1 << 12)  # a stream has a few headers, thousands of times
def frame_of(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rates, padding = _RATES_HZ.get(version), head[2] >> 1 & 1
    if rates is None or layer == 4 or head[2] >> 2 & 3 == 3 or head[2] >> 4 in (0, 15):
        return None
    rate_hz = rates[head[2] >> 2 & 3]
    table = str(layer) if version == 3 else "1 of MPEG 2" if layer == 1 else "2 and 3 of MPEG 2"
    bits = 1_000 * _KBIT[table][head[2] >> 4]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1_152
    size_bytes = samples // 8 * bits // rate_hz + padding
    if layer == 1:
        size_bytes = 4 * (12 * bits // rate_hz + padding)
    return _Frame(size_bytes, samples, rate_hz, 1 if head[3] >> 6 == 3 else 2, layer, version)


def first_frame(data, place: int) -> int | None:
    """Where the first of three frames in a row lies; None where none is near."""
    stop = min(len(data), place + _SEARCHED_BYTES)
    while (place := data.find(b"\xff", place, stop)) >= 0:
        at, kind = place, None
        for _ in range(3):
            frame = frame_of(data[at : at + 4])
            if frame is None or kind not in (None, frame.kind):
                break
            at, kind = at + frame.size_bytes, frame.kind
            if at >= len(data):
                return place
        else:
            return place
        place += 1
    return None


@dataclass
class _Stream:
    """An MP3 stream while its frames are counted."""

    start: int
    kind: tuple
    promised: int | None  # frames, by its first one
    frames: int = 0
    stop: int = 0


def streams(path: Path, data, place: int) -> Iterator[Part]:
    """The streams of an MP3, by counting frames: another kind of frame, and a header frame, begin one."""
    stream, done_s, cut = None, 0.0, False
    while place < len(data):
        frame = frame_of(data[place : place + 4])
        if frame is None:
            place = _past_tags(path, data, place, done_s)
            continue
        if cut := place + frame.size_bytes > len(data):
            break
        promised = _promised(data, place, frame)
        if stream is None or promised is not None or frame.kind != stream.kind:
            if stream is not None and stream.frames:
                yield _mp3_part(path, data, stream)
            stream = _Stream(place, frame.kind, promised)
        if promised is None:
            stream.frames += 1
            done_s += frame.samples / frame.rate_hz
        place += frame.size_bytes
        stream.stop = place
    if stream is not None and stream.frames:
        part = _mp3_part(path, data, stream)
        note = "ends within a frame of MP3: what came after it, if anything did, is missing"
        yield replace(part, note=note) if cut else part


def _promised(data, place: int, frame: _Frame) -> int | None:
    """The frames that a Xing, Info or VBRI frame announces (0: it does not say); None for audio."""
    if frame.layer != 3:
        return None
    side = place + 4 + _side_bytes(frame)
    mark = data[side : side + 12]
    if mark[:4] in (b"Xing", b"Info"):
        return int.from_bytes(mark[8:12], "big") if mark[7] & 1 else 0
    vbri = place + 36
    if data[vbri : vbri + 4] == b"VBRI":
        return int.from_bytes(data[vbri + 14 : vbri + 18], "big")
    return None


def _side_bytes(frame: _Frame) -> int:
    if frame.version == 3:
        return 17 if frame.channels == 1 else 32
    return 9 if frame.channels == 1 else 17


def _mp3_part(path: Path, data, stream: _Stream) -> Part:
    """A stream that starts with a header frame that is true as it is, another one with a new one."""
    first = frame_of(data[stream.start : stream.start + 4])
    announced = _promised(data, stream.start, first) is not None
    promised = stream.promised or 0
    per_frame = first.samples
    if promised > stream.frames + 1:
        should_s, there_s = (n * per_frame / first.rate_hz for n in (promised, stream.frames))
        raise AudioError(
            path,
            f"is broken off: it should hold {should_s:.1f} s, {there_s:.1f} s can be read: copy it anew",
        )
    least = max(0, stream.frames - 4) * per_frame / first.rate_hz  # the first and last may be partly padding
    if announced and abs(promised - stream.frames) <= 1 and data[stream.start + 36 : stream.start + 40] != b"VBRI":
        return Part(stream.start, stream.stop, b"", least)
    start = stream.start + (first.size_bytes if announced else 0)
    head = b"" if first.layer != 3 else _header_frame(data[start : start + 4], stream.frames)
    return Part(start, stream.stop, head, least)


def _header_frame(like: bytes, frames: int) -> bytes:
    """A Xing frame that announces `frames` frames like the one whose header is given."""
    head = bytes([like[0], like[1] | 1, like[2] & 0x0C | 0xE0, like[3]])
    frame = frame_of(head)
    mark = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return (head + bytes(_side_bytes(frame)) + mark).ljust(frame.size_bytes, b"\0")


def _past_tags(path: Path, data, place: int, done_s: float) -> int:
    """The next place with a frame, past tags and padding; what else is between frames is damage."""
    head = data[place : place + 32]
    if head[:3] == b"ID3":
        return after_id3(data, place)
    if head[:4] == b"TAG+":
        return place + 227
    if head[:3] == b"TAG":
        return place + 128
    if head[:8] == b"APETAGEX":
        size = int.from_bytes(head[12:16], "little")
        return place + 32 + (size if head[23] & 0x20 else 0)
    if head[:11] == b"LYRICSBEGIN":
        end = max(data.find(b"LYRICS200", place), data.find(b"LYRICSEND", place))
        return end + 9 if end > 0 else len(data)
    if head[:1] == b"\0":
        stop = place
        while stop < len(data) and not (piece := data[stop : stop + 4_096]).strip(b"\0"):
            stop += len(piece)
        if stop < len(data):
            piece = data[stop : stop + 4_096]
            stop += len(piece) - len(piece.lstrip(b"\0"))
        return stop
    if len(data) - place <= SPARE_BYTES:
        return len(data)
    raise AudioError(path, f"is broken somewhere after {done_s:.0f} s: copy it anew")
