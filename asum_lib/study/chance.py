"""What answers reach that hear and read nothing: the lines that a table's values are held against.

All are computed from the references that a record of the table keeps:

- of words, `nothing` (no word at all), `constant` (the one reference that makes the fewest errors
  as the answer to every utterance, chosen on the same references, so no constant reaches less by
  much) and `random` (words drawn evenly from those that occur, as many as the reference has);
- of summaries, `next` (the summary of the next document: right in form, of another text).

`asum table` prints them as rows of their own, with `chance` as the model or system.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib.corpora import talks, texts
from asum_lib.measure import stats, wer
from asum_lib.paths import RESULTS
from asum_lib.study import (
    learning_rates,
    placing,
    records,
    tables,
    talk_cells,
    talk_scores,
    talk_tables,
    text_cells,
    text_scores,
    text_tables,
)
from asum_lib.study.cells import Cell
from asum_lib.study.records import Metric, Record
from asum_lib.study.talk_cells import TalkCell
from asum_lib.study.text_cells import TextCell
from asum_lib.study.units import signed, units

CHANCE = "chance"
CELLS = (Cell, TextCell, TalkCell)
ANSWERS = {  # method of a row: what it answers
    "nothing": "no word",
    "constant": "the best constant answer",
    "random": "random words, as many as were said",
    "next": "the summary of the next document",
}
DRAWS = 50  # of random words, whose mean is given


def rows(table: str, scale: str | None = None, results: Path = RESULTS) -> list[dict]:
    """The chance lines of a table as objects like its rows; none where no record keeps references."""
    scale, results = scale or "mini", Path(results)
    found = []
    for of in _lines(table, scale):
        for path, record in _one_of_each(table, scale, results):
            found += of(path, record, results)
    return found


def speech(path: Path, record: Record) -> dict[str, Metric]:
    """{answer: its WER} on the test split of a record."""
    normalizer = record.config["normalizer"]
    return _speech(path, record.samples["sha256"], record.cell["corpus"], record.cell["split"], normalizer)


def _lines(table: str, scale: str) -> list[Callable]:
    """How the lines of a table are made; nothing where it has none."""
    if table in (*tables.GRIDS[scale], learning_rates.LEARNING_RATES):
        return [_speech_rows]
    if table in text_cells.TABLE_OF[scale].values():
        return [_text_rows]
    return [_talk_rows] if table in talk_cells.TABLES and table != talk_cells.COST else []


def _one_of_each(table: str, scale: str, results: Path) -> list[tuple[Path, Record]]:
    """A measured record of each corpus and split of a table; none of a corpus that has its line."""
    first, has_line = {}, set()
    for path, record in placing.load(results, scale, table, *CELLS):
        key = (record.cell["corpus"], record.cell["split"])
        if record.cell.get("system") == CHANCE:
            has_line.add(key)
        elif record.status == "ok" and record.samples:
            first.setdefault(key, (path, record))
    return [entry for key, entry in first.items() if key not in has_line]


def _speech_rows(path: Path, record: Record, results: Path) -> list[dict]:
    cell = dict.fromkeys(tables.IDENTITY) | {key: record.cell[key] for key in ("corpus", "split")}
    return [_row(cell | {"model": CHANCE, "method": answer}, tables.METRIC, metric, path, results) for answer, metric in speech(path, record).items()]


@lru_cache(maxsize=32)
def _speech(path: Path, sha256: str, corpus: str, split: str, normalizer: str) -> dict[str, Metric]:
    samples = records.read_samples(path)
    test = [row for row in samples if row["split"] == split and "epoch" not in row]
    if not test or any(row["reference"] is None for row in test):
        return {}
    said = [wer.normalizer(normalizer)(row["reference"]).split() for row in test]
    counted = [len(words) for words in said]
    known = sorted({word for words in said for word in words})
    letters = {word: chr(position + 256) for position, word in enumerate(known)}
    coded = ["".join(letters[word] for word in words) for words in said]
    random = np.random.default_rng(stats.RANDOM_SEED)
    alphabet = list(letters.values())
    drawn = [["".join(random.choice(alphabet, len(text))) for text in coded] for _ in range(DRAWS)]
    errors = {
        "nothing": [counted],
        "constant": [_best_constant(coded)],
        "random": [_distances(coded, answers) for answers in drawn],
    }
    varying = units(corpus, split, test)
    signature = signed(wer.signature(normalizer), varying)
    found = {}
    for answer, of_draws in errors.items():
        mean = [np.mean(of_draws, axis=0)]
        interval = stats.ratio_interval(mean, counted, varying.clusters)
        found[answer] = Metric(*interval, "%", "lower", signature, len(test))
    return found


def _best_constant(coded: Sequence[str]) -> Sequence[int]:
    """Errors of every text where the answer is the one of them that makes the fewest."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    distances = cdist(sorted(set(coded)), coded, scorer=Levenshtein.distance)
    return distances[distances.sum(axis=1).argmin()]


def _distances(coded: Sequence[str], answers: Sequence[str]) -> list[int]:
    from rapidfuzz.distance import Levenshtein

    return [Levenshtein.distance(*pair) for pair in zip(coded, answers, strict=True)]


def _text_rows(path: Path, record: Record, results: Path) -> list[dict]:
    cell = dict.fromkeys(text_tables.IDENTITY) | {"model": CHANCE, "method": "next"}
    return _summary_rows(cell, _text, path, record, results)


def _talk_rows(path: Path, record: Record, results: Path) -> list[dict]:
    cell = dict.fromkeys(talk_tables.IDENTITY) | {"system": CHANCE, "method": "next"}
    return _summary_rows(cell, _talks, path, record, results)


def _summary_rows(cell: dict, of: Callable, path: Path, record: Record, results: Path) -> list[dict]:
    cell = cell | {key: record.cell[key] for key in ("corpus", "split")}
    found = of(path, record.samples["sha256"])
    return [_row(cell, name, metric, path, results) for name, metric in found.items()]


@lru_cache(maxsize=16)
def _text(path: Path, sha256: str) -> dict[str, Metric]:
    record = records.read(path)
    corpus, split, language = record.cell["corpus"], record.cell["split"], text_scores.language_of(record)
    if not (samples := _next_summaries(path, record)):
        return {}
    documents, lexicon = {}, None
    if corpus in texts.NAMES:
        lexicon = texts.lexicon(corpus)
        documents = {one.id: one for one in texts.load_texts(corpus, split).documents}
    scored = text_scores.score_rows(samples, language, documents, lexicon)
    return text_scores.metrics(record.cell, scored, language)


@lru_cache(maxsize=16)
def _talks(path: Path, sha256: str) -> dict[str, Metric]:
    record = records.read(path)
    corpus, split = record.cell["corpus"], record.cell["split"]
    if not (samples := _next_summaries(path, record)):
        return {}
    facts = {script.id: script.facts for script in talks.scripts(corpus, split)}
    kinds = record.table == talk_cells.VIDEO
    scored = talk_scores.score_rows(samples, facts, talks.lexicon(corpus), kinds)
    return talk_scores.metrics(record.cell, scored)


def _next_summaries(path: Path, record: Record) -> list[dict]:
    """The samples with the reference of the next as the summary; none where they are not kept."""
    samples = records.samples_of(record, path)
    references = [row["reference"] for row in samples]
    if None in references:
        return []
    turned = references[1:] + references[:1]
    return [
        {"split": row["split"], "id": row["id"], "reference": row["reference"], "summary": summary}
        for row, summary in zip(samples, turned, strict=True)
    ]


def _row(cell: dict, name: str, metric: Metric, path: Path, results: Path) -> dict:
    nothing = ("reason", "caveat", "weights_bytes", "kept_rank_mean", "trainable", "kept", "learning_rate")
    values = {"value": metric.value, "lo": metric.lo, "hi": metric.hi, "unit": metric.unit}
    values |= {"n": metric.n, "seeds": [], "signature": metric.signature, "status": "ok"}
    paper = dict.fromkeys(("paper", "paper_status", "paper_source"))
    where = [os.path.relpath(path, results.parent)]  # whose references they are computed from
    return {"cell": cell, "metric": name} | values | paper | dict.fromkeys(nothing) | {"records": where}
