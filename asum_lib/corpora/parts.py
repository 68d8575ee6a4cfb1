"""A part of an audio file, which `containers` and `mpeg` find, as a file of its own."""

import io
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.paths import readable

SPARE_BYTES = 1_024  # some programs count the header too, or leave a few bytes at the end
PIECE_BYTES = 1 << 20


class AudioError(InputError):
    """Audio that cannot be used: `path: reason`, and `reason` alone for a list of faults."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{readable(path)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Part:
    """A stream of a file: its bytes from `start` to `stop`, after a `head` that stands for one."""

    start: int
    stop: int
    head: bytes = b""
    least_s: float = 0.0  # what it must at least decode to
    note: str = ""  # what a person should know of it


class Slice(io.RawIOBase):
    """A part of a file as a seekable file of its own."""

    def __init__(self, path: Path, part: Part):
        self._file, self._part, self._place = path.open("rb"), part, 0
        self._size = len(part.head) + part.stop - part.start

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer) -> int:
        head, size = self._part.head, min(len(buffer), max(0, self._size - self._place))
        data = head[self._place : self._place + size]
        if len(data) < size:
            self._file.seek(self._part.start + self._place + len(data) - len(head))
            data += self._file.read(size - len(data))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


class Bytes:
    """A file as if it were bytes, with a piece of it in memory.

    Not a memory map: that counts as memory of the process, and ends it where a file is cut meanwhile.
    """

    def __init__(self, file):
        self._file, self._from, self._held = file, 0, b""
        self._size = file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int | slice):
        if isinstance(place, int):
            return self[place : place + 1][0]
        start, stop, _ = place.indices(self._size)
        at = start - self._from
        if at < 0 or stop - self._from > len(self._held):
            self._file.seek(start)
            self._held, self._from, at = self._file.read(max(stop - start, PIECE_BYTES)), start, 0
        return self._held[at : at + stop - start]

    def find(self, mark: bytes, start: int = 0, stop: int | None = None) -> int:
        """Where the mark is first found, -1 for nowhere."""
        stop = self._size if stop is None else min(stop, self._size)
        while start < stop:
            end = min(stop, start + PIECE_BYTES)
            if (at := self[start:end].find(mark)) >= 0:
                return start + at
            start = end if end == stop else end - len(mark) + 1
        return -1


def after_id3(data, place: int) -> int:
    """The end of the ID3v2 tags that begin at `place`."""
    while data[place : place + 3] == b"ID3" and len(data) >= place + 10:
        size = 0
        for byte in data[place + 6 : place + 10]:
            size = size << 7 | byte & 127
        place += 10 + size + (10 if data[place + 5] & 16 else 0)
    return place
