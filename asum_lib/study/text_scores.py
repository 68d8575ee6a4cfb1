"""What a record of the ROUGE tables says of the summaries that were written: a sample a document, and the metrics over all.

Only ROUGE is known for real corpora; what facts a document states is known where the generator made it.
"""

from collections.abc import Mapping, Sequence

from asum_lib.corpora import texts
from asum_lib.corpora.sentences import rule_of
from asum_lib.measure import rouge, summaries
from asum_lib.study.records import Metric, Record
from asum_lib.study.scores import pooled
from asum_lib.study.text_tables import CORPUS_METRICS, MEASURES

DIGITS = 6  # of the scores that are kept


def sample_rows(corpus: texts.TextCorpus, written: Sequence[str], split: str) -> list[dict]:
    """One row a document: what was to be written, what was, and every score of it."""
    rows = [
        {"split": split, "id": document.id, "reference": document.reference, "summary": summary}
        for document, summary in zip(corpus.documents, written, strict=True)
    ]
    documents = {document.id: document for document in corpus.documents}
    lexicon = texts.lexicon(corpus.name) if corpus.name in texts.NAMES else None
    return score_rows(rows, corpus.language, documents, lexicon)


def score_rows(
    rows: Sequence[dict],
    language: str,
    documents: Mapping[str, texts.TextDocument],
    lexicon: Mapping | None,
) -> list[dict]:
    """The rows with every score of them; what is held against a document, for those of `documents`."""
    references, written = [row["reference"] for row in rows], [row["summary"] for row in rows]
    scores = rouge.score(references, written, language)
    if language == "ru":
        of_trap = rouge.score(references, written, "ru", tokenizer="default", types=("rouge1",))
        scores["rouge1_default"] = of_trap["rouge1"]
    scored = []
    for number, (row, summary) in enumerate(zip(rows, written, strict=True)):
        own = {kind: round(float(values[number]), DIGITS) for kind, values in scores.items()}
        document = documents.get(row["id"])
        if document:
            own["novelty"] = round(summaries.novelty(document.text, summary, 2) or 0.0, DIGITS)
        own["words"] = len(summaries.words(summary))
        if document and lexicon:
            counts = summaries.slot_counts(summary, document.facts, lexicon)
            own |= {"right": counts.right, "wanted": counts.right + counts.missed}
            own |= {"beside": counts.beside, "made_up": counts.made_up}
        scored.append(row | own)
    return scored


def metrics(cell: Mapping, rows: Sequence[dict], language: str, sentences: str | None = None) -> dict[str, Metric]:
    """Every metric that the rows give; chrF and BLEU where they keep the texts.

    `sentences` is the rule that cut references which are not kept.
    """
    found, references = {}, [row["reference"] for row in rows]
    kept = None not in references
    sentences = rule_of(references, language) if kept else sentences
    for name, measure in MEASURES.items():
        by_row = isinstance(measure.over, str)
        if measure.of not in rows[0] or (by_row and not sum(row[measure.over] for row in rows)):
            continue
        over = [row[measure.over] if by_row else measure.over for row in rows]
        parts = [row[measure.of] for row in rows]
        about = (measure.unit, measure.better, signature(name, language, sentences))
        found[name] = pooled(cell, rows, parts, over, *about, most=measure.most)
    for name in CORPUS_METRICS if kept else ():
        score = summaries.corpus_score(name, references, [row["summary"] for row in rows])
        values = (score.value, score.lo, score.hi)
        found[name] = Metric(*values, "0 to 100", "higher", score.signature, score.n)
    return found


def language_of(record: Record) -> str:
    """The language of a record's summaries, as its ROUGE was computed."""
    return "ru" if "tok:unicode" in record.metrics["rouge1"].signature else "en"


def signature(metric: str, language: str, sentences: str | None = None) -> str:
    """How a metric was computed; `sentences` is the rule that cuts the references."""
    if metric == "rouge1_default":
        return rouge.signature("rouge1", language, tokenizer="default")
    if metric in rouge.TYPES:
        return rouge.signature(metric, language, sentences=sentences)
    return {
        "fact_recall": "facts|stated of those in the reference|pool:corpus",
        "made_up": "facts|of no document|mean",
        "novelty": "novelty|n:2|tok:unicode|mean",
        "length": "words|tok:unicode|mean",
    }[metric]
