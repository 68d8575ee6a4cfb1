"""Do the intervals hold what they promise? Simulated studies with the variance components of each table."""

import numpy as np
import pytest

from asum_lib.measure import stats
from asum_lib.study import tables, talk_tables, text_tables
from asum_lib.study.talk_cells import E2E, PROSODY, VIDEO

STUDIES = 4_000
SPEECH = ("whisper_wer", "whisper_digits")
TEXT = ("rouge_wikihow", "rouge_gazeta")
TALKS = (E2E, PROSODY, VIDEO)


def cells(table):
    """(numerators[seeds, items], denominators[items], clusters) of every cell with several seeds."""
    if table in SPEECH:
        for row in tables.planned_rows(table):
            if len(row.measured) > 1:
                yield *tables.pooled_counts(row.measured)[1:], tables.units_of(row.measured).clusters
        return
    for row in text_tables.planned_rows(table) if table in TEXT else talk_tables.gather(table):
        if len(row.measured) > 1:
            yield *text_tables.values(row, "rouge1")[1:], text_tables.clusters(row)


def components(table):
    """(seeds, items, seed SD, item SD, residual SD) of a table: its cells' variances on average."""
    found = [stats.components(*cell) for cell in cells(table)]
    spreads = [[one.seed_sd, one.item_sd, one.residual_sd] for one in found]
    return found[0].seeds, found[0].items, *np.sqrt(np.mean(np.square(spreads), axis=0))


def study(rng, seeds, items, seed_sd, item_sd, residual_sd, cells=2):
    """Cells that share their items and differ in nothing: each is errors[seeds, items] in points around 50."""
    shared = rng.normal(0, item_sd, items)
    return [50 + shared + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, residual_sd, (seeds, items)) for _ in range(cells)]


def held_and_rejected(seeds, items, *spreads):
    """(per cent of studies whose interval holds the truth, per cent that tell apart what is equal)."""
    rng, held, rejected = np.random.default_rng(20), 0, 0
    words = np.ones(items)
    for _ in range(STUDIES):
        a, b = study(rng, seeds, items, *spreads)
        one = stats.contrast([(0.01, a)], words)
        held += one.lo <= 50 <= one.hi
        rejected += stats.paired_difference(a, b, words).p < 0.05
    return 100 * held / STUDIES, 100 * rejected / STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("table", [table for table in (*SPEECH, *TEXT, *TALKS) if table != "whisper_digits"])
def test_intervals_hold_with_the_spread_of(table):
    held, rejected = held_and_rejected(*components(table))
    assert held >= 93
    assert rejected <= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed_sd", [0.0, 1.3, 3.7])
def test_intervals_hold_with_t5s_spread(seed_sd):
    """Seeds that vary by up to 3.7 points, items by 7.4, both together by 13."""
    held, rejected = held_and_rejected(3, 100, seed_sd, 7.4, 13.0)
    assert held >= 93
    assert rejected <= 6


@pytest.mark.parametrize("table", [*SPEECH, *TEXT, *TALKS])
def test_no_comparison_has_fewer_than_two_degrees(table):
    """A t of one degree could not pass Holm's correction however large the difference."""
    for of, over, clusters in cells(table):
        assert stats.contrast([(1, of)], over, clusters).df >= 2
