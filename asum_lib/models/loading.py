"""A Whisper checkpoint in a precision: shipped mini rung, local folder, or the name of a fetched Hub repository.

Only local folders are read, safetensors only, no remote code. What makes a folder a sound checkpoint is
`asum_lib.models.checkpoint`; how it comes here from the Hub is `asum_lib.hub`.
"""

import copy
import json
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asum_lib import heap, paths
from asum_lib.errors import InputError, choose
from asum_lib.models import checkpoint, ladder, pretrained, real, two_bits
from asum_lib.models.two_bits import SIMULATED

QUANTISATION = {  # arguments of transformers' BitsAndBytesConfig; the rest of the model stays in `compute_dtype`
    "int8": {"load_in_8bit": True},
    "int4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int4-dq": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
}
PRECISIONS = ("fp32", "bf16", "fp16", *QUANTISATION)  # and those of SIMULATED, whose bytes are float32's
UNPACKED_BYTES = 2**30
ENGLISH = "en"
LARGE_CHECKPOINT_BYTES = 10**8  # the mini ladder's are below, the smallest real size's is above


@dataclass(frozen=True)
class Speech:
    """A loaded model with what it needs to hear and to write."""

    model: object
    tokenizer: object
    extractor: object
    generate: dict  # extra arguments of `model.generate`, e.g. the language of a multilingual checkpoint


def source(scale: str, size: str, model: str | None = None) -> str:
    """Where the checkpoint of a cell is: `model` if given, else the shipped rung (mini) or `openai/whisper-<size>` (paper)."""
    if model:
        return model
    return str(ladder.checkpoint(size)) if scale == "mini" else real.repository(size)


def folder_of(where: str) -> Path:
    """The local folder of a checkpoint: `where` itself, or the snapshot of the Hub repository `owner/name` in the cache.

    Nothing is fetched. Raises `InputError` where there is neither.
    """
    path = paths.expanded(where)
    published = where in {real.repository(size) for size in real.ARCHITECTURES}
    if path.is_dir() and not published:  # a folder `openai` that happens to be here does not stand in for the pinned checkpoint
        return path
    owner, _, name = where.partition("/")
    if owner in ("", ".", "..", "~") or not name or "/" in name or os.sep in name or (Path(owner).is_dir() and not published):
        raise InputError(f"checkpoint {where}: no such folder, and no name of a Hub repository (owner/name) either")

    from asum_lib import hub

    return Path(hub.snapshot(where))


def sizes_of(where: str, scale: str) -> list[str]:
    """The sizes that a Whisper checkpoint can be by its config.json, those of the scale first; none where it is of another shape."""
    try:
        config = json.loads((folder_of(where) / "config.json").read_text(encoding="utf-8"))
        shape = tuple(config.get(key) for key in ("d_model", "encoder_layers", "decoder_layers", "num_mel_bins"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return []  # what is wrong with it is said where it is loaded
    mini = [size for size, rung in ladder.LADDER.items() if shape == (rung.width, rung.layers, rung.layers, 80)]
    sizes = {
        size: numbers.vocabulary
        for size, numbers in real.ARCHITECTURES.items()
        if shape == (numbers.width, numbers.encoder_layers, numbers.decoder_layers, numbers.mel_bins)
    }
    published = sorted(sizes, key=lambda size: sizes[size] != config.get("vocab_size"))
    if scale == "mini":
        return [size for size in dict.fromkeys([*mini, *published]) if size in ladder.SIZES]
    return list(dict.fromkeys([*published, *mini]))


def device(scale: str = "paper") -> str:
    """Where models are put: at scale `mini` the CPU, else this process's CUDA device (`LOCAL_RANK`, as launchers set it) if there is one."""
    import torch

    if scale == "mini" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def compute_dtype(precision: str, scale: str = "paper") -> str:
    """Data type of what is not quantised, and of the arithmetic of 4-bit layers: `float32` or `bfloat16`.

    fp32 is float32 and bf16 is bfloat16 everywhere. A quantised model takes bfloat16 on a GPU that computes in it, since that
    halves what stays unquantised and is several times as fast, and float32 elsewhere: few processors multiply bfloat16 faster,
    a GPU that only emulates it is slower, and the shipped records were measured so. Scale `mini` is float32 on any machine.
    """
    import torch

    choose("precision", precision, (*PRECISIONS, *SIMULATED))
    if precision in ("bf16", "fp16"):
        return {"bf16": "bfloat16", "fp16": "float16"}[precision]
    on_gpu = precision in QUANTISATION and scale != "mini" and torch.cuda.is_available()
    return "bfloat16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def load_parts(where: str, language: str | None = None):
    """(tokenizer, feature extractor) of a checkpoint; `InputError` where the folder is not a sound checkpoint.

    The tokenizer's prefix says `language`, English by default; `InputError` for one that the model does not know.
    """
    folder = folder_of(where)
    checkpoint.check(folder)
    tokenizer = pretrained.tokenizer(folder, "WhisperTokenizer")
    extractor = pretrained.feature_extractor(folder)
    tokenizer.set_prefix_tokens(**_language(folder, language))
    tokenizer.clean_up_tokenization_spaces = False  # the published files ask for it, transformers leaves it out and says so each time
    return tokenizer, extractor


def load(where: str, precision: str, scale: str = "paper", language: str | None = None) -> Speech:
    """Load and quantise, after the folder was found sound. fp32, bf16 and what bitsandbytes leaves alone follow `compute_dtype`.

    The model is told to write `language`, English by default.
    """
    import torch

    place = device(scale)
    tokenizer, extractor = load_parts(where, language)
    folder = folder_of(where)
    model = load_model(folder, precision, compute_dtype(precision, scale), place)
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # torch's default for convolutions on a GPU is TF32, which is not fp32
    return Speech(model, tokenizer, extractor, _language(folder, language))


def load_model(folder: Path, precision: str, dtype: str | None = None, place: str = "cpu"):
    """The model of a checkpoint folder on device `place`, quantised; what is not quantised in `dtype` (None: `compute_dtype`).

    Needs config.json and safetensors only; raises `InputError` where they cannot be read or lack weights.

    A folder that `save_pretrained` wrote of a quantised model is loaded as it is.

    Weights are read one by one, so that beside the finished model there is one in memory. Left to itself transformers maps the
    file, whose pages count as resident memory until the end, converts four weights at a time, and glibc keeps most of what the
    conversion has freed (see `heap.steady`).
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from asum_lib.models import catalogue

    choose("precision", precision, (*PRECISIONS, *SIMULATED))
    dtype = choose("dtype", dtype or compute_dtype(precision), real.DTYPES)
    disable_progress_bar()  # a bar a cell for weights that load in milliseconds
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # a line a layer about float16 casts
    kind = getattr(torch, dtype)
    options = {"dtype": kind, "output_loading_info": True, "device_map": {"": place}}
    try:
        config = pretrained.config(folder)
        _check_described(folder, config)
        if not _is_quantised(folder, config, precision) and precision in QUANTISATION:
            options["quantization_config"] = quantisation_config(precision, kind)
        with _in_pieces(folder) as weights, _one_by_one(), _memory_for(folder):
            model, report = pretrained.model(catalogue.model_class(config), config, weights, **options)
        if (Path(folder) / "generation_config.json").is_file():  # which transformers does not look for beside weights that are given
            model.generation_config = pretrained.generation_config(folder)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"checkpoint {folder}: {_reason(error)}") from error
    except (RuntimeError, TypeError, AssertionError, KeyError) as error:  # whatever the use of a wrong number raises
        if "allocate" in str(error):
            raise
        raise InputError(f"checkpoint {folder}: config.json and weights are not of one model ({_reason(error)[:120]})") from error
    model.name_or_path = model.config.name_or_path = str(folder)  # adapters write it down; unknown where weights are given
    # transformers only warns of weights that it did not find, and goes on with random ones in their place.
    if invented := sorted(report["missing_keys"]):
        raise InputError(f"checkpoint {folder}: {len(invented)} weights were not found there, e.g. {invented[0]}: fetch it again")
    deepest = max(catalogue.depths(model.config).values())
    numbers = {name: re.search(r"\.(?:block|layers)\.(\d+)\.", name) for name in report["unexpected_keys"]}
    if beyond := sorted(name for name, number in numbers.items() if number and int(number[1]) >= deepest):
        raise InputError(f"checkpoint {folder}: config.json has {deepest} layers, but there are weights of more, e.g. {beyond[0]}")
    if precision in QUANTISATION:
        _mend_4bit_on_cpu(model)
    elif precision in SIMULATED:
        two_bits.simulate(model, precision)
    return model


def _check_described(folder: Path, config) -> None:
    """Refuse a configuration of far more numbers than the files hold, for which memory would be taken before they are compared."""
    from asum_lib.models import catalogue

    described = sum(math.prod(shape) for shape in catalogue.weights(config).values())
    held_bytes = sum(path.stat().st_size for path in checkpoint.weight_files(folder) if path.is_file())
    if held_bytes and described > 4 * held_bytes:  # a number takes half a byte at least, and may be stored once for several uses
        raise InputError(
            f"checkpoint {folder}: config.json and weights are not of one model: "
            f"it describes {described:,} numbers, and {held_bytes:,} bytes are there"
        )


def original_weights(model, names: Sequence[str]) -> dict:
    """{module's name: its weight before it was quantised, float32, on the CPU} from the checkpoint folder that `model` was loaded from.

    Raises `InputError` where the folder has them quantised, or not at all.
    """
    import torch

    folder, found = Path(model.name_or_path), {}
    with _in_pieces(folder) as weights:
        for name in names:
            unread = weights.get(f"{name}.weight")
            if unread is None or not (weight := unread.read()).is_floating_point():
                said = "is not there" if unread is None else "was saved quantised"
                raise InputError(f"checkpoint {folder}: the weight of {name} {said}: give the checkpoint as it was published, in full precision")
            found[name] = weight.to(torch.float32)
    return found


def is_quantised(module) -> bool:
    """Whether the weight of a linear layer is one of 4 bits, or simulated as one of fewer."""
    return hasattr(module.weight, "quant_state") or hasattr(module, "simulated")


def dequantised(module):
    """The weight (out, in) by which a linear layer multiplies, as floats: of a 4-bit layer what its codes stand for, else the weight itself.

    bitsandbytes' kernel is given one long row, for the reason that `_mend_4bit_on_cpu` has.
    """
    from bitsandbytes.functional import dequantize_4bit

    state = getattr(module.weight, "quant_state", None)
    if state is None:
        return module.weight.data
    as_one_row = copy.copy(state)
    as_one_row.shape = (state.shape.numel(),)
    return dequantize_4bit(module.weight.data, as_one_row).reshape(state.shape)


def requantise(module, weight) -> None:
    """Give a quantised layer other weights, floats (out, in): quantised in the way that its own are, on the device where they are."""
    import bitsandbytes

    if hasattr(module, "simulated"):
        module.weight.data = two_bits.rounded(weight, module.simulated).to(module.weight)
        return
    old = module.weight
    settings = {name: getattr(old, name) for name in ("quant_type", "blocksize", "compress_statistics", "quant_storage", "module")}
    packed = bitsandbytes.nn.Params4bit(weight.to("cpu", old.quant_state.dtype), requires_grad=False, **settings)
    module.weight = packed.to(old.device)


def _is_quantised(folder: Path, config, precision: str) -> bool:
    """Whether the checkpoint was saved quantised, which loads many times as fast; `InputError` where that is not the precision asked for."""
    saved = getattr(config, "quantization_config", None)
    if saved is None:
        return False
    wanted = quantisation_config(precision, "float32").to_dict() if precision in QUANTISATION else {}
    asked = ("load_in_8bit", "load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
    found = saved if isinstance(saved, dict) else saved.to_dict()
    if any(found.get(name) != wanted.get(name) for name in asked):
        said = ", ".join(f"{name} {found.get(name)}" for name in asked)
        raise InputError(f"checkpoint {folder}: its weights were saved quantised ({said}), precision {precision} cannot be made of them")
    return True


def quantisation_config(precision: str, dtype):
    """transformers' `BitsAndBytesConfig` of a precision in `QUANTISATION`; 4-bit layers compute in `dtype`, a torch dtype."""
    from transformers import BitsAndBytesConfig

    compute = {"bnb_4bit_compute_dtype": dtype} if "load_in_4bit" in QUANTISATION[precision] else {}
    return BitsAndBytesConfig(**QUANTISATION[precision], **compute)


def _memory_for(folder: Path):
    """What the conversion frees is given back at once, unless the checkpoint is small."""
    size = sum(path.stat().st_size for path in checkpoint.weight_files(folder))
    return heap.steady() if size > LARGE_CHECKPOINT_BYTES else nullcontext()


@contextmanager
def _one_by_one():
    """transformers converts in this thread: its pool of four is no faster here, and its peak depends on how the threads are scheduled."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _in_pieces(folder: Path):
    """{name: weight that is read from its file when it is indexed} of all weight files, without mapping them into memory."""
    from safetensors import safe_open

    with ExitStack() as files:
        weights = {}
        for path in checkpoint.weight_files(folder):
            file = files.enter_context(safe_open(path, framework="pt", backend="pread"))
            weights |= {name: _Unread(partial(file.get_tensor, name), file.get_slice(name).get_dtype) for name in file.keys()}  # noqa: SIM118 - a file is no mapping
        yield weights


@dataclass(frozen=True)
class _Unread:
    """A weight in its file; transformers takes `weight[...]` when it converts it. A slice of safetensors would hold it twice meanwhile."""

    read: Callable
    get_dtype: Callable  # its name in the file, e.g. F32: asked for where a checkpoint was saved quantised

    def __getitem__(self, index):
        return self.read()[index]


def _mend_4bit_on_cpu(model) -> None:
    """Keep the 4-bit layers of a model on a CPU from two faults of bitsandbytes 0.50.2.

    Its kernel starts a new block of 64 weights at every row, but quantisation runs on across rows: where a row is not whole
    blocks (widths 48, 96, 160), weights come back with other blocks' scales, at 0.25 relative error instead of 0.09. Such a
    layer dequantises its weights as one long row, for which the same kernel is right. And on processors with AVX512-BF16, at
    the first forward in evaluation mode, it repacks the weights of some widths for arithmetic in bf16, whatever the compute
    dtype asked for: another result on another machine, scales no longer doubly quantised, and a layer that training cannot go
    through any more. That is switched off, so that a layer computes as it does everywhere else.
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        module.support_avx512bf16_for_cpu = False
        if module.weight.device.type == "cpu" and module.in_features % module.weight.quant_state.blocksize:
            module.forward = partial(_linear_4bit, module)


def _linear_4bit(module, inputs):
    from torch.nn.functional import linear

    return linear(inputs, dequantised(module).to(inputs.dtype), module.bias)


@contextmanager
def unpacked(model):
    """Within it, the 4-bit layers of a model on a CPU keep their dequantised weights, instead of dequantising at every step.

    The arithmetic stays the same: bitsandbytes dequantises and multiplies too. A model whose layers would take more than
    `UNPACKED_BYTES` stays as it is, since the point of four bits is memory.
    """
    from torch.nn.functional import linear

    layers = [m for m in model.modules() if hasattr(m, "support_avx512bf16_for_cpu") and m.weight.device.type == "cpu"]
    if sum(m.weight.quant_state.shape.numel() * m.weight.quant_state.dtype.itemsize for m in layers) > UNPACKED_BYTES:
        layers = []
    before = {module: module.__dict__.get("forward") for module in layers}
    for module in layers:
        weight = dequantised(module)
        module.forward = lambda inputs, weight=weight, bias=module.bias: linear(inputs, weight.to(inputs.dtype), bias)
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def checksum(where: str, everything: bool = False) -> str:
    """SHA-256 over the weights of a checkpoint; with `everything` over the tokenizer and the settings too (see `checkpoint`)."""
    return checkpoint.checksum(folder_of(where), everything)


def note(where: str) -> str | None:
    """What the checkpoint says of itself, e.g. that its weights are random; None for an ordinary one."""
    return checkpoint.note(folder_of(where))


def _language(folder: Path, language: str | None) -> dict:
    """A multilingual checkpoint is told to transcribe a language; an English-only one refuses to be told anything."""
    known = checkpoint.languages(folder)
    if language is not None and language not in known:
        if known == (ENGLISH,):
            raise InputError(f"language {language!r}: checkpoint {folder} knows English alone: choose {ENGLISH}, or a multilingual Whisper")
        raise InputError(f"unknown language {language!r}: checkpoint {folder} knows {', '.join(known)}")
    return {"language": language or ENGLISH, "task": "transcribe"} if checkpoint.multilingual(folder) else {}


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
