"""Verdicts on the claims about memory: A4 (trainable parameters), A7 (savings by precision), A11 (LoRA's share at 7B).

Their rules are data in the papers' YAML files, written before the table was measured. Figures are counts or peaks at the real sizes, not
samples of a population: a part holds or contradicts, and no part is a tie. `judge` reads the rows of `memory_table`.
"""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.study import memory_table

QUANTISED = ("int8", "int4")
RESTS = ("float32", "float16")


@dataclass(frozen=True)
class Part:
    """One comparison: a value, the range in which the claim holds, and the records behind it; None where not measured."""

    what: str
    value: float | None
    low: float
    high: float
    unit: str
    records: tuple[str, ...]
    decides: bool = True

    @property
    def holds(self) -> bool | None:
        return None if self.value is None else self.low <= self.value <= self.high


def judge(rule: dict, results: Path) -> tuple[str, str, list[dict]]:
    """(verdict, reason in one line, evidence) of a rule of one of `KINDS`; evidence has the keys of `claims.judge`, and `unit`."""
    rows = memory_table.rows(results)
    if not any(row["records"] for row in rows):
        return "not testable", "no record of memory yet", []
    return KINDS[rule["kind"]](rule, rows)


def trainable_ratio(rule: dict, rows: list[dict]) -> tuple[str, str, list[dict]]:
    """All parameters over LoRA's trainable ones, for every model and rank of the rule."""
    low, high = rule["claimed"] / rule["within_factor"], rule["claimed"] * rule["within_factor"]
    counts = _values(rows, lambda cell: cell["precision"] == "fp32" and cell["method"] == "lora" and not cell["gradient_checkpointing"])
    parts = []
    for model in rule["models"]:
        for rank in rule["ranks"]:
            trained, total = (counts.get((model, rank, name)) for name in ("parameters_trainable", "parameters_total"))
            value = None if trained is None else (total["value"] - trained["value"]) / trained["value"]
            parts.append(Part(f"{model}, rank {rank}", value, low, high, "x", tuple(trained["records"]) if trained else ()))
    by_model = {model: [part.holds for part in parts if part.what.startswith(f"{model}, ")] for model in rule["models"]}
    said = f"{sum(bool(part.holds) for part in parts)} of {len(parts)} ratios lie within {low:g}x to {high:g}x"
    if any(all(holds is False for holds in found) for found in by_model.values()):
        verdict = "not reproduced"
    elif any(holds is None for found in by_model.values() for holds in found):
        verdict = "inconclusive"
    elif all(map(all, by_model.values())):
        verdict = "reproduced"
    else:
        verdict = "consistent"
    return verdict, said, [_evidence(part) for part in parts]


def memory_change(rule: dict, rows: list[dict]) -> tuple[str, str, list[dict]]:
    """Every reading of the savings: a metric, a baseline, a dtype for the rest; int8 and int4 at each size."""
    parts, readings = [], {}
    found = {
        _key(row): row for row in rows if row["cell"]["method"] == "none" and row["cell"]["device"] == "cpu" and row["cell"]["model"] == "whisper"
    }
    for metric in rule["metrics"]:
        for baseline in rule["baselines"]:
            for rest in RESTS:
                name = f"{metric.removesuffix('_bytes')}_vs_{baseline}_pct"
                for size in rule["sizes"]:
                    pair = []
                    for precision in QUANTISED:
                        row, claimed = found.get((size, precision, rest, name)), rule["claimed_pct"][precision]
                        value = row["value"] if row else None
                        what = f"{size}: {precision} (rest {rest}), {metric.removesuffix('_bytes').replace('_', ' ')} against {baseline}"
                        bounds = (claimed - rule["within_points"], claimed + rule["within_points"])
                        pair.append(Part(what, value, *bounds, "%", tuple(row["records"]) if row else ()))
                    parts += pair
                    readings.setdefault((metric, baseline, rest), []).append([part.holds for part in pair])
    whole = [reading for reading, sizes in readings.items() if all(all(pair) for pair in sizes)]
    somewhere = [(reading, index) for reading, sizes in readings.items() for index, pair in enumerate(sizes) if all(pair)]
    missing = sum(part.value is None for part in parts)
    said = (
        f"of {len(readings)} readings {len(whole)} give both savings at every size and {len({reading for reading, _ in somewhere})} at one at least"
    )
    if whole:
        verdict = "reproduced"
    elif missing:
        verdict = "inconclusive"
    else:
        verdict = "consistent" if somewhere else "not reproduced"
    said += f"; {missing} of {len(parts)} changes are not measured" if missing else ""
    return verdict, said, [_evidence(part) for part in parts]


def adapter_share(rule: dict, rows: list[dict]) -> tuple[str, str, list[dict]]:
    """Bytes of LoRA's float32 weights over those of the model's own, by rank."""
    low, high = rule["claimed_pct"] - rule["within_pct"], rule["claimed_pct"] + rule["within_pct"]
    counts = _values(rows, lambda cell: cell["precision"] == rule["precision"] and cell["method"] == "lora")
    parts = []
    for rank in (rule["rank"], *rule["other_ranks"]):
        trained, total = (counts.get((rule["model"], rank, name)) for name in ("parameters_trainable", "parameters_total"))
        value = None if trained is None else 100 * 4 * trained["value"] / (2 * (total["value"] - trained["value"]))
        records = tuple(trained["records"]) if trained else ()
        parts.append(Part(f"{rule['model']} in {rule['precision']}, rank {rank}: LoRA's weights", value, low, high, "% of the weights", records))
    if parts[0].holds:
        verdict = "reproduced"
    elif any(part.value is None for part in parts):
        verdict = "inconclusive"
    else:
        verdict = "consistent" if any(part.holds for part in parts) else "not reproduced"
    at_rank = "not accounted for yet" if parts[0].value is None else f"{parts[0].value:.2f} % of the weights"
    return verdict, f"at rank {rule['rank']} LoRA's weights are {at_rank}", [_evidence(part) for part in parts]


KINDS = {"trainable_ratio": trainable_ratio, "memory_change": memory_change, "adapter_share": adapter_share}


def _values(rows: list[dict], wanted) -> dict[tuple, dict]:
    """{(model, rank, metric): row} of the cells on a CPU that are wanted."""
    chosen = (row for row in rows if row["cell"]["device"] == "cpu" and row["value"] is not None and wanted(row["cell"]))
    return {(f"{row['cell']['model']}-{row['cell']['size']}", row["cell"]["rank"], row["metric"]): row for row in chosen}


def _key(row: dict) -> tuple:
    cell = row["cell"]
    return cell["size"], cell["precision"], cell["rest"], row["metric"]


def _evidence(part: Part) -> dict:
    outcome = {None: "missing", True: "holds", False: "contradicts"}[part.holds]
    return {
        "what": part.what,
        "expect": f"{part.low:g} to {part.high:g}",
        "difference": part.value,
        "lo": None,
        "hi": None,
        "p_holm": None,
        "outcome": outcome,
        "decides": part.decides,
        "unit": part.unit,
        "detectable": None,
        "metrics": {},
        "records": list(part.records),
    }
