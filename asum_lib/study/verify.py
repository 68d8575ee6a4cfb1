"""Do the records still hold on this machine? `asum verify` scores all of them again and measures a sample of cells of every table again.

Scoring again needs no model: a record's own transcripts or summaries must give its value, its interval and its counts exactly.
That finds a changed scorer, normaliser or file. Measuring again runs whole cells, training included, into a temporary folder
and holds each new value against the record of the same seed:

- `same`: everything written or counted is equal, and so is the value;
- `within`: some of it differs, the new value lies in the recorded interval (of a measured peak, in its widened range);
- `drifted`: the new value lies outside of it, or equal transcripts gave another value;
- `failed`: the cell could not be measured here, with the reason;
- `stale`: the cell now asks for another configuration, corpus, checkpoint or metric than the record was made with, so the
  two values are not comparable. This is no drift; measuring the table anew mends it.

The paired difference (new minus recorded, with its 95 % interval) stands beside the verdict and does not move it. The last verification
is kept in `results/verified.json`; earlier ones are in the history of that file. What differs between speech, text, corpora and memory is
in `remeasure`, how the page looks is for `render_paper`.
"""

import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path

from asum_lib import files, reading
from asum_lib.corpora import texts
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import all_tables, corpora_table, learning_rates, memory_footprint, memory_table, records, tables, talk_cells, text_tables
from asum_lib.study.cells import MEMORY, SCALES
from asum_lib.study.remeasure import STALE, kind_of, rescore

SCHEMA = 2
FILE = "verified.json"
VERDICTS = ("same", "within", "drifted", "failed", "stale", "planned")  # planned: of a dry run, which measures nothing
MINUTES = 2.0  # what the sample costs by default, by the records' own times
MACHINE = ("git_commit", "git_dirty", "code_digest", "packages", "python", "os", "cpu", "threads", "accelerator", "driver")


class OlderSchema(InputError):
    """The kept verification was written by an earlier version of this module."""


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
    mismatches: list[Mismatch]
    notes: list[str]  # what was not verified and why: missing and failed records, data that is not here
    cells: list[Remeasured]

    @property
    def holds(self) -> bool:
        """False on drift, failure or a mismatch, and where cells were measured again but none could be compared."""
        verdicts = [cell.verdict for cell in self.cells]
        compared = not verdicts or any(verdict in ("same", "within", "planned") for verdict in verdicts)
        return compared and not self.mismatches and not {"drifted", "failed"} & set(verdicts)


def verify(
    table: str | None = None,
    *,
    cells: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    scale: str = "mini",
    results: Path = RESULTS,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Score every record of `table` (all tables by default) again, and measure a sample of its cells again.

    The sample is drawn by `sample` from `seed` (today's date as a number by default), up to `cells` cells or what takes
    `minutes` (`MINUTES` where neither is given). Cells that are in no grid are drawn only where their table is named.
    `dry_run` measures nothing: the sample comes back with the verdict `planned`. Nothing is written here (`write` does that).
    Raises `InputError` for an unknown table or scale, and where there is no record at all.
    """
    choose("scale", scale, SCALES)
    results = Path(results)
    where = records.provenance("asum verify", None, records.now())  # before: the code that is running now
    seed = int(datetime.now().strftime("%Y%m%d")) if seed is None else seed
    chosen = _tables(table, scale, results)
    found, mismatches, notes = _gather(chosen, scale, results)
    if not found and not mismatches:
        raise InputError(f"no record of {table or f'scale {scale!r}'} in {results}: there is nothing to verify; measure some cells first")

    progress(f"scoring {len(found)} records again")
    mismatches += [Mismatch(_name(path, results), reason) for path, record in found if (reason := rescore(path, record))]
    for mismatch in mismatches:
        progress(f"{mismatch.record}: {mismatch.reason}")

    # A record that contradicts itself is a fault already; there is no value to hold a new one against.
    broken = {mismatch.record for mismatch in mismatches}
    whole = [(path, record) for path, record in found if _name(path, results) not in broken]
    picked = sample(_candidates(whole, chosen, table is not None, scale, results, notes), cells, minutes, seed)
    total_s = sum(cost_s(record) for _, record in picked)
    progress(f"sample of {len(picked)} cells (seed {seed}), about {total_s:.0f} s by their records' times")

    measured = []
    for number, (path, record) in enumerate(picked, start=1):
        label = f"[{number}/{len(picked)}] {_name(path, results)}"
        if dry_run:
            measured.append(_entry(path, record, results, "planned"))
        else:
            progress(f"{label}: measuring, about {cost_s(record):.0f} s")
            measured.append(_measure_again(path, record, results))
        progress(f"{label}: {_said(measured[-1])}")

    stale = sum(entry.verdict == "stale" for entry in measured)
    if stale:
        notes.append(f"{stale} of {len(measured)} sampled records are stale: measure them anew with their commands")
    command = f"asum verify{f' {table}' if table else ''} --scale {scale} --seed {seed}"
    command += f"{f' --cells {cells}' if cells is not None else ''}{f' --minutes {minutes:g}' if minutes is not None else ''}"
    return Verification(
        schema=SCHEMA,
        scale=scale,
        tables=chosen,
        seed=seed,
        command=command,
        started_at=where["started_at"],
        finished_at=records.now(),
        machine={key: where[key] for key in MACHINE},
        rescored={name: sum(record.table == name and kind_of(record).has_scores(record) for _, record in found) for name in chosen},
        mismatches=mismatches,
        notes=notes,
        cells=measured,
    )


def sample(found: list[tuple[Path, records.Record]], cells: int | None, minutes: float | None, seed: int) -> list[tuple[Path, records.Record]]:
    """A random choice of records, stratified: of every table cells without and with training (of memory: accounted and measured), as many as fit.

    Each stratum gives one cell first, whatever the budget: a random one that takes at most its equal share of the time, or
    else its cheapest. Then the strata give in turn what still fits, until `cells` are chosen or nothing fits. `minutes` is
    `MINUTES` where neither limit is given. The same records, limits and seed give the same choice.
    """
    budget_s = 60 * (MINUTES if minutes is None and cells is None else float("inf") if minutes is None else minutes)
    most = len(found) if cells is None else cells
    chance = random.Random(seed)
    strata: dict[tuple, list] = {}
    for path, record in found:
        strata.setdefault((record.table, kind_of(record).stratum(record)), []).append((path, record))
    for stratum in strata.values():
        stratum.sort(key=lambda entry: str(entry[0]))
        chance.shuffle(stratum)

    picked, spent_s = [], 0.0
    for stratum in strata.values():
        if len(picked) < most:
            share = [entry for entry in stratum if cost_s(entry[1]) <= budget_s / len(strata)]
            entry = share[0] if share else min(stratum, key=lambda entry: cost_s(entry[1]))
            stratum.remove(entry)
            picked.append(entry)
            spent_s += cost_s(entry[1])
    growing = True
    while growing and len(picked) < most:
        growing = False
        for stratum in strata.values():
            entry = next((entry for entry in stratum if spent_s + cost_s(entry[1]) <= budget_s), None)
            if entry and len(picked) < most:
                stratum.remove(entry)
                picked.append(entry)
                spent_s += cost_s(entry[1])
                growing = True
    return picked


def cost_s(record: records.Record) -> float:
    """Seconds that measuring the cell takes, by what its record says."""
    return kind_of(record).cost_s(record)


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


def write(verification: Verification, results: Path = RESULTS) -> Path:
    """Keep the verification as `results/verified.json`, in place of the last one; written whole or not at all."""
    path = Path(results) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(verification), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    files.write_whole(path, text.encode())
    return path


def read(results: Path = RESULTS) -> Verification | None:
    """The last verification, None where there is none; raises `InputError` naming the key that is unknown or missing.

    `OlderSchema`, an `InputError` too, is for a file that an earlier version has written: it is well, and says less than this one asks.
    """
    path = Path(results) / FILE
    if not path.is_file():
        return None
    data = reading.read_json(path)
    schema = data.get("schema", SCHEMA) if isinstance(data, dict) else SCHEMA
    if isinstance(schema, int) and schema < SCHEMA:
        raise OlderSchema(f"{path}: written by an earlier version of asum verify (schema {schema}, this code reads {SCHEMA}): run asum verify again")
    if schema != SCHEMA:
        raise InputError(f"{path}: schema {schema!r}, this code reads {SCHEMA}")
    records.check_keys(path, data, [field.name for field in fields(Verification)])
    records.check_keys(f"{path}: machine", data["machine"], MACHINE)
    for kind, key in ((Mismatch, "mismatches"), (Remeasured, "cells")):
        for entry in data[key]:
            records.check_keys(f"{path}: {key}", entry, [field.name for field in fields(kind)])
    cells = [Remeasured(**entry) for entry in data["cells"]]
    for cell in cells:
        choose(f"verdict in {path}", cell.verdict, VERDICTS)
    return Verification(**data | {"cells": cells, "mismatches": [Mismatch(**entry) for entry in data["mismatches"]]})


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


def _said(cell: Remeasured) -> str:
    """The verdict, the new value beside the recorded one, and the reason, in one line."""
    value = "" if cell.value is None else f", {cell.metric} {shown(cell.value, cell.unit)} {shown_unit(cell.unit)}, recorded {held_against(cell)}"
    return f"{cell.verdict}{value}{f' ({cell.reason})' if cell.reason else ''}"


def _tables(table: str | None, scale: str, results: Path) -> list[str]:
    """The table, or every one: those of the scale that have records of their own, memory at either scale, then others that have records."""
    folders = sorted(path.name for path in (results / scale).glob("*") if path.is_dir())
    known = list(dict.fromkeys([*(name for name in all_tables.names(scale) if name != text_tables.RANKS_TABLE), *folders]))
    return known if table is None else [choose("table", table, known)]


def _folder(table: str, scale: str, results: Path) -> Path:
    return results / (memory_footprint.SCALE if table == MEMORY else scale) / table


def _gather(chosen: list[str], scale: str, results: Path) -> tuple[list[tuple[Path, records.Record]], list[Mismatch], list[str]]:
    """(every measured record of the tables, the files that are no record, what is missing or not ok)."""
    found, broken, notes = [], [], []
    for name in chosen:
        paths = sorted(_folder(name, scale, results).rglob("*.json"))
        missing = len(_planned(name, scale, results).difference(paths))
        if missing:
            notes.append(f"{name}: {missing} planned records are missing")
        for path in paths:
            try:
                record = records.read(path)
            except InputError as error:
                broken.append(Mismatch(_name(path, results), str(error)))
                continue
            if record.status == "ok":
                found.append((path, record))
            else:
                notes.append(f"{name}: {path.stem} {record.status}: {record.reason}")
    return found, broken, notes


def _planned(table: str, scale: str, results: Path) -> set[Path]:
    """The paths of the planned records of a table; nothing where it has no grid. Memory of a GPU is not asked for: not every study has one."""
    splits = [corpora_table.Cell(corpora_table.TABLE, scale, corpus, split, None) for corpus in texts.NAMES for split in texts.SPLITS]
    grids = {
        MEMORY: memory_table.planned,
        corpora_table.TABLE: lambda: splits if scale == "mini" else [],
        learning_rates.LEARNING_RATES: lambda: learning_rates.planned_rates() if scale == "mini" else [],
    }
    grids |= {name: partial(talk_cells.planned_talks, name) for name in talk_cells.TABLES if scale == "mini"}
    grids |= {name: partial(tables.planned, name, scale) for name in tables.GRIDS[scale]}
    grids |= {name: partial(text_tables.planned_text, name, scale) for name in text_tables.table_names(scale) if name != text_tables.RANKS_TABLE}
    return {cell.path(results) for cell in grids[table]()} if table in grids else set()


def _candidates(found, chosen: list[str], named: bool, scale: str, results: Path, notes: list[str]) -> list[tuple[Path, records.Record]]:
    """The records whose cells can be measured again here; adds to `notes` what cannot."""
    candidates = []
    for name in chosen:
        of_table = [(path, record) for path, record in found if record.table == name]
        if not named:
            planned = _planned(name, scale, results)
            of_table = [(path, record) for path, record in of_table if path in planned]
        reasons = [kind_of(record).refused(record) for _, record in of_table]
        own = [entry for entry, reason in zip(of_table, reasons, strict=True) if not reason]
        notes += [f"{name}: not measured again, {reason}: {count}" for reason, count in Counter(filter(None, reasons)).items()]
        if own and (reason := _not_here(own)):
            notes.append(f"{name}: no cell measured again, {reason}")
        else:
            candidates += own
    return candidates


def _not_here(found: list[tuple[Path, records.Record]]) -> str | None:
    """Why the data of a table cannot be had on this machine; None where they can."""
    distinct = {(record.cell.get("corpus"), record.cell.get("split")): record for _, record in found}
    try:
        for record in distinct.values():
            kind_of(record).check_data(record)
    except InputError as error:
        return str(error)
    return None


def _measure_again(path: Path, record: records.Record, results: Path) -> Remeasured:
    kind, start = kind_of(record), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="asum-verify-") as folder:
        try:
            known = kind.fingerprint(record)
            if known not in (None, record.fingerprint):  # before what may take hours
                outcome = {"verdict": "stale", "reason": STALE}
            else:
                new_path, new = kind.measure(record, Path(folder))
                outcome = _outcome(path, record, new_path, new)
        except Exception as error:  # whatever keeps a cell from being measured is a finding, and the rest goes on
            outcome = {"verdict": "failed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        return _entry(path, record, results, **outcome, took_s=round(time.perf_counter() - start, 1))


def _outcome(path: Path, record: records.Record, new_path: Path, new: records.Record) -> dict:
    if new.status != "ok":
        return {"verdict": "failed", "reason": new.reason}
    if new.fingerprint != record.fingerprint:
        return {"verdict": "stale", "reason": STALE}
    return kind_of(record).compare(path, record, new_path, new)


def _entry(path: Path, record: records.Record, results: Path, verdict: str, reason: str | None = None, **measured) -> Remeasured:
    kind = kind_of(record)
    name = measured.get("metric") or kind.headline(record)
    metric = record.metrics[name]
    lo, hi = kind.bounds(name, metric)
    nothing = dict.fromkeys(("value", "differing", "difference", "difference_lo", "difference_hi", "took_s"))
    about = {"metric": name, "unit": metric.unit, "recorded": metric.value, "lo": lo, "hi": hi, "items": metric.n, "counted": kind.items}
    return Remeasured(
        table=record.table,
        record=_name(path, results),
        verdict=verdict,
        reason=reason,
        expected_s=round(cost_s(record), 1),
        **nothing | about | measured,
    )


def _name(path: Path, results: Path) -> str:
    return Path(os.path.relpath(path, results.parent)).as_posix()
