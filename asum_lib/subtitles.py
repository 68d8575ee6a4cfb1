"""A transcript as subtitles: cues that can be read in the time they are shown, as SubRip (.srt) or WebVTT (.vtt).

A model writes the words of a window of up to 30 s without saying when each is spoken. What is known is where the phrases in it begin
and end, since they were cut apart before they shared the window. So words are laid over the time in which somebody speaks, each as long as
it has letters, and a cue ends where a sentence or a phrase does, or where it would be too long to read.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from asum_lib.systems import Segment

LONGEST_S = 7.0  # that a cue stays: the usual limit, as are the next two
LINE_CHARACTERS = 42
LINES = 2
PAUSE_S = 1.0  # over which no cue goes on
# Scripts without spaces between words: any two letters may be parted there.
_PIECE = re.compile(r"\s*(?:[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff][\W_]*|(?:(?![\u3040-\u30ff\u3400-\u9fff])\S)+)")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'»”’)\]]*$")


@dataclass(frozen=True)
class Cue:
    """What is shown from `start_s` to `end_s`, seconds from the beginning of the recording."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Word:
    text: str  # with the space before it, if any
    start_s: float
    end_s: float
    phrase: int  # of the segment, in which it begins


def cues(segments: Sequence[Segment]) -> list[Cue]:
    """The cues of the segments in order, each within its segment's time and none overlapping; segments that are doubted have none."""
    found: list[Cue] = []
    for segment in segments:
        if segment.doubt is None:
            found += _cues_of(segment)
    return found


def as_srt(segments: Sequence[Segment]) -> str:
    """SubRip; empty where there is nothing to show."""
    blocks = [f"{number}\n{_times(cue, ',')}\n{_text(cue)}\n" for number, cue in enumerate(cues(segments), 1)]
    return "\n".join(blocks)


def as_vtt(segments: Sequence[Segment]) -> str:
    """WebVTT, whose signature stands there even where there is nothing to show."""
    return "\n".join(["WEBVTT\n", *(f"{_times(cue, '.')}\n{escape(_text(cue), quote=False)}\n" for cue in cues(segments))])


def clock(seconds: float, mark: str = ".") -> str:
    """Hours, minutes, seconds and thousandths, e.g. `01:02:03.456`."""
    minutes, rest = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _times(cue: Cue, mark: str) -> str:
    return f"{clock(cue.start_s, mark)} --> {clock(cue.end_s, mark)}"


def _text(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _cues_of(segment: Segment) -> Iterator[Cue]:
    group: list[_Word] = []
    for word in _words(segment):
        if group and _full(group, word):
            yield _cue(group)
            group = []
        group.append(word)
    if group:
        yield _cue(group)


def _full(group: Sequence[_Word], word: _Word) -> bool:
    """Whether the next word begins a new cue: it does not fit, or a sentence or phrase has ended and there is a line's worth to show."""
    text = "".join(one.text for one in group)
    if word.start_s - group[-1].end_s > PAUSE_S:
        return True
    if word.end_s - group[0].start_s > LONGEST_S or len(_wrapped([*group, word])) > LINES:
        return True
    ended = _SENTENCE_END.search(text) or word.phrase != group[-1].phrase
    return bool(ended) and _width(text.strip()) > LINE_CHARACTERS / 2


def _cue(group: Sequence[_Word]) -> Cue:
    start_s = group[0].start_s
    return Cue(start_s, min(group[-1].end_s, start_s + LONGEST_S), tuple(_wrapped(group)))


def _wrapped(group: Sequence[_Word]) -> list[str]:
    """Lines of at most `LINE_CHARACTERS`; a word that is longer has a line to itself, and stays whole."""
    lines: list[str] = []
    for word in group:
        if lines and _width(lines[-1] + word.text) <= LINE_CHARACTERS:
            lines[-1] += word.text
        else:
            lines.append(word.text.lstrip())
    return lines


def _words(segment: Segment) -> list[_Word]:
    """The words with their times: each phrase has the share of the text that its length asks for, cut between words."""
    pieces = [match.group() for match in _PIECE.finditer(" ".join(segment.text.split()))]
    spans = segment.phrases_s or ((segment.start_s, segment.end_s),)
    found, first = [], 0
    for number, ((start_s, end_s), last) in enumerate(zip(spans, _lasts(pieces, spans), strict=True)):
        own = pieces[first:last]
        letters, at_s = sum(map(len, own)), start_s
        for piece in own:
            until_s = at_s + (end_s - start_s) * len(piece) / letters
            found.append(_Word(piece, at_s, until_s, number))
            at_s = until_s
        first = last
    return found


def _lasts(pieces: Sequence[str], spans: Sequence[tuple[float, float]]) -> list[int]:
    """How many pieces have been said when each phrase ends: the nearest cut, and one where a sentence ends before any other."""
    ends = list(itertools.accumulate(map(len, pieces)))
    spoken_s = list(itertools.accumulate(end_s - start_s for start_s, end_s in spans))
    lasts = [0]
    for share in (until_s / spoken_s[-1] for until_s in spoken_s[:-1]):
        border = share * ends[-1]

        def far(count: int, border: float = border) -> float:
            away = abs((ends[count - 1] if count else 0) - border)
            return away - (LINE_CHARACTERS / 2 if count and _SENTENCE_END.search(pieces[count - 1]) else 0)

        lasts.append(min(range(lasts[-1], len(pieces) + 1), key=far))
    return [*lasts[1:], len(pieces)]


def _width(text: str) -> int:
    """Characters, of which those of East Asian width count twice and marks over a letter not at all."""
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
