"""Which models a memory holds, and what one run needs it for: `asum fit`, and the rows that a page shows.

The figures are those of `asum_lib.study.fit`: accounted from the architecture, not measured. A process on a CPU has its
interpreter and libraries beside them, and the largest of loading and the step decides. On a GPU only the tensors on it count.
"""

import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

from asum_lib.errors import InputError, choose
from asum_lib.measure.memory import OPTIMIZERS, PARTS, free_bytes
from asum_lib.models import catalogue
from asum_lib.study import fit

PRECISIONS = ("fp32", "fp16", "int8", "int4")  # of a listing, the most precise first
WIDTH = 100  # columns of the bars' text
SIZES = "such as 8GB, 7.5GiB, 8G or 24000MB, or free"
BEST = "* the most precise weights of a model that fit; with them full before lora before adalora, but in half precision full last"
_LABELS = {"quantisation_state": "quantisation state", "optimizer": "optimiser"}
MOST = {"batch_size": 1_000, "read": 1_000_000, "written": 1_000_000, "rank": 10_000}  # beyond is no run of these models, and slow to account for
_TRAINING = ("rank", "optimizer", "gradient_checkpointing")


def memory_bytes(text: str, device: str = "cpu") -> int:
    """Bytes of a size such as 8GB (10^9), 8GiB, 8Gi or 8G (2^30) or 24000MB; of `free`, what is free on `device` now.

    `InputError` for anything else.
    """
    choose("device", device, fit.DEVICES)
    if text == "free":
        return _free(device)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise InputError(f"memory {text!r} has no unit: write {text}GB, or another size {SIZES}")
    units = {unit: factor for unit, factor in fit.UNITS.items() if unit}
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]+)", text)
    if not found or found[2].upper() not in units:
        raise InputError(f"memory {text!r} is not a size above 0: write one {SIZES}")
    amount = float(found[1]) * units[found[2].upper()]
    if not 1 <= amount < float("inf"):
        raise InputError(f"memory {text!r} is not a size above 0: write one {SIZES}")
    return int(amount)


def held_bytes(device: str = "cpu") -> int:
    """What this process holds once torch and the rest are imported: its resident set now; 0 for a GPU, and where the system does not say."""
    if device != "cpu":
        return 0
    import importlib

    from asum_lib.measure import peak

    with _quiet():
        for name in peak.PRELOAD:
            importlib.import_module(name)
    try:
        return peak.status()["VmRSS"]
    except InputError:
        return 0


def check(
    task: str | None = None,
    model: str | None = None,
    precision: str | None = None,
    method: str | None = None,
    device: str = "cpu",
    settings: Mapping[str, object] = {},
) -> str:
    """The task that these ask for, `decode` where nothing says otherwise; `InputError` for what is unknown or does not go together.

    It takes no time. `settings` are the given ones of `Plan`'s `rank`, `optimizer` and the like.
    """
    choose("device", device, fit.DEVICES)
    if method is not None:
        choose("method", method, fit.METHODS)
    task = choose("task", task or ("train" if method not in (None, "none") else "decode"), fit.TASKS)
    if method is not None and method not in fit.TASKS[task]:
        raise InputError(f"method {method!r} is not of task {task!r}: choose from {', '.join(fit.TASKS[task])}, or another task")
    if precision is not None:
        choose("precision", precision, fit.PRECISIONS)
    if model is not None:
        catalogue.known(model)
    _check_sizes(settings)
    if "optimizer" in settings:
        choose("optimizer", settings["optimizer"], OPTIMIZERS)
    for name in _TRAINING:
        if task == "decode" and name in settings:
            raise InputError(f"{name.replace('_', ' ')} is of training: choose task train, or leave it out")
    if method == "full" and "rank" in settings:
        raise InputError("method 'full' has no rank: leave it out, or choose method lora or adalora")
    return task


def listing(
    memory: int | None = None,
    task: str = "decode",
    device: str = "cpu",
    *,
    models: Iterable[str] | None = None,
    precisions: Iterable[str] = PRECISIONS,
    methods: Iterable[str] | None = None,
    held: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
    **settings,
) -> list[dict]:
    """A row a run, largest model first: what it is, `peak_bytes` with its parts, and whether `memory` bytes hold it.

    A row has the plan with all defaults filled in, `parameters`, bytes by part (`parts_bytes`, at the peak of the step),
    `load_bytes`, `step_bytes`, `held_bytes` (default: `held_bytes(device)`), `peak_bytes`, `decides` (load, step or optimiser), `where`,
    and with `memory` `fits`, `spare_bytes` (below 0: what is missing) and `best`, which marks one row a model by the rule `BEST`.
    `settings` are those of `Plan`: `batch_size`, `read`, `written`, `rank`, `optimizer`, `gradient_checkpointing`. Models that write
    fewer tokens than `written` are left out; `InputError` where none is left.
    """
    from asum_lib.models.catalogue import MODELS

    choose("task", task, fit.TASKS)
    _check_memory(memory)
    _check_sizes(settings)
    names = list(MODELS if models is None else models)
    pairs = _pairs(names, list(precisions), fit.TASKS[task] if methods is None else list(methods), task)
    able = [name for name in names if not fit.too_long(fit.Plan(name, "fp32", device=device, **settings))]
    if not able:
        raise InputError(fit.too_long(fit.Plan(names[0], "fp32", device=device, **settings)))
    held = held_bytes(device) if held is None else held
    rows = []
    with _quiet():
        numbers = {name: _numbers(name) for name in able}
        for name in sorted(able, key=lambda name: -numbers[name]):
            progress(f"fit: {name}")
            loads: dict[str, int] = {}
            for precision, method in pairs:
                plan = fit.Plan(name, precision, method, device=device, **settings)
                if precision not in loads:
                    loads[precision] = fit.load_bytes(plan)
                rows.append(_row(plan, loads[precision], memory, held) | {"parameters": numbers[name], "best": False})
    for name in able:
        fitting = [row for row in rows if row["model"] == name and row["fits"]]
        if fitting:
            min(fitting, key=_preference)["best"] = True
    return rows


def explain(plan: fit.Plan, memory: int | None = None, held: int | None = None) -> dict:
    """One run as a row of `listing`, with `savings`: the process's peak with gradient checkpointing, and with 8-bit AdamW.

    Savings are a list of `{change, peak_bytes, saves_bytes}`, empty where nothing is trained or the plan has them already.
    """
    _check_memory(memory)
    _check_sizes(asdict(replace(plan, model=None)))
    if isinstance(plan.model, str):
        catalogue.known(plan.model)
    fit.resolved(plan)
    held = held_bytes(plan.device) if held is None else held
    with _quiet():
        load = fit.load_bytes(plan)
        found = _row(plan, load, memory, held) | {"parameters": _numbers(plan.model), "savings": []}
        for change, lighter in _lighter(plan):
            peak = _row(lighter, load, memory, held)["peak_bytes"]
            found["savings"].append({"change": change, "peak_bytes": peak, "saves_bytes": found["peak_bytes"] - peak})
    return found


def caveat(device: str, held: int) -> str:
    """What the figures are and are not, in one line."""
    if device == "cuda":
        return "accounted, not measured, and on a GPU not yet held against a measurement: its tensors alone, the CUDA context is not counted"
    beside = f"with the {held / 1e6:,.0f} MB that this one holds after its imports" if held else "without the interpreter and its libraries"
    return f"accounted, not measured: the peak of a process, {beside}"


def listing_text(rows: list[dict]) -> str:
    """The rows as a Markdown table under two lines: what they are, and what the mark means."""
    first = rows[0]
    lines = [caveat(first["device"], first["held_bytes"]), ""]
    columns = ["model", "parameters", "precision", "method", "peak", "decided by"]
    if first["memory_bytes"] is not None:
        columns += [f"of {_gb(first['memory_bytes'])}", "best"]
        lines[1:1] = [BEST]
    lines += [_line(columns), _line("---" for _ in columns)]
    for row in rows:
        cells = [row["model"], f"{row['parameters'] / 1e6:,.0f} M", row["precision"], row["method"], _gb(row["peak_bytes"]), row["decides"]]
        if row["memory_bytes"] is not None:
            cells += [_room(row), "*" if row["best"] else ""]
        lines.append(_line(cells))
    return "\n".join(lines)


def explanation_text(found: dict) -> str:
    """What `explain` found as a stacked bar in text, a line a part, of at most `WIDTH` columns; the lines under it say the rest."""
    parts = [(_LABELS.get(name, name), size) for name, size in found["parts_bytes"].items() if size]
    parts += [("held by the process", found["held_bytes"])] if found["held_bytes"] else []
    total = sum(size for _, size in parts)
    scale = max(total, found["load_bytes"] + found["held_bytes"])
    rows = [(label, size, f"{100 * size / total:.1f} %", start) for (label, size), start in zip(parts, _starts(parts), strict=True)]
    step = "decoding" if found["task"] == "decode" else "a training step"
    rows += [(f"total of {step}", total, "100.0 %", 0), ("peak of loading", found["load_bytes"] + found["held_bytes"], "", 0)]
    lines = [*_heading(found), "", *_bars(rows, scale), ""]
    lines.append(f"peak {_mb(found['peak_bytes'])}: {_phase(found)}")
    for saving in found["savings"]:
        saved = f"would save {_mb(saving['saves_bytes'])}" if saving["saves_bytes"] >= 50_000 else "would save next to nothing"
        then = found["fits"] is False and saving["peak_bytes"] <= found["memory_bytes"]
        lines.append(f"{saving['change']} {saved}: peak {_mb(saving['peak_bytes'])}{', which fits' if then else ''}")
    if found["fits"] is not None:
        lines.append(f"{'fits' if found['fits'] else 'does not fit'} {_gb(found['memory_bytes'])}: {_room(found)}")
    return "\n".join(lines)


def nothing_fits(rows: list[dict]) -> str:
    """The line for a listing of which nothing fits: what would take the least."""
    least = min(rows, key=lambda row: row["peak_bytes"])
    named = f"{least['model']} in {least['precision']}" + (f" with {least['method']}" if least["task"] == "train" else "")
    return f"nothing fits {_gb(least['memory_bytes'])}: {named} takes the least, {_gb(least['peak_bytes'])}"


def left_out(rows: list[dict], model: str | None = None) -> list[str]:
    """The models of the study of which a listing has no row: they have not the positions for what it writes."""
    from asum_lib.models.catalogue import MODELS

    return [] if model else [name for name in MODELS if name not in {row["model"] for row in rows}]


def _row(plan: fit.Plan, load: int, memory: int | None, held: int) -> dict:
    account, plan = fit.account(plan), fit.resolved(plan)
    peak = max(load, account.peak) + held
    trains = plan.method != "none"
    described = {key: value for key, value in asdict(replace(plan, model=None)).items() if key != "model"}
    described |= {"task": "train" if trains else "decode", "rank": plan.rank if plan.method in ("lora", "adalora") else None}
    described |= {} if trains else {"optimizer": None, "gradient_checkpointing": False}
    step = "optimiser" if account.where == "optimizer step" else "step"
    return {
        "model": plan.model if isinstance(plan.model, str) else plan.model.model_type,
        **described,
        "parts_bytes": {name: getattr(account, name) for name in PARTS},
        "load_bytes": load,
        "step_bytes": account.peak,
        "held_bytes": held,
        "peak_bytes": peak,
        "decides": "load" if load > account.peak else step,
        "where": account.where,
        "memory_bytes": memory,
        "spare_bytes": None if memory is None else memory - peak,
        "fits": None if memory is None else peak <= memory,
    }


def _pairs(models: list[str], precisions: list[str], methods: list[str], task: str) -> list[tuple[str, str]]:
    """(precision, method) of a listing; `fit.resolved` refuses where what is asked for cannot be at all."""
    for name in models:
        catalogue.known(name)
    for precision in precisions:
        choose("precision", precision, fit.PRECISIONS)
    for method in methods:
        choose(f"method of task {task}", method, fit.TASKS[task])
    pairs = [(precision, method) for precision in precisions for method in methods if method != "full" or precision not in fit.QUANTISED]
    if not (models and precisions and methods):
        raise InputError("a listing needs a model, a precision and a method: one of them is empty")
    if not pairs:
        fit.resolved(fit.Plan(models[0], precisions[0], methods[0]))
    return pairs


def _preference(row: dict) -> tuple[int, bool, int]:
    """The smaller the better, by the rule `BEST`: AdamW in half precision rounds small updates of the weights away (Micikevicius et al. 2018)."""
    return (
        fit.PRECISIONS.index(row["precision"]),
        row["method"] == "full" and row["precision"] != "fp32",
        ("none", "full", "lora", "adalora").index(row["method"]),
    )


def _lighter(plan: fit.Plan) -> Iterator[tuple[str, fit.Plan]]:
    if plan.method != "none" and not plan.gradient_checkpointing:
        yield "gradient checkpointing", replace(plan, gradient_checkpointing=True)
    if plan.method != "none" and plan.optimizer == "adamw":
        yield "8-bit AdamW", replace(plan, optimizer="adamw8bit")


def _numbers(model) -> int:
    """Parameters of a model, and the few numbers of its buffers: its bytes in float32, by four."""
    return fit.load_bytes(fit.Plan(model, "fp32")) // 4


def _check_memory(memory: int | None) -> None:
    if memory is not None and memory <= 0:
        raise InputError(f"memory of {memory} bytes is not above 0")


def _check_sizes(settings: Mapping[str, object]) -> None:
    """Refuse what is out of bounds before anything heavy is imported; `fit.resolved` finds the same and more where there is a plan."""
    for name, most in MOST.items():
        value, least = settings.get(name, 1), int(name in ("batch_size", "rank"))  # 0 tokens stand for the usual number
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            what = f"{name} tokens" if name in ("read", "written") else name.replace("_", " ")
            raise InputError(f"{what} {value!r}: should be a whole number from 1 to {most:,}")


def _free(device: str) -> int:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("memory 'free' on device cuda: torch sees no GPU here, write a size such as 24GB")
    free = free_bytes(device == "cuda")
    if free is None:
        raise InputError("memory 'free': this system does not say what is free, write a size such as 8GB")
    return free


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries say of kernels, caches and names that no accounting uses."""
    from transformers.utils import logging as of_transformers  # sets its own level when it is imported

    level = of_transformers.get_verbosity()
    of_transformers.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            yield
    finally:
        of_transformers.set_verbosity(level)


def _heading(found: dict) -> list[str]:
    batch = f"batch of {found['batch_size']}"
    read = f", {found['read']} tokens read" if found["read"] else ""
    trained = ""
    if found["task"] == "train":
        rank = f" of rank {found['rank']}" if found["rank"] else ""
        trained = f", {found['method']}{rank} with {found['optimizer']}{', checkpointing' if found['gradient_checkpointing'] else ''}"
    what = f"{found['model']} in {found['precision']}{trained}"
    return [
        what,
        f"{batch}{read}, {found['written']} tokens written, on {found['device']}",
        *textwrap.wrap(caveat(found["device"], found["held_bytes"]), WIDTH),
    ]


def _phase(found: dict) -> str:
    if found["decides"] == "load":
        return f"loading decides; the step has its own in {found['where']}"
    if found["decides"] == "optimiser":
        return "the optimiser's step decides"
    return f"{'decoding' if found['task'] == 'decode' else 'the training step'} decides, in {found['where']}"


def _starts(parts: list[tuple[str, int]]) -> list[int]:
    return [sum(size for _, size in parts[:index]) for index in range(len(parts))]


def _bars(rows: list[tuple[str, int, str, int]], scale: int) -> list[str]:
    """A line a row (label, bytes, share, bytes where the bar begins), with `scale` bytes as wide as the columns left."""
    label, size = max(len(row[0]) for row in rows), max(len(_mb(row[1])) for row in rows)
    heads = [f"{name:<{label}}  {_mb(amount):>{size}}  {share:>7}  " for name, amount, share, _ in rows]
    width = WIDTH - len(heads[0])
    lines = []
    for head, (_, amount, _, start) in zip(heads, rows, strict=True):
        first, last = round(width * start / scale), round(width * (start + amount) / scale)
        lines.append((head + " " * first + "#" * (last - first)).rstrip())
    return lines


def _room(row: dict) -> str:
    return f"{_gb(abs(row['spare_bytes']))} {'left' if row['fits'] else 'missing'}"


def _mb(amount: int) -> str:
    return f"{amount / 1e6:,.1f} MB"


def _gb(amount: int) -> str:
    return f"{amount / 1e9:,.2f} GB"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
