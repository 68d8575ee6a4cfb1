"""The checks of the paper's own numbers, against values worked out by hand."""

import math

import pytest

from asum_lib.study import consistency, render_consistency


def figures(check) -> dict:
    return dict(check.figures)


def test_the_ladder_rises_once():
    found = consistency.ladder_steps()
    assert found.verdict == "does not fit"
    assert figures(found)["tiny to base"] == "+4.4 points"
    assert [step for step, value in found.figures if value.startswith("+") and " to " in step] == ["tiny to base"]


def test_the_error_at_which_a_step_is_noise():
    assert consistency.standard_error_for(4.4) == pytest.approx(4.4 / (1.96 * math.sqrt(2)), rel=1e-3)
    assert consistency.words_for(1.0, 0.5) == pytest.approx(2_500)  # 0.25 / 0.01 squared


def test_the_gap_on_gazeta_is_wider_than_the_published_field():
    found = consistency.gazeta_gap()
    assert found.verdict == "does not fit"
    assert figures(found)["the paper's AdaLoRA minus its LoRA"] == "9.3 points of ROUGE-1"
    assert figures(found)["gaps between neighbouring published systems of one test set"] == "0.1 to 4.5 points"  # 28.7 - 28.6 and 28.6 - 24.1
    assert figures(found)["best minus worst published system, v1 test set"] == "6.2 points"  # 32.4 - 26.2
    assert figures(found)["the paper's LoRA minus the worst published encoder-decoder on v1"] == "-5.3 points"  # 24.1 - 29.4
    assert figures(found)["the paper's LoRA minus the worst published encoder-decoder on v2"] == "-4.5 points"  # 24.1 - 28.6
    assert figures(found)["the same model on v1 minus on v2 (mBART)"] == "3.7 points"


def test_the_english_tokenizer_sees_digits_alone():
    found = figures(consistency.english_tokenizer(10))
    assert found["references with a digit"] == "10 of 10"
    assert found["the reference itself"] == "100.0 with a Unicode tokenizer, 100.0 with the English one"
    assert found["the reference without its digits"].endswith(" 0.0 with the English one")
    assert found["nothing but the reference's digits"].endswith("100.0 with the English one")


def test_no_reading_of_memory_gives_both_savings():
    found = consistency.memory_rule()
    assert found.verdict == "does not fit"
    assert figures(found)["of them within 5 points of both"] == "0"
    assert consistency.memory_rule(within_points=100).verdict == "fits"  # the check can come out otherwise


def test_an_overhead_shrinks_both_savings_alike():
    claimed = {"int8": -30, "int4": -65}
    assert consistency.fits_with_overhead(-36, -78, claimed, 0.5)  # both times 5/6
    assert not consistency.fits_with_overhead(-71, -82, claimed, 5)  # 35/71 of 82 is 40
    assert not consistency.fits_with_overhead(-15, -32.5, claimed, 5)  # an overhead cannot make a saving larger
    assert not consistency.fits_with_overhead(9, -65, claimed, 5)


def test_rates_of_another_corpus_cannot_be_told():
    assert consistency.against_zero_shot().verdict == "cannot be told"
    assert figures(consistency.against_zero_shot())["the paper's over the published"] == "3.6 to 8.7 times"  # 9.8 / 2.7 and 36.5 / 4.2


def test_the_value_that_occurs_twice_is_found():
    assert figures(consistency.coincidence())["occur more than once"] == "11.3"


def test_only_stated_learning_rates_are_checked():
    found = consistency.learning_rates()
    assert found.verdict == "fits"
    assert found.why.startswith("2 of 2 stated rates")


def test_whether_adalora_was_active_cannot_be_told():
    assert consistency.adalora_active().verdict == "cannot be told"
    assert len(consistency.adalora_active().figures) == 5
    assert consistency.adalora_active().why.endswith("apart at 0 of 5 sizes")  # all five intervals hold 0


def test_every_check_is_shown_with_its_verdict():
    shown = render_consistency.overview().data
    assert shown.count('class="badge') == len(consistency.CHECKS) == 8
    for plot in (render_consistency.plot_ladder, render_consistency.plot_gazeta, render_consistency.plot_memory):
        assert 'alt="' in plot().data
