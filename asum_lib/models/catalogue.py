"""The models of the memory study, from configurations in code: what they are made of, and how each family trains and decodes.

Everything here builds on PyTorch's meta device, where a tensor has a shape and no memory, except `write_random`, which writes a
checkpoint of random weights. Where the published weights are is `asum_lib.models.real` and `asum_lib.hub`.
"""

import copy
import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.models import checkpoint, real

NOTE = "random weights, memory only"
CHUNK_NUMBERS = 1 << 24  # of random weights made at a time


@dataclass(frozen=True)
class Entry:
    """One model of the study."""

    name: str
    family: str  # whisper, t5, mbart or llama
    size: str
    numbers: dict  # of the configuration, beside the class's own defaults; Whisper's are in `asum_lib.models.real`
    source: str  # of the numbers


_WHISPER = "Radford et al. 2022, Table 1, and the published configurations"
_T5 = "Raffel et al. 2020, section 3.7, and the published configurations of t5-small, t5-base and t5-large"
# The paper's wordpieces are 32,000; the published embeddings have 32,128 rows. Its 770 million parameters of large count the output layer
# beside the embedding (32,128 x 1,024), which is the same matrix in these models and counts once here: 738 million.
_T5_SIZES = {  # layers a stack, width, feed-forward width, heads of 64
    "small": (6, 512, 2048, 8),
    "base": (12, 768, 3072, 12),
    "large": (24, 1024, 4096, 16),
}


def _t5(size: str) -> Entry:
    layers, width, inner, heads = _T5_SIZES[size]
    numbers = {"num_layers": layers, "num_decoder_layers": layers, "d_model": width, "d_ff": inner, "num_heads": heads, "d_kv": 64}
    numbers |= {"vocab_size": 32_128, "pad_token_id": 0, "decoder_start_token_id": 0, "dropout_rate": 0.1}
    return Entry(f"t5-{size}", "t5", size, numbers, _T5)


# mBART-large-cc25, of 25 languages, and not mBART-large-50 with its 250,054 tokens: the model that was published with Gazeta was trained from
# it (its training script names these 25 languages, github.com/IlyaGusev/summarus, external/bart_scripts/train.sh; Gusev 2020).
_MBART = {
    "vocab_size": 250_027,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
    "scale_embedding": True,
    "dropout": 0.1,
}
_LLAMA = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}
_WHISPERS = ("tiny", "base", "small", "medium", "large", "large-v3", "turbo")
MODELS = {
    **{f"whisper-{size}": Entry(f"whisper-{size}", "whisper", size, {}, _WHISPER) for size in _WHISPERS},
    **{f"t5-{size}": _t5(size) for size in _T5_SIZES},
    "mbart-large": Entry(
        "mbart-large", "mbart", "large", _MBART, "Liu et al. 2020, section 2.2, and the published configuration of mbart-large-cc25"
    ),
    "llama-7b": Entry("llama-7b", "llama", "7b", _LLAMA, "Touvron et al. 2023, Table 2; feed-forward width and vocabulary: published configuration"),
}


LONGEST_TOKENS = {"whisper": 448, "t5": None, "mbart": 1024, "llama": 2048}  # positions of the published configurations; T5's are relative


def entry(name: str) -> Entry:
    """The model of that name; `InputError` with the choices otherwise."""
    return MODELS[choose("model", name, MODELS)]


def known(name: str) -> str:
    """`name` if `config` knows it: a model of the study, or any published Whisper; `InputError` with the study's otherwise."""
    return name if name.removeprefix("whisper-") in real.ARCHITECTURES and name.startswith("whisper-") else entry(name).name


def config(name: str):
    """The transformers configuration of a model of the study, with the dropout of the published checkpoint: its masks are kept too."""
    import transformers

    size = name.removeprefix("whisper-")
    if size != name and size in real.ARCHITECTURES:  # those that are not in the study's list too
        return real.config(size)
    found = entry(name)
    kinds = {"t5": "T5Config", "mbart": "MBartConfig", "llama": "LlamaConfig"}
    resolved = getattr(transformers, kinds[found.family])(**found.numbers)
    resolved.architectures = [model_class(resolved).__name__]
    return resolved


def dropout(name: str) -> float:
    """The dropout of a model's published configuration: the share of numbers that a training step sets to 0."""
    if name.startswith("whisper-"):
        return 0.0
    numbers = entry(name).numbers
    return numbers.get("dropout_rate", numbers.get("dropout", 0.0))


def model_class(config):
    """The class of a configuration's family; `InputError` for another family."""
    import transformers

    classes = {
        "whisper": "WhisperForConditionalGeneration",
        "t5": "T5ForConditionalGeneration",
        "mbart": "MBartForConditionalGeneration",
        "bart": "BartForConditionalGeneration",
        "llama": "LlamaForCausalLM",
    }
    return getattr(transformers, classes[choose("model type", config.model_type, classes)])


def depths(config) -> dict[str, int]:
    """Layers of each stack, in the order of the forward pass: {"encoder": 32, "decoder": 32}, {"decoder": 32} for LLaMA."""
    if config.model_type == "llama":
        return {"decoder": config.num_hidden_layers}
    names = ("num_layers", "num_decoder_layers") if config.model_type == "t5" else ("encoder_layers", "decoder_layers")
    return dict(zip(("encoder", "decoder"), (getattr(config, name) for name in names), strict=True))


def shallow(config, layers: int):
    """A copy with at most `layers` layers in each stack, none of which is skipped at random in training."""
    result = copy.deepcopy(config)
    for name in ("encoder_layerdrop", "decoder_layerdrop"):
        if getattr(result, name, 0):
            setattr(result, name, 0.0)
    names = {"llama": ("num_hidden_layers",), "t5": ("num_layers", "num_decoder_layers")}.get(config.model_type, ("encoder_layers", "decoder_layers"))
    for name in names:
        setattr(result, name, min(layers, getattr(config, name)))
    return result


def stacks(model) -> dict[str, object]:
    """The module lists of repeated layers, in the order of the forward pass."""
    if model.config.model_type == "llama":
        return {"decoder": model.model.layers}
    if model.config.model_type == "t5":
        return {"encoder": model.encoder.block, "decoder": model.decoder.block}
    return {"encoder": model.model.encoder.layers, "decoder": model.model.decoder.layers}


def attention_modules(config) -> tuple[str, ...]:
    """The names of the paper's W^Q, W^K and W^V in this family."""
    return ("q", "k", "v") if config.model_type == "t5" else ("q_proj", "k_proj", "v_proj")


def skeleton(config, dtype: str = "float32", precision: str = "fp32"):
    """The model on the meta device, as it lies in memory when loaded: floats in `dtype`, linear layers quantised by transformers' own rule.

    That rule leaves out output layers and, for T5, the second matrix of each feed-forward layer, which also stays float32 where `dtype` is
    float16 (`_keep_in_fp32_modules` of transformers), and only there. Buffers follow `dtype` if a checkpoint holds them.
    """
    import torch

    from asum_lib.models.loading import QUANTISATION

    with torch.device("meta"):
        model = model_class(config)(config)
    kept = set(model._keep_in_fp32_modules if dtype == "float16" else ())
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not kept & set(name.split(".")):
            tensor.data = tensor.data.to(getattr(torch, dtype))
    model.requires_grad_(True)  # loading makes every floating point weight a trained one, Whisper's sinusoids too
    if precision in QUANTISATION:
        _quantise(model, getattr(torch, dtype), precision)
    return model


def training_inputs(model, batch_size: int, read: int, written: int) -> dict:
    """The arguments of `forward` for a training step, on the model's device: a window of sound or `read` tokens, and `written` labels."""
    import torch

    config, place = model.config, {"device": model.device}
    labels = torch.zeros(batch_size, written, dtype=torch.long, **place)
    if config.model_type == "whisper":
        return {"input_features": _window(model, batch_size), "labels": labels, "use_cache": False}
    tokens = torch.zeros(batch_size, read, dtype=torch.long, **place)
    if config.model_type == "llama":
        tokens = torch.zeros(batch_size, read + written, dtype=torch.long, **place)
        return {"input_ids": tokens, "labels": tokens, "use_cache": False}
    return {"input_ids": tokens, "labels": labels, "use_cache": False}


def decode(model, batch_size: int, read: int, written: int, device: str = "cpu"):
    """Encode and take the first and the last step of greedy decoding; returns (cache, encoder states) as they are then.

    The encoder of Whisper sees as many windows at once as our transcription shows it on `device`.
    """
    import torch

    with torch.no_grad():
        if model.config.model_type == "llama":
            inputs = torch.zeros(batch_size, read, dtype=torch.long, device=model.device)
            cache = model(input_ids=inputs, use_cache=True, logits_to_keep=1).past_key_values
            _fill(cache, written - 1)
            model(input_ids=inputs[:, :1], past_key_values=cache, use_cache=True)
            return cache, None
        states = _encoded(model, batch_size, read, device)
        prompt = 4 if model.config.model_type == "whisper" else 1
        cache = None
        for width in (prompt, 1):
            if cache is not None:
                _fill(cache.self_attention_cache, written - prompt - 1)
            inputs = torch.zeros(batch_size, width, dtype=torch.long, device=model.device)
            output = model.get_decoder()(input_ids=inputs, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            model.get_output_embeddings()(output.last_hidden_state[:, -1]).float()
            del output
        return cache, states


def cache_bytes(model, batch_size: int, read: int, written: int) -> dict[str, int]:
    """Bytes of keys and values that one layer of each stack keeps at the end of decoding, own and of the encoder's states."""
    config, size = model.config, model.dtype.itemsize
    if config.model_type == "llama":
        width, length = config.num_key_value_heads * config.head_dim, read + written
    else:
        positions = config.max_source_positions if config.model_type == "whisper" else read
        width, length = config.num_heads * config.d_kv if config.model_type == "t5" else config.d_model, positions + written
    return {"decoder": 2 * batch_size * width * length * size}


def weights(config) -> dict[str, tuple[int, ...]]:
    """The shape of every weight in a checkpoint file, by name; what is another weight by the rule of tying is left out."""
    import torch

    with torch.device("meta"):
        model = model_class(config)(config)
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}


def write_random(folder: Path, model, dtype: str = "float32", seed: int = 0) -> Path:
    """Write config.json and model.safetensors with random weights into the new folder `folder`; returns it.

    `model` is a name of the catalogue or a configuration. At most 64 MB of weights are made at a time. Norms are 1, biases 0, all else is
    normal with a deviation of 0.02; the same seed gives the same weights. Raises `InputError` where the disk has no room for them.
    """
    import torch

    choose("dtype", dtype, real.DTYPES)
    resolved = config(model) if isinstance(model, str) else model
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder {folder} is there already: name a new or an empty one")
    kind, name = getattr(torch, dtype), {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    found = weights(resolved)
    for weight, shape in found.items():
        start, end = end, end + math.prod(shape) * kind.itemsize
        header[weight] = {"dtype": name, "shape": list(shape), "data_offsets": [start, end]}
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if (free := shutil.disk_usage(parent).free) < end + 2**28:
        raise InputError(f"folder {folder}: the checkpoint takes {end / 1e9:.1f} GB and {free / 1e9:.1f} GB of disk are free")
    folder.mkdir(parents=True, exist_ok=True)
    described = resolved.to_dict() | {"architectures": [model_class(resolved).__name__], "dtype": dtype, "asum_note": NOTE}
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True, default=str) + "\n")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator, room = torch.Generator().manual_seed(seed), torch.empty(min(CHUNK_NUMBERS, max(math.prod(shape) for shape in found.values())))
    with open(folder / checkpoint.WEIGHTS, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for weight, shape in found.items():
            for count in _pieces(math.prod(shape)):
                values = room[:count]
                if len(shape) == 1 or weight.endswith("bias"):
                    values.fill_(float("norm" in weight and not weight.endswith("bias")))
                else:
                    values.normal_(0, 0.02, generator=generator)
                file.write(memoryview(values.to(kind).view(torch.uint8).numpy()))
    return folder


def _pieces(numbers: int) -> Iterator[int]:
    while numbers > 0:
        yield min(numbers, CHUNK_NUMBERS)
        numbers -= CHUNK_NUMBERS


def _quantise(model, dtype, precision: str) -> None:
    """Replace the linear layers as transformers does before it loads, and their weights by what bitsandbytes makes of them."""
    import bitsandbytes
    import torch
    from transformers.quantizers.auto import AutoHfQuantizer

    from asum_lib.models.loading import quantisation_config

    quantizer = AutoHfQuantizer.from_config(quantisation_config(precision, dtype), pre_quantized=False)
    quantizer.preprocess_model(model, device_map={"": "cpu"}, use_kernels=False)
    quantizer.postprocess_model(model)
    for layer in model.modules():
        if not isinstance(layer, (bitsandbytes.nn.Linear8bitLt, bitsandbytes.nn.Linear4bit)):
            continue
        if layer.bias is not None:
            layer.bias = torch.nn.Parameter(layer.bias.data.to(dtype))
        layer.weight = _int8_weight(layer) if precision == "int8" else _int4_weight(layer, dtype, precision)


def _int8_weight(layer):
    import bitsandbytes
    import torch

    values = torch.empty(layer.weight.shape, dtype=torch.int8, device="meta")
    weight = bitsandbytes.nn.Int8Params(values, requires_grad=False, has_fp16_weights=False)
    weight.CB, weight.SCB = weight.data, torch.empty(layer.out_features, device="meta")
    return weight


def _int4_weight(layer, dtype, precision: str):
    """Blocks of 64 weights with a scale each; with double quantisation the scales are bytes, in blocks of 256 with a scale each."""
    import bitsandbytes
    import torch

    def empty(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta")

    count = layer.in_features * layer.out_features
    blocks = -(-count // 64)
    kind = "fp4" if precision == "fp4" else "nf4"
    common = {"shape": layer.weight.shape, "dtype": dtype, "blocksize": 64, "code": empty(16), "quant_type": kind}
    if precision == "int4-dq":
        outer = bitsandbytes.functional.QuantState(empty(-(-blocks // 256)), blocksize=256, code=empty(256), dtype=torch.float32)
        state = bitsandbytes.functional.QuantState(empty(blocks, dtype=torch.uint8), offset=empty(), state2=outer, **common)
    else:
        state = bitsandbytes.functional.QuantState(empty(blocks), **common)
    values = empty((count + 1) // 2, 1, dtype=torch.uint8)
    fixed = {"requires_grad": False, "blocksize": 64, "quant_type": kind, "bnb_quantized": True, "module": layer}
    return bitsandbytes.nn.Params4bit(values, quant_state=state, **fixed)


def _window(model, batch_size: int):
    """Log-mel features of `batch_size` windows: (batch, mel bins, two frames a position of the encoder)."""
    import torch

    config = model.config
    return torch.zeros(batch_size, config.num_mel_bins, 2 * config.max_source_positions, dtype=model.dtype, device=model.device)


def _encoded(model, batch_size: int, read: int, device: str):
    import torch

    if model.config.model_type != "whisper":
        return model.get_encoder()(input_ids=torch.zeros(batch_size, read, dtype=torch.long, device=model.device)).last_hidden_state
    from asum_lib.models.transcribe import windows_at_once

    at_once = windows_at_once(model.config, device)
    counts = [min(at_once, batch_size - start) for start in range(0, batch_size, at_once)]
    return torch.cat([model.model.encoder(_window(model, count)).last_hidden_state for count in counts])


def _fill(cache, tokens: int) -> None:
    """Let every layer of a cache hold `tokens` more, without the copies that adding them one by one makes."""
    for layer in cache.layers:
        batch, heads, length, width = layer.keys.shape
        layer.keys, layer.values = (part.new_ones(batch, heads, length + tokens, width) for part in (layer.keys, layer.values))
