"""Intervals and comparisons from variance components, on counts small enough to work by hand."""

import time

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.measure import stats


def test_the_value_is_pooled_then_averaged_over_seeds():
    """Seed 0: 3 errors of 10 words; seed 1: 1 of 10."""
    value, lo, hi = stats.ratio_interval([[3, 0], [1, 0]], [4, 6])
    assert value == 20.0
    assert 0 <= lo <= value <= hi


def test_equal_items_have_no_interval():
    assert stats.ratio_interval([[1, 1, 1]], [10, 10, 10]) == (10.0, 10.0, 10.0)


def test_two_items_worked_by_hand():
    """0 and 2 errors of 10 words: standard error 10 points, t of one degree of freedom 12.71: the lower end is cut at 0."""
    value, lo, hi = stats.ratio_interval([[0, 2]], [10, 10])
    assert (value, lo, hi) == (10.0, 0.0, pytest.approx(10 + 12.706 * 10, abs=0.01))


def test_four_items_worked_by_hand():
    """10, 20, 30 and 40 %: variance 166.7, of the mean of four 41.67, its root 6.45; t of three degrees 3.182."""
    _, lo, hi = stats.ratio_interval([[1, 2, 3, 4]], [10, 10, 10, 10])
    assert (lo, hi) == (pytest.approx(25 - 3.182 * 6.455, abs=0.01), pytest.approx(25 + 3.182 * 6.455, abs=0.01))


def test_seeds_alone_worked_by_hand():
    """Equal items; seeds at 0, 10 and 20 %: variance 100, of the mean of three 33.3, its root 5.77; t of two degrees 4.303."""
    _, lo, hi = stats.ratio_interval([[0, 0], [1, 1], [2, 2]], [10, 10])
    assert hi == pytest.approx(10 + 4.303 * 5.774, abs=0.01)
    assert lo == 0


def test_no_end_lies_beyond_what_there_can_be():
    assert stats.ratio_interval([[1, 1, 0.2]], [1, 1, 1], most=100.0)[2] == 100.0


def test_one_item_says_nothing_of_others():
    assert stats.ratio_interval([[1]], [4]) == (25.0, 0.0, 100.0)


def test_items_of_a_voice_are_one_unit():
    """Eight utterances of two voices: 0 and 20 % as two units, however many each says."""
    errors, voices = [[0, 0, 0, 0, 2, 2, 2, 2]], list("aaaabbbb")
    of_items = stats.ratio_interval(errors, [10] * 8)
    of_voices = stats.ratio_interval(errors, [10] * 8, voices)
    assert of_voices == stats.ratio_interval([[0, 8]], [40, 40])
    assert of_voices[2] - of_voices[1] > 2 * (of_items[2] - of_items[1])


def test_clusters_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="1 clusters do not fit 2 items"):
        stats.ratio_interval([[1, 0]], [5, 5], ["a"])


def test_difference_of_a_cell_to_itself_is_a_tie():
    difference = stats.paired_difference([[1, 0, 2]], [[1, 0, 2]], [5, 5, 5])
    assert (difference.value, difference.lo, difference.hi, difference.p) == (0, 0, 0, 1)
    assert difference.tie


def test_nothing_is_detectable_where_nothing_varies():
    assert stats.paired_difference([[1, 0, 2]], [[1, 0, 2]], [5, 5, 5]).detectable() is None


def test_pairing_takes_out_how_hard_the_items_are():
    """Every item has one error more in a: 10 points exactly, whatever the items."""
    b = np.array([[0, 5, 1, 7, 2, 0, 9, 3]])
    difference = stats.paired_difference(b + 1, b, np.full(8, 10))
    assert (difference.value, difference.lo, difference.hi) == pytest.approx((10, 10, 10))
    assert difference.p < 1e-9


def test_the_difference_changes_its_sign_with_the_order():
    a, b, words = [[3, 0, 1, 0]], [[0, 0, 1, 0]], [5, 5, 5, 5]
    forward, backward = stats.paired_difference(a, b, words), stats.paired_difference(b, a, words)
    assert (forward.value, forward.lo, forward.hi) == (-backward.value, -backward.hi, -backward.lo)
    assert forward.p == backward.p


def test_seeds_of_the_two_sides_are_no_pairs():
    """Seeds at 0 and 20 % on both sides: were they paired, the difference would have no spread."""
    difference = stats.paired_difference([[0, 0], [2, 2]], [[0, 0], [2, 2]], [10, 10])
    assert difference.value == 0
    assert difference.hi > 20


def test_sides_of_unlike_seeds_have_welchs_freedom():
    """Variances of three seeds, 33.3 and 0.33: 33.7^2 / (33.3^2 / 2 + 0.33^2 / 2) = 2.04 degrees."""
    a, b = [[0, 0], [1, 1], [2, 2]], [[0.9, 0.9], [1.0, 1.0], [1.1, 1.1]]
    difference = stats.paired_difference(np.array(a) * 1.0, np.array(b), [10, 10])
    variances = np.array([100 / 3, 1 / 3])
    assert difference.df == pytest.approx(variances.sum() ** 2 / (variances**2 / 2).sum())


def test_p_and_interval_agree():
    rng = np.random.default_rng(4)
    for _ in range(200):
        words = rng.integers(3, 12, 30)
        a, b = (rng.binomial(words, 0.2 + share, (3, 30)) for share in (0.0, rng.uniform(0, 0.1)))
        difference = stats.paired_difference(a, b, words)
        assert (difference.p < 0.05) == (not difference.tie)


def test_p_has_no_floor():
    """+23.9 points (19.9 to 27.7) as one of 55 comparisons is no tie."""
    rng = np.random.default_rng(0)
    b = rng.normal(40, 15, (1, 100))
    difference = stats.paired_difference((b + 24 + rng.normal(0, 20, (1, 100))) / 100, b / 100, np.ones(100))
    assert 55 * difference.p < 1e-6


def test_contrast_counts_a_cell_with_its_weight():
    """2 x 10 % - 5 % - 5 %."""
    words = np.full(4, 20)
    sides = [(2, [[2, 2, 2, 2]]), (-1, [[1, 1, 1, 1]]), (-1, [[1, 1, 1, 1]])]
    assert stats.contrast(sides, words).value == pytest.approx(10)


def test_one_item_gives_no_comparison():
    with pytest.raises(InputError, match="two items"):
        stats.paired_difference([[1]], [[0]], [5])


def test_leaving_items_out_gives_the_same_interval():
    """For a mean of equal items the jackknife is the t interval of the textbook."""
    values = np.array([1.0, 2.0, 4.0, 9.0])
    without = [(values.sum() - value) / 3 for value in values]
    found, other = stats.jackknife(values.mean(), without), stats.contrast([(1, [values])], np.ones(4))
    assert (100 * found.lo, 100 * found.hi) == pytest.approx((other.lo, other.hi))


def test_empty_references_add_errors_but_no_words():
    value, lo, hi = stats.ratio_interval([[1, 0, 2]], [10, 10, 0])
    assert value == 15.0
    assert np.isfinite([lo, hi]).all()


@pytest.mark.parametrize(("errors", "words", "message"), [([[1, 2]], [3], "do not fit"), ([[0]], [0], "no reference words")])
def test_data_that_give_no_ratio_are_refused(errors, words, message):
    with pytest.raises(InputError, match=message):
        stats.ratio_interval(errors, words)


def test_holm_worked_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; the last may not fall below the one before."""
    assert stats.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_never_passes_1_and_leaves_one_alone():
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([0.03]) == [0.03]
    assert stats.holm([]) == []


def test_components_are_found_again():
    """Seeds spread by 3 points, items by 8, the rest by 13; 40 seeds of 400 items tell them to a few per cent."""
    rng = np.random.default_rng(2)
    parts = 50 + rng.normal(0, 3, (40, 1)) + rng.normal(0, 8, 400) + rng.normal(0, 13, (40, 400))
    found = stats.components(parts / 100, np.ones(400))
    assert (found.seed_sd, found.item_sd, found.residual_sd) == pytest.approx((3, 8, 13), rel=0.25)


def test_a_table_row_takes_well_under_a_second():
    rng = np.random.default_rng(5)
    words = rng.integers(3, 12, 656)
    errors = rng.binomial(words, 0.2, (3, 656))
    started = time.process_time()
    stats.ratio_interval(errors, words)
    assert time.process_time() - started < 1
