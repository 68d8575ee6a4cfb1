"""A record's values from the numbers of its samples: the one place where their intervals are made.

The runners call `pooled` when they measure a cell, `rescoring` when it scores a record again, so
that both give the same.
"""

from collections.abc import Mapping, Sequence

from asum_lib.measure import stats
from asum_lib.study.records import Metric


def pooled(
    cell: Mapping,
    rows: Sequence[dict],
    parts: Sequence[float],
    wholes: Sequence[float],
    unit: str,
    better: str,
    signature: str,
    *,
    draws: int = stats.DRAWS,
    scale: float = 1.0,
) -> Metric:
    """100 x the sum of `parts` over that of `wholes`, divided by `scale`, with its interval.

    `cell` is a record's, with its corpus and split; `rows` are the samples of the items.
    """
    found = stats.ratio_interval([parts], wholes, draws)
    value, lo, hi = (number / scale for number in found)
    return Metric(value, lo, hi, unit, better, signature, len(rows))
