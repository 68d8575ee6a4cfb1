"""Variances, the bootstrap, pairing, coverage and ties on counts small enough for a table, on simulated studies, and on committed records.

The intervals and tests themselves are `asum_lib.measure.stats`; this module shows why they are made that way.

    >>> all_draws([0, 2], [10, 10])
    [((0, 0), 0.0), ((0, 1), 10.0), ((1, 0), 10.0), ((1, 1), 20.0)]
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.teaching.worked import table

RECORDS = RESULTS / "mini" / "whisper_wer"
SIZES = ("tiny", "base", "small", "medium", "large")
MOST_DRAWS = 10_000  # that `all_draws` lists


@dataclass(frozen=True)
class Pair:
    """Two cells on the same utterances: WER in per cent with its interval each, and the draws of their difference in points."""

    names: tuple[str, str]
    intervals: tuple[tuple[float, float, float], tuple[float, float, float]]  # (value, lo, hi)
    difference: stats.Difference  # first minus second, paired
    paired: np.ndarray  # (draws,) both cells on one draw of utterances
    unpaired: np.ndarray  # (draws,) each cell on a draw of its own
    correlation: float  # of the two cells' errors over utterances


@dataclass(frozen=True)
class Coverage:
    """How often intervals of one method held the truth in simulated studies, in per cent, by what was varied."""

    varied: str
    values: tuple[int, ...]
    held_pct: tuple[float, ...]
    repetitions: int

    @property
    def error_pct(self) -> tuple[float, ...]:
        """Standard error of each share: sqrt(p (1 - p) / repetitions)."""
        return tuple(float(np.sqrt(held * (100 - held) / self.repetitions)) for held in self.held_pct)


def all_draws(errors: Sequence[int], words: Sequence[int]) -> list[tuple[tuple[int, ...], float]]:
    """Every equally likely draw of as many utterances as there are, with replacement: ((their numbers), pooled WER in per cent).

    There are n to the n of them, so `InputError` where that passes `MOST_DRAWS`.
    """
    if len(errors) ** len(errors) > MOST_DRAWS:
        raise InputError(f"{len(errors)} utterances have {len(errors)}^{len(errors)} draws: give at most 5, or draw at random")
    draws = itertools.product(range(len(errors)), repeat=len(errors))
    return [(draw, 100 * sum(errors[i] for i in draw) / sum(words[i] for i in draw)) for draw in draws]


def draws_table(errors: Sequence[int], words: Sequence[int]) -> object:
    """`all_draws` as a table, utterances counted from 1."""
    lines = [[" ".join(str(i + 1) for i in draw), sum(errors[i] for i in draw), sum(words[i] for i in draw), f"{pct:.1f}"]
             for draw, pct in all_draws(errors, words)]  # fmt: skip
    return table(("utterances drawn", "errors", "words", "WER, %"), lines)


def resampled(errors, words, draws: int = stats.DRAWS, seed: int = stats.RANDOM_SEED) -> np.ndarray:
    """(draws,) pooled WER in per cent of random draws of utterances; the same seed draws the same utterances for every cell.

    `errors` and `words` have shape (utterances,).
    """
    errors, words = np.asarray(errors), np.asarray(words)
    counts = np.random.default_rng([seed, 0]).multinomial(len(words), np.full(len(words), 1 / len(words)), size=draws)
    return 100 * (counts @ errors) / (counts @ words)


def percentile_interval(errors, words, draws: int = 500, seed: int = stats.RANDOM_SEED) -> tuple[float, float]:
    """The middle 95 % of draws of utterances and, crossed with them, of seeds: (lo, hi) in per cent.

    `errors` has shape (seeds, utterances), `words` (utterances,).
    """
    errors, words = np.atleast_2d(np.asarray(errors, dtype=float)), np.asarray(words, dtype=float)
    seeds, items = errors.shape
    counts, shares = _counts_drawn(items, draws, seed), _counts_drawn(seeds, draws, seed + 1) / seeds
    return stats.percentiles(100 * ((counts @ errors.T) * shares).sum(axis=1) / (counts @ words))


@lru_cache(maxsize=16)
def _counts_drawn(items: int, draws: int, seed: int) -> np.ndarray:
    """[draws, items]: how often each item is in each draw; the same draws for every study of as many items."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=draws).astype(float)


def unpaired_difference(a_errors, b_errors, words, draws: int = stats.DRAWS, seed: int = stats.RANDOM_SEED) -> np.ndarray:
    """(draws,) WER of a minus that of b in points, each on utterances drawn for it alone: what a study does that has no common test set."""
    return resampled(a_errors, words, draws, seed) - resampled(b_errors, words, draws, seed + 1)


def pair(size: str = "tiny", first: str = "int4", second: str = "fp32", folder: Path = RECORDS) -> Pair:
    """One size at two precisions, nothing trained."""
    (a, b), words, _ = _counts([f"{size}-{precision}-none" for precision in (first, second)], folder)
    return Pair(
        (f"{size} in {first}", f"{size} in {second}"),
        (stats.ratio_interval(a, words), stats.ratio_interval(b, words)),
        stats.paired_difference(a, b, words),
        resampled(a, words) - resampled(b, words),
        unpaired_difference(a, b, words),
        float(np.corrcoef(a, b)[0, 1]),
    )


def pair_table(data: Pair) -> object:
    """WER of both cells and their difference, paired and not, with 95 % intervals."""
    unpaired = np.percentile(data.unpaired, [2.5, 97.5])
    lines = [[f"WER of {name}, %", *(f"{x:.1f}" for x in interval)] for name, interval in zip(data.names, data.intervals, strict=True)]
    difference = data.difference
    for what, lo, hi in (("difference, unpaired", *unpaired), ("difference, paired", difference.lo, difference.hi)):
        lines.append([f"{what}, points", *(_signed(value, 1) for value in (difference.value, lo, hi))])
    return table(("", "value", "from", "to"), lines)


def plot_pair(data: Pair) -> object:
    """The draws of the difference, paired and unpaired, with their 95 % intervals as bars below."""
    from asum_lib import figures

    figure, (axis,) = figures.subplots()
    bins, said = np.linspace(*np.percentile(data.unpaired, [0, 100]), 60), []
    for i, (name, drawn) in enumerate((("unpaired", data.unpaired), ("paired", data.paired))):
        lo, hi = np.percentile(drawn, [2.5, 97.5])
        axis.hist(drawn, bins, color=figures.COLOURS[i], alpha=0.6, label=f"{name}: {_signed(lo, 1)} to {_signed(hi, 1)}")
        axis.plot([lo, hi], [-0.006 * (i + 1) * len(drawn)] * 2, color=figures.COLOURS[i], linewidth=4, solid_capstyle="butt")
        said.append(f"{name} draws spread by {drawn.std():.2f} points, 95 per cent of them from {lo:.1f} to {hi:.1f}")
    axis.axvline(0, color=figures.COLOURS[7], linewidth=1)
    axis.set(xlabel=f"WER of {data.names[0]} minus WER of {data.names[1]}, points", ylabel=f"of {len(data.paired):,} draws")
    axis.set_yticks([tick for tick in axis.get_yticks() if tick >= 0])  # the bars of the intervals lie below the axis, where no count is
    axis.legend(frameon=True)
    return figures.show(figure, f"Histograms of the difference of two word error rates under resampling: {'; '.join(said)}. A line marks 0.")


METHODS = {"components": lambda errors, words: stats.ratio_interval(errors, words)[1:], "percentiles": percentile_interval}


def coverage(
    varied: str,
    values: Sequence[int],
    *,
    utterances: int = 656,
    seeds: int = 1,
    seed_spread: float = 0.0,
    repetitions: int = 600,
    method: str = "components",
) -> Coverage:
    """Simulates whole studies whose true WER is known, and counts how often an interval holds it.

    `varied` is `utterances` or `seeds`, and takes each of `values`. An utterance has 7 words; how hard it is varies as a beta
    distribution of mean 0.2, and a training seed multiplies the rate by a normal factor of mean 1 and deviation `seed_spread`.
    `method` is `components`, which is `stats.ratio_interval`, or `percentiles`, which is `percentile_interval`.
    """
    choose("what varies", varied, ("utterances", "seeds"))
    choose("method", method, METHODS)
    held_pct = []
    for value in values:
        random = np.random.default_rng([11, value])  # a value's share does not depend on which others are asked for
        items, trained = (value, seeds) if varied == "utterances" else (utterances, value)
        words, held = np.full(items, 7), 0
        for _ in range(repetitions):
            hardness = random.beta(1, 4, size=items)
            factors = np.clip(random.normal(1, seed_spread, size=trained), 0, None)
            errors = random.binomial(7, np.clip(hardness * factors[:, None], 0, 1))
            lo, hi = METHODS[method](errors, words)
            held += lo <= 20 <= hi
        held_pct.append(100 * held / repetitions)
    return Coverage(varied, tuple(values), tuple(held_pct), repetitions)


def plot_coverage(data: Sequence[tuple[str, Coverage]]) -> object:
    """Coverage by what was varied, a panel for each (title, simulation), with two standard errors and a line at 95 %."""
    from asum_lib import figures

    figure, axes = figures.panels(len(data), width_in=3.2)
    said = []
    for axis, (title, found), colour in zip(axes, data, figures.COLOURS, strict=False):
        positions = range(len(found.values))
        axis.errorbar(positions, found.held_pct, yerr=2 * np.array(found.error_pct), fmt="o", color=colour, capsize=3)
        axis.axhline(100 * stats.LEVEL, color=figures.COLOURS[7], linestyle="--", linewidth=1)
        axis.set(title=title, xlabel=found.varied, xlim=(-0.4, len(found.values) - 0.4), ylim=(40, 102))
        axis.set_xticks(positions, [str(value) for value in found.values])
        for position, held in zip(positions, found.held_pct, strict=True):
            axis.annotate(f"{held:.0f}", (position, held), xytext=(7, -11), textcoords="offset points")
        shares = ", ".join(f"{value}: {held:.0f} per cent" for value, held in zip(found.values, found.held_pct, strict=True))
        said.append(f"{title}, by number of {found.varied}: {shares}")
    axes[0].set_ylabel("intervals that hold the truth, %")
    return figures.show(figure, f"How often an interval of 95 per cent holds the truth in simulated studies. {'; '.join(said)}.")


def differences(precision: str = "int4", folder: Path = RECORDS) -> dict[str, stats.Difference]:
    """{size: WER of a precision minus that of fp32 in points, paired over voices}, nothing trained."""
    found = {}
    for size in SIZES:
        (a, b), words, ids = _counts((f"{size}-{precision}-none", f"{size}-fp32-none"), folder)
        found[size] = stats.paired_difference(a, b, words, _voices(ids))
    return found


def differences_table(found: dict[str, stats.Difference]) -> object:
    """Differences with their intervals and p-values, as they are and corrected by Holm over all of them."""
    lines = []
    for (name, difference), corrected in zip(found.items(), stats.holm([difference.p for difference in found.values()]), strict=True):
        verdict = "tie" if corrected >= 1 - stats.LEVEL else "differs"
        values = (difference.value, difference.lo, difference.hi)
        shown = [f"{p:.3f}" if p >= 0.0005 else "< 0.001" for p in (difference.p, corrected)]
        lines.append([name, *(_signed(value, 2) for value in values), *shown, verdict])
    return table(("", "difference, points", "from", "to", "p", "p, Holm", ""), lines)


def by_voice(cell: str = "tiny-fp32-none", folder: Path = RECORDS) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(errors, words, voice) of every utterance of a cell's test set."""
    (errors,), words, ids = _counts((cell,), folder)
    return errors, words, _voices(ids)


def talks(cell: str = "tiny-fp32-none", folder: Path = RECORDS) -> tuple[str, ...]:
    """The talk of every utterance of a cell's test set."""
    return tuple(identity.rsplit("-", 1)[0] for identity in _counts((cell,), folder)[2])


def voices_table(cell: str = "tiny-fp32-none", folder: Path = RECORDS) -> object:
    """Utterances, words and WER of each voice of the test set."""
    errors, words, voices = by_voice(cell, folder)
    lines = []
    for voice in sorted(set(voices)):
        own = np.array([name == voice for name in voices])
        lines.append([voice, int(own.sum()), int(words[own].sum()), f"{100 * errors[own].sum() / words[own].sum():.1f}"])
    return table(("voice", "utterances", "words", "WER, %"), lines)


def _voices(ids: Sequence[str]) -> tuple[str, ...]:
    from asum_lib.study.units import units

    return units("howto", "test", [{"id": identity} for identity in ids]).clusters


def _signed(points: float, decimals: int) -> str:
    return f"{points:+.{decimals}f}".replace("-", "−")


def _counts(cells: Sequence[str], folder: Path) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """(errors of each cell, words, ids) of the test utterances that the records share; `InputError` where they do not share them."""
    from asum_lib.study import tables

    found = [tables.counts(folder / f"whisper-{cell}-s0.json") for cell in cells]
    ids, _, words = found[0]
    for cell, (other_ids, _, other_words) in zip(cells, found, strict=True):
        if other_ids != ids or not np.array_equal(other_words, words):
            raise InputError(f"{cells[0]} and {cell} were not measured on the same utterances, so they make no pairs")
    return [errors for _, errors, _ in found], words, ids
