"""The Hugging Face cache on this disk: where a repository's files lie, and what is written, linked and replaced there.

`models--owner--name/blobs/HASH` holds the contents, each named by its hash, `snapshots/COMMIT/PATH` the links to them, and
`refs/BRANCH` the commit of a branch. Other programs share the folder. What a Hub says becomes part of a path only as a `File`
or by `commit_of`, which take hashes and names within a folder and nothing else; nothing is written through a link that leaves the
cache; and of what lies there only blobs that do not have the content of their name are replaced, and links to blobs.
What a repository is, and which of its files are wanted, is `asum_lib.hub`.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from asum_lib import paths

COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGITS = {"sha256": 64, "git_sha1": 40}  # of a file's hash
SPARE_BYTES = 2**24  # huggingface_hub writes in pieces of 10 MiB, and sees at the end that there were too many


class HubError(Exception):
    """A fetch that failed through no mistake of the user: one line that names the repository and what to do."""


@dataclass(frozen=True)
class File:
    """A file of a repository; `size_bytes`, `sha256` (large files) and `git_sha1` (small ones) are None where unknown.

    Raises ValueError for a path that could leave its folder, and for what is no size or no hash.
    """

    path: str
    size_bytes: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None

    def __post_init__(self):
        if not is_inner_path(self.path):
            raise ValueError(f"the file name {self.path!r} is none within a repository")
        if self.size_bytes is not None and (type(self.size_bytes) is not int or self.size_bytes < 0):
            raise ValueError(f"{self.path} has the size {self.size_bytes!r}")
        for name, digits in _DIGITS.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value)):
                raise ValueError(f"{self.path} has the {name} {value!r}, not {digits} hexadecimal digits")

    @property
    def digest(self) -> str | None:
        """The name of its blob."""
        return self.sha256 or self.git_sha1


def is_inner_path(path: object) -> bool:
    """Whether `path` names a file below a folder on any system: relative, without `..`, backslash or control character."""
    if not isinstance(path, str) or not path or "\\" in path or not path.isprintable():
        return False
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts)) and not PureWindowsPath(path).drive and PurePosixPath(path).as_posix() == path


def commit_of(value: object) -> str:
    """`value` if it is a commit hash, 40 hexadecimal digits; raises ValueError."""
    if isinstance(value, str) and COMMIT.fullmatch(value):
        return value
    raise ValueError(f"the commit is {value!r}, not 40 hexadecimal digits")


def folder() -> Path:
    """Folder of the Hugging Face cache. The rules are those of huggingface_hub, read now and not at its import."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    home = os.environ.get("HF_HOME", default)
    cache = os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return paths.expanded(os.path.expandvars(cache), "HF_HOME")


def size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def fault(path: Path, file: File) -> str | None:
    """What is wrong with the file at `path`, in a clause that begins with the file's name; None if nothing is."""
    if not path.is_file():
        return f"{file.path} is missing"
    size_bytes = path.stat().st_size
    if file.size_bytes not in (None, size_bytes):
        return f"{file.path} has {size_bytes:,} bytes, should have {file.size_bytes:,}"
    name = Path(os.readlink(path)).name if path.is_symlink() else ""  # the blob's: its content's hash
    sha256 = file.sha256 or (name if len(name) == 64 else None)
    git_sha1 = file.git_sha1 or (name if len(name) == 40 else None)
    if sha256 and (found := _digest(path, hashlib.sha256)) != sha256:
        return f"{file.path} has sha256 {found}, should have {sha256}"
    if not sha256 and git_sha1 and (found := _digest(path, lambda: hashlib.sha1(b"blob %d\0" % size_bytes))) != git_sha1:
        return f"{file.path} has git sha1 {found}, should have {git_sha1}"
    return None


def _digest(path: Path, begin: Callable) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, begin).hexdigest()


def foreign(storage: Path, link: Path) -> str | None:
    """Why the file at `link` in a snapshot of `storage` may not be replaced: it is not a link to a blob, which a fetch makes; else None."""
    if link.is_symlink():
        target = link.parent / os.readlink(link)
        if Path(os.path.realpath(target.parent)) == (storage / "blobs").resolve():
            return None
        return f"it is a link to {target}, which no fetch made: move it away, and fetch again"
    return "it is no link to the cache's own copy, so no fetch made it: move it away, and fetch again" if link.exists() else None


def write_ref(storage: Path, name: str, commit: str) -> None:
    """Keep the commit of a branch, so that the cache, copied elsewhere, says it too."""
    ref = _inside(storage / "refs" / name)
    ref.parent.mkdir(parents=True, exist_ok=True)
    new = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
    new.write_text(commit)
    new.replace(ref)


def read_ref(storage: Path, name: str) -> str | None:
    """The commit of a branch as the cache has it; None where it has none, or something that is no commit."""
    ref = storage / "refs" / name
    try:
        return commit_of(ref.read_text().strip()) if ref.is_file() else None
    except (OSError, ValueError):
        return None


def begun(storage: Path, file: File) -> int:
    """Bytes of `file` that an earlier fetch, cut off, has left."""
    return max((size(part) for part in (storage / "blobs").glob(f"{file.digest}*.incomplete")), default=0)


def store(storage: Path, commit: str, file: File, download: Callable) -> str | None:
    """Bring `file` into the cache: its blob, unless that is there and whole, and the link to it in the snapshot of `commit`.

    `download(stream)` completes a file opened to append to. The content is held against the hash before it takes its place;
    returns what is wrong with it, which is then removed. Raises HubError, and OSError as the disk does.
    """
    from huggingface_hub.utils import WeakFileLock

    if not file.digest:
        raise HubError("no hash of it is known: nothing is downloaded")
    link = storage / "snapshots" / commit / file.path
    blob = storage / "blobs" / file.digest
    lock = folder() / ".locks" / storage.name / f"{file.digest}.lock"  # the one that huggingface_hub takes for this file
    for place in (link, blob, lock):
        _inside(place.parent).mkdir(parents=True, exist_ok=True)
    if reason := foreign(storage, link):
        raise HubError(reason)
    with WeakFileLock(_inside(lock)):
        if blob.is_symlink():
            raise HubError(f"{blob} is a link, which no fetch made: move it away, and fetch again")
        if fault(blob, file):
            part = _part(blob, file.size_bytes)
            try:
                with _Bounded(part, file.size_bytes) as stream:
                    download(stream)
            except OSError as error:
                # Not cut off, but other than announced (416: shorter than the part), or the disk is full: of no use later.
                status = getattr(getattr(error, "response", None), "status_code", 416)
                if status == 416 and not isinstance(error, (ConnectionError, TimeoutError)):
                    part.unlink(missing_ok=True)
                raise
            if wrong := fault(part, file):
                part.unlink()
                return wrong
            part.replace(blob)
    _link(link, blob)
    return None


class _Bounded:
    """A file to append to that ends soon after the bytes it is to have: a server may send without end."""

    def __init__(self, path: Path, size_bytes: int):
        self.file, self.most = path.open("ab"), size_bytes + SPARE_BYTES

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def write(self, piece: bytes) -> int:
        if self.file.tell() + len(piece) > self.most:
            raise OSError(f"the Hub sends more than {self.most:,} bytes")
        return self.file.write(piece)


def _inside(path: Path) -> Path:
    """`path`, unless a link leads it out of the cache. Raises HubError."""
    if path.resolve().is_relative_to(folder().resolve()):
        return path
    raise HubError(f"{path} is led out of the cache by a link: nothing is written there; let HF_HUB_CACHE name the folder meant")


def _part(blob: Path, size_bytes: int) -> Path:
    """The unfinished file to go on with: the longest that is there, under one name; others of the same content are removed."""
    kept = blob.with_name(f"{blob.name}.incomplete")
    for part in sorted(blob.parent.glob(f"{blob.name}*.incomplete"), key=size):
        if part.is_file() and not part.is_symlink() and size(part) <= size_bytes:
            part.replace(kept)
        else:
            part.unlink()
    return kept


def _link(link: Path, blob: Path) -> None:
    """A relative link, as huggingface_hub makes it: the cache can be moved."""
    target = os.path.relpath(blob.resolve(), link.parent.resolve())
    if link.is_symlink() and os.readlink(link) == target:
        return
    new = link.with_name(f"{link.name}.{os.getpid()}.tmp")
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(target)
    except OSError:  # a disk without links
        shutil.copyfile(blob, new)
    new.replace(link)
