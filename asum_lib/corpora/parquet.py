"""Data sets as the Hugging Face Hub keeps them: Parquet shards with the audio files' bytes in a column.

The rows of a split are unpacked into a manifest folder under the cache folder, the bytes as they are, and read from there
like any manifest, so the fingerprint is a manifest's too: the same utterances give the same one from Parquet and from
files. The folder's name follows the shards' paths, sizes and times, so changed shards are unpacked anew.

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
from collections.abc import Callable, Iterator
from pathlib import Path

from asum_lib.corpora.audio import AudioError, duration_s
from asum_lib.corpora.manifest import CONTENT, SPLITS, Corpus, publish, read_manifest, refuse, remember, remove_left
from asum_lib.errors import InputError
from asum_lib.paths import cache

TEXTS = ("text", "normalized_text", "raw_text", "transcription", "sentence")
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
_SPLIT_WORDS = {"train": "train", "training": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev"}
_SPLIT_WORDS |= {"test": "test", "eval": "test", "evaluation": "test"}
_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"FORM": ".aiff"}
_UNPACKED = 1  # raise it when rows are unpacked to something else
_BATCH_ROWS = 8


def load_hub(name: str, snapshot: Path, split: str, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """A split of `librispeech` or `slue-voxpopuli` from the repository's snapshot folder. Raises `InputError`."""
    for pattern in SHARDS[name][split]:
        if shards := sorted(snapshot.glob(pattern)):
            return _load(name, snapshot, shards, split, progress)
    part = name if split == "test" else f"{name}-train"
    raise InputError(f"{name} {split} is not fetched: {snapshot} has no {' or '.join(SHARDS[name][split])}; run `asum fetch {part}`")


def found(folder: Path) -> bool:
    """Whether there are Parquet files in `folder` or in a folder of it."""
    return any(_all(folder))


def load_folder(folder: Path, split: str, progress: Callable[[str], None] = lambda line: None, name: str | None = None) -> Corpus:
    """A split of a local folder with shards such as `test-00000-of-00002.parquet`, `data/test-*.parquet` or `test/0000.parquet`.

    Where no name says a split, all of it is test. Raises `InputError`.
    """
    shards: dict[str | None, list[Path]] = {}
    for path in _all(folder):
        shards.setdefault(_split_of(path.relative_to(folder)), []).append(path)
    wanted = shards.get(split, shards.get(None, []) if set(shards) == {None} and split == "test" else [])
    if not wanted:
        have = ", ".join(known for known in SPLITS if known in shards) or "test alone"
        raise InputError(f"{folder}: no Parquet file is of split {split!r}: it has {have}")
    return _load(name or folder.resolve().name, folder, wanted, split, progress)


def _all(folder: Path) -> list[Path]:
    return sorted((*folder.glob("[!.]*.parquet"), *folder.glob("[!.]*/[!.]*.parquet")))


def _split_of(path: Path) -> str | None:
    """The split that the file's name says, else its folder's."""
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.removesuffix(".parquet").lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


def _load(name: str, root: Path, shards: list[Path], split: str, progress: Callable[[str], None]) -> Corpus:
    states = [(str(shard.resolve()), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
    key = hashlib.sha256(json.dumps([_UNPACKED, split, states]).encode()).hexdigest()
    folder = cache() / "corpora" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{split}-{key[:12]}"
    if folder.exists():
        if (corpus := _unpacked(folder, split, progress, name)) is not None:
            return corpus
        progress(f"{name} {split}: {folder} is not as it was unpacked and is made anew")
        shutil.rmtree(folder)
    columns = _columns(root, shards)
    _need_space(f"{name} {split}", folder.parent, sum(size for _, size, _ in states))
    _unpack(name, root, shards, columns, split, folder, progress)
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


def _columns(root: Path, shards: list[Path]) -> dict[Path, list[str]]:
    """The columns to read of each shard: audio, id where there is one, and texts. Refuses all faulty and missing shards at once."""
    import pyarrow
    import pyarrow.parquet

    columns, faults = {}, [f"{name} is missing: fetch or copy it too" for name in _missing(root, shards)]
    for shard in shards:
        where = shard.relative_to(root)
        try:
            schema = pyarrow.parquet.read_schema(shard)
        except (pyarrow.ArrowException, OSError):
            faults.append(f"{where} is no whole Parquet file: fetch or copy it anew")
            continue
        audio = schema.field("audio").type if "audio" in schema.names else None
        texts = [name for name in TEXTS if name in schema.names and _is_text(schema.field(name).type)]
        have = ", ".join(schema.names)
        if audio is None or not pyarrow.types.is_struct(audio) or audio.get_field_index("bytes") < 0:
            faults.append(f"{where} has no audio column (a struct with bytes): it has {have}")
        if not texts:
            faults.append(f"{where} has no text column ({', '.join(TEXTS)}): it has {have}")
        columns[shard] = ["audio", *(["id"] if "id" in schema.names else []), *texts]
    refuse(root, faults)
    return columns


def _is_text(kind) -> bool:
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)


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


def _unpack(name: str, root: Path, shards: list[Path], columns: dict, split: str, folder: Path, progress: Callable[[str], None]) -> None:
    """Write the rows as a manifest folder, whole or not at all; every audio file is decoded on the way."""
    remove_left(folder)
    lines, faults, seen, silent, digest = [], [], {}, 0, hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        work = Path(temporary) / folder.name
        (work / "audio").mkdir(parents=True)
        for number, (where, row) in enumerate(_rows(root, shards, columns, faults)):
            if number and number % 500 == 0:
                progress(f"{name} {split}: {number} rows unpacked")
            text = next((row[column] for column in TEXTS if (row.get(column) or "").strip()), "")
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
            content = (row["audio"] or {}).get("bytes")
            if not content:
                faults.append(f"{where}: has no audio bytes")
                continue
            audio = f"audio/{number:06d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', identity)[:80]}{_suffix(content, row['audio'].get('path'))}"
            (work / audio).write_bytes(content)
            try:
                length_s = duration_s(work / audio)
            except AudioError as error:
                faults.append(f"{where}: its audio {error.reason}")
                continue
            digest.update(f"{identity}\0{text}\0".encode() + hashlib.sha256(content).digest())
            lines.append({"id": identity, "audio": audio, "text": text, "split": split, "duration_s": length_s})
        refuse(root, faults)
        if not any(line["text"] for line in lines):
            raise InputError(f"{root}: no row of {name} {split} has a text: transcripts are needed to score against")
        if silent and split == "train":
            progress(f"{name} train: {silent} rows without a text are left out")
        remember(digest.hexdigest(), [line["duration_s"] for line in lines])
        publish(work, folder, lines, digest.hexdigest())


def _rows(root: Path, shards: list[Path], columns: dict, faults: list[str]) -> Iterator[tuple[str, dict]]:
    """Each row with its shard and number, counted from 1, with a row group or two in memory; a shard that breaks goes to `faults`."""
    import pyarrow
    import pyarrow.parquet

    for shard in shards:
        where, number = shard.relative_to(root), 0
        try:
            with pyarrow.parquet.ParquetFile(shard) as file:
                for group in range(file.num_row_groups):  # one iterator over all groups keeps what it has read
                    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns[shard], use_threads=False):
                        for row in batch.to_pylist():
                            number += 1
                            yield f"{where} row {number}", row
        except (pyarrow.ArrowException, OSError):
            faults.append(f"{where} is broken after row {number}: fetch or copy it anew")


def _suffix(content: bytes, path: str | None) -> str:
    """By the first bytes, else as in the data set."""
    for magic, suffix in _MAGIC.items():
        if content.startswith(magic):
            return suffix
    suffix = Path(path or "").suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", suffix) else ".audio"
