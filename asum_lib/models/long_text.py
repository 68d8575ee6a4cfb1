"""Texts longer than a model reads: cut into parts at sentence ends, each part summarised, the summaries joined.

`summarize` cuts what is too long away; a meeting of 5,000 words would be summarised by its first minutes. Here nothing is lost:
the parts, put together, are the text, and each of them fits the model. All parts of all texts share batches, so that time grows
with the number of parts and memory with their size, not with the length of a text.

    >>> (summary,) = summarize_long(loaded, [meeting], decoding)  # doctest: +SKIP
    >>> "".join(meeting[start:stop] for start, stop, _ in summary.parts) == meeting  # doctest: +SKIP
    True
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asum_lib.corpora.sentences import LANGUAGES, sentence_spans
from asum_lib.errors import InputError
from asum_lib.models.summarize import PREFIX, Decoding, Summarizer, encode, summarize

ROOM_TOKENS = 8  # of text that a part must have beside the prefix and the tokens that the tokenizer adds


@dataclass(frozen=True)
class LongSummary:
    """The summary of one text. `parts` are (start, stop, summary) of the first round, in characters of the text, which they tile."""

    text: str
    parts: tuple[tuple[int, int, str], ...]
    rounds: int  # that were needed, 1 or more


def summarize_long(
    loaded: Summarizer,
    texts: Sequence[str],
    decoding: Decoding,
    rounds: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> list[LongSummary]:
    """One summary a text, in order, however long the texts are; a text that fits the model gets what `summarize` gives.

    A longer one is cut by `cut` into parts of at most `decoding.max_source_tokens`, and the summaries of the parts are joined by spaces.
    Where `rounds` is more than 1 that join is a text to summarise in its turn, until it is one part or the rounds are used up. `progress`
    gets a line a batch. Raises `InputError` where `rounds` is less than 1 or the model reads too few tokens for a part.
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds {rounds!r} is not a whole number of 1 or more")
    limit = reads_tokens(loaded, decoding)
    current, found, done = list(texts), [()] * len(texts), [0] * len(texts)
    for number in range(1, rounds + 1):
        spans = {item: cut(loaded, current[item], limit) for item in range(len(texts)) if not done[item]}
        pieces = [current[item][start:stop] for item, own in spans.items() for start, stop in own]
        if not pieces:
            break
        said = f"of {len(pieces)} parts summarised{f', round {number}' if rounds > 1 else ''}"
        sources = encode(loaded.tokenizer, loaded.family, pieces, limit)
        written = iter(
            summarize(loaded.model, loaded.tokenizer, sources, loaded.language, decoding, lambda count, said=said: progress(f"{count} {said}"))
        )
        for item, own in spans.items():
            parts = tuple((start, stop, next(written)) for start, stop in own)
            found[item] = found[item] or parts
            current[item] = " ".join(summary for _, _, summary in parts if summary)
            if len(parts) == 1 or number == rounds:
                done[item] = number
    return [LongSummary(*one) for one in zip(current, found, done, strict=True)]


def reads_tokens(loaded: Summarizer, decoding: Decoding) -> int:
    """The most tokens of a part, prefix and special tokens included: the decoding's, or the model's positions where it has fewer."""
    limit = min(decoding.max_source_tokens, getattr(loaded.model.config, "max_position_embeddings", None) or decoding.max_source_tokens)
    least = _tokens(loaded, [""])[0] + ROOM_TOKENS
    if limit < least:
        raise InputError(f"max_source_tokens {limit}: a part needs at least {least}")
    return limit


def cut(loaded: Summarizer, text: str, limit: int) -> list[tuple[int, int]]:
    """(start, stop) of the parts of a text, in characters: together they are the text, and none is more than `limit` tokens.

    A part ends where a sentence or a paragraph does; a sentence that is too long is cut between words, and a word that is too long
    between letters. As few parts as that allows, and among those the longest part as short as can be: a text that is a little too
    long is halved, since a last part of three words would get a summary like any other.
    """
    if _tokens(loaded, [text])[0] <= limit:
        return [(0, len(text))]
    empty = _tokens(loaded, [""])[0]
    room = limit - empty
    while True:
        ends, sizes = zip(*_units(loaded, text, room, empty), strict=True)
        stops = [ends[last] for last in _evenly(sizes, room)]
        spans = list(zip([0, *stops[:-1]], stops, strict=True))
        excess = max(_tokens(loaded, [text[start:stop] for start, stop in spans])) - limit
        if excess <= 0 or room == 1:
            return spans
        room = max(1, room - excess)  # the pieces of a text were more than those of its sentences


def _evenly(sizes: Sequence[int], room: int) -> list[int]:
    """`_packed` with the smallest room that needs no more parts."""
    fewest, low, high = len(_packed(sizes, room)), max(sizes), room
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_packed(sizes, middle)) <= fewest else (middle + 1, high)
    return _packed(sizes, low)


def _packed(sizes: Sequence[int], room: int) -> list[int]:
    """The last unit of each part where units go into the part at hand as long as they fit."""
    lasts, used = [], 0
    for position, size in enumerate(sizes):
        if used and used + size > room:
            lasts.append(position - 1)
            used = 0
        used += size
    return [*lasts, len(sizes) - 1]


def _units(loaded: Summarizer, text: str, room: int, empty: int) -> Iterator[tuple[int, int]]:
    """(end, tokens) of the pieces that are not cut further, in order: from the end before to it they tile the text."""
    language = loaded.language if loaded.language in LANGUAGES else "en"  # whose rule holds for most that write a full stop
    sentences = sentence_spans(text, language)
    ends = [*(start for start, _ in sentences[1:]), len(text)]  # the space after a sentence is the sentence's
    for start, stop, size in _sized(loaded, text, 0, ends, empty):
        if size <= room:
            yield stop, size
            continue
        for first, last, width in _sized(loaded, text, start, _word_ends(text, start, stop), empty):
            if width <= room:
                yield last, width
            else:
                yield from _letters(loaded, text, first, last, room, empty)


def _letters(loaded: Summarizer, text: str, start: int, stop: int, room: int, empty: int) -> Iterator[tuple[int, int]]:
    """(end, tokens) of a word in halves until they fit."""
    (size,) = _tokens(loaded, [text[start:stop]])
    if size - empty <= room or stop - start == 1:
        yield stop, min(size - empty, room)
        return
    middle = (start + stop) // 2
    yield from _letters(loaded, text, start, middle, room, empty)
    yield from _letters(loaded, text, middle, stop, room, empty)


def _word_ends(text: str, start: int, stop: int) -> list[int]:
    """Where the words of text[start:stop] end, the space after each included."""
    return [position for position in range(start + 1, stop) if text[position - 1].isspace() and not text[position].isspace()] + [stop]


def _sized(loaded: Summarizer, text: str, start: int, ends: Sequence[int], empty: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, tokens) of consecutive pieces."""
    starts = [start, *ends[:-1]]
    sizes = _tokens(loaded, [text[first:last] for first, last in zip(starts, ends, strict=True)])
    for first, last, size in zip(starts, ends, sizes, strict=True):
        yield first, last, size - empty


def _tokens(loaded: Summarizer, texts: Sequence[str]) -> list[int]:
    """How many tokens the model would read of each text, prefix and special tokens included."""
    plain = [(PREFIX[loaded.family] + " ".join(text.split())).strip() for text in texts]
    return [len(ids) for ids in loaded.tokenizer(plain, verbose=False).input_ids]
