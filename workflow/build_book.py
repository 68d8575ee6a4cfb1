"""Build the book beside the last good one, check it, and only then put it in its place.

    python workflow/build_book.py

Pages, downloads and records are made in `build/book`, from nothing: an incremental build does not see the warnings of the
pages that it skips. A page that raises or runs over its time, a warning, or a fault that the check finds ends it with
status 1 and one line that names the page; `_build`, with the last good book, is then as it was. Called by the Snakefile.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BOOK = "_build"  # what readers open, and what is replaced as a whole
STAGING = "build/book"  # where the next one is made: a folder that has a `_build` of its own
LAST = "build/book.last"  # the former book while the new one takes its place
NOISE = "without encryption"  # said by every kernel of a notebook
FAILED_PAGE = re.compile(r"^myst_nb\S*ExecutionError: (?P<page>.+)$")
ERROR = re.compile(r"^(?:\w+\.)*(?P<error>\w+(?:Error|Exception|Interrupt)):(?: +(?P<text>.+))?$")
FAULT = re.compile(r"^\S+\.(?:md|ipynb):(?:\d+:)? (?:WARNING|ERROR|CRITICAL): |^(?:\w+/)+\w+: |^index\.html: ")  # Sphinx's, and the check's
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(Exception):
    """The new book is not whole; the message says in one line which page failed, and why."""


def steps() -> list[list[str]]:
    """The commands that make a whole book in the staging folder, in order; each must end with status 0."""
    html, python = f"{STAGING}/{BOOK}/html", sys.executable
    jupyter_book = str(Path(python).with_name("jupyter-book"))
    build = [jupyter_book, "build", ".", "--path-output", STAGING, "--all", "--warningiserror", "--keep-going"]
    # The records lie beside the pages that link to them.
    return [build, ["cp", "-R", "results", f"{html}/"], [python, ".ci/check_book.py", html]]


def build(root: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run `commands` in `root`, then swap what they made in `STAGING` for `BOOK`; raises `BuildError`, and then nothing is swapped."""
    _restore(root)
    shutil.rmtree(root / STAGING, ignore_errors=True)
    (root / STAGING).mkdir(parents=True)
    for command in commands:
        status, lines = _run(root, command)
        if status:
            raise BuildError(fault(lines) or f"{Path(command[0]).name} ended with status {status}")
    if not (root / STAGING / BOOK / "html" / "index.html").is_file():
        raise BuildError("no front page was built")
    _swap(root)


def fault(lines: Sequence[str]) -> str | None:
    """Which page failed and why, from what a step of the build said; None where it named nothing."""
    failed, error, faults = None, "", []
    for line in map(str.rstrip, lines):
        if found := FAILED_PAGE.match(line):
            failed = f"{found['page']} failed: {error or 'no reason was given'}"
        elif found := ERROR.match(line):
            error = f"{found['error']}: {found['text']}" if found["text"] else error or found["error"]
        elif found := FAULT.match(line):
            faults.append(line)
    if faults and not failed:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return faults[0] + more
    return failed or error or None


def _run(root: Path, command: Sequence[str]) -> tuple[int, list[str]]:
    """(exit status, all lines) of a command, which are passed on as they come."""
    lines = []
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child:
        for line in child.stdout:
            if NOISE not in line:
                print(line, end="", flush=True)
                lines.append(COLOURS.sub("", line).replace(f"{root}/", ""))
    return child.returncode, lines


def _swap(root: Path) -> None:
    """The staged book takes the place of the last one: two renames, and a kill between them is mended by the next build."""
    shutil.rmtree(root / LAST, ignore_errors=True)
    if (root / BOOK).exists():
        (root / BOOK).rename(root / LAST)
    (root / STAGING / BOOK).rename(root / BOOK)
    shutil.rmtree(root / LAST, ignore_errors=True)


def _restore(root: Path) -> None:
    if (root / LAST).exists() and not (root / BOOK).exists():
        (root / LAST).rename(root / BOOK)


def main() -> int:
    kept = "the last good book stays in _build/html" if (REPOSITORY / BOOK / "html").is_dir() else "there is no earlier book"
    try:
        build(REPOSITORY, steps())
    except BuildError as error:
        print(f"the book was not built: {error}; {kept}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
