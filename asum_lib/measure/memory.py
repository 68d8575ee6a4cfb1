"""Bytes of a model: what lies in memory, counted; and what a step will need, accounted for before it.

"Memory" means at least five things, and each figure here says which: the *weights* with all that belongs to them; the
*footprint* as transformers counts it, without quantisation state; the file on *disk*; and two peaks, of a *process* and of
what a GPU's allocator handed out. This module counts the first two and accounts for the peak of live tensors, which the last
two exceed by what their allocators keep. The accounting runs on models without content (PyTorch's meta device) and
knows no model family. Measuring is `asum_lib.measure.peak`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import choose

OPTIMIZERS = ("adamw", "adamw8bit", "paged-adamw8bit")
UPDATE_COPIES = 2  # torch's AdamW makes two temporaries as large as the parameter that it updates


def weights_bytes(model) -> int:
    """Bytes of parameters and buffers, each storage counted once, plus bitsandbytes' scales, codes and offsets.

    transformers' `get_memory_footprint()` leaves the quantisation state out; this does not.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in held(model))


def held(model) -> list:
    """Every tensor that lies in memory with the model: parameters, buffers, quantisation state, each storage once."""
    seen: dict[int, object] = {}
    for tensor in _tensors(model):
        seen.setdefault(tensor.untyped_storage()._cdata, tensor)
    return list(seen.values())


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
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from _states(module)


def _states(module):
    """bitsandbytes' scales, codes and offsets of a module's own weight."""
    for parameter in module._parameters.values():
        state, scales = getattr(parameter, "quant_state", None), getattr(parameter, "SCB", None)
        if scales is not None:
            yield scales
        while state is not None:
            yield from (part for part in (state.absmax, state.code, state.offset) if part is not None)
            state = state.state2
    scales = getattr(getattr(module, "state", None), "SCB", None)  # at its first forward an int8 layer takes the scales over from its weight
    if scales is not None:
        yield scales


@dataclass(frozen=True)
class Part:
    """Weights of one kind of module in one dtype, e.g. ("linear", "int8")."""

    kind: str  # linear, embedding, convolution, norm, other, quantisation state or adapter
    dtype: str
    numbers: int
    bytes: int


@dataclass(frozen=True)
class Account:
    """Bytes at the peak of a step, by what they are for. `peak` is their sum.

    Live tensors only: what an allocator keeps beside them, the interpreter and the libraries come on top.
    """

    weights: int
    quantisation_state: int
    adapters: int
    gradients: int  # that exist at the peak
    optimizer: int
    activations: int  # kept for the backward pass, and the temporaries of the peak
    cache: int  # keys and values of decoding
    where: str  # the stack and direction of the peak, or "optimizer step"

    @property
    def parts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in PARTS}

    @property
    def peak(self) -> int:
        return sum(self.parts.values())


PARTS = ("weights", "quantisation_state", "adapters", "gradients", "optimizer", "activations", "cache")


def weight_parts(model, stacks: Mapping[str, object] = {}, depths: Mapping[str, int] = {}) -> list[Part]:
    """The weights by kind and dtype, the largest first; with `stacks` and `depths` those of the model with that many layers.

    A module list in `stacks` is shorter than `depths` says: its last layer stands for those that are missing.
    """
    totals: dict[tuple[str, str], list[int]] = {}

    def add(module, times: int, seen: set) -> None:
        for kind, tensor in _kinds(module):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            entry = totals.setdefault((kind, str(tensor.dtype).removeprefix("torch.")), [0, 0])
            entry[0] += times * tensor.numel()
            entry[1] += times * tensor.numel() * tensor.element_size()

    add(model, 1, set())
    for name, stack in stacks.items():
        add(stack[-1], depths[name] - len(stack), set())
    parts = [Part(*key, numbers, size) for key, (numbers, size) in totals.items() if size]
    return sorted(parts, key=lambda part: -part.bytes)


def optimizer_bytes(sizes: Iterable[tuple[int, int]], optimizer: str) -> int:
    """Bytes of the optimiser's state for parameters given as (numbers, bytes of a number).

    `adamw` is PyTorch's: two states of the parameter's own dtype and a step counter of 4 bytes. `adamw8bit` and its paged form are bitsandbytes'
    (Dettmers et al. 2022): two bytes a number, two float32 scales a block of 256, and two shared tables of 256 float32; a parameter of
    fewer than 4,096 numbers keeps two float32 states. Paged states are as large, and may be moved to the host's memory.
    """
    choose("optimizer", optimizer, OPTIMIZERS)
    sizes = list(sizes)
    if optimizer == "adamw":
        return sum(2 * numbers * size + 4 for numbers, size in sizes)
    small = sum(8 * numbers for numbers, _ in sizes if numbers < 4096)
    large = [numbers for numbers, _ in sizes if numbers >= 4096]
    return small + sum(2 * numbers + 8 * -(-numbers // 256) for numbers in large) + (2048 if large else 0)


def training_account(model, forward: Callable[[], object], stacks, depths, optimizer: str = "adamw") -> Account:
    """The account of a training step from the second on, when the optimiser has its state; `forward` returns the loss.

    The model is traced with the few layers that it has (see `measure.trace`). The peak is that of the forward and backward passes, or that
    of the optimiser's step, where all gradients are there and the activations are not.
    """
    from asum_lib.measure.trace import traced

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    step = traced(forward, stacks, depths, held(model), trained)
    sizes = _trained_sizes(model, stacks, depths)
    gradients = sum(numbers * size for numbers, size in sizes)
    update = UPDATE_COPIES * max(numbers * size for numbers, size in sizes) if optimizer == "adamw" else 0
    peak = (step.gradients, step.peak - step.gradients, step.where)
    if gradients + update > step.peak:
        peak = (gradients, update, "optimizer step")
    return Account(*_weights(model, stacks, depths), peak[0], optimizer_bytes(sizes, optimizer), peak[1], 0, peak[2])


def decoding_account(model, decode: Callable[[], object], stacks, depths, cache_per_layer: Mapping[str, int], unpacked: int = 0) -> Account:
    """The account of decoding; `decode` runs it, `cache_per_layer` are the bytes of keys and values that a layer of a stack keeps.

    `unpacked` are the bytes of dequantised weights that our transcription keeps beside the 4-bit ones on a CPU.
    """
    from asum_lib.measure.trace import traced

    step = traced(decode, stacks, depths, held(model), cache_per_layer=cache_per_layer)
    cache = sum(depths[name] * size for name, size in cache_per_layer.items())
    cache = min(cache, step.peak)  # the peak may lie before the cache is full
    return Account(*_weights(model, stacks, depths), 0, 0, step.peak - cache + unpacked, cache, step.where)


def _weights(model, stacks, depths) -> tuple[int, int, int]:
    """(weights, quantisation state, adapters) in bytes."""
    parts = weight_parts(model, stacks, depths)
    state, adapters = (sum(part.bytes for part in parts if part.kind == kind) for kind in ("quantisation state", "adapter"))
    return sum(part.bytes for part in parts) - state - adapters, state, adapters


def _trained_sizes(model, stacks, depths) -> list[tuple[int, int]]:
    """(numbers, bytes of a number) of every trained parameter of the model with `depths` layers."""
    sizes = [(p.numel(), p.element_size()) for p in model.parameters() if p.requires_grad]
    for name, stack in stacks.items():
        sizes += (depths[name] - len(stack)) * [(p.numel(), p.element_size()) for p in stack[-1].parameters() if p.requires_grad]
    return sizes


def _kinds(model):
    """(kind, tensor) of everything that lies in memory with `model`; a tensor that two modules share comes twice."""
    import torch

    for name, module in model.named_modules():
        own = "other"
        if isinstance(module, torch.nn.Linear):
            own = "linear"
        elif isinstance(module, torch.nn.Embedding):
            own = "embedding"
        elif isinstance(module, torch.nn.modules.conv._ConvNd):
            own = "convolution"
        elif type(module).__name__.endswith("Norm"):
            own = "norm"
        own = "adapter" if "lora_" in name or "ranknum" in name else own
        tensors = [*module._parameters.values(), *module._buffers.values()]
        yield from ((own, tensor) for tensor in tensors if tensor is not None)
        yield from (("quantisation state", tensor) for tensor in _states(module))


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
