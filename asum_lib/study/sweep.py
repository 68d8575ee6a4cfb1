"""Going through cells: what has a fresh record is read, the others are measured one by one, each written before the next begins.

What a cell is and how it is measured is for `run` (speech) and `text_run` (summaries).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asum_lib.study import records
from asum_lib.training import processes

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """One cell: its label, where its record lies, the record if it is there and fresh, and how to measure and write it."""

    label: str
    path: Path
    found: records.Record | None
    measure: Callable[[], records.Record]


def progress_of(progress: Progress | None) -> Progress:
    """Lines on stderr where nothing is given; silence in every process but the main one."""
    if not processes.is_main():
        return silent
    return progress or (lambda line: print(line, file=sys.stderr, flush=True))


def silent(line: str) -> None:
    """A progress that says nothing."""


def sweep(tasks: Sequence[Task], said: Callable[[records.Record], str], progress: Progress) -> list[tuple[Path, records.Record]]:
    """(path, record) of every task, in order; `said` puts the value of a good record in words.

    Raises `InputError` before anything is measured where a record could not be written.
    """
    for folder in {task.path.parent for task in tasks if not task.found}:
        records.check_writable(folder)
    processes.barrier()  # every process has seen which records are there before the first is written
    result = []
    for number, task in enumerate(tasks, start=1):
        label, found = f"[{number}/{len(tasks)}] {task.label}", task.found
        if found:
            progress(f"{label}: already measured, {said(found)}")
        else:
            progress(f"{label}: measuring")
            found = task.measure()
            outcome = said(found) if found.status == "ok" else f"failed: {found.reason}"
            progress(f"{label}: {outcome} ({sum(t or 0 for t in found.time_s.values()):.0f} s)")
        result.append((task.path, found))
    return result
