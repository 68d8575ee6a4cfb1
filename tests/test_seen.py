"""What of a test set stands in the training text."""

from asum_lib.corpora import seen, talks
from asum_lib.study import render_chance


def test_most_summaries_of_the_stress_test_are_known():
    number, of = seen.seen_summaries("howto-stress")
    assert of == len(talks.scripts("howto-stress", "test"))
    assert 0.9 < number / of < 1
    assert f"{number} of the {of} test summaries" in render_chance.seen_summaries("howto-stress").data


def test_few_summaries_of_plain_talks_are_known():
    number, of = seen.seen_summaries("howto-talks")
    assert 0 < number / of < 0.3
