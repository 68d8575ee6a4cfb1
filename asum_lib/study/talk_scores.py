"""What a record of the talk tables says of what was written: a sample a talk, the metrics over all.

Used by `talk_run` when a cell is measured, and by `rescoring` when its record is scored again.
"""

from collections.abc import Mapping, Sequence

from asum_lib.corpora import talks
from asum_lib.corpora.sentences import rule_of
from asum_lib.corpora.texts import Fact
from asum_lib.measure import rouge, summaries, wer
from asum_lib.study import talk_video
from asum_lib.study.records import Metric
from asum_lib.study.scores import pooled
from asum_lib.study.text_tables import MEASURES, OF_KIND

NORMALIZER = "whisper-basic"
DIGITS = 6  # of the scores that are kept
LANGUAGE = "en"


def sample_rows(
    corpus: talks.Talks,
    written: Sequence[str],
    heard: Sequence[str] | None = None,
    kinds: bool = False,
) -> list[dict]:
    """One row a talk: what was to be written and what was, every score, and what was heard.

    `kinds` adds the facts of each kind, see `talk_video.by_kind`.
    """
    rows = []
    for number, (talk, summary) in enumerate(zip(corpus.talks, written, strict=True)):
        row = {"split": corpus.split, "id": talk.id, "reference": talk.summary, "summary": summary}
        if heard is not None:
            row |= {"transcript": talk.transcript, "heard": heard[number]}
        rows.append(row)
    facts = {talk.id: talk.facts for talk in corpus.talks}
    return score_rows(rows, facts, talks.lexicon(corpus.name), kinds)


def score_rows(
    rows: Sequence[dict],
    facts: Mapping[str, Sequence[Fact]],
    lexicon: Mapping,
    kinds: bool = False,
) -> list[dict]:
    """The rows with every score of them; facts are counted for the talks that `facts` has."""
    references, written = [row["reference"] for row in rows], [row["summary"] for row in rows]
    scores = rouge.score(references, written, LANGUAGE)
    heard = [row for row in rows if row.get("heard") is not None]
    transcripts = [row["transcript"] for row in heard]
    counts = iter(wer.count_errors(transcripts, [row["heard"] for row in heard], NORMALIZER))
    scored = []
    for number, row in enumerate(rows):
        own = {kind: round(float(values[number]), DIGITS) for kind, values in scores.items()}
        if row["id"] in facts:
            own |= _facts(facts[row["id"]], row["summary"], lexicon)
        own["words"] = len(summaries.words(row["summary"]))
        if row.get("heard") is not None:
            count = next(counts)
            own |= {"asr_errors": count.errors, "asr_words": count.words}
        if kinds and row["id"] in facts:
            own |= talk_video.by_kind(facts[row["id"]], row["summary"])
        scored.append(row | own)
    return scored


def metrics(cell: Mapping, rows: Sequence[dict]) -> dict[str, Metric]:
    """Every metric that the rows have the numbers of."""
    found = {}
    sentences = rule_of([row["reference"] for row in rows], LANGUAGE) if "reference" in rows[0] else None
    for name, measure in MEASURES.items():
        by_row = isinstance(measure.over, str)
        if measure.of not in rows[0] or (by_row and measure.over not in rows[0]):
            continue
        over = [row[measure.over] if by_row else measure.over for row in rows]
        parts = [row[measure.of] for row in rows]
        about = (measure.unit, measure.better, signature(name, sentences))
        found[name] = pooled(cell, rows, parts, over, *about, most=measure.most)
    return found


def signature(metric: str, sentences: str | None = None) -> str:
    """How a metric was computed; `sentences` is the rule that cuts the references."""
    if metric in rouge.TYPES:
        return rouge.signature(metric, LANGUAGE, sentences=sentences)
    if metric == "wer_pct":
        return wer.signature(NORMALIZER)
    by_name = {
        **dict.fromkeys((f"{kind}_recall" for kind in OF_KIND), "facts of a kind|stated of those in the reference|pool:corpus"),
        "fact_recall": "facts|stated of those in the reference|pool:corpus",
        "made_up": "facts|of no talk|mean",
        "length": "words|tok:unicode|mean",
        "step_right": "step|the one in the reference and no other|mean",
    }
    of_time = f"{metric}|one talk at a time, in turn|mean"
    return by_name.get(metric, of_time if metric.endswith("_ms") else f"{metric}|a process")


def _facts(facts: Sequence[Fact], summary: str, lexicon: Mapping) -> dict:
    found = summaries.slot_counts(summary, facts, lexicon)
    wanted = found.right + found.missed
    counts = {"right": found.right, "wanted": wanted, "beside": found.beside, "made_up": found.made_up}
    if steps := [fact for fact in facts if fact.kind == "step"]:
        of_step = summaries.slot_counts(summary, steps, {"step": lexicon["step"]})
        counts["step_right"] = float(of_step.right == 1 and not of_step.beside and not of_step.made_up)
    return counts
