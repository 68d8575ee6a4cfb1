"""The rows of a data set's files: Parquet, Arrow as `save_to_disk` of `datasets` writes it, and the `metadata` of an AudioFolder.

A row is a mapping with `audio` (a struct with `bytes`, or with the `path` of a file), texts in
columns of `TEXTS`, and maybe an `id`. Rows are read a few at a time. Whatever is packed so tightly
that no recordings could be is refused before it is unpacked.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asum_lib import reading
from asum_lib.corpora.manifest import lines_of
from asum_lib.errors import InputError

TEXTS = ("text", "normalized_text", "raw_text", "transcription", "sentence", "transcript")
SPLIT_WORDS = {"train": "train", "training": "train", "dev": "dev", "validation": "dev"}
SPLIT_WORDS |= {"valid": "dev", "val": "dev", "test": "test", "eval": "test", "evaluation": "test"}
METADATA = ("metadata.csv", "metadata.jsonl")
MOST_FAULTS = 1_000
_BATCH_ROWS = 8
_TIGHT, _SMALL_BYTES = 50, 1 << 26  # recordings are not packed to a fiftieth
_LONGEST_CSV_FIELD = 1 << 20


@dataclass(frozen=True)
class Layout:
    """A data set on disk: its folder, its files by split (None: the names say none), and who wrote it so."""

    root: Path
    shards: dict[str | None, list[Path]]
    whole: bool = True  # all files of it, and not one that was named


def find(path: Path) -> Layout | None:
    """The layout that is in a folder, or of the file itself; None where it is none of those that are known."""
    if path.is_file() and (path.suffix in (".parquet", ".csv") or path.name in METADATA):
        return Layout(path.parent, {split_of(Path(path.name)): [path]}, whole=False)
    if not path.is_dir():
        return None
    if (path / "dataset_dict.json").is_file():
        shards: dict = {}
        for folder in sorted(inner for inner in path.iterdir() if (inner / "state.json").is_file()):
            split = SPLIT_WORDS.get(folder.name.lower())
            shards.setdefault(split, []).extend(_saved(folder)[1])
        return Layout(path, shards)
    if (path / "state.json").is_file():
        named, files = _saved(path)
        return Layout(path, {named: files})
    if metadata := [file for name in METADATA for file in (*path.glob(name), *path.glob(f"[!.]*/{name}"))]:
        return Layout(path, _by_split(path, sorted(metadata)))
    if parquet := sorted((*path.glob("[!.]*.parquet"), *path.glob("[!.]*/[!.]*.parquet"))):
        return Layout(path, _by_split(path, parquet))
    return None


def split_of(path: Path) -> str | None:
    """The split that the file's name says, else its folder's."""
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.removesuffix(".parquet").lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _by_split(root: Path, files: list[Path]) -> dict[str | None, list[Path]]:
    found: dict[str | None, list[Path]] = {}
    for file in files:
        found.setdefault(split_of(file.relative_to(root)), []).append(file)
    return found


def _saved(folder: Path) -> tuple[str | None, list[Path]]:
    """(split, Arrow files) of a folder that `Dataset.save_to_disk` wrote."""
    state = folder / "state.json"
    try:
        content = reading.read_json(state)
        names = [entry["filename"] for entry in content["_data_files"]]
        split = content.get("_split")
    except (InputError, KeyError, TypeError, AttributeError):
        raise InputError(f"{state}: is not what save_to_disk writes: save the data set anew") from None
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if wrong or not names:
        raise InputError(f"{state}: names no Arrow files of its folder: save the data set anew")
    return SPLIT_WORDS.get(str(split).lower()), [folder / name for name in names]


def columns_of(shard: Path) -> tuple[list[str] | None, str | None]:
    """(the columns to read, no fault) or (None, what is wrong with the file)."""
    if not shard.is_file():
        return None, "is missing: fetch or copy it too"
    if shard.suffix in (".csv", ".jsonl"):
        return _table_columns(shard)
    import pyarrow

    try:
        schema = _schema(shard)
        if shard.suffix == ".parquet" and (fault := too_tight(shard)):
            return None, fault
    except (pyarrow.ArrowException, OSError):
        kind = "Parquet" if shard.suffix == ".parquet" else "Arrow"
        return None, f"is no whole {kind} file: fetch or copy it anew"
    audio = schema.field("audio").type if "audio" in schema.names else None
    texts = [name for name in TEXTS if name in schema.names and _is_text(schema.field(name).type)]
    have, faults = ", ".join(schema.names), []
    if audio is None or not pyarrow.types.is_struct(audio) or audio.get_field_index("bytes") < 0:
        faults.append(f"has no audio column (a struct with bytes): it has {have}")
    if not texts:
        faults.append(f"has no text column ({', '.join(TEXTS)}): it has {have}")
    if faults:
        return None, ", and ".join(faults)
    return ["audio", *(["id"] if "id" in schema.names else []), *texts], None


def _schema(shard: Path):
    import pyarrow
    import pyarrow.parquet

    if shard.suffix == ".parquet":
        return pyarrow.parquet.read_schema(shard)
    with pyarrow.memory_map(str(shard)) as source, pyarrow.ipc.open_stream(source) as stream:
        return stream.schema


def _is_text(kind) -> bool:
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)


def too_tight(shard: Path) -> str | None:
    """What is wrong with a Parquet file that unpacks to far more than it is."""
    import pyarrow.parquet

    about = pyarrow.parquet.read_metadata(shard)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if size > _SMALL_BYTES and size > _TIGHT * shard.stat().st_size:
        times = size / shard.stat().st_size
        return f"unpacks to {times:,.0f} times its size, as no recordings or texts do: make it anew"
    return None


def _table_columns(shard: Path) -> tuple[list[str] | None, str | None]:
    try:
        first = next(_table_rows(shard), None)
    except InputError as error:
        return None, str(error).partition(": ")[2] or str(error)
    if first is None:
        return None, "has no rows: file_name and a text are needed on each"
    names = list(first[1])
    texts = [name for name in TEXTS if name in names]
    have = ", ".join(map(str, names))[:200]
    if "file_name" not in names:
        return None, f"has no column file_name: it has {have}"
    if not texts:
        return None, f"has no text column ({', '.join(TEXTS)}): it has {have}"
    return ["file_name", *(["id"] if "id" in names else []), *texts], None


def rows(root: Path, shards: list[Path], columns: dict, split: str, faults: list[str]) -> Iterator[tuple[str, dict]]:
    """Each row with its file and number, counted from 1, with a row group or two in memory; a file that breaks goes to `faults`."""
    import pyarrow

    for shard in shards:
        where, number = shard.relative_to(root), 0
        read = {".parquet": _parquet_rows, ".arrow": _arrow_rows}.get(shard.suffix, _metadata_rows)
        try:
            for number, row in read(root, shard, columns[shard], split):
                yield f"{where} row {number}", row
        except (pyarrow.ArrowException, OSError):
            faults.append(f"{where} is broken after row {number}: fetch or copy it anew")


def _parquet_rows(_root: Path, shard: Path, columns: list[str], _split: str) -> Iterator[tuple[int, dict]]:
    import pyarrow.parquet

    number = 0
    with pyarrow.parquet.ParquetFile(shard) as file:
        for group in range(file.num_row_groups):  # one iterator over all groups keeps what it has read
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


def _arrow_rows(_root: Path, shard: Path, columns: list[str], _split: str) -> Iterator[tuple[int, dict]]:
    import pyarrow

    number = 0
    with pyarrow.memory_map(str(shard)) as source, pyarrow.ipc.open_stream(source) as stream:
        for batch in stream:
            chosen = batch.select(columns)
            for start in range(0, len(chosen), _BATCH_ROWS):
                for row in chosen.slice(start, _BATCH_ROWS).to_pylist():
                    number += 1
                    yield number, row


def _metadata_rows(root: Path, shard: Path, columns: list[str], split: str) -> Iterator[tuple[int, dict]]:
    """The rows of a split: a file's folder says which, and where none says, all of it is test."""
    for number, row in _table_rows(shard):
        name = row.get("file_name")
        name = name if isinstance(name, str) else ""
        audio = shard.parent / name
        folder = audio.relative_to(root).parent if ".." not in audio.parts else Path()
        if (split_of(folder) or "test") != split:
            continue
        texts = {column: row.get(column) for column in columns if column != "file_name"}
        yield number, {"audio": {"bytes": None, "path": str(audio) if name else None}, **texts}


def _table_rows(shard: Path) -> Iterator[tuple[int, dict]]:
    """(number, mapping) of the rows of a CSV or JSON-lines file. Raises `InputError`."""
    data = lines_of(shard, "a table with file_name and a text")
    if shard.suffix == ".jsonl":
        for number, raw in enumerate(data, start=1):
            if not raw.strip():
                continue
            row = reading.json_of(raw, f"{shard}: line {number}")
            if not isinstance(row, dict):
                raise InputError(f"{shard}: line {number} is no JSON object: file_name and a text are needed")
            yield number, row
        return
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    try:
        table = csv.DictReader((raw.decode("utf-8") + "\n" for raw in data), strict=True)
        for number, row in enumerate(table, start=1):
            yield number, {key: value for key, value in row.items() if key}
    except UnicodeDecodeError:
        raise InputError(f"{shard}: is not UTF-8: save it in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{shard}: is not CSV ({error}): save it anew") from None
