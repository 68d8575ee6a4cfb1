"""Where a sentence of a text ends, by a rule for English and Russian that needs no data and downloads none.

A line's end always ends a sentence. Otherwise it ends at `.`, `!`, `?` or an ellipsis, closing quotes and brackets included,
before a space (and a dash) and a capital, digit, opening quote or bracket; not after an initial, a list's number or an
abbreviation that goes before a name, nor between an abbreviation that goes with a number and a digit. It errs in both
directions where an abbreviation ends a sentence.
"""

import re
from collections.abc import Iterator

from asum_lib.errors import choose

SENTENCES = "asum-1"  # names the rule: to be raised when it changes

# Before a name, so no end of a sentence; after a number (2020 г., 5 см.) they are as those below.
_TITLES = {
    "en": frozenset("mr mrs ms dr prof st gen gov sen capt lt sgt vs e.g i.e cf approx".split()),
    "ru": frozenset("г гг ул им просп пл пер проф акад св см стр гл ст тов гр т м т.е т.к т.н напр".split()),
}
# After a number or before one: the end of a sentence before a capital, none before a digit or a bracket.
_UNITS = {
    "en": frozenset("al etc inc ltd co corp jr sr p.m a.m no fig figs eq eqs sec min tbsp tsp oz lb ft".split()),
    "ru": frozenset("руб коп тыс млн млрд трлн чел км кг шт мин час сек в вв др т.д т.п т.ч рис табл пп".split()),
}
_OPENING = frozenset("\"'«“„‘([")
_STOP = re.compile(r"""([.!?…]+)["'»”’)\]]*\s+(?=(?:[—–-]\s*)?(\S))""")
_LAST_WORD = re.compile(r"[\w.]+$")


def split_sentences(text: str, language: str) -> list[str]:
    """The sentences of a text, without the space around them: what ROUGE-Lsum, Lead-n and the extractive oracle count by.

    >>> split_sentences("В г. Туле А. С. Иванов купил дом за 5 млн руб. Он рад!", "ru")
    ['В г. Туле А. С. Иванов купил дом за 5 млн руб.', 'Он рад!']
    """
    return [text[start:stop] for start, stop in sentence_spans(text, language)]


def sentence_spans(text: str, language: str) -> list[tuple[int, int]]:
    """Where the sentences of a text are: (start, stop) in characters, in order, with only space between them."""
    choose("language", language, _TITLES)
    spans, offset = [], 0
    for line in text.splitlines(keepends=True):
        spans += [(offset + start, offset + stop) for start, stop in _spans_of_line(line, language)]
        offset += len(line)
    return spans


def _spans_of_line(line: str, language: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for stop in _STOP.finditer(line):
        if _ends_sentence(line[begin : stop.start()], stop.group(1), stop.group(2), language):
            yield from _stripped(line, begin, stop.end())
            begin = stop.end()
    yield from _stripped(line, begin, len(line))


def _stripped(line: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The span without the space around it; nothing where it is all space."""
    piece = line[start:stop]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _ends_sentence(before: str, stop: str, after: str, language: str) -> bool:
    """Whether `stop` between the sentence so far and the character that follows the space ends it."""
    if not (after.isupper() or after.isdigit() or after in _OPENING):
        return False
    last = _LAST_WORD.search(before)
    if stop != "." or last is None:
        return True
    word = last.group()
    if (len(word) == 1 and word.isupper()) or (word.isdigit() and word == before.strip()):
        return False  # an initial; the number of a list's item
    title, unit = word.lower() in _TITLES[language], word.lower() in _UNITS[language]
    if title and not before[: last.start()].rstrip()[-1:].isdigit():
        return False
    return not ((title or unit) and (after.isdigit() or after in "(["))
