"""Kaldi's files, as far as How2 is given out in them: text tables, lists of places (`.scp`), and matrices in archives (`.ark`).

A table is a line an item: its id, a space, and the rest. In `feats.scp` the rest is the place of a matrix, `file.ark:offset`, or a
file that is one matrix. There lie the bytes `\\0B`, a word for the kind, a space, and little-endian:

- `FM`, `DM`: rows and columns, each the byte 4 and an int32, then float32 or float64 values row by row;
- `CM`: least value and range (float32), rows and columns (int32), four uint16 a column, its 0th, 25th, 75th and 100th percentile as
  steps of 1/65,535 of the range, then a byte a value column by column: 0 to 64 between the first two, to 192 between the next, to 255;
- `CM2`, `CM3`: the same four numbers, then uint16 or bytes row by row, each a step of 1/65,535 or 1/255 of the range.

Sources: kaldi-asr/kaldi, `src/matrix/kaldi-matrix.cc`, `compressed-matrix.h` and `.cc`; "Kaldi I/O mechanisms" (kaldi-asr.org/doc/io.html).
A place that is a command (`gunzip -c x.ark |`) is refused: nothing that a file says is run. Text archives are refused too.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib import reading
from asum_lib.corpora.audio import AudioError
from asum_lib.errors import InputError

_DTYPES = {"FM": "<f4", "DM": "<f8", "CM": "u1", "CM2": "<u2", "CM3": "u1"}
_MOST_ROWS = 10_000_000  # over a day of frames: a header beyond that is no header
_MOST_COLUMNS = 100_000
_LARGEST_TABLE_BYTES = 500_000_000


class FeatureError(AudioError):
    """Features that cannot be used: `place: reason`, and `reason` alone for a list of faults."""


@dataclass(frozen=True)
class Header:
    """What is known of a matrix before its values are read."""

    kind: str  # a key of `_DTYPES`
    rows: int
    columns: int
    least: float  # of compressed kinds
    range: float
    start: int  # where the values begin in the file; of CM the percentiles

    @property
    def size_bytes(self) -> int:
        """Of the values, percentiles included."""
        return self.rows * self.columns * np.dtype(_DTYPES[self.kind]).itemsize + (8 * self.columns if self.kind == "CM" else 0)


def read_table(path: Path) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """({id: (line number, the rest)}, faults) of a text table; the rest may be empty. Faults are one line each, with the line's number."""
    rows, faults = {}, []
    try:
        data = reading.read_bytes(path, _LARGEST_TABLE_BYTES)
    except InputError as error:
        return {}, [str(error)]
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            identity, _, rest = raw.decode("utf-8").strip().partition(" ")
        except UnicodeDecodeError:
            faults.append(f"{path} line {number}: not UTF-8: save the file in UTF-8")
            continue
        if identity in rows:
            faults.append(f"{path} line {number}: id {identity!r} is that of line {rows[identity][0]} too: ids must differ")
        elif identity:
            rows[identity] = (number, rest.strip())
    if not rows and not faults:
        faults.append(f"{path}: is empty: lines of an id, a space and a text are needed")
    return rows, faults


def place(file: Path, offset: int) -> Path:
    """The place of a matrix as one path, as an `.scp` has it."""
    return Path(f"{file}:{offset}")


def file_and_offset(where: str | Path) -> tuple[Path, int]:
    """Of a place; a file without an offset is one matrix. Raises `FeatureError` for what would be a command or a range of rows."""
    text = str(where)
    if "|" in text:
        raise FeatureError(where, "is a command, and none is run: unpack the archive")
    if text.endswith("]"):
        raise FeatureError(where, "is a range of rows: whole matrices are read alone")
    match = re.fullmatch(r"(.+):(\d+)", text, flags=re.DOTALL)
    return (Path(match[1]), int(match[2])) if match else (Path(text), 0)


def read_header(where: str | Path) -> Header:
    """The header of the matrix at a place; raises `FeatureError` where there is none, or the file ends before its last value."""
    file, offset = file_and_offset(where)
    if file.exists() and not file.is_file():
        raise FeatureError(where, "is no regular file: an archive of Kaldi is needed")
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            found = _header(where, stream.read(64), offset)
            stream.seek(0, 2)
            if (there := stream.tell()) < found.start + found.size_bytes:
                missing = found.start + found.size_bytes - there
                raise FeatureError(where, f"is broken off: {missing} of {found.size_bytes} bytes are missing: copy it anew")
    except OSError as error:
        raise FeatureError(where, f"cannot be read ({error.strerror})") from None
    return found


def read_bytes(where: str | Path) -> bytes:
    """The values as they lie in the file."""
    header = read_header(where)
    with file_and_offset(where)[0].open("rb") as stream:
        stream.seek(header.start)
        return stream.read(header.size_bytes)


def read_matrix(where: str | Path) -> np.ndarray:
    """The matrix at a place, float32 of shape (rows, columns), all finite; raises `FeatureError`."""
    header = read_header(where)
    values = _decoded(header, read_bytes(where))
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise FeatureError(where, f"has a value in frame {row} that is no finite number (NaN or infinite)")
    return values


def _header(where: str | Path, data: bytes, offset: int) -> Header:
    if not data:
        raise FeatureError(where, "has no matrix there: the file ends before it")
    if not data.startswith(b"\0B"):
        raise FeatureError(where, "is no binary matrix of Kaldi: one begins with a zero byte and B")
    kind, space, rest = data[2:].partition(b" ")
    kind = kind.decode("ascii", errors="replace")
    if not space or kind not in _DTYPES:
        raise FeatureError(where, f"holds {kind!r:.20}, and a matrix is {', '.join(_DTYPES)}")
    compressed = kind.startswith("C")
    least = spread = 0.0
    if compressed:
        length, numbers = 16, np.frombuffer(rest[:16].ljust(16, b"\0"), "<f4", 2)
        least, spread = map(float, numbers)
        rows, columns = map(int, np.frombuffer(rest[8:16].ljust(8, b"\0"), "<i4"))
    else:
        length = 10
        if rest[:1] != b"\4" or rest[5:6] != b"\4":
            raise FeatureError(where, "has a header that is none of Kaldi's: its numbers are not of 4 bytes")
        rows, columns = (int(np.frombuffer(rest[start : start + 4].ljust(4, b"\0"), "<i4")[0]) for start in (1, 6))
    if not (0 < rows <= _MOST_ROWS and 0 < columns <= _MOST_COLUMNS):
        raise FeatureError(where, f"has {rows} rows and {columns} columns: at least one of each is needed, and a header that is whole")
    return Header(kind, rows, columns, least, spread, offset + 2 + len(kind) + 1 + length)


def _decoded(header: Header, data: bytes) -> np.ndarray:
    shape = (header.rows, header.columns)
    if header.kind in ("FM", "DM"):
        return np.frombuffer(data, _DTYPES[header.kind]).reshape(shape).astype(np.float32)
    if header.kind == "CM":
        return _by_percentiles(header, data)
    steps = 65_535 if header.kind == "CM2" else 255
    return (header.least + np.frombuffer(data, _DTYPES[header.kind]).reshape(shape).astype(np.float32) * np.float32(header.range / steps)).astype(
        np.float32
    )


def _by_percentiles(header: Header, data: bytes) -> np.ndarray:
    marks = np.frombuffer(data, "<u2", 4 * header.columns).reshape(header.columns, 4, 1).astype(np.float32)
    p0, p25, p75, p100 = np.moveaxis(header.least + marks * np.float32(header.range / 65_535), 1, 0)
    bytes_ = np.frombuffer(data, "u1", offset=8 * header.columns).reshape(header.columns, header.rows).astype(np.float32)
    low, middle, high = p0 + (p25 - p0) * bytes_ / 64, p25 + (p75 - p25) * (bytes_ - 64) / 128, p75 + (p100 - p75) * (bytes_ - 192) / 63
    return np.ascontiguousarray(np.where(bytes_ <= 64, low, np.where(bytes_ <= 192, middle, high)).T.astype(np.float32))
