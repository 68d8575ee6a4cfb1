"""A text as a recording: one voice, a pause after each sentence, a room, as the generated talks are recorded. `asum say`.

Words are spoken as the generated corpora hold them, in lower case and without punctuation, so that what is said can be compared with
what is heard. The same text, voice, rate and noise give the same samples.
"""

import hashlib
import io
import re
from pathlib import Path

import numpy as np

from asum_lib import files
from asum_lib.corpora.howto import Take
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.corpora.talks import EDGE_S, PAUSE_S, Script, speak
from asum_lib.errors import InputError

VOICE, RATE_WPM, SNR_DB = "en-us", 175, 25.0
SLOWEST_WPM, FASTEST_WPM = 80, 450  # that eSpeak NG speaks
LEAST_SNR_DB, MOST_SNR_DB = -20.0, 100.0
FORMATS = (".wav", ".flac")


def sentences(text: str) -> list[str]:
    """What is said between two stops (`.`, `!`, `?` or a line's end), words alone.

    >>> sentences("Hello, I am Victor. Don't move!")
    ['hello i am victor', "don't move"]
    """
    parts = re.split(r"[.!?…]+(?=\s|$)|\n", text)
    words = (re.findall(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*", part.lower()) for part in parts)
    return [" ".join(found) for found in words if found]


def say(text: str, voice: str = VOICE, rate_wpm: int = RATE_WPM, snr_db: float = SNR_DB) -> np.ndarray:
    """The text spoken: 16 kHz float32, shape (n,). Raises `InputError` for a voice that eSpeak NG does not have, and for no words."""
    if not SLOWEST_WPM <= rate_wpm <= FASTEST_WPM:
        raise InputError(f"rate {rate_wpm}: from {SLOWEST_WPM} to {FASTEST_WPM} words a minute can be spoken")
    if not LEAST_SNR_DB <= snr_db <= MOST_SNR_DB:
        raise InputError(f"snr-db {snr_db:g}: a signal-to-noise ratio from {LEAST_SNR_DB:g} to {MOST_SNR_DB:g} dB is needed")
    _, _, variant = voice.partition("+")
    if variant and variant not in variants():  # eSpeak NG would speak without it and say nothing
        raise InputError(f"voice {voice!r}: eSpeak NG has no variant {variant!r}; its variants are such as f1 to f5 and m1 to m8")
    found = sentences(text)
    if not found:
        raise InputError(f"text {text[:40]!r}: no words to say")
    digest = hashlib.sha256("\n".join(found).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    takes = tuple(Take(f"{number}", sentence, voice, rate_wpm, 50, snr_db, 0.0, 0) for number, sentence in enumerate(found))
    pauses_s = (*rng.uniform(*EDGE_S, 1), *rng.uniform(*PAUSE_S, len(found) - 1), *rng.uniform(*EDGE_S, 1))
    script = Script("said", takes, (1.0,) * len(takes), tuple(map(float, pauses_s)), snr_db, 0.0, int(rng.integers(2**32)), "", ())
    try:
        return speak(script)
    except ValueError as error:
        raise InputError(f"{error}: names are such as en-us, en-us+f2, en-gb-x-rp, en-gb-scotland+m7 or ru") from None


def variants() -> list[str]:
    """The names that may follow a voice after `+`, such as `f2`."""
    import espeakng_loader

    return sorted(path.name for path in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir())


def write(path: Path, samples: np.ndarray, replace: bool = False) -> None:
    """Write a 16-bit WAV or FLAC file, by the name's suffix, whole or not at all.

    Raises `InputError` where it cannot be written, and where one is there unless it is to be replaced.
    """
    import soundfile

    check_output(path, replace)
    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format=path.suffix[1:].upper())
    try:
        files.write_whole(path, content.getvalue(), replace)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from None


def check_output(path: Path, replace: bool = False) -> None:
    """`InputError` for a name that `write` would refuse, before anything is spoken."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"output {str(path)!r}: its name should end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"output {str(path)!r}: no folder {path.parent}")
    files.refuse_taken([path], replace)
