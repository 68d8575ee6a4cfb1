"""Whisper weights from a CTranslate2 `model.bin`, under the names that transformers gives them.

CTranslate2 stacks query, key and value into one matrix and keeps float16; nothing else of the weights differs, so the way
back loses nothing. The layout of the file is that of CTranslate2's `model_spec.py` (binary version 6). Only float weights
are read: a quantised file has lost what a checkpoint needs.

    python -m asum_lib.models.ctranslate2_weights faster-whisper-base whisper-base base
"""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asum_lib import reading
from asum_lib.errors import InputError

BINARY_VERSION = 6
DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
SPEC = "WhisperSpec"
_DESCRIPTIVE = ("num_heads", "activation", "pre_norm", "scale_embeddings", "alibi", "start_from_zero_embedding")
_DESCRIPTIVE += ("alignment_heads", "alignment_layer")


def convert(source: Path, folder: Path, size: str) -> Path:
    """Write the checkpoint of Whisper `size` that a CTranslate2 folder holds into the new folder `folder`.

    `source` holds model.bin, config.json and tokenizer.json, as CTranslate2's own converter writes them. The weights are
    written in float32, as they are published: those of `tiny.en` and `base` come out byte for byte as
    `openai/whisper-tiny.en` and `openai/whisper-base` have them. Returns `folder`.
    """
    import torch

    from asum_lib.models import pretrained, real

    source, folder = Path(source), Path(folder)
    if folder.exists():
        raise InputError(f"{folder} is there already: name a folder that is not")
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (source / name).is_file():
            raise InputError(f"{source} has no {name}: it is no folder of a Whisper for CTranslate2")
    settings = reading.read_json(source / "config.json")
    weights = whisper_weights(read(source / "model.bin"))
    folder.mkdir(parents=True)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    _write_tokenizer_config(folder)
    tokenizer = pretrained.tokenizer(folder, "WhisperTokenizer")
    decoding = {"alignment_heads": settings["alignment_heads"]}
    decoding |= {"suppress_tokens": settings["suppress_ids"], "begin_suppress_tokens": settings["suppress_ids_begin"]}
    real.write_settings(folder, size, tokenizer, generation=decoding)
    single = {name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items()}
    real.save_weights(folder, single)
    return folder


def _write_tokenizer_config(folder: Path) -> None:
    """tokenizer_config.json as the published checkpoints have it, of the special tokens in tokenizer.json."""
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    special = [token["content"] for token in tokens if token["special"]]
    end = "<|endoftext|>"
    values = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)
    values |= {"additional_special_tokens": special, "clean_up_tokenization_spaces": True, "errors": "replace"}
    values |= {"model_max_length": 1024, "processor_class": "WhisperProcessor", "tokenizer_class": "WhisperTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, np.ndarray]:
    """{name: array} of all variables in a `model.bin`, aliases included. Raises InputError."""
    path = Path(path)
    data = path.read_bytes()
    try:
        return _parse(path, data)
    except InputError:
        raise
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cut off or damaged ({len(data)} bytes): fetch it again") from error


def _parse(path: Path, data: bytes) -> dict[str, np.ndarray]:
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", data, place)
        place += struct.calcsize(kind)
        return value

    def piece(size_bytes: int) -> bytes:
        nonlocal place
        if place + size_bytes > len(data):
            raise ValueError("past the end")
        place += size_bytes
        return data[place - size_bytes : place]

    def text() -> str:
        return piece(number("H"))[:-1].decode()

    if (version := number("I")) != BINARY_VERSION:
        raise InputError(f"{path}: CTranslate2's format {version}, not {BINARY_VERSION}")
    if (spec := text()) != SPEC:
        raise InputError(f"{path}: {spec!r} is not a Whisper model ({SPEC})")
    number("I")  # the spec's revision
    variables = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size_bytes = number("B"), number("I")
        if kind not in DTYPES:
            raise InputError(f"{path}: {name} has the unknown data type {kind}")
        variables[name] = np.frombuffer(piece(size_bytes), DTYPES[kind]).reshape(shape)
    for _ in range(number("I")):
        alias = text()
        variables[alias] = variables[text()]
    return variables


def whisper_weights(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of transformers' `WhisperForConditionalGeneration`, in the data type they have, without the tied output projection.

    Raises InputError where a variable is missing, quantised or of no known use.
    """
    left = dict(variables)
    weights = {}

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise InputError(f"not a whole Whisper model: variable {name} is missing")
        array = left.pop(name)
        if array.dtype.kind != "f":
            raise InputError(f"variable {name} is quantised ({array.dtype}): only float weights are converted")
        return array

    def put(old: str, new: str) -> None:
        weights[new] = take(old)

    def linear(old: str, *new: str) -> None:
        """One matrix of CTranslate2's: that of `new`, one on the other. A key has no bias here, and one of zeros there."""
        for value in ("weight", "bias"):
            parts = np.split(take(f"{old}/{value}"), len(new))
            for part, name in zip(parts, new, strict=True):
                if name.endswith("k_proj") and value == "bias":
                    if part.any():
                        raise InputError(f"variable {old}/bias: a Whisper key has no bias")
                    continue
                weights[f"{name}.{value}"] = part

    def norm(old: str, new: str) -> None:
        put(f"{old}/gamma", f"{new}.weight")
        put(f"{old}/beta", f"{new}.bias")

    for side in ("encoder", "decoder"):
        for layer in _layers(variables, side):
            old, new = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            attention = f"{new}.self_attn"
            norm(f"{old}/self_attention/layer_norm", f"{attention}_layer_norm")
            linear(f"{old}/self_attention/linear_0", *(f"{attention}.{part}_proj" for part in "qkv"))
            linear(f"{old}/self_attention/linear_1", f"{attention}.out_proj")
            if side == "decoder":
                attention = f"{new}.encoder_attn"
                norm(f"{old}/attention/layer_norm", f"{attention}_layer_norm")
                linear(f"{old}/attention/linear_0", f"{attention}.q_proj")
                linear(f"{old}/attention/linear_1", f"{attention}.k_proj", f"{attention}.v_proj")
                linear(f"{old}/attention/linear_2", f"{attention}.out_proj")
            norm(f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
            linear(f"{old}/ffn/linear_0", f"{new}.fc1")
            linear(f"{old}/ffn/linear_1", f"{new}.fc2")
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        put(f"{side}/position_encodings/encodings", f"model.{side}.embed_positions.weight")
    for part in ("conv1", "conv2"):
        linear(f"encoder/{part}", f"model.encoder.{part}")
    put("decoder/embeddings/weight", "model.decoder.embed_tokens.weight")
    tied = left.pop("decoder/projection/weight", None)
    if tied is not None and tied is not variables["decoder/embeddings/weight"]:
        raise InputError("the output projection is not the embedding: not a Whisper model")
    if unused := sorted(name for name in left if name.rpartition("/")[2] not in _DESCRIPTIVE):
        raise InputError(f"not a Whisper model: no use for variable {unused[0]}")
    return weights


def _layers(variables: dict[str, np.ndarray], side: str) -> Iterator[int]:
    prefix = f"{side}/layer_"
    numbers = {name.removeprefix(prefix).split("/")[0] for name in variables if name.startswith(prefix)}
    return sorted(int(number) for number in numbers if number.isdigit())


if __name__ == "__main__":
    import sys

    try:
        print(convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
    except IndexError:
        sys.exit("three words are needed: the folder of CTranslate2, the new folder, the size (such as base or tiny.en)")
    except InputError as error:
        sys.exit(f"asum: {error}")
