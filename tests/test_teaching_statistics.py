"""The draws, pairs, coverages and ties that the chapter on statistics works by hand."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.measure import stats
from asum_lib.teaching import statistics


def cells(shown) -> list[list[str]]:
    lines = BeautifulSoup(shown.data, "html.parser").find_all("tr")
    return [[cell.get_text() for cell in line.find_all(["td", "th"])] for line in lines]


def test_every_draw_of_two_utterances():
    assert cells(statistics.draws_table([0, 2], [10, 10]))[1:] == [
        ["1 1", "0", "20", "0.0"],
        ["1 2", "2", "20", "10.0"],
        ["2 1", "2", "20", "10.0"],
        ["2 2", "4", "20", "20.0"],
    ]


def test_too_many_draws_to_list_are_refused():
    assert len(statistics.all_draws([0] * 5, [1] * 5)) == 5**5
    with pytest.raises(InputError, match="give at most 5"):
        statistics.all_draws([0] * 6, [1] * 6)


def test_random_draws_have_the_shares_of_all_draws():
    drawn = statistics.resampled([0, 2], [10, 10], draws=20_000)
    assert [(drawn == value).mean() for value in (0, 10, 20)] == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_percentiles_of_draws_are_those_of_the_interval():
    random = np.random.default_rng(2)
    words = random.integers(3, 12, 60)
    errors = random.binomial(words, 0.3)
    drawn = np.percentile(statistics.resampled(errors, words), [2.5, 97.5])
    assert statistics.percentile_interval(errors, words, draws=4_000) == pytest.approx(drawn, abs=1)


def test_paired_and_unpaired_by_hand():
    """a has one error more in each of two utterances of 10 words: 10 points in every draw, and -10 to 30 where each is drawn alone."""
    paired = stats.paired_difference([1, 3], [0, 2], [10, 10])
    assert (paired.value, paired.lo, paired.hi) == (10.0, 10.0, 10.0)
    unpaired = statistics.unpaired_difference([1, 3], [0, 2], [10, 10], draws=20_000)
    assert sorted(set(unpaired)) == [-10, 0, 10, 20, 30]
    assert [(unpaired == end).mean() for end in (-10, 30)] == pytest.approx([1 / 16, 1 / 16], abs=0.01)


def test_pairing_narrows_what_the_record_says():
    data = statistics.pair()
    assert data.difference.lo > 0 > np.percentile(data.unpaired, 2.5)
    assert data.paired.std() / data.unpaired.std() == pytest.approx(np.sqrt(1 - data.correlation), abs=0.05)
    assert data.difference.value == pytest.approx(data.intervals[0][0] - data.intervals[1][0])
    assert [line[0] for line in cells(statistics.pair_table(data))[1:3]] == ["WER of tiny in int4, %", "WER of tiny in fp32, %"]
    assert "95 per cent of them from" in statistics.plot_pair(data).data


def test_the_spread_shrinks_by_the_root_of_one_minus_the_correlation():
    """Equal variances, correlation 0.75: half the spread. Errors of 0 to 8 in 1,000 words stay near a normal distribution."""
    random = np.random.default_rng(3)
    shared, own = random.normal(size=400), random.normal(size=(2, 400))
    a, b = (100 + 10 * (np.sqrt(0.75) * shared + 0.5 * each) for each in own)
    words = np.full(400, 1_000)
    unpaired = statistics.unpaired_difference(a, b, words)
    paired = statistics.resampled(a, words) - statistics.resampled(b, words)
    assert paired.std() / unpaired.std() == pytest.approx(0.5, abs=0.05)


def test_percentiles_of_three_utterances_are_too_narrow():
    drawn, components = (
        statistics.coverage("utterances", [3], repetitions=400, method=method).held_pct[0] for method in ("percentiles", "components")
    )
    assert drawn < 80 < components


def test_percentiles_of_three_seeds_are_too_narrow():
    drawn, components = (
        statistics.coverage("seeds", [3], seed_spread=0.1, repetitions=300, method=method).held_pct[0] for method in ("percentiles", "components")
    )
    assert drawn < 90 < 93 <= components


def test_one_training_hides_how_trainings_vary():
    assert statistics.coverage("seeds", [1], seed_spread=0.1, repetitions=150).held_pct[0] < 70


def test_a_value_does_not_depend_on_which_others_are_asked_for():
    alone, among = (statistics.coverage("utterances", values, repetitions=50) for values in ([10], [3, 10]))
    assert alone.held_pct[0] == among.held_pct[1]


def test_what_cannot_be_varied_is_refused():
    with pytest.raises(InputError, match="what varies 'words': choose from utterances, seeds"):
        statistics.coverage("words", [3])


def test_the_error_of_a_share():
    """p = 0.9 of 100: sqrt(0.9 x 0.1 / 100) = 0.03."""
    found = statistics.Coverage("seeds", (3,), (90.0,), 100)
    assert found.error_pct == (3.0,)
    assert "few, by number of seeds: 3: 90 per cent" in statistics.plot_coverage([("few", found)]).data


def test_holm_of_the_page():
    assert stats.holm([0.010, 0.013, 0.030, 0.200]) == pytest.approx([0.040, 0.040, 0.060, 0.200])


def test_a_tie_is_told_by_the_corrected_p():
    """The second smallest of three p-values counts twice: 0.03 alone would be a difference, 0.06 is none."""
    found = {name: stats.Difference(value, -1, 1, p) for name, value, p in [("a", -0.5, 0.03), ("b", 2.0, 0.001), ("c", 0.1, 0.9)]}
    assert cells(statistics.differences_table(found))[1:] == [
        ["a", "−0.50", "−1.00", "+1.00", "0.030", "0.060", "tie"],
        ["b", "+2.00", "−1.00", "+1.00", "0.001", "0.003", "differs"],
        ["c", "+0.10", "−1.00", "+1.00", "0.900", "0.900", "tie"],
    ]


def test_every_size_is_held_against_its_own_full_precision():
    found = statistics.differences("int8")
    assert list(found) == ["tiny", "base", "small", "medium", "large"]
    assert found["tiny"].value == statistics.pair("tiny", "int8", "fp32").difference.value


def test_the_voices_hold_all_utterances():
    errors, words, voices = statistics.by_voice()
    assert len(errors) == len(words) == len(voices) == 656
    assert len(set(voices)) == 6
    assert sum(int(line[1]) for line in cells(statistics.voices_table())[1:]) == 656
