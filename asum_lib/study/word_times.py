"""When each word of a generated utterance is spoken, as eSpeak NG itself reports it while it speaks. Nothing is guessed or aligned.

The corpus is spoken by `corpora.speech`, which has no need of the times. Here a take is spoken once more with a callback
that also reads the library's events. This only serves to show; it moves no measured number, and so it lies on this floor.
"""

import ctypes
import re
from dataclasses import dataclass

import numpy as np

from asum_lib.corpora import speech
from asum_lib.corpora.howto import Take
from asum_lib.errors import InputError

_LIST_TERMINATED, _WORD = 0, 1  # espeak_EVENT_TYPE


class _Event(ctypes.Structure):
    """espeak_EVENT of `speak_lib.h`; `sample` counts from the start of the utterance, at the library's own rate."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # of the word's first character, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("identifier", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class SpokenWord:
    """A word, or a few that eSpeak NG speaks as one (`in the`); times in seconds from the start of the utterance's audio."""

    text: str
    start_s: float
    end_s: float  # where the next one starts: a pause between two words belongs to the first


def spoken_words(take: Take) -> list[SpokenWord]:
    """The words of a take in order, without a gap, from 0 to the end of its audio; together they are its text.

    Raises `InputError` where the library reports a word at a place where the text has none.
    """
    samples, events, rate_hz = _speak(take)
    first = len(samples) + 1 - len(speech.trim(np.append(samples, 1.0)))  # a loud last sample: only the start is cut
    length = len(speech.trim(samples))
    words = {match.start(): match.group() for match in re.finditer(r"\S+", take.text)}
    starts = {position: max(0, sample - first) for position, sample in events}
    if not starts or not set(starts) <= set(words) or min(starts) != min(words):
        raise InputError(f"{take.id}: eSpeak NG reports words at {sorted(starts)}, but the text has them at {sorted(words)}")
    groups: list[tuple[float, list[str]]] = []
    for position, word in words.items():
        if position in starts:
            groups.append((starts[position] / rate_hz, [word]))
        else:
            groups[-1][1].append(word)
    ends = [start for start, _ in groups[1:]] + [length / rate_hz]
    return [SpokenWord(" ".join(text), start, end) for (start, text), end in zip(groups, ends, strict=True)]


def _speak(take: Take) -> tuple[np.ndarray, list[tuple[int, int]], int]:
    """(samples before trimming, (index in the text, sample) of each word, rate in Hz); the steps are those of `speech.synthesize`."""
    chunks: list[np.ndarray] = []
    events: list[tuple[int, int]] = []

    @_CALLBACK
    def collect(samples, count, event):
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while event and event[index].type != _LIST_TERMINATED:
            if event[index].type == _WORD:
                events.append((event[index].text_position - 1, event[index].sample))
            index += 1
        return 0

    library, rate_hz = speech._espeak()
    library.espeak_SetSynthCallback(collect)
    library.espeak_SetVoiceByName(take.voice.encode())
    library.espeak_SetParameter(speech._RATE, take.rate_wpm, 0)
    library.espeak_SetParameter(speech._PITCH, take.pitch, 0)
    data = take.text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, speech._UTF8, None, None)
    library.espeak_SetSynthCallback(speech._collect)  # `collect` is gone when this returns
    return np.concatenate(chunks).astype(np.float32) / 32768, events, rate_hz
