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

The paired difference (new minus recorded, with its 95 % interval) stands beside the verdict and does not move it. What is
kept of it is for `verified`. What differs between speech, text, corpora and memory is in `remeasure`, how the page looks is for
`render_paper`.
"""

import hashlib
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS, cache
from asum_lib.study import all_tables, measuring_code, placing, records
from asum_lib.study.cells import SCALES
from asum_lib.study.remeasure import STALE, kind_of, rescore
from asum_lib.study.rescoring import cells_of
from asum_lib.study.verified import (
    MACHINE,
    SCHEMA,
    Covered,
    Mismatch,
    Remeasured,
    Verification,
    held_against,
    records_sha256,
    shown,
    shown_unit,
)

MINUTES = 2.0  # what the sample costs by default, by the records' own times


def verify(
    table: str | None = None,
    *,
    cells: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    scale: str = "mini",
    results: Path = RESULTS,
    dry_run: bool = False,
    resume: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Score every record of `table` (all tables by default) again, and measure a sample of its cells again.

    The sample is drawn by `sample` from `seed` (today's date as a number by default), up to `cells` cells or what takes
    `minutes` (`MINUTES` where neither is given). Cells that are in no grid are drawn only where their table is named.
    `dry_run` measures nothing: the sample comes back with the verdict `planned`. Nothing is written here (`write` does that), but for
    what `resume` needs: with it, every measured cell is noted in the cache, so that the same verification, killed and begun again on
    the same records and code, goes on after the last one.
    Raises `InputError` for an unknown table or scale, and where there is no record at all.
    """
    choose("scale", scale, SCALES)
    results = Path(results)
    where = records.provenance("asum verify", None, records.now())  # before: the code that is running now
    seed = int(datetime.now().strftime("%Y%m%d")) if seed is None else seed
    known = all_tables.kept(scale, results)
    chosen = known if table is None else [choose("table", table, known)]
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

    command = f"asum verify{f' {table}' if table else ''} --scale {scale} --seed {seed}"
    command += f"{f' --cells {cells}' if cells is not None else ''}{f' --minutes {minutes:g}' if minutes is not None else ''}"
    covered = {name: _covered(name, scale, results, found) for name in chosen if placing.paths(all_tables.folder(name, scale, results))}
    log = _log(command, results, covered) if resume and not dry_run else None
    before = _noted(log)
    measured = []
    for number, (path, record) in enumerate(picked, start=1):
        label = f"[{number}/{len(picked)}] {_name(path, results)}"
        if dry_run:
            measured.append(_entry(path, record, results, "planned"))
        elif _name(path, results) in before:
            measured.append(before[_name(path, results)])
            label += " (measured before the stop)"
        else:
            progress(f"{label}: measuring, about {cost_s(record):.0f} s")
            measured.append(_measure_again(path, record, results))
            _note(log, measured[-1])
        progress(f"{label}: {_said(measured[-1])}")

    stale = sum(entry.verdict == "stale" for entry in measured)
    if stale:
        notes.append(f"{stale} of {len(measured)} sampled records are stale: measure them anew with their commands")
    if log:
        log.unlink(missing_ok=True)
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
        covered=covered,
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


def _covered(table: str, scale: str, results: Path, found) -> Covered:
    of_table = [record for _, record in found if record.table == table]
    code = measuring_code.digest(kind_of(of_table[0]).module) if of_table else None
    return Covered(len(of_table), records_sha256(table, scale, results), code)


def _log(command: str, results: Path, covered: dict[str, Covered]) -> Path:
    """Where the cells of this very verification are noted: same command, records, code and libraries."""
    key = [command, str(Path(results).resolve()), {name: asdict(one) for name, one in covered.items()}, records.packages()]
    return cache() / "verify" / f"{hashlib.sha256(records.canonical(key).encode()).hexdigest()[:16]}.jsonl"


def _noted(log: Path | None) -> dict[str, Remeasured]:
    """{record: what was measured} of a verification that was stopped; a line that the stop has cut is left out."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log and log.is_file() else ():
        try:
            cell = Remeasured(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[cell.record] = cell
    return found


def _note(log: Path | None, cell: Remeasured) -> None:
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell), ensure_ascii=False) + "\n")


def _said(cell: Remeasured) -> str:
    """The verdict, the new value beside the recorded one, and the reason, in one line."""
    value = "" if cell.value is None else f", {cell.metric} {shown(cell.value, cell.unit)} {shown_unit(cell.unit)}, recorded {held_against(cell)}"
    return f"{cell.verdict}{value}{f' ({cell.reason})' if cell.reason else ''}"


def _gather(chosen: list[str], scale: str, results: Path) -> tuple[list[tuple[Path, records.Record]], list[Mismatch], list[str]]:
    """(every measured record of the tables, the files that are no record, what is missing or not ok)."""
    found, broken, notes = [], [], []
    for name in chosen:
        paths = placing.paths(all_tables.folder(name, scale, results))
        planned = all_tables.planned(name, scale, results)
        missing = len(planned.difference(paths))
        if missing:
            notes.append(f"{name}: {missing} planned records are missing")
        there = []
        for path in paths:
            try:
                there.append((path, records.read(path)))
            except InputError as error:
                broken.append(Mismatch(_name(path, results), str(error)))
        there, left_out = placing.sort(there, results, *cells_of(name))
        broken += [Mismatch(_name(path, results), f"left out of its table: {reason}") for path, reason in left_out]
        for path, record in there:
            if planned and path not in planned and _is_another(record):
                broken.append(Mismatch(_name(path, results), f"beside the plan, and {STALE}: it is stale, or a copy"))
            elif record.status == "ok":
                found.append((path, record))
            else:
                notes.append(f"{name}: {path.stem} {record.status}: {record.reason}")
    return found, broken, notes


def _is_another(record: records.Record) -> bool:
    """Whether a record has another fingerprint than its cell asks for; False where that cannot be told here."""
    kind = kind_of(record)
    if record.status != "ok" or kind.refused(record):
        return False
    try:
        return kind.fingerprint(record) not in (None, record.fingerprint)
    except InputError:  # its data are not here
        return False


def _candidates(found, chosen: list[str], named: bool, scale: str, results: Path, notes: list[str]) -> list[tuple[Path, records.Record]]:
    """The records whose cells can be measured again here; adds to `notes` what cannot."""
    candidates = []
    for name in chosen:
        of_table = [(path, record) for path, record in found if record.table == name]
        if not named:
            planned = all_tables.planned(name, scale, results)
            of_table = [(path, record) for path, record in of_table if path in planned]
        reasons = [kind_of(record).refused(record) for _, record in of_table]
        own = [entry for entry, reason in zip(of_table, reasons, strict=True) if not reason]
        if own and not named and (apart := kind_of(own[0][1]).when_named):
            cost = f"about {min(cost_s(record) for _, record in own) / 60:.0f} minutes"
            notes.append(f"{name}: no cell measured again, {apart}: `asum verify {name}` does it in {cost}")
            continue
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
