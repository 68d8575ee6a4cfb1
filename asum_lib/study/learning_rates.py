"""The table of learning rates: each size fine-tuned at five fractions of its pre-training rate, tried on target and source by epoch.

With AdaLoRA means int8 + AdaLoRA, the paper's configuration; without means full fine-tuning in full precision. The claims on it, A8
and A9, have their rules in the ledger, on the table `whisper_wer`. What this table adds is read by these rules, written before
its grid was run (the rates 1 and 1/40 on the target were known from `whisper_wer` by then):

- a rate is best for a size and method if its test WER is the lowest of the five; others tie with it by Holm within these five;
- it harms if test WER is above that of the same model before training, and forgets if dev WER on the source after the last
  epoch is above that before the first, each paired over voices, Holm-corrected within size and method;
- larger models forget more if that change on the source is larger for large than for tiny, at the same rate and method.

Holm's correction is of five rates, so nothing is marked or concluded for a size and method before all five are measured (`family`).
Four things came after the first results had been seen, and are descriptions, no tests planned beforehand: the interval of the last
rule's difference, the count of utterances behind a change (`moved`), the trade between target and source (`trade`), and the comparison
with trainings that `whisper_wer` holds (`twins`).
The plan first had three seeds of small too; its seeds 1 and 2 were dropped for want of time before any of them was run.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records, tables
from asum_lib.study.cells import EPOCHS, LEARNING_RATES, PAPER_RATE, RATES, SIZES, Cell, make_cell
from asum_lib.study.parameters import checked, of_notebook
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


@checked
def run(
    size: str = "tiny",
    rates: list[str | int] = RATES,
    methods: list[str] = ("full", "adalora"),
    seeds: list[int] = (0,),
    epochs: int = EPOCHS,
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) the cells of one size; progress goes to stderr."""
    from asum_lib.study.run import run_cells

    cells = make_rates(size, rates, methods, seeds, epochs)
    results = Path(results_dir) if results_dir else RESULTS
    paths, found = zip(*run_cells(cells, results=results, notebook=notebook), strict=True)
    return Row(size, paths, found)


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)


def gather(results=RESULTS) -> list[tables.Row]:
    """The planned cells of the table with their records, a row a size, method and rate, seeds pooled."""
    planned: dict[tuple, list[Cell]] = {}
    for cell in planned_rates():
        planned.setdefault((cell.size, cell.method, cell.rate), []).append(cell)
    rows = []
    for cells in planned.values():
        there = [(cell.path(Path(results)), placing.of_cell(cell, results)) for cell in cells]
        found = tuple((path, record) for path, record in there if record)
        identity = {key: value for key, value in cells[0].as_dict().items() if key in tables.IDENTITY}
        rows.append(tables.Row(identity, tuple(cell.seed for cell in cells), found))
    return rows


def untrained(size: str, method: str, results=RESULTS) -> tables.Row:
    """The same model before training: a row of `whisper_wer`."""
    wanted = {"size": size, "precision": PRECISION_OF[method], "method": "none"}
    return next(row for row in tables.gather("whisper_wer", "mini", results) if all(row.cell[key] == value for key, value in wanted.items()))


def change(row: tables.Row, split: str, epoch: int | None = None) -> stats.Difference:
    """WER of `split` (dev, source) after `epoch` (the last one) minus before training, in points, paired by utterance and seed."""
    last = epoch if epoch is not None else _last(row)
    _, words = tables.check_comparable([row], split, [0, last])
    after, before = (tables.pooled_counts(row.measured, split, number)[1] for number in (last, 0))
    return stats.contrast([(1, after - before)], words, tables.units_of(row.measured, split).clusters)


def measured(size: str, method: str, results=RESULTS) -> dict[str, tables.Row]:
    """{rate: row} of the rates of one size and method that have a record, the highest rate first."""
    return {row.cell["rate"]: row for row in gather(results) if (row.cell["size"], row.cell["method"]) == (size, method) and row.measured}


def family(size: str, method: str, results=RESULTS) -> dict[str, tables.Row]:
    """`measured` with the seeds that all five rates have; empty where none is, since a correction within fewer is another correction."""
    found = measured(size, method, results)
    shared = set.intersection(*({record.cell["seed"] for _, record in row.measured} for row in found.values())) if set(found) == set(RATES) else set()
    return {
        rate: replace(row, found=tuple((path, record) for path, record in row.measured if record.cell["seed"] in shared))
        for rate, row in found.items()
        if shared
    }


def marks(there: dict[str, tables.Row]) -> dict[str, str]:
    """{rate: best, tie or worse} of a family, by test WER; empty for an empty one."""
    if not there:
        return {}
    value = {rate: _wer(row) for rate, row in there.items()}
    best = min(value, key=value.get)
    p_holm = corrected({rate: tables.difference(row, there[best]) for rate, row in there.items() if rate != best})
    return {rate: "best" if rate == best else "tie" if p_holm[rate][1] >= 1 - stats.LEVEL else "worse" for rate in there}


def harms(there: dict[str, tables.Row], before: tables.Row) -> dict[str, tuple[stats.Difference, float]]:
    """{rate: (test WER after minus that of the untrained model, its p by Holm within the family)}; empty where that has no record."""
    return corrected({rate: tables.difference(row, before) for rate, row in there.items()}) if before.measured else {}


def forgets(there: dict[str, tables.Row]) -> dict[str, tuple[stats.Difference, float]]:
    """{rate: (change of WER on the source, its p by Holm within the family)}."""
    return corrected({rate: change(row, "source") for rate, row in there.items()})


def moved(row: tables.Row) -> tuple[int, int]:
    """(worse, better): how many utterances of the source, of all seeds together, have more and fewer errors at the end than before."""
    after, before = (tables.pooled_counts(row.measured, "source", number)[1] for number in (_last(row), 0))
    return int((after > before).sum()), int((after < before).sum())


def larger_minus_smaller(method: str, larger: str = SIZES[-1], smaller: str = SIZES[0], results=RESULTS) -> dict[str, stats.Difference]:
    """{rate: what `larger` loses on the source more than `smaller`, in points}; empty unless both families are whole."""
    big, little = family(larger, method, results), family(smaller, method, results)
    return {rate: _at_end([(1, big[rate], True), (-1, little[rate], True)]) for rate in RATES} if big and little else {}


@dataclass(frozen=True)
class Trade:
    """AdaLoRA at its best rate on the target, beside full fine-tuning that is no worse there and hurts the source least."""

    adalora_rate: str
    full_rate: str | None  # None where full fine-tuning is above AdaLoRA on the target at every rate
    target: stats.Difference | None  # AdaLoRA minus full: test WER
    source: stats.Difference | None  # AdaLoRA minus full: source's dev WER after the last epoch


def trade(size: str, results=RESULTS) -> Trade | None:
    """The `Trade` of one size, None unless both families are whole. Rates are chosen by the values compared: it flatters full fine-tuning."""
    adalora, full = family(size, "adalora", results), family(size, "full", results)
    if not (adalora and full):
        return None
    target = {(row.cell["method"], rate): _wer(row) for there in (adalora, full) for rate, row in there.items()}
    best = min(RATES, key=lambda rate: target["adalora", rate])
    as_good = [rate for rate in RATES if target["full", rate] <= target["adalora", best]]
    if not as_good:
        return Trade(best, None, None, None)
    mildest = min(as_good, key=lambda rate: _wer(full[rate], "source", _last(full[rate])))
    source = _at_end([(1, adalora[best], False), (-1, full[mildest], False)])
    return Trade(best, mildest, tables.difference(adalora[best], full[mildest]), source)


@dataclass(frozen=True)
class Twin:
    """A training that `whisper_wer` holds too, with the same seed."""

    method: str
    difference: float  # test WER here minus there, in points
    same_losses: bool  # the mean training loss of every epoch, to five digits


def twins(results=RESULTS) -> list[Twin]:
    """Every `Twin` of the table."""
    found = []
    for row in gather(results):
        for path, record in row.measured:
            other = Path(results) / "mini" / "whisper_wer" / path.name
            if other.is_file() and (twin := records.read(other)).status == "ok":
                losses, there = ([round(entry["train_loss"] or 0, 5) for entry in one.history] for one in (record, twin))
                difference = record.metrics[tables.METRIC].value - twin.metrics[tables.METRIC].value
                found.append(Twin(row.cell["method"], difference, losses == there))
    return found


def corrected(found: dict[str, stats.Difference]) -> dict[str, tuple[stats.Difference, float]]:
    """Each difference with its p by Holm within `found`."""
    p_holm = stats.holm([one.p for one in found.values()])
    return {key: (one, p) for (key, one), p in zip(found.items(), p_holm, strict=True)}


def significant(one: stats.Difference, p_holm: float) -> int:
    """1 where significantly above 0, -1 below, 0 for a tie."""
    return 0 if p_holm >= 1 - stats.LEVEL else 1 if one.value > 0 else -1


def _at_end(sides: list[tuple[float, tables.Row, bool]]) -> stats.Difference:
    """Weighted sum over (weight, row, minus before?) of the source's dev WER after the last epoch."""
    _, words = tables.check_comparable([row for _, row, _ in sides], "source", [0])
    weighted = []
    for weight, row, from_start in sides:
        _, errors, _ = tables.pooled_counts(row.measured, "source", _last(row))
        weighted.append((weight, errors - tables.pooled_counts(row.measured, "source", 0)[1] if from_start else errors))
    return stats.contrast(weighted, words, tables.units_of(sides[0][1].measured, "source").clusters)


def _last(row: tables.Row) -> int:
    return row.measured[0][1].history[-1]["epoch"]


def _wer(row: tables.Row, split: str = "test", epoch: int | None = None) -> float:
    return tables.interval(row.measured, split, epoch)[0]


def rows(table: str = LEARNING_RATES, scale: str = "mini", results=RESULTS) -> list[dict]:
    """The table as objects, three a cell: WER on the target's test set, change of WER on the source, and the rate itself beside the paper's."""
    choose("table", table, [LEARNING_RATES])
    choose("scale", scale, ["mini"])
    found = []
    for row in gather(results):
        there = row.measured
        signature = there[0][1].metrics[tables.METRIC].signature if there else None
        common = {"cell": row.cell, "seeds": [record.cell["seed"] for _, record in there], "status": row.status, "signature": signature}
        common |= {
            "reason": None if row.complete else "; ".join(row.problems),
            "records": [os.path.relpath(p, Path(results).parent) for p, _ in row.found],
        }
        nothing = {"paper": None, "paper_status": None, "paper_source": None}
        value = lo = hi = n = None
        if there:
            (value, lo, hi), n = tables.interval(there), len(tables.pooled_counts(there)[0])
        found.append({**common, "metric": "wer_pct", "value": value, "lo": lo, "hi": hi, "unit": "%", "n": n, **nothing})
        forgot = change(row, "source") if there else None
        n = len(tables.pooled_counts(there, "source", 0)[0]) if there else None
        values = {"value": forgot.value, "lo": forgot.lo, "hi": forgot.hi} if forgot else dict.fromkeys(("value", "lo", "hi"))
        found.append({**common, "metric": "source_change_points", **values, "unit": "points of WER", "n": n, **nothing})
        paper = papers.value("derkach2024", LEARNING_RATES, size=row.cell["size"]) if row.cell["rate"] == PAPER_RATE else None
        known = {f"paper{key}": paper[name] for key, name in {"": "value", "_status": "status", "_source": "source"}.items()} if paper else nothing
        rate = there[0][1].config["training"]["learning_rate"] if there else None
        common["signature"] = None  # the rate is set, nothing scored it
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
        fields = [cell["size"] or cell["model"], cell["method"], cell["rate"] or "", row["metric"], value, len(row["seeds"]) or "", paper, status]
        lines.append("| " + " | ".join(map(str, fields)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":  # the planned cells of the sizes named, the first seed of all of them first
    import sys

    from asum_lib.study.run import run_cells

    run_cells(sorted((cell for cell in planned_rates() if cell.size in sys.argv[1:]), key=lambda cell: cell.seed), results=RESULTS)
