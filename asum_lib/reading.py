"""JSON, YAML and packed text from a person or another program: bounded in size and depth, and one line where it is not so.

A device or a pipe in the place of a file would be read for ever, a small packed file can hold gigabytes, and nesting or
aliases can keep a parser busy for hours. `InputError` names the file and what is wrong with it; the caller says what its
content should be.
"""

import json
import os
import stat
import zlib
from pathlib import Path

from asum_lib.errors import InputError

MOST_BYTES = 64 * 2**20  # of a file that is read whole
MOST_UNPACKED_BYTES = 256 * 2**20
MOST_YAML_BYTES = 2**20  # its parser takes seconds for each
MOST_FILES = 100_000
DEPTH = 64  # of objects and lists in each other
MOST_NODES = 200_000  # of YAML, with its aliases written out


def read_bytes(path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file of at most `most` bytes; `InputError` for anything else."""
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not wait
        try:
            mode = os.fstat(descriptor).st_mode
            content = _read(descriptor, most + 1) if stat.S_ISREG(mode) else None
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"{str(path)!a} is no path of a file") from None
    if content is None:
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise InputError(f"{path}: {what}, where a file should be")
    if len(content) > most:
        raise InputError(f"{path}: larger than {most / 1e6:,.0f} MB, which is more than is read of such a file")
    return content


def read_text(path, most: int = MOST_BYTES) -> str:
    """The text of a regular file in UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}: save it as UTF-8") from None


def read_json(path, most: int = MOST_BYTES):
    """The value of a JSON file."""
    return json_of(read_text(path, most), str(path))


def json_of(text: str | bytes, where: str):
    """The value of a JSON text; `where` names it in messages."""
    try:
        value = json.loads(text)
        if _may_be_deep(text) and _too_deep(value):
            raise RecursionError
    except RecursionError:
        raise InputError(f"{where}: more than {DEPTH} objects and lists in each other") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({str(error).splitlines()[0]})") from None
    return value


def read_yaml(path, most: int = MOST_YAML_BYTES):
    """The value of a YAML file; an error of its syntax is raised as PyYAML has it, for the caller to put in words."""
    import yaml

    text = read_text(path, most)
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _size(root, {}) > MOST_NODES:
            raise InputError(f"{path}: its aliases stand for more than {MOST_NODES:,} values")
        return loader.construct_document(root)
    except RecursionError:
        raise InputError(f"{path}: more than {DEPTH} mappings and lists in each other") from None
    except (yaml.YAMLError, InputError):
        raise
    except Exception as error:  # PyYAML's makers of numbers and dates let through whatever int() and date() raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: a value is not what YAML takes it for ({reason[:80]}): put it in quotes") from None
    finally:
        loader.dispose()


def unpack(packed: bytes, where: str, most: int = MOST_UNPACKED_BYTES) -> bytes:
    """What a gzip file holds, of at most `most` bytes."""
    parts, left = [], most + 1
    try:
        while packed:  # a file may be several, one after the other
            part = zlib.decompressobj(wbits=31)
            parts.append(part.decompress(packed, left))
            left -= len(parts[-1])
            if left <= 0:
                raise InputError(f"{where}: unpacked it is larger than {most / 1e6:,.0f} MB, more than is read of it")
            if not part.eof:
                raise InputError(f"{where}: cut off: its packed content does not end")
            packed = part.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise InputError(f"{where}: not a whole gzip file ({error})") from None
    return b"".join(parts)


def files_below(folder: Path) -> list[Path]:
    """The files in a folder and in those inside it, by name; `InputError` where they are more than any corpus has."""
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(root, name) for name in names]
        if len(found) > MOST_FILES:
            raise InputError(f"{folder}: more than {MOST_FILES:,} files lie in it: name the folder of the corpus alone")
    return sorted(found)


def _read(descriptor: int, most: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _may_be_deep(text: str | bytes) -> bool:
    """Whether a text has the brackets for it: the samples of a table are hundreds of thousands of flat lines."""
    opening = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    return sum(map(text.count, opening)) > DEPTH


def _too_deep(value) -> bool:
    """Whether objects and lists stand in each other more than `DEPTH` deep."""
    level = [value]
    for _ in range(DEPTH):
        inside = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _size(node, known: dict, depth: int = 0) -> int:
    """Values below a YAML node with its aliases written out; `RecursionError` where they are too deep, or hold themselves."""
    if depth > DEPTH:
        raise RecursionError
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # of one that holds itself
        inside = node.value if isinstance(node.value, list) else []
        children = [child for item in inside for child in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(child, known, depth + 1) for child in children)
    return known[id(node)]
