"""What `notebooks/e2e_summarization.ipynb` calls: systems that turn speech into a summary, on one table."""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study.execute import parameters_of
from asum_lib.study.records import Record
from asum_lib.study.talk_cells import COST, E2E, SIZE, SYSTEMS, TABLES, UNTRAINED, VIDEO, TalkCell, make_talk_cell, planned_talks

NOTEBOOK = "notebooks/e2e_summarization.ipynb"


@dataclass(frozen=True)
class Row:
    """The measured cells of a run: parallel tuples of record paths and records."""

    table: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


def run(
    table: str = E2E,
    systems: list = (*UNTRAINED, "reference", "cascade", "e2e"),
    sizes: list = (SIZE,),
    precisions: list = ("int8",),
    seeds: list = (0,),
    grid: bool = False,
    results_dir: str = "",
) -> Row:
    """Measure (or read, where fresh) the cells and return them; progress goes to stderr.

    `sizes` and `precisions` are those of the Whisper that a cascade hears with; the end-to-end model has its own. `grid` measures every
    planned cell of the table, whatever the lists say.
    """
    return measure(dict(locals()), NOTEBOOK)


def measure(given: dict, notebook: str | None = None) -> Row:
    """`run` with its arguments as a dictionary; `notebook` is the one that asks, None without one."""
    from asum_lib.study.talk_run import run_talk_cells

    results = Path(given["results_dir"]) if given.get("results_dir") else RESULTS
    paths, found = zip(*run_talk_cells(cells_of(given), results=results, notebook=notebook), strict=True)
    return Row(given["table"], paths, found)


def cells_of(given: dict) -> list[TalkCell]:
    """The cells that the parameters of `run` ask for; raises `InputError` for what there is not."""
    table = choose("table", given["table"], [name for name in TABLES if name != VIDEO])
    if given["grid"]:
        return planned_talks(table)
    for name in ("systems", "sizes", "precisions", "seeds"):
        if isinstance(given[name], str) or not list(given[name]):
            raise InputError(f"{name} {given[name]!r} is not a list with at least one entry")
    if table == COST:
        return [make_talk_cell("both", table=table, seed=seed) for seed in given["seeds"]]
    cells = []
    for system in given["systems"]:
        choose("system", system, SYSTEMS)
        hearing = [(size, precision) for size in given["sizes"] for precision in given["precisions"]] if system == "cascade" else [(SIZE, "int8")]
        corpora = dict.fromkeys(cell.corpus for cell in planned_talks(table))
        cells += [
            make_talk_cell(system, size, precision, table=table, corpus=corpus, seed=seed)
            for corpus in corpora
            for size, precision in hearing
            for seed in given["seeds"]
        ]
    return list(dict.fromkeys(cells))


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `execute.parameters_of`."""
    return parameters_of(run, namespace)
