"""Documents with summaries from files, as they come: Gazeta's JSON lines, WikiHow's CSV, their Parquet copies, and files of one's own.

A row is {document, summary} by the first pair of column names in `COLUMNS` that it has. A list of sentences (AMI's `summary`) is
joined; of a list of summaries (SciTLDR's `target`) the first one counts. Files are read row by row; every fault is one line with file
and row. How2's transcripts and summaries are a folder with two tables a split, see `talk_files`.

WikiHow's `wikihowAll.csv` has one row an article: `headline` (the steps' bold lines: the summary), `title`, `text`. Its official
split is three lists of titles (`all_train.txt`, `all_val.txt`, `all_test.txt`) that lie beside it. As in the authors' `process.py` and in
TensorFlow Datasets' reader, an article counts if its summary is shorter than 0.75 of its text, stray commas go, and a title is looked
up without its spaces; a row with a field too few or too many is passed over. That gives 157,252 / 5,599 / 5,577 articles, fewer than the
lists have titles: the lists keep letters and digits alone, so that a title with a comma or a hyphen is not found in them.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from asum_lib import reading
from asum_lib.corpora import shards, talk_files
from asum_lib.corpora.texts import SPLITS, TextCorpus, TextDocument, fingerprint
from asum_lib.errors import InputError, choose

COLUMNS = (  # (document, summary)
    ("text", "summary"),
    ("document", "summary"),
    ("article", "highlights"),
    ("text", "headline"),
    ("source", "target"),
    ("document", "summaries"),
)
LISTS_OF_SUMMARIES = ("target", "summaries")
SUFFIXES = (".jsonl", ".csv", ".parquet")
SPLIT_WORDS = {"train": ("train",), "dev": ("dev", "val", "validation", "valid"), "test": ("test",)}
SUMMARY_SHARE = 0.75  # of its text, in characters: WikiHow's articles with longer summaries are left out
WIKIHOW = "wikihowAll.csv"
WIKIHOW_BY_PARAGRAPHS = "wikihowSep.csv"
FIELD_LIMIT = 2**24  # characters of a CSV field
LONGEST_LINE_BYTES = 2**26


def load_file(path: str | Path, split: str, name: str, language: str) -> TextCorpus:
    """A split of a file, or of a folder with a file a split, or several shards; raises `InputError` with file and row for what is wrong.

    A single file that names no split in its own name is all test.
    """
    choose("split", split, SPLITS)
    path = Path(path)
    if not path.exists():
        raise InputError(f"corpus {path}: no such file or folder")
    if not path.is_dir() and not path.is_file():
        raise InputError(f"corpus {path}: is no regular file (a pipe, a socket or a device)")
    wikihow = path / WIKIHOW if path.is_dir() else path
    by_paragraphs = path / WIKIHOW_BY_PARAGRAPHS if path.is_dir() and not wikihow.is_file() else path
    if by_paragraphs.name == WIKIHOW_BY_PARAGRAPHS and by_paragraphs.is_file():
        raise InputError(f"{by_paragraphs}: this is WikiHow by paragraphs, whose summaries are single steps: give {WIKIHOW}")
    rows = talk_files.how2_rows(path, split) if path.is_dir() else None
    if wikihow.name == WIKIHOW and wikihow.is_file():
        rows = _wikihow(wikihow, split)
    rows = rows or (row for file in _files(path, split) for row in _rows(file))
    documents = tuple(_documents(rows, split))
    if not documents:
        raise InputError(f"{path}: no document of split {split!r}")
    return TextCorpus(name, split, language, documents, fingerprint(documents))


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: cannot read {path.suffix or 'a file without suffix'}: give {', '.join(SUFFIXES)}")
        named = _split_of(path)
        if (named or "test") != split:
            raise InputError(f"{path}: no document of split {split!r}, its name says {named or 'nothing, so all of it is test'}")
        return [path]
    there = [file for file in reading.files_below(path) if file.name.endswith(SUFFIXES) and not file.name.startswith(".")]
    found = [file for file in there if _split_of(file) == split and file.is_file()]
    if not found:
        raise InputError(
            f"{path}: no file of split {split!r}: its name should hold {' or '.join(SPLIT_WORDS[split])} and end in {', '.join(SUFFIXES)}"
        )
    sorts = {(file.parent, re.sub(r"\d+", "", file.name)): file for file in reversed(found)}
    if len(sorts) > 1:  # gazeta_train.jsonl beside gazeta_train_oracle.jsonl: read together, every document would count twice
        several = " and ".join(sorted(str(file.relative_to(path)) for file in sorts.values()))
        raise InputError(f"{path}: split {split!r} is there as {several}: leave one of them")
    if (promised := re.search(r"-of-(\d+)\.", found[0].name)) and int(promised.group(1)) != len(found):
        raise InputError(f"{path}: split {split!r} has {len(found)} of the {int(promised.group(1))} files that {found[0].name} promises")
    return found


def _split_of(file: Path) -> str | None:
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((split for split, known in SPLIT_WORDS.items() if set(known) & set(words)), None)


def _rows(file: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a file: `where` names the file and the row."""
    if file.suffix == ".parquet":
        yield from _parquet(file)
    else:
        yield from _csv(file) if file.suffix == ".csv" else _json_lines(file)


def _lines(file: Path) -> Iterator[str]:
    """The lines of a text file, ends included; decoded one by one, so that a fault has a line."""
    with file.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE_BYTES + 1), b""), start=1):
            if len(line) > LONGEST_LINE_BYTES:
                raise InputError(f"{file} line {number}: longer than {LONGEST_LINE_BYTES / 1e6:.0f} MB: give a document a line")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{file} line {number}: not UTF-8: save the file as UTF-8") from None


def _json_lines(file: Path) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        row = reading.json_of(line, f"{file} line {number}")
        if not isinstance(row, dict):
            raise InputError(f"{file} line {number}: {type(row).__name__} where an object should be")
        yield f"{file} line {number}", row


def _csv(file: Path, refuse_uneven: bool = True) -> Iterator[tuple[str, dict]]:
    """Rows by the header's names, each with the line that it begins in. A row of another length is refused, or passed over."""
    before = csv.field_size_limit(FIELD_LIMIT)
    reader = csv.DictReader(_lines(file), strict=refuse_uneven)
    done = 0  # lines
    try:
        names = reader.fieldnames
        done = reader.line_num
        for row in reader:
            where, done = f"{file} line {done + 1}", reader.line_num
            if None not in row and None not in row.values():
                yield where, row
            elif refuse_uneven:
                raise InputError(f"{where}: not as many fields as the header has ({len(names)})")
    except csv.Error as error:
        raise InputError(f"{file} line {done + 1}: not CSV ({error})") from None
    finally:
        csv.field_size_limit(before)


def _parquet(file: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not Parquet ({str(error).splitlines()[0]})") from None
    if fault := shards.too_tight(file):
        raise InputError(f"{file}: {fault}")
    number, batches = 0, table.iter_batches()
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError):
            raise InputError(f"{file} is broken after row {number}: fetch or copy it anew") from None
        if batch is None:
            return
        for row in batch.to_pylist():
            number += 1
            yield f"{file} row {number}", row


def _wikihow(file: Path, split: str) -> Iterator[tuple[str, dict]]:
    """The articles of a split by the lists of titles beside the file; what the authors leave out is left out here."""
    listed = file.parent / f"all_{'val' if split == 'dev' else split}.txt"
    if not listed.is_file():
        raise InputError(f"{file}: the list of titles {listed.name} should lie beside it: it is in the repository of the data set")
    titles = {line.strip() for line in _lines(listed)}
    for where, row in _csv(file, refuse_uneven=False):
        if missing := {"headline", "title", "text"} - set(row):
            raise InputError(f"{where}: no column {sorted(missing)[0]!r}: {WIKIHOW} has headline, title and text")
        summary, text = (row[column].replace("\r\n", "\n").strip() for column in ("headline", "text"))
        if len(summary) >= SUMMARY_SHARE * len(text) or row["title"].strip().replace(" ", "") not in titles:
            continue
        summary, text = summary.replace(".,", "."), re.sub(r"[.]+[\n]+[,]", ".\n", text)
        if summary.strip():
            yield where, {"title": row["title"].strip(), "text": text, "summary": summary}


def _documents(rows: Iterator[tuple[str, dict]], split: str) -> Iterator[TextDocument]:
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        pair = next((columns for columns in COLUMNS if set(columns) <= set(row)), None)
        if pair is None:
            wanted = " or ".join(" and ".join(columns) for columns in COLUMNS)
            raise InputError(f"{where}: columns {', '.join(map(str, row))}: one pair of {wanted} is needed")
        text, summary = (_text(row[column], where, column, first=column in LISTS_OF_SUMMARIES) for column in pair)
        identity = str(row.get("id") or f"{split}-{number:06d}")
        if identity in seen:
            raise InputError(f"{where}: id {identity!r} was there before, at {seen[identity]}")
        seen[identity] = where
        paragraphs = tuple(line.strip() for line in text.splitlines() if line.strip())
        lines = tuple(line.strip() for line in summary.splitlines() if line.strip())
        yield TextDocument(identity, str(row.get("title") or ""), paragraphs, lines)


def _text(value, where: str, column: str, first: bool) -> str:
    """A text, or a list of sentences as one; of a list of summaries the first."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = (value[0] if value else "") if first else " ".join(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {column} is {value!r:.40}, and should be a text that is not empty")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # JSON can say it, UTF-8 cannot
        raise InputError(f"{where}: {column} holds half of a character (a lone surrogate): write the character itself")
    return value
