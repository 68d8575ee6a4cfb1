"""What `verify` does otherwise for each kind of record: speech, text, talks, corpora and memory (`kind_of`).

A `Kind` is a row of functions: how a record is scored again without a model, what its cell costs, whether it can be measured here,
how that is done, and how the new record is held against the old one. Which records are drawn, and what is kept of it, is for `verify`.
Speech and summaries are held against the recorded 95 % interval of the same seed; figures that have no sampling error against what
was recorded: the counts of a corpus and the accounted bytes exactly, a measured peak within `PEAK_SHARE`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from asum_lib.errors import InputError
from asum_lib.measure import stats
from asum_lib.study import corpora_table, memory_footprint, memory_table, records, rescoring, sweep, tables, text_tables
from asum_lib.study.cells import Cell
from asum_lib.study.records import Metric, Record
from asum_lib.study.rescoring import EXACT
from asum_lib.study.talk_cells import IN_ROOMS, VIDEO, TalkCell
from asum_lib.study.text_cells import EXTRACTIVE, TextCell
from asum_lib.study.text_cells import SIZES as TEXT_SIZES

# A peak has no sampling error to make an interval of. Repeats on one machine are nearly always within a hundredth of each other (their lowest
# and highest are recorded), but another kernel, C library or number of threads moves heap and scratch by more: a tenth is room for these, and
# still finds a copy of the weights, a gradient or a cache too many, which is what moves a peak when code or libraries change.
PEAK_SHARE = 0.1
# Of a measured memory cell, whose recorded times are of the phases alone: the imports and random weights once, and what a child takes besides.
START_S, CHILD_S = 10.0, 2.0
ACCOUNT_S = 2.0  # of a cell that is accounted for alone
# Of a talk cell, whose models are trained once for several cells: what training them takes where the cache has none of them, on one core.
TALK_TRAINING_S = {"reference": 150.0, "ladder": 150.0, "cascade": 500.0, "e2e": 1_500.0, **dict.fromkeys(IN_ROOMS[1:], 600.0)}
STALE = "made with another configuration, corpus, checkpoint or metric"
Outcome = dict  # fields of `verify.Remeasured` that the comparison sets


@dataclass(frozen=True)
class Kind:
    """How records of one kind are verified. A cell is passed as its record, a record with the path of its JSON."""

    items: str  # what is compared one by one
    headline: Callable[[Record], str]  # the metric that is shown
    rescore: Callable[[Path, Record], str | None]  # what is wrong when it is scored again
    has_scores: Callable[[Record], bool]  # whether there is anything to score again
    cost_s: Callable[[Record], float]
    stratum: Callable[[Record], object]  # of each, a sample holds a cell
    refused: Callable[[Record], str | None]  # why it can never be measured again here
    check_data: Callable[[Record], None]  # raises `InputError` where its data are not here
    fingerprint: Callable[[Record], str | None]  # that a fresh record has, where it is known beforehand
    measure: Callable[[Record, Path], tuple[Path, Record]]  # into a folder of results
    compare: Callable[[Path, Record, Path, Record], Outcome]  # old record, new record
    bounds: Callable[[str, Metric], tuple[float, float] | None]  # that the new value of a metric must be in; None where it is not held
    module: str  # that measures: what code the value rests on begins there
    when_named: str | None = None  # why a cell is measured again only where its table is named


def kind_of(record: Record) -> Kind:
    """The kind of a record; records of local files and format checks are known by their cells."""
    return KINDS[rescoring.kind(record)]


def rescore(path: Path, record: Record) -> str | None:
    """What is wrong when the record's own samples are scored again, in one line; None where all is as recorded."""
    try:
        return kind_of(record).rescore(path, record)
    except (InputError, KeyError, OSError, ValueError, EOFError) as error:
        return rescoring.error_line(error)


def _rescore_samples(path: Path, record: Record) -> str | None:
    """The first number that its samples do not give; a signature alone is no number."""
    numbers = (change for change in rescoring.score_again(path, record).changes if change.of != "metric" or set(change.before) - {"signature"})
    found = next(numbers, None)
    return found and str(found)


def _rescore_memory(path: Path, record: Record) -> str | None:
    """Held exactly: the parts of the account add up to the accounted peak, and those of the model to its weights."""
    parts = {name: value for name, value in record.config["account"].items() if name != "where"}
    weights = sum(part["bytes"] for part in record.config["parts"] if part["kind"] != "adapter")
    sums = {_accounted(record): sum(parts.values()), "weights_bytes": weights}
    for name, value in sums.items():
        if record.metrics[name].value != value:
            return f"{name} {record.metrics[name].value} recorded, its parts add up to {value}"
    return None


def _clock_s(record: Record) -> float:
    """The recorded times, or from start to finish where that is longer (dev transcripts)."""
    parts = sum(part or 0 for part in record.time_s.values())
    started, finished = record.provenance["started_at"], record.provenance["finished_at"]
    whole = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() if started and finished else 0
    return float(max(parts, whole))


def _children_s(record: Record) -> float:
    """Of a memory cell: its phases and a start for each child that measured it, or the time of its account."""
    if not record.config["measured"]:
        return ACCOUNT_S
    children = max(metric.n for metric in record.metrics.values())
    return START_S + children * (CHILD_S + sum(part or 0 for part in record.time_s.values()))


def _trained(record: Record) -> bool:
    return record.cell["method"] != "none"


def _is_measured(record: Record) -> bool:
    return record.config["measured"]


def _sampled(record: Record) -> bool:
    return record.samples is not None


def _always(record: Record) -> bool:
    return True


def _given_checkpoint(record: Record) -> str | None:
    """A checkpoint that was given by its folder: the record keeps its name, not where it lay."""
    cell = record.cell
    own = cell["model"] == "whisper" or cell["model"] in EXTRACTIVE or cell["size"] == TEXT_SIZES[record.scale].get(cell["model"])
    return None if own else "records of a checkpoint that was given by its folder"


def _talk_cost_s(record: Record) -> float:
    shipped = record.table == VIDEO and record.cell["system"] == "cascade"  # whose adapters need no training
    return _clock_s(record) + (0.0 if shipped else TALK_TRAINING_S.get(record.cell["system"], 0.0))


def _both_cost_s(record: Record) -> float:
    return _clock_s(record) + TALK_TRAINING_S["cascade"] + TALK_TRAINING_S["e2e"]


def _given_file(record: Record) -> str | None:
    from asum_lib.corpora import texts

    known = record.cell["corpus"] in (*texts.NAMES, *texts.GIVEN)
    return None if known else "records of a corpus that was given by its file"


def _no_room(record: Record) -> str | None:
    """A GPU that is not here, or more memory than is free: asked of the account, before anything is begun."""
    import torch

    from asum_lib.measure.memory import free_bytes

    if record.cell["device"] == "cuda":
        return None if torch.cuda.is_available() else "records of a GPU, and there is none here"
    free = free_bytes()
    needed = max(record.metrics[name].value for name in record.metrics if name.endswith("_accounted_bytes"))
    return "records of more memory than is free here" if record.config["measured"] and free is not None and needed > free else None


def _check_speech(record: Record) -> None:
    from asum_lib.corpora import GENERATED, digits, load_corpus

    if record.cell["corpus"] == "digits":
        digits.source()
    elif record.cell["corpus"] not in GENERATED:
        load_corpus(record.cell["corpus"], record.cell["split"])


def _check_texts(record: Record) -> None:
    from asum_lib.corpora import texts

    if record.cell["corpus"] not in texts.NAMES:
        texts.load_texts(record.cell["corpus"], record.cell["split"])


def _memory_fingerprint(record: Record) -> str:
    return memory_footprint.fingerprint(memory_footprint.Cell(**record.cell))


def _measure_speech(record: Record, folder: Path) -> tuple[Path, Record]:
    from asum_lib.study import run

    return run.run_cells([Cell(**record.cell)], results=folder, progress=sweep.silent)[0]


def _measure_text(record: Record, folder: Path) -> tuple[Path, Record]:
    from asum_lib.study import text_run

    return text_run.run_text_cells([TextCell(**record.cell)], results=folder, progress=sweep.silent)[0]


def _measure_talks(record: Record, folder: Path) -> tuple[Path, Record]:
    from asum_lib.study import talk_run

    return talk_run.run_talk_cells([TalkCell(**record.cell)], results=folder, progress=sweep.silent)[0]


def _measure_corpora(record: Record, folder: Path) -> tuple[Path, Record]:
    cell = record.cell
    row = corpora_table.run(cell["corpus"], cell["split"], limit=cell["limit"] or 0, results_dir=str(folder), notebook=None)
    return row.path, row.record


def _measure_memory(record: Record, folder: Path) -> tuple[Path, Record]:
    cell = memory_footprint.Cell(**record.cell)
    row = memory_footprint.measure_cells([cell], record.config["measured"], folder, progress=sweep.silent)
    return row.paths[0], row.records[0]


def _speech_counts(path: Path, record: Record) -> tuple:
    ids, errors, words = tables.counts(path, record.cell["split"])
    return ids, errors[np.newaxis], words


def _text_values(path: Path, record: Record) -> tuple:
    return text_tables.values(tables.Row({}, (), ((path, record),)), "rouge1")


def _compare_items(metric: str, text: str, values: Callable[[Path, Record], tuple]) -> Callable[[Path, Record, Path, Record], Outcome]:
    """How two records of the same items are held against each other: `metric` by the recorded interval, and paired item by item.

    `text` is the key of what a model wrote, `values` gives (ids, numerators[1, items], denominators[items]) of a record.
    """

    def compare(path: Path, record: Record, new_path: Path, new: Record) -> Outcome:
        ids, old, over = values(path, record)
        new_ids, now, new_over = values(new_path, new)
        if ids != new_ids or not np.array_equal(over, new_over):
            return {"verdict": "failed", "reason": "measured on other items than the record"}
        before, after = (_written(entry, of, text) for entry, of in ((path, record), (new_path, new)))
        kept = None not in before.values()  # someone else's words are not: then it is the scores that are compared
        differing = sum(before[identity] != after[identity] for identity in ids) if kept else int((now != old).sum())
        value, recorded = new.metrics[metric].value, record.metrics[metric]
        verdict, reason = "drifted", "the new value is outside the recorded interval"
        if differing == 0 and abs(value - recorded.value) <= EXACT:
            verdict, reason = "same", None
        elif differing == 0:
            reason = "what was written is equal and the value is another one: the scorer has changed"
        elif recorded.lo <= value <= recorded.hi:
            verdict, reason = "within", None
        apart = stats.paired_difference(now, old, over)
        paired = {"difference": apart.value, "difference_lo": apart.lo, "difference_hi": apart.hi}
        return {"verdict": verdict, "reason": reason, "value": value, "differing": differing, "items": len(ids), **paired}

    return compare


_compare_transcripts = _compare_items(tables.METRIC, "hypothesis", _speech_counts)
_compare_summaries = _compare_items("rouge1", "summary", _text_values)


def _compare_speech(path: Path, record: Record, new_path: Path, new: Record) -> Outcome:
    """On the test utterances, and at the end of the curves: of the learning rates, what is forgotten is read there."""
    outcome = _compare_transcripts(path, record, new_path, new)
    if outcome["verdict"] in ("same", "within") and (reason := _curve_left(path, record, new)):
        return outcome | {"verdict": "drifted", "reason": reason}
    return outcome


def _curve_left(path: Path, record: Record, new: Record) -> str | None:
    """Where the WER after the last epoch, on dev or on the source, is outside the 95 % interval that the recorded transcripts of it give."""
    if not record.history or not new.history:
        return None
    epoch = record.history[-1]["epoch"]
    for split in ("dev", "source"):
        value = new.history[-1].get(f"{split}_wer_pct")
        if value is not None:
            _, errors, words = tables.counts(path, split, epoch)
            varying = tables.units_of([(path, record)], split).clusters
            _, lo, hi = stats.ratio_interval(errors[np.newaxis], words, varying)
            if not lo - EXACT <= value <= hi + EXACT:
                return f"WER on {split} after epoch {epoch} is {value:.2f}, outside the recorded {lo:.2f} to {hi:.2f}"
    return None


def _written(path: Path, record: Record, text: str) -> dict[str, str]:
    return {row["id"]: row[text] for row in records.samples_of(record, path) if row["split"] == record.cell["split"]}


def _compare_figures(path: Path, record: Record, new_path: Path, new: Record) -> Outcome:
    """Every figure that has bounds; the first that is out of them is named and shown, else the record's headline."""
    kind = kind_of(record)
    held = {name: bounds for name, metric in record.metrics.items() if (bounds := kind.bounds(name, metric))}
    if absent := set(held) ^ {name for name, metric in new.metrics.items() if kind.bounds(name, metric)}:
        return {"verdict": "drifted", "reason": f"{min(absent)} is in one of the two records only"}
    wrong = next((name for name in held if not _holds(record.metrics[name], new.metrics[name], held[name])), None)
    differing = sum(not _equal(record.metrics[name], new.metrics[name]) for name in held)
    shown = wrong or kind.headline(record)
    verdict = "drifted" if wrong else "within" if differing else "same"
    reason = f"{wrong} is the first of the figures that do not hold" if wrong else None
    value, recorded = new.metrics[shown].value, record.metrics[shown].value
    outcome = {"verdict": verdict, "reason": reason, "metric": shown, "value": value, "difference": value - recorded}
    return outcome | {"items": len(held), "differing": differing}


def _equal(old: Metric, new: Metric) -> bool:
    pairs = ((old.value, new.value), (old.lo, new.lo), (old.hi, new.hi))
    return all(a is b is None or (a is not None and b is not None and abs(a - b) <= EXACT) for a, b in pairs)


def _holds(old: Metric, new: Metric, bounds: tuple[float, float]) -> bool:
    """A figure without play must come out with its interval."""
    return _equal(old, new) if bounds[0] == bounds[1] else bounds[0] <= new.value <= bounds[1]


def _interval_bounds(name: str, metric: Metric) -> tuple[float, float]:
    return metric.lo, metric.hi


def _exact_bounds(name: str, metric: Metric) -> tuple[float, float]:
    return metric.value, metric.value


def _memory_bounds(name: str, metric: Metric) -> tuple[float, float] | None:
    """Counts exactly; peaks from the lowest to the highest repeat, widened by `PEAK_SHARE`.

    Seconds are not held, nor by itself the part of a peak that lies in file pages, of which the system drops and reads as it likes.
    """
    if metric.signature == memory_footprint.COUNTED:
        return _exact_bounds(name, metric)
    if name not in (*memory_table.LOADED, *memory_table.TRAINED, *memory_table.GPU):
        return None
    lowest, highest = (metric.value, metric.value) if metric.lo is None else (metric.lo, metric.hi)
    return lowest * (1 - PEAK_SHARE), highest * (1 + PEAK_SHARE)


def _cost_bounds(name: str, metric: Metric) -> tuple[float, float] | None:
    """Bytes of weights exactly, peaks as those of memory; a time, which another machine or a busy one does not repeat, is not held."""
    if name.endswith("_weights_kb"):
        return _exact_bounds(name, metric)
    return (metric.lo * (1 - PEAK_SHARE), metric.hi * (1 + PEAK_SHARE)) if name.endswith("_peak_kb") else None


def _accounted(record: Record) -> str:
    return "train_peak_accounted_bytes" if _trained(record) else "decode_peak_accounted_bytes"


def _memory_headline(record: Record) -> str:
    """The measured peak of the cell's own step, or the accounted one."""
    measured = _accounted(record).replace("_accounted", "")
    return measured if measured in record.metrics else _accounted(record)


def _no_scores(path: Path, record: Record) -> None:
    return None


def _never(record: Record) -> bool:
    return False


def _random_weights(record: Record) -> str:
    return "records of random weights, on which nothing rests"


def _named(name: str) -> Callable[[Record], str]:
    return lambda record: name


def _nothing(record: Record) -> None:
    return None


KINDS = {
    "speech": Kind(
        items="utterances",
        headline=_named(tables.METRIC),
        rescore=_rescore_samples,
        has_scores=_sampled,
        cost_s=_clock_s,
        stratum=_trained,
        refused=_given_checkpoint,
        check_data=_check_speech,
        fingerprint=rescoring.fingerprint_of,
        measure=_measure_speech,
        compare=_compare_speech,
        bounds=_interval_bounds,
        module="asum_lib.study.run",
    ),
    "text": Kind(
        items="summaries",
        headline=_named("rouge1"),
        rescore=_rescore_samples,
        has_scores=_sampled,
        cost_s=_clock_s,
        stratum=_trained,
        refused=_given_checkpoint,
        check_data=_check_texts,
        fingerprint=rescoring.fingerprint_of,
        measure=_measure_text,
        compare=_compare_summaries,
        bounds=_interval_bounds,
        module="asum_lib.study.text_run",
    ),
    "talks": Kind(
        items="summaries",
        headline=_named("rouge1"),
        rescore=_rescore_samples,
        has_scores=_sampled,
        cost_s=_talk_cost_s,
        stratum=_nothing,  # of a table the cheapest: what the others stand on takes many minutes to train
        refused=_nothing,
        check_data=_nothing,
        fingerprint=rescoring.fingerprint_of,
        measure=_measure_talks,
        compare=_compare_summaries,
        bounds=_interval_bounds,
        module="asum_lib.study.talk_run",
    ),
    "talk costs": Kind(
        items="figures",
        headline=_named("e2e_weights_kb"),
        rescore=_rescore_samples,
        has_scores=_sampled,
        cost_s=_both_cost_s,
        stratum=_nothing,
        refused=_nothing,
        check_data=_nothing,
        fingerprint=rescoring.fingerprint_of,
        measure=_measure_talks,
        compare=_compare_figures,
        bounds=_cost_bounds,
        module="asum_lib.study.talk_run",
        when_named="both systems may have to be trained first",
    ),
    "corpora": Kind(
        items="metrics",
        headline=_named("text_words"),
        rescore=_rescore_samples,
        has_scores=_sampled,
        cost_s=_clock_s,
        stratum=_nothing,
        refused=_given_file,
        check_data=_check_texts,
        fingerprint=_nothing,  # known once the corpus is read, which is most of the work
        measure=_measure_corpora,
        compare=_compare_figures,
        bounds=_exact_bounds,
        module="asum_lib.study.corpora_table",
    ),
    "memory": Kind(
        items="figures",
        headline=_memory_headline,
        rescore=_rescore_memory,
        has_scores=_always,
        cost_s=_children_s,
        stratum=_is_measured,
        refused=_no_room,
        check_data=_nothing,
        fingerprint=_memory_fingerprint,
        measure=_measure_memory,
        compare=_compare_figures,
        bounds=_memory_bounds,
        module="asum_lib.study.memory_footprint",
    ),
    "long text": Kind(
        items="figures",
        headline=_named("summarize_peak_bytes"),
        rescore=_no_scores,
        has_scores=_never,
        cost_s=_clock_s,
        stratum=_nothing,
        refused=_random_weights,
        check_data=_nothing,
        fingerprint=_nothing,
        measure=_no_scores,
        compare=_compare_figures,
        bounds=_exact_bounds,
        module="asum_lib.study.long_text_check",
    ),
}
