"""Recordings that people name: which files are meant, and what a system makes of them as text, JSON or subtitles. `asum summarize`."""

import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from asum_lib.corpora import ffmpeg
from asum_lib.corpora.audio import AudioError, is_audio, usable
from asum_lib.corpora.containers import parts
from asum_lib.errors import InputError
from asum_lib.files import refuse_taken, write_whole
from asum_lib.listening import UNLIKE_NOTE, nothing_heard
from asum_lib.paths import readable
from asum_lib.subtitles import as_srt, as_vtt, clock
from asum_lib.systems import Answer, System

SUBTITLES = {"srt": as_srt, "vtt": as_vtt}
FORMATS = ("text", "json", *SUBTITLES)
SUFFIX = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
NOTHING = "nothing was heard"
# Files in a folder with these names are audio, and reported if they cannot be read; others are if they begin like audio.
AUDIO = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64", *ffmpeg.SUFFIXES)
_BEGINNING_BYTES = 1 << 24  # of a stream: enough to tell its kind, past a cover picture too
KINDS_SHOWN = 5
_ADDRESS = re.compile(r"\w+://")
_PLURAL = ("folder",)
SAID_EVERY_S = 5.0  # of progress within a file, and only from so much on


@dataclass(frozen=True)
class Outcome:
    """A file and its answer, or why there is none."""

    audio: str
    answer: Answer | None
    error: str | None

    def as_dict(self) -> dict:
        empty = dict.fromkeys(field.name for field in fields(Answer) if field.name != "audio")
        return (self.answer.as_dict() if self.answer else {"audio": self.audio} | empty) | {"error": self.error}


@dataclass(frozen=True)
class Found:
    """The audio files that were named, and how many files and folders beside them were left out."""

    files: list[Path]
    left_out: int


def find(
    paths: Sequence[str],
    say: Callable[[str], None] = lambda line: None,
    out: str | None = None,
) -> Found:
    """The audio files that `paths` name: files as they are, of folders what is audio in them, by name; what is left out is said.

    The folder that the answers go to, `out`, is not counted.
    Raises `InputError` for what is not there, for a file that is no audio and for a folder without any.
    """
    found: list[Path] = []
    left_out = 0
    for path in paths:
        if _ADDRESS.match(os.fspath(path)):
            raise InputError(f"{path}: is an address, and nothing is downloaded: save the recording, then name the file")
        path = Path(path)
        if path.is_dir():
            here = sorted(inner for inner in path.iterdir() if not inner.name.startswith("."))
            audio = [inner for inner in here if _is_audio(inner)]
            own = {*audio, *(inner for inner in here if out and os.path.exists(out) and inner.samefile(out))}
            others = [inner for inner in here if inner not in own]
            if not audio:
                raise InputError(f"folder {readable(path)}: no audio file in it{_kinds(others, ', but ')}")
            if others:
                say(f"{readable(path)}: {len(others)} left out, no audio that can be read{_kinds(others, ': ')}")
            found += audio
            left_out += len(others)
        elif fault := usable(path):
            raise InputError(f"{readable(path)}: {fault.replace('audio file', 'audio file or folder', 1) if not path.exists() else fault}")
        elif not _is_audio(path):
            raise InputError(f"{readable(path)}: is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed")
        else:
            found.append(path)
    return Found(list(dict.fromkeys(found)), left_out)


def _kinds(left_out: Sequence[Path], before: str) -> str:
    """How many there are of each kind, e.g. `: 2 .txt, 1 folder`."""
    kinds = Counter(_kind(path) for path in left_out)
    shown = ", ".join(f"{count} {kind}{'s' * (count > 1 and kind in _PLURAL)}" for kind, count in kinds.most_common(KINDS_SHOWN))
    more = f", {len(kinds) - KINDS_SHOWN} more kinds" if len(kinds) > KINDS_SHOWN else ""
    return f"{before}{shown}{more}" if kinds else ""


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if not path.is_file():
        return "pipe or device" if path.exists() else "broken link"
    return readable(path.suffix.lower()) or "without a suffix"


def from_stdin(stack) -> Path:
    """A temporary file with what comes on standard input, removed when the `ExitStack` closes.

    Its beginning must be of audio: a stream of anything else could fill the disk. Raises `InputError`.
    """
    import shutil
    import sys
    import tempfile

    path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asum-"))) / "stdin.wav"
    with path.open("wb") as file:
        file.write(sys.stdin.buffer.read(_BEGINNING_BYTES))
        file.flush()
        if not is_audio(path):
            raise InputError(f"standard input: {usable(path) or 'is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed'}")
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def summarize(
    system: System,
    files: Sequence[Path],
    form: str,
    folder: Path | None,
    say: Callable[[str], None],
    replace: bool = False,
) -> bool:
    """Print the answers in a format, or write a file each into `folder` and print its path; whether there was one for every file.

    Text and files come as soon as they are there. JSON is one list, so it comes at the end, which an interrupt makes an
    early one. A file that is in `folder` already stays, unless it is to be replaced.
    """
    outcomes: list[Outcome] = []
    for note in system.notes:
        say(note)
    places = outputs(files, folder, form) if folder else [None] * len(files)
    try:
        for place, outcome in zip(places, answers(system, files, say), strict=False):
            outcomes.append(outcome)
            for note in outcome.answer.notes if outcome.answer else ():
                if note not in system.notes:  # which are said already
                    say(note)
            if outcome.error:
                say(f"asum: {outcome.error}")
            elif _silent(outcome.answer):
                say(f"{outcome.audio}: {NOTHING}")
            if place and outcome.answer:
                text = as_json([outcome]) if form == "json" else _one(outcome.answer, form)
                write_whole(place, text.encode(), replace)
                print(readable(place), flush=True)
            elif not folder and form != "json" and outcome.answer:
                print(_one(outcome.answer, form), end="\n" if form == "text" and len(files) > 1 else "", flush=True)
    finally:
        if not folder and form == "json":
            print(as_json(outcomes), end="", flush=True)
    return not any(outcome.error for outcome in outcomes)


def _one(answer: Answer, form: str) -> str:
    return SUBTITLES[form](answer.segments) if form in SUBTITLES else as_text(answer)


def _silent(answer: Answer) -> bool:
    """Whether there was no speech at all, which is another thing than speech of another kind."""
    return not answer.summary and nothing_heard(answer.segments) and not any(UNLIKE_NOTE in note for note in answer.notes)


def answers(system: System, files: Sequence[Path], say: Callable[[str], None] = lambda line: None) -> Iterator[Outcome]:
    """The outcome of each file, in order, as soon as it is there. Audio that cannot be used is an outcome too, and the rest goes on."""
    for number, path in enumerate(files, 1):
        told = _Progress(path, f" ({number} of {len(files)})" if len(files) > 1 else "", say)
        try:
            yield Outcome(readable(path), system(path, told), None)
        except AudioError as error:
            yield Outcome(readable(path), None, str(error))


def as_text(answer: Answer) -> str:
    """Transcript with times, and the summary, for people; what is not believed is marked."""
    lines = [f"{answer.audio} ({clock(answer.audio_s)[:-4]})"]
    for segment in answer.segments:
        doubt = f"({segment.doubt}) " if segment.doubt else ""
        lines.append(f"  [{clock(segment.start_s)[:-2]} - {clock(segment.end_s)[:-2]}] {doubt}{segment.text}")
    why = NOTHING if _silent(answer) or not answer.notes else answer.notes[-1].removeprefix(f"{answer.audio}: ")
    lines.append(f"Summary: {answer.summary}" if answer.summary else f"Summary: none, {why}")
    return "\n".join(lines) + "\n"


def as_json(outcomes: Sequence[Outcome]) -> str:
    import json

    return json.dumps([outcome.as_dict() for outcome in outcomes], indent=2, ensure_ascii=False) + "\n"


def outputs(files: Sequence[Path], folder: Path, form: str) -> list[Path]:
    """Where the answers go: the name of each recording with the format's suffix.

    Two of one name keep their own suffix too, or get a number; names that differ in case alone are one name, as on
    some file systems.
    """
    stems = [path.stem.casefold() for path in files]
    names = [path.stem if stems.count(path.stem.casefold()) == 1 else path.name for path in files]
    taken: set[str] = set()
    found = []
    for name in names:
        numbered = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
        free = next(one for one in numbered if one.casefold() not in taken)
        taken.add(free.casefold())
        found.append(folder / f"{free}{SUFFIX[form]}")
    return found


def check_outputs(files: Sequence[Path], folder: Path, form: str, replace: bool = False) -> None:
    """`InputError` where an answer would go over a file, before anything is transcribed; a recording is never replaced."""
    places = outputs(files, folder, form)
    refuse_taken(places, replace)
    recordings = {path.resolve() for path in files}
    for place in places:
        if place.resolve() in recordings:
            raise InputError(f"{place} is one of the recordings: name another folder with --out")


def _is_audio(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() in AUDIO or is_audio(path))


class _Progress:
    """Says how far a long file is, now and then."""

    def __init__(self, path: Path, place: str, say: Callable[[str], None]):
        self.path, self.place, self.say = path, place, say
        self.began_s = self.said_s = time.monotonic()

    def __call__(self, done_s: float) -> None:
        now = time.monotonic()
        if now - self.said_s < SAID_EVERY_S:
            return
        self.said_s = now
        self.say(
            f"{readable(self.path)}{self.place}: {done_s / 60:.1f} min{_length(self.path)} heard, {done_s / (now - self.began_s):.0f} times real time"
        )


@lru_cache(maxsize=1)
def _length(path: Path) -> str:
    """` of 12.3` minutes, by the frames of an MP3 and the header of another file, which may err; nothing where it says none."""
    import soundfile

    try:
        counted_s = sum(part.least_s for part in parts(path))
        return f" of {(counted_s or soundfile.info(os.fsencode(path)).duration) / 60:.1f}"
    except (OSError, TypeError, ValueError, soundfile.SoundFileError):
        return ""
