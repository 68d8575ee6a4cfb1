"""Bytes of a model: its weights as they lie in memory, quantisation state included, and what a run will need, said before it.

The second is an estimate by accounting, so that a run that cannot fit is refused before anything long starts.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from asum_lib.errors import InputError

TEXT_TOKENS = 160  # of a text that 30 s of quick speech make, rounded up
BYTES_OF = {"float32": 4, "bfloat16": 2}
SCALES = {"int4": 4 / 64, "int4-dq": 1 / 64, "fp4": 4 / 64}  # bytes of scale a weight: a float a block of 64, or one byte


def weights_bytes(model) -> int:
    """Bytes of parameters and buffers, each storage counted once, plus bitsandbytes' scales, codes and offsets.

    transformers' `get_memory_footprint()` leaves the quantisation state out; this does not.
    """
    seen: dict[int, int] = {}
    for tensor in _tensors(model):
        seen[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
    return sum(seen.values())


def parameter_counts(model) -> tuple[int, int]:
    """(all parameters, trainable parameters); a 4-bit weight counts as the matrix it stands for."""
    total = trainable = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = state.shape.numel() if state is not None else parameter.numel()
        total += count
        trainable += count * parameter.requires_grad
    return total, trainable


def _tensors(model):
    for tensor in [*model.parameters(), *model.buffers()]:
        yield tensor
        state, scales = getattr(tensor, "quant_state", None), getattr(tensor, "SCB", None)
        if scales is not None:
            yield scales
        while state is not None:
            yield from (part for part in (state.absmax, state.code, state.offset) if part is not None)
            state = state.state2
    for module in model.modules():  # at its first forward an int8 layer takes the scales over from its weight
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if scales is not None:
            yield scales


@dataclass(frozen=True)
class Plan:
    """What a run does to memory. `model` is a real size or a `WhisperConfig`; batch sizes are utterances in the model at once."""

    model: object
    precision: str
    method: str = "none"
    batch_size: int = 1  # when it transcribes
    train_batch_size: int = 1  # when it trains: the micro-batch
    gradient_checkpointing: bool = False
    rank: int = 8
    on_gpu: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes that a run needs beside the interpreter and its libraries."""

    weights: int
    load: int  # highest while loading
    run: int  # activations, caches, gradients, optimiser: highest of transcribing and training

    @property
    def total(self) -> int:
        return max(self.load, self.weights + self.run)


def need(plan: Plan) -> Need:
    """Estimate of a run's memory, in bytes.

    The unit of activations is u = encoder positions x width x bytes of a number, 7.7 MB an utterance for Whisper large in
    float32. Transcribing takes 12 u for each window that the encoder sees at once (the feed-forward layer and its copies), and
    for each of the batch its state and the decoder's cache, 2 u a layer; training keeps 18 u a layer of the encoder and 5 u of
    the decoder, with gradient checkpointing 1 u each. On a CPU the backward pass of attention holds four matrices of positions
    x positions a head, and int8 arithmetic 20 u of copies. Loading a quantised model on a CPU has the unquantised layers in
    memory once, at worst; so has transcribing with 4-bit weights, up to `UNPACKED_BYTES`. Measured peaks of training tiny and
    base lay from 0.8 to 1.2 times this; those of transcribing in int8 up to twice.
    """
    from asum_lib.models.loading import QUANTISATION, UNPACKED_BYTES, compute_dtype
    from asum_lib.models.transcribe import ENCODER_POSITIONS, ENCODER_WINDOWS_GPU

    config = _config(plan.model)
    linear, rows, rest = _counts(config)
    quantised, size = plan.precision in QUANTISATION, BYTES_OF[compute_dtype(plan.precision)]
    weights = _linear_bytes(plan.precision, linear, rows, size) + rest * size
    load = weights if plan.on_gpu or not quantised else max(weights, 4 * linear)

    positions, width = config.max_source_positions, config.d_model
    unit = positions * width * size
    copies = 20 * unit if plan.precision == "int8" and not plan.on_gpu else 0
    logits = 3 * TEXT_TOKENS * config.vocab_size * 4
    cache = 2 * config.decoder_layers * (positions + TEXT_TOKENS) * width * size
    at_once = ENCODER_WINDOWS_GPU if plan.on_gpu else max(1, ENCODER_POSITIONS // positions)
    run = min(plan.batch_size, at_once) * (12 * unit + copies) + plan.batch_size * (unit + cache)
    if plan.precision in SCALES and not plan.on_gpu and linear * size <= UNPACKED_BYTES:
        run += linear * size
    if plan.method != "none":
        kept = (1, 1) if plan.gradient_checkpointing else (18, 5)
        layers = kept[0] * config.encoder_layers + kept[1] * config.decoder_layers
        attention = 0 if plan.on_gpu else 4 * config.encoder_attention_heads * positions**2 * size
        trained = _trained(config, plan, linear + rest)
        states = trained * (3 * size if plan.method == "full" else 16)  # a gradient and two of Adam's; an adapter's weights too
        run = max(run, plan.train_batch_size * (layers * unit + copies + attention + logits) + states)
    return Need(weights, load, run)


def free_bytes(on_gpu: bool = False) -> int | None:
    """Memory that a run can have: of the GPU of this process, or of the machine within the limit of its control group.

    What this process has reserved on the GPU and does not use counts as free. None where the system does not say.
    """
    if on_gpu:
        import torch

        from asum_lib.models.loading import device

        free, _ = torch.cuda.mem_get_info(device())
        return free + torch.cuda.memory_reserved(device()) - torch.cuda.memory_allocated(device())
    known = [amount for amount in (_available(), _group_left()) if amount is not None]
    return min(known) if known else None


def check_memory(plan: Plan, free: int | None = None) -> Need:
    """The plan's `Need`; refused in one line where it exceeds `free` bytes (default: `free_bytes`), with what would fit.

    Takes milliseconds. Where the system does not say what is free, nothing is refused.
    """
    free = free_bytes(plan.on_gpu) if free is None else free
    found = need(plan)
    if free is None or found.total <= free:
        return found
    advice = ", or ".join(_fitting(plan, free)) or "a machine with more memory"
    place = "on the GPU" if plan.on_gpu else "on this machine"
    raise InputError(f"{_described(plan)} needs about {_gb(found.total)} of memory and {_gb(free)} is free {place}: what would fit is {advice}")


def _fitting(plan: Plan, free: int) -> list[str]:
    """The lighter runs that `free` bytes hold, in words with their bytes; of the smaller sizes the largest."""
    found = [(text, amount) for text, other in _alternatives(plan) if (amount := need(other).total) <= free]
    sizes = [text for text, _ in found if text.startswith("size ")]
    return [f"{text} ({_gb(amount)})" for text, amount in found if text not in sizes[1:]]


def _alternatives(plan: Plan):
    """(description, plan) of lighter runs that a user can ask for, those that change the least first, sizes from the largest."""
    from asum_lib.models.real import ARCHITECTURES

    lighter = [precision for precision in ("bf16", "int8", "int4") if precision != plan.precision]
    if plan.method == "full":
        lighter = lighter[:1] if plan.precision == "fp32" else []
        yield "method lora", replace(plan, method="lora")
    for precision in lighter:
        yield f"precision {precision}", replace(plan, precision=precision)
    if plan.method != "none":
        yield "method none", replace(plan, method="none")
    if isinstance(plan.model, str) and plan.model in ARCHITECTURES:
        sizes = sorted(("tiny", "base", "small", "medium", "large"), key=lambda size: sum(_counts(_config(size))))
        smaller = [size for size in sizes if sum(_counts(_config(size))) < sum(_counts(_config(plan.model)))]
        for size in reversed(smaller):
            yield f"size {size}", replace(plan, model=size)


def _described(plan: Plan) -> str:
    name = f"Whisper {plan.model}" if isinstance(plan.model, str) else f"this Whisper ({sum(_counts(plan.model)[::2]) / 1e6:.0f} M parameters)"
    batch = f"{plan.batch_size} utterance{'s' if plan.batch_size > 1 else ''} at a time"
    if plan.method != "none":
        batch += f", {plan.train_batch_size} in training"
    return f"{name} in {plan.precision}, method {plan.method}, {batch},"


def _gb(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB"


def _config(model):
    from asum_lib.models import real

    return real.config(model) if isinstance(model, str) else model


def _counts(config) -> tuple[int, int, int]:
    """(weights of the linear layers, their rows, all other parameters): what is quantised, its scales, and what is not.

    Taken from a model of one layer without memory, since all layers are alike.
    """
    kind = (config.vocab_size, config.d_model, config.num_mel_bins, config.max_source_positions, config.max_target_positions)
    widths = (config.encoder_ffn_dim, config.decoder_ffn_dim, config.encoder_attention_heads, config.decoder_attention_heads)
    return _counted(kind, widths, config.encoder_layers, config.decoder_layers)


@lru_cache(maxsize=64)
def _counted(kind: tuple, widths: tuple, encoder_layers: int, decoder_layers: int) -> tuple[int, int, int]:
    from math import prod

    from transformers import WhisperConfig

    from asum_lib.models.checkpoint import layout

    names = ("vocab_size", "d_model", "num_mel_bins", "max_source_positions", "max_target_positions")
    names += ("encoder_ffn_dim", "decoder_ffn_dim", "encoder_attention_heads", "decoder_attention_heads")
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)  # any that the vocabulary has
    shapes, tied = layout(WhisperConfig(**dict(zip(names, kind + widths, strict=True)), encoder_layers=1, decoder_layers=1, **special))
    linear = rows = rest = 0
    for name, shape in shapes.items():
        if name in tied:
            continue
        times = encoder_layers if "encoder.layers." in name else decoder_layers if "decoder.layers." in name else 1
        if ".layers." in name and len(shape) == 2:
            linear += times * prod(shape)
            rows += times * shape[0]
        else:
            rest += times * prod(shape)
    return linear, rows, rest


def _linear_bytes(precision: str, linear: int, rows: int, size: int) -> int:
    if precision == "int8":
        return linear + 4 * rows
    if precision in SCALES:
        return int(linear * (0.5 + SCALES[precision]))
    return linear * size


def _trained(config, plan: Plan, parameters: int) -> int:
    """Trained parameters: all, or two thin matrices for query, key and value of every attention; AdaLoRA starts half as wide again."""
    if plan.method == "full":
        return parameters
    rank = plan.rank * 3 // 2 if plan.method.startswith("adalora") else plan.rank
    return 3 * (config.encoder_layers + 2 * config.decoder_layers) * rank * 2 * config.d_model


def _available() -> int | None:
    """MemAvailable of Linux, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group_left(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the process's control group (a container, a batch job) and those above it leave, in bytes; None where none limits it.

    File pages count as free: the system takes them back. Version 2 of control groups; version 1 is not asked.
    """
    try:
        own = next(line[3:].strip("/") for line in membership.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    left = []
    for folder in (root / own, *(root / own).parents):
        if not folder.is_relative_to(root):
            break
        try:
            limit, used = int((folder / "memory.max").read_text()), int((folder / "memory.current").read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        left.append(limit - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0)))
    return min(left, default=None)
