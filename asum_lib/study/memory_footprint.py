"""What `notebooks/memory_footprint.ipynb` calls: the memory of one model at its real size, accounted and measured, by precision and method.

Memory does not depend on what the weights are: a checkpoint of random weights is written once, loaded, quantised, decoded
with and trained on for a step, each in a child process of its own whose peak is measured. What a cell is worth is one record:
a cell without training has the figures of loading and decoding, a cell with training that of its step.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.measure.peak import PeakError, in_child, watching
from asum_lib.models.checkpoint import WEIGHTS
from asum_lib.paths import RESULTS
from asum_lib.study import fit, records
from asum_lib.study.cells import MEMORY
from asum_lib.study.parameters import checked, of_notebook

NOTEBOOK = "notebooks/memory_footprint.ipynb"
TABLE, SCALE = MEMORY, "paper"
MEASURE = ("no", "cpu", "cuda")
RANK = 8
WINDOW_S = 30.0
REPEATS = 3  # children that measure a cell of the smallest size one after the other, to see how far peaks differ
GPU_PRELOAD = ("torch", "scipy.linalg", "transformers", "safetensors.torch")  # none that starts CUDA, which a child could not use then
LIMIT_BYTES = 20 * 10**9  # resident set of a child: it is stopped beyond, and what would take more is not begun
SIGNATURE = "bytes|above:the imports|heap:freed blocks above 64 KiB given back"
COUNTED = "bytes|counted"


@dataclass(frozen=True)
class Cell:
    """One model in one precision, decoding (method `none`) or training; token counts as in `fit.Plan`."""

    table: str
    scale: str
    model: str
    size: str
    precision: str
    rest: str  # dtype of what is not quantised
    method: str
    rank: int | None
    batch_size: int
    read: int
    written: int
    optimizer: str | None
    gradient_checkpointing: bool
    device: str

    @property
    def name(self) -> str:
        """File name without suffix; what is not the usual is named, e.g. `whisper-large-int8-adalora-r8-checkpointing-cpu`."""
        usual = make_cell(f"{self.model}-{self.size}", self.precision, self.method, device=self.device)
        parts = [self.model, self.size, self.precision]
        parts += [f"rest_{self.rest}"] * (self.rest != usual.rest) + [self.method] + [f"r{self.rank}"] * bool(self.rank)
        for key, letter in (("batch_size", "b"), ("read", "read"), ("written", "written"), ("optimizer", "")):
            parts += [f"{letter}{getattr(self, key)}"] * (getattr(self, key) != getattr(usual, key))
        return "-".join([*parts, *["checkpointing"] * self.gradient_checkpointing, self.device])

    def path(self, results: Path) -> Path:
        return Path(results) / self.scale / self.table / f"{self.name}.json"

    def as_dict(self) -> dict:
        return asdict(self)

    @property
    def plan(self) -> fit.Plan:
        shared = {
            key: getattr(self, key) for key in ("precision", "method", "batch_size", "read", "written", "rest", "device", "gradient_checkpointing")
        }
        return fit.Plan(f"{self.model}-{self.size}", **shared, rank=self.rank or 1, optimizer=self.optimizer or "adamw")


@dataclass(frozen=True)
class Row:
    """The cells of one model: parallel tuples of record paths and records."""

    model: str
    paths: tuple[Path, ...]
    records: tuple[records.Record, ...]


def make_cell(
    model: str,
    precision: str,
    method: str,
    *,
    rank: int = RANK,
    rest: str | None = None,
    batch_size: int = 1,
    read: int = 0,
    written: int = 0,
    optimizer: str = "adamw",
    gradient_checkpointing: bool = False,
    device: str = "cpu",
) -> Cell:
    """Validate and resolve one cell; raises `InputError` with the choices."""
    from asum_lib.models.catalogue import entry

    found = entry(model)
    trained = method != "none"
    rest = rest or ("float32" if precision in fit.QUANTISED else None)  # on a GPU too: one comparison at a time
    plan = fit.resolved(fit.Plan(model, precision, method, rank, batch_size, read, written, optimizer, gradient_checkpointing, rest, device))
    return Cell(
        table=TABLE,
        scale=SCALE,
        model=found.family,
        size=found.size,
        precision=precision,
        rest=plan.rest,
        method=method,
        rank=rank if method in ("lora", "adalora") else None,
        batch_size=batch_size,
        read=plan.read,
        written=plan.written,
        optimizer=optimizer if trained else None,
        gradient_checkpointing=gradient_checkpointing and trained,
        device=device,
    )


def make_row(model: str, precisions, methods, **fixed) -> list[Cell]:
    """Every precision with every method; full fine-tuning of quantised weights, which cannot be, is left out unless nothing else was asked for."""
    for name, values in {"precisions": precisions, "methods": methods}.items():
        if isinstance(values, str) or not list(values):
            raise InputError(f"{name} {values!r} is not a list with at least one entry")
    pairs = [(precision, method) for precision in precisions for method in methods]
    possible = [pair for pair in pairs if not (pair[0] in fit.QUANTISED and pair[1] == "full")] or pairs
    return [make_cell(model, precision, method, **fixed) for precision, method in possible]


@checked
def run(
    model: str = "whisper-tiny",
    precisions: list[str] = ("fp32", "fp16", "int8", "int4"),
    methods: list[str] = ("none", "lora", "adalora", "full"),
    batch_size: int = 1,
    audio_s: float = WINDOW_S,
    tokens: int = 0,
    optimizer: str = "adamw",
    gradient_checkpointing: bool = False,
    measure: str = "cpu",
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Account for every cell of the model, measure it (or read it, where it is there), and return the row; progress goes to stderr.

    `tokens` are those that Whisper writes for a window, or that a text model reads; 0 for the usual. `measure` is no, cpu or cuda.
    """
    choose("measure", measure, MEASURE)
    if not 0 < audio_s <= WINDOW_S:
        raise InputError(
            f"audio_s {audio_s!r} is not above 0 and at most {WINDOW_S:g}: Whisper hears a window of {WINDOW_S:g} s, and fills up what is shorter"
        )
    length = {"written": tokens} if model.startswith("whisper") else {"read": tokens}
    device = "cuda" if measure == "cuda" else "cpu"
    cells = make_row(
        model, precisions, methods, batch_size=batch_size, optimizer=optimizer, gradient_checkpointing=gradient_checkpointing, device=device, **length
    )
    return measure_cells(cells, measure != "no", Path(results_dir or RESULTS), notebook)


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)


def measure_cells(
    cells: list[Cell], measured: bool, results: Path, notebook: str | None = None, progress: Callable[[str], None] | None = None
) -> Row:
    """Records of `cells`, all of one model, in order. A record that is there is kept if it holds as much as is asked for."""
    progress = progress or (lambda line: print(line, file=sys.stderr, flush=True))
    if measured:
        _check_device(cells[0].device)
    with tempfile.TemporaryDirectory(prefix="asum-memory-") as folder:
        checkpoint = _Checkpoint(Path(folder) / "random", f"{cells[0].model}-{cells[0].size}", progress)
        found = []
        for number, cell in enumerate(cells, start=1):
            label = f"[{number}/{len(cells)}] {cell.name}"
            path = cell.path(results)
            record = _kept(path, cell, measured)
            if record:
                progress(f"{label}: already there")
            else:
                start = time.perf_counter()
                record = records.write(_record(cell, checkpoint if measured else None, notebook, progress), path, [])
                progress(f"{label}: {_outcome(record)} ({time.perf_counter() - start:.0f} s)")
            found.append((path, record))
    return Row(f"{cells[0].model}-{cells[0].size}", *map(tuple, zip(*found, strict=True)))


class _Checkpoint:
    """Random weights of a model on disk, written when they are first asked for."""

    def __init__(self, folder: Path, model: str, progress: Callable[[str], None]):
        self.folder, self.model, self.progress = folder, model, progress

    def path(self, precision: str, rest: str) -> Path:
        """The folder; of quantised weights the one that the cell without training has saved, where it was measured in this run."""
        from asum_lib.models import catalogue

        saved = self.saved(precision, rest)
        if saved.exists():
            return saved
        if not self.folder.exists():
            start = time.perf_counter()
            catalogue.write_random(self.folder, catalogue.config(self.model))
            self.progress(f"{self.model}: random weights written ({time.perf_counter() - start:.0f} s)")
        return self.folder

    def saved(self, precision: str, rest: str) -> Path:
        return self.folder.parent / f"{precision}-{rest}"


def fingerprint(cell: Cell) -> str:
    """What a record must carry to be kept: the cell, its dropout, and the libraries that decide how much memory it takes."""
    from asum_lib.models import catalogue

    versions = {name: records.packages()[name] for name in ("torch", "transformers", "peft", "bitsandbytes")}
    dropout = catalogue.dropout(f"{cell.model}-{cell.size}")
    return records.fingerprint(cell.as_dict(), versions, f"random, dropout {dropout:g}" if dropout else "random", SIGNATURE)


def _kept(path: Path, cell: Cell, measured: bool) -> records.Record | None:
    if not path.is_file():
        return None
    record = records.read(path)
    complete = record.config["measured"] or not measured
    return record if record.fingerprint == fingerprint(cell) and complete else None


def _record(cell: Cell, checkpoint: _Checkpoint | None, notebook: str | None, progress) -> records.Record:
    """Accounted figures, and with a checkpoint measured ones; a step that cannot be measured has its reason instead."""
    command = f"asum run memory_footprint -p model={cell.model}-{cell.size}" if notebook else f"runs/{_script(cell)} {cell.model}-{cell.size}"
    provenance = records.provenance(command, notebook, records.now(), __name__)
    account = fit.account(cell.plan)
    step = "decode_peak" if cell.method == "none" else "train_peak"
    metrics = {"weights_bytes": _counted(account.weights + account.quantisation_state), f"{step}_accounted_bytes": _counted(account.peak)}
    memory, times, reason = {"weights": account.weights + account.quantisation_state}, {}, None
    if cell.method == "none":
        metrics["load_peak_accounted_bytes"] = _counted(fit.load_bytes(cell.plan))
    if checkpoint:
        try:
            if cell.device == "cpu" and account.peak > LIMIT_BYTES:
                raise MemoryError(
                    f"accounted for {fit.gigabytes(account.peak)}: more than the {fit.gigabytes(LIMIT_BYTES)} that a measurement may take"
                )
            places = [checkpoint.path(cell.precision, cell.rest), checkpoint.saved(cell.precision, cell.rest)]
            where = {"limit_bytes": LIMIT_BYTES + 10**9} if cell.device == "cpu" else {"preload": GPU_PRELOAD}
            repeats = [in_child(_measured, cell, *map(str, places), **where) for _ in range(_repeats(cell))]
            measured = repeats[0]
            metrics |= {name: _measured_metric(name, [repeat["bytes"][name] for repeat in repeats]) for name in measured["bytes"]}
            metrics |= {name: records.Metric(value, None, None, "s", "lower", "s|wall clock", 1) for name, value in measured["seconds"].items()}
            memory |= measured["memory"]
            times = measured["time_s"]
        except (PeakError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}" if isinstance(error, MemoryError) else str(error)
    config = {"account": account.parts | {"where": account.where}, "parts": [asdict(part) for part in fit.parts(cell.plan)]}
    total, trained = fit.counts(cell.plan)
    return records.Record(
        schema=records.SCHEMA,
        fingerprint=fingerprint(cell),
        table=TABLE,
        scale=SCALE,
        status="failed" if reason else "ok",
        reason=reason,
        cell=cell.as_dict(),
        config=config | {"measured": bool(checkpoint)},
        metrics=metrics,
        memory_bytes=records.unmeasured(records.MEMORY_BYTES, **memory),
        params=records.unmeasured(records.PARAMS, total=total, trainable=trained),
        time_s=records.unmeasured(records.TIME_S, **times),
        audio_s=None,
        rtfx=None,
        history=[],
        samples=None,
        provenance=provenance,
    )


def _script(cell: Cell) -> str:
    return "cpu_memory.sh" if cell.device == "cpu" else "gpu_memory.sh"


def _repeats(cell: Cell) -> int:
    slow = cell.precision == "fp16" and cell.method != "none"  # few processors multiply in it
    return REPEATS if (cell.model, cell.size) == ("whisper", "tiny") and not slow else 1


def _counted(value: int) -> records.Metric:
    return records.Metric(value, value, value, "bytes", "lower", COUNTED, 1)


def _measured_metric(name: str, values: list[int]) -> records.Metric:
    """A peak with the lowest and the highest of its repeats, or a count."""
    if "peak" not in name:
        return _counted(values[0])
    value, several = sorted(values)[len(values) // 2], len(values) > 1
    return records.Metric(value, min(values) if several else None, max(values) if several else None, "bytes", "lower", SIGNATURE, len(values))


def _outcome(record: records.Record) -> str:
    if record.reason:
        return f"not measured, {record.reason}"
    peaks = {name: metric.value for name, metric in record.metrics.items() if "peak" in name}
    return ", ".join(f"{name.removesuffix('_bytes').replace('_', ' ')} {value / 1e6:,.0f} MB" for name, value in peaks.items())


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("measure 'cuda': torch sees no CUDA device here, choose cpu or no")


def _measured(cell: Cell, folder: str, saved: str) -> dict:
    """In a child: the measured bytes of a cell. Every peak is above what the imports take."""
    from asum_lib import heap

    with heap.steady(), watching() as watch:
        phases = _Phases(watch, cell.device)
        with phases("imports"):
            pass
        if cell.method == "none":
            return _load_and_decode(cell, Path(folder), Path(saved), phases)
        return _train(cell, Path(folder), phases)


class _Phases:
    """The phases of a child, and what a GPU holds before each: (torch's tensors, what torch has reserved, what the driver counts), in bytes."""

    def __init__(self, watch, device: str):
        self.watch, self.device, self.held = watch, device, {}

    def __call__(self, name: str):
        if self.device != "cpu":
            from torch import cuda, zeros

            zeros(1, device=self.device)  # the context is there
            cuda.synchronize(self.device)
            cuda.empty_cache()
            free, total = cuda.mem_get_info(self.device)
            self.held[name] = (cuda.memory_allocated(self.device), cuda.memory_reserved(self.device), total - free)
        return self.watch.phase(name, self.device)

    def peaks(self, names: dict[str, str]) -> dict[str, int]:
        """Bytes above the imports at the peak of each phase, by the names given: of the process, or of the GPU three ways."""
        found, first = {}, next(iter(self.watch.peaks.values()))
        for phase, name in names.items():
            peak = self.watch.peaks[phase]
            if self.device == "cpu":
                found |= {f"{name}_bytes": peak.baseline + peak.resident - first.baseline, f"{name}_file_bytes": peak.file_mapped}
                continue
            above = zip(self.held[phase], self.held["imports"], (peak.allocated, peak.reserved, peak.driver), strict=True)
            kinds = ("allocated", "reserved", "driver")
            found |= {f"{name}_{kind}_bytes": now - base + more for kind, (now, base, more) in zip(kinds, above, strict=True)}
        return found


def _load_and_decode(cell: Cell, folder: Path, saved: Path, phases: _Phases) -> dict:
    from asum_lib.measure.memory import weights_bytes
    from asum_lib.models import catalogue
    from asum_lib.models.loading import load_model, unpacked

    with phases("load"):
        model = load_model(folder, cell.precision, cell.rest, cell.device)
    found = {"footprint_bytes": model.get_memory_footprint(), "held_bytes": weights_bytes(model)}
    model.eval()
    with phases("decode"), unpacked(model):
        catalogue.decode(model, cell.batch_size, cell.read, cell.written, cell.device)
    names = {"load": "load_peak", "decode": "decode_peak"}
    if cell.precision == "fp32":  # as it lies there
        found["disk_bytes"] = (folder / WEIGHTS).stat().st_size
    else:
        if not saved.exists():
            model.save_pretrained(part := saved.with_suffix(".part"))
            part.rename(saved)  # whole or not at all
        found["disk_bytes"] = sum(path.stat().st_size for path in saved.glob("*.safetensors"))
    if cell.precision in fit.QUANTISED:
        del model
        gc.collect()
        with phases("load again"):
            load_model(saved, cell.precision, cell.rest, cell.device)
        names["load again"] = "saved_load_peak"
    return _result(cell, phases, found, names)


def _train(cell: Cell, folder: Path, phases: _Phases) -> dict:
    """A step from the second on: the optimiser has its states when it begins."""
    import torch

    from asum_lib.models import catalogue
    from asum_lib.models.loading import load_model
    from asum_lib.training.finetune import keep_layer_inputs_only

    model = load_model(folder, cell.precision, cell.rest, cell.device)
    adapted = fit.prepare(model, cell.method, cell.rank)
    if cell.gradient_checkpointing:
        keep_layer_inputs_only(model)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = _optimizer(cell.optimizer, trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    gc.collect()
    with phases("train"):
        loss = adapted(**catalogue.training_inputs(model, cell.batch_size, cell.read, cell.written)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return _result(cell, phases, {}, {"train": "train_peak"})


def _optimizer(name: str, parameters: list):
    import torch

    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-6, foreach=False)
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(parameters, lr=1e-6, is_paged=name.startswith("paged"))


def _result(cell: Cell, phases: _Phases, found: dict, names: dict[str, str]) -> dict:
    """The figures of a child: bytes by metric, seconds by phase, and the fields of a record that say the same."""
    peaks, bytes_of = {name: phases.watch.peaks[phase] for phase, name in names.items()}, found | phases.peaks(names)
    seconds = {f"{name.removesuffix('_peak')}_s": peak.time_s for name, peak in peaks.items()}
    memory = {"process_peak": max(peak.baseline + peak.resident for peak in peaks.values())}
    if cell.device != "cpu":
        memory |= {f"peak_{kind}": max(bytes_of[f"{name}_{kind}_bytes"] for name in names.values()) for kind in ("allocated", "reserved")}
    if "footprint_bytes" in found:
        memory["footprint"] = found["footprint_bytes"]
    time_s = {"load": seconds.get("load_s"), "evaluate": seconds.get("decode_s"), "train": seconds.get("train_s")}
    return {"bytes": bytes_of, "seconds": seconds, "memory": memory, "time_s": time_s}
