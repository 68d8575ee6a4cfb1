"""The worked numbers of the page on low-rank updates, and that the library's agree with them."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.teaching import low_rank

CHANGE = np.array([[3, 1], [1, 3]])  # singular values 4 and 2
INDEX = np.arange(1, 513)


def alternative(shown) -> str:
    return BeautifulSoup(shown.data, "html.parser").img["alt"]


def test_the_best_matrix_of_rank_1_keeps_the_larger_singular_value():
    nearest = low_rank.truncate(CHANGE, 1)
    assert nearest == pytest.approx(np.full((2, 2), 2.0))
    assert np.linalg.norm(CHANGE - nearest) == pytest.approx(2)


def test_the_squared_error_is_the_sum_of_the_squares_left_out():
    error = np.diag([3.0, 2.0, 1.0]) - low_rank.truncate(np.diag([3.0, 2.0, 1.0]), 1)
    assert (error**2).sum() == pytest.approx(2**2 + 1**2)


def test_the_share_kept_by_each_rank_goes_from_none_to_all():
    assert low_rank.kept_by_rank(CHANGE) == pytest.approx([0, 16 / 20, 1])
    assert low_rank.kept(CHANGE, 1) == pytest.approx(0.8)
    assert low_rank.kept(CHANGE, 16) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "kept_pct"),
    [(INDEX**0.0, 3.1), (INDEX**-0.5, 49.6), (INDEX**-1.0, 96.4), (0.9**INDEX, 96.6)],
    ids=["all equal", "1/sqrt(i)", "1/i", "0.9^i"],
)
def test_what_rank_16_keeps_of_512_x_768_is_a_matter_of_the_spectrum(values, kept_pct):
    assert 100 * low_rank.kept(low_rank.with_spectrum(values, 512, 768), 16) == pytest.approx(kept_pct, abs=0.05)


def test_a_matrix_is_made_with_the_singular_values_asked_for():
    matrix = low_rank.with_spectrum([5, 2], 3, 4)
    assert matrix.shape == (3, 4)
    assert np.linalg.svd(matrix, compute_uv=False) == pytest.approx([5, 2, 0])
    with pytest.raises(InputError, match="4 singular values: a matrix of 3 x 4 has at most 3"):
        low_rank.with_spectrum([1, 1, 1, 1], 3, 4)


def test_the_rank_for_99_per_cent_of_two_spectra_that_look_alike_at_16():
    assert low_rank.rank_for(low_rank.with_spectrum(0.9**INDEX, 512, 768), 0.99) == 22
    assert low_rank.rank_for(low_rank.with_spectrum(1 / INDEX, 512, 768), 0.99) == 54
    assert low_rank.rank_for(CHANGE, 0.8) == 1
    assert low_rank.rank_for(CHANGE, 0.81) == 2


@pytest.mark.parametrize(("method", "rank", "numbers"), [("full", 0, 393_216), ("lora", 16, 20_480), ("lora", 307, 392_960), ("lora", 308, 394_240)])
def test_peft_trains_as_many_numbers_as_the_page_counts(method, rank, numbers):
    assert low_rank.trained_parameters(method, rank) == numbers


def test_rank_64_trains_as_many_numbers_as_a_square_matrix_of_128_has():
    assert low_rank.trained_parameters("lora", 64, 128, 128) == 128 * 128


def test_a_step_of_gradient_descent_by_the_full_matrix_is_minus_the_gradient():
    step = low_rank.first_step("full", "sgd", out=4, into=6)
    assert step.update == pytest.approx(-step.gradient, abs=1e-6)
    assert step.along == pytest.approx(1)


def test_lora_goes_a_36th_of_the_way_by_gradient_descent_and_a_6th_by_adamw():
    assert low_rank.first_step("lora", "sgd").along == pytest.approx(1 / 36, rel=0.02)
    assert low_rank.first_step("full", "adamw").size == pytest.approx(1, rel=1e-4)
    assert low_rank.first_step("lora", "adamw").size == pytest.approx(1 / 6, rel=0.02)


def test_adalora_starts_shorter_still():
    assert low_rank.first_step("adalora").size == pytest.approx(4 / 3 * 24**0.5 * 0.02**2, rel=0.02)


def test_the_first_step_of_lora_has_its_rank():
    assert np.linalg.matrix_rank(low_rank.first_step("lora", "sgd", rank=3, out=10, into=12).update) == 3


def test_the_first_step_grows_with_the_root_of_the_rank_unless_alpha_does_not_grow_with_the_rank():
    usual = low_rank.first_step("lora", rank=16).size
    assert low_rank.first_step("lora", rank=64).size / usual == pytest.approx(2, rel=0.03)
    assert low_rank.first_step("lora", rank=64, alpha=64).size / usual == pytest.approx(1, rel=0.03)
    assert low_rank.first_step("lora", rank=64, alpha=8, rslora=True).size / usual == pytest.approx(1, rel=0.03)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(InputError, match="unknown method 'dora': choose from full, lora, adalora"):
        low_rank.first_step("dora")
    with pytest.raises(InputError, match="unknown optimizer 'adam'"):
        low_rank.first_step("lora", "adam")
    with pytest.raises(InputError, match="alpha and rslora are LoRA's here, not of adalora"):
        low_rank.first_step("adalora", alpha=8)


def test_a_short_fit_changes_every_linear_weight_of_t5s_blocks_and_the_whole_update_lowers_the_loss():
    fit = low_rank.short_fit(steps=2, batch_size=4, held_out=4)
    assert len(fit.updates) == 2 * 6 + 2 * 10  # q k v o wi wo in the encoder, four more in the decoder
    assert all(update.any() and update.shape == fit.weights[name].shape for name, update in fit.updates.items())
    assert list(fit.loss_by_rank) == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    assert fit.loss_by_rank[128] < fit.loss_by_rank[0]
    shares = low_rank.shares_data(fit)
    assert all(line[0] == 0 and line[-1] == pytest.approx(100) for line in shares.updates)
    assert "random 29 to 38 %" in alternative(low_rank.plot_update(fit, shares))


def test_shares_are_told_as_the_least_and_the_most_of_all_matrices():
    shares = low_rank.Shares(
        updates=[np.array([0, 60, 100]), np.array([0, 80, 100])], weights=[np.array([0, 50, 100])], random=[np.array([0, 40, 100])]
    )
    assert shares.at(1) == {"updates": (60, 80), "weights": (50, 50), "random": (40, 40)}


RATES = {"t5, howto-text": {"full": {0.01: 64.6, 0.03: 28.0}, "lora": {0.01: 70.1, 0.03: 13.0}, "adalora": {0.01: 62.5, 0.03: 67.8}}}


def test_one_learning_rate_makes_either_method_the_winner():
    cells = [cell.get_text() for cell in BeautifulSoup(low_rank.gap_table(RATES).data, "html.parser").find_all("td")]
    assert cells == ["-7.6", "+54.8", "-2.3"]  # both at 0.01, both at 0.03, each at its best


def test_the_picture_of_rates_says_the_best_of_each_method():
    assert "LoRA 70.1 at 0.01; t5, howto-text: AdaLoRA 67.8 at 0.03" in alternative(low_rank.plot_rates(RATES))


def test_rates_come_from_the_committed_records():
    rates = low_rank.rates_data()
    assert list(rates["t5, howto-text"]) == ["full", "lora", "adalora"]
    assert {low_rank.best_rate(methods["lora"]) for methods in rates.values()} == {0.01}
    assert {low_rank.best_rate(methods["adalora"]) for methods in rates.values()} == {0.03}


def test_no_records_of_rates_is_said(tmp_path):
    with pytest.raises(InputError, match="no records of learning rates in"):
        low_rank.rates_data(tmp_path)
