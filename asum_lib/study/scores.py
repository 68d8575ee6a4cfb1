"""A record's values from the numbers of its samples: the one place where their intervals are made.

The runners call `pooled` when they measure a cell, `rescoring` when it scores a record again, so
that both give the same.
"""

from collections.abc import Mapping, Sequence

from asum_lib.measure import stats
from asum_lib.study.records import Metric
from asum_lib.study.units import signed, units


def pooled(
    cell: Mapping,
    rows: Sequence[dict],
    parts: Sequence[float],
    wholes: Sequence[float],
    unit: str,
    better: str,
    signature: str,
    *,
    most: float | None = None,
    scale: float = 1.0,
) -> Metric:
    """100 x the sum of `parts` over that of `wholes`, divided by `scale`, with its interval.

    `cell` is a record's, with its corpus and split; `rows` are the samples of the items, whose
    voices or speakers the interval is over, as the signature says. `most` is the highest value
    there can be.
    """
    varying = units(cell["corpus"], cell["split"], rows)
    found = stats.ratio_interval([parts], wholes, varying.clusters, most and most * scale)
    value, lo, hi = (number / scale for number in found)
    return Metric(value, lo, hi, unit, better, signed(signature, varying), len(rows))
