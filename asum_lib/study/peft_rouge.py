"""What `notebooks/peft_rouge.ipynb` calls: a text model adapted to a corpus in several ways, and the search for their learning rates."""

import inspect
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study.execute import parameters_of
from asum_lib.study.records import Record
from asum_lib.study.text_cells import (
    EPOCHS,
    EXTRACTIVE,
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


def run(
    corpus: str = "howto-text",
    model: str = "t5",
    methods: list = ("none", "full", "lora", "adalora"),
    ranks: list = (RANK,),
    precisions: list = ("fp32",),
    targets: list = (TARGETS[0],),
    seeds: list = (0,),
    epochs: int = EPOCHS,
    learning_rates: list = (),
    scale: str = "mini",
    language: str = "",
    checkpoint: str = "",
    limit: int = 0,
    search: bool = False,
    grid: bool = False,
    results_dir: str = "",
) -> Row:
    """Measure (or read, where fresh) every cell of the row and return it; progress goes to stderr.

    Empty `learning_rates` means the one chosen on dev. `limit` cuts every split to its first documents (0: all of them).
    `search` measures on dev, in the table from which learning rates are chosen. `grid` measures every planned cell of the corpus
    and model, the search included, whatever the lists say.
    """
    return measure(dict(locals()), NOTEBOOK)


def measure(given: dict, notebook: str | None = None) -> Row:
    """`run` with its arguments as a dictionary, some or all; `notebook` is the one that asks, None without one."""
    from asum_lib.models.loading import note
    from asum_lib.study.text_run import run_text_cells

    defaults = {name: parameter.default for name, parameter in inspect.signature(run).parameters.items()}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise InputError(f"unknown parameter {unknown[0]!r}: choose from {', '.join(defaults)}")
    asked = defaults | given
    corpus, scale, model = asked["corpus"], asked["scale"], asked["model"]
    lists = {name: asked[name] for name in ("methods", "ranks", "precisions", "targets", "seeds")}
    fixed = {"scale": scale, "language": asked["language"] or None, "search": asked["search"], "split": "dev" if asked["search"] else "test"}
    if asked["checkpoint"]:  # its own name in the records, and with random weights a table of its own
        fixed |= {"size": Path(asked["checkpoint"]).resolve().name, "format_check": bool(note(asked["checkpoint"]))}
    if asked["grid"]:
        cells = [cell for cell in planned_text(table_of(corpus, scale), scale) if cell.corpus == corpus and cell.model in (model, *SYSTEMS)]
    elif model in EXTRACTIVE:
        cells = [make_text_cell(corpus, model, **fixed)]
    else:
        rates = [_number(rate) for rate in asked["learning_rates"]] or [None]
        cells = make_text_row(corpus, model, **lists, learning_rates=rates, epochs=asked["epochs"], **fixed)
        if not asked["search"]:
            cells = [*(make_text_cell(corpus, system, **fixed) for system in SYSTEMS), *cells]
    options = {"checkpoint": asked["checkpoint"] or None, "language": asked["language"] or None, "limit": asked["limit"] or None}
    results = Path(asked["results_dir"]) if asked["results_dir"] else RESULTS
    if asked["grid"]:  # whose learning rates are chosen by the search
        search = [cell for cell in planned_search(scale) if (cell.corpus, cell.model) == (corpus, model)]
        run_text_cells(search, results=results, notebook=notebook, **options)
    paths, found = zip(*run_text_cells(cells, results=results, notebook=notebook, **options), strict=True)
    return Row(corpus, model, scale, paths, found)


def _number(rate) -> float:
    """A learning rate as it comes from a notebook or, as text, from the command line."""
    try:
        return float(rate)
    except (TypeError, ValueError):
        raise InputError(f"learning rate {rate!r} is not a number") from None


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `execute.parameters_of`."""
    return parameters_of(run, namespace)
