"""What a record of the ROUGE tables says of the summaries that were written: a sample a document, and the metrics over all.

Only ROUGE is known for real corpora; what facts a document states is known where the generator made it.
"""

from collections.abc import Sequence

from asum_lib.corpora import texts
from asum_lib.measure import rouge, stats, summaries
from asum_lib.study.records import Metric, Record
from asum_lib.study.text_tables import CORPUS_METRICS, MEASURES

DIGITS = 6  # of the scores that are kept


def sample_rows(corpus: texts.TextCorpus, written: Sequence[str], split: str) -> list[dict]:
    """One row a document: what was to be written, what was, and every score of it."""
    references = [document.reference for document in corpus.documents]
    scores = rouge.score(references, written, corpus.language)
    if corpus.language == "ru":
        scores["rouge1_default"] = rouge.score(references, written, "ru", tokenizer="default", types=("rouge1",))["rouge1"]
    lexicon = texts.lexicon(corpus.name) if corpus.name in texts.NAMES else None
    rows = []
    for number, (document, summary) in enumerate(zip(corpus.documents, written, strict=True)):
        row = {"split": split, "id": document.id, "reference": document.reference, "summary": summary}
        row |= {kind: round(float(values[number]), DIGITS) for kind, values in scores.items()}
        row |= {"novelty": round(summaries.novelty(document.text, summary, 2) or 0.0, DIGITS), "words": len(summaries.words(summary))}
        if lexicon:
            counts = summaries.slot_counts(summary, document.facts, lexicon)
            row |= {"right": counts.right, "wanted": counts.right + counts.missed, "beside": counts.beside, "made_up": counts.made_up}
        rows.append(row)
    return rows


def metrics(corpus: texts.TextCorpus, written: Sequence[str], rows: Sequence[dict]) -> dict[str, Metric]:
    """Every metric of a record, from the rows that `sample_rows` gave, and chrF and BLEU over the whole corpus."""
    found = {}
    for name, measure in MEASURES.items():
        if measure.of not in rows[0] or (isinstance(measure.over, str) and not sum(row[measure.over] for row in rows)):
            continue
        over = [row[measure.over] if isinstance(measure.over, str) else measure.over for row in rows]
        value, lo, hi = stats.ratio_interval([[row[measure.of] for row in rows]], over)
        found[name] = Metric(value, lo, hi, measure.unit, measure.better, signature(name, corpus.language), len(rows))
    references = [document.reference for document in corpus.documents]
    for name in CORPUS_METRICS:
        score = summaries.corpus_score(name, references, written)
        found[name] = Metric(score.value, score.lo, score.hi, "0 to 100", "higher", score.signature, score.n)
    return found


def language_of(record: Record) -> str:
    """The language of a record's summaries, as its ROUGE was computed."""
    return "ru" if "tok:unicode" in record.metrics["rouge1"].signature else "en"


def signature(metric: str, language: str) -> str:
    """How a metric was computed."""
    if metric == "rouge1_default":
        return rouge.signature("rouge1", language, tokenizer="default")
    if metric in rouge.TYPES:
        return rouge.signature(metric, language)
    return {
        "fact_recall": "facts|stated of those in the reference|pool:corpus",
        "made_up": "facts|of no document|mean",
        "novelty": "novelty|n:2|tok:unicode|mean",
        "length": "words|tok:unicode|mean",
    }[metric]
