"""What a cluster has to be asked for, and how long the whole study at scale `paper` takes on it.

Two questions, answered from the planned cells alone. `request`: memory, minutes and GPUs of one job, for `workflow/Snakefile`. `estimate`:
seconds of one cell at scale `paper` on a GPU, from its steps and the arithmetic of a step; `schedule`: the same cells on N GPUs.

Nobody has timed this study on a GPU. An estimate is derived: floating-point operations over the part of a card's peak that is assumed to be
reached, or the launches of small operations where these take longer. Assumptions are fields of `Gpu` and `Assumptions`, to be replaced by
who knows better; what a source at hand does not give stays None.

    python -m asum_lib.study.cluster --gpus 1 2 4 8 --price 2.50
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from asum_lib import reading
from asum_lib.corpora import texts
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import fit, memory_footprint, memory_table, tables
from asum_lib.study.cells import Cell
from asum_lib.study.text_cells import SYSTEMS, TABLE_OF, TextCell, planned_text

# --- What a job asks for

PROCESS_BYTES = 15 * 10**8  # a job without its model: the workflow twice, papermill, a kernel with PyTorch and transformers (1.2 GB were seen)
GPU_PROCESS_BYTES = 8 * 10**9  # the same with CUDA's libraries, batches that are made ahead, and a corpus of texts
MARGIN = 1.25  # on bytes
MINUTES_MARGIN = 3  # on measured seconds of another machine, and on derived ones
SHORTEST_MINUTES = 15  # starting, and making features or a corpus anew
UNKNOWN_MINUTES = 24 * 60  # a training goes on from its last epoch if it takes longer
UNMEASURED_S = 600  # of a cell on a CPU that has no record and none like it


@dataclass(frozen=True)
class Request:
    """What one job asks for, in the workflow's names: MB of 10^6 bytes of main memory, minutes, GPUs."""

    mem_mb: int
    runtime: int
    gpu: int


def request(cells: Sequence, attempt: int = 1, results: Path = RESULTS) -> Request:
    """What a job that measures `cells` asks for, one after the other in one process; none: a job without a model.

    `cells` are of one scale, of speech, of text or of memory. Bytes are those of the library's own forecast (`fit`) with the interpreter
    and libraries, minutes those that like cells took (mini) or the estimate (paper), each with a margin. A second `attempt` asks for
    twice as much, a third for three times.
    """
    on_gpu = any(needs_gpu(cell) for cell in cells)
    most = max((host_bytes(cell) for cell in cells), default=0) + (GPU_PROCESS_BYTES if on_gpu else PROCESS_BYTES)
    seconds = [cell_seconds(cell, results) for cell in cells]
    minutes = UNKNOWN_MINUTES if None in seconds else max(SHORTEST_MINUTES, math.ceil(MINUTES_MARGIN * sum(seconds) / 60))
    return Request(mem_mb=attempt * math.ceil(MARGIN * most / 1e6), runtime=attempt * minutes, gpu=int(on_gpu))


def needs_gpu(cell) -> bool:
    """At scale `paper` whatever has a model, but for memory that a CPU measures."""
    if isinstance(cell, memory_footprint.Cell):
        return cell.device == "cuda"
    return cell.scale == "paper" and cell.model not in SYSTEMS


def host_bytes(cell) -> int:
    """Main memory of a cell beside interpreter and libraries: all of it on a CPU; with a GPU, what passes through on the way there."""
    if cell.model in SYSTEMS:
        return 0
    if not needs_gpu(cell):
        return fit_bytes(cell)
    plan = _plan(cell)
    return fit.load_bytes(replace(plan, method="none", device="cpu", rest=None)) + 3 * 4 * _trained(plan)  # saved state: weights, and AdamW's two


def fit_bytes(cell) -> int:
    """Bytes at the peak of loading, decoding or training, where the model is: main memory at scale `mini`, the GPU's at `paper`."""
    if cell.model in SYSTEMS:
        return 0
    if isinstance(cell, memory_footprint.Cell):
        return max(fit.account(cell.plan).peak, fit.load_bytes(replace(cell.plan, method="none")))
    decode = _plan(cell, decode=True)
    train = fit.account(_plan(cell)).peak if cell.method != "none" else 0
    return max(fit.load_bytes(decode), fit.account(decode).peak, train)


def cell_seconds(cell, results: Path = RESULTS) -> float | None:
    """Expected seconds of a cell, None where unknown: the estimate at scale `paper`, and what recorded ones took where there are any.

    At scale `mini` that is the longest of its model, size and kind of training; a cell of memory has its own record.
    """
    if isinstance(cell, memory_footprint.Cell):
        path = cell.path(Path(results))
        return _seconds_of(reading.read_json(path)) if path.is_file() else UNMEASURED_S
    if cell.scale == "mini":
        return _longest_s(Path(results)).get(_kind(cell.as_dict()), UNMEASURED_S)
    return estimate(cell).seconds


@cache
def _longest_s(results: Path) -> dict[tuple, float]:
    found: dict[tuple, float] = {}
    for path in (results / "mini").glob("[!.]*/[!.]*.json"):
        record = reading.read_json(path)
        if record["status"] == "ok" and "model" in record["cell"]:
            found[_kind(record["cell"])] = max(_seconds_of(record), found.get(_kind(record["cell"]), 0))
    return found


def _seconds_of(record: Mapping) -> float:
    return sum(value or 0 for value in record["time_s"].values())


def _kind(cell: Mapping) -> tuple:
    return cell["model"], cell.get("size"), {"none": "none", "full": "full"}.get(cell["method"], "adapter")


def _model(cell):
    """What `fit` takes for a cell's model: a name of the catalogue, or the configuration of a mini checkpoint."""
    if cell.scale == "paper":
        return f"whisper-{cell.size}" if isinstance(cell, Cell) else CATALOGUE[cell.model]
    from asum_lib.models import checkpoint, ladder, pretrained, text_ladder

    folder = ladder.checkpoint(cell.size) if isinstance(cell, Cell) else text_ladder.checkpoint(cell.model)
    (checkpoint.check if isinstance(cell, Cell) else checkpoint.check_text)(folder)
    return pretrained.config(folder)


def _plan(cell, decode: bool = False) -> fit.Plan:
    shape = shape_of(cell)
    batch = shape.decode_batch * shape.beams if decode else shape.micro_batch
    precision, method = fit.accounted(cell.precision, "none" if decode else cell.method)
    tokens = {} if isinstance(cell, Cell) else {"read": shape.read, "written": shape.written}
    device = "cuda" if needs_gpu(cell) else "cpu"
    return fit.Plan(
        _model(cell),
        precision,
        method,
        rank=cell.rank or 1,
        batch_size=batch,
        device=device,
        gradient_checkpointing=shape.checkpointing and not decode,
        **tokens,
    )


@cache
def _trained(plan: fit.Plan) -> int:
    """Parameters that a cell of scale `paper` trains."""
    return fit.counts(plan)[1]


# --- How long a cell at scale paper takes

CATALOGUE = {"t5": "t5-base", "mbart": "mbart-large"}  # mBART-50's weights but for 27 embeddings more
POSITIONS = 1_500  # that Whisper's encoder sees of a window of 30 s, whatever is in it
# Operations of eager PyTorch, views left out, counted for one encoder layer and one decoder layer together: forward, backward, and one update
# with clipping and AdamW (AdaLoRA: and its importance scores); of decoding, a step of one decoder layer.
OPERATIONS = {
    "whisper": {"decode": 21, "full": (46, 69, 351), "lora": (82, 94, 162), "adalora": (109, 166, 621), "adalora-inactive": (109, 166, 243)},
    "t5": {"decode": 35, "full": (75, 138, 189), "lora": (99, 146, 162), "adalora": (126, 182, 621), "adalora-inactive": (126, 182, 243)},
    "mbart": {"decode": 19, "full": (31, 69, 378), "lora": (67, 91, 162), "adalora": (94, 181, 621), "adalora-inactive": (94, 181, 243)},
}
LINEARS = 16  # of an encoder layer (6) and a decoder layer (10)
UPDATE_BYTES = 21 * 4  # that clipping and an unfused AdamW read and write of a trained float32 weight
WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 4.5}  # read of a weight in a step of decoding; 4 bits are read, written as 16 and read again


@dataclass(frozen=True)
class Gpu:
    """A card: its memory, its peak rates without sparsity, and how well these are known."""

    name: str
    memory_bytes: int
    half_flops: float  # a second, bfloat16 summed in float32
    single_flops: float  # float32, without TF32, which PyTorch leaves off
    bytes_per_s: float
    status: str = "chosen"  # how well the three rates are known


GPUS = {
    "a100": Gpu("A100 80 GB (SXM)", 80 * 10**9, 312e12, 19.5e12, 2.039e12, "secondary source"),
    "h100": Gpu("H100 80 GB (SXM)", 80 * 10**9, 989e12, 67e12, 3.35e12, "unverified"),
}


@dataclass(frozen=True)
class Assumptions:
    """What nobody has measured for this code: shares of the peaks that are reached, and what is lost between."""

    utilisation: float = 0.3  # of the peak FLOP/s, while operations are large
    bandwidth: float = 0.6  # of the peak bytes/s
    operation_s: float = 10e-6  # at least, of every operation: Python and the launch
    quantised_operations: Mapping[str, int] = None  # more of them for each linear layer
    start_s: float = 120.0  # of a job: imports, loading, the notebook

    def __post_init__(self):
        object.__setattr__(self, "quantised_operations", self.quantised_operations or {"int8": 4, "int4": 1})
        for name in ("utilisation", "bandwidth"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)!r} is not a share above 0 and at most 1")
        for name in ("operation_s", "start_s"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} {getattr(self, name)!r} is below 0")


USUAL = Assumptions()


@dataclass(frozen=True)
class Counts:
    """Utterances or documents of a corpus by split, and tokens that a model writes for one."""

    train: int
    dev: int
    test: int
    written: int
    source: str


def _documents(name: str) -> Counts:
    """Of a published corpus of texts: as many documents as the library expects, each summary as long as the cut allows."""
    return Counts(**texts.DOCUMENTS[name], written=200, source="published splits; tokens: where the study cuts a summary, an upper bound")


CORPORA: dict[str, Counts | None] = {  # None: not in the sources at hand
    "how2": None,
    "librispeech": Counts(28_539, 2_703, 2_620, 26, "train-clean-100, dev-clean, test-clean; tokens: 52,576 words in test-clean, 1.15 tokens a word"),
    "slue-voxpopuli": Counts(5_000, 1_753, 1_842, 32, "SLUE; tokens: 28 an utterance of a fifth of its dev set, and the prefix"),
    **{name: _documents(name) for name in texts.DOCUMENTS},
}


@dataclass(frozen=True)
class Shape:
    """What of a cell decides how long it takes: the architecture's numbers, lengths in tokens, batches, and what is trained."""

    family: str
    width: int
    layers: int  # of the encoder, and as many of the decoder; each with a feed-forward block of four times the width
    vocabulary: int
    read: int  # positions that the encoder sees of one item
    written: int
    epochs: int
    batch: int
    micro_batch: int
    checkpointing: bool
    decode_batch: int
    beams: int


def shape_of(cell, corpora: Mapping[str, Counts | None] = CORPORA) -> Shape:
    """The shape of a speech or text cell of either scale; `written` is the usual where the corpus gives none."""
    if isinstance(cell, Cell):
        return _speech_shape(cell, corpora.get(cell.corpus))
    return _text_shape(cell)


def _speech_shape(cell: Cell, counts: Counts | None) -> Shape:
    from asum_lib.models import ladder, real
    from asum_lib.study import run

    training = run.training_of(cell)
    if cell.scale == "mini":
        rung, batch = ladder.LADDER[cell.size], training.batch_size if training else 1
        read = ladder.WINDOW_S * 16_000 // ladder.HOP_SAMPLES // 2
        shape = (rung.width, rung.layers, ladder.VOCABULARY_SIZE, read, ladder.MAX_TOKENS)
        return Shape("whisper", *shape, cell.epochs or 0, batch, batch, False, run.EVALUATION_BATCH, 1)
    numbers, size = real.ARCHITECTURES[cell.size], cell.size.removesuffix(".en")
    batch = training.batch_size if training else 1
    micro = min(run.MICRO_BATCH.get(size, batch), batch)
    written = counts.written if counts else fit.WRITTEN_TOKENS["whisper"]
    shape = (numbers.width, numbers.decoder_layers, numbers.vocabulary, POSITIONS, written)
    return Shape("whisper", *shape, cell.epochs or 0, batch, micro, size in run.MICRO_BATCH, run.evaluation_batch("paper", size), 1)


def _text_shape(cell: TextCell) -> Shape:
    from asum_lib.models import catalogue
    from asum_lib.study import text_run

    config = catalogue.config(CATALOGUE[cell.model]) if cell.scale == "paper" else _model(cell)
    batch, decoding = text_run.BATCH_SIZE[cell.scale], text_run.DECODING[cell.scale]
    micro = text_run.MICRO_BATCH[cell.scale] or batch
    lengths = (text_run.MAX_SOURCE_TOKENS[cell.scale], text_run.MAX_TARGET_TOKENS[cell.scale])
    layers = config.num_layers if cell.model == "t5" else config.decoder_layers
    shape = (config.d_model, layers, config.vocab_size, *lengths, cell.epochs or 0, batch, micro, cell.scale == "paper")
    return Shape(cell.model, *shape, decoding.batch_size, decoding.beams)


def encoder_flops(shape: Shape) -> float:
    """Of one item's forward pass: 2 x parameters x positions (12 width^2 a layer), and the products of attention."""
    width, read = shape.width, shape.read
    return shape.layers * (2 * 12 * width**2 * read + 4 * read**2 * width)


def decoder_flops(shape: Shape, tokens: int) -> float:
    """Of a forward pass over `tokens` of one item, without keys and values of the encoder's states, which `cross_flops` has.

    2 x parameters x tokens (14 width^2 a layer, and the output layer), and the products with what is read and, on average, half of what is written.
    """
    attention = 4 * tokens * (shape.read + shape.written / 2) * shape.width
    return shape.layers * (2 * 14 * shape.width**2 * tokens + attention) + 2 * shape.vocabulary * shape.width * tokens


def cross_flops(shape: Shape) -> float:
    """Keys and values of the encoder's states in every decoder layer: 2 x 2 width^2 x positions."""
    return shape.layers * 2 * 2 * shape.width**2 * shape.read


def forward_flops(shape: Shape) -> float:
    """Of one item through encoder and decoder."""
    return encoder_flops(shape) + cross_flops(shape) + decoder_flops(shape, shape.written)


def training_flops(shape: Shape, method: str) -> float:
    """Of one item's step: three forward passes' worth for `full`, two for an adapter, whose frozen weights need no gradient.

    That is 6 and 4 x parameters x tokens. Gradient checkpointing adds one more forward pass.
    """
    return forward_flops(shape) * ((3 if method == "full" else 2) + shape.checkpointing)


def launches(cell, shape: Shape, assumed: Assumptions) -> tuple[int, int]:
    """Operations of one micro-batch through a training step, and of one update of the weights."""
    forward, backward, update = OPERATIONS[shape.family][cell.method]
    more = 2 * LINEARS * assumed.quantised_operations.get(cell.precision, 0)
    return shape.layers * (forward * (1 + shape.checkpointing) + backward + more), shape.layers * update


def step_seconds(cell, gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL, corpora: Mapping = CORPORA) -> float:
    """One training step at scale `paper`: its passes, each as long as its arithmetic or its launches, and the update of the weights."""
    shape = shape_of(cell, corpora)
    operations, updates = launches(cell, shape, assumed)
    arithmetic = training_flops(shape, cell.method) * shape.micro_batch / (gpu.half_flops * assumed.utilisation)
    written = UPDATE_BYTES * _trained(_plan(cell)) / (gpu.bytes_per_s * assumed.bandwidth)
    passes = -(-shape.batch // shape.micro_batch)
    return passes * max(arithmetic, operations * assumed.operation_s) + max(written, updates * assumed.operation_s)


def decoding_seconds(cell, items: int, gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL, corpora: Mapping = CORPORA) -> float:
    """Writing `items` texts at scale `paper`: the encoder's arithmetic, and for every token the slowest of arithmetic, bytes and launches."""
    shape = shape_of(cell, corpora)
    peak = (gpu.single_flops if cell.precision == "fp32" else gpu.half_flops) * assumed.utilisation
    held = 4 if cell.precision == "fp32" else 2  # bytes of a number that is not quantised
    rows = shape.decode_batch * shape.beams
    weights = shape.layers * 14 * shape.width**2 * WEIGHT_BYTES[cell.precision] + shape.vocabulary * shape.width * held
    cached = rows * shape.layers * 2 * (shape.read + shape.written / 2) * shape.width * held * (3 if shape.beams > 1 else 1)  # beams are sorted anew
    operations = shape.layers * (OPERATIONS[shape.family]["decode"] + LINEARS // 2 * assumed.quantised_operations.get(cell.precision, 0))
    token = max(rows * decoder_flops(shape, 1) / peak, (weights + cached) / (gpu.bytes_per_s * assumed.bandwidth), operations * assumed.operation_s)
    encode = shape.decode_batch * (encoder_flops(shape) + shape.beams * cross_flops(shape)) / peak
    return -(-items // shape.decode_batch) * (encode + shape.written * token)


@dataclass(frozen=True)
class Estimate:
    """Derived seconds of one cell at scale `paper` by what they are for; none where `reason` says what is not known."""

    cell: object
    steps: int | None
    parts: Mapping[str, float]
    reason: str | None = None

    @property
    def seconds(self) -> float | None:
        return None if self.reason else sum(self.parts.values())

    @property
    def hours(self) -> float | None:
        return None if self.reason else self.seconds / 3600


def estimate(cell, gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL, corpora: Mapping[str, Counts | None] = CORPORA) -> Estimate:
    """How long a planned cell of scale `paper` takes on one GPU; a system that takes sentences needs none and is not estimated."""
    if isinstance(cell, memory_footprint.Cell):
        return Estimate(cell, None, {}, "nobody has timed it on a GPU")
    if cell.model in SYSTEMS:
        return Estimate(cell, None, {}, "takes sentences on a CPU, not timed")
    counts = corpora.get(cell.corpus)
    if counts is None:
        return Estimate(cell, None, {}, f"how many utterances {cell.corpus} has is not in the sources at hand")
    given = {"gpu": gpu, "assumed": assumed, "corpora": corpora}
    parts = {"start": assumed.start_s}
    steps = 0
    if cell.method != "none":
        shape = shape_of(cell, corpora)
        steps = shape.epochs * -(-counts.train // shape.batch)
        parts["train"] = steps * step_seconds(cell, **given)
        parts["dev"] = (shape.epochs + 1) * _dev_seconds(cell, counts, **given)
    parts["test"] = decoding_seconds(cell, counts.test, **given)
    return Estimate(cell, steps, parts)


def _dev_seconds(cell, counts: Counts, gpu: Gpu, assumed: Assumptions, corpora: Mapping) -> float:
    """After an epoch speech is transcribed; of text only the loss is looked at."""
    if isinstance(cell, Cell):
        return decoding_seconds(cell, counts.dev, gpu, assumed, corpora)
    from asum_lib.study.text_run import LOSS_DOCUMENTS

    peak = (gpu.single_flops if cell.precision == "fp32" else gpu.half_flops) * assumed.utilisation
    return LOSS_DOCUMENTS["paper"] * forward_flops(shape_of(cell, corpora)) / peak


# --- All tables on N GPUs


def paper_cells() -> dict[str, list]:
    """{table: its planned cells} of scale `paper`: speech, text, and memory on a GPU. The table of learning rates has no such grid."""
    found: dict[str, list] = {table: tables.planned(table, "paper") for table in tables.GRIDS["paper"]}
    found |= {table: planned_text(table, "paper") for table in dict.fromkeys(TABLE_OF["paper"].values())}
    return found | {memory_footprint.TABLE: list(memory_table.planned("cuda"))}


def arguments(cell) -> tuple[str, dict]:
    """(notebook, its parameters) that measure one cell of speech or text at scale `paper` and nothing else (of text: and the systems)."""
    if isinstance(cell, Cell):
        given = {"size": cell.size, "scale": cell.scale, "corpus": cell.corpus, "precisions": [cell.precision], "methods": [cell.method]}
        return "whisper_quant", given | ({"rates": [cell.rate], "seeds": [cell.seed]} if cell.method != "none" else {})
    given = {"corpus": cell.corpus, "model": cell.model, "scale": cell.scale}
    if cell.model not in SYSTEMS:
        given |= {"precisions": [cell.precision], "methods": [cell.method], "seeds": [cell.seed]}
    if cell.rank:
        given |= {"ranks": [cell.rank], "targets": [cell.targets]}
    return "peft_rouge", given


@dataclass(frozen=True)
class Placed:
    """One job on one GPU, from its start to its end, in hours."""

    name: str
    gpu: int
    start_h: float
    end_h: float


@dataclass(frozen=True)
class Schedule:
    """Jobs on `gpus` GPUs, one at a time on each."""

    gpus: int
    placed: tuple[Placed, ...]

    @property
    def makespan_h(self) -> float:
        return max((job.end_h for job in self.placed), default=0.0)

    @property
    def busy_h(self) -> float:
        return sum(job.end_h - job.start_h for job in self.placed)

    @property
    def bound_h(self) -> float:
        """No schedule is shorter: the longest job, or the mean load of a GPU."""
        return max([self.busy_h / self.gpus, *(job.end_h - job.start_h for job in self.placed)])


def schedule(hours: Mapping[str, float], gpus: int) -> Schedule:
    """The longest job first, each on the GPU that is free first (Graham 1969: at most 4/3 of the shortest schedule)."""
    if isinstance(gpus, bool) or not isinstance(gpus, int) or gpus < 1:
        raise InputError(f"gpus {gpus!r} is not a whole number of 1 or more")
    free, placed = [0.0] * gpus, []
    for name in sorted(hours, key=lambda job: (-hours[job], job)):
        gpu = min(range(gpus), key=free.__getitem__)
        placed.append(Placed(name, gpu, free[gpu], free[gpu] + hours[name]))
        free[gpu] += hours[name]
    return Schedule(gpus, tuple(placed))


def cost(hours: float | None, price_per_gpu_hour: float | None) -> float | None:
    """GPU hours times their price, in the price's currency; None where one of them is not known."""
    if price_per_gpu_hour is not None and price_per_gpu_hour < 0:
        raise InputError(f"price {price_per_gpu_hour!r} is below 0")
    return None if None in (hours, price_per_gpu_hour) else hours * price_per_gpu_hour


def plan(gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL, corpora: Mapping = CORPORA) -> dict[str, list[Estimate]]:
    """{table: the estimates of its planned cells}; those that differ in the seed alone take equally long."""
    found: dict[object, Estimate] = {}

    def of(cell) -> Estimate:
        if isinstance(cell, memory_footprint.Cell):
            return estimate(cell)
        first = replace(cell, seed=0)
        if first not in found:
            found[first] = estimate(first, gpu, assumed, corpora)
        return replace(found[first], cell=cell)

    return {table: [of(cell) for cell in cells] for table, cells in paper_cells().items()}


def known_hours(planned: Mapping[str, Iterable[Estimate]]) -> dict[str, float]:
    """{table/cell: hours} of the cells whose hours are known."""
    return {f"{table}/{found.cell.name}": found.hours for table, estimates in planned.items() for found in estimates if found.hours is not None}


def main(given: list[str] | None = None) -> int:
    """The command: hours, cost and schedules as JSON."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog="python -m asum_lib.study.cluster", description="How long the study takes at scale paper; derived.")
    parser.add_argument("--gpu", default="a100", help=f"{' or '.join(GPUS)} (default: a100)")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="schedules for N GPUs (default: 1 2 4 8)")
    parser.add_argument("--price", type=float, metavar="P", help="of a GPU hour; without it no cost is given")
    parser.add_argument("--utilisation", type=float, default=Assumptions.utilisation, metavar="U", help="share of the peak FLOP/s (default: 0.3)")
    parser.add_argument("--operation", type=float, default=Assumptions.operation_s, metavar="S", help="seconds of a launch (default: 1e-5)")
    parser.add_argument("--how2", type=int, nargs=4, metavar="N", help="How2's utterances: train, dev, test, and tokens of one")
    asked = parser.parse_args(given)
    try:
        corpora = CORPORA | ({"how2": Counts(*asked.how2, source="given")} if asked.how2 else {})
        assumed = Assumptions(utilisation=asked.utilisation, operation_s=asked.operation)
        planned = plan(GPUS[choose("GPU", asked.gpu, GPUS)], assumed, corpora)
        hours = known_hours(planned)
        total = sum(hours.values())
        answer = {
            "status": "derived",
            "gpu_hours": total,
            "cost": cost(total, asked.price),
            "tables": {
                table: {
                    "cells": len(found),
                    "unknown": sum(one.hours is None for one in found),
                    "reasons": sorted({one.reason for one in found if one.reason}),
                    "gpu_hours": sum(one.hours or 0 for one in found),
                }
                for table, found in planned.items()
            },
            "schedules": [
                {"gpus": one.gpus, "makespan_h": one.makespan_h, "bound_h": one.bound_h} for one in (schedule(hours, n) for n in asked.gpus)
            ],
            "cells": {name: hours[name] for name in sorted(hours, key=lambda job: -hours[job])},
        }
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
