"""What is heard of a recording that somebody brings: segments with their times, in a language, and what of them cannot be believed.

`models.recognize` says of one window how probable its text is. Here that becomes what people are told: which segments are left out
of the summary, and whether the recording is of the kind that the models know at all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from asum_lib.corpora.phrases import Phrase

IMPROBABLE, LOOP, UNLIKE = DOUBTS = ("improbable", "loop", "unlike the training speech")

UNLIKE_NOTE = "not look like the speech that these models know: no summary is made"
SURE_OF_LANGUAGE = 0.5  # a lower probability is said to be unsure
TALKS = ("howto-talks", "howto-talks-source")  # that the shipped summariser learned from
MOST_UNKNOWN_WORDS = 0.1  # of a phrase that a text model of few words can read
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Segment:
    """What was heard in one window, in seconds from the beginning of the recording.

    `doubt` says why it is left out of the summary, one of `DOUBTS`; None where it is believed. The figures beside it
    are those of `recognize.Heard`, None where nobody asked for them.
    """

    start_s: float
    end_s: float
    text: str
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech: float | None = None
    doubt: str | None = None
    phrases_s: tuple[tuple[float, float], ...] = ()  # start and end of each, where several share the window


@dataclass(frozen=True)
class Judged:
    """Segments of one recording, and lines for people on them; `usable` where they are something to make a summary of."""

    segments: tuple[Segment, ...]
    notes: tuple[str, ...]
    usable: bool


def listen(speech, batch: Sequence[Phrase], batch_size: int, bounds) -> list[Segment]:
    """The segments of phrases, doubted one by one; a phrase without a text has none."""
    from asum_lib.models import recognize

    heard = recognize.recognize(speech, [piece.samples for piece in batch], batch_size)
    return [
        Segment(
            round(piece.start_s, 3),
            round(piece.end_s, 3),
            one.text,
            round(one.avg_logprob, 3),
            round(one.compression_ratio, 2),
            None if one.no_speech is None else round(one.no_speech, 3),
            doubt_of(one, bounds),
            tuple((round(start_s, 3), round(end_s, 3)) for start_s, end_s in piece.joined_s),
        )
        for piece, one in zip(batch, heard, strict=True)
        if one.text
    ]


def doubt_of(heard, bounds) -> str | None:
    """Why the text of one window (`recognize.Heard`) is not believed; None where it is."""
    from asum_lib.models.recognize import MOST_COMPRESSION, MOST_NO_SPEECH

    if heard.compression_ratio > MOST_COMPRESSION:
        return LOOP
    silent = heard.no_speech is not None and heard.no_speech > MOST_NO_SPEECH
    return IMPROBABLE if heard.avg_logprob < (bounds.least_if_silent if silent else bounds.least) else None


def judge(segments: Sequence[Segment], bounds) -> Judged:
    """What of a whole recording is believed, and what is said of the rest.

    A model of few words finds one of its own sentences in any speech, and is often sure of it. It is the recording as a whole that
    tells: where most phrases are less sure than the model's own speech is, none can be used.
    """
    segments = list(segments)
    notes = []
    if unlike := _unlike(segments, bounds):
        segments = [replace(one, doubt=UNLIKE) if one in unlike else one for one in segments]
        notes.append(f"{_of(len(unlike), segments)} {UNLIKE_NOTE}")
        return Judged(tuple(segments), tuple(notes), usable=False)
    for doubt, why in (
        (IMPROBABLE, "its words are too improbable to have been said, as those of noise are"),
        (LOOP, "its words repeat themselves"),
    ):
        if count := sum(one.doubt == doubt for one in segments):
            notes.append(f"{count} of {_phrases(len(segments))} left out: {why if count == 1 else why.replace('its', 'their')}")
    return Judged(tuple(segments), tuple(notes), usable=any(one.doubt is None for one in segments))


def tell_language(speech, batch: Sequence[Phrase]) -> tuple[str, str]:
    """(code of the language that is spoken in the first phrases of a recording, a line that says so)."""
    from asum_lib.models.recognize import language_probabilities

    language, share = next(iter(language_probabilities(speech, [piece.samples for piece in batch]).items()))
    unsure = "" if share >= SURE_OF_LANGUAGE else ", which is unsure: --language says which it is"
    return language, f"language {language}, told from the sound with probability {share:.2f}{unsure}"


def told(speech, language: str):
    """The same model, told to write a language that it knows."""
    if speech.generate:
        speech.tokenizer.set_prefix_tokens(language=language, task="transcribe")
    return replace(speech, generate=speech.generate and speech.generate | {"language": language})


def partly_unknown_text(texts: Sequence[str], words: frozenset[str]) -> str | None:
    """That some of the texts have words which a text model of few `words` was never taught; None where none has."""
    strange = sum(_unknown(text, words) > MOST_UNKNOWN_WORDS for text in texts)
    if not strange:
        return None
    have = "has" if strange == 1 else "have"
    return f"{strange} of {_phrases(len(texts))} {have} words that the text model was never taught: facts of the summary may be invented"


def unknown_text(texts: Sequence[str], words: frozenset[str]) -> str | None:
    """Why texts are none that a text model of few `words` can summarise; None where most of them are."""
    strange = sum(_unknown(text, words) > MOST_UNKNOWN_WORDS for text in texts)
    if 2 * strange <= len(texts):
        return None
    return f"{strange} of {_phrases(len(texts))} cannot be read by the text model, which was never taught their words: no summary is made"


def taught_words() -> frozenset[str]:
    """The words of the generated talks, all that the shipped summariser has read."""
    from asum_lib.corpora import talks

    scripts = [script for name in TALKS for script in talks.scripts(name, "train")]
    return frozenset(word for script in scripts for take in script.takes for word in _WORD.findall(take.text.lower()))


def nothing_heard(segments: Sequence[Segment]) -> bool:
    """Whether there is no word in a recording that somebody may have said."""
    return all(segment.doubt in (IMPROBABLE, LOOP) for segment in segments)


def _unlike(segments: Sequence[Segment], bounds) -> list[Segment]:
    """The phrases that are less sure than the model's own speech, where they are most of the recording."""
    if bounds.usual is None:
        return []
    low = [one for one in segments if one.avg_logprob < bounds.usual]
    sole = len(segments) == 1 and low and low[0].doubt is None  # one phrase is too few to say more of it than its own doubt does
    return low if 2 * len(low) > len(segments) and not sole else []


def _unknown(text: str, words: frozenset[str]) -> float:
    found = _WORD.findall(text.lower())
    return sum(word not in words for word in found) / len(found) if found else 0.0


def _of(count: int, segments: Sequence[Segment]) -> str:
    return f"{count} of {_phrases(len(segments))} {'does' if count == 1 else 'do'}"


def _phrases(count: int) -> str:
    return f"{count} phrase{'' if count == 1 else 's'}"
