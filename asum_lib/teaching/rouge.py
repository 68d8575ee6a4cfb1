"""ROUGE worked by hand: shared n-grams, the longest common subsequence, and what ROUGE does not see on real records.

The measures themselves are `asum_lib.measure.rouge` and `asum_lib.measure.summaries`; this module shows how they come about.

    >>> common_ngrams("stir and stir again".split(), "stir stir stir".split(), 1)
    {'stir': (2, 3, 2), 'and': (1, 0, 0), 'again': (1, 0, 0)}
    >>> longest_common_subsequence("mix the warm milk".split(), "the milk mix".split())
    ['the', 'milk']
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.errors import InputError
from asum_lib.measure import rouge
from asum_lib.measure.summaries import marked
from asum_lib.paths import RESULTS
from asum_lib.teaching.worked import grid, table

FOLDERS = {"howto-text": "rouge_wikihow", "news-ru": "rouge_gazeta"}  # corpus: folder of its records
SYSTEMS = {  # what the page names: file name of its record
    "Lead-3": "lead3-s0",
    "TextRank": "textrank-s0",
    "extractive oracle": "oracle-s0",
    "mBART, full fine-tuning": "mbart-mini-fp32-full-s0",
    "T5, full fine-tuning": "t5-mini-fp32-full-s0",
}


@dataclass(frozen=True)
class Facts:
    """ROUGE-1 of every document's summary (0 to 100), and the share in per cent of the reference's facts that it states."""

    system: str
    rouge1: np.ndarray  # (documents,)
    recall_pct: np.ndarray  # (documents,)


@dataclass(frozen=True)
class MadeUp:
    """A summary that states what its document does not; ROUGE-1 from 0 to 100."""

    reference: str
    summary: str
    made_up: tuple[str, ...]  # as the summary writes it
    rouge1: float


def common_ngrams(reference: Sequence[str], summary: Sequence[str], n: int) -> dict[str, tuple[int, int, int]]:
    """{n-gram: (times in the reference, times in the summary, times counted as common)}, the common ones clipped to the smaller count."""
    if n < 1:
        raise InputError(f"n-grams of {n} words: n must be at least 1")
    counts = [Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (reference, summary)]
    return {ngram: (counts[0][ngram], counts[1][ngram], min(counts[0][ngram], counts[1][ngram])) for ngram in {**counts[0], **counts[1]}}


def f1(common: int, in_reference: int, in_summary: int) -> float:
    """The harmonic mean of precision and recall, 2 x common / (both counts); 0 where there is nothing in common."""
    return 2 * common / (in_reference + in_summary) if common else 0.0


def lcs_table(reference: Sequence[str], summary: Sequence[str]) -> np.ndarray:
    """[i, j]: words in the longest common subsequence of the first i and the first j words; one row and column more than words."""
    lengths = np.zeros((len(reference) + 1, len(summary) + 1), dtype=int)
    for i, wanted in enumerate(reference, start=1):
        for j, written in enumerate(summary, start=1):
            lengths[i, j] = lengths[i - 1, j - 1] + 1 if wanted == written else max(lengths[i - 1, j], lengths[i, j - 1])
    return lengths


def longest_common_subsequence(reference: Sequence[str], summary: Sequence[str]) -> list[str]:
    """The words of one longest common subsequence, in order."""
    return [reference[i - 1] for i, _ in _matches(reference, summary)]


def show_ngrams(reference: str, summary: str, n: int, language: str = "en") -> object:
    """The n-grams of a reference and a summary with their counts, in the order of the reference, and the sums."""
    found = common_ngrams(*(rouge.tokenize(text, language) for text in (reference, summary)), n)
    lines = [[ngram, *counts] for ngram, counts in found.items()]
    return table(("", "in the reference", "in the summary", "common"), [*lines, ["sum", *np.sum(list(found.values()), axis=0)]])


def show_lcs(reference: str, summary: str, language: str = "en") -> object:
    """The table of lengths of common subsequences, the matches of a longest one marked."""
    words = [rouge.tokenize(text, language) for text in (reference, summary)]
    caption = "Rows: the reference. Columns: the summary. Framed: the words of a longest common subsequence."
    return grid(["(start)", *words[0]], ["(start)", *words[1]], lcs_table(*words).tolist(), set(_matches(*words)), caption)


def show_tokens(*texts: str) -> object:
    """What ROUGE sees of Russian texts by each tokenizer."""
    lines = [[text, *(" | ".join(rouge.tokenize(text, "ru", tokenizer=name)) or "(nothing)" for name in rouge.TOKENIZERS)] for text in texts]
    return table(("text", *rouge.TOKENIZERS), lines)


def facts(corpus: str, system: str, results: Path = RESULTS) -> Facts:
    """ROUGE-1 and facts stated of every test document that has facts to state, from the record of one of `SYSTEMS`."""
    from asum_lib.study import records

    path = results / "mini" / FOLDERS[corpus] / f"{SYSTEMS[system]}.json"
    samples = [sample for sample in records.read_samples(path) if sample["split"] == "test" and sample["wanted"]]
    shares = ([sample["rouge1"], sample["right"] / sample["wanted"]] for sample in samples)
    return Facts(system, *(100 * np.array(list(shares)).T))


def facts_table(systems: Sequence[str] = ("Lead-3", "TextRank", "extractive oracle", "mBART, full fine-tuning")) -> object:
    """Mean ROUGE-1 and facts stated of some systems on both generated corpora."""
    lines = []
    for system in systems:
        found = [facts(corpus, system) for corpus in FOLDERS]
        lines.append([system, *(f"{values.mean():.1f}" for data in found for values in (data.rouge1, data.recall_pct))])
    return table(("", *(f"{corpus}, {what}" for corpus in FOLDERS for what in ("ROUGE-1", "facts stated, %"))), lines)


def made_up_fact(corpus: str = "howto-text", system: str = "T5, full fine-tuning", results: Path = RESULTS) -> MadeUp:
    """Of a system's summaries that state a made-up fact the one of highest ROUGE-1; of equals, the one with the most such facts."""
    from asum_lib.corpora.texts import lexicon, load_texts
    from asum_lib.study import records

    samples = records.read_samples(results / "mini" / FOLDERS[corpus] / f"{SYSTEMS[system]}.json")
    worst = max((sample for sample in samples if sample["made_up"]), key=lambda sample: (sample["rouge1"], sample["made_up"], sample["id"]))
    document = next(document for document in load_texts(corpus, "test").documents if document.id == worst["id"])
    pieces, _ = marked(worst["summary"], document.facts, lexicon(corpus))
    return MadeUp(worst["reference"], worst["summary"], tuple(text for text, mark in pieces if mark == "made-up"), 100 * worst["rouge1"])


def plot_facts(data: Sequence[Facts]) -> object:
    """Facts stated against ROUGE-1, one panel a system, a dot a document."""
    from asum_lib import figures

    random, said = np.random.default_rng(0), []
    figure, axes = figures.panels(len(data), width_in=3.2)
    for axis, system, colour in zip(axes, data, figures.COLOURS, strict=False):
        spread = random.uniform(-2.5, 2.5, len(system.recall_pct))  # facts come in few steps: without it dots hide each other
        axis.scatter(system.rouge1, system.recall_pct + spread, s=9, alpha=0.4, linewidth=0, color=colour)
        axis.set(title=system.system, xlabel="ROUGE-1", xlim=(0, 102), ylim=(-5, 105))
        misled = int(((system.rouge1 >= 80) & (system.recall_pct < 50)).sum())
        said.append(
            f"{system.system}: ROUGE-1 {system.rouge1.mean():.1f} on average, facts stated {system.recall_pct.mean():.1f} per cent; "
            f"{misled} of {len(system.rouge1)} summaries have a ROUGE-1 of 80 or more and less than half of the facts"
        )
    axes[0].set_ylabel("facts stated, %")
    return figures.show(figure, "Facts of the reference that a summary states against its ROUGE-1, a dot a document. " + ". ".join(said) + ".")


def _matches(reference: Sequence[str], summary: Sequence[str]) -> list[tuple[int, int]]:
    """The (row, column) of the words of one longest common subsequence, counted from 1 as in `lcs_table`."""
    lengths, found = lcs_table(reference, summary), []
    i, j = len(reference), len(summary)
    while i and j:
        if reference[i - 1] == summary[j - 1]:
            found.append((i, j))
            i, j = i - 1, j - 1
        elif lengths[i - 1, j] >= lengths[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]
