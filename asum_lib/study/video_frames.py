"""What `notebooks/video_frames.ipynb` calls: the end-to-end model with and without frames of the talks, in quiet and in noise."""

from pathlib import Path

from asum_lib.errors import choose
from asum_lib.paths import RESULTS
from asum_lib.study.e2e_summarization import Row
from asum_lib.study.parameters import checked, of_notebook
from asum_lib.study.talk_cells import IN_ROOMS, ROOMS, VIDEO, TalkCell, make_talk_cell, planned_talks

NOTEBOOK = "notebooks/video_frames.ipynb"


@checked
def run(
    systems: list[str] = IN_ROOMS,
    corpora: list[str] = ROOMS,
    seeds: list[int] = (0,),
    grid: bool = False,
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) the cells and return them; progress goes to stderr.

    `grid` measures every planned cell, whatever the lists say. `notebook` is the one that asks, None without one.
    """
    from asum_lib.study.talk_run import run_talk_cells

    cells = cells_of(systems, corpora, seeds, grid)
    results = Path(results_dir) if results_dir else RESULTS
    paths, found = zip(*run_talk_cells(cells, results=results, notebook=notebook), strict=True)
    return Row(VIDEO, paths, found)


def cells_of(systems: list[str], corpora: list[str], seeds: list[int], grid: bool) -> list[TalkCell]:
    """The cells that the parameters of `run` ask for; raises `InputError` for what there is not."""
    if grid:
        return planned_talks(VIDEO)
    for name, given, allowed in (("systems", systems, ("cascade", *IN_ROOMS)), ("corpora", corpora, ROOMS)):
        for one in given:
            choose(name, one, allowed)
    return [make_talk_cell(system, table=VIDEO, corpus=corpus, seed=seed) for seed in seeds for system in systems for corpus in corpora]


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)
