"""What `notebooks/video_frames.ipynb` calls: the end-to-end model with and without frames of the talks, in quiet and in noise."""

from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study.e2e_summarization import Row
from asum_lib.study.execute import parameters_of
from asum_lib.study.talk_cells import IN_ROOMS, ROOMS, VIDEO, TalkCell, make_talk_cell, planned_talks

NOTEBOOK = "notebooks/video_frames.ipynb"


def run(systems: list = IN_ROOMS, corpora: list = ROOMS, seeds: list = (0,), grid: bool = False, results_dir: str = "") -> Row:
    """Measure (or read, where fresh) the cells and return them; progress goes to stderr.

    `grid` measures every planned cell, whatever the lists say.
    """
    return measure(dict(locals()), NOTEBOOK)


def measure(given: dict, notebook: str | None = None) -> Row:
    """`run` with its arguments as a dictionary; `notebook` is the one that asks, None without one."""
    from asum_lib.study.talk_run import run_talk_cells

    results = Path(given["results_dir"]) if given.get("results_dir") else RESULTS
    paths, found = zip(*run_talk_cells(cells_of(given), results=results, notebook=notebook), strict=True)
    return Row(VIDEO, paths, found)


def cells_of(given: dict) -> list[TalkCell]:
    """The cells that the parameters of `run` ask for; raises `InputError` for what there is not."""
    if given["grid"]:
        return planned_talks(VIDEO)
    for name, allowed in (("systems", ("cascade", *IN_ROOMS)), ("corpora", ROOMS), ("seeds", None)):
        if isinstance(given[name], str) or not list(given[name]):
            raise InputError(f"{name} {given[name]!r} is not a list with at least one entry")
        for one in given[name] if allowed else ():
            choose(name, one, allowed)
    return [
        make_talk_cell(system, table=VIDEO, corpus=corpus, seed=seed)
        for seed in given["seeds"]
        for system in given["systems"]
        for corpus in given["corpora"]
    ]


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `execute.parameters_of`."""
    return parameters_of(run, namespace)
