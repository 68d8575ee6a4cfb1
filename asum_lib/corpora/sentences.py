"""Where a sentence of a text ends, by a rule for English and Russian that needs no data and downloads none.

A line's end always ends a sentence. In a text with capitals (`asum-1`) it ends at `.`, `!`, `?` or an ellipsis, closing quotes
and brackets included, before a space (and a dash) and a capital, digit, opening quote or bracket; not after an initial, a list's
number or an abbreviation that goes before a name, nor between an abbreviation that goes with a number and a digit.

A text whose sentences begin with small letters, such as a transcript, says less (`asum-2`): there a small letter may follow as
well, and the stop may be a word by itself, as in tokenised text ("mix it . bake it ."). In return it ends neither after an
ellipsis nor after any abbreviation, unless that is a word too ("no."), nor between the digits of a spaced number ("1 . 5").
Which of the two a text is, its own sentence starts say: one capital among them and it is a text with capitals.

Both rules err in both directions where an abbreviation ends a sentence.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from asum_lib.errors import choose

WITH_CAPITALS, LOWER_CASE = "asum-1", "asum-2"  # name the rule: another number when it changes

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
# Abbreviations that are words too, and the one-letter words: in lower case they end a sentence.
_WORDS = {"en": frozenset("no fig figs i".split()), "ru": frozenset("час рис я".split())}
LANGUAGES = tuple(_TITLES)
_OPENING = frozenset("\"'«“„‘([")
_STOP = re.compile(r"""([.!?…]+)["'»”’)\]]*\s+(?=(?:[—–-]\s*)?(\S))""")
_LAST_WORD = re.compile(r"[\w.]+$")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # u.s, т.е
_LONGEST = 40  # letters before a stop in which its last word is looked for


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
    ends = _ends_in_lower_case if is_lower_case(text, language) else _ends_with_capitals
    for line in text.splitlines(keepends=True):
        spans += [(offset + start, offset + stop) for start, stop in _spans_of_line(line, language, ends)]
        offset += len(line)
    return spans


def is_lower_case(text: str, language: str) -> bool:
    """Whether a text has sentence starts and none of them is a capital: its first letter, and those after its stops."""
    first = next(filter(str.isalnum, text), "")
    if first.isupper():
        return False
    starts = [first, *(stop.group(2) for stop in _STOP.finditer(text) if not _abbreviated(_before(text, stop), language))]
    return any(start.islower() for start in starts) and not any(start.isupper() for start in starts)


def rule_of(texts: Iterable[str], language: str) -> str:
    """The rule by which most of the texts are cut: `asum-1` or `asum-2`, with the language."""
    lower = [is_lower_case(text, language) for text in texts]
    return f"{LOWER_CASE if 2 * sum(lower) > len(lower) else WITH_CAPITALS}.{language}"


def _spans_of_line(line: str, language: str, ends: Callable) -> Iterator[tuple[int, int]]:
    begin = 0
    for stop in _STOP.finditer(line):
        if ends(line[begin : stop.start()], stop.group(1), stop.group(2), language):
            yield from _stripped(line, begin, stop.end())
            begin = stop.end()
    yield from _stripped(line, begin, len(line))


def _stripped(line: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The span without the space around it; nothing where it is all space."""
    piece = line[start:stop]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _before(line: str, stop: re.Match) -> str:
    """The last letters before a stop that can be a word of theirs."""
    return line[max(0, stop.start() - _LONGEST) : stop.start()]


def _abbreviated(before: str, language: str) -> bool:
    """Whether the word before a stop is an initial or an abbreviation; in lower case, so that "no." is a word."""
    last = _LAST_WORD.search(before[-_LONGEST:].rstrip())
    word = last.group().lower() if last else ""
    if word in _WORDS[language]:
        return False
    short = len(word) == 1 and word.isalpha()
    return short or word in _TITLES[language] or word in _UNITS[language] or bool(_DOTTED.fullmatch(word))


def _ends_in_lower_case(before: str, stop: str, after: str, language: str) -> bool:
    """As `_ends_with_capitals`, where no capital tells."""
    if not (after.isalnum() or after in _OPENING):
        return False
    if set(stop) & set("!?"):
        return True
    if stop != ".":
        return False  # an ellipsis
    if before.rstrip().isdigit() or (before[-1:].isspace() and before.rstrip()[-1:].isdigit() and after.isdigit()):
        return False  # the number of a list's item; a spaced number
    last = before.rstrip()[-_LONGEST:].split()[-1:]
    if after.isdigit() and last and last[0].strip("(\"'").lower() in _WORDS[language] & _UNITS[language]:
        return False  # no. 5, fig. 3
    return not _abbreviated(before, language)


def _ends_with_capitals(before: str, stop: str, after: str, language: str) -> bool:
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
