"""The worked numbers of the page on AdaLoRA, by PEFT's own allocator, and what the toy and the records show."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.teaching import adalora

VALUES = {"query": [5, 1], "value": [2, 2]}
GRADIENTS = {"query": [[0.4, 0], [0, 4]], "value": [[4, 0], [0, 3]]}
ROUNDING = 1e-4  # PEFT adds 1e-5 to the rank that it divides by


def alternative(shown) -> str:
    return BeautifulSoup(shown.data, "html.parser").img["alt"]


def test_a_number_that_jumps_scores_above_a_steady_one_of_the_same_mean():
    assert adalora.running_score([4, 0], beta=0.5) == pytest.approx({"smoothed": 1, "uncertainty": 1, "score": 1})
    assert adalora.running_score([2, 2], beta=0.5) == pytest.approx({"smoothed": 1.5, "uncertainty": 0.5, "score": 0.75})


def test_pruning_goes_by_the_score_and_not_by_the_singular_value():
    pruned = adalora.prune(VALUES, GRADIENTS, budget=2)
    assert pruned.scores["query"] == pytest.approx([1, 4], rel=ROUNDING)  # (value x gradient)^2 / 4
    assert pruned.scores["value"] == pytest.approx([16, 9], rel=ROUNDING)
    assert pruned.kept == {"query": [False, False], "value": [True, True]}


def test_with_a_larger_budget_the_next_best_stays():
    assert adalora.prune(VALUES, GRADIENTS, budget=3).kept == {"query": [False, True], "value": [True, True]}


def test_pruning_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="the same modules"):
        adalora.prune({"query": [1, 2]}, {"value": [[1, 0], [0, 1]]}, budget=1)
    with pytest.raises(InputError, match="a matrix of 2 x 2"):
        adalora.prune({"query": [1, 2]}, {"query": [[1, 0]]}, budget=1)
    with pytest.raises(InputError, match="budget 4: give a number of directions from 0 to 3"):
        adalora.prune(VALUES, GRADIENTS, budget=4)


def test_the_budget_of_the_studys_t5_by_hand():
    budget = adalora.budget_by_step(18, init_r=24, target_r=16, tinit=20, tfinal=80, total_step=200)
    assert [budget[step] for step in (0, 20, 40, 70, 80, 120, 200)] == [432, 432, 361, 306, 297, 288, 288]
    assert (budget[40], budget[41]) == (361, 358)  # half of the pruning, 360, is done at step 41


def test_the_record_of_that_run_lies_on_the_budget_and_without_calls_stays_where_it_starts():
    called = adalora.rank_history("howto-text", "t5", "adalora")
    assert {step: round(rank, 2) for step, rank in called.items()} == {0: 24, 40: 20.06, 80: 16.5, 120: 16, 160: 16, 200: 16}
    assert set(adalora.rank_history("howto-text", "t5", "adalora-inactive").values()) == {24}


@pytest.mark.parametrize("seed", [0, 1])
def test_every_module_of_the_toy_ends_with_the_rank_that_it_needs(seed):
    run = adalora.train("adalora", seed)
    assert run.at_end == {"query": 0, "key": 2, "value": 6, "output": 8}
    assert (run.mean[0], run.mean[-1]) == (8, 4)
    assert run.excess[0] == pytest.approx((2 + 6 + 8) / 32)
    assert run.excess[-1] < 0.02


def test_without_calls_the_rank_never_moves_and_the_loss_does_not_tell():
    run = adalora.train("adalora-inactive")
    assert {rank for by_step in run.ranks.values() for rank in by_step} == {8}
    assert run.excess[-1] < 0.02


def test_lora_of_the_target_rank_everywhere_stays_above_what_it_must_leave_out():
    run = adalora.train("lora")
    assert set(run.at_end.values()) == {4}
    assert (2 + 4) / 32 < run.excess[-1] < 0.25


def test_gradients_set_to_zero_before_the_call_prune_everything():
    run = adalora.train("adalora", zero_first=True)
    assert set(run.at_end.values()) == {0}
    assert run.excess[-1] == run.excess[0]


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="unknown method 'full': choose from adalora, adalora-inactive, lora"):
        adalora.train("full")


def kept(*by_seed) -> adalora.KeptRanks:
    return adalora.KeptRanks(
        "t5", "made-up", 6, 4, tuple(range(len(by_seed))), ("encoder 1", "decoder 1"), ("self q", "cross q"), np.array(by_seed, float)
    )


def test_means_of_kept_ranks_leave_out_modules_that_a_layer_has_not():
    data = kept([[2, np.nan], [4, 6]], [[0, np.nan], [6, 6]])
    assert data.mean_of("encoder") == 1
    assert data.mean_of("decoder") == 5.5
    assert data.mean_of(module="self") == 3
    with pytest.raises(InputError, match="layers encoder 1, decoder 1; modules self q, cross q"):
        data.mean_of("middle")


def test_seeds_that_order_the_modules_alike_agree_and_the_reverse_order_disagrees():
    assert adalora.seed_agreement(kept([[1, 2], [3, 4]], [[1, 3], [5, 6]], [[4, 3], [2, 1]])) == pytest.approx(
        {"seeds 0 and 1": 1, "seeds 0 and 2": -1, "seeds 1 and 2": -1}
    )


def test_the_heat_map_says_every_mean_and_no_missing_module():
    shown = adalora.plot_kept_ranks(kept([[2, np.nan], [4, 6]], [[0, np.nan], [6, 6]]))
    assert alternative(shown) == (
        "Rank that AdaLoRA kept, t5 on made-up, mean over 2 seeds, target 4: encoder 1 self q 1.0; decoder 1 self q 5.0; decoder 1 cross q 6.0."
    )


def test_kept_ranks_come_from_the_committed_records():
    data = adalora.kept_ranks("news-ru", "mbart", targets="all-linear")
    assert data.kept.shape == (3, 4, 10)
    assert data.layers == ("encoder 1", "encoder 2", "decoder 1", "decoder 2")
    assert data.modules == ("self q", "self k", "self v", "self out", "cross q", "cross k", "cross v", "cross out", "fc1", "fc2")
    assert np.isnan(data.kept[:, :2, 4:8]).all()
    assert np.nanmean(data.kept) == pytest.approx(data.target_r)


def test_a_configuration_without_records_is_said():
    with pytest.raises(InputError, match="no record of adalora of rank 5 for t5 on howto-text"):
        adalora.kept_ranks("howto-text", "t5", rank=5)


def test_the_picture_of_ranks_says_where_they_end():
    active, inactive = (
        adalora.Run(method, {name: [8, rank] for name, rank in ranks.items()}, [0.5, 0.0])
        for method, ranks in (("adalora", adalora.NEEDED), ("adalora-inactive", dict.fromkeys(adalora.NEEDED, 8)))
    )
    said = alternative(adalora.plot_ranks(active, inactive, {"called": {0: 24, 9: 16}, "never": {0: 24, 9: 24}}, [24, 16]))
    assert "value ends at 6 and needs 6" in said
    assert "all stay at 8. The study's runs, called: 24 at first, 16 at the end; never: 24 at first, 24 at the end." in said
