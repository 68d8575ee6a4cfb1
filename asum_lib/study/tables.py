"""A table: a planned grid of cells, and the rows that records make of it, training seeds pooled.

Which cells there should be is said here (`GRIDS`), so that the workflow, the command and the pages agree, and a cell
without a record shows as missing. Values are computed from the per-utterance counts beside the records, not from the
records' own per-seed values. Nothing here loads a model or computes a text.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib import papers
from asum_lib.corpora.seen import seen_utterances
from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.measure.wer import compare_signatures
from asum_lib.paths import RESULTS
from asum_lib.study import calibration, placing, records
from asum_lib.study.cells import MEMORY, PAPER_CONFIGURATIONS, PAPER_RATE, SCALES, SIZES, Cell, make_cell
from asum_lib.study.units import Units, units

METRIC = "wer_pct"
SEEDS = (0, 1, 2)

# (precision, method, rate); the paper's six at its rate come first, then what this study adds to judge them.
_PAPER = [(precision, method, PAPER_RATE) for precision, method in PAPER_CONFIGURATIONS]
_FULL_RATE = [("int8", "adalora", "1"), ("int4", "adalora", "1")]
_ADDED = [*_FULL_RATE, ("fp32", "full", "1"), ("int8", "adalora-inactive", PAPER_RATE)]
_BF16 = ("bf16", "none", PAPER_RATE)
_OTHER_PRECISIONS = [_BF16, ("fp4", "none", PAPER_RATE)]
# LoftQ beside quantise-then-adapt at equal bits. At the full rate, at which an adapter moves on this ladder; without large, which takes as long as
# the four others together; and with five rounds at one size.
_LOFTQ = [("nf2", "none", PAPER_RATE), *((precision, method, "1") for method in ("lora", "loftq") for precision in ("int4", "nf2"))]
_FIVE_ROUNDS = [(precision, "loftq-5", "1") for precision in ("int4", "nf2")]
GRIDS = {  # by scale
    "mini": {
        "whisper_wer": {
            "corpus": "howto",
            "sizes": SIZES,
            "configurations": _PAPER + _ADDED + _OTHER_PRECISIONS + _LOFTQ + _FIVE_ROUNDS,
            "fewer_sizes": dict.fromkeys(_LOFTQ, SIZES[:4]) | dict.fromkeys(_FIVE_ROUNDS, ("small",)),
        },
        "whisper_source": {"corpus": "howto-source", "sizes": SIZES, "configurations": [("fp32", "none", PAPER_RATE)]},
        "whisper_digits": {"corpus": "digits", "sizes": ("tiny", "small", "large"), "configurations": _PAPER + _FULL_RATE, "seeds": SEEDS[:1]},
    },
    "paper": {  # bf16 beside the paper's six: on a GPU it is what quantised models compute in
        "whisper_wer": {"corpus": "how2", "sizes": SIZES, "configurations": [*_PAPER, _BF16]},
        "whisper_librispeech": {"corpus": "librispeech", "sizes": SIZES, "configurations": [*_PAPER, _BF16]},
        "whisper_slue-voxpopuli": {"corpus": "slue-voxpopuli", "sizes": SIZES, "configurations": [*_PAPER, _BF16]},
    },
}
IDENTITY = ("model", "size", "precision", "method", "rank", "rate", "epochs", "corpus", "split", "own")  # of a row: a cell without its seed

OWN_COLUMNS = ("model", "corpus", "digest")


@dataclass(frozen=True)
class Row:
    """One cell of a table with the records of its seeds."""

    cell: dict  # keys IDENTITY
    planned_seeds: tuple[int, ...]  # empty where the cell is not in the planned grid
    found: tuple[tuple[Path, records.Record], ...]  # in the order of the seeds

    @property
    def measured(self) -> tuple[tuple[Path, records.Record], ...]:
        return tuple((path, record) for path, record in self.found if record.status == "ok")

    @property
    def complete(self) -> bool:
        """True where every planned seed, and at least one, was measured."""
        seeds = {record.cell["seed"] for _, record in self.measured}
        return bool(seeds) and seeds.issuperset(self.planned_seeds) and len(self.measured) == len(self.found)

    @property
    def status(self) -> str:
        """ok, partial (some planned seeds are not measured), failed, skipped or missing."""
        if self.complete:
            return "ok"
        return "partial" if self.measured else self.found[0][1].status if self.found else "missing"

    @property
    def problems(self) -> list[str]:
        """What keeps the row from being complete, one phrase a seed."""
        absent = sorted(set(self.planned_seeds) - {record.cell["seed"] for _, record in self.found})
        failed = [f"seed {record.cell['seed']} {record.status}: {record.reason}" for _, record in self.found if record.status != "ok"]
        return failed + [f"seed {seed} missing" for seed in absent]


def planned(table: str, scale: str = "mini") -> list[Cell]:
    """Every cell of the grid of `table`, seeds included; what trains nothing has seed 0 alone."""
    choose("table", table, GRIDS[scale])
    grid = GRIDS[scale][table]
    return [
        make_cell(size, precision, method, scale=scale, corpus=grid["corpus"], rate=rate, seed=seed)
        for precision, method, rate in grid["configurations"]
        for size in grid.get("fewer_sizes", {}).get((precision, method, rate), grid["sizes"])
        for seed in (grid.get("seeds", SEEDS) if method != "none" else SEEDS[:1])
    ]


def gather(table: str, scale: str = "mini", results=RESULTS) -> list[Row]:
    """The planned cells with their records, in the grid's order, then cells that have records but are not in the grid.

    A table without a grid (that of a local manifest) is known by its folder of records.
    """
    choose("scale", scale, SCALES)
    folders = sorted(path.name for path in (Path(results) / scale).glob("[!.]*") if path.is_dir() and path.name != MEMORY)
    choose("table", table, dict.fromkeys([*GRIDS[scale], *folders]))
    seeds: dict[tuple, list[int]] = {}
    for cell in planned(table, scale) if table in GRIDS[scale] else []:
        seeds.setdefault(_identity(cell.as_dict()), []).append(cell.seed)
    found: dict[tuple, list] = {key: [] for key in seeds}
    for path, record in placing.load(results, scale, table, Cell):
        found.setdefault(_identity(record.cell), []).append((path, record))
    return rows_of(IDENTITY, found, seeds)


def rows_of(identity: Sequence[str], found: dict[tuple, list], seeds: dict[tuple, list[int]]) -> list[Row]:
    """The rows of {identity: [(path, record)]}, seeds in order; `own` is in the cell of a row only where it is set."""
    return [
        Row(
            {name: value for name, value in zip(identity, key, strict=True) if name != "own" or value is not None},
            tuple(seeds.get(key, ())),
            tuple(sorted(entries, key=lambda entry: entry[1].cell["seed"])),
        )
        for key, entries in found.items()
    ]


def planned_rows(table: str, scale: str = "mini", results=RESULTS) -> list[Row]:
    """`gather` without the records that are in no grid: what pages show, whatever anyone has measured beside it."""
    return [row for row in gather(table, scale, results) if row.planned_seeds]


def rows(table: str, scale: str = "mini", results=RESULTS, planned_only: bool = False) -> list[dict]:
    """The table as objects, one a cell, seeds pooled (`asum table NAME --format json`).

    `status` is ok, partial (some planned seeds are not measured; the value is of those that are), failed, skipped or missing; with
    `reason` where it is not ok. `paper` is the paper's value for the same configuration, null where unknown; `paper_status` is
    null where the paper has no such cell. `caveat` says why a value does not count yet: at scale `paper` a checkpoint that is not
    calibrated, or one that says of itself that its weights are random. `records` are paths relative to the folder that holds `results`.
    """
    found = planned_rows(table, scale, results) if planned_only else gather(table, scale, results)
    return [_as_object(table, row, Path(results)) | {"caveat": caveat(row, scale, Path(results))} for row in found]


def counts(record_path, split: str = "test", epoch: int | None = None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(ids, errors[items], words[items]) of one record's samples; for `split="dev"` of one `epoch` of its curve."""
    path = Path(record_path)
    return _counts_of(records.read(path), path, split, epoch)


def has_samples(row: Row, split: str, epochs: Sequence[int | None]) -> bool:
    """True where every measured record of the row keeps samples of `split` for all of `epochs`."""
    kept = [_all_counts(path, record) if record.samples else {} for path, record in row.measured]
    return all((split, epoch) in by_set for by_set in kept for epoch in epochs)


def pooled_counts(found: Sequence[tuple[Path, records.Record]], split: str = "test", epoch: int | None = None):
    """(ids, errors[seeds, items], words[items]) of the records of one cell; raises `InputError` where they were not scored alike."""
    compare_signatures(*(record.metrics[METRIC].signature for _, record in found))
    by_seed = [_counts_of(record, path, split, epoch) for path, record in found]
    ids, _, words = by_seed[0]
    for (path, _), (other_ids, _, other_words) in zip(found, by_seed, strict=True):
        _check_same_items(found[0][0], path, ids, other_ids, words, other_words)
    return ids, np.stack([errors for _, errors, _ in by_seed]), words


def units_of(found: Sequence[tuple[Path, records.Record]], split: str = "test") -> Units:
    """What the items of one cell's records vary with, in the order of their ids."""
    path, record = found[0]
    return _read(path, record.samples["sha256"], record.cell["corpus"])[1][split]


def intervals_over(rows: Sequence[Row]) -> str:
    """What the intervals of a table are over, e.g. `over 6 voices and the seeds`, for its caption."""
    measured = [row for row in rows if row.measured]
    if not measured:
        return "over nothing yet"
    first = measured[0].measured
    unit = units_of(first)
    said = f"over {unit.counted(len(pooled_counts(first)[0]))}"
    if any(len(row.measured) > 1 for row in measured):
        said += " and the seeds"
    return f"{said} ({unit.note})" if unit.note else said


def interval(found: Sequence[tuple[Path, records.Record]], split: str = "test", epoch: int | None = None) -> tuple[float, float, float]:
    """(WER in per cent, lo, hi) of the records of one cell, over its voices or speakers and its seeds."""
    _, errors, words = pooled_counts(found, split, epoch)
    return stats.ratio_interval(errors, words, units_of(found, split).clusters)


def by_seen(found: Sequence[tuple[Path, records.Record]]) -> dict[str, float | int | None]:
    """WER of one cell's records on the sentences that the source's training text has word for word, and on the others.

    Keys `seen_value`, `seen_lo`, `seen_hi`, `seen_n`, and the same of `unseen`; null where it cannot be told.
    """
    keys = ("value", "lo", "hi", "n")
    parts = dict.fromkeys(f"{name}_{key}" for name in ("seen", "unseen") for key in keys)
    cell = found[0][1].cell if found else {}
    known = seen_utterances(cell["corpus"], cell["split"]) if found else None
    if known is None:
        return parts
    ids, errors, words = pooled_counts(found, cell["split"])
    clusters = units_of(found, cell["split"]).clusters
    mask = np.array([identity in known for identity in ids])
    for name, chosen in {"seen": mask, "unseen": ~mask}.items():
        if chosen.any():
            own = None if clusters is None else [one for one, taken in zip(clusters, chosen, strict=True) if taken]
            values = stats.ratio_interval(errors[:, chosen], words[chosen], own)
            parts |= {f"{name}_{key}": value for key, value in zip(keys, (*values, int(chosen.sum())), strict=True)}
    return parts


def difference(a: Row, b: Row) -> stats.Difference:
    """Test WER of `a` minus that of `b` in points, paired by utterance; raises `InputError` where they cannot be compared."""
    return contrast([(1, a), (-1, b)])


def contrast(sides: Sequence[tuple[float, Row]]) -> stats.Difference:
    """The weighted sum of the rows' test WER in points, on the same utterances."""
    _, words = check_comparable([row for _, row in sides])
    clusters = units_of(sides[0][1].measured).clusters
    return stats.contrast([(weight, pooled_counts(row.measured)[1]) for weight, row in sides], words, clusters)


def check_comparable(compared: Sequence[Row], split: str = "test", epochs: Sequence[int | None] = (None,)) -> tuple[tuple[str, ...], np.ndarray]:
    """(ids, words[items]) that all rows share in all `epochs`; raises `InputError` where signatures or utterances differ."""
    every = [entry for row in compared for entry in row.measured]
    first_path = every[0][0]
    ids, _, words = pooled_counts(every, split, epochs[0])
    for epoch in epochs[1:]:
        other_ids, _, other_words = pooled_counts(every, split, epoch)
        _check_same_items(f"{first_path} epoch {epochs[0]}", f"{first_path} epoch {epoch}", ids, other_ids, words, other_words)
    return ids, words


def mark_ties(table: str, scale: str = "mini", results=RESULTS, configurations=None) -> list[dict]:
    """`rows` of the planned grid, each with `best_of_size` and `tie_with_best`: is its difference to the lowest WER of its size a tie?

    Among `configurations` (triples as in `GRIDS`; the paper's six by default) and at one size, each cell is held against the
    lowest one, paired, Holm-corrected within the size. Both keys are None for other cells.
    """
    wanted = {(p, m, None if m == "none" else r) for p, m, r in (configurations or _PAPER)}
    gathered = planned_rows(table, scale, results)
    objects = [_as_object(table, row, Path(results)) | {"best_of_size": None, "tie_with_best": None} for row in gathered]
    chosen = [i for i, row in enumerate(gathered) if tuple(row.cell[k] for k in ("precision", "method", "rate")) in wanted and row.measured]
    for size in SIZES:
        same_size = [i for i in chosen if gathered[i].cell["size"] == size]
        if not same_size:
            continue
        best = min(same_size, key=lambda i: objects[i]["value"])
        others = [i for i in same_size if i != best]
        corrected = stats.holm([difference(gathered[i], gathered[best]).p for i in others])
        objects[best].update(best_of_size=True, tie_with_best=False)
        for i, p in zip(others, corrected, strict=True):
            objects[i].update(best_of_size=False, tie_with_best=p >= 1 - stats.LEVEL)
    return objects


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The rows as a Markdown table: value with interval, seeds, the paper's value with its status, weights in MB (10^6 bytes)."""
    titles = ["size", "precision", "method", "rate", "WER, % (95 % interval)", "seeds", "paper, %", "weights, MB", "status"]
    own = any(row["cell"].get("own") for row in table_rows)
    titles = [*OWN_COLUMNS, *titles] if own else titles
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in table_rows:
        cell = row["cell"]
        value = "" if row["value"] is None else f"{row['value']:.1f} ({row['lo']:.1f} to {row['hi']:.1f})"
        paper = f"{row['paper']:g} ({row['paper_status']})" if row["paper"] is not None else (row["paper_status"] or "")
        weights = "" if row["weights_bytes"] is None else f"{row['weights_bytes'] / 1e6:.2f}"
        status = row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"
        status += f"; {row['caveat']}" if row["caveat"] else ""
        fields = own_fields(cell, cell["model"]) if own else []
        fields += [cell["size"] or cell["model"], cell["precision"] or "", cell["method"], cell["rate"] or "", value]
        fields += [len(row["seeds"]) or "", paper, weights]
        lines.append("| " + " | ".join(str(field).replace("|", "\\|") for field in [*fields, status]) + " |")
    return "\n".join(lines) + "\n"


def own_fields(cell: dict, model: str) -> list[str]:
    """Model, corpus and digest of a row in a table with a user's own: `OWN_COLUMNS`. The digest is of their content."""
    return [model, cell["corpus"], cell.get("own") or ""]


def caveat(row: Row, scale: str, results: Path) -> str | None:
    """Why the row's values do not count yet; None where they do."""
    notes = {record.config.get("checkpoint_note") for _, record in row.measured} - {None}
    if notes or scale == "mini":
        return "; ".join(sorted(notes)) or None
    return calibration.caveat(row.cell["size"], results)


def _identity(cell: dict) -> tuple:
    return tuple(cell.get(key) for key in IDENTITY)  # a cell of the study has no `own`


def _as_object(table: str, row: Row, results: Path) -> dict:
    measured = row.measured
    value = lo = hi = signature = n = None
    if measured:
        value, lo, hi = interval(measured)
        signature, n = measured[0][1].metrics[METRIC].signature, len(pooled_counts(measured)[0])
    known = papers.value("derkach2024", table, **{key: row.cell[key] for key in ("size", "precision", "method")})
    if known is None or row.cell["rate"] not in (None, PAPER_RATE) or "own" in row.cell:
        known = {"value": None, "status": None, "source": None}
    kept_ranks = [record.params["kept_rank_mean"] for _, record in measured if record.params["kept_rank_mean"] is not None]
    return {
        "cell": row.cell,
        "metric": METRIC,
        "value": value,
        "lo": lo,
        "hi": hi,
        "unit": "%",
        "n": n,
        "seeds": [record.cell["seed"] for _, record in measured],
        "paper": known["value"],
        "paper_status": known["status"],
        "paper_source": known["source"],
        "signature": signature,
        "status": row.status,
        "reason": None if row.complete else "; ".join(row.problems),
        "weights_bytes": next((record.memory_bytes["weights"] for _, record in measured), None),
        "kept_rank_mean": float(np.mean(kept_ranks)) if kept_ranks else None,
        "trainable": next((record.params["trainable"] for _, record in measured), None),
        "records": [os.path.relpath(path, results.parent) for path, _ in row.found],
        **by_seen(measured),
    }


def _counts_of(record: records.Record, path: Path, split: str, epoch: int | None):
    if record.samples is None:
        raise InputError(f"{path}: keeps no samples (status {record.status}), so nothing can be counted")
    by_set = _all_counts(path, record)
    if (split, epoch) not in by_set:
        there = ", ".join(f"{s}{'' if e is None else f' epoch {e}'}" for s, e in by_set)
        raise InputError(f"{path}: no samples of {split}{'' if epoch is None else f' epoch {epoch}'}: there are {there}")
    return by_set[split, epoch]


def _all_counts(path: Path, record: records.Record) -> dict:
    """{(split, epoch): (ids, errors, words)} of a record's samples, items in the order of their ids."""
    return _read(path, record.samples["sha256"], record.cell["corpus"])[0]


@lru_cache(maxsize=2_000)
def _read(path: Path, sha256: str, corpus: str) -> tuple[dict, dict[str, Units]]:
    """(counts as `_all_counts` has them, {split: units}) of a record's samples, read once; texts are let go.

    The units are of the items in the order of their ids; those of one epoch stand for all.
    """
    grouped: dict[tuple, list] = {}
    spoken: dict[str, dict] = {}
    for sample in records.read_samples(path):
        split, identity = sample["split"], sample["id"]
        errors = sample["errors"] if "errors" in sample else sample["substitutions"] + sample["insertions"] + sample["deletions"]
        grouped.setdefault((split, sample.get("epoch")), []).append((identity, errors, sample["words"]))
        spoken.setdefault(split, {})[identity] = {"id": identity, "speaker": sample.get("speaker")}
    counts = {}
    for key, entries in grouped.items():
        ids, errors, words = zip(*sorted(entries), strict=True)
        if len(set(ids)) < len(ids):
            raise InputError(f"{path}: an id occurs twice in the samples of {key[0]}")
        counts[key] = (ids, np.array(errors, dtype=float), np.array(words, dtype=float))
    return counts, {split: units(corpus, split, [of[identity] for identity in sorted(of)]) for split, of in spoken.items()}


def _check_same_items(path, other_path, ids, other_ids, words, other_words) -> None:
    if ids != other_ids or not np.array_equal(words, other_words):
        raise InputError(f"{other_path} was not scored on the same utterances as {path}: {len(other_ids)} and {len(ids)}, or other words")
