"""Files that are written whole, and never over what someone else made.

A file is written beside its place under a name of its own and then takes its place in one step, so that a kill or a full disk
leaves the old one or the new one, never a part. What a command is asked to write for a person (`--out`) goes where nothing is,
unless it was told to replace what is there.
"""

import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asum_lib.errors import InputError

LEFT_S = 86_400  # nothing takes a day to write: what lies aside that long was left by a killed run


def write_whole(path: Path, content: bytes, replace: bool = True) -> None:
    """Write a file in one step; without `replace`, `InputError` where there is one already."""
    path = Path(path)
    with aside(path) as written:
        fill(written, content)
        put(written, path, replace)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside `path` that no other process uses, to be written and then `put` in place; gone when the block ends."""
    path = Path(path)
    start = f".{path.name[:30]}."
    _remove_left(path.parent, start)
    written = path.with_name(f"{start}{secrets.token_hex(6)}.tmp")
    try:
        with named(path, written):
            yield written
    finally:
        with suppress(OSError):
            written.unlink(missing_ok=True)


@contextmanager
def named(path: Path, written: Path | None = None) -> Iterator[None]:
    """Errors of the system in the block that name no file, or `written`, name `path`, which is what a person knows."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(written):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def check_writable(folder: Path) -> None:
    """Make a folder where there is none; `OSError` where no file can be written into it, to be asked before the work for it is done."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def fill(written: Path, content: bytes) -> None:
    """Write a file and wait until it is on disk."""
    with open(written, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def put(written: Path, path: Path, replace: bool = True) -> None:
    """Move a finished file to its place; without `replace`, `InputError` where there is one already."""
    if replace:
        os.replace(written, path)
        return
    try:
        os.link(written, path)  # the one step that fails where there is a file
    except FileExistsError:
        refuse_taken([path])
    except OSError:  # a file system without links
        refuse_taken([path])
        os.replace(written, path)


def refuse_taken(paths: Iterable[Path], replace: bool = False) -> None:
    """Raise `InputError` that names the first of `paths` where something is; nothing with `replace`, but for a folder."""
    taken = [path for path in map(Path, paths) if path.is_dir() or (not replace and os.path.lexists(path))]
    if not taken:
        return
    more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
    if taken[0].is_dir():
        raise InputError(f"{taken[0]}{more} is a folder, and a file is to be written there: give another name")
    raise InputError(f"{taken[0]}{more} is there already and stays as it is: give another name, or --force to replace it")


def refuse_filled(folder: Path, replace: bool = False) -> None:
    """Raise `InputError` where `folder` cannot be made, or has anything in it and is not to be written over."""
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a folder is to be made there: give another name")
    first = None if replace or not folder.is_dir() else next(iter(sorted(folder.iterdir())), None)
    if first:
        raise InputError(
            f"folder {folder} is not empty, it has {first.name}: give another one, or --force to replace the files of the same names in it"
        )


@contextmanager
def folder_aside(folder: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to be filled, whose files then go to `folder`, each whole; nothing goes there where the block raises.

    Without `replace`, `InputError` where `folder` has anything in it. Files of other names that are there stay.
    """
    folder = Path(folder)
    refuse_filled(folder, replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = f".{folder.name[:30]}."
    _remove_left(folder.parent, start)
    with tempfile.TemporaryDirectory(prefix=start, suffix=".tmp", dir=folder.parent) as work:
        made = Path(work) / folder.name
        made.mkdir()
        yield made
        refuse_filled(folder, replace)
        for path in sorted(made.rglob("*")):
            if path.is_file():
                place = folder / path.relative_to(made)
                place.parent.mkdir(parents=True, exist_ok=True)
                put(path, place, replace)


def _remove_left(folder: Path, start: str) -> None:
    """Remove what killed runs left aside in `folder`, once it is a day old."""
    for left in folder.glob(f"{glob.escape(start)}*.tmp"):
        try:
            if time.time() - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        except OSError:  # another process removed it
            continue
