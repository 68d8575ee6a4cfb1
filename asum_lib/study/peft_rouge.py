"""What `notebooks/peft_rouge.ipynb` calls: a text model adapted to a corpus in several ways, and the search for their learning rates."""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import choose
from asum_lib.paths import RESULTS
from asum_lib.study.cells import as_given
from asum_lib.study.parameters import checked, of_notebook
from asum_lib.study.records import Record
from asum_lib.study.text_cells import (
    EPOCHS,
    EXTRACTIVE,
    MODELS,
    RANK,
    SYSTEMS,
    TARGETS,
    make_text_cell,
    make_text_row,
    planned_search,
    planned_text,
    table_of,
)

NOTEBOOK = "notebooks/peft_rouge.ipynb"


@dataclass(frozen=True)
class Row:
    """The measured cells of one corpus and model, extractive systems first: parallel tuples of record paths and records."""

    corpus: str
    model: str
    scale: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


@checked
def run(
    corpus: str = "howto-text",
    model: str = "t5",
    methods: list[str] = ("none", "full", "lora", "adalora"),
    ranks: list[int] = (RANK,),
    precisions: list[str] = ("fp32",),
    targets: list[str] = (TARGETS[0],),
    seeds: list[int] = (0,),
    epochs: int = EPOCHS,
    learning_rates: list[float] = (),
    scale: str = "mini",
    language: str = "",
    checkpoint: str = "",
    limit: int = 0,
    search: bool = False,
    grid: bool = False,
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) every cell of the row and return it; progress goes to stderr.

    Empty `learning_rates` means the one chosen on dev. `limit` cuts every split to its first documents (0: all of them).
    `search` measures on dev, in the table from which learning rates are chosen. `grid` measures every planned cell of the corpus
    and model, the search included, whatever the lists say. `notebook` is the one that asks, None without one.
    """
    from asum_lib.models.loading import note
    from asum_lib.study.text_run import run_text_cells

    lists = {"methods": methods, "ranks": ranks, "precisions": precisions, "targets": targets, "seeds": seeds}
    fixed = {"scale": scale, "language": language or None, "search": search, "split": "dev" if search else "test"}
    if checkpoint:  # its own name in the records, and with random weights a table of its own
        fixed |= {"size": as_given(checkpoint), "format_check": bool(note(checkpoint))}
    if grid:
        choose("text model", model, MODELS)
        cells = [cell for cell in planned_text(table_of(corpus, scale), scale) if cell.corpus == corpus and cell.model in (model, *SYSTEMS)]
    elif model in EXTRACTIVE:
        cells = [make_text_cell(corpus, model, **fixed)]
    else:
        cells = make_text_row(corpus, model, **lists, learning_rates=learning_rates or [None], epochs=epochs, **fixed)
        if not search:
            cells = [*(make_text_cell(corpus, system, **fixed) for system in SYSTEMS), *cells]
    options = {"checkpoint": checkpoint or None, "language": language or None, "limit": limit or None}
    results = Path(results_dir) if results_dir else RESULTS
    if grid:  # whose learning rates are chosen by the search
        searched = [cell for cell in planned_search(scale) if (cell.corpus, cell.model) == (corpus, model)]
        run_text_cells(searched, results=results, notebook=notebook, **options)
    paths, found = zip(*run_text_cells(cells, results=results, notebook=notebook, **options), strict=True)
    return Row(corpus, model, scale, paths, found)


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)
