"""Intervals and comparisons of corpus ratios (errors over words) by bootstrap. Numpy only; the same input gives the same output.

A cell's data are `errors[seeds, items]` and `words[items]`: every training seed transcribes the same items. Two things
vary between repetitions of the study: which items the test set holds, and which seed the training drew. So each of the
2,000 draws resamples the items and, crossed with them, the seeds; the interval is the 2.5th to the 97.5th percentile of
the draws. With one seed only the items vary, and the interval says nothing on training noise. Simulated with 656 items of
7 words and 3 seeds, the interval held the truth 99 % of the time where seeds do not differ, 97 % where their WER varies by
3 % of itself, and 85 % where it varies by 10 %: three seeds say little about a large seed effect.

Resampling is by multinomial counts: a draw is a row of how often each item is in it, so all draws are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from asum_lib.errors import InputError

DRAWS = 2_000
LEVEL = 0.95
RANDOM_SEED = 20_240_804


@dataclass(frozen=True)
class Difference:
    """First minus second, in points, with its 95 % interval and two-sided bootstrap p-value."""

    value: float
    lo: float
    hi: float
    p: float

    @property
    def tie(self) -> bool:
        """True where the interval contains 0."""
        return self.lo <= 0 <= self.hi


def ratio_interval(errors, words, draws: int = DRAWS, seed: int = RANDOM_SEED) -> tuple[float, float, float]:
    """(value, lo, hi) in per cent: errors over words pooled over items, then the mean over seeds."""
    errors, words = _arrays(errors, words)
    random = np.random.default_rng([seed, 1])
    lo, hi = _percentiles(_drawn(errors, words, _item_counts(len(words), draws, seed), random))
    return _value(errors, words), lo, hi


def paired_difference(a_errors, b_errors, words, draws: int = DRAWS, seed: int = RANDOM_SEED) -> Difference:
    """a minus b in points of per cent, on the same items; seeds are resampled for each side by itself.

    A seed number that two trainings share makes them no pair. For the change within one training (two epochs of the same
    seeds), give `contrast` the difference of the errors as one side.
    """
    return contrast([(1, a_errors), (-1, b_errors)], words, draws, seed)


def contrast(sides: Sequence[tuple[float, np.ndarray]], words, draws: int = DRAWS, seed: int = RANDOM_SEED) -> Difference:
    """The sum of weight x corpus ratio over `sides` (pairs of weight and errors[seeds, items]), in points.

    Each draw has one set of items for all sides, and seeds for each side by itself. The two-sided p-value is twice the
    smaller share of draws on either side of 0 (a draw of exactly 0 counts for both), and at least 2 / draws.
    """
    random = np.random.default_rng([seed, 1])
    value, drawn = 0.0, 0.0
    for weight, errors in sides:
        errors, side_words = _arrays(errors, words)
        value += weight * _value(errors, side_words)
        drawn = drawn + weight * _drawn(errors, side_words, _item_counts(len(side_words), draws, seed), random)
    lo, hi = _percentiles(drawn)
    p = 2 * min((drawn <= 0).mean(), (drawn >= 0).mean())
    return Difference(value, lo, hi, float(min(1.0, max(p, 2 / draws))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given: reject where the corrected p is below the level.

    The i-th smallest of m p-values is multiplied by m - i + 1, and no corrected value is below that of a smaller one
    (S. Holm, A simple sequentially rejective multiple test procedure, 1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _arrays(errors, words) -> tuple[np.ndarray, np.ndarray]:
    errors, words = np.atleast_2d(np.asarray(errors, dtype=float)), np.asarray(words, dtype=float)
    if words.ndim != 1 or errors.ndim != 2 or errors.shape[1] != len(words):
        raise InputError(f"errors of shape {errors.shape} do not fit words of shape {words.shape}: expected (seeds, items) and (items,)")
    if not words.sum() > 0:
        raise InputError("no reference words: an error rate of nothing has no value")
    return errors, words


@lru_cache(maxsize=4)
def _item_counts(items: int, draws: int, seed: int) -> np.ndarray:
    """[draws, items]: how often each item is in each draw; the same draws for every cell with as many items."""
    return np.random.default_rng([seed, 0]).multinomial(items, np.full(items, 1 / items), size=draws).astype(float)


def _drawn(errors: np.ndarray, words: np.ndarray, item_counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """[draws]: the ratio in per cent of every draw of items, seeds resampled on top; draws without a word are left out."""
    seeds = len(errors)
    seed_shares = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(item_counts)) / seeds
    drawn_errors = ((item_counts @ errors.T) * seed_shares).sum(axis=1)
    drawn_words = item_counts @ words
    return 100 * drawn_errors[drawn_words > 0] / drawn_words[drawn_words > 0]


def _value(errors: np.ndarray, words: np.ndarray) -> float:
    return float(100 * errors.sum(axis=1).mean() / words.sum())


def _percentiles(drawn: np.ndarray) -> tuple[float, float]:
    lo, hi = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(lo), float(hi)
