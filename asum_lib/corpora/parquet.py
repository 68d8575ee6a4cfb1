"""Data sets as the Hugging Face Hub and `datasets` keep them: Parquet shards, what `save_to_disk` writes, an AudioFolder.

The rows of a split are unpacked into a manifest folder under the cache folder, the bytes as they are, and read from there
like any manifest, so the fingerprint is a manifest's too: the same utterances give the same one from Parquet and from
files. The folder's name follows the files' paths, sizes and times, so changed ones are unpacked anew. `shards` reads the rows.
Audio that a row names instead of holding it is read where it lies beside the data set or under the current folder.

A row has a struct `audio` with `bytes` (and maybe `path`), a text in the first column of `TEXTS` that is not empty there,
and maybe an `id`, else its running number. Rows without a text are kept in test and dev (no words in the reference) and left
out in train, where a model would learn to hear nothing; both are said. Other faults are listed at once: of all shards before
the first row is unpacked, of all rows before anything is measured.

Two data sets are known by name:

- `librispeech`, `openslr/librispeech_asr`: train is train.100 (clean), dev validation, test test, of the configuration `clean`
  (`clean/test/0000.parquet`); the same shards lie under `all/` too (`all/test.clean/0000.parquet`), and serve as well.
- `slue-voxpopuli`, `asapp/slue`: configuration `voxpopuli`, its own train, validation and test (5,000, 1,753 and 1,842
  utterances). The test labels, once held back, are in the data set since January 2024. The reference is `normalized_text`
  (in words, unpunctuated), as in SLUE's own scoring; `raw_text` serves where that is empty. The repository is gated: one
  accepts its terms on its page, logged in, before it can be fetched. How many shards a split has was not confirmed, so
  shards are found by their names.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from asum_lib.corpora.audio import AudioError, duration_s, usable
from asum_lib.corpora.manifest import CONTENT, SPLITS, Corpus, publish, read_manifest, refuse, remember, remove_left, short
from asum_lib.corpora.shards import METADATA, MOST_FAULTS, TEXTS, columns_of, find, rows
from asum_lib.errors import InputError
from asum_lib.paths import cache

SHARDS = {  # corpus name: split: where its shards may lie, the first pattern that finds any
    "librispeech": {
        "train": ("clean/train.100/*.parquet", "all/train.clean.100/*.parquet"),
        "dev": ("clean/validation/*.parquet", "all/validation.clean/*.parquet"),
        "test": ("clean/test/*.parquet", "all/test.clean/*.parquet"),
    },
    "slue-voxpopuli": {
        "train": ("voxpopuli/train-*.parquet",),
        "dev": ("voxpopuli/validation-*.parquet",),
        "test": ("voxpopuli/test-*.parquet",),
    },
}
_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"FORM": ".aiff"}
EMBED = (
    "write the audio into it by `from datasets.table import embed_table_storage` and "
    "`data.with_format('arrow').map(embed_table_storage, batched=True).save_to_disk(...)`"
)
_LARGEST_BYTES = 1_000_000_000  # of the audio of a row
_UNPACKED = 1  # raise it when rows are unpacked to something else
_UNPACKED_TIMES, _SPARE_BYTES = 20, 1 << 30  # what rows may be written to, by the size of their files


def load_hub(name: str, snapshot: Path, split: str, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """A split of `librispeech` or `slue-voxpopuli` from the repository's snapshot folder. Raises `InputError`."""
    for pattern in SHARDS[name][split]:
        if shards := sorted(snapshot.glob(pattern)):
            return _load(name, snapshot, shards, split, progress)
    part = name if split == "test" else f"{name}-train"
    raise InputError(f"{name} {split} is not fetched: {snapshot} has no {' or '.join(SHARDS[name][split])}; run `asum fetch {part}`")


def load_folder(path: Path, split: str, progress: Callable[[str], None] = lambda line: None, name: str | None = None) -> Corpus:
    """A split of a local data set: `test-00000-of-00002.parquet`, `data/test-*.parquet`, `test/0000.parquet`, `test/metadata.csv`, ...

    Where no name says a split, all of it is test. Raises `InputError`.
    """
    layout = find(path)
    if layout is None:
        raise InputError(f"{path}: no Parquet, AudioFolder or save_to_disk data set is there")
    folder, found = layout.root, layout.shards
    wanted = found.get(split, found.get(None, []) if set(found) == {None} and split == "test" else [])
    if tables := [shard for shard in found.get(None, []) if shard.name in METADATA]:
        wanted = [*tables, *found.get(split, [])]  # whose rows say their splits by their files' folders
    if not wanted:
        have = ", ".join(known for known in SPLITS if known in found) or "test alone"
        raise InputError(f"{folder}: no file is of split {split!r}: it has {have}")
    return _load(name or folder.resolve().name, folder, wanted, split, progress, layout.whole)


def _load(name: str, root: Path, shards: list[Path], split: str, progress: Callable[[str], None], whole: bool = True) -> Corpus:
    states = [_state(shard) for shard in shards if shard.is_file()]
    states += [_state(path) for path in _named(root, shards, split)]
    key = hashlib.sha256(json.dumps([_UNPACKED, split, states]).encode()).hexdigest()
    folder = cache() / "corpora" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{split}-{key[:12]}"
    if folder.exists():
        if (corpus := _unpacked(folder, split, progress, name)) is not None:
            return corpus
        progress(f"{name} {split}: {folder} is not as it was unpacked and is made anew")
        shutil.rmtree(folder)
    columns = _columns(root, shards, whole)
    needed_bytes = sum(size for _, size, _ in states)
    _need_space(f"{name} {split}", folder.parent, needed_bytes)
    _unpack(name, root, shards, columns, split, folder, needed_bytes, progress)
    if (corpus := _unpacked(folder, split, progress, name)) is None:
        raise InputError(f"{name} {split}: {folder} is not as it was unpacked, again: remove it, and see to its disk")
    return corpus


def _unpacked(folder: Path, split: str, progress: Callable[[str], None], name: str) -> Corpus | None:
    """The corpus that was unpacked into `folder`; None where its content is not what was written."""
    try:
        written = (folder / CONTENT).read_text(encoding="utf-8").strip()
        corpus = read_manifest(folder / "manifest.jsonl", split, progress, name)
    except (OSError, ValueError):  # a line or a file is damaged or gone
        return None
    return corpus if corpus.fingerprint == written else None


def _state(path: Path) -> tuple[str, int, int]:
    return str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns


def _named(root: Path, shards: list[Path], split: str) -> list[Path]:
    """The audio files that the rows of metadata tables name: changed ones are read anew."""
    tables = [shard for shard in shards if shard.suffix in (".csv", ".jsonl") and shard.is_file()]
    columns = {table: columns_of(table)[0] or ["file_name"] for table in tables}
    named = (row["audio"]["path"] for _, row in rows(root, tables, columns, split, []))
    return [path for path in map(Path, filter(None, named)) if not usable(path)]


def _columns(root: Path, shards: list[Path], whole: bool) -> dict[Path, list[str]]:
    """The columns to read of each shard. Refuses all faulty and missing shards at once."""
    found = {shard: columns_of(shard) for shard in shards}
    faults = [f"{name} is missing: fetch or copy it too" for name in _missing(root, shards)] if whole else []
    faults += [f"{shard.relative_to(root)} {fault}" for shard, (_, fault) in found.items() if fault]
    refuse(root, faults)
    return {shard: columns for shard, (columns, _) in found.items()}


def _missing(root: Path, shards: list[Path]) -> list[str]:
    """Shards that the names of the others promise: 00001 of `-00000-of-00002`, and 0000 beside 0001."""
    names, missing = {shard.relative_to(root) for shard in shards}, []
    for shard in sorted(names):
        if match := re.fullmatch(r"(.*-)(\d+)-of-(\d+)(.*)", shard.name):
            stem, number, count, end = match.groups()
            promised = [f"{stem}{i:0{len(number)}}-of-{count}{end}" for i in range(min(int(count), 10_000))]
        elif re.fullmatch(r"\d+\.parquet", shard.name):
            promised = [f"{i:0{len(shard.stem)}}.parquet" for i in range(min(int(shard.stem), 10_000))]
        else:
            continue
        missing += [str(shard.with_name(name)) for name in promised if shard.with_name(name) not in names]
    return sorted(set(missing))


def _need_space(what: str, folder: Path, needed_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise InputError(
            f"{what} needs {needed_bytes / 1e9:.1f} GB to be unpacked, and {folder} has {free_bytes / 1e9:.1f} GB free: "
            "make room, or set ASUM_CACHE to a folder that has it"
        )


def _unpack(
    name: str, root: Path, shards: list[Path], columns: dict, split: str, folder: Path, needed_bytes: int, progress: Callable[[str], None]
) -> None:
    """Write the rows as a manifest folder, whole or not at all; every audio file is decoded on the way."""
    remove_left(folder)
    lines, faults, seen, silent, digest = [], [], {}, 0, hashlib.sha256()
    written, allowed = 0, _UNPACKED_TIMES * needed_bytes + _SPARE_BYTES
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        work = Path(temporary) / folder.name
        (work / "audio").mkdir(parents=True)
        for number, (where, row) in enumerate(rows(root, shards, columns, split, faults)):
            if len(faults) > MOST_FAULTS or written > allowed:
                break
            if number and number % 500 == 0:
                progress(f"{name} {split}: {number} rows unpacked")
            text = next((row[column] for column in TEXTS if isinstance(row.get(column), str) and row[column].strip()), "")
            silent += not text
            if not text and split == "train":
                continue
            identity = row.get("id", f"{number:06d}")
            identity = "" if identity is None else str(identity)
            if not identity.strip():
                faults.append(f"{where}: has no id")
            elif identity in seen:
                faults.append(f"{where}: id {identity!r} is that of {seen[identity]} too")
            seen[identity] = where
            try:
                content = _content(root, row["audio"])
            except AudioError as error:
                hinted = any(EMBED in fault for fault in faults)
                faults.append(f"{where}: {error.reason.replace(f': {EMBED}', '') if hinted else error.reason}")
                continue
            written += len(content)
            audio = f"audio/{number:06d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', identity)[:80]}{_suffix(content, row['audio'].get('path'))}"
            (work / audio).write_bytes(content)
            try:
                length_s = duration_s(work / audio)
            except AudioError as error:
                faults.append(f"{where}: its audio {error.reason}")
                continue
            digest.update(f"{identity}\0{text}\0".encode() + hashlib.sha256(content).digest())
            lines.append({"id": identity, "audio": audio, "text": text, "split": split, "duration_s": length_s})
        if written > allowed:
            faults.append(
                f"its audio is {written / 1e9:.1f} GB and more, of files of {needed_bytes / 1e9:.3f} GB, as no recordings are: make it anew"
            )
        refuse(root, faults)
        if not any(line["text"] for line in lines):
            raise InputError(f"{root}: no row of {name} {split} has a text: transcripts are needed to score against")
        if silent and split == "train":
            progress(f"{name} train: {silent} rows without a text are left out")
        remember(digest.hexdigest(), [line["duration_s"] for line in lines])
        publish(work, folder, lines, digest.hexdigest())


def _content(root: Path, audio: dict | None) -> bytes:
    """The bytes of a row's audio, or of the file that it names. Raises `AudioError`."""
    audio = audio or {}
    if audio.get("bytes"):
        return audio["bytes"]
    shown = audio.get("path")
    if not shown:
        raise AudioError(root, "has no audio bytes")
    try:
        found = next((path for path in (root / shown, Path(shown)) if not usable(path)), None)
        inside = found and any(found.resolve().is_relative_to(place) for place in (root.resolve().parent, Path.cwd()))
    except (OSError, ValueError):
        found, inside = None, False
    if found is None:
        raise AudioError(root, f"has no audio bytes, and the file that it names, {short(shown)}, is not there: {EMBED}")
    if not inside:
        raise AudioError(root, f"names {short(shown)}, which is neither beside the data set nor under this folder: {EMBED}")
    if found.stat().st_size > _LARGEST_BYTES:
        raise AudioError(root, f"names {short(shown)}, which has {found.stat().st_size / 1e9:.1f} GB: give long recordings in a manifest.jsonl")
    return found.read_bytes()


def _suffix(content: bytes, path: str | None) -> str:
    """By the first bytes, else as in the data set."""
    for magic, suffix in _MAGIC.items():
        if content.startswith(magic):
            return suffix
    suffix = Path(path or "").suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", suffix) else ".audio"
