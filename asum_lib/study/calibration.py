"""Is the apparatus right at scale paper? A published checkpoint must land on its published WER before its row counts.

The rule, written before any run. The zero-shot fp32 cell of a size on LibriSpeech test-clean is *calibrated* if the interval
[lo, hi] of its measured WER (over speakers, or utterances where they are too few, 95 %) meets the published value widened by half a unit of its
last digit: lo - h <= published <= hi + h, where h is 0.05 for a published 2.7. Where it does not, the state is *off*. Only a
measurement of the whole of test-clean (2,620 utterances) counts, scored with Whisper's English normaliser (`whisper-en`), of
the pinned revisions of the checkpoint and of the corpus, without any training; anything else is *not measured*. A size whose
published figure is unknown or unverified has *no published figure*, whatever was measured.

The published figures are data: `papers/whisper2022.yaml`. Nothing here loads a model; the record is read, not made.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from asum_lib import hub, papers
from asum_lib.errors import choose
from asum_lib.paths import RESULTS
from asum_lib.study import records

STATES = ("calibrated", "off", "not measured", "no published figure")
UTTERANCES = 2_620  # of LibriSpeech test-clean
NORMALIZER = "whisper-en"
PAPER, TABLE = "whisper2022", "librispeech_test_clean"
USABLE = ("primary", "secondary", "derived")  # an unverified figure is never held against anything
DATASET = "openslr/librispeech_asr"


@dataclass(frozen=True)
class Calibration:
    """The calibration of one size. WER in per cent; null where there is no such figure."""

    size: str
    state: str  # one of STATES
    published: float | None
    published_status: str
    published_source: str
    measured: float | None
    lo: float | None
    hi: float | None
    n: int | None  # utterances behind the measured value
    record: str | None  # path relative to the folder that holds `results`, null where there is no record
    reason: str  # one line


def sizes() -> list[str]:
    """Every checkpoint whose published figure is listed, known or not, in the order of the list."""
    return [entry["cell"]["size"] for entry in papers.load(PAPER)["tables"][TABLE]["cells"]]


def calibration(size: str, results: Path = RESULTS) -> Calibration:
    """Hold the record `results/paper/whisper_librispeech/whisper-<size>-fp32-none-s0.json` against the published figure.

    Raises `InputError` for a size that is not listed, and for a record that cannot be read.
    """
    choose("size", size, sizes())
    entry = papers.value(PAPER, TABLE, size=size)
    usable = entry["status"] in USABLE
    path = Path(results) / "paper" / "whisper_librispeech" / f"whisper-{size}-fp32-none-s0.json"
    record = records.read(path) if path.is_file() else None
    metric = record.metrics.get("wer_pct") if record and record.status == "ok" else None
    unfit = _unfit(record, size) if record else "no record of it yet"
    if not usable:
        state, reason = "no published figure", f"its figure is {entry['status']}: {entry['source']}"
    elif unfit:
        state, reason = "not measured", unfit
    else:
        half = half_unit(entry["value"])
        meets = metric.lo - half <= entry["value"] <= metric.hi + half
        state = "calibrated" if meets else "off"
        reason = f"published {entry['value']:g}, measured {metric.value:.2f} ({metric.lo:.2f} to {metric.hi:.2f})"
    return Calibration(
        size=size,
        state=state,
        published=entry["value"] if usable else None,
        published_status=entry["status"],
        published_source=entry["source"],
        measured=metric.value if metric else None,
        lo=metric.lo if metric else None,
        hi=metric.hi if metric else None,
        n=metric.n if metric else None,
        record=path.relative_to(Path(results).parent).as_posix() if record else None,
        reason=reason,
    )


def caveat(size: str, results: Path = RESULTS) -> str | None:
    """What a row of this size must say beside its numbers; None where its checkpoint is calibrated."""
    if size not in sizes():
        return "not calibrated: no published figure is listed for it"
    found = calibration(size, results)
    return None if found.state == "calibrated" else f"not calibrated ({found.state}: {found.reason})"


def half_unit(value: float) -> float:
    """Half a unit of the last digit of a figure as it is written: 0.05 for 2.7, 0.00005 for 7.5471.

    >>> half_unit(2.7)
    0.05
    """
    return float(Decimal(1).scaleb(Decimal(repr(value)).as_tuple().exponent) / 2)


def _unfit(record: records.Record, size: str) -> str | None:
    """Why a record cannot calibrate its size; None where it can."""
    if record.status != "ok":
        return f"the run {record.status}: {record.reason}"
    metric, cell, provenance = record.metrics["wer_pct"], record.cell, record.provenance
    if (cell["size"], cell["precision"], cell["method"], cell["corpus"], cell["split"]) != (size, "fp32", "none", "librispeech", "test"):
        return "the record is of another cell"
    if metric.n != UTTERANCES:
        return f"measured on {metric.n} utterances of {UTTERANCES}"
    if note := record.config.get("checkpoint_note"):
        return f"the checkpoint says of itself: {note}"
    if f"norm:{NORMALIZER}" not in metric.signature:
        return f"scored with another normaliser than {NORMALIZER}: {metric.signature}"
    model = f"openai/whisper-{'large-v3-turbo' if size == 'turbo' else size}"
    for what, repository, found in (("checkpoint", model, provenance["model_revision"]), ("corpus", DATASET, provenance["dataset_revision"])):
        pin = _pin(repository)
        if not found or not hub.COMMIT.fullmatch(found):
            return f"the revision of the {what} is not recorded"
        if pin and found != pin:
            return f"the {what} is revision {found[:8]}, the pinned one is {pin[:8]}"
    return None


def _pin(repository: str) -> str | None:
    """The commit that a Hub repository is pinned to; None where none is."""
    revision = hub.find(repository).revision
    return revision if revision and hub.COMMIT.fullmatch(revision) else None
