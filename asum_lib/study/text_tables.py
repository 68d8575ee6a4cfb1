"""The ROUGE tables: rows that records of text cells make, training seeds pooled. As `tables` is for WER.

ROUGE, facts, novelty and length are computed from the per-document values beside the records. chrF and BLEU are corpus
figures: of several seeds their mean is given, with the hull of the seeds' intervals, which is wider than an interval of the mean.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.measure.wer import compare_signatures
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records
from asum_lib.study.tables import OWN_COLUMNS, Row, own_fields, rows_of
from asum_lib.study.text_cells import ADAPTERS, COMBINATIONS, EXTRACTIVE, RANK, RATES_TABLE, SCALES, TABLE_OF, TARGETS, TextCell, planned_text
from asum_lib.study.units import units

RANKS_TABLE = "rouge_ranks"  # a view of the tables of all corpora: LoRA and AdaLoRA by rank, with what they are held against
IDENTITY = tuple(field.name for field in fields(TextCell) if field.name not in ("table", "scale", "seed"))


@dataclass(frozen=True)
class Measure:
    """How a metric comes from samples: 100 x sum of `of` over sum of `over` (a key, or a number a document)."""

    of: str
    over: str | float
    unit: str
    better: str

    @property
    def most(self) -> float | None:
        """The highest value there can be; None where there is none."""
        bounded = self.unit == "ROUGE x 100" or (self.unit.startswith("%") and self.of != "asr_errors")
        return 100.0 if bounded else None


COSTS = {"ms": "ms", "weights_kb": "kB", "peak_kb": "kB"}  # what a talk takes end to end and in the cascade
# What a summary states of the reference's facts, by kind; frames show task and tool, and not the others
OF_KIND = ("shown", "unshown", "task", "tool", "person", "place", "sentiment")
MEASURES = {
    **{kind: Measure(kind, 1.0, "ROUGE x 100", "higher") for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
    "rouge1_default": Measure("rouge1_default", 1.0, "ROUGE x 100", "higher"),  # Russian under the English tokenizer: a trap on purpose
    "fact_recall": Measure("right", "wanted", "%", "higher"),
    "made_up": Measure("made_up", 1.0, "facts in 100 summaries", "lower"),
    "novelty": Measure("novelty", 1.0, "% of bigrams", "neither"),
    "length": Measure("words", 100.0, "words", "neither"),
    # of speech alone
    "step_right": Measure("step_right", 1.0, "% of summaries", "higher"),
    "wer_pct": Measure("asr_errors", "asr_words", "%", "lower"),
    **{f"{kind}_recall": Measure(f"{kind}_right", f"{kind}_wanted", "%", "higher") for kind in OF_KIND},
    **{f"{system}_{name}": Measure(f"{system}_{name}", 100.0, unit, "lower") for name, unit in COSTS.items() for system in ("e2e", "cascade")},
}
COLUMNS = "corpus,model,precision,method,rank,modules,metric,value (95 % interval),seeds,paper,kept rank,trained,kept,status".split(",")
CORPUS_METRICS = ("chrf", "bleu")
PAPERS_METRICS = ("rouge1", "rouge2", "rougeL")


def difference_unit(metric: str) -> str:
    """What a difference of two values is counted in: `points of ROUGE`, `percentage points of summaries`, `ms`."""
    unit = MEASURES[metric].unit
    return f"percentage points{unit[1:]}" if unit.startswith("%") else unit.replace("ROUGE x 100", "points of ROUGE")


def table_names(scale: str = "mini") -> list[str]:
    """The tables that this module knows."""
    return [*TABLE_OF[scale].values(), RATES_TABLE, RANKS_TABLE]


def gather(table: str, scale: str = "mini", results=RESULTS) -> list[Row]:
    """The planned cells with their records, in the grid's order, then cells that have records but are not in the grid."""
    choose("scale", scale, SCALES)
    if table == RANKS_TABLE:
        return [row for name in dict.fromkeys(TABLE_OF[scale].values()) for row in gather(name, scale, results) if _in_ranks(row.cell)]
    seeds: dict[tuple, list[int]] = {}
    if table in (*TABLE_OF[scale].values(), RATES_TABLE):
        for cell in planned_text(table, scale):
            seeds.setdefault(_identity(cell.as_dict()), []).append(cell.seed)
    found: dict[tuple, list] = {key: [] for key in seeds}
    for path, record in placing.load(results, scale, table, TextCell):
        found.setdefault(_identity(record.cell), []).append((path, record))
    if not found:
        raise InputError(f"table {table!r} has no cells at scale {scale}: choose from {', '.join(table_names(scale))}")
    return rows_of(IDENTITY, found, seeds)


def planned_rows(table: str, scale: str = "mini", results=RESULTS) -> list[Row]:
    """`gather` without the records that are in no grid."""
    return [row for row in gather(table, scale, results) if row.planned_seeds]


def rows(table: str, scale: str = "mini", results=RESULTS, planned_only: bool = False, metrics: Sequence[str] | None = None) -> list[dict]:
    """The table as objects, one a cell and metric, seeds pooled (`asum table NAME --format json`); keys as in `tables.rows`."""
    found = planned_rows(table, scale, results) if planned_only else gather(table, scale, results)
    return [as_object(row, metric, scale, Path(results)) for row in found for metric in metrics or metrics_of(row)]


def find(found: Sequence[Row], corpus: str, model: str, **cell) -> Row | None:
    """The row of a corpus and model with the study's own choices but for `cell`; None where there is none."""
    for row in found:
        known = {"precision": "fp32", "method": "none", "rank": None, "targets": None, "learning_rate": None} | cell
        if known["method"] in ADAPTERS:
            known = known | {"rank": known["rank"] or RANK, "targets": known["targets"] or TARGETS[0]}
        if row.cell["corpus"] == corpus and row.cell["model"] == model and all(row.cell[key] == value for key, value in known.items()):
            return row
    return None


def values(row: Row, metric: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(ids, numerators[seeds, documents], denominators[documents]) of a row's records; refuses what was not scored alike."""
    compare_signatures(*(_metric(record, metric).signature for _, record in row.measured))
    per_seed = [_samples(path, record.samples["sha256"], metric) for path, record in row.measured]
    ids, _, over = per_seed[0]
    for (path, _), (other_ids, _, other_over) in zip(row.measured, per_seed, strict=True):
        if other_ids != ids or not np.array_equal(over, other_over):
            raise InputError(f"{path} was not scored on the same documents as {row.measured[0][0]}")
    return ids, np.stack([of for _, of, _ in per_seed]), over


def clusters(row: Row) -> tuple[str, ...] | None:
    """The voice or speaker of every document or talk of a row, in the order of their ids; None where each is its own."""
    path, record = row.measured[0]
    ids = _kept(path, record.samples["sha256"])["id"]
    return units(record.cell["corpus"], record.cell["split"], [{"id": identity} for identity in ids]).clusters


def interval(row: Row, metric: str) -> tuple[float, float, float]:
    """(value, lo, hi) of a row with at least one measured seed."""
    if metric in CORPUS_METRICS:
        known = [_metric(record, metric) for _, record in row.measured]
        compare_signatures(*(one.signature for one in known))
        return float(np.mean([one.value for one in known])), min(one.lo for one in known), max(one.hi for one in known)
    _, of, over = values(row, metric)
    return stats.ratio_interval(of, over, clusters(row), MEASURES[metric].most)


def contrast(sides: Sequence[tuple[float, Row]], metric: str) -> stats.Difference:
    """The weighted sum of the rows' values of a metric, paired by document; raises `InputError` where they cannot be compared."""
    compare_signatures(*(_metric(record, metric).signature for _, row in sides for _, record in row.measured))
    found = [values(row, metric) for _, row in sides]
    ids, _, over = found[0]
    for (_, row), (other_ids, _, other_over) in zip(sides, found, strict=True):
        if other_ids != ids or not np.array_equal(over, other_over):
            raise InputError(f"{row.measured[0][0]} was not scored on the same documents as {sides[0][1].measured[0][0]}")
    weighted = [(weight, of) for (weight, _), (_, of, _) in zip(sides, found, strict=True)]
    return stats.contrast(weighted, over, clusters(sides[0][1]))


def difference(a: Row, b: Row, metric: str) -> stats.Difference:
    """`a` minus `b`."""
    return contrast([(1, a), (-1, b)], metric)


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The rows as a Markdown table, a line a cell and metric."""
    own = any(row["cell"].get("own") for row in table_rows)
    columns = [*OWN_COLUMNS, *COLUMNS[2:]] if own else COLUMNS
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in table_rows:
        cell = row["cell"]
        value = "" if row["value"] is None else f"{row['value']:.1f} ({row['lo']:.1f} to {row['hi']:.1f})"
        paper = f"{row['paper']:g} ({row['paper_status']})" if row["paper"] is not None else (row["paper_status"] or "")
        status = row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"
        kept = "" if row["kept_rank_mean"] is None else f"{row['kept_rank_mean']:g}"
        model = cell["model"] if not cell.get("own") or cell["size"] is None else f"{cell['model']} {cell['size']}"
        fields = own_fields(cell, model) if own else [cell["corpus"], cell["model"]]
        fields += [cell["precision"], cell["method"], cell["rank"], cell["targets"], row["metric"], value]
        fields += [len(row["seeds"]) or "", paper, kept, row["trainable"], row["kept"], status]
        lines.append("| " + " | ".join("" if field is None else str(field).replace("|", "\\|") for field in fields) + " |")
    return "\n".join(lines) + "\n"


def caveat(row: Row, scale: str, results: Path) -> str | None:
    """Why the row's values do not count yet; None where they do."""
    notes = {record.config.get("checkpoint_note") for _, record in row.measured} - {None}
    if notes or scale == "mini" or row.cell["model"] in EXTRACTIVE:
        return "; ".join(sorted(notes)) or None
    from asum_lib.study import text_calibration

    return text_calibration.caveat(row.cell["corpus"], results)


def combinations(scale: str = "mini") -> tuple[tuple[str, str], ...]:
    """(corpus, model) pairs of the grid."""
    if scale == "mini":
        return COMBINATIONS
    return tuple(
        (cell.corpus, cell.model)
        for table in TABLE_OF[scale].values()
        for cell in planned_text(table, scale)
        if cell.method == "full" and not cell.seed
    )


def _in_ranks(cell: dict) -> bool:
    ours = cell["precision"] == "fp32" and cell["learning_rate"] is None and cell["targets"] in (None, TARGETS[0])
    return ours and cell["model"] not in EXTRACTIVE and cell["method"] in ("lora", "adalora", "full")


def _identity(cell: dict) -> tuple:
    return tuple(cell.get(key) for key in IDENTITY)  # a cell of the study has no `own`


def metrics_of(row: Row) -> tuple[str, ...]:
    """The metrics that the row's records have; the paper's three where nothing is measured."""
    there = {name for _, record in row.measured for name in record.metrics}
    return tuple(name for name in (*MEASURES, *CORPUS_METRICS) if name in there) or PAPERS_METRICS


def _metric(record: records.Record, metric: str) -> records.Metric:
    return record.metrics[choose("metric", metric, record.metrics)]


def as_object(row: Row, metric: str, scale: str, results: Path) -> dict:
    """One entry of `rows`."""
    measured, value, lo, hi, signature, n, unit = row.measured, None, None, None, None, None, "ROUGE x 100"
    if measured:
        value, lo, hi = interval(row, metric)
        known = _metric(measured[0][1], metric)
        signature, n, unit = known.signature, known.n, known.unit
    known = _paper(row.cell, metric) or {"value": None, "status": None, "source": None}
    first = measured[0][1] if measured else None
    kept = [record.params["kept_rank_mean"] for _, record in measured if record.params["kept_rank_mean"] is not None]
    return {
        "cell": row.cell,
        "metric": metric,
        "value": value,
        "lo": lo,
        "hi": hi,
        "unit": unit,
        "n": n,
        "seeds": [record.cell["seed"] for _, record in measured],
        "paper": known["value"],
        "paper_status": known["status"],
        "paper_source": known["source"],
        "signature": signature,
        "status": row.status,
        "reason": None if row.complete else "; ".join(row.problems),
        "caveat": caveat(row, scale, results),
        "kept_rank_mean": float(np.mean(kept)) if kept else None,
        "trainable": first.params["trainable"] if first else None,
        "kept": first.params.get("kept") if first else None,
        "learning_rate": first.config["training"]["learning_rate"] if first and first.config.get("training") else None,
        "records": [os.path.relpath(path, results.parent) for path, _ in row.found],
    }


def _paper(cell: dict, metric: str) -> dict | None:
    """The paper's entry for a metric and method. Only LoRA's figure is tied to a rank and model (16, mBART); the others stand at rank 16 too."""
    ours = cell["precision"] == "fp32" and cell["learning_rate"] is None and cell["targets"] in (None, TARGETS[0]) and cell["rank"] in (None, RANK)
    table = next((name for tables in TABLE_OF.values() for corpus, name in tables.items() if corpus == cell["corpus"]), None)
    if not ours or "own" in cell or table is None or cell["model"] in EXTRACTIVE or (cell["epochs"] is None and cell["method"] != "none"):
        return None
    return papers.value("derkach2024", table.removesuffix("-v2"), metric=metric, method=cell["method"])


@lru_cache(maxsize=4_000)
def _samples(path: Path, sha256: str, metric: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(ids, numerators, denominators) of one record, documents in the order of their ids."""
    measure = MEASURES[choose("metric", metric, MEASURES)]
    kept = _kept(path, sha256)
    over = kept[measure.over] if isinstance(measure.over, str) else np.full(len(kept["id"]), measure.over)
    return kept["id"], kept[measure.of], over


@lru_cache(maxsize=1_000)
def _kept(path: Path, sha256: str) -> dict:
    """The numbers of a record's samples by name; texts are let go."""
    samples = sorted(records.read_samples(path), key=lambda sample: sample["id"])
    ids = tuple(sample["id"] for sample in samples)
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: an id occurs twice in its samples")
    numbers = [name for name, value in samples[0].items() if isinstance(value, (int, float))]
    return {"id": ids} | {name: np.array([sample[name] for sample in samples], dtype=float) for name in numbers}
