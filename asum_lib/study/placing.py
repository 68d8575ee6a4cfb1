"""Which record belongs where: the one at the path that its cell gives, with a fingerprint of its own.

A table is gathered from files that anyone may have copied, renamed or edited. What does not agree with its place is named and
left out, so that a copy never counts as another seed. What is a user's own (a corpus, a model, fewer documents) has a digest
of its content in its cell, and so in its path: measurements of unlike content never share a file.
"""

import hashlib
import os
import sys
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from asum_lib.study.records import Record, canonical, read


def load(results, scale: str, table: str, *kinds: type) -> list[tuple[Path, Record]]:
    """The records of one table that lie where they belong, in the order of their file names; what is left out is said on stderr.

    `kinds` are the classes of the cells that the table can have, each with `path(results)`; see `sort`.
    """
    found = [(path, read(path)) for path in paths(Path(results) / scale / table)]
    kept, left_out = sort(found, results, *kinds)
    for path, reason in left_out:
        say_left_out(path, reason)
    return kept


def sort(found: list[tuple[Path, Record]], results, *kinds: type) -> tuple[list[tuple[Path, Record]], list[tuple[Path, str]]]:
    """(the records of a table that lie where they belong, the files that do not, each with the reason).

    A record belongs to the path that its cell gives, and no other has its fingerprint: a copy is no other seed.
    """
    kept, left_out = [], []
    for path, record in found:
        if reason := misplaced(path, record, results, *kinds):
            left_out.append((path, reason))
        else:
            kept.append((path, record))
    first: dict[str, Path] = {}
    for path, record in sorted(kept, key=lambda entry: (str(entry[1].cell.get("seed", "")).zfill(9), str(entry[0]))):
        if (other := first.setdefault(record.fingerprint, path)) != path:
            left_out.append((path, f"it has the fingerprint of {other.name}, and so is a copy of it"))
    copies = {path for path, _ in left_out}
    return [entry for entry in kept if entry[0] not in copies], left_out


def paths(folder: Path) -> list[Path]:
    """The JSON files in a folder of records and its subfolders, without those whose names begin with a dot."""
    found = (path for path in Path(folder).rglob("*.json") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def misplaced(path: Path, record: Record, results, *kinds: type) -> str | None:
    """Why a record cannot be what its path says; None where it can. Nothing is asked of tables whose cells have no class."""
    if not kinds:
        return None
    fitting = [kind for kind in kinds if set(record.cell) - set(ASKED) == {field.name for field in fields(kind)} - set(ASKED)]
    if not fitting:
        return f"its cell has the keys {', '.join(record.cell) or 'none'}, which are not those of this table"
    try:
        cell = fitting[0](**record.cell)
        belongs = cell.path(Path(results))
    except (TypeError, ValueError, AttributeError) as error:
        return f"its cell gives no path ({' '.join(str(error).split())[:80]})"
    if belongs != Path(path):
        return f"its cell is that of {os.path.relpath(belongs, results)}"
    if (record.table, record.scale) != (cell.table, cell.scale):
        return f"it says table {record.table} at scale {record.scale}, its cell {cell.table} at {cell.scale}"
    if type(record.cell.get("seed", 0)) is not int:
        return f"its seed {record.cell['seed']!r} is no whole number"
    seed = record.config.get("seed")
    if seed is not None and "seed" in record.cell and seed != record.cell["seed"]:
        return f"its cell has seed {record.cell['seed']}, its configuration {seed}"
    return None


def of_cell(cell, results) -> Record | None:
    """The record of a cell; None where there is none, or it is another cell's, which is said on stderr."""
    path = cell.path(Path(results))
    if not path.is_file():
        return None
    record = read(path)
    reason = misplaced(path, record, results, type(cell))
    if reason is None and record.cell != cell.as_dict():
        unlike = [key for key, value in cell.as_dict().items() if record.cell.get(key) != value]
        reason = f"its cell has another {' and '.join(unlike) or 'corpus or model'}"
    if reason:
        say_left_out(path, reason)
    return None if reason else record


@cache
def say_left_out(path: Path, reason: str) -> None:
    """Say once on stderr that a file is left out of its table, and why."""
    print(f"{path}: left out: {reason}", file=sys.stderr, flush=True)


ASKED = ("own", "language", "normalizer")  # fields of a cell that are in its record only where they have a value


def as_cell(cell) -> dict:
    """The fields of a cell as its record has them; `own` only where the corpus or the model is a user's own.

    Likewise `language` and `normalizer`, only where they were asked for.
    """
    return {key: value for key, value in asdict(cell).items() if key not in ASKED or value is not None}


def own_digest(data: dict, checkpoint: str | None, **more) -> str:
    """Ten letters that stand for the content of a user's own corpus and model: with them, records of unlike content never share a path."""
    return hashlib.sha256(canonical([data, checkpoint, more]).encode()).hexdigest()[:10]
