import time

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.measure import stats


def test_value_is_pooled_over_items_and_averaged_over_seeds():
    """Seed 0: 3 errors of 10 words; seed 1: 1 of 10."""
    value, lo, hi = stats.ratio_interval([[3, 0], [1, 0]], [4, 6])
    assert value == 20.0
    assert 0 <= lo <= value <= hi <= 75


def test_equal_items_have_no_interval():
    assert stats.ratio_interval([[1, 1, 1]], [10, 10, 10]) == (10.0, 10.0, 10.0)


def test_two_items_worked_by_hand():
    """Items with 0 and 2 errors of 10 words: draws are 0, 10 or 20 % with shares 1/4, 1/2, 1/4, so the interval is 0 to 20."""
    assert stats.ratio_interval([[0, 2]], [10, 10]) == (10.0, 0.0, 20.0)


def test_seeds_widen_the_interval():
    """Equal items, seeds at 0 and 20 %: items alone would give no interval."""
    assert stats.ratio_interval([[0, 0], [2, 2]], [10, 10]) == (10.0, 0.0, 20.0)


def test_the_same_input_gives_the_same_output():
    rng = np.random.default_rng(3)
    words = rng.integers(3, 12, 50)
    errors = rng.binomial(words, 0.2, (3, 50))
    assert stats.ratio_interval(errors, words) == stats.ratio_interval(errors, words)


def test_difference_of_a_cell_to_itself_is_a_tie():
    difference = stats.paired_difference([[1, 0, 2]], [[1, 0, 2]], [5, 5, 5])
    assert difference == stats.Difference(0.0, 0.0, 0.0, 1.0)
    assert difference.tie


def test_pairing_sees_a_constant_difference_through_items_that_vary_much():
    """Every item has one error more in a: 10 points exactly in every draw."""
    b = np.array([[0, 5, 1, 7, 2, 0, 9, 3]])
    difference = stats.paired_difference(b + 1, b, np.full(8, 10))
    assert (difference.value, difference.lo, difference.hi) == pytest.approx((10, 10, 10))
    assert difference.p == 2 / stats.DRAWS
    assert not difference.tie


def test_the_difference_changes_its_sign_with_the_order():
    a, b, words = [[3, 0, 1, 0]], [[0, 0, 1, 0]], [5, 5, 5, 5]
    forward, backward = stats.paired_difference(a, b, words), stats.paired_difference(b, a, words)
    assert (forward.value, forward.lo, forward.hi) == (-backward.value, -backward.hi, -backward.lo) == (15.0, 0.0, pytest.approx(45.0))


def test_seeds_of_the_two_sides_are_no_pairs():
    """Seeds at 0 and 20 % on both sides: were they paired, the difference would have no spread."""
    difference = stats.paired_difference([[0, 0], [2, 2]], [[0, 0], [2, 2]], [10, 10])
    assert difference.value == 0
    assert (difference.lo, difference.hi) == (-20.0, 20.0)


def test_contrast_counts_a_cell_with_its_weight():
    """2 x 10 % - 5 % - 5 %."""
    words = np.full(4, 20)
    assert stats.contrast([(2, [[2, 2, 2, 2]]), (-1, [[1, 1, 1, 1]]), (-1, [[1, 1, 1, 1]])], words).value == pytest.approx(10)


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


def simulate(rng, items, seeds, seed_effect):
    """Errors[seeds, items] and words[items]: items differ in difficulty, seeds by `seed_effect` (share of the WER), noise on top."""
    words = rng.integers(3, 12, items)
    difficulty = 0.2 * rng.gamma(3, 1 / 3, items)
    training = rng.normal(1, seed_effect, (seeds, 1))
    return rng.binomial(words, np.clip(difficulty * training, 0, 1)), words


@pytest.mark.parametrize(("seeds", "seed_effect"), [(1, 0.0), (3, 0.03)])
def test_the_interval_holds_the_truth_about_95_times_in_100(seeds, seed_effect):
    rng = np.random.default_rng(11)
    errors, words = simulate(rng, 400_000, 1, 0.0)
    truth = 100 * errors.sum() / words.sum()
    held = 0
    for draw in range(200):
        errors, words = simulate(rng, 200, seeds, seed_effect)
        _, lo, hi = stats.ratio_interval(errors, words, draws=500, seed=draw)
        held += lo <= truth <= hi
    assert 180 <= held <= 198


def test_two_equal_systems_are_called_different_about_5_times_in_100():
    rng = np.random.default_rng(12)
    called_different = 0
    for draw in range(200):
        words = rng.integers(3, 12, 200)
        difficulty = 0.2 * rng.gamma(3, 1 / 3, 200)
        a, b = (rng.binomial(words, np.clip(difficulty, 0, 1), (1, 200)) for _ in range(2))
        called_different += not stats.paired_difference(a, b, words, draws=500, seed=draw).tie
    assert 2 <= called_different <= 20


def test_a_table_row_takes_well_under_a_second():
    rng = np.random.default_rng(5)
    errors, words = simulate(rng, 656, 3, 0.03)
    started = time.process_time()
    stats.ratio_interval(errors, words)
    assert time.process_time() - started < 1
