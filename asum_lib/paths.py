"""Where things lie: the study's own folder, its committed results and checkpoints, and the cache of what is made on demand."""

import os
from pathlib import Path

from asum_lib.errors import InputError

REPOSITORY = Path(os.environ.get("ASUM_HOME") or Path(__file__).resolve().parent.parent)
RESULTS = REPOSITORY / "results"
CHECKPOINTS = REPOSITORY / "checkpoints"
NOTEBOOKS = REPOSITORY / "notebooks"


def check_home() -> None:
    """`InputError` where `$ASUM_HOME` names no folder: every table would seem to be missing."""
    if not REPOSITORY.is_dir():
        raise InputError(f"ASUM_HOME {readable(REPOSITORY)}: no such folder: give the study's own, or unset it")


def cache() -> Path:
    """Folder for generated corpora and features: `$ASUM_CACHE`, or `asum` in the user's cache folder."""
    if given := os.environ.get("ASUM_CACHE"):
        return expanded(given, "ASUM_CACHE")
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ASUM_CACHE") / "asum"


def expanded(path: str | Path, variable: str = "HOME") -> Path:
    """`path` with the user's home folder for a leading `~`.

    Raises InputError where there is no such user, or a container knows none; `variable` is what to set then.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: no home folder is known for it: set {variable} to a folder") from None


def readable(path) -> str:
    """A path as one line of text: bytes that are no UTF-8, and control characters, as escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
