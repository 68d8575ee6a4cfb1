"""Is the apparatus right for summaries at scale paper? A released model must land on its published ROUGE before a corpus counts.

The rule, written before any run. `IlyaGusev/mbart_ru_sum_gazeta`, not trained further, in full precision and with its authors' decoding
(source cut at 600 tokens, at most 200 written, five beams, no repeated 4-gram), is scored on the whole test set. Gazeta of that version is
*calibrated* if each of ROUGE-1, ROUGE-2 and ROUGE-L, with the Unicode tokenizer, lies within half a point of the published value, or
if its 95 % interval holds it. Otherwise the state is *off*; without such a record it is *not measured*. WikiHow has *no published figure*
of a model that this study can load, so its rows keep a caveat.

The published figures are data: `papers/summarisation.yaml`. Nothing here loads a model; the record is read, not made.
"""

from dataclasses import dataclass
from pathlib import Path

from asum_lib import papers
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.study.text_cells import make_text_cell

CHECKPOINT = "IlyaGusev/mbart_ru_sum_gazeta"
SYSTEM = "mBART"
METRICS = ("rouge1", "rouge2", "rougeL")
WITHIN_POINTS = 0.5
VERSIONS = {"gazeta-v1": "v1", "gazeta-v2": "v2"}


@dataclass(frozen=True)
class Calibration:
    """The calibration of a corpus: {metric: (published, measured, lo, hi)}, measured null where there is no record."""

    corpus: str
    state: str  # calibrated, off, not measured, no published figure
    values: dict
    reason: str


def calibration(corpus: str, results: Path = RESULTS) -> Calibration:
    """Hold the record of the released model on a corpus against its published figures."""
    if corpus not in VERSIONS:
        return Calibration(corpus, "no published figure", {}, "no released model of it is known to this study")
    published = {
        metric: papers.value("summarisation", "gazeta", system=SYSTEM, version=VERSIONS[corpus], metric=metric)["value"] for metric in METRICS
    }
    path = record_path(corpus, results)
    record = records.read(path) if path.is_file() else None
    if record is None or (unfit := _unfit(record)):
        reason = unfit if record else f"no record of {CHECKPOINT} on {corpus} yet"
        return Calibration(corpus, "not measured", {metric: (value, None, None, None) for metric, value in published.items()}, reason)
    values = {metric: (value, *(getattr(record.metrics[metric], part) for part in ("value", "lo", "hi"))) for metric, value in published.items()}
    off = [
        f"{metric} {measured:.1f} instead of {value:g}"
        for metric, (value, measured, lo, hi) in values.items()
        if abs(measured - value) > WITHIN_POINTS and not lo <= value <= hi
    ]
    said = ", ".join(f"{metric} {measured:.1f} ({value:g})" for metric, (value, measured, _, _) in values.items())
    return Calibration(corpus, "off" if off else "calibrated", values, "; ".join(off) or said)


def record_path(corpus: str, results: Path = RESULTS) -> Path:
    """Where the record of the released model lies."""
    return make_text_cell(corpus, "mbart", scale="paper", size=CHECKPOINT.rpartition("/")[2]).path(Path(results))


def caveat(corpus: str, results: Path = RESULTS) -> str | None:
    """Why values on a corpus at scale paper do not count yet; None where they do."""
    found = calibration(corpus, results)
    return None if found.state == "calibrated" else f"not calibrated ({found.state}: {found.reason})"


def _unfit(record: records.Record) -> str | None:
    if record.status != "ok":
        return f"the run {record.status}: {record.reason}"
    if record.config.get("checkpoint") != CHECKPOINT:
        return f"the record is of checkpoint {record.config.get('checkpoint')}, not of {CHECKPOINT}"
    decoding = record.config["decoding"]
    wanted = {"beams": 5, "max_source_tokens": 600, "max_new_tokens": 200, "no_repeat_ngram": 4}
    if other := {name: decoding.get(name) for name, value in wanted.items() if decoding.get(name) != value}:
        return f"decoded otherwise than its authors do: {other}"
    if (record.config.get("documents") or {}).get("limit"):
        return f"measured on the first {record.config['documents']['limit']} documents only"
    if "tok:unicode" not in record.metrics["rouge1"].signature:
        return f"scored with another tokenizer: {record.metrics['rouge1'].signature}"
    return None
