"""Talks with summaries from files: a manifest with audio or features, and How2 as its authors and ESPnet lay it out.

A manifest has a JSON object a line: `id`, `summary`, one of `audio` (any format that libsndfile reads) and `features` (a `.npy` of
numbers of shape (frames, bins), or a place in a Kaldi archive, `feats.ark:123`), both beside the manifest; and optionally `split`
(test where absent), `duration_s`, and what is said as `text` or `transcript`. All faults are listed at once, as `manifest` does it.

How2's 2,000 hours are given out as features, not as audio: matrices of 40 filterbanks and 3 values of pitch, a frame each 10 ms, in
Kaldi archives. Three layouts of a folder are known, and the first that has the split is read:

- as ESPnet prepares it: `data/SET/feats.scp` and `data/SET/text`, SET one of `tr_2000h_sum`, `cv05_sum`, `dev5_test_sum`, where `text` is the
  summary (espnet/espnet, `egs2/how2_2000h/sum1/local/data.sh` and `run.sh`);
- as it is released: the same `text`, and `audio/fbank_pitch/SET.scp`, whose archives lie beside it (the same script reads it); an id that
  only one of them has is left out, as the script does;
- its text alone: `SET/desc.tok.txt` and `SET/tran.tok.txt`, SET one of `sum_train`, `sum_cv`, `sum_devtest` (as HLTCHKUST/VG-GPLMs,
  `scripts/Bart_text_only.sh` and `src/data_preprocess/data_builder.py`, reads it). That is a corpus of texts, see `how2_rows`; where it
  lies in the folder too, its transcripts go with the talks by their ids.

None of these repositories shows a line of the data, and none of it is at hand: what is proved is these layouts, on files that tests write.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.corpora import kaldi
from asum_lib.corpora.audio import duration_s
from asum_lib.corpora.kaldi import FeatureError
from asum_lib.corpora.manifest import beside, check_files, encodable, entry_of, file_beside, filled, read_lines, refuse, short, stated_duration
from asum_lib.corpora.talks import Talk, Talks
from asum_lib.corpora.texts import SPLITS
from asum_lib.errors import InputError, choose

WHAT = "a JSON-lines file with id, summary and audio or features on each line"
FRAME_S = 0.01  # Kaldi's frame shift, and How2's
HOW2_BINS = 43
SETS = {"train": "tr_2000h_sum", "dev": "cv05_sum", "test": "dev5_test_sum"}  # of features with summaries
TEXT_SETS = {"train": "sum_train", "dev": "sum_cv", "test": "sum_devtest"}
SUMMARIES, TRANSCRIPTS = "desc.tok.txt", "tran.tok.txt"


@dataclass(frozen=True)
class _Line:
    """A line without faults in its fields; `shown` is its file as it is written there."""

    number: int
    id: str
    audio: Path | None
    features: Path | None
    shown: str
    transcript: str
    summary: str
    split: str
    stated_s: float | None

    @property
    def text(self) -> str:
        """What a fingerprint covers beside the file."""
        return f"{self.transcript}\0{self.summary}"


def load_file(
    path: str | Path, split: str, name: str | None = None, language: str = "en", progress: Callable[[str], None] = lambda line: None
) -> Talks:
    """A split of a manifest, of its folder, or of a folder laid out as How2 is; raises `InputError` with every fault, the first 20 spelt out.

    The fingerprint is over each talk's id, transcript and summary and the bytes of its file.
    """
    choose("split", split, SPLITS)
    path = Path(path)
    if not path.exists():
        raise InputError(f"corpus {path}: no such file or folder")
    name = name or (path if path.is_dir() else path.parent).resolve().name
    if path.is_dir() and not (path / "manifest.jsonl").is_file():
        where, lines, faults = _how2(path, split, progress)
    else:
        where = path / "manifest.jsonl" if path.is_dir() else path
        root = where.parent.resolve()
        lines, numbered = read_lines(where, WHAT, lambda number, raw: _line(number, raw, root))
        lines, faults = [line for line in lines if line.split == split], [(number, f"line {number}: {fault}") for number, fault in numbered]
    found: list[tuple[int, str]] = []
    fingerprint, durations_s = check_files(f"{name} {split}", lines, found, progress, _content, _seconds)
    refuse(where, [fault for _, fault in sorted([*faults, *((number, f"line {number}: {fault}") for number, fault in found)])])
    if not lines:
        raise InputError(f"{where}: no talk has split {split!r}")
    talks = (
        Talk(line.id, line.audio, line.features, found_s, line.transcript, line.summary) for line, found_s in zip(lines, durations_s, strict=True)
    )
    return Talks(name, split, language, tuple(talks), fingerprint)


def read_features(where: Path) -> np.ndarray:
    """The features of a talk, float32 of shape (frames, bins), all finite: a `.npy`, or a place in a Kaldi archive. Raises `FeatureError`."""
    if where.suffix != ".npy":
        return kaldi.read_matrix(where)
    try:
        values = np.load(where, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, TypeError, MemoryError):
        values = None
    if not isinstance(values, np.ndarray):  # of a packed .npz it is a reader
        raise FeatureError(where, "is not a whole .npy file")
    if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.floating):
        raise FeatureError(where, f"holds {values.dtype} of shape {values.shape}: floats of shape (frames, bins) are needed")
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise FeatureError(where, "has a value that is no finite number (NaN or infinite)")
    return values


def need_audio(talks: Talks, system: str) -> None:
    """Raises `InputError` in one line where talks have features alone and `system`, such as Whisper, hears audio."""
    without = [talk for talk in talks.talks if talk.audio is None]
    if without:
        bins = read_features(without[0].features).shape[1]
        known = ", 40 filterbanks and 3 values of pitch as How2 gives them out," if bins == HOW2_BINS else ""
        what = f"{len(without)} of {len(talks.talks)} talks have features of {bins} bins{known} and no audio"
        raise InputError(f"corpus {talks.name}: {what}, and {system} hears audio: give the recordings, or use a model trained on such features")


def how2_rows(folder: Path, split: str) -> Iterator[tuple[str, dict]] | None:
    """(where, row with id, text, summary) of How2's text alone; None where the folder has not that layout. Raises `InputError` for faults."""
    home = _text_home(folder, split)
    if home is None:
        return None
    summaries, faults = kaldi.read_table(home / SUMMARIES)
    transcripts, more = kaldi.read_table(home / TRANSCRIPTS)
    faults += more
    faults += [f"{home / SUMMARIES} line {number}: {identity} has no summary" for identity, (number, text) in summaries.items() if not text]
    faults += [f"{home / TRANSCRIPTS} line {number}: {identity} has no transcript" for identity, (number, text) in transcripts.items() if not text]
    faults += _unpaired(summaries, home / SUMMARIES, transcripts, home / TRANSCRIPTS)
    refuse(home, faults)
    return (
        (f"{home / SUMMARIES} line {number}", {"id": identity, "text": transcripts[identity][1], "summary": summary})
        for identity, (number, summary) in summaries.items()
    )


def _line(number: int, raw: bytes, root: Path) -> tuple[str | None, _Line | None, list[str]]:
    """The id if there is one, the line if it has no faults, and its faults."""
    entry, identity, unusable = entry_of(raw, "id, summary and audio or features")
    if entry is None:
        return None, None, unusable
    faults = [*(f"has no {key}" for key in ("id", "summary") if key not in entry), *unusable]
    given = [key for key in ("audio", "features") if key in entry]
    if len(given) != 1:
        faults.append("has audio and features: one is needed" if given else "has neither audio nor features")
    said = entry.get("transcript", entry.get("text", ""))
    if not isinstance(said, str) or not encodable(said):
        faults.append(f"{'transcript' if 'transcript' in entry else 'text'} is {short(said)}: a string is needed")
    summary = entry.get("summary")
    if "summary" in entry and (not filled(summary) or not encodable(summary)):
        faults.append(f"summary is {short(summary)}: a text that is not empty is needed")
    split = entry.get("split", "test")
    if split not in SPLITS:
        faults.append(f"split is {short(split)}: choose from {', '.join(SPLITS)}")
    stated_s, wrong = stated_duration(entry)
    audio, missing = file_beside(entry, "audio", root)
    features, absent = _features_beside(entry, root)
    faults += wrong + missing + absent
    shown = entry.get("audio", entry.get("features"))
    return identity, None if faults else _Line(number, identity, audio, features, shown, said, summary, split, stated_s), faults


def _features_beside(entry: dict, root: Path) -> tuple[Path | None, list[str]]:
    """(the place that the line names, faults); a place is a file and an offset in it."""
    shown = entry.get("features")
    if not filled(shown) or not encodable(shown):
        return file_beside(entry, "features", root)
    try:
        file, offset = kaldi.file_and_offset(shown)
    except FeatureError as error:
        return None, [f"features {short(shown)} {error.reason}"]
    found, fault = beside(str(file), root)
    if fault:
        return None, [fault.replace("an audio file is needed", "a file of features is needed")]
    return (found if str(file) == shown else kaldi.place(found, offset)), []


def _content(line: _Line) -> bytes:
    """The SHA-256 of the audio file, or of the values of the features."""
    try:
        if line.audio is not None or line.features.suffix == ".npy":
            with (line.audio or line.features).open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise FeatureError(line.features or line.audio, f"cannot be read ({error.strerror})") from None
    return hashlib.sha256(kaldi.read_bytes(line.features)).digest()


def _seconds(line: _Line) -> float:
    """Seconds, from the whole of the file: all audio is decoded, all features are read."""
    if line.audio is not None:
        return duration_s(line.audio)
    return round(len(read_features(line.features)) * FRAME_S, 6)


def _how2(folder: Path, split: str, progress: Callable[[str], None]) -> tuple[Path, list[_Line], list[tuple[int, str]]]:
    """(the folder of the split, its lines, faults with the numbers by which they sort) of a folder laid out as How2 is."""
    name = SETS[split]
    homes = [home for home in (folder, folder / "how2_release") if (home / "data" / name / "text").is_file()]
    if not homes:
        if _text_home(folder, split):
            raise InputError(f"{folder}: has How2's texts and no audio or features of {split!r}: it is a corpus of texts, not of talks")
        raise InputError(
            f"{folder}: neither a manifest.jsonl nor a folder of How2 with split {split!r}: data/{name}/text is needed, with feats.scp beside it "
            f"or audio/fbank_pitch/{name}.scp"
        )
    home, table = homes[0], homes[0] / "data" / name / "text"
    prepared, released = table.parent / "feats.scp", home / "audio" / "fbank_pitch" / f"{name}.scp"
    places, root = (prepared, table.parent) if prepared.is_file() else (released, released.parent)
    summaries, wrong = kaldi.read_table(table)
    listed, more = kaldi.read_table(places)
    said = _transcripts(folder, split)
    unpaired = _unpaired(summaries, table, listed, places)
    if places == released and unpaired:  # as Kaldi's fix_data_dir.sh does it when the recipe prepares the folder
        progress(f"{folder}: {len(unpaired)} ids of {split} have a summary or features alone, and are left out")
        unpaired = []
    faults = [(0, fault) for fault in [*wrong, *more, *unpaired]]
    lines = []
    for identity, (number, summary) in summaries.items():
        if not summary:
            faults.append((number, f"line {number}: {identity} has no summary"))
        elif identity in listed:
            shown = listed[identity][1]
            try:
                file, offset = kaldi.file_and_offset(shown)
                where = kaldi.place(root / file, offset)
            except FeatureError as error:
                faults.append((number, f"{places} line {listed[identity][0]}: {short(shown)} {error.reason}"))
                continue
            lines.append(_Line(number, identity, None, where, shown, said.get(identity, ""), summary, split, None))
    return table, lines, faults


def _transcripts(folder: Path, split: str) -> dict[str, str]:
    home = _text_home(folder, split)
    return {} if home is None else {identity: text for identity, (_, text) in kaldi.read_table(home / TRANSCRIPTS)[0].items()}


def _text_home(folder: Path, split: str) -> Path | None:
    """The folder of a split of How2's text alone."""
    name = TEXT_SETS[split]
    homes = (folder / name, folder / "text" / name, folder)
    return next((home for home in homes if home.name == name and (home / SUMMARIES).is_file() and (home / TRANSCRIPTS).is_file()), None)


def _unpaired(first: dict, first_path: Path, second: dict, second_path: Path) -> list[str]:
    """A fault for each id that only one of two tables has."""
    sides = ((first, first_path, second, second_path), (second, second_path, first, first_path))
    return [
        f"{path} line {number}: {identity} is not in {other}"
        for rows, path, others, other in sides
        for identity, (number, _) in rows.items()
        if identity not in others
    ]
