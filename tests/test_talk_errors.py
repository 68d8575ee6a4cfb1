"""What errors of hearing cost a summary, on literal transcripts and on numbers whose answer is known."""

import numpy as np
import pytest

from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.measure import wer
from asum_lib.study import talk_errors
from asum_lib.study.talk_errors import NORMALIZER, Placed

KETTLE = [("a", "copper", "kettle")]


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ("take a copper kettle now", Placed(0, 0)),
        ("take a copper cattle now", Placed(1, 0)),
        ("take the copper kettle now", Placed(1, 0)),  # the article is part of the phrase
        ("take a kettle now", Placed(1, 0)),
        ("take a copper old kettle now", Placed(1, 0)),  # inserted between two of its words
        ("take a copper kettle right now", Placed(0, 1)),  # inserted behind it
        ("take just a copper kettle now", Placed(0, 1)),
        ("make a copper kettle", Placed(0, 2)),
        ("make", Placed(3, 2)),
        ("", Placed(3, 2)),
        ("Take a copper kettle, now.", Placed(0, 0)),
    ],
)
def test_an_error_counts_for_a_fact_on_its_words_and_between_them(heard, found):
    assert talk_errors.placed("take a copper kettle now", heard, KETTLE) == found


def test_every_mention_of_a_fact_counts():
    assert talk_errors.placed("pour it. a copper kettle. a copper kettle", "pour it. a copper. a kettle", KETTLE) == Placed(2, 0)


def test_part_of_a_phrase_elsewhere_is_no_fact():
    assert talk_errors.placed("a kettle of copper", "the kettle of tin", KETTLE) == Placed(0, 2)


@pytest.mark.parametrize(("found", "group"), [(Placed(0, 0), "none"), (Placed(0, 3), "beside"), (Placed(1, 3), "on")])
def test_a_talk_is_in_one_group(found, group):
    assert found.group == group


def test_placed_errors_add_up_to_those_of_wer():
    said, rng = talks.scripts("howto-talks", "dev")[:5], np.random.default_rng(5)
    for script in said:
        words = script.transcript.split()
        heard = " ".join(word for word in words if rng.random() > 0.2) + " and so on"
        [count] = wer.count_errors([script.transcript], [heard], NORMALIZER)
        found = talk_errors.placed(script.transcript, heard, talk_errors.fact_phrases(script).values())
        assert found.on + found.beside == count.errors > 0


def test_every_fact_of_a_summary_is_told_in_the_talk_a_sentiment_by_its_last_sentence():
    script = talks.scripts("howto-talks", "test")[0]
    phrases = talk_errors.fact_phrases(script)
    assert phrases["person", "victor"] == ("victor",)
    assert phrases["sentiment", "positive"] == tuple("this is the best one i ever made".split())
    assert ("tool", "a kitchen thermometer") not in phrases  # the talk tells it, the summary does not
    assert talk_errors.heard_facts(script.transcript, phrases) == set(phrases)


def test_a_fact_that_was_misheard_once_but_told_twice_is_heard():
    assert talk_errors.heard_facts("victor again. victim", {("person", "victor"): ("victor",)}) == {("person", "victor")}
    assert talk_errors.heard_facts("victim", {("person", "victor"): ("victor",)}) == set()


def test_survival_counts_each_fact_of_a_kind():
    wanted = [{("tool", "a"), ("person", "x")}, {("tool", "b")}, {("person", "y")}]
    written = [[{("tool", "a"), ("tool", "z")}, set(), {("person", "y")}], [{("person", "x")}, {("tool", "b")}, set()]]
    kept, there = talk_errors.survival(written, wanted, "tool")
    assert kept.tolist() == [[1, 0, 0], [0, 1, 0]] and there.tolist() == [1, 1, 0]


WORDS = np.full(40, 10.0)


def falling(slope, noise=0.0):
    """Errors and a metric of four cells with three seeds: 80 at WER 0, and `slope` points a point of WER."""
    rng = np.random.default_rng(1)
    errors = np.stack([np.full((3, 40), float(count)) for count in (0, 1, 2, 4)])
    return errors, (80 + slope * errors * 10) / 100 + noise * rng.normal(size=errors.shape)


def test_a_line_without_noise_is_found_exactly():
    errors, of = falling(-0.5)
    found = talk_errors.line(errors, WORDS, of, np.ones(40))
    assert [found.slope.value, found.slope.lo, found.slope.hi] == pytest.approx([-0.5] * 3)
    assert found.at_zero.value == pytest.approx(80) and found.slope.p < 1e-9


def test_a_flat_line_in_noise_is_a_tie():
    errors, of = falling(0.0, noise=0.3)
    assert talk_errors.line(errors, WORDS, of, np.ones(40)).slope.tie


def test_cells_of_one_wer_make_no_line():
    with pytest.raises(InputError, match="two cells of unlike WER"):
        talk_errors.line(np.ones((2, 1, 4)), WORDS[:4], np.ones((2, 1, 4)), np.ones(4))


def causes(seed=2):
    return np.random.default_rng(seed).poisson(1.0, size=(2, 3, 2, 60)).astype(float)


def test_each_cause_gets_its_own_slope():
    x = causes()
    on, beside = talk_errors.slopes(x, 4 * x[0] + 0.5 * x[1])
    assert on.value == pytest.approx(4) and beside.value == pytest.approx(0.5)
    assert on.lo == pytest.approx(4) and on.hi == pytest.approx(4)


def test_a_cell_that_is_worse_throughout_decides_nothing():
    x = causes()
    level = np.array([0, 50, 100])[:, None, None]
    x[0] += level / 10  # the worse a cell, the more of the first cause: only between cells
    on, beside = talk_errors.slopes(x, 2 * x[1] + level)
    assert on.value == pytest.approx(0) and beside.value == pytest.approx(2)


def test_a_cause_that_never_varies_is_refused():
    x = causes()
    x[0] = 1
    with pytest.raises(InputError, match="cannot be told apart"):
        talk_errors.slopes(x, x[1])


def test_noise_alone_is_a_tie():
    x = causes()
    loss = np.random.default_rng(3).normal(size=x.shape[1:])
    assert all(one.tie for one in talk_errors.slopes(x, loss))


def test_a_group_has_its_own_talks_in_both_sums():
    values, weights = np.array([[[1.0, 0.0, 3.0]]]), np.array([[[2.0, 2.0, 4.0]]])
    value, lo, hi = talk_errors.grouped(values, weights, np.array([[[True, False, True]]]))
    assert value == pytest.approx(100 * 4 / 6) and lo < 50 and hi > 75  # the values with one talk alone
    with pytest.raises(InputError, match="no talk"):
        talk_errors.grouped(values, weights, np.zeros((1, 1, 3), bool))


def test_a_relation_of_times_is_that_of_their_sums():
    """Twice as long on every talk: nothing else comes of it, whichever talk is left out."""
    times = np.array([[1.0, 5.0, 2.0], [2.0, 1.0, 9.0]])
    assert talk_errors.relation(2 * times, times) == pytest.approx((2, 2, 2))
    value, lo, hi = talk_errors.relation([[1.0, 3.0]], [[2.0, 2.0]])
    assert (value, lo, hi) == (1.0, pytest.approx(1 - 12.706 * 0.5, abs=1e-3), pytest.approx(1 + 12.706 * 0.5, abs=1e-3))
