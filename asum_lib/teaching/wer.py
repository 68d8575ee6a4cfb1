"""Word error rate worked by hand: the table of edit costs, the ways through it, and what pooling makes of a real record.

The measure itself is `asum_lib.measure.wer`; this module shows how its counts come about, on a few words.

    >>> costs = cost_table("beat eggs".split(), "heat eggs".split())
    >>> costs.tolist()
    [[0, 1, 2], [1, 1, 2], [2, 2, 1]]
    >>> [(step.kind, step.reference, step.hypothesis) for step in alignment("beat eggs".split(), "heat eggs".split())]
    [('substitution', 'beat', 'heat'), ('equal', 'eggs', 'eggs')]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.measure.wer import NORMALIZERS, count_errors, signature, wer_pct
from asum_lib.paths import RESULTS
from asum_lib.teaching.worked import grid, table

SIGNS = {"equal": "", "substitution": "S", "deletion": "D", "insertion": "I"}
RECORDS = RESULTS / "mini" / "whisper_wer"
RECORD = RECORDS / "whisper-large-fp32-none-s0.json"


@dataclass(frozen=True)
class Step:
    """One step of an alignment: the words it consumes (None where it consumes none), and the cell of the table that it leads to."""

    kind: str  # a key of SIGNS
    reference: str | None
    hypothesis: str | None
    cell: tuple[int, int]


@dataclass(frozen=True)
class Pooling:
    """WER of every utterance of a record, and the two ways to make one number of them. All in per cent."""

    utterances_pct: np.ndarray  # (utterances,)
    words: np.ndarray  # (utterances,) of the reference
    corpus_pct: float
    mean_pct: float


def cost_table(reference: Sequence[str], hypothesis: Sequence[str]) -> np.ndarray:
    """[i, j]: the fewest substitutions, deletions and insertions that turn the first i reference words into the first j hypothesis words.

    Shape (reference words + 1, hypothesis words + 1). Wagner and Fischer, The string-to-string correction problem, 1974.
    """
    costs = np.zeros((len(reference) + 1, len(hypothesis) + 1), dtype=int)
    costs[:, 0], costs[0, :] = range(len(reference) + 1), range(len(hypothesis) + 1)
    for i, spoken in enumerate(reference, start=1):
        for j, heard in enumerate(hypothesis, start=1):
            costs[i, j] = min(costs[i - 1, j - 1] + (spoken != heard), costs[i - 1, j] + 1, costs[i, j - 1] + 1)
    return costs


def alignment(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """One cheapest way from the first word to the last; of equally cheap ones that with as many substitutions as can be."""
    costs, steps = cost_table(reference, hypothesis), []
    i, j = len(reference), len(hypothesis)
    while i or j:
        kind = _steps_back(costs, reference, hypothesis, i, j)[0]
        spoken, heard = reference[i - 1] if kind != "insertion" else None, hypothesis[j - 1] if kind != "deletion" else None
        steps.append(Step(kind, spoken, heard, (i, j)))
        i, j = i - (kind != "insertion"), j - (kind != "deletion")
    return steps[::-1]


def error_counts(reference: Sequence[str], hypothesis: Sequence[str]) -> set[tuple[int, int, int]]:
    """(substitutions, deletions, insertions) of every cheapest alignment; their sum is the same for all, their split need not be."""
    costs = cost_table(reference, hypothesis)
    found: dict[tuple[int, int], set] = {(0, 0): {(0, 0, 0)}}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            here = found.setdefault((i, j), set())
            for kind in _steps_back(costs, reference, hypothesis, i, j):
                before = found[i - (kind != "insertion"), j - (kind != "deletion")]
                here |= {(s + (kind == "substitution"), d + (kind == "deletion"), n + (kind == "insertion")) for s, d, n in before}
    return found[len(reference), len(hypothesis)]


def show_costs(reference: str, hypothesis: str) -> object:
    """The table of costs of two texts, the way of `alignment` marked."""
    spoken, heard = reference.split(), hypothesis.split()
    marked = {(0, 0)} | {step.cell for step in alignment(spoken, heard)}
    caption = "Rows: the reference. Columns: the hypothesis. Framed: a cheapest way from the upper left to the lower right."
    return grid(["(start)", *spoken], ["(start)", *heard], cost_table(spoken, heard).tolist(), marked, caption)


def show_alignment(reference: str, hypothesis: str) -> object:
    """The two texts under each other, with a letter for every error: S, D or I."""
    steps = alignment(reference.split(), hypothesis.split())
    titles = ["reference", *(step.reference or "·" for step in steps)]
    return table(titles, [["hypothesis", *(step.hypothesis or "·" for step in steps)], ["error", *(SIGNS[step.kind] for step in steps)]])


def pooling(record_path: Path = RECORD) -> Pooling:
    """Both poolings of one record's test utterances, from its raw transcripts and with its own normaliser."""
    from asum_lib.study import records

    texts = _texts(record_path)
    counts = [count for count in count_errors(*texts, normalizer=records.read(record_path).config["normalizer"]) if count.words]
    errors, words = np.array([count.errors for count in counts]), np.array([count.words for count in counts])
    return Pooling(100 * errors / words, words, *poolings(errors, words))


def poolings(errors: Sequence[int], words: Sequence[int]) -> tuple[float, float]:
    """(pooled over the corpus, mean over utterances) in per cent, of counts an utterance; none may have 0 words."""
    errors, words = np.asarray(errors), np.asarray(words)
    return float(100 * errors.sum() / words.sum()), float((100 * errors / words).mean())


def by_normalizer(record_path: Path = RECORDS / "whisper-tiny-fp32-none-s0.json") -> dict[str, tuple[float | None, int]]:
    """{normaliser: (pooled WER in per cent, reference words that it leaves)} of one record's raw transcripts."""
    counts = {name: count_errors(*_texts(record_path), normalizer=name) for name in NORMALIZERS}
    return {name: (wer_pct(found), sum(count.words for count in found)) for name, found in counts.items()}


def normalizers_table() -> object:
    """`by_normalizer` with signatures."""
    lines = [[name, f"{pct:.2f}", f"{words:,}", signature(name)] for name, (pct, words) in by_normalizer().items()]
    return table(("normaliser", "WER, %", "reference words", "signature"), lines)


def plot_pooling(data: Pooling) -> object:
    """WER by the length of utterances, areas in proportion to their number, with both poolings as lines."""
    from asum_lib import figures

    lengths, numbers = np.unique(data.words, return_counts=True)
    by_length_pct = [data.utterances_pct[data.words == length].mean() for length in lengths]
    figure, (axis,) = figures.subplots()
    axis.scatter(lengths, by_length_pct, s=3 * numbers, color=figures.COLOURS[0], alpha=0.7, linewidth=0, clip_on=False)
    axis.axhline(data.corpus_pct, color=figures.COLOURS[3], label=f"pooled over the corpus: {data.corpus_pct:.2f} %")
    axis.axhline(data.mean_pct, color=figures.COLOURS[7], linestyle="--", label=f"mean over utterances: {data.mean_pct:.2f} %")
    axis.set(xlabel="reference words of the utterance", ylabel="WER, %", ylim=(0, 1.15 * max(by_length_pct)))
    axis.legend(frameon=True, loc="upper left")
    most = numbers.argmax()
    return figures.show(
        figure,
        f"Word error rate of {len(data.words)} utterances by their length, a dot for each length, its area the number of utterances. Most, "
        f"{numbers[most]}, have {lengths[most]} words and {by_length_pct[most]:.1f} per cent; the longest, of {lengths[-1]} words, "
        f"{by_length_pct[-1]:.1f} per cent. Pooled over the corpus it is {data.corpus_pct:.2f} per cent, "
        f"as a mean over utterances {data.mean_pct:.2f}.",
    )


def _texts(record_path: Path) -> tuple[list[str], list[str]]:
    """(references, raw hypotheses) of a record's test utterances."""
    from asum_lib.study import records

    samples = [sample for sample in records.read_samples(record_path) if sample["split"] == "test"]
    return [sample["reference"] for sample in samples], [sample["hypothesis"] for sample in samples]


def _steps_back(costs: np.ndarray, reference: Sequence[str], hypothesis: Sequence[str], i: int, j: int) -> list[str]:
    """The kinds of step by which a cheapest way can have come to cell (i, j), diagonal first; none at the start."""
    kinds = []
    if i and j and costs[i, j] == costs[i - 1, j - 1] + (reference[i - 1] != hypothesis[j - 1]):
        kinds.append("equal" if reference[i - 1] == hypothesis[j - 1] else "substitution")
    if i and costs[i, j] == costs[i - 1, j] + 1:
        kinds.append("deletion")
    if j and costs[i, j] == costs[i, j - 1] + 1:
        kinds.append("insertion")
    return kinds
