"""A Whisper checkpoint in a precision: shipped mini rung, local folder, or Hub name; safetensors only, no remote code."""

import copy
import hashlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.models import ladder

QUANTISATION = {  # arguments of transformers' BitsAndBytesConfig; the rest of the model stays in `rest_dtype`
    "int8": {"load_in_8bit": True},
    "int4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int4-dq": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
}


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
    return str(ladder.checkpoint(size)) if scale == "mini" else f"openai/whisper-{size}"


def load_parts(where: str):
    """(tokenizer, feature extractor) of a checkpoint; `InputError` where there is none."""
    from transformers import WhisperFeatureExtractor, WhisperTokenizer

    _check(where)
    try:
        tokenizer = WhisperTokenizer.from_pretrained(where)
        extractor = WhisperFeatureExtractor.from_pretrained(where)
    except OSError as error:
        raise InputError(f"checkpoint {where}: no tokenizer or feature extractor there ({str(error).splitlines()[0]})") from error
    tokenizer.set_prefix_tokens(**_language(tokenizer))
    return tokenizer, extractor


def load(where: str, precision: str) -> Speech:
    """Load and quantise. fp32, bf16 and the parts that bitsandbytes leaves alone follow `rest_dtype`."""
    import torch
    from transformers import BitsAndBytesConfig, WhisperForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar a cell for weights that load in milliseconds; downloads keep theirs
    choose("precision", precision, ["fp32", "bf16", *QUANTISATION])
    for noisy in ("autograd._functions", "backends.cpu.ops"):  # a line a layer about float16 casts; an optional kernel package
        logging.getLogger(f"bitsandbytes.{noisy}").setLevel(logging.ERROR)
    tokenizer, extractor = load_parts(where)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    options = {"dtype": dtype, "use_safetensors": True}
    if precision in QUANTISATION:
        compute = {"bnb_4bit_compute_dtype": dtype} if "load_in_4bit" in QUANTISATION[precision] else {}
        options["quantization_config"] = BitsAndBytesConfig(**QUANTISATION[precision], **compute)
        options["device_map"] = {"": "cuda" if torch.cuda.is_available() else "cpu"}
    try:
        model = WhisperForConditionalGeneration.from_pretrained(where, **options)
    except OSError as error:
        raise InputError(f"checkpoint {where}: {str(error).splitlines()[0]}") from error
    if precision in QUANTISATION:
        _mend_4bit_on_cpu(model)
    if precision not in QUANTISATION and torch.cuda.is_available():
        model = model.cuda()
    return Speech(model, tokenizer, extractor, _language(tokenizer))


def _mend_4bit_on_cpu(model) -> None:
    """Keep the 4-bit layers of a model on a CPU from two faults of bitsandbytes 0.50.2.

    Its kernel starts a new block of 64 weights at every row, but quantisation runs on across rows: where a row is not whole
    blocks (widths 48, 96, 160), weights come back with other blocks' scales, at 0.25 relative error instead of 0.09. Such a
    layer dequantises its weights as one long row, for which the same kernel is right. And for decoding bitsandbytes repacks
    weights in bf16, on some processors and for some widths only.
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        module.support_avx512bf16_for_cpu = False
        if module.weight.device.type == "cpu" and module.in_features % module.weight.quant_state.blocksize:
            module.forward = partial(_linear_4bit, module)


def _linear_4bit(module, inputs):
    from bitsandbytes.functional import dequantize_4bit
    from torch.nn.functional import linear

    state = module.weight.quant_state
    as_one_row = copy.copy(state)
    as_one_row.shape = (state.shape.numel(),)
    weight = dequantize_4bit(module.weight.data, as_one_row).reshape(state.shape)
    return linear(inputs, weight.to(inputs.dtype), module.bias)


def checksum(where: str) -> str:
    """SHA-256 over the safetensors files of a local checkpoint, or of the cached Hub snapshot, in name order."""
    folder = Path(where)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(where, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _check(where: str) -> None:
    if Path(where).is_dir():
        if not list(Path(where).glob("*.safetensors")):
            raise InputError(f"checkpoint {where}: no *.safetensors file in this folder (pickled weights are not read)")
    elif os.sep in where and where.count("/") != 1:
        raise InputError(f"checkpoint {where}: no such folder")


def _language(tokenizer) -> dict:
    """A multilingual checkpoint is told to transcribe English; an English-only one has nothing to be told."""
    english = tokenizer.convert_tokens_to_ids("<|en|>")
    return {"language": "en", "task": "transcribe"} if english not in (None, tokenizer.unk_token_id) else {}
