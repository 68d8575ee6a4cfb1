"""What is kept of a verification, and whether it still speaks of the records that are there. Which cells are measured is for `verify`.

`results/verified.json` holds the last verification of every table at scale mini; earlier ones are in the history of that file.
`check_covered` is what the book's page asks first: a table of the study that is not in it is an error there, not a gap.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from asum_lib import files, reading
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import all_tables, placing, records

SCHEMA = 3
FILE = "verified.json"
VERDICTS = ("same", "within", "drifted", "failed", "stale", "planned")  # planned: of a dry run, which measures nothing
MACHINE = ("git_commit", "git_dirty", "code_digest", "packages", "python", "os", "cpu", "threads", "accelerator", "driver")


@dataclass(frozen=True)
class Remeasured:
    """One cell measured again beside its record: the metric that is shown of it, in its unit. Null where there is no new value."""

    table: str
    record: str  # path relative to the folder that holds `results`
    verdict: str  # one of VERDICTS
    reason: str | None  # one line where the verdict needs it
    metric: str
    unit: str
    recorded: float
    lo: float  # what the new value is held against: the recorded interval, of a peak the widened range, of a count the count itself
    hi: float
    value: float | None
    items: int  # of the record
    counted: str  # what the items are: utterances, summaries, metrics of a corpus, figures of a memory cell
    differing: int | None  # items that are others now
    difference: float | None  # new minus recorded, paired by utterance or document
    difference_lo: float | None  # null where nothing is sampled, so that there is no interval
    difference_hi: float | None
    expected_s: float  # by the record's own times
    took_s: float | None


@dataclass(frozen=True)
class Mismatch:
    """A record whose own transcripts do not give what it says."""

    record: str
    reason: str


@dataclass(frozen=True)
class Covered:
    """What of a table a verification saw: every record of it, as it was, by the code as it was."""

    records: int
    records_sha256: str  # of the names and contents of all records of the table
    code_digest: str | None  # of what measures the table; null where it has no record


@dataclass(frozen=True)
class Verification:
    """One run of `asum verify`."""

    schema: int
    scale: str
    tables: list[str]
    seed: int  # of the sample
    command: str
    started_at: str
    finished_at: str
    machine: dict  # keys MACHINE
    rescored: dict[str, int]  # by table: records that were scored again
    covered: dict[str, Covered]  # by table
    mismatches: list[Mismatch]
    notes: list[str]  # what was not verified and why: missing and failed records, data that is not here
    cells: list[Remeasured]

    @property
    def holds(self) -> bool:
        """False on drift, failure or a mismatch, and where cells were measured again but none could be compared."""
        verdicts = [cell.verdict for cell in self.cells]
        compared = not verdicts or any(verdict in ("same", "within", "planned") for verdict in verdicts)
        return compared and not self.mismatches and not {"drifted", "failed"} & set(verdicts)


def shown(value: float, unit: str) -> str:
    """A value as the page and the command show it: MB (10^6 bytes) for bytes, else two decimals."""
    return f"{value / 1e6:,.1f}" if unit == "bytes" else f"{value:,.2f}"


def shown_unit(unit: str) -> str:
    return "MB" if unit == "bytes" else unit


def held_against(cell: Remeasured) -> str:
    """The recorded value, and what the new one is held against."""
    between = "exactly" if cell.lo == cell.hi else f"{shown(cell.lo, cell.unit)} to {shown(cell.hi, cell.unit)}"
    return f"{shown(cell.recorded, cell.unit)} ({between})"


def apart(cell: Remeasured) -> str:
    """New minus recorded, with its interval where there is one; empty where nothing was measured."""
    if cell.difference is None:
        return ""
    signed = [
        f"{'-' if value < 0 else '+'}{shown(abs(value), cell.unit)}"
        for value in (cell.difference, cell.difference_lo, cell.difference_hi)
        if value is not None
    ]
    return signed[0] + (f" ({signed[1]} to {signed[2]})" if len(signed) == 3 else "")


def by_table(verification: Verification) -> list[dict]:
    """One object a table: records scored again, cells measured again, and of these the number of each of `VERDICTS`."""
    counted = Counter((cell.table, cell.verdict) for cell in verification.cells)
    verdicts = {name: {verdict: counted[name, verdict] for verdict in VERDICTS} for name in verification.tables}
    return [
        {"table": name, "rescored": verification.rescored.get(name, 0), "measured": sum(found.values())} | found for name, found in verdicts.items()
    ]


def unseen(verification: Verification | None, results: Path = RESULTS) -> list[str]:
    """The study's tables that have records and are not in a verification: those of its scale, memory among them."""
    scale = verification.scale if verification else "mini"
    ours = [name for name in all_tables.kept(scale, results) if name in all_tables.names(scale)]
    covered = verification.covered if verification else {}
    return [name for name in ours if name not in covered and placing.paths(all_tables.folder(name, scale, results))]


def changed_since(verification: Verification, results: Path = RESULTS) -> list[str]:
    """The tables of which a record was added, changed or removed since they were verified."""
    there = all_tables.kept(verification.scale, results)
    now = {name: records_sha256(name, verification.scale, results) for name in verification.covered if name in there}
    return [name for name, known in verification.covered.items() if known.records_sha256 != now.get(name)]


def check_covered(results: Path = RESULTS) -> Verification:
    """The last verification; raises `InputError` where there is none, or a table of the study with records is not in it."""
    found = read(results)
    if missing := unseen(found, results):
        raise InputError(f"{Path(results) / FILE} does not cover {', '.join(missing)}: run `asum verify --scale mini`, which takes every table")
    if found is None:
        raise InputError(f"{Path(results) / FILE}: no such file, and no record to verify")
    return found


def records_sha256(table: str, scale: str, results: Path) -> str:
    """One hash of all records of a table: their names and contents."""
    whole = hashlib.sha256()
    folder = all_tables.folder(table, scale, results)
    for path in placing.paths(folder):
        whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def write(verification: Verification, results: Path = RESULTS) -> Path:
    """Keep the verification as `results/verified.json`, in place of the last one; written whole or not at all."""
    path = Path(results) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(verification), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    files.write_whole(path, text.encode())
    return path


def read(results: Path = RESULTS) -> Verification | None:
    """The last verification, None where there is none; raises `InputError` naming the key that is unknown or missing."""
    path = Path(results) / FILE
    if not path.is_file():
        return None
    data = reading.read_json(path)
    schema = data.get("schema", SCHEMA) if isinstance(data, dict) else SCHEMA
    if isinstance(schema, int) and schema < SCHEMA:
        raise InputError(f"{path}: written by an earlier version of asum verify (schema {schema}, this code reads {SCHEMA}): run asum verify again")
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema!r}, this code reads {SCHEMA}")
    records.check_keys(path, data, [field.name for field in fields(Verification)])
    records.check_keys(f"{path}: machine", data["machine"], MACHINE)
    for name, one in data["covered"].items():
        records.check_keys(f"{path}: covered: {name}", one, [field.name for field in fields(Covered)])
    for kind, key in ((Mismatch, "mismatches"), (Remeasured, "cells")):
        for entry in data[key]:
            records.check_keys(f"{path}: {key}", entry, [field.name for field in fields(kind)])
    cells = [Remeasured(**entry) for entry in data["cells"]]
    for cell in cells:
        choose(f"verdict in {path}", cell.verdict, VERDICTS)
    covered = {name: Covered(**one) for name, one in data["covered"].items()}
    return Verification(**data | {"cells": cells, "covered": covered, "mismatches": [Mismatch(**entry) for entry in data["mismatches"]]})


def as_markdown(verification: Verification) -> str:
    """A sentence on what was done, a table of the cells, and what was found wrong or left out."""
    verdicts = [cell.verdict for cell in verification.cells]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts) or "no cell measured"
    lines = [
        f"{'Holds' if verification.holds else 'Does not hold'}: scale {verification.scale}, sample seed {verification.seed}, {counted}; "
        f"{sum(verification.rescored.values())} records scored again, {len(verification.mismatches)} mismatches.",
        "",
        "| record | verdict | metric | recorded (held to) | now | difference (95 % interval) | others now | s (recorded) | why |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in verification.cells:
        now = "" if cell.value is None else shown(cell.value, cell.unit)
        differing = "" if cell.differing is None else f"{cell.differing} of {cell.items} {cell.counted}"
        took = f"{'' if cell.took_s is None else f'{cell.took_s:.0f} '}({cell.expected_s:.0f})"
        metric = f"{cell.metric}, {shown_unit(cell.unit)}"
        told = [cell.record, cell.verdict, metric, held_against(cell), now, apart(cell), differing, took, cell.reason or ""]
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in told) + " |")
    lines += [f"\nMismatch: {mismatch.record}: {mismatch.reason}" for mismatch in verification.mismatches]
    lines += [f"\nNote: {note}" for note in verification.notes]
    return "\n".join(lines)
