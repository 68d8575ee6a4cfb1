"""Parts of a verdict: metrics that have to agree, and what a tie could have seen."""

import pytest

from asum_lib.measure.stats import Difference, estimate
from asum_lib.study import render_ledger
from asum_lib.study.verdicts import Part, agreed, decide, family_evidence


def metrics(*differences):
    return tuple(zip(("rouge1", "rouge2", "rougeL"), differences, strict=True))


BETTER = estimate(3.0, 0.5, 20), estimate(4.0, 0.5, 20), estimate(2.0, 0.6, 20)


def test_metrics_of_one_comparison_are_one_part():
    """The weakest of three that agree speaks for all."""
    assert agreed(metrics(*BETTER)) == BETTER[2]


def test_metrics_that_disagree_are_a_tie():
    worse = estimate(-3.0, 0.5, 20)
    together = agreed(metrics(*BETTER[:2], worse))
    assert together.p == 1


def test_three_metrics_count_once_in_holms_correction():
    parts = [Part("a", "above", agreed(metrics(*BETTER)), (), metrics=metrics(*BETTER))]
    verdict, reason, p_holm = decide(parts, 0.5)
    assert (verdict, reason) == ("reproduced", "of 1 parts: 1 hold")
    assert p_holm == [BETTER[2].p]


def test_equality_has_to_hold_for_every_metric():
    near, wide = estimate(0.1, 0.1, 30), estimate(0.1, 2.0, 30)
    part = Part("a", "within", agreed(metrics(near, near, wide)), (), 1.0, metrics(near, near, wide))
    assert part.outcome(1.0) == "tie"
    part = Part("a", "within", agreed(metrics(near, near, near)), (), 1.0, metrics(near, near, near))
    assert part.outcome(1.0) == "holds"


def test_the_detectable_difference_worked_by_hand():
    """t of 20 degrees: 2.086 for 5 % on both sides, 0.860 for a power of 80 %; standard error 0.5."""
    assert estimate(0.0, 0.5, 20).detectable() == pytest.approx(0.5 * (2.086 + 0.860), abs=1e-3)


def test_more_comparisons_can_see_less():
    one = estimate(0.0, 0.5, 20)
    assert one.detectable(15) > one.detectable()


def test_a_tie_says_what_it_could_have_seen(tmp_path):
    tie = Part("a", "below", estimate(-0.1, 0.5, 20), ())
    [shown] = family_evidence([tie], True, tmp_path, ["points of WER"])
    assert shown["detectable"] == pytest.approx(1.47, abs=0.01)
    assert "could have seen 1.5" in render_ledger.outcome_said(shown)


def test_a_tie_of_equal_outputs_says_that_nothing_differs(tmp_path):
    [shown] = family_evidence([Part("a", "below", Difference(0, 0, 0, 1), ())], True, tmp_path, ["points of WER"])
    assert render_ledger.outcome_said(shown) == "tie; nothing differs"
