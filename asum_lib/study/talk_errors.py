"""What errors of hearing cost a summary: word errors placed on facts or beside them, lines through cells, facts that survive.

The cells of a cascade share their talks, and a seed number means the same text model in all of them. So
intervals come from leaving out one talk (or one voice with all its talks), or one seed, of all cells at
once. The arrays are [cells, seeds, talks]. How all this is shown is for `render_talks`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asum_lib.corpora.talks import Script
from asum_lib.errors import InputError
from asum_lib.measure.stats import Difference, jackknife
from asum_lib.measure.wer import normalizer
from asum_lib.study.talk_scores import NORMALIZER

KINDS = ("task", "person", "tool", "place", "sentiment")  # of facts, as a summary tells them


@dataclass(frozen=True)
class Placed:
    """Word errors of one transcript, by where they are; the two add up to the errors that WER counts."""

    on: int  # on words that tell a fact of the summary
    beside: int  # on all others

    @property
    def group(self) -> str:
        """`none`, `beside` where no fact is touched, or `on`."""
        return "on" if self.on else "beside" if self.beside else "none"


@dataclass(frozen=True)
class Line:
    """A straight line through cells: what is at 0, and how much a point along it adds, each with its interval."""

    at_zero: Difference
    slope: Difference


def fact_phrases(script: Script) -> dict[tuple[str, str], tuple[str, ...]]:
    """{(kind, value): the words that tell it} of the facts of a talk's summary, normalised. A sentiment is told by the whole last sentence."""
    normalize = normalizer(NORMALIZER)
    told = {(fact.kind, fact.value): script.takes[-1].text if fact.kind == "sentiment" else fact.value for fact in script.facts if fact.key}
    return {fact: tuple(normalize(text).split()) for fact, text in told.items()}


def placed(transcript: str, heard: str, phrases: Iterable[Sequence[str]]) -> Placed:
    """The errors of what was heard, placed. A word counts for a fact wherever the transcript has the whole phrase; what is inserted counts
    for it where it stands between two of its words.

        >>> placed("take a copper kettle now", "take a kettle of now", [("a", "copper", "kettle")])
        Placed(on=1, beside=1)
    """
    import jiwer

    normalize = normalizer(NORMALIZER)
    said, written = normalize(transcript), normalize(heard)
    words = said.split()
    spans = [(start, start + len(phrase)) for phrase in phrases for start in found_at(words, phrase)]
    on = beside = 0
    for chunk in jiwer.process_words(said, written).alignments[0]:
        if chunk.type == "equal":
            continue
        if chunk.type == "insert":
            at, count = chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            inside = count if any(start < at < stop for start, stop in spans) else 0
        else:
            places = range(chunk.ref_start_idx, chunk.ref_end_idx)
            count, inside = len(places), sum(any(start <= place < stop for start, stop in spans) for place in places)
        on, beside = on + inside, beside + count - inside
    return Placed(on, beside)


def found_at(words: Sequence[str], phrase: Sequence[str]) -> list[int]:
    """Every place at which the words have the whole phrase."""
    return [start for start in range(len(words) - len(phrase) + 1) if phrase and tuple(words[start : start + len(phrase)]) == tuple(phrase)]


def heard_facts(heard: str, phrases: Mapping[tuple[str, str], Sequence[str]]) -> set[tuple[str, str]]:
    """The facts of which what was heard has the whole phrase, once at least."""
    words = normalizer(NORMALIZER)(heard).split()
    return {fact for fact, phrase in phrases.items() if found_at(words, phrase)}


def survival(written: Sequence[Sequence[set]], wanted: Sequence[set], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(facts of a kind that survive [seeds, talks], those there are [talks]); `written[seed][talk]` and `wanted[talk]` are sets of (kind, value)."""
    there = [{fact for fact in facts if fact[0] == kind} for facts in wanted]
    kept = [[len(there[talk] & facts) for talk, facts in enumerate(of_seed)] for of_seed in written]
    return np.array(kept, dtype=float), np.array([len(facts) for facts in there], dtype=float)


def line(errors: np.ndarray, words: np.ndarray, of: np.ndarray, over: np.ndarray, clusters: Sequence[str] | None = None) -> Line:
    """The straight line by least squares of a metric (100 x `of` over `over`) over WER (100 x `errors` over `words`), a point a cell.

    `errors` and `of` are [cells, seeds, talks], `words` and `over` [talks]. Both coordinates of every cell vary together.
    """
    x, y = _ratios(errors, words, clusters), _ratios(of, over, clusters)
    if x.shape[1] < 2 or np.ptp(x[0]) == 0:
        raise InputError("a line needs two cells of unlike WER")
    spread = x - x.mean(axis=1, keepdims=True)
    slope = (spread * y).sum(axis=1) / (spread**2).sum(axis=1)
    units = _units(errors.shape[2], clusters)
    return Line(_estimate(y.mean(axis=1) - slope * x.mean(axis=1), units), _estimate(slope, units))


def slopes(causes: np.ndarray, loss: np.ndarray, clusters: Sequence[str] | None = None) -> list[Difference]:
    """What one more of each cause adds to the loss, by least squares over the talks within each cell.

    `causes` is [causes, cells, seeds, talks], `loss` [cells, seeds, talks]. Each cell has a level of its own, so that a cell that errs more
    and is worse throughout decides nothing: only which of its talks have the errors.
    """

    def summed(values: np.ndarray) -> np.ndarray:
        return _summed(values, clusters)

    number = summed(np.ones_like(loss))
    sums, sum_loss = [summed(cause) for cause in causes], summed(loss)
    within = [
        [(summed(a * b) - sum_a * sum_b / number).sum(axis=1) for b, sum_b in zip(causes, sums, strict=True)]
        for a, sum_a in zip(causes, sums, strict=True)
    ]
    with_loss = [(summed(a * loss) - sum_a * sum_loss / number).sum(axis=1) for a, sum_a in zip(causes, sums, strict=True)]
    left, right = np.moveaxis(np.array(within), -1, 0), np.moveaxis(np.array(with_loss), -1, 0)
    solvable = np.linalg.matrix_rank(left) == len(causes)
    if not solvable[0]:
        raise InputError("the causes cannot be told apart: one of them does not vary within any cell, or two go together")
    solved = np.full(right.shape, np.nan)
    solved[solvable] = np.linalg.solve(left[solvable], right[solvable][..., None])[..., 0]
    return [_estimate(column, _units(loss.shape[2], clusters)) for column in solved.T]


def grouped(values: np.ndarray, weights: np.ndarray, chosen: np.ndarray, clusters: Sequence[str] | None = None) -> tuple[float, float, float]:
    """(value, lo, hi) of 100 x the sum of `values` over that of `weights`, all [cells, seeds, talks], where `chosen` is true; pooled over cells."""
    of, over = 100 * _summed(values * chosen, clusters).sum(axis=1), _summed(weights * chosen, clusters).sum(axis=1)
    if not over[0] > 0:
        raise InputError("no talk is in this group")
    one = _estimate(_share(of, over), _units(values.shape[2], clusters))
    return one.value, one.lo, one.hi


def relation(a: np.ndarray, b: np.ndarray, clusters: Sequence[str] | None = None) -> tuple[float, float, float]:
    """(value, lo, hi) of the sum of `a` over the sum of `b`, both [seeds, talks] of the same trainings and talks."""
    summed = _summed(np.stack([np.atleast_2d(a), np.atleast_2d(b)]), clusters)
    one = _estimate(_share(summed[:, 0], summed[:, 1]), _units(np.atleast_2d(a).shape[1], clusters))
    return one.value, one.lo, one.hi


def _units(talks: int, clusters: Sequence[str] | None) -> np.ndarray:
    """The number of each talk's voice, or its own."""
    return np.arange(talks) if clusters is None else np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]


def _summed(values: np.ndarray, clusters: Sequence[str] | None) -> np.ndarray:
    """[1 + units + seeds, cells]: the sum over seeds and talks of values [cells, seeds, talks], with all, then without each unit and each seed."""
    _, seeds, talks = values.shape
    units = _units(talks, clusters)
    without_unit = (units[None, :] != np.arange(units.max() + 1)[:, None]).astype(float)
    kept_talks = np.vstack([np.ones((1, talks)), without_unit, np.ones((seeds, talks))])
    kept_seeds = np.vstack([np.ones((1 + len(without_unit), seeds)), 1 - np.eye(seeds)])
    return np.einsum("dt,cst,ds->dc", kept_talks, values, kept_seeds, optimize=True)


def _share(of: np.ndarray, over: np.ndarray) -> np.ndarray:
    """`of` over `over`, not a number where there is nothing to divide by."""
    return np.divide(of, over, out=np.full(np.shape(of), np.nan), where=over > 0)


def _ratios(of: np.ndarray, over: np.ndarray, clusters: Sequence[str] | None) -> np.ndarray:
    """[1 + units + seeds, cells] in per cent: the value of each cell, with all, then with each left out."""
    return 100 * _share(_summed(of, clusters), _summed(np.broadcast_to(over, of.shape), clusters))


def _estimate(values: np.ndarray, units: np.ndarray) -> Difference:
    """The value, which comes first, with the interval of those that leave out a unit or a seed."""
    first_seed = 1 + units.max() + 1
    return jackknife(float(values[0]), values[1:first_seed], values[first_seed:])
