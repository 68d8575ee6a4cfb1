"""The chapter on quantisation: its worked numbers, by hand and by bitsandbytes' kernels, and what it says of real layers."""

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.teaching import quantisation

SIX = [0.04, -2.54, 0.333, 1.015, -0.775, 1.905]
EIGHT = [0.8, -0.4, 0.1, 0.02, -0.6, 0.3, -0.05, 0.5]


def test_six_numbers_in_symmetric_int8():
    found = quantisation.symmetric(SIX)
    assert found.scale == pytest.approx(0.02)
    assert found.codes.tolist() == [2, -127, 17, 51, -39, 95]
    assert found.values == pytest.approx([0.04, -2.54, 0.34, 1.02, -0.78, 1.90])
    assert quantisation.int8_kernel([SIX]).codes.tolist() == [found.codes.tolist()]


def test_six_numbers_in_affine_int8():
    found = quantisation.affine([-0.16, 0.0, 0.043, 0.517, 1.206, 2.39])
    assert found.scale == pytest.approx(0.01)
    assert found.zero_point == -112
    assert found.codes.tolist() == [-128, -112, -108, -60, 9, 127]
    assert found.values == pytest.approx([-0.16, 0.0, 0.04, 0.52, 1.21, 2.39])


def test_affine_keeps_zero_exact_where_all_numbers_are_above_it():
    found = quantisation.affine([1.0, 2.0, 5.1])
    assert (found.zero_point, found.scale) == (-128, pytest.approx(0.02))


def test_a_row_of_its_own_scale_is_not_harmed_by_the_next():
    rows = [SIX, [0.04, -25.4, 0.333, 1.015, -0.775, 1.905]]
    together, apart = quantisation.symmetric(rows), quantisation.symmetric(rows, rows=True)
    assert together.values[0, 2] == pytest.approx(0.4)
    assert apart.scale.ravel() == pytest.approx([0.02, 0.2])
    assert apart.values[0, 2] == pytest.approx(0.34)


def test_zeros_stay_zeros():
    assert quantisation.symmetric([[0.0, 0.0], [1.0, 0.5]], rows=True).values.tolist()[0] == [0.0, 0.0]
    assert quantisation.blockwise([0.0] * 3).values.tolist() == [0.0] * 3
    assert quantisation.affine([0.0, 0.0]).values.tolist() == [0.0, 0.0]


def test_an_outlier_column_goes_around_int8():
    inputs, weights = [[1.27, 25.4, -0.45]], [[0.50, 2.54, -1.00]]
    assert quantisation.int8_product(inputs, weights, 0.0)[0, 0] == pytest.approx(65.516, abs=0.05)
    assert quantisation.int8_product(inputs, weights, 6.0)[0, 0] == pytest.approx(65.601, abs=0.05)
    assert quantisation.int8_product([[1.27, -0.30, 0.50]], weights)[0, 0] == pytest.approx(-0.627, abs=5e-4)


@pytest.mark.parametrize("grid", ["nf4", "fp4"])
def test_levels_are_those_of_bitsandbytes(grid):
    from bitsandbytes.functional import get_4bit_type

    assert quantisation.levels(grid) == pytest.approx(sorted(set(get_4bit_type(grid, device="cpu").tolist())), abs=1e-6)


def test_even_levels_are_sevenths():
    assert quantisation.levels("uniform")[-3:] == pytest.approx([5 / 7, 6 / 7, 1])


def test_an_unknown_grid_is_refused():
    with pytest.raises(InputError, match="unknown grid 'int4': choose from nf4, fp4, uniform"):
        quantisation.levels("int4")


def test_a_block_of_eight_in_nf4_by_hand_and_by_the_kernel():
    by_hand, kernel = quantisation.blockwise(EIGHT), quantisation.four_bit_kernel(EIGHT)
    assert by_hand.codes.tolist() == kernel.codes.tolist() == [15, 2, 9, 7, 1, 11, 6, 13]
    assert by_hand.values == pytest.approx([0.8, -0.420, 0.129, 0, -0.557, 0.270, -0.073, 0.450], abs=5e-4)
    assert kernel.values == pytest.approx(by_hand.values, abs=1e-6)


@pytest.mark.parametrize("grid", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(5, 128), (7, 48), (3, 34)])
def test_blocks_run_on_across_rows_as_in_the_kernel(grid, shape):
    numbers = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert quantisation.blockwise(numbers, grid).values == pytest.approx(quantisation.four_bit_kernel(numbers, grid).values, abs=1e-6)


def test_relative_error_by_hand():
    assert quantisation.relative_error_pct([3, 4], [3, 3]) == pytest.approx(20)


def test_rows_of_whole_blocks_are_read_right_and_others_not():
    """Blocks of 2 in rows of 3: numbers 1 1 2 | 2 4 4, block scales 1, 2, 4; the reader takes scales 1 1 2 | 4 4 4 (the last is all there is)."""
    assert quantisation.misread([1, 1, 2, 2, 4, 4], width=3, block=2).tolist() == [[1, 1, 2], [4, 4, 4]]
    assert quantisation.misread([1, 1, 2, 2], width=2, block=2).tolist() == [[1, 1], [2, 2]]
    with pytest.raises(InputError, match="5 numbers are no whole rows of 3"):
        quantisation.misread([1] * 5, width=3)


def test_nf4_is_the_best_grid_for_normal_weights_and_the_even_one_for_even_weights():
    normal = quantisation.grid_errors(quantisation.normal_weights(2**14))
    even = quantisation.grid_errors(np.random.default_rng(0).uniform(-1, 1, 2**14))
    assert min(normal, key=normal.get) == "nf4"
    assert min(even, key=even.get) == "uniform"


def test_a_real_weight_keeps_its_outline_and_has_16_levels():
    data = quantisation.histogram_data(quantisation.weight("tiny"))
    before, after, scaled = data.distinct
    assert scaled == 16 < after < before
    assert data.shares_pct.sum() == pytest.approx(100)
    assert np.abs(data.after_scaled).max() == 1


def test_int8_loses_less_than_nf4_and_nf4_less_than_fp4_in_every_layer():
    found = quantisation.losses("tiny")
    assert len(found) == 2 * 4 + 4 + 2 * 2  # self-attention in both layers, cross-attention, feed-forward in both
    for loss in found:
        assert 0.3 < loss.error_pct["int8"] < 2 < loss.error_pct["int4"] < loss.error_pct["fp4"] < 20


def test_the_threshold_helps_above_6_and_changes_nothing_below():
    data = quantisation.outlier_data("medium", magnitudes=(3, 60))
    assert data.all_int8_pct[0] == pytest.approx(data.llm_int8_pct[0])
    assert data.all_int8_pct[1] > 2 * data.llm_int8_pct[1]


def test_a_layer_that_has_outliers_of_its_own_is_refused_for_the_picture():
    with pytest.raises(InputError, match=r"encoder\.layers\.2\.fc1 of medium: its inputs reach"):
        quantisation.outlier_data("medium", "encoder.layers.2.fc1")


def test_pictures_say_what_is_seen():
    histogram = quantisation.plot_histogram(quantisation.histogram_data(quantisation.weight("tiny"))).data
    assert "9,216 weights have" in histogram
    outlier = quantisation.Outlier(np.array([1.0, 10.0]), np.array([0.5, 1.8]), np.array([0.5, 0.7]))
    assert "At magnitude 10 the error is 1.8 % with every column in int8 and 0.7 % with the threshold" in quantisation.plot_outlier(outlier).data
