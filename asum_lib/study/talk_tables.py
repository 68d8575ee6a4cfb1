"""The tables on speech summarisation: rows that records of talk cells make, training seeds pooled. As `text_tables` is for ROUGE."""

import os
from collections.abc import Sequence
from pathlib import Path

from asum_lib.errors import choose
from asum_lib.paths import RESULTS
from asum_lib.study import placing, text_tables
from asum_lib.study.tables import Row, rows_of
from asum_lib.study.talk_cells import IDENTITY, TABLES, TalkCell, planned_talks

COLUMNS = "corpus,system,asr,precision,method,metric,value (95 % interval),n,seeds,weights MB,trained,status".split(",")


def gather(table: str, scale: str = "mini", results=RESULTS) -> list[Row]:
    """The planned cells with their records, in the grid's order, then cells that have records but are not in the grid."""
    choose("table", table, TABLES)
    seeds: dict[tuple, list[int]] = {}
    for cell in planned_talks(table) if scale == "mini" else []:
        seeds.setdefault(_identity(cell.as_dict()), []).append(cell.seed)
    found: dict[tuple, list] = {key: [] for key in seeds}
    for path, record in placing.load(results, scale, table, TalkCell):
        found.setdefault(_identity(record.cell), []).append((path, record))
    return rows_of(IDENTITY, found, seeds)


def find(found: Sequence[Row], **cell) -> Row | None:
    """The one row with these values in its cell; None where there is none. Raises `ValueError` where there are several."""
    left = [row for row in found if all(row.cell[key] == value for key, value in cell.items())]
    if len(left) > 1:
        raise ValueError(f"{cell} leaves {len(left)} rows")
    return left[0] if left else None


def rows(table: str, scale: str = "mini", results=RESULTS) -> list[dict]:
    """The table as objects, one a cell and metric, seeds pooled (`asum table NAME --format json`); keys as in `tables.rows`."""
    return [as_object(row, metric, Path(results)) for row in gather(table, scale, results) for metric in metrics_of(row)]


def metrics_of(row: Row) -> tuple[str, ...]:
    """The metrics that the row's records have; ROUGE-1 where nothing is measured."""
    there = {name for _, record in row.measured for name in record.metrics}
    return tuple(name for name in text_tables.MEASURES if name in there) or ("rouge1",)


def as_object(row: Row, metric: str, results: Path) -> dict:
    """One entry of `rows`."""
    measured, value, lo, hi, known = row.measured, None, None, None, None
    if measured:
        value, lo, hi = text_tables.interval(row, metric)
        known = measured[0][1].metrics[metric]
    first = measured[0][1] if measured else None
    return {
        "cell": row.cell,
        "metric": metric,
        "value": value,
        "lo": lo,
        "hi": hi,
        "unit": known.unit if known else text_tables.MEASURES[metric].unit,
        "n": known.n if known else None,
        "seeds": [record.cell["seed"] for _, record in measured],
        "paper": None,
        "paper_status": "unknown",
        "paper_source": None,
        "signature": known.signature if known else None,
        "status": row.status,
        "reason": None if row.complete else "; ".join(row.problems),
        "caveat": None,
        "weights_bytes": first.memory_bytes["weights"] if first else None,
        "trainable": first.params["trainable"] if first else None,
        "records": [os.path.relpath(path, results.parent) for path, _ in row.found],
    }


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The rows as a Markdown table, a line a cell and metric."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in table_rows:
        cell = row["cell"]
        value = "" if row["value"] is None else f"{row['value']:.1f} ({row['lo']:.1f} to {row['hi']:.1f}) {row['unit']}"
        status = row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"
        weights = None if row["weights_bytes"] is None else f"{row['weights_bytes'] / 1e6:.2f}"
        fields = [cell["corpus"], cell["system"], cell["asr"], cell["precision"], cell["method"], row["metric"], value, row["n"]]
        fields += [len(row["seeds"]) or None, weights, row["trainable"], status]
        lines.append("| " + " | ".join("" if field is None else str(field).replace("|", "\\|") for field in fields) + " |")
    return "\n".join(lines) + "\n"


def _identity(cell: dict) -> tuple:
    return tuple(cell[key] for key in IDENTITY)
