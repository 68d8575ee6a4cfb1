"""What `notebooks/e2e_summarization.ipynb` calls: systems that turn speech into a summary, on one table."""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import choose
from asum_lib.paths import RESULTS
from asum_lib.study.parameters import checked, of_notebook
from asum_lib.study.records import Record
from asum_lib.study.talk_cells import COST, E2E, SIZE, SYSTEMS, TABLES, UNTRAINED, VIDEO, TalkCell, make_talk_cell, planned_talks

NOTEBOOK = "notebooks/e2e_summarization.ipynb"


@dataclass(frozen=True)
class Row:
    """The measured cells of a run: parallel tuples of record paths and records."""

    table: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


@checked
def run(
    table: str = E2E,
    systems: list[str] = (*UNTRAINED, "reference", "cascade", "e2e"),
    sizes: list[str] = (SIZE,),
    precisions: list[str] = ("int8",),
    seeds: list[int] = (0,),
    grid: bool = False,
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) the cells and return them; progress goes to stderr.

    `sizes` and `precisions` are those of the Whisper that a cascade hears with; the end-to-end model has its own. `grid` measures every
    planned cell of the table, whatever the lists say. `notebook` is the one that asks, None without one.
    """
    from asum_lib.study.talk_run import run_talk_cells

    cells = cells_of(table, systems, sizes, precisions, seeds, grid)
    results = Path(results_dir) if results_dir else RESULTS
    paths, found = zip(*run_talk_cells(cells, results=results, notebook=notebook), strict=True)
    return Row(table, paths, found)


def cells_of(table: str, systems: list[str], sizes: list[str], precisions: list[str], seeds: list[int], grid: bool) -> list[TalkCell]:
    """The cells that the parameters of `run` ask for; raises `InputError` for what there is not."""
    choose("table", table, [name for name in TABLES if name != VIDEO])
    if grid:
        return planned_talks(table)
    if table == COST:
        return [make_talk_cell("both", table=table, seed=seed) for seed in seeds]
    cells = []
    for system in systems:
        choose("system", system, SYSTEMS)
        heard_by = [(size, precision) for size in sizes for precision in precisions]
        hearing = heard_by if system == "cascade" else [(SIZE, "int8")]
        corpora = dict.fromkeys(cell.corpus for cell in planned_talks(table))
        cells += [
            make_talk_cell(system, size, precision, table=table, corpus=corpus, seed=seed)
            for corpus in corpora
            for size, precision in hearing
            for seed in seeds
        ]
    return list(dict.fromkeys(cells))


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)
