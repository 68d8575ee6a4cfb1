"""What a record of the WER tables says of the transcripts: a sample an utterance, the WER of all.

Used by `run` when a cell is measured, and by `rescoring` when its record is scored again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from asum_lib.measure import wer
from asum_lib.study.records import Metric
from asum_lib.study.scores import pooled

METRIC = "wer_pct"
CURVES = ("dev", "source")  # splits that are transcribed after every epoch


def count_test(rows: Sequence[dict], normalizer: str) -> list[dict]:
    """The rows with the word errors of each kind; a row without a reference stays as it is."""
    known = [row for row in rows if row["reference"] is not None]
    counts = _counts([row["reference"] for row in known], known, normalizer)
    return [row if row["reference"] is None else row | asdict(next(counts)) for row in rows]


def count_epochs(rows: Sequence[dict], texts: Mapping[str, str], normalizer: str) -> list[dict]:
    """Rows of the curves, which keep no reference, with errors and words by `texts` ({id: text}).

    A row whose text is not known stays as it is.
    """
    known = [row for row in rows if row["id"] in texts]
    counts = _counts([texts[row["id"]] for row in known], known, normalizer)

    def counted(row: dict) -> dict:
        if row["id"] not in texts:
            return row
        count = next(counts)
        return row | {"errors": count.errors, "words": count.words}

    return [counted(row) for row in rows]


def metrics(cell: Mapping, test: Sequence[dict], normalizer: str) -> dict[str, Metric]:
    """The WER of a cell, by the rows of its test split."""
    errors = [row["substitutions"] + row["insertions"] + row["deletions"] for row in test]
    words = [row["words"] for row in test]
    return {METRIC: pooled(cell, test, errors, words, "%", "lower", wer.signature(normalizer))}


def totals(split: str, rows: Sequence[dict]) -> dict:
    """What an epoch of a history says of one of `CURVES`, by its rows."""
    errors, words = sum(row["errors"] for row in rows), sum(row["words"] for row in rows)
    rate = 100 * errors / words if words else None
    return {f"{split}_errors": errors, f"{split}_words": words, f"{split}_wer_pct": rate}


def _counts(references: Sequence[str], rows: Sequence[dict], normalizer: str):
    return iter(wer.count_errors(references, [row["hypothesis"] for row in rows], normalizer))
