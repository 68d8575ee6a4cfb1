"""What an audio file really holds: the streams in it, by its own frames, pages and chunks.

libsndfile takes the first stream of a file for all of it, estimates the length of an MP3 from its
first frame, and for some formats takes a file that was cut off for a shorter one. `parts` finds
every stream: of joined files (MP3, WAV, FLAC, ...), of chained Ogg, of an MP3 that changes its
rate. Each part can be opened as a file of its own, with a header that says its true length where
the file's own does not. What the file promises and does not hold is refused.

Ogg pages: RFC 3533. FLAC: RFC 9639. RF64: EBU Tech 3306.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asum_lib.corpora import mpeg
from asum_lib.corpora.parts import PIECE_BYTES, SPARE_BYTES, AudioError, Bytes, Part, after_id3

OPEN_ENDED_BYTES = 0x7FFF_F000  # a 32-bit size from here on was left open by who could not seek
_OPEN_ENDED_64 = 1 << 62
_MOST_PARTS = 10_000
_LONGEST_PAGE_S = 10  # of Ogg: what begins later began before


def parts(path: Path) -> list[Part]:
    """The streams of a regular file, in order; none where it is of no kind that is known here.

    Raises `AudioError` where more is promised than is there, or more is there than can be told.
    """
    found = list(itertools.islice(_parts(path), _MOST_PARTS + 1))
    if len(found) > _MOST_PARTS:
        raise AudioError(path, f"is more than {_MOST_PARTS} files in one: take it apart")
    return found


def _parts(path: Path) -> Iterator[Part]:
    with path.open("rb") as file:
        data = Bytes(file)
        start = after_id3(data, 0)
        magic = data[start : start + 16]
        for chunks in _CHUNKED:
            if magic.startswith(chunks.magic):
                yield from _chunked(path, data, start)
                return
        for known, read in _READERS.items():
            if magic.startswith(known):
                yield from read(path, data, start)
                return
        first = mpeg.first_frame(data, start) if mpeg.may_be_mp3(path, magic) else None
        if first is not None:
            yield from mpeg.streams(path, data, first)


# Chunks: WAV, AIFF, RF64, W64, CAF


@dataclass(frozen=True)
class _Chunks:
    """How a format lays out its chunks: an id, a size, and what it holds."""

    magic: bytes
    data: bytes  # the id of the chunk with the samples
    order: str = "little"
    id_bytes: int = 4
    size_bytes: int = 4
    counts_itself: bool = False  # the size is of id and size too
    header_bytes: int = 12  # of the form, before the first chunk
    align: int = 2
    skip_bytes: int = 0  # in the data chunk, before the samples
    open_ended: int = OPEN_ENDED_BYTES

    @property
    def before_bytes(self) -> int:
        return self.id_bytes + self.size_bytes


_W64 = "f3acd3118cd100c04f8edb8a"
_CHUNKED = (
    _Chunks(b"RIFF", b"data"),
    _Chunks(b"RIFX", b"data", order="big"),
    _Chunks(b"RF64", b"data"),
    _Chunks(b"BW64", b"data"),
    _Chunks(b"FORM", b"SSND", order="big", skip_bytes=8),
    _Chunks(
        bytes.fromhex("726966662e91cf11a5d628db04c10000"),
        b"data" + bytes.fromhex(_W64),
        id_bytes=16,
        size_bytes=8,
        counts_itself=True,
        header_bytes=40,
        align=8,
        open_ended=_OPEN_ENDED_64,
    ),
    _Chunks(
        b"caff",
        b"data",
        order="big",
        size_bytes=8,
        header_bytes=8,
        align=1,
        skip_bytes=4,
        open_ended=_OPEN_ENDED_64,
    ),
)


def _chunked(path: Path, data, start: int) -> Iterator[Part]:
    """The forms of a file one after the other, each with its samples whole."""
    while start < len(data):
        magic = data[start : start + 16]
        kind = next((chunks for chunks in _CHUNKED if magic.startswith(chunks.magic)), None)
        if kind is None:
            _refuse_more(path, data, start)
            return
        part, start = _form(path, data, start, kind)
        if part is None:
            return
        yield part


def _form(path: Path, data, start: int, kind: _Chunks) -> tuple[Part | None, int]:
    """(the form that begins at `start`, where it ends); no part where it has no samples."""
    place, found, long_bytes = start + kind.header_bytes, None, None
    while (chunk := _chunk(data, place, kind)) is not None:
        identity, size = chunk
        if identity == b"ds64" and size >= 16:
            inside = place + kind.before_bytes + 8
            long_bytes = int.from_bytes(data[inside : inside + 8], "little")
        body = place + kind.before_bytes
        if identity == kind.data and found is None:
            if size == 0xFFFF_FFFF and long_bytes:
                size = long_bytes
            found = place
            there = len(data) - body
            if size >= kind.open_ended or (size == 0 and _chunk(data, body, kind) is None):
                return _open_ended(data, start, place, kind), len(data)
            if size > there + SPARE_BYTES:
                raise AudioError(path, _missing(max(0, there - kind.skip_bytes), size))
        place = min(len(data), body + size)
        place += -(place - start) % kind.align
        if place > start + kind.header_bytes and _chunk(data, place, kind) is None and kind.align == 2:
            place -= bool(size % 2) and _chunk(data, place - 1, kind) is not None  # no padding
    if found is None:
        return None, len(data)
    return Part(start, min(place, len(data))), place


def _chunk(data, place: int, kind: _Chunks) -> tuple[bytes, int] | None:
    """(id, bytes of content) of the chunk at `place`; None where there is none, or a new form."""
    head = data[place : place + kind.before_bytes]
    if len(head) < kind.before_bytes or not re.match(rb"[A-Za-z0-9 ()\xa9_.-]{4}", head):
        return None
    if any(data[place : place + 16].startswith(chunks.magic) for chunks in _CHUNKED):
        return None
    size = int.from_bytes(head[kind.id_bytes :], kind.order)
    size -= kind.before_bytes if kind.counts_itself else 0
    if size < 0 or (head[: kind.id_bytes] != kind.data and size > len(data) - place):
        return None
    return head[: kind.id_bytes], size


def _open_ended(data, start: int, place: int, kind: _Chunks) -> Part:
    """The form as it is, but with the size of its samples, which go to the end of the file."""
    body = place + kind.before_bytes
    size = len(data) - body + (kind.before_bytes if kind.counts_itself else 0)
    if size >= 1 << 8 * kind.size_bytes and b"64" not in kind.magic:
        return Part(start, len(data))
    before = bytearray(data[start : place + kind.id_bytes])
    if kind.magic in (b"RF64", b"BW64") and (table := before.find(b"ds64")) > 0:
        long_sizes = struct.pack("<2Q", len(before) + 4 + size - 8, size)
        before[table + 8 : table + 24] = long_sizes
        return Part(body, len(data), bytes(before) + b"\xff" * 4)
    return Part(body, len(data), bytes(before) + size.to_bytes(kind.size_bytes, kind.order))


def _refuse_more(path: Path, data, place: int) -> None:
    """Bytes after the end that the header states: padding and a tag are none, the rest may be audio."""
    rest = len(data) - place
    if rest <= SPARE_BYTES or data[place : place + 3] in (b"TAG", b"ID3", b"LIS", b"id3"):
        return
    for start in range(place, len(data), PIECE_BYTES):
        if data[start : start + PIECE_BYTES].strip(b"\0"):
            raise AudioError(
                path,
                f"goes on for {rest} bytes after the end that its header states, which may be audio: write it anew",
            )


# AU


def _au(path: Path, data, start: int) -> Iterator[Part]:
    while data[start : start + 4] == b".snd" and len(data) >= start + 24:
        offset, size = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (4, 8))
        there = len(data) - start - offset
        if size == 0 or size >= OPEN_ENDED_BYTES:
            yield Part(start, len(data))
            return
        if size > there + SPARE_BYTES:
            raise AudioError(path, _missing(max(0, there), size))
        yield Part(start, min(len(data), start + offset + size))
        start += offset + size
    if start < len(data):
        _refuse_more(path, data, start)


def _missing(there: int, size: int) -> str:
    share = min(1 - there / size, 0.99 if there else 1)
    return f"is broken off: {share:.0%} of the audio that its header promises is missing: copy it anew"


# FLAC


def _flac(path: Path, data, start: int) -> Iterator[Part]:
    """Joined files each begin with the mark and a header of 34 bytes."""
    mark = b"fLaC\0\0\0\x22"
    while start < len(data):
        stop = data.find(mark, start + len(mark))
        stop = len(data) if stop < 0 else stop
        total = int.from_bytes(data[start + 21 : start + 26], "big") & 0xF_FFFF_FFFF
        yield Part(start, stop) if total else _flac_of_unknown_length(path, data, start, stop)
        start = stop


def _flac_of_unknown_length(path: Path, data, start: int, stop: int) -> Part:
    """Who wrote it could not seek back: the last frame says where it ends."""
    fixed = data[start + 4] & 0x7F == 0 and data[start + 8 : start + 10] == data[start + 10 : start + 12]
    block = int.from_bytes(data[start + 10 : start + 12], "big")
    place = len(data)
    tail = max(start, stop - PIECE_BYTES)
    held = data[tail:stop]
    while fixed and (place := held.rfind(b"\xff\xf8", 0, place)) >= 0:
        if (end := _flac_frame_end(held[place : place + 16], block)) is not None:
            info = bytearray(data[start : start + 42])
            info[21] |= end >> 32 & 15
            info[22:26] = (end & 0xFFFF_FFFF).to_bytes(4, "big")
            info[26:42] = bytes(16)  # no checksum: it was not known either
            return Part(start + 42, stop, bytes(info))
    raise AudioError(path, "is FLAC of unknown length: write it anew, e.g. with flac or ffmpeg")


def _flac_frame_end(head: bytes, block: int) -> int | None:
    """The sample after a frame of fixed block size, by its header; None where it is no header."""
    if len(head) < 6 or not (sizes := head[2] >> 4):
        return None
    width = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # bytes of the number, as in UTF-8
    if width in (2,) and head[4] < 0xC0:
        return None
    number = head[4] & (0x7F if width == 1 else 0xFF >> width + 1)
    for byte in head[5 : 4 + width]:
        number = number << 6 | byte & 63
    end = 4 + width
    samples = {1: 192, 2: 576, 3: 1_152, 4: 2_304, 5: 4_608}.get(sizes, 256 << max(0, sizes - 8))
    if sizes in (6, 7):
        samples = int.from_bytes(head[end : end + sizes - 5], "big") + 1
        end += sizes - 5
    end += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    return number * block + samples


def _crc8(data: bytes) -> int:
    found = 0
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found << 1 ^ (0x107 if found & 128 else 0)
    return found & 255


# Ogg


def _ogg(path: Path, data, start: int) -> Iterator[Part]:
    """The links of a chain: each begins with pages that say so, and its pages are numbered."""
    begin, place, last, sealed, in_data, ends = start, start, {}, False, False, []
    while place < len(data):
        head = data[place : place + 27]
        if len(head) < 27 or head[:5] != b"OggS\0":
            if not data[place : place + SPARE_BYTES + 1].strip(b"\0") or head[:3] == b"TAG":
                break  # padding, or a tag
            at = "its end is missing" if len(data) - place < 65_307 else "a page of it is missing"
            raise AudioError(path, f"is broken off: {at}: copy it anew")
        first, serial, number = head[5] & 2, head[14:18], int.from_bytes(head[18:22], "little")
        if first and in_data:
            if not sealed:
                raise AudioError(path, "is broken off: an end within it is missing: copy it anew")
            yield Part(begin, place, least_s=_ogg_s(data, begin, ends))
            begin, last, in_data, ends = place, {}, False, []
        if not first:
            in_data = True
            if serial in last and number != last[serial] + 1:
                raise AudioError(path, "is broken: a page in its middle is missing: copy it anew")
        last[serial] = number
        if (end := int.from_bytes(head[6:14], "little", signed=True)) > 0:
            ends.append(end)
        sealed = bool(head[5] & 4)
        place += 27 + head[26] + sum(data[place + 27 : place + 27 + head[26]])
    if place > len(data) or not sealed:
        raise AudioError(path, "is broken off: its end is missing: copy it anew")
    yield Part(begin, place, least_s=_ogg_s(data, begin, ends))


def _ogg_s(data, begin: int, ends: list[int]) -> float:
    """Seconds of a link by the positions that its pages end at; 0 for what is neither Vorbis nor Opus."""
    head = data[begin + 28 : begin + 28 + 16]
    if head[:7] == b"\x01vorbis":
        rate_hz, skipped = int.from_bytes(head[12:16], "little"), 0
    elif head[:8] == b"OpusHead":
        rate_hz, skipped = 48_000, int.from_bytes(head[10:12], "little")
    else:
        return 0.0
    if not ends or not rate_hz:
        return 0.0
    first = ends[0] if ends[0] > _LONGEST_PAGE_S * rate_hz else skipped  # else cut out of a longer stream
    return max(0, ends[-1] - first) / rate_hz


_READERS = {b"fLaC": _flac, b"OggS": _ogg, b".snd": _au}
