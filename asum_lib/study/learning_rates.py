"""The table of learning rates: each size fine-tuned at five fractions of its pre-training rate, tried on target and source by epoch.

With AdaLoRA means int8 + AdaLoRA, the paper's configuration; without means full fine-tuning in full precision. The claims on it, A8
and A9, have their rules in the ledger, on the table `whisper_wer`. What this table adds is read by these rules, written before
its grid was run (the rates 1 and 1/40 on the target were known from `whisper_wer` by then):

- a rate is best for a size and method if its test WER is the lowest of the five; others tie with it by Holm within these five;
- it harms if test WER is above that of the same model before training, and forgets if dev WER on the source after the last
  epoch is above that before the first, each by bootstrap paired over utterances, Holm-corrected within size and method;
- larger models forget more if that change on the source is larger for large than for tiny, at the same rate and method.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import records, tables
from asum_lib.study.cells import EPOCHS, LEARNING_RATES, PAPER_RATE, RATES, SIZES, Cell, make_cell
from asum_lib.study.execute import parameters_of
from asum_lib.study.records import Record

NOTEBOOK = "notebooks/learning_rates.ipynb"
PRECISION_OF = {"full": "fp32", "adalora": "int8"}
SEEDS = {"tiny": (0, 1, 2), "base": (0, 1, 2), "small": (0,), "medium": (0,), "large": (0,)}  # as many as two cores had time for


@dataclass(frozen=True)
class Row:
    """The measured cells of one size: parallel tuples of record paths and records."""

    size: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


def make_rates(size: str, rates=RATES, methods=tuple(PRECISION_OF), seeds=(0,), epochs: int = EPOCHS) -> list[Cell]:
    """The cells of one size; raises `InputError` with the choices."""
    for name, values in {"rates": rates, "methods": methods, "seeds": seeds}.items():
        if isinstance(values, str) or not list(values):
            raise InputError(f"{name} {values!r} is not a list with at least one entry")
    for method in methods:
        if method not in PRECISION_OF:
            raise InputError(f"unknown method {method!r} of the learning rates: choose from {', '.join(PRECISION_OF)}")
    return [
        make_cell(size, PRECISION_OF[method], method, corpus="howto", rate=rate, seed=seed, epochs=epochs, forgetting=True)
        for seed in seeds
        for method in methods
        for rate in rates
    ]


def planned_rates() -> list[Cell]:
    """Every cell of the table, seeds included."""
    return [cell for size in SIZES for cell in make_rates(size, seeds=SEEDS[size])]


def run(
    size: str = "small",
    rates: list = RATES,
    methods: list = ("full", "adalora"),
    seeds: list = (0,),
    epochs: int = EPOCHS,
    results_dir: str = "",
) -> Row:
    """Measure (or read, where fresh) the cells of one size; progress goes to stderr."""
    from asum_lib.study.run import run_cells

    cells = make_rates(size, rates, methods, seeds, epochs)
    paths, found = zip(*run_cells(cells, results=Path(results_dir) if results_dir else RESULTS, notebook=NOTEBOOK), strict=True)
    return Row(size, paths, found)


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `execute.parameters_of`."""
    return parameters_of(run, namespace)


METRICS = ("wer_pct", "source_change_points", "learning_rate")


def gather(results=RESULTS) -> list[tables.Row]:
    """The planned cells of the table with their records, a row a size, method and rate, seeds pooled."""
    planned: dict[tuple, list[Cell]] = {}
    for cell in planned_rates():
        planned.setdefault((cell.size, cell.method, cell.rate), []).append(cell)
    rows = []
    for cells in planned.values():
        paths = [cell.path(Path(results)) for cell in cells]
        found = tuple((path, records.read(path)) for path in paths if path.is_file())
        identity = {key: value for key, value in cells[0].as_dict().items() if key in tables.IDENTITY}
        rows.append(tables.Row(identity, tuple(cell.seed for cell in cells), found))
    return rows


def untrained(size: str, method: str, results=RESULTS) -> tables.Row:
    """The same model before training: a row of `whisper_wer`."""
    wanted = {"size": size, "precision": PRECISION_OF[method], "method": "none"}
    return next(row for row in tables.gather("whisper_wer", "mini", results) if all(row.cell[key] == value for key, value in wanted.items()))


def change(row: tables.Row, split: str, epoch: int | None = None) -> stats.Difference:
    """WER of `split` (dev, source) after `epoch` (the last one) minus before training, in points, paired by utterance and seed."""
    last = epoch if epoch is not None else row.measured[0][1].history[-1]["epoch"]
    _, words = tables.check_comparable([row], split, [0, last])
    after, before = (tables.pooled_counts(row.measured, split, number)[1] for number in (last, 0))
    return stats.contrast([(1, after - before)], words)


def rows(table: str = LEARNING_RATES, scale: str = "mini", results=RESULTS) -> list[dict]:
    """The table as objects, three a cell: WER on the target's test set, change of WER on the source, and the rate itself beside the paper's."""
    choose("table", table, [LEARNING_RATES])
    choose("scale", scale, ["mini"])
    found = []
    for row in gather(results):
        measured = row.measured
        signature = measured[0][1].metrics[tables.METRIC].signature if measured else None
        common = {"cell": row.cell, "seeds": [record.cell["seed"] for _, record in measured], "status": row.status, "signature": signature}
        common |= {
            "reason": None if row.complete else "; ".join(row.problems),
            "records": [os.path.relpath(p, Path(results).parent) for p, _ in row.found],
        }
        nothing = {"paper": None, "paper_status": None, "paper_source": None}
        value = lo = hi = n = None
        if measured:
            ids, errors, words = tables.pooled_counts(measured)
            (value, lo, hi), n = stats.ratio_interval(errors, words), len(ids)
        found.append({**common, "metric": "wer_pct", "value": value, "lo": lo, "hi": hi, "unit": "%", "n": n, **nothing})
        forgot = change(row, "source") if measured else None
        n = len(tables.pooled_counts(measured, "source", 0)[0]) if measured else None
        values = {"value": forgot.value, "lo": forgot.lo, "hi": forgot.hi} if forgot else dict.fromkeys(("value", "lo", "hi"))
        found.append({**common, "metric": "source_change_points", **values, "unit": "points of WER", "n": n, **nothing})
        paper = papers.value("derkach2024", LEARNING_RATES, size=row.cell["size"]) if row.cell["rate"] == PAPER_RATE else None
        known = {f"paper{key}": paper[name] for key, name in {"": "value", "_status": "status", "_source": "source"}.items()} if paper else nothing
        rate = measured[0][1].config["training"]["learning_rate"] if measured else None
        found.append({**common, "metric": "learning_rate", "value": rate, "lo": rate, "hi": rate, "unit": "peak learning rate", "n": None, **known})
    return found


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The rows as a Markdown table, a line a cell and metric."""
    columns = ("size", "method", "rate", "metric", "value (95 % interval)", "seeds", "paper", "status")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in table_rows:
        cell, paper = row["cell"], "" if row["paper"] is None else f"{row['paper']:g} ({row['paper_status']})"
        if row["value"] is None:
            value = ""
        elif row["metric"] == "learning_rate":
            value = f"{row['value']:g}"
        else:
            value = f"{row['value']:.1f} ({row['lo']:.1f} to {row['hi']:.1f})"
        status = row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"
        fields = [cell["size"], cell["method"], cell["rate"], row["metric"], value, len(row["seeds"]) or "", paper, status]
        lines.append("| " + " | ".join(map(str, fields)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":  # the planned cells of the sizes named, the first seed of all of them first
    import sys

    from asum_lib.study.run import run_cells

    run_cells(sorted((cell for cell in planned_rates() if cell.size in sys.argv[1:]), key=lambda cell: cell.seed), results=RESULTS)
