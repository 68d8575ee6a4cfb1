"""The table `memory`: which cells it has, which of them a CPU measures, and its rows, one a cell and metric (`asum table memory`).

It is at scale `paper` alone: memory does not depend on what the weights are, so random ones of the real sizes do.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import fit, placing, records
from asum_lib.study.memory_footprint import LIMIT_BYTES, RANK, SCALE, Cell, Row, make_cell, measure_cells

SIZES = ("tiny", "base", "small", "medium", "large")  # the paper's
PRECISIONS = ("fp32", "fp16", "int8", "int4")
BASELINES = ("fp32", "fp16")
RANKS = (4, 16, 32, 64)  # beside `RANK`
OTHER_MODELS = ("whisper-large-v3", "whisper-turbo", "t5-small", "t5-base", "t5-large", "mbart-large", "llama-7b")
RANKED_MODELS = (*(f"whisper-{size}" for size in SIZES), "t5-small", "t5-base", "t5-large", "mbart-large")
# (metric, the accounted one beside it) of a cell without training, in the order of its life
LOADED = {
    "weights_bytes": None,
    "footprint_bytes": None,
    "disk_bytes": None,
    "load_peak_bytes": "load_peak_accounted_bytes",
    "decode_peak_bytes": "decode_peak_accounted_bytes",
    "saved_load_peak_bytes": None,
}
TRAINED = {"train_peak_bytes": "train_peak_accounted_bytes"}
GPU = tuple(f"{step}_peak_{kind}_bytes" for step in ("load", "decode", "train") for kind in ("allocated", "reserved", "driver"))
_FLOAT_AND_QUANTISED = (("fp32", "full"), *((precision, method) for precision in ("fp32", "int8", "int4") for method in ("lora", "adalora")))
# The training steps that a CPU measures, fewer as the model grows; the rest is accounted for.
_STEPS = {
    "whisper-tiny": tuple((precision, method) for precision in PRECISIONS for method in ("lora", "adalora", "full")),  # the notebook's own
    "whisper-base": _FLOAT_AND_QUANTISED,
    "whisper-small": (("fp32", "adalora"), ("fp32", "full"), ("int8", "lora"), ("int8", "adalora"), ("int4", "adalora")),
    "whisper-medium": (("fp32", "full"), ("int8", "adalora"), ("int4", "adalora")),
    "whisper-large": (("int8", "adalora"), ("int4", "adalora")),
    "t5-small": _FLOAT_AND_QUANTISED,
    "t5-base": (("fp32", "lora"), ("fp32", "adalora")),
    "mbart-large": (("int8", "lora"), ("int4", "adalora")),
}
HALF_REASON = "a CPU takes minutes for a training step in float16: accounted only"
TIME_REASON = "left out of the CPU grid for its time: accounted only"
OTHER_REASON = "accounted only"
GPU_REASON = "not measured yet"


@cache
def planned(device: str = "cpu") -> tuple[Cell, ...]:
    """Every cell of the table on a device, in its order."""
    cells = [make_cell(f"whisper-{size}", precision, "none", device=device) for size in SIZES for precision in PRECISIONS]
    cells += [
        make_cell(f"whisper-{size}", precision, method, device=device)
        for size in SIZES
        for precision in PRECISIONS
        for method in ("lora", "adalora", "full")
        if not (method == "full" and precision in fit.QUANTISED)
    ]
    cells += [make_cell(f"whisper-{size}", precision, "none", rest="float16", device=device) for size in SIZES for precision in ("int8", "int4")]
    if device != "cpu":
        return tuple(cells)
    checkpointing = {"gradient_checkpointing": True}
    cells += [make_cell(f"whisper-{size}", precision, "adalora", **checkpointing) for size in SIZES for precision in ("int8", "int4")]
    for model in OTHER_MODELS:
        pairs = [(precision, method) for precision in PRECISIONS for method in fit.METHODS]
        cells += [make_cell(model, *pair) for pair in pairs if not (pair[0] in fit.QUANTISED and pair[1] == "full")]
    cells += [make_cell(model, "fp32", "lora", rank=rank) for model in RANKED_MODELS for rank in (16, 32)]
    return (*cells, *(make_cell("llama-7b", "fp16", "lora", rank=rank) for rank in RANKS))


def is_measured(cell: Cell) -> bool:
    """Whether the CPU grid measures a cell, beside accounting for it."""
    if not _is_usual(cell):
        return False
    if cell.method == "none":
        return cell.model == "whisper"
    return (cell.precision, cell.method) in _STEPS[f"{cell.model}-{cell.size}"]


def _is_usual(cell: Cell) -> bool:
    """Whether a cell is one of those of which the CPU grid measures some."""
    return f"{cell.model}-{cell.size}" in _STEPS and not cell.gradient_checkpointing and cell.rank in (None, RANK)


def measure(models: Sequence[str] = (), device: str = "cpu", results: Path = RESULTS, notebook: str | None = None, progress=None) -> list[Row]:
    """Fill the table: every planned cell (of `models`, if given) that has no record yet, model by model."""
    cells = planned(device)
    rows = []
    for model in dict.fromkeys(f"{cell.model}-{cell.size}" for cell in cells):
        if models and model not in models:
            continue
        own = [cell for cell in cells if f"{cell.model}-{cell.size}" == model]
        for measured in (True, False):
            chosen = [cell for cell in own if (device != "cpu" or is_measured(cell)) == measured]
            if chosen:
                rows.append(measure_cells(chosen, measured, Path(results), notebook, progress))
    return rows


def rows(results: Path = RESULTS) -> list[dict]:
    """The table as objects, one a cell and metric. A null value has its reason; percentages are changes against the same cell unquantised."""
    results = Path(results)
    found = {cell: placing.of_cell(cell, results) for device in ("cpu", "cuda") for cell in planned(device)}
    lines = []
    for cell, record in found.items():
        lines += _cell_rows(cell, record, results)
        if cell.method == "none" and cell.device == "cpu" and cell.precision not in BASELINES[:1] and cell.size in SIZES:
            lines += _changes(cell, record, found, results)
    return lines


def reason(cell: Cell, record: records.Record | None) -> str:
    """Why a figure of a planned cell is not measured, or not yet."""
    if record and record.reason:
        return record.reason
    if cell.device == "cuda":
        return GPU_REASON
    if record is None or is_measured(cell):
        return "no record yet"
    if not _is_usual(cell) or cell.method == "none":
        return OTHER_REASON
    if (peak := record.metrics["train_peak_accounted_bytes"].value) > LIMIT_BYTES:
        return f"accounted for {fit.gigabytes(peak)}: more than the {fit.gigabytes(LIMIT_BYTES)} that the CPU grid may take"
    return HALF_REASON if cell.precision == "fp16" else TIME_REASON


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The rows as a Markdown table, in MB of 10^6 bytes."""
    lines = ["| model | precision | rest | method | metric | value | paper | status |", "|---|---|---|---|---|---|---|---|"]
    for row in table_rows:
        cell = row["cell"]
        scaled = row["value"] is not None and row["unit"] == "bytes"
        value = "" if row["value"] is None else f"{row['value'] / 1e6:,.1f} MB" if scaled else f"{row['value']:,.1f} {row['unit']}"
        paper = "" if row["paper"] is None else f"{row['paper']:g} ({row['paper_status']})"
        method = cell["method"] + (f" r={cell['rank']}" if cell["rank"] else "") + (", checkpointing" if cell["gradient_checkpointing"] else "")
        status = row["status"] if not row["reason"] else f"{row['status']}: {row['reason']}"
        place = f"{cell['model']}-{cell['size']}" + (" on a GPU" if cell["device"] == "cuda" else "")
        lines.append("| " + " | ".join([place, cell["precision"], cell["rest"], method, row["metric"], value, paper, status]) + " |")
    return "\n".join(lines) + "\n"


def _cell_rows(cell: Cell, record: records.Record | None, results: Path) -> list[dict]:
    if cell.device == "cuda":
        metrics = ["weights_bytes", "footprint_bytes"] if cell.method == "none" else []
        metrics += [name for name in GPU if ("train" in name) == (cell.method != "none")]
    else:
        pairs = LOADED if cell.method == "none" else TRAINED
        metrics = [name for metric, accounted in pairs.items() for name in (metric, accounted) if name]
        if cell.precision not in fit.QUANTISED and "saved_load_peak_bytes" in metrics:
            metrics.remove("saved_load_peak_bytes")
    lines = [_row(cell, record, metric, results) for metric in metrics]
    if record:
        for name in ("total", "trainable"):
            value = record.params[name]
            lines.append(_object(cell, f"parameters_{name}", value, value, value, "parameters", 1, "parameters|counted", record, results))
    return lines


def _row(cell: Cell, record: records.Record | None, metric: str, results: Path) -> dict:
    measured = record.metrics.get(metric) if record else None
    if measured is None:
        return _object(cell, metric, None, None, None, "bytes", 0, None, record, results, reason(cell, record))
    return _object(cell, metric, measured.value, measured.lo, measured.hi, measured.unit, measured.n, measured.signature, record, results)


def _changes(cell: Cell, record, found: dict, results: Path) -> list[dict]:
    """Change of each metric in per cent against the same size unquantised, in float32 and in float16."""
    lines = []
    for baseline in BASELINES:
        if cell.precision == baseline:
            continue
        base = found[make_cell(f"{cell.model}-{cell.size}", baseline, "none")]
        for metric in list(LOADED)[:5]:
            own, other = (entry.metrics.get(metric) if entry else None for entry in (record, base))
            name = f"{metric.removesuffix('_bytes')}_vs_{baseline}_pct"
            if own is None or other is None:
                lines.append(_object(cell, name, None, None, None, "%", 0, None, record, results, reason(cell, record), papers_value(cell)))
                continue
            value = 100 * (own.value / other.value - 1)
            lo, hi = (
                (100 * (own.lo / other.hi - 1), 100 * (own.hi / other.lo - 1)) if None not in (own.lo, own.hi, other.lo, other.hi) else (None, None)
            )
            n = min(own.n, other.n)
            lines.append(_object(cell, name, value, lo, hi, "%", n, f"{own.signature}|against:{baseline}", record, results, None, papers_value(cell)))
            lines[-1]["records"] += [os.path.relpath(make_cell(f"{cell.model}-{cell.size}", baseline, "none").path(results), results.parent)]
    return lines


def papers_value(cell: Cell) -> dict | None:
    """What the paper says of a precision; None where it says nothing."""
    return papers.value("derkach2024", "memory", precision=cell.precision)


def _object(cell: Cell, metric, value, lo, hi, unit, n, signature, record, results: Path, why: str | None = None, paper: dict | None = None) -> dict:
    known = paper or {"value": None, "status": None, "source": None}
    return {
        "cell": cell.as_dict(),
        "metric": metric,
        "value": value,
        "lo": lo,
        "hi": hi,
        "unit": unit,
        "n": n,
        "seeds": [],
        "paper": known["value"],
        "paper_status": known["status"],
        "paper_source": known["source"],
        "signature": signature,
        "status": "ok" if value is not None else "failed" if record and record.reason else "missing",
        "reason": why,
        "records": [os.path.relpath(cell.path(results), results.parent)] if record else [],
    }


def scale_of(scale: str | None) -> str:
    """The one scale that the table has; `InputError` for another."""
    return choose("scale of the table memory", scale or SCALE, (SCALE,))


def main(arguments: list[str] | None = None) -> int:
    """The command of `runs/cpu_memory.sh` and `runs/gpu_memory.sh`: fills the table on a device."""
    import signal
    import sys
    import time

    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the random weights are removed
    start = time.perf_counter()
    try:
        if not given:
            raise InputError(f"device is missing: choose from {', '.join(fit.DEVICES)}")
        device, *models = given
        choose("device", device, fit.DEVICES)
        for model in models:
            choose("model", model, dict.fromkeys(f"{cell.model}-{cell.size}" for cell in planned(device)))
        measure(models, device)
    except InputError as error:
        print(f"memory_table: {error}", file=sys.stderr)
        return 2
    print(f"memory on {device}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
