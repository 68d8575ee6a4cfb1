"""Cues of subtitles: short enough to be read, within the segment's time, never overlapping."""

import itertools

import pytest

from asum_lib.listening import LOOP, Segment
from asum_lib.subtitles import LINE_CHARACTERS, LONGEST_S, as_srt, as_vtt, cues

LATIN = "Hello, I am Ingrid and today we replace a leaky faucet. All you need is a glass jar. First unscrew the handle, and then see."
CYRILLIC = (
    "Сегодня утром в Москве выпал первый снег. Правительство приняло новый закон о железных дорогах, а учёные нашли ещё один древний город на юге."
)
CHINESE = "今天早上莫斯科下了第一场雪政府通过了一项新的铁路法科学家在南方又发现了一座古城孩子们在公园里玩雪一直到晚上才回家"


def width(line):
    return sum(2 if "一" <= one <= "鿿" else 1 for one in line)


@pytest.mark.parametrize("text", [LATIN, CYRILLIC, CHINESE])
def test_cues_can_be_read(text):
    segment = Segment(10.0, 39.5, text, phrases_s=((10.0, 21.0), (23.5, 39.5)))
    found = cues([segment, Segment(40.0, 41.0, "Bye.")])
    assert all(cue.end_s - cue.start_s <= LONGEST_S + 1e-9 for cue in found)
    assert all(len(cue.lines) <= 2 and max(map(width, cue.lines)) <= LINE_CHARACTERS for cue in found)
    assert all(cue.start_s < cue.end_s <= after.start_s for cue, after in itertools.pairwise(found))
    assert found[0].start_s == 10.0 and found[-2].end_s <= 39.5
    said = ("" if text == CHINESE else " ").join(line for cue in found[:-1] for line in cue.lines)
    assert said == text


def test_no_word_is_spoken_in_a_pause():
    segment = Segment(0.0, 20.0, "one two. three four.", phrases_s=((0.0, 2.0), (18.0, 20.0)))
    first, second = cues([segment])
    assert (first.lines, second.lines) == (("one two.",), ("three four.",))
    assert first.end_s <= 2.0 and second.start_s >= 18.0


def test_a_word_longer_than_a_line_stays_whole():
    word = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"
    found = cues([Segment(0.0, 3.0, f"Die {word} fährt.")])
    assert [line for cue in found for line in cue.lines] == ["Die", word, "fährt."]


def test_one_word_of_half_a_minute_is_shown_for_seven_seconds():
    (cue,) = cues([Segment(0.0, 30.0, "Hmm")])
    assert (cue.start_s, cue.end_s) == (0.0, 7.0)


def test_what_is_doubted_has_no_subtitle():
    assert as_srt([Segment(0.0, 3.0, "no no no no", doubt=LOOP)]) == ""


def test_the_two_formats():
    segments = [Segment(0.0, 1.5, "one"), Segment(3_661.0004, 3_662.9996, "R&D <two>")]
    assert as_srt(segments) == "1\n00:00:00,000 --> 00:00:01,500\none\n\n2\n01:01:01,000 --> 01:01:03,000\nR&D <two>\n"
    assert as_vtt(segments) == ("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\none\n\n01:01:01.000 --> 01:01:03.000\nR&amp;D &lt;two&gt;\n")
    assert (as_srt([]), as_vtt([])) == ("", "WEBVTT\n")
