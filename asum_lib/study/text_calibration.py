"""Is the apparatus right for summaries at scale paper? A released model must land on its published ROUGE before a corpus counts.

The rule, written before any run. `IlyaGusev/mbart_ru_sum_gazeta`, not trained further, in full precision, at a commit that is recorded, and
with its authors' decoding (source cut at 600 tokens, at most 200 written, five beams, no repeated 4-gram), writes summaries of the whole test
set. They are scored as its authors score, not as this study does (below). Gazeta of that version is *calibrated* if ROUGE-1 and ROUGE-2 each
lie within half a point of the published value, or if their 95 % interval holds it. Otherwise the state is *off*; without such a record it is
*not measured*. WikiHow has *no published figure* of a model that this study can load, so its rows keep a caveat.

Values of unlike signatures are never compared, and the published ones are of another signature than ours. The authors' script (`evaluate.py`
of summarus, with `--language ru --tokenize-after --lower`) counts every sign as a word beside the words, and takes ROUGE-L sentence by
sentence: on summaries of the mini models ROUGE-1 comes out up to 5 points higher than ours, and ROUGE-L up to twice as high. So the scores are
computed anew from the summaries that the record keeps. Two things about that script are not in the sources at hand. Whether an n-gram that
occurs twice counts twice: both ways are tried, and one of them has to do for both values. And how its ROUGE-L is weighed: ROUGE-L is shown
beside them and does not decide. Tokens are razdel's nearly (the same on 600 generated texts); razdel itself is not needed.

The published figures are data: `papers/summarisation.yaml`. Nothing here loads a model; the record is read, not made.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib import hub, papers
from asum_lib.corpora.texts import DOCUMENTS
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.study.text_cells import make_text_cell

STATES = ("calibrated", "off", "not measured", "no published figure")
CHECKPOINT = "IlyaGusev/mbart_ru_sum_gazeta"
SYSTEM = "mBART"
METRICS = ("rouge1", "rouge2", "rougeL")
DECIDING = ("rouge1", "rouge2")
WITHIN_POINTS = 0.5
VERSIONS = {"gazeta-v1": "v1", "gazeta-v2": "v2"}
DECODING = {"beams": 5, "max_source_tokens": 600, "max_new_tokens": 200, "no_repeat_ngram": 4}
WAYS = ("distinct n-grams", "every n-gram")  # how an n-gram that occurs twice is counted
# Numbers with their points and ranges; words joined by hyphens; runs of stops; any other sign by itself.
_TOKEN = re.compile(r"\d+(?:[.,/–—-]\d+)+|\w+(?:-\w+)*|[.?!…]+|-{2,}|[^\w\s]")


@dataclass(frozen=True)
class Calibration:
    """The calibration of a corpus: {metric: (published, measured, lo, hi)}, measured null where there is no record.

    `reason` is one line. Measured values are by the way of counting, of `WAYS`, that comes nearest.
    """

    corpus: str
    state: str  # one of STATES
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
    if record is None or (unfit := _unfit(record, corpus)):
        reason = unfit if record else f"no record of {CHECKPOINT} on {corpus} yet"
        return Calibration(corpus, "not measured", {metric: (value, None, None, None) for metric, value in published.items()}, reason)
    found = _scores(path, record.samples["sha256"])
    way = min(WAYS, key=lambda way: max(abs(found[way][metric][0] - published[metric]) for metric in DECIDING))
    values = {metric: (published[metric], *found[way][metric]) for metric in METRICS}
    off = [
        f"{metric} {value:.1f} instead of {target:g}"
        for metric, (target, value, lo, hi) in values.items()
        if metric in DECIDING and abs(value - target) > WITHIN_POINTS and not lo <= target <= hi
    ]
    said = ", ".join(f"{metric} {value:.1f} ({target:g})" for metric, (target, value, _, _) in values.items())
    return Calibration(corpus, "off" if off else "calibrated", values, f"{'; '.join(off) or said}, {way} counted")


def record_path(corpus: str, results: Path = RESULTS) -> Path:
    """Where the record of the released model lies."""
    return make_text_cell(corpus, "mbart", scale="paper", size=CHECKPOINT.rpartition("/")[2]).path(Path(results))


def caveat(corpus: str, results: Path = RESULTS) -> str | None:
    """Why values on a corpus at scale paper do not count yet; None where they do."""
    from asum_lib.study import speech_calibration

    if corpus in speech_calibration.CORPORA:
        return speech_calibration.caveat(results)
    found = calibration(corpus, results)
    return None if found.state == "calibrated" else f"not calibrated ({found.state}: {found.reason})"


def authors_rouge(references: Sequence[str], summaries: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """{way of `WAYS`: {metric: F1 in [0, 1] of every document}} as Gazeta's authors score.

    Words and signs in lower case; a full stop ends a sentence and is no token, inside a number too. ROUGE-L is the union of longest common
    subsequences over the sentences, and the same in both ways. An empty summary scores 0.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeLsum"], tokenizer=_Words())
    rows: dict[str, dict[str, list[float]]] = {way: {metric: [] for metric in METRICS} for way in WAYS}
    for reference, summary in zip(references, summaries, strict=True):
        wanted, written = authors_sentences(reference), authors_sentences(summary)
        by_sentence = scorer.score("\n".join(map(" ".join, wanted)), "\n".join(map(" ".join, written)))["rougeLsum"].fmeasure
        for way in WAYS:
            for length, metric in enumerate(DECIDING, start=1):
                rows[way][metric].append(_f1(_ngrams(wanted, length), _ngrams(written, length), distinct=way == WAYS[0]))
            rows[way]["rougeL"].append(by_sentence)
    return {way: {metric: np.array(values) for metric, values in found.items()} for way, found in rows.items()}


def authors_sentences(text: str) -> list[list[str]]:
    """The tokens of a text, sentence by sentence.

    >>> authors_sentences("В Туле, по слухам, 3.5 млн. Рады!")
    [['в', 'туле', ',', 'по', 'слухам', ',', '3'], ['5', 'млн'], ['рады', '!']]
    """
    pieces = " ".join(_TOKEN.findall(text.lower())).split(".")
    return [piece.split() for piece in pieces if piece.strip()]


class _Words:
    """A tokenizer for rouge_score that takes what is between spaces."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def _ngrams(sentences: list[list[str]], length: int) -> Counter:
    words = [word for sentence in sentences for word in sentence]
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))


def _f1(reference: Counter, summary: Counter, distinct: bool) -> float:
    if distinct:
        reference, summary = Counter(set(reference)), Counter(set(summary))
    return 2 * (reference & summary).total() / max(1, reference.total() + summary.total())


@lru_cache(maxsize=8)
def _scores(path: Path, sha256: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{way: {metric: (value, lo, hi)}} of the summaries that a record keeps, times 100; `sha256` names their content for the cache."""
    rows = [row for row in records.read_samples(path) if row["split"] == "test"]
    found = authors_rouge([row["reference"] for row in rows], [row["summary"] for row in rows])
    ones = np.ones(len(rows))
    return {way: {metric: stats.ratio_interval(values[None, :], ones) for metric, values in scores.items()} for way, scores in found.items()}


def _unfit(record: records.Record, corpus: str) -> str | None:
    """Why a record cannot calibrate its corpus; None where it can."""
    if record.status != "ok":
        return f"the run {record.status}: {record.reason}"
    if record.config.get("checkpoint") != CHECKPOINT:
        return f"the record is of checkpoint {record.config.get('checkpoint')}, not of {CHECKPOINT}"
    if (record.cell.get("precision"), record.cell.get("method")) != ("fp32", "none"):
        return f"the record is of {record.cell.get('precision')} and method {record.cell.get('method')}, not of fp32 without training"
    decoding = record.config["decoding"]
    if other := {name: decoding.get(name) for name, value in DECODING.items() if decoding.get(name) != value}:
        return f"decoded otherwise than its authors do: {other}"
    wanted, measured = DOCUMENTS[corpus]["test"], record.metrics["rouge1"].n
    if measured != wanted:
        return f"measured on {measured:,} documents, the test set has {wanted:,}"
    if not hub.COMMIT.fullmatch(record.provenance["model_revision"] or ""):
        return "the revision of the checkpoint is not recorded"
    return "the summaries are not kept" if record.samples is None else None
