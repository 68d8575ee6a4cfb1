"""The mini ladder and loading in each precision."""

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.measure.memory import parameter_counts, weights_bytes
from asum_lib.models import ladder, loading
from asum_lib.models.transcribe import transcribe

TINY = str(ladder.checkpoint("tiny"))
REAL_WIDTHS = {"tiny": 384, "base": 512, "small": 768, "medium": 1024, "large": 1280}
REAL_LAYERS = {"tiny": 4, "base": 6, "small": 12, "medium": 24, "large": 32}


def test_the_ladder_is_the_real_one_divided_by_eight():
    for size, rung in ladder.LADDER.items():
        assert rung.width == REAL_WIDTHS[size] // 8
        assert rung.layers == -(-REAL_LAYERS[size] // 8)


@pytest.mark.parametrize("size", ladder.SIZES)
def test_every_shipped_checkpoint_is_the_rung_that_the_code_describes(size):
    model = loading.load(str(ladder.checkpoint(size)), "fp32").model
    rung = ladder.LADDER[size]
    assert (model.config.d_model, model.config.encoder_layers, model.config.decoder_layers) == (rung.width, rung.layers, rung.layers)
    assert model.config.max_source_positions == 100


def test_labels_and_hypotheses_use_the_same_prefix_and_text_survives_the_tokenizer():
    tokenizer, _ = loading.load_parts(TINY)
    ids = tokenizer("turn the bicycle upside down").input_ids
    assert tokenizer.convert_ids_to_tokens(ids[:2]) == ["<|startoftranscript|>", "<|notimestamps|>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "turn the bicycle upside down"


def test_bytes_of_fp32_are_four_a_parameter_and_of_bf16_two():
    for precision, size in {"fp32": 4, "bf16": 2}.items():
        model = loading.load(TINY, precision).model
        assert weights_bytes(model) == size * parameter_counts(model)[0]


def test_int8_keeps_one_byte_a_weight_and_a_scale_a_row():
    layer = loading.load(TINY, "int8").model.model.encoder.layers[0].fc1  # 48 -> 192
    assert layer.weight.dtype.itemsize * layer.weight.numel() == 48 * 192
    assert layer.weight.SCB.numel() == 192


def test_int4_keeps_half_a_byte_a_weight_and_a_float_a_block_of_64():
    layer = loading.load(TINY, "int4").model.model.encoder.layers[0].fc1
    assert layer.weight.numel() == 48 * 192 // 2
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.absmax.numel() == 48 * 192 // 64
    assert layer.weight.quant_state.shape.numel() == 48 * 192


def test_double_quantisation_shrinks_the_state_and_fp4_is_not_nf4():
    single, double = loading.load(TINY, "int4").model, loading.load(TINY, "int4-dq").model
    assert double.model.encoder.layers[0].fc1.weight.quant_state.nested
    assert not single.model.encoder.layers[0].fc1.weight.quant_state.nested
    assert loading.load(TINY, "fp4").model.model.encoder.layers[0].fc1.weight.quant_state.quant_type == "fp4"


@pytest.mark.parametrize("size", ladder.SIZES)
@pytest.mark.parametrize("inputs_need_gradients", [False, True])
def test_nf4_loses_a_tenth_of_a_layer_whether_or_not_its_rows_are_whole_blocks(size, inputs_need_gradients):
    import torch

    exact, rounded = (loading.load(str(ladder.checkpoint(size)), precision).model for precision in ("fp32", "int4"))
    for name in ("q_proj", "v_proj"):
        layer, quantised = (getattr(model.model.encoder.layers[0].self_attn, name) for model in (exact, rounded))
        inputs = torch.randn(4, 7, layer.in_features, generator=torch.manual_seed(0), requires_grad=inputs_need_gradients)
        lost = (quantised(inputs) - layer(inputs)).norm() / (layer(inputs) - layer.bias if layer.bias is not None else layer(inputs)).norm()
        assert 0.03 < lost < 0.16


@pytest.mark.parametrize(("precision", "expected"), [("int8", 48 * 192 + 4 * 192), ("int4", 48 * 192 // 2 + 4 * 48 * 192 // 64)])
def test_weights_bytes_counts_scales_before_and_after_a_forward(precision, expected):
    """One layer by hand: its weights, a float a row (int8) or a float a block of 64 and a table of 16 floats (int4), its bias."""
    import torch

    layer = loading.load(TINY, precision).model.model.encoder.layers[0].fc1
    expected += 4 * 192 + (4 * 16 if precision == "int4" else 0)
    assert weights_bytes(layer) == expected
    with torch.no_grad():
        layer(torch.zeros(1, 5, 48))
    assert weights_bytes(layer) == expected


def test_embeddings_convolutions_and_the_output_projection_stay_unquantised():
    model = loading.load(TINY, "int8").model
    assert str(model.proj_out.weight.dtype) == "torch.float32"
    assert str(model.model.encoder.conv1.weight.dtype) == "torch.float32"
    assert str(model.model.decoder.embed_tokens.weight.dtype) == "torch.float32"


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"unknown precision 'int3': choose from fp32, bf16, int8, int4, int4-dq, fp4"):
        loading.load(TINY, "int3")


def test_a_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \*.safetensors file"):
        loading.load(str(tmp_path), "fp32")


def test_a_missing_folder_is_refused():
    with pytest.raises(InputError, match="no such folder"):
        loading.load("/nowhere/at/all", "fp32")


def test_silence_and_padding_do_not_move_a_hypothesis_to_another_place():
    speech = loading.load(TINY, "fp32")
    features = np.random.default_rng(0).normal(size=(5, 80, 200)).astype(np.float32)
    together = transcribe(speech.model, speech.tokenizer, features, batch_size=5)
    one_by_one = [transcribe(speech.model, speech.tokenizer, features[i : i + 1])[0] for i in range(5)]
    assert together == one_by_one
