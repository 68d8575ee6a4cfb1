"""Whisper weights on their way out of CTranslate2's own file."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from asum_lib.errors import InputError
from asum_lib.models import ctranslate2_weights
from asum_lib.models.ladder import checkpoint


def stacked(weights, *names, bias=True):
    """The matrix and the bias that CTranslate2 makes of several: one on the other, a key's bias of zeros."""
    matrices = [weights[f"{name}.weight"] for name in names]
    biases = [weights.get(f"{name}.bias", np.zeros(len(matrix), "f4")) for name, matrix in zip(names, matrices, strict=True)]
    return np.concatenate(matrices), np.concatenate(biases)


def as_ctranslate2(weights):
    """A Whisper of transformers under CTranslate2's names."""
    found = {"decoder/embeddings/weight": weights["model.decoder.embed_tokens.weight"]}

    def linear(new, *names):
        found[f"{new}/weight"], found[f"{new}/bias"] = stacked(weights, *names)

    def norm(new, name):
        found[f"{new}/gamma"], found[f"{new}/beta"] = weights[f"{name}.weight"], weights[f"{name}.bias"]

    for part in ("conv1", "conv2"):
        linear(f"encoder/{part}", f"model.encoder.{part}")
    for side in ("encoder", "decoder"):
        old = f"model.{side}"
        found[f"{side}/position_encodings/encodings"] = weights[f"{old}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{old}.layer_norm")
        for layer in range(sum(name.endswith("fc1.weight") for name in weights if name.startswith(old))):
            new, own = f"{side}/layer_{layer}", f"{old}.layers.{layer}"
            norm(f"{new}/self_attention/layer_norm", f"{own}.self_attn_layer_norm")
            linear(f"{new}/self_attention/linear_0", *(f"{own}.self_attn.{part}_proj" for part in "qkv"))
            linear(f"{new}/self_attention/linear_1", f"{own}.self_attn.out_proj")
            if side == "decoder":
                norm(f"{new}/attention/layer_norm", f"{own}.encoder_attn_layer_norm")
                linear(f"{new}/attention/linear_0", f"{own}.encoder_attn.q_proj")
                linear(f"{new}/attention/linear_1", *(f"{own}.encoder_attn.{part}_proj" for part in "kv"))
                linear(f"{new}/attention/linear_2", f"{own}.encoder_attn.out_proj")
            norm(f"{new}/ffn/layer_norm", f"{own}.final_layer_norm")
            linear(f"{new}/ffn/linear_0", f"{own}.fc1")
            linear(f"{new}/ffn/linear_1", f"{own}.fc2")
    return found


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def write(path: Path, variables, spec="WhisperSpec", version=6):
    """A `model.bin` of these variables in float16, the output projection as an alias of the embedding."""
    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        kind = 4 if array.dtype.kind == "f" else 1
        data = array.astype("<f2" if kind == 4 else "<i1").tobytes()
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [text(name), shape, struct.pack("<BI", kind, len(data)), data]
    parts += [struct.pack("<I", 1), text("decoder/projection/weight"), text("decoder/embeddings/weight")]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def weights():
    return load_file(checkpoint("small") / "model.safetensors")


def test_every_weight_comes_back_under_its_name(weights, tmp_path):
    read = ctranslate2_weights.read(write(tmp_path / "model.bin", as_ctranslate2(weights)))
    found = ctranslate2_weights.whisper_weights(read)
    expected = {name: array.astype("f2") for name, array in weights.items() if name != "proj_out.weight"}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "TransformerSpec"}, "is not a Whisper model"),
        ({"version": 5}, "format 5, not 6"),
    ],
)
def test_another_model_or_format_is_refused(weights, tmp_path, change, message):
    path = write(tmp_path / "model.bin", as_ctranslate2(weights), **change)
    with pytest.raises(InputError, match=message):
        ctranslate2_weights.read(path)


def test_a_file_that_is_cut_is_refused(weights, tmp_path):
    path = write(tmp_path / "model.bin", as_ctranslate2(weights))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cut off or damaged"):
        ctranslate2_weights.read(path)


def test_quantised_weights_are_refused(weights):
    variables = as_ctranslate2(weights)
    variables["encoder/conv1/weight"] = variables["encoder/conv1/weight"].astype("i1")
    with pytest.raises(InputError, match="conv1/weight is quantised"):
        ctranslate2_weights.whisper_weights(variables)


def test_a_missing_and_an_unknown_variable_are_refused(weights):
    variables = as_ctranslate2(weights)
    with pytest.raises(InputError, match="no use for variable decoder/extra"):
        ctranslate2_weights.whisper_weights(variables | {"decoder/extra": np.ones(1, "f4")})
    del variables["encoder/conv2/bias"]
    with pytest.raises(InputError, match="encoder/conv2/bias is missing"):
        ctranslate2_weights.whisper_weights(variables)


def test_a_published_whisper_is_converted_byte_for_byte(tmp_path):
    """`ASUM_CTRANSLATE2_TINY_EN` and `ASUM_WHISPER_TINY_EN` name one model in both layouts."""
    both = [os.environ.get(name) for name in ("ASUM_CTRANSLATE2_TINY_EN", "ASUM_WHISPER_TINY_EN")]
    if None in both:
        pytest.skip("no published Whisper in both layouts: set ASUM_CTRANSLATE2_TINY_EN and ASUM_WHISPER_TINY_EN")
    source, published = map(Path, both)
    made = ctranslate2_weights.convert(source, tmp_path / "tiny.en", "tiny.en")
    assert (made / "model.safetensors").read_bytes() == (published / "model.safetensors").read_bytes()
