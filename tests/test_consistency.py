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


def test_two_summaries_that_deserve_the_same_can_score_anything():
    found = {one.what: one for one in consistency.rescored(10)}
    few, none = found[consistency.NUMBERS_FIRST], found[consistency.NO_NUMBERS]
    assert few.known == pytest.approx(none.known, abs=0.5) and 31 < few.known < 36  # the paper's 33.4, to a word of each reference
    assert none.wrong == 0 and few.wrong > 99


def test_a_fifth_of_the_words_scores_a_third():
    words = "один два три четыре пять шесть семь восемь 9 10"
    assert consistency._words_worth(words, 1 / 3, numbers_first=True) == "9 10"  # 2 of 10 words: 2 * 2 / (2 + 10)
    assert consistency._words_worth(words, 1 / 3, numbers_first=False) == "один два"


def test_the_english_tokenizer_can_put_an_untrained_model_first():
    found = {one.what: one for one in consistency.rescored(10) if one.measured}
    before, after = found["our mBART before fine-tuning"], found["our mBART with LoRA"]
    assert before.known < after.known - 50 and before.wrong > after.wrong
    assert "change places" in consistency.english_tokenizer(10).why


def test_adalora_gains_less_by_its_own_authors_than_by_the_paper():
    gaps = {where: (gap, status) for where, gap, status in consistency.adapter_gaps()}
    assert gaps["the paper, Gazeta"] == (pytest.approx(9.3), "secondary")
    assert gaps["AdaLoRA's authors, XSum, 1.10 % trained"] == (pytest.approx(44.35 - 43.40), "secondary")
    assert sum(where.startswith("AdaLoRA's authors") for where in gaps) == 8
    assert figures(consistency.gazeta_gap())["AdaLoRA minus LoRA, AdaLoRA's authors (secondary), 8 pairs"] == "-0.03 to +0.95 points of ROUGE-1"


def test_quantised_weights_alone_save_in_one_proportion():
    assert consistency.ratio_of_savings(32) == pytest.approx(27.5 / 24)  # 32 - 4.5 bits over 32 - 8
    assert consistency.ratio_of_savings(16) == pytest.approx(11.5 / 8)


def test_the_measured_readings_of_one_type_keep_that_proportion():
    own = [int4 / int8 for reading, _, int8, int4 in consistency.memory_points() if reading == "(rest float32), weights against fp32"]
    assert len(own) == 5
    assert own == pytest.approx([consistency.ratio_of_savings(32)] * 5, rel=0.005)


def test_rules_are_mixed_within_a_size_and_a_meaning_of_memory():
    points = [("(rest float16), weights against fp16", "base", -30, -44), ("(rest float32), weights against fp32", "base", -45, -52)]
    points += [("(rest float16), disk against fp32", "base", -65, -72), ("(rest float16), weights against fp32", "tiny", -61, -66)]
    assert consistency.mixed_rules(points) == [
        ("base, weights, int8 against fp16 and int4 against fp32", -30, -52),
        ("base, weights, int8 against fp32 and int4 against fp16", -45, -44),
    ]


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
    assert figures(consistency.against_zero_shot())["the paper's over the published"] == "3.6 to 7.3 times"  # 9.8 / 2.7 and 36.5 / 5.0


def test_the_published_rates_are_of_the_multilingual_checkpoints():
    known = consistency.zero_shot_by_size()
    assert {size: round(cell["value"], 1) for size, cell in known.items()} == {"tiny": 7.5, "base": 5.0, "small": 3.4, "medium": 2.9, "large": 2.7}
    assert {cell["status"] for cell in known.values()} == {"secondary"}
    assert figures(consistency.against_zero_shot())["tiny"].endswith("7.5 % without adaptation on LibriSpeech (secondary)")


def test_the_value_that_occurs_twice_is_found():
    assert figures(consistency.coincidence())["occur more than once"] == "11.3"


def test_only_stated_learning_rates_are_checked():
    found = consistency.learning_rates()
    assert found.verdict == "fits"
    assert found.why.startswith("2 of 2 stated rates")


def test_whether_adalora_was_active_cannot_be_told():
    assert consistency.adalora_active().verdict == "cannot be told"
    assert [what.partition(": ")[0] for what, _ in consistency.adalora_active().figures] == [
        *(f"ours, {size}" for size in ("tiny", "base", "small", "medium", "large")),
        *(f"ours, {model}" for model in ("t5 on howto-text", "mbart on howto-text", "mbart on news-ru")),
    ]
    assert consistency.adalora_active().why.endswith("apart at 0 of 5 sizes")  # all five intervals hold 0


def test_every_check_is_shown_with_its_verdict():
    shown = render_consistency.overview().data
    assert shown.count('class="badge') == len(consistency.CHECKS) == 8


@pytest.mark.parametrize("name", ["plot_ladder", "plot_gazeta", "plot_gaps", "plot_tokenizers", "plot_memory"])
def test_every_figure_says_its_values_in_words(name):
    shown = getattr(render_consistency, name)().data
    alternative = shown.partition('alt="')[2].partition('"')[0]
    assert {"plot_ladder": "36.5", "plot_gazeta": "24.1", "plot_gaps": "+9.30", "plot_tokenizers": "0.0", "plot_memory": "-65"}[name] in alternative
