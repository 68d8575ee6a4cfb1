"""Do the records still hold on this machine? `asum verify` scores all of them again and measures a sample of cells again.

Scoring again needs no model: a record's own transcripts must give its value, its interval and its counts exactly. That
finds a changed scorer, normaliser or file. Measuring again runs whole cells, training included, into a temporary folder
and holds each new value against the interval of the record of the same seed:

- `same`: every transcript is equal, and so is the value;
- `within`: some transcripts differ, the new value lies in the recorded interval [lo, hi];
- `drifted`: the new value lies outside of it, or equal transcripts gave another value;
- `failed`: the cell could not be measured here, with the reason;
- `stale`: the cell now asks for another configuration, corpus, checkpoint or metric than the record was made with, so the
  two values are not comparable. This is no drift; measuring the table anew mends it.

The paired difference (new minus recorded, in points, with its 95 % interval) stands beside the verdict and does not move it.
The last verification is kept in `results/verified.json`; earlier ones are in the history of that file. How a cell is
measured is for `run`, how its page looks for `render_paper`.
"""

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import corpora_table, learning_rates, records, tables, text_scores, text_tables
from asum_lib.study.cells import MEMORY, SCALES, Cell

SCHEMA = 1
FILE = "verified.json"
VERDICTS = ("same", "within", "drifted", "failed", "stale", "planned")  # planned: of a dry run, which measures nothing
MINUTES = 2.0  # what the sample costs by default, by the records' own times
MACHINE = ("git_commit", "git_dirty", "code_digest", "packages", "python", "os", "cpu", "threads", "accelerator", "driver")
STALE = "made with another configuration, corpus, checkpoint or metric"
NOT_VERIFIED = (MEMORY, corpora_table.TABLE)  # counts and peaks, without transcripts or summaries to score again
EXACT = 1e-9  # two WERs in per cent from the same counts differ by rounding alone


@dataclass(frozen=True)
class Remeasured:
    """One cell measured again beside its record. WER in per cent, differences in points; null where there is no new value."""

    record: str  # path relative to the folder that holds `results`
    verdict: str  # one of VERDICTS
    reason: str | None  # one line where the verdict needs it
    recorded: float
    lo: float
    hi: float
    value: float | None
    utterances: int  # of the record
    differing: int | None  # utterances whose transcript is another one now
    difference: float | None  # new minus recorded, paired by utterance
    difference_lo: float | None
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
    rescored: int  # records whose transcripts were scored again
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
        entry = measured[-1]
        value = "" if entry.value is None else f", WER {entry.value:.2f} %, recorded {entry.recorded:.2f} ({entry.lo:.2f} to {entry.hi:.2f})"
        progress(f"{label}: {entry.verdict}{value}{f' ({entry.reason})' if entry.reason else ''}")

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
        rescored=len(found),
        mismatches=mismatches,
        notes=notes,
        cells=measured,
    )


def rescore(path: Path, record: records.Record) -> str | None:
    """What is wrong when the record's own transcripts are scored again, in one line; None where all is as recorded.

    Held exactly: the hash of the samples, the counts of every test utterance, the WER, its interval, the number of
    utterances, and the dev errors of every epoch against the counts kept beside them. Of summaries, their ROUGE.
    """
    from asum_lib.measure import stats, wer

    if "rouge1" in record.metrics:
        return _rescore_text(path, record)
    metric = record.metrics[tables.METRIC]
    try:
        samples = records.samples_of(record, path)
        test = [row for row in samples if row["split"] == record.cell["split"]]
        normalizer = record.config["normalizer"]
        if any(row["reference"] is None for row in test):  # someone else's recordings: only the counts were kept
            counts = [wer.ErrorCounts(**{field.name: row[field.name] for field in fields(wer.ErrorCounts)}) for row in test]
        else:
            counts = wer.count_errors([row["reference"] for row in test], [row["hypothesis"] for row in test], normalizer)
    except InputError as error:
        return str(error)
    except (KeyError, OSError, ValueError, EOFError) as error:
        return f"its samples cannot be read ({type(error).__name__}: {error})"
    for row, count in zip(test, counts, strict=True):
        kept = {key: row.get(key) for key in ("substitutions", "insertions", "deletions", "words")}
        if kept != asdict(count):
            return f"utterance {row['id']}: {sum(v or 0 for k, v in kept.items() if k != 'words')} errors recorded, {count.errors} when scored again"
    if len(test) != metric.n:
        return f"{metric.n} utterances recorded, {len(test)} in its samples"
    value, lo, hi = stats.ratio_interval([[count.errors for count in counts]], [count.words for count in counts])
    for what, recorded, again in (("WER", metric.value, value), ("lower end", metric.lo, lo), ("upper end", metric.hi, hi)):
        if abs(recorded - again) > EXACT:
            return f"{what} {recorded:.4f} recorded, {again:.4f} when its transcripts are scored again"
    for epoch in record.history:
        errors = sum(row["errors"] for row in samples if row.get("epoch") == epoch["epoch"] and row["split"] == "dev")
        if errors != epoch["dev_errors"]:
            return f"epoch {epoch['epoch']}: {epoch['dev_errors']} dev errors recorded, {errors} in its samples"
    return None


def _rescore_text(path: Path, record: records.Record) -> str | None:
    """The same for summaries: every ROUGE of every document, and each metric with its interval."""
    from asum_lib.measure import rouge, stats

    try:
        rows = [row for row in records.samples_of(record, path) if row["split"] == record.cell["split"]]
        references, written = [row["reference"] for row in rows], [row["summary"] for row in rows]
        language = text_scores.language_of(record)
        for kind in rouge.TYPES:
            again = rouge.score(references, written, language, types=(kind,))[kind]
            for row, value in zip(rows, again, strict=True):
                if abs(row[kind] - value) > 10.0**-text_scores.DIGITS:
                    return f"document {row['id']}: {kind} {row[kind]:.4f} recorded, {value:.4f} when scored again"
        for name, measure in text_tables.MEASURES.items():
            if name not in record.metrics:
                continue
            over = [row[measure.over] if isinstance(measure.over, str) else measure.over for row in rows]
            again = stats.ratio_interval([[row[measure.of] for row in rows]], over)
            recorded = record.metrics[name]
            if any(abs(a - b) > EXACT for a, b in zip(again, (recorded.value, recorded.lo, recorded.hi), strict=True)):
                return f"{name} {recorded.value:.4f} recorded, {again[0]:.4f} from its documents"
    except InputError as error:
        return str(error)
    except (KeyError, OSError, ValueError, EOFError) as error:
        return f"its samples cannot be read ({type(error).__name__}: {error})"
    return None


def sample(found: list[tuple[Path, records.Record]], cells: int | None, minutes: float | None, seed: int) -> list[tuple[Path, records.Record]]:
    """A random choice of records, stratified: of every table cells without and cells with training, as many of each as fit.

    Each stratum gives one cell first, whatever the budget: a random one that takes at most its equal share of the time, or
    else its cheapest. Then the strata give in turn what still fits, until `cells` are chosen or nothing fits. `minutes` is
    `MINUTES` where neither limit is given. The same records, limits and seed give the same choice.
    """
    budget_s = 60 * (MINUTES if minutes is None and cells is None else float("inf") if minutes is None else minutes)
    most = len(found) if cells is None else cells
    chance = random.Random(seed)
    strata: dict[tuple, list] = {}
    for path, record in found:
        strata.setdefault((record.table, record.cell["method"] != "none"), []).append((path, record))
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
    """Seconds that measuring the cell took: its times, or from its start to its finish where that is longer (dev transcripts)."""
    parts = sum(part or 0 for part in record.time_s.values())
    started, finished = record.provenance["started_at"], record.provenance["finished_at"]
    whole = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() if started and finished else 0
    return float(max(parts, whole))


def write(verification: Verification, results: Path = RESULTS) -> Path:
    """Keep the verification as `results/verified.json`, in place of the last one; written whole or not at all."""
    path = Path(results) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(verification), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    records.write_whole(path, text.encode())
    return path


def read(results: Path = RESULTS) -> Verification | None:
    """The last verification, None where there is none; raises `InputError` naming the key that is unknown or missing."""
    path = Path(results) / FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"{path}: schema {data['schema']!r}, this code reads {SCHEMA}")
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
        f"{verification.rescored} records scored again, {len(verification.mismatches)} mismatches.",
        "",
        "| record | verdict | recorded, % (95 % interval) | now, % | difference, points (95 % interval) | other transcripts | s (recorded) | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in verification.cells:
        now = "" if cell.value is None else f"{cell.value:.2f}"
        apart = "" if cell.difference is None else f"{cell.difference:+.2f} ({cell.difference_lo:+.2f} to {cell.difference_hi:+.2f})"
        differing = "" if cell.differing is None else f"{cell.differing} of {cell.utterances}"
        took = f"{'' if cell.took_s is None else f'{cell.took_s:.0f} '}({cell.expected_s:.0f})"
        shown = [cell.record, cell.verdict, f"{cell.recorded:.2f} ({cell.lo:.2f} to {cell.hi:.2f})", now, apart, differing, took, cell.reason or ""]
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in shown) + " |")
    lines += [f"\nMismatch: {mismatch.record}: {mismatch.reason}" for mismatch in verification.mismatches]
    lines += [f"\nNote: {note}" for note in verification.notes]
    return "\n".join(lines)


def _tables(table: str | None, scale: str, results: Path) -> list[str]:
    """The table, or every one: the planned ones of the scale, then the others that have records."""
    folders = sorted(path.name for path in (results / scale).glob("*") if path.is_dir() and path.name not in NOT_VERIFIED)
    known = list(dict.fromkeys([*tables.GRIDS[scale], *folders]))
    return known if table is None else [choose("table", table, known)]


def _gather(chosen: list[str], scale: str, results: Path) -> tuple[list[tuple[Path, records.Record]], list[Mismatch], list[str]]:
    """(every measured record of the tables, the files that are no record, what is missing or not ok)."""
    found, broken, notes = [], [], []
    for name in chosen:
        paths = sorted((results / scale / name).rglob("*.json"))
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
    """The paths of the planned records of a table; nothing where it has no grid."""
    if table in tables.GRIDS[scale]:
        cells = tables.planned(table, scale)
    elif table == learning_rates.LEARNING_RATES and scale == "mini":
        cells = learning_rates.planned_rates()
    elif table in text_tables.table_names(scale):
        cells = text_tables.planned_text(table, scale)
    else:
        cells = []
    return {cell.path(results) for cell in cells}


def _candidates(found, chosen: list[str], named: bool, scale: str, results: Path, notes: list[str]) -> list[tuple[Path, records.Record]]:
    """The records whose cells can be measured again here; adds to `notes` what cannot."""
    candidates = []
    for name in chosen:
        of_table = [(path, record) for path, record in found if record.table == name]
        if any("rouge1" in record.metrics for _, record in of_table):
            notes.append(f"{name}: its summaries are scored again, none is written again")
            continue
        if not named:
            planned = _planned(name, scale, results)
            of_table = [(path, record) for path, record in of_table if path in planned]
        # A checkpoint that was given by its folder: the record keeps its name, not where it lay.
        own = [(path, record) for path, record in of_table if record.cell["model"] == "whisper"]
        if len(own) < len(of_table):
            notes.append(f"{name}: not measured again, records of a checkpoint that was given by its folder: {len(of_table) - len(own)}")
        if own and (reason := _not_here(own)):
            notes.append(f"{name}: no cell measured again, {reason}")
        else:
            candidates += own
    return candidates


def _not_here(found: list[tuple[Path, records.Record]]) -> str | None:
    """Why the corpus of a table cannot be had on this machine; None where it can."""
    from asum_lib.corpora import GENERATED, digits, load_corpus

    for corpus, split in dict.fromkeys((record.cell["corpus"], record.cell["split"]) for _, record in found):
        try:
            if corpus == "digits":
                digits.source()
            elif corpus not in GENERATED:
                load_corpus(corpus, split)
        except InputError as error:
            return str(error)
    return None


def _measure_again(path: Path, record: records.Record, results: Path) -> Remeasured:
    from asum_lib.measure import stats
    from asum_lib.study import run

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="asum-verify-") as folder:
        try:
            if run.fingerprint_of(Cell(**record.cell)) != record.fingerprint:  # before what may take hours
                return _entry(path, record, results, "stale", STALE, took_s=time.perf_counter() - start)
            [(new_path, new)] = run.run_cells([Cell(**record.cell)], results=Path(folder), progress=lambda line: None)
        except Exception as error:  # whatever keeps a cell from being measured is a finding, and the rest goes on
            took_s = time.perf_counter() - start
            return _entry(path, record, results, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", took_s=took_s)
        took_s = time.perf_counter() - start
        if new.status != "ok":
            return _entry(path, record, results, "failed", new.reason, took_s=took_s)
        if new.fingerprint != record.fingerprint:
            return _entry(path, record, results, "stale", STALE, took_s=took_s)
        split = record.cell["split"]
        before = {row["id"]: row["hypothesis"] for row in records.samples_of(record, path) if row["split"] == split}
        after = {row["id"]: row["hypothesis"] for row in records.samples_of(new, new_path) if row["split"] == split}
        ids, old_errors, words = tables.counts(path, split)
        new_ids, new_errors, new_words = tables.counts(new_path, split)
    if ids != new_ids or not (words == new_words).all():
        return _entry(path, record, results, "failed", "measured on other utterances than the record", took_s=took_s)
    value, metric = new.metrics[tables.METRIC].value, record.metrics[tables.METRIC]
    differing = sum(before[identity] != after[identity] for identity in before)
    reason = None
    if differing == 0 and abs(value - metric.value) <= EXACT:
        verdict = "same"
    elif differing == 0:
        verdict, reason = "drifted", "the transcripts are equal and the value is another one: the scorer has changed"
    elif metric.lo <= value <= metric.hi:
        verdict = "within"
    else:
        verdict, reason = "drifted", "the new value is outside the recorded interval"
    apart = stats.paired_difference([new_errors], [old_errors], words)
    return _entry(
        path,
        record,
        results,
        verdict,
        reason,
        value=value,
        differing=differing,
        difference=apart.value,
        difference_lo=apart.lo,
        difference_hi=apart.hi,
        took_s=took_s,
    )


def _entry(path: Path, record: records.Record, results: Path, verdict: str, reason: str | None = None, **measured) -> Remeasured:
    metric = record.metrics[tables.METRIC]
    took_s = measured.pop("took_s", None)
    nothing = dict.fromkeys(("value", "differing", "difference", "difference_lo", "difference_hi"))
    return Remeasured(
        record=_name(path, results),
        verdict=verdict,
        reason=reason,
        recorded=metric.value,
        lo=metric.lo,
        hi=metric.hi,
        utterances=metric.n,
        expected_s=round(cost_s(record), 1),
        took_s=None if took_s is None else round(took_s, 1),
        **nothing | measured,
    )


def _name(path: Path, results: Path) -> str:
    return Path(os.path.relpath(path, results.parent)).as_posix()
