"""Manifests: a folder with `manifest.jsonl` and audio files, which is what every corpus becomes in the end.

A line is an object with `id`, `audio` (path beside the manifest), `text`, and optionally `split`, `duration_s`,
`normalized_text`, and `speaker` or `speaker_id`, over which intervals are taken where five or more are named; other
fields are for others, but for `offset`, `start` and the like, which ask for a part of a file and are refused. The text
of an utterance is `text`, or `normalized_text` where that is empty or absent. Where both are empty, in test and dev the
reference has no words (each word heard is an insertion), which is said in a progress line; in train it is a fault, since
a model would learn to hear nothing.

All faults are found before anything long starts, and listed at once: of every line its fields and that its file is there,
of the split that is asked for also the audio, by decoding all of it. The outcome of the decoding is kept under the cache
folder by the corpus's fingerprint, so it is done once.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib.corpora.audio import AudioError, duration_s
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError
from asum_lib.files import write_whole
from asum_lib.paths import cache, readable

SPLITS = ("train", "dev", "test")
WHAT = "a JSON-lines file with id, audio and text on each line"
FAULTS_SHOWN = 20
NOTES_SHOWN = 5
CONTENT = "content.sha256"  # of a cached corpus: what it was when it was written
BEGINNINGS = ("offset", "offset_s", "start", "start_s", "start_time", "begin")  # of a part of a file, as other tools name it
_DURATION_TOLERANCE_S = 0.1
_LONGEST_ID = 200  # characters
LONGEST_LINE_BYTES = 1_000_000  # an hour of speech is some 60,000 letters
LARGEST_BYTES = 500_000_000
_LARGEST_NUMBER = 10**18  # beyond it no id and no duration
_LEFT_S = 86_400  # no corpus takes a day to make
_DECODED = 2  # raise it when the checks of `audio` find more: every corpus is decoded anew


@dataclass(frozen=True)
class Utterance:
    id: str
    audio: Path
    text: str
    duration_s: float
    speaker: str | None = None


@dataclass(frozen=True)
class Corpus:
    """A split of a corpus; `fingerprint` is the SHA-256 of what it was made from (or of the files' bytes)."""

    name: str
    split: str
    fingerprint: str
    utterances: tuple[Utterance, ...]
    from_first_sound: bool = False  # whether models hear each utterance without the quiet before it

    @property
    def audio_s(self) -> float:
        return sum(utterance.duration_s for utterance in self.utterances)

    @property
    def texts(self) -> list[str]:
        return [utterance.text for utterance in self.utterances]


@dataclass(frozen=True)
class _Line:
    """A line without faults in its fields. `shown` is the path as it is written, `stated_s` the manifest's own duration."""

    number: int
    id: str
    audio: Path
    shown: str
    text: str
    normalized: bool  # the text is `normalized_text`
    split: str
    stated_s: float | None
    speaker: str | None = None


def read_manifest(path: Path, split: str, progress: Callable[[str], None] = lambda line: None, name: str | None = None) -> Corpus:
    """A split of the manifest at `path`; lines without `split` are test. Its name is the folder's where none is given.

    The fingerprint is the SHA-256 over each utterance's id, text, and the SHA-256 of its file. Raises `InputError` with
    every fault of the manifest and its audio (the first 20 spelt out), or saying that no utterance has the split.
    """
    path = Path(path)
    root = path.parent.resolve()
    name = name or path.parent.name or root.name
    lines, faults = read_lines(path, WHAT, lambda number, raw: _line(number, raw, root))
    wanted = [line for line in lines if line.split == split]
    notes: list[str] = []
    fingerprint, durations_s = check_files(f"{name} {split}", wanted, faults, progress, seconds=lambda line: duration_s(line.audio, notes.append))
    for note in sorted(notes)[:NOTES_SHOWN]:
        progress(note)
    if len(notes) > NOTES_SHOWN:
        progress(f"{name} {split}: {len(notes) - NOTES_SHOWN} more files with notes like these")
    refuse(path, [f"line {number}: {fault}" for number, fault in sorted(faults)])
    if not wanted:
        raise InputError(f"{path}: no utterance has split {split!r}")
    if not any(line.text.strip() for line in wanted):
        raise InputError(f"{path}: the text of all {len(wanted)} utterances of {split} is empty: transcripts are needed to score against")
    if normalized := sum(line.normalized for line in wanted):
        progress(f"{name} {split}: {normalized} of {len(wanted)} utterances have no text: their normalized_text is used")
    if empty := sum(not line.text.strip() for line in wanted):
        progress(f"{name} {split}: {empty} of {len(wanted)} utterances have an empty text: each word heard there is an insertion")
    if mute := sum(bool(line.text.strip()) and not any(letter.isalnum() for letter in line.text) for line in wanted):
        progress(f"{name} {split}: {mute} of {len(wanted)} utterances have a text without a letter or digit, such as '...': nothing can match it")
    utterances = (Utterance(line.id, line.audio, line.text, found_s, line.speaker) for line, found_s in zip(wanted, durations_s, strict=True))
    return Corpus(name, split, fingerprint, tuple(utterances))


def check_files(
    what: str,
    wanted: list,
    faults: list[tuple[int, str]],
    progress: Callable[[str], None] = lambda line: None,
    content: Callable = lambda line: _content(line),
    seconds: Callable = lambda line: duration_s(line.audio),
) -> tuple[str, list[float | None]]:
    """(fingerprint, seconds of each line) of lines with `number`, `id`, `text`, `shown` and `stated_s`; what is wrong is added to `faults`.

    The fingerprint is over each line's id, text and `content`, the bytes of a hash. `seconds` reads the file; where all of that was done
    before, what it found is recalled. Both raise `AudioError` for a file that cannot be used.
    """

    def check(done: str, work: Callable) -> list:
        """The results of `work` on each line, None for a line whose fault went to `faults`."""
        results = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for number, (line, (result, fault)) in enumerate(zip(wanted, pool.map(lambda line: _tried(work, line), wanted), strict=True), start=1):
                if fault:
                    faults.append((line.number, f"{short(line.shown)} {fault}"))
                results.append(result)
                if number % 500 == 0:
                    progress(f"{what}: {number} of {len(wanted)} files {done}")
        return results

    digest = hashlib.sha256()
    for line, found in zip(wanted, check("read", content), strict=True):
        digest.update(f"{line.id}\0{line.text}\0".encode() + (found or b""))
    durations_s = None if faults else _recall(digest.hexdigest(), len(wanted))
    if durations_s is None:
        broken = {number for number, _ in faults}
        wanted = [line for line in wanted if line.number not in broken]
        durations_s = check("decoded", seconds)
        if not faults:
            remember(digest.hexdigest(), durations_s)
    for line, found_s in zip(wanted, durations_s, strict=True):
        if None not in (line.stated_s, found_s) and abs(line.stated_s - found_s) > _DURATION_TOLERANCE_S:
            fault = f"holds {found_s:.2f} s of audio, but duration_s is {line.stated_s:g}: copy the file anew, or correct duration_s"
            faults.append((line.number, f"{short(line.shown)} {fault}"))
    return digest.hexdigest(), durations_s


def refuse(what: object, faults: list[str]) -> None:
    """Raise an `InputError` in one line that counts the faults and lists the first 20; nothing where there are none."""
    if faults:
        more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise InputError(f"{what}: {len(faults)} fault{'s' * (len(faults) > 1)}: " + "; ".join(faults[:FAULTS_SHOWN]) + more)


def materialize(
    folder: Path, name: str, split: str, fingerprint: str, takes: Iterable[tuple[str, str, np.ndarray]], progress=lambda line: None
) -> Corpus:
    """Write `(id, text, samples)` takes as a manifest folder, whole or not at all, and read it back; a no-op where it exists.

    A folder whose content is not what was written (a line, a byte of audio, a file that is gone) is made anew.
    """
    import soundfile

    utterances = made(folder)
    if utterances is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left(folder)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            work = Path(temporary) / folder.name
            (work / "audio").mkdir(parents=True)
            lines = []
            for number, (identity, text, samples) in enumerate(takes, start=1):
                soundfile.write(work / "audio" / f"{identity}.flac", samples, SAMPLE_RATE_HZ, subtype="PCM_16")
                lines.append({"id": identity, "audio": f"audio/{identity}.flac", "text": text, "duration_s": len(samples) / SAMPLE_RATE_HZ})
                if number % 500 == 0:
                    progress(f"{name} {split}: {number} utterances made")
            if folder.exists() and made(folder) is None:
                progress(f"{name} {split}: {folder} is not as it was written and is made anew")
                shutil.rmtree(folder)
            publish(work, folder, lines)
        utterances = made(folder)
        if utterances is None:
            raise InputError(f"{name} {split}: {folder} is not as it was written, again: remove it, and see to its disk")
    return Corpus(name, split, fingerprint, utterances)


def made(folder: Path) -> tuple[Utterance, ...] | None:
    """The utterances of a folder that `materialize` made; None where there is none, or its content is not what was written."""
    try:
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        utterances = tuple(Utterance(entry["id"], folder / entry["audio"], entry["text"], entry["duration_s"]) for entry in entries)
        if not utterances or any(not utterance.audio.stat().st_size for utterance in utterances):
            return None
        written = (folder / CONTENT).read_text(encoding="utf-8").strip()
        files = (folder / "manifest.jsonl", *(utterance.audio for utterance in utterances))
        return utterances if written == _content_sha256(_states(files)) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _states(files: Iterable[Path]) -> tuple[tuple, ...]:
    """(file, size, time, inode) of each: while they stay, its bytes are not read again."""
    return tuple((path, state.st_size, state.st_mtime_ns, state.st_ino) for path in files for state in [path.stat()])


@lru_cache(maxsize=64)
def _content_sha256(states: tuple[tuple, ...]) -> str:
    """SHA-256 over the bytes of the files."""
    digest = hashlib.sha256()
    for path, *_ in states:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def remove_left(folder: Path) -> None:
    """Remove the temporary folders that killed runs left beside `folder` while they made it, once they are a day old."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - left.stat().st_mtime > _LEFT_S:
            shutil.rmtree(left, ignore_errors=True)


def publish(work: Path, folder: Path, lines: list[dict], content: str | None = None) -> None:
    """Write the manifest into `work`, a finished folder of audio, and make it `folder`.

    Beside it is noted what the content is: `content`, or the digest that `made` asks for. Where another process was
    first, its folder stays.
    """
    (work / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    files = (work / "manifest.jsonl", *(work / line["audio"] for line in lines))
    (work / CONTENT).write_text(f"{content or _content_sha256(_states(files))}\n", encoding="utf-8")
    try:
        os.rename(work, folder)
    except OSError:
        if not (folder / "manifest.jsonl").is_file():
            raise


def remember(fingerprint: str, durations_s: list[float]) -> None:
    """Keep that all audio of a corpus was decoded and has no fault, and its durations. A cache that cannot be written is no fault."""
    path = _remembered(fingerprint)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(durations_s).encode())


def _recall(fingerprint: str, count: int) -> list[float] | None:
    try:
        durations_s = json.loads(_remembered(fingerprint).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(durations_s, list) and len(durations_s) == count and all(isinstance(value, float) for value in durations_s)
    return durations_s if whole else None


def _remembered(fingerprint: str) -> Path:
    return cache() / "decoded" / f"{fingerprint}-{_DECODED}.json"


def _tried(work: Callable, line: _Line) -> tuple:
    """The result and no fault, or None and the fault."""
    try:
        return work(line), None
    except AudioError as error:
        return None, error.reason


def _content(line: _Line) -> bytes:
    """The SHA-256 of the audio file's bytes."""
    try:
        with line.audio.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise AudioError(line.audio, f"cannot be read ({error.strerror})") from None


def read_lines(path: Path, what: str, read: Callable) -> tuple[list, list[tuple[int, str]]]:
    """The lines without faults, and the faults as (line number, what is wrong).

    `read(number, raw)` gives the id if there is one, the line if it has no faults, and its faults. `what` says what the file should be.
    """
    lines, faults, seen = [], [], {}
    for number, raw in enumerate(lines_of(path, what), start=1):
        if len(raw) > LONGEST_LINE_BYTES:
            faults.append((number, f"has {len(raw) / 1e6:.1f} MB in one line: at most {LONGEST_LINE_BYTES / 1e6:g} MB are read"))
            continue
        if not raw.strip():
            continue
        identity, line, found = read(number, raw)
        if identity in seen:
            found.append(f"id {identity!r} is that of line {seen[identity]} too: ids must differ")
        elif identity is not None:
            seen[identity] = number
        if found:
            faults.append((number, ", ".join(found)))
        else:
            lines.append(line)
    if not lines and not faults:
        raise InputError(f"manifest is empty: {path} ({what} is needed)")
    return lines, faults


def lines_of(path: Path, what: str) -> list[bytes]:
    """The lines of a manifest, as bytes. Raises `InputError` for what is no text file, or too large for one."""
    name = readable(path)
    if path.is_dir():
        raise InputError(f"manifest is a folder: {name} ({what} is needed)")
    if not path.exists():
        raise InputError(f"manifest not found: {name} ({what})")
    if not path.is_file():
        raise InputError(f"manifest is no regular file: {name} ({what} is needed)")
    try:
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise InputError(f"manifest has {size / 1e9:.1f} GB: {name} (at most {LARGEST_BYTES / 1e9:g} GB of {what} are read)")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"manifest cannot be read: {name} ({error.strerror})") from None
    if b"\0" in data[:4096]:
        raise InputError(f"manifest is no text file: {name} ({what}, in UTF-8, is needed)")
    return data.removeprefix(b"\xef\xbb\xbf").split(b"\n")  # not splitlines: U+2028 may stand in a text


def entry_of(raw: bytes, keys: str) -> tuple[dict | None, str | None, list[str]]:
    """(object, id, faults) of a line; the object is None where there is none, the id where it cannot be used."""
    twice: list[str] = []

    def object_of(pairs: list[tuple[str, object]]) -> dict:
        made = dict(pairs)
        twice.extend(key for key in made if len(made) < len(pairs) and sum(key == other for other, _ in pairs) > 1)
        return made

    try:
        entry = json.loads(raw.decode("utf-8"), object_pairs_hook=object_of)
    except UnicodeDecodeError:
        return None, None, ["is not UTF-8: save the manifest in UTF-8"]
    except (ValueError, RecursionError):
        return None, None, [f"is not JSON: an object with {keys} is needed"]
    if not isinstance(entry, dict):
        return None, None, [f"is {short(entry)}: a JSON object with {keys} is needed"]
    identity, faults = entry.get("id"), [f"has {short(key)} twice: which is meant cannot be told" for key in twice]
    if isinstance(identity, int | float) and not isinstance(identity, bool) and abs(identity) < _LARGEST_NUMBER:
        identity = str(identity)
    if "id" in entry and not (filled(identity) and identity.isprintable() and len(identity) <= _LONGEST_ID):
        faults.append(f"id {short(identity)} cannot be used: 1 to {_LONGEST_ID} printable characters or a number are needed")
        identity = None
    return entry, identity, faults


def stated_duration(entry: dict) -> tuple[float | None, list[str]]:
    """(seconds that the line states, faults)."""
    stated_s = entry.get("duration_s")
    if stated_s is not None and (isinstance(stated_s, bool) or not isinstance(stated_s, int | float) or not 0 <= stated_s < _LARGEST_NUMBER):
        return None, [f"duration_s is {short(stated_s)}: seconds are needed"]
    return stated_s, []


def file_beside(entry: dict, key: str, root: Path) -> tuple[Path | None, list[str]]:
    """(the file that the line names under a key, faults)."""
    shown = entry.get(key)
    if key not in entry:
        return None, []
    if not filled(shown) or not encodable(shown):
        return None, [f"{key} is {short(shown)}: the path of a file beside the manifest is needed"]
    file, fault = beside(shown, root)
    return file, [fault] if fault else []


def _line(number: int, raw: bytes, root: Path) -> tuple[str | None, _Line | None, list[str]]:
    """The id if there is one, the line if it has no faults, and its faults."""
    entry, identity, unusable = entry_of(raw, "id, audio and text")
    if entry is None:
        return None, None, unusable
    faults = [*(f"has no {key}" for key in ("id", "audio") if key not in entry), *unusable]

    text, normalized, split = entry.get("text"), False, entry.get("split", "test")
    if not filled(text) and filled(entry.get("normalized_text")):
        text, normalized = entry["normalized_text"], True
    if split not in SPLITS:
        faults.append(f"split is {short(split)}: choose from {', '.join(SPLITS)}")
    if "text" not in entry and not normalized:
        faults.append("has no text")
    elif not isinstance(text, str) or not encodable(text):
        faults.append(f"text is {short(text)}: a string is needed")
    elif split == "train" and not filled(text):
        faults.append("text is empty in train: give what is said, or leave the line out")

    stated_s, wrong = stated_duration(entry)
    audio, missing = file_beside(entry, "audio", root)
    speaker, unnamed = _speaker(entry)
    faults += wrong + missing + unnamed + _parts(entry)
    line = None if faults else _Line(number, identity, audio, entry["audio"], text, normalized, split, stated_s, speaker)
    return identity, line, faults


def _parts(entry: dict) -> list[str]:
    """What asks for a part of a file, as manifests of other tools do: the whole would be heard against the text of the part."""
    starts = ((key, entry.get(key)) for key in BEGINNINGS)
    asked = [(key, start) for key, start in starts if isinstance(start, int | float) and not isinstance(start, bool) and start]
    return [f"{key} is {short(start)}: parts of files are not read, cut it into a file of its own" for key, start in asked]


def _speaker(entry: dict) -> tuple[str | None, list[str]]:
    """Who speaks, by `speaker` or `speaker_id`, and what is wrong with it; nobody where it is empty, null or None."""
    named = entry.get("speaker", entry.get("speaker_id"))
    if isinstance(named, bool) or not isinstance(named, str | int | None):
        return None, [f"speaker is {short(named)}: a name or a number is needed"]
    name = "" if named is None else str(named).strip()
    return (None, []) if name in ("", "None") or not encodable(name) else (name, [])


def beside(shown: str, root: Path) -> tuple[Path, str | None]:
    """The file that `shown` names under `root`, a resolved path, links followed; and what is wrong with it, None where nothing is."""
    fault, audio = None, root / shown
    try:
        audio = audio.resolve()
        if not audio.is_relative_to(root):
            fault = "leaves the manifest's folder: copy the file into it"
        elif not audio.is_file():
            what = "a folder" if audio.is_dir() else "no regular file" if audio.exists() else "not there"
            fault = f"is {what}: an audio file is needed"
        elif not audio.stat().st_size:
            fault = "is empty (0 bytes): copy the file anew"
    except ValueError:
        fault = "is no path: it has a NUL in it"
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        fault = f"cannot be read ({getattr(error, 'strerror', None) or 'a link to itself'})"
    return audio, fault and f"{short(shown)} {fault}"


def filled(text: object) -> bool:
    """A text that is not all space."""
    return isinstance(text, str) and bool(text.strip())


def encodable(text: str) -> bool:
    """No half of a surrogate pair, and no NUL, at which paths end."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def short(value: object) -> str:
    """A value in one line of at most 80 characters."""
    try:
        shown = repr(value) if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested thousands of times
        shown = "a value that is too long to show"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
