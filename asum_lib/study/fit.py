"""What a run will need, from its configuration alone: which models fit a memory, and whether a planned cell does.

The figures come from `asum_lib.measure.memory`, on models without content. They are bytes of live tensors. A process has the
interpreter and its libraries beside them, and an allocator that keeps some more: little within `heap.steady`, as the memory table shows,
and much more without it for int8, whose many copies glibc does not give back.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from asum_lib.errors import InputError, choose
from asum_lib.measure.memory import OPTIMIZERS, Account, free_bytes

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4", "int4-dq", "fp4")
METHODS = ("none", "lora", "adalora", "full")
DEVICES = ("cpu", "cuda")
TASKS = {"decode": ("none",), "train": METHODS[1:]}
QUANTISED = ("int8", "int4", "int4-dq", "fp4")
FLOATS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
READ_TOKENS = 600  # that a text model reads: where the published models on Gazeta cut an article
WRITTEN_TOKENS = {"whisper": 160, "text": 200}  # of 30 s of quick speech; where those models cut a summary
QUANTISING_BYTES = 14  # a weight: float32 of the file, its float16, and two float32 of rounding (bitsandbytes' kernels in PyTorch)
# 8GB is 8 x 10^9 bytes; 8GiB is 8 x 2^30, and so is 8G as Slurm and ls have it, and 8Gi as free does.
UNITS = {"": 1, "B": 1} | {f"{letter}B": 10**power for letter, power in zip("KMGT", (3, 6, 9, 12), strict=True)}
UNITS |= {f"{letter}{form}": 2**power for letter, power in zip("KMGT", (10, 20, 30, 40), strict=True) for form in ("IB", "I", "")}


@dataclass(frozen=True)
class Plan:
    """One run. `model` is a name of the catalogue or a configuration; method `none` decodes, every other one trains.

    `batch_size` counts windows or texts in the model at once. A text model reads `read` tokens and writes `written` of them; Whisper reads a
    window. `rest` is the dtype of what is not quantised. 0 and None stand for the usual: see `resolved`.
    """

    model: object
    precision: str
    method: str = "none"
    rank: int = 8
    batch_size: int = 1
    read: int = 0
    written: int = 0
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    rest: str | None = None
    device: str = "cpu"


def resolved(plan: Plan) -> Plan:
    """The plan with every default filled in; raises `InputError` for what cannot be."""
    choose("precision", plan.precision, PRECISIONS)
    choose("method", plan.method, METHODS)
    choose("optimizer", plan.optimizer, OPTIMIZERS)
    choose("device", plan.device, DEVICES)
    for name in ("rank", "batch_size"):
        _positive(name, getattr(plan, name))
    for name in ("read", "written"):
        if getattr(plan, name):
            _positive(f"{name} tokens", getattr(plan, name))
    if plan.method == "full" and plan.precision in QUANTISED:
        raise InputError(f"method 'full' cannot train {plan.precision} weights: choose precision fp32, fp16 or bf16, or method lora or adalora")
    rest = FLOATS.get(plan.precision) or plan.rest or ("bfloat16" if plan.device == "cuda" else "float32")
    choose("dtype of the rest", rest, FLOATS.values())
    family, longest = _family(plan.model)
    speech = family == "whisper"
    read = 0 if speech else plan.read or READ_TOKENS
    usual = WRITTEN_TOKENS["whisper" if speech else "text"]
    written = plan.written or min(usual, longest or usual)
    plan = replace(plan, read=read, written=written, rest=rest)
    if problem := too_long(plan):
        raise InputError(problem)
    return plan


def too_long(plan: Plan) -> str | None:
    """Why the model has not the positions for what the plan reads and writes; None where it has. In LLaMA both lie in one text."""
    family, longest = _family(plan.model)
    if not longest:
        return None
    read = plan.read or READ_TOKENS
    name, room = plan.model if isinstance(plan.model, str) else "this model", longest - read if family == "llama" else longest
    if family != "whisper" and read > longest:
        return f"{read} read tokens: {name} reads at most {longest}"
    return f"{plan.written} written tokens: {name} writes at most {room}" if plan.written > room else None


def _family(model) -> tuple[str, int | None]:
    """(family, longest text in tokens; None without a limit), of a name of the catalogue without building its configuration."""
    from asum_lib.models import catalogue

    if isinstance(model, str):
        family = "whisper" if model.startswith("whisper-") else catalogue.entry(model).family
        return catalogue.known(model) and family, catalogue.LONGEST_TOKENS[family]
    positions = getattr(model, "max_target_positions", None) or getattr(model, "max_position_embeddings", None)
    return model.model_type, positions


def account(plan: Plan) -> Account:
    """Bytes at the peak of decoding or of a training step, by what they are for."""
    plan = resolved(plan)
    key = replace(plan, model=plan.model if isinstance(plan.model, str) else plan.model.to_json_string())
    if key not in _accounts:
        _accounts[key] = _account(plan)
    return _accounts[key]


def load_bytes(plan: Plan) -> int:
    """Bytes at the peak of loading a float32 file: the weights so far, and what the one that is converted takes meanwhile.

    Weights come in the order of their names. One that is cast lies there as float32 too; one that is quantised has copies beside it.
    That is a CPU's figure, used for a GPU too.
    """
    from asum_lib.models import catalogue

    plan = resolved(plan)
    config = _config(plan)
    skeleton = catalogue.skeleton(catalogue.shallow(config, 1), plan.rest, plan.precision)
    tensors = itertools.chain(skeleton.named_parameters(remove_duplicate=False), skeleton.named_buffers(remove_duplicate=False))
    finished = {re.sub(r"\d+", "0", name): tensor for name, tensor in tensors}  # a state_dict reads the offset of int4-dq, which has no value here
    quantised = {re.sub(r"\d+", "0", name) for name, module in skeleton.named_modules() if type(module).__name__ in ("Linear8bitLt", "Linear4bit")}
    held = peak = 0
    for name, shape in _in_loading_order(config):
        numbers, kind = math.prod(shape), re.sub(r"\d+", "0", name)
        if kind.removesuffix(".weight") in quantised and kind.endswith(".weight"):
            own, copies = _quantised_bytes(plan.precision, shape), QUANTISING_BYTES * numbers
        else:
            own = numbers * (finished[kind].element_size() if kind in finished else 4)
            copies = 4 * numbers if own != 4 * numbers else 0
        held += own
        peak = max(peak, held + copies)
    return peak


def _in_loading_order(config) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(name, shape) of a checkpoint's weights as transformers goes through them: by name, numbers by value."""
    from asum_lib.models import catalogue

    key = config.to_json_string()
    if key not in _orders:
        _orders[key] = tuple(sorted(catalogue.weights(config).items(), key=lambda item: _natural(item[0])))
    return _orders[key]


def _natural(name: str) -> list[tuple]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _quantised_bytes(precision: str, shape: tuple[int, ...]) -> int:
    """A quantised matrix with its scales (double quantisation: a byte a block of 64 and a float32 a block of 256 of these)."""
    numbers = math.prod(shape)
    if precision == "int8":
        return numbers + 4 * shape[0]
    blocks = -(-numbers // 64)
    return numbers // 2 + (blocks + 4 * -(-blocks // 256) if precision == "int4-dq" else 4 * blocks)


_orders: dict[str, tuple] = {}
_accounts: dict[Plan, Account] = {}


def _config(plan: Plan):
    from asum_lib.models import catalogue

    return catalogue.config(plan.model) if isinstance(plan.model, str) else plan.model


def _skeleton(plan: Plan):
    """(model of few layers without content, its stacks, the depths of the whole one)."""
    from asum_lib.measure.trace import LAYERS
    from asum_lib.models import catalogue

    config = _config(plan)
    model = catalogue.skeleton(catalogue.shallow(config, LAYERS), plan.rest, plan.precision)
    return model, catalogue.stacks(model), catalogue.depths(config)


def _account(plan: Plan) -> Account:
    from asum_lib.measure.memory import decoding_account, training_account
    from asum_lib.measure.standin import stand_in
    from asum_lib.measure.trace import kernels_of
    from asum_lib.models import catalogue
    from asum_lib.training.finetune import keep_layer_inputs_only

    model, stacks, depths = _skeleton(plan)
    stand_in(model, plan.device)
    shape = {"batch_size": plan.batch_size, "read": plan.read, "written": plan.written}
    with kernels_of(plan.device):
        if plan.method == "none":
            model.eval()
            cache, unpacked = catalogue.cache_bytes(model, **shape), _unpacked(plan, model)
            return decoding_account(model, lambda: catalogue.decode(model, **shape, device=plan.device), stacks, depths, cache, unpacked)
        adapted = prepare(model, plan.method, plan.rank)
        if plan.gradient_checkpointing:
            keep_layer_inputs_only(model)
        return training_account(adapted, lambda: adapted(**catalogue.training_inputs(model, **shape)).loss, stacks, depths, plan.optimizer)


def _unpacked(plan: Plan, model) -> int:
    """Bytes of the dequantised weights that `transcribe` keeps beside 4-bit ones of Whisper on a CPU, if they are few enough."""
    from asum_lib.models import catalogue
    from asum_lib.models.loading import UNPACKED_BYTES

    if plan.device != "cpu" or plan.precision not in QUANTISED[1:] or model.config.model_type != "whisper":
        return 0
    depths = catalogue.depths(_config(plan))
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    size = sum(layer.in_features * layer.out_features for layer in layers) * model.dtype.itemsize
    for name, stack in catalogue.stacks(model).items():
        last = [module for module in stack[-1].modules() if type(module).__name__ == "Linear4bit"]
        size += (depths[name] - len(stack)) * sum(layer.in_features * layer.out_features for layer in last) * model.dtype.itemsize
    return size if size <= UNPACKED_BYTES else 0


def prepare(model, method: str, rank: int):
    """The model that trains: whole, or with an adapter on the family's query, key and value projections; in training mode."""
    from asum_lib.models.catalogue import attention_modules
    from asum_lib.training.adapters import adapter_of, attach
    from asum_lib.training.finetune import train_whole

    if method == "full":
        return train_whole(model).train()
    steps = 100  # of a schedule that nothing here follows
    return attach(model, replace(adapter_of(method, rank), target_modules=attention_modules(model.config)), steps).train()


def _positive(name: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} {value!r} is not a whole number of 1 or more")


def accounted(precision: str, method: str) -> tuple[str, str]:
    """(precision, method) of a cell as a `Plan` knows them: simulated weights are floats, and variants of an adapter have its shapes."""
    from asum_lib.models.two_bits import SIMULATED

    return "fp32" if precision in SIMULATED else precision, method.removesuffix("-inactive").removesuffix("-5").replace("loftq", "lora")


@dataclass(frozen=True)
class Work:
    """A cell of the Whisper study: it is loaded, trains where its method does, and transcribes. Batch sizes are utterances in the model at once."""

    model: object
    precision: str
    method: str = "none"
    batch_size: int = 1  # when it transcribes
    train_batch_size: int = 1
    gradient_checkpointing: bool = False
    rank: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class Need:
    """Bytes that a cell needs beside the interpreter and its libraries, at the peak of each of its phases."""

    load: int
    decode: int
    train: int  # 0 where nothing is trained

    @property
    def total(self) -> int:
        return max(self.load, self.decode, self.train)


def need(work: Work) -> Need:
    """What a cell will need. Activations are accounted in the dtype of the weights: autocast on a GPU takes less."""
    precision, method = accounted(work.precision, work.method)
    plan = Plan(work.model, precision, device=work.device, batch_size=work.batch_size, rest=_rest(work))
    train = 0
    if method != "none":
        more = {"rank": work.rank, "batch_size": work.train_batch_size, "gradient_checkpointing": work.gradient_checkpointing}
        train = account(replace(plan, method=method, **more)).peak
    return Need(load_bytes(plan), account(plan).peak, train)


def check_memory(work: Work, free: int | None = None) -> Need:
    """The cell's `Need`; refused in one line where it exceeds `free` bytes (default: `free_bytes`), with what would fit.

    Where the system does not say what is free, nothing is refused.
    """
    free = free_bytes(work.device != "cpu") if free is None else free
    found = need(work)
    if free is None or found.total <= free:
        return found
    advice = ", or ".join(_fitting(work, free)) or "a machine with more memory"
    place = f"{gigabytes(free)} is free {'on this machine' if work.device == 'cpu' else 'on the GPU'}"
    raise InputError(f"{_described(work)} needs about {gigabytes(found.total)} of memory and {place}: what would fit is {advice}")


def _fitting(work: Work, free: int) -> list[str]:
    """The lighter cells that `free` bytes hold, in words with their bytes; of the smaller sizes the largest."""
    found, sizes = [], 0
    for text, other in _alternatives(work):
        if text.startswith("size ") and sizes:
            break
        if (amount := need(other).total) <= free:
            found.append(f"{text} ({gigabytes(amount)})")
            sizes += text.startswith("size ")
    return found


def _alternatives(work: Work) -> Iterator[tuple[str, Work]]:
    """(description, cell) of lighter ones that a user can ask for, those that change the least first, sizes from the largest."""
    from asum_lib.models.real import ARCHITECTURES

    lighter = [precision for precision in ("bf16", "int8", "int4") if precision != work.precision]
    if work.method == "full":
        lighter = lighter[:1] if work.precision == "fp32" else []
        yield "method lora", replace(work, method="lora")
    for precision in lighter:
        yield f"precision {precision}", replace(work, precision=precision)
    if work.method != "none":
        yield "method none", replace(work, method="none")
    if isinstance(work.model, str):
        ladder = ("large", "medium", "small", "base", "tiny")
        size = work.model.removeprefix("whisper-")
        width = ARCHITECTURES[size].width
        for smaller in ladder[ladder.index(size) + 1 :] if size in ladder else [rung for rung in ladder if ARCHITECTURES[rung].width < width]:
            yield f"size {smaller}", replace(work, model=f"whisper-{smaller}")


def _described(work: Work) -> str:
    name = f"Whisper {work.model.removeprefix('whisper-')}" if isinstance(work.model, str) else "this Whisper"
    batch = f"{work.batch_size} utterance{'s' if work.batch_size > 1 else ''} at a time"
    if work.method != "none":
        batch += f", {work.train_batch_size} in training"
    return f"{name} in {work.precision}, method {work.method}, {batch},"


def _rest(work: Work) -> str:
    from asum_lib.models.loading import compute_dtype

    return compute_dtype(work.precision) if work.device != "cpu" else "float32"


def gigabytes(amount: int) -> str:
    """`1.8 GB`, of 10^9 bytes."""
    return f"{amount / 1e9:.1f} GB"


def parts(plan: Plan) -> list:
    """The weights of a plan's model by kind and dtype (`measure.memory.Part`), adapters included."""
    from asum_lib.measure.memory import weight_parts

    plan = resolved(plan)
    model, stacks, depths = _skeleton(plan)
    if plan.method != "none":
        prepare(model, plan.method, plan.rank)
    return weight_parts(model, stacks, depths)


def counts(plan: Plan) -> tuple[int, int]:
    """(all parameters, trained parameters) of a plan's model; a 4-bit weight counts as the matrix it stands for."""
    from asum_lib.measure.memory import parameter_counts

    plan = resolved(plan)
    model, stacks, depths = _skeleton(plan)
    whole = model
    if plan.method != "none":
        whole = prepare(model, plan.method, plan.rank)
    found = parameter_counts(whole)
    for name, stack in stacks.items():
        more = parameter_counts(stack[-1])
        found = tuple(have + (depths[name] - len(stack)) * add for have, add in zip(found, more, strict=True))
    return found if plan.method != "none" else (found[0], 0)
