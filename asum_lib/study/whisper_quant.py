"""What `notebooks/whisper_quant.ipynb` calls: one row of the Whisper table, i.e. all configurations of one size."""

import sys
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study.cells import EPOCHS, PAPER_RATE, SCALES, as_given, make_row
from asum_lib.study.parameters import checked, of_notebook
from asum_lib.study.records import Record

NOTEBOOK = "notebooks/whisper_quant.ipynb"


@dataclass(frozen=True)
class Row:
    """The measured cells of one size: parallel tuples of record paths and records."""

    size: str
    scale: str
    corpus: str
    paths: tuple[Path, ...]
    records: tuple[Record, ...]


@checked
def run(
    size: str = "medium",
    scale: str = "mini",
    precisions: list[str] = ("fp32", "int8", "int4"),
    methods: list[str] = ("none", "adalora", "full"),
    rates: list[str | int] = (PAPER_RATE,),
    seeds: list[int] = (0,),
    epochs: int = EPOCHS,
    corpus: str = "",
    model: str = "",
    results_dir: str = "",
    language: str = "",
    normalizer: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) every cell of the row and return it; progress goes to stderr.

    `corpus` is the scale's own by default (howto, or LibriSpeech); `model`, a checkpoint or an adapter, replaces the size's own
    checkpoint and names the records; `results_dir` defaults to the study's own folder. `language` is what a multilingual Whisper
    is told to write, English by default; `normalizer` is that of the WER, by default the language's or the corpus's.
    `notebook` is the one that asks, None without one.
    """
    from asum_lib.models import adapted
    from asum_lib.models.loading import note, source
    from asum_lib.study.run import run_cells

    own = as_given(model) if model else "whisper"
    if model and (name := Path(own).name) in ("", "whisper"):
        raise InputError(f"model {model!r}: its name {name!r} would be taken for the study's own in the records: rename the folder")
    if model:
        size = _size_of(adapted.base_of(model), size, scale)
    fixed = {"rates": rates, "seeds": seeds, "scale": scale, "corpus": corpus, "epochs": epochs, "model": own}
    fixed |= {"language": language, "normalizer": normalizer}
    where = source(scale, size, model or None)
    if adapted.is_adapter(where) and set(methods) != {"none"}:
        raise InputError(f"methods {', '.join(methods)}: {model} is an adapter, which is measured as it is: choose none")
    if line := adapted.unchecked(where):
        print(line, file=sys.stderr)
    cells = make_row(size, precisions, methods, **fixed)
    if note(adapted.base_of(where)):  # random weights, and be it under the name of a published checkpoint
        cells = make_row(size, precisions, methods, **fixed, format_check=True)
    results = Path(results_dir) if results_dir else RESULTS
    measured = run_cells(cells, model=model or None, results=results, notebook=notebook)
    paths, found = zip(*measured, strict=True)
    return Row(size, scale, cells[0].corpus, paths, found)


def _size_of(model: str, given: str, scale: str) -> str:
    """The size that a checkpoint has by its config.json; the one that was given where that fits, or where none does."""
    from asum_lib.models.loading import sizes_of

    sizes = sizes_of(model, choose("scale", scale, SCALES))
    found = given if given in sizes else next(iter(sizes), None)
    if found is None:
        how = f"its learning rate and batch are those of {given}"
        print(f"size {given}: by its config.json {model} is none of the known sizes; {how}", file=sys.stderr)
    elif found != given:
        print(f"size {given}: by its config.json {model} is a {found}, and is recorded as that", file=sys.stderr)
    return found or given


def rescore(row: Row, position: int = 0) -> dict:
    """A record's test transcripts scored again by the `evaluate` metric, beside the value that the record holds."""
    from asum_lib.measure.wer import wer_metric
    from asum_lib.study.records import read_samples

    record = row.records[position]
    test = [sample for sample in read_samples(row.paths[position]) if sample["split"] == record.cell["split"]]
    metric = wer_metric(record.config["normalizer"])
    again = metric.compute(references=[s["reference"] for s in test], predictions=[s["hypothesis"] for s in test])
    return {"record": row.paths[position].name, "recorded wer_pct": record.metrics["wer_pct"].value, **again}


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)
