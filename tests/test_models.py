"""The mini ladder and loading in each precision."""

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.measure import memory, peak
from asum_lib.measure.memory import parameter_counts, weights_bytes
from asum_lib.models import ladder, loading
from asum_lib.models.transcribe import transcribe
from asum_lib.study import fit
from asum_lib.study.fit import Plan, Work, check_memory, need

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
    with pytest.raises(InputError, match=r"unknown precision 'int3': choose from fp32, bf16, fp16, int8, int4, int4-dq, fp4"):
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


@pytest.mark.parametrize(("precision", "on_gpu", "expected"), [("int8", True, "bfloat16"), ("int4", True, "bfloat16"), ("fp32", True, "float32")])
def test_a_gpu_that_computes_in_bf16_is_used_so_for_quantised_models_only(monkeypatch, precision, on_gpu, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert loading.compute_dtype(precision) == expected


def test_a_cpu_computes_in_float32_but_for_bf16(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {precision: loading.compute_dtype(precision) for precision in ("fp32", "bf16", "int8", "int4")} == {
        "fp32": "float32",
        "bf16": "bfloat16",
        "int8": "float32",
        "int4": "float32",
    }


@pytest.mark.parametrize("precision", loading.PRECISIONS)
def test_the_weights_of_a_run_are_foretold_to_the_byte(precision):
    model = loading.load(str(ladder.checkpoint("large")), precision).model
    assert sum(part.bytes for part in fit.parts(Plan(model.config, precision))) == weights_bytes(model)


@pytest.mark.parametrize(
    ("size", "precision", "megabytes"), [("tiny", "fp32", 151), ("medium", "int8", 942), ("large", "int8", 1769), ("large", "int4", 1127)]
)
def test_the_weights_of_the_real_sizes_are_foretold_from_their_layers(size, precision, megabytes):
    assert sum(part.bytes for part in fit.parts(Plan(f"whisper-{size}", precision))) / 1e6 == pytest.approx(megabytes, rel=0.005)


def test_too_little_memory_is_refused_before_the_run_with_what_would_fit():
    with pytest.raises(InputError) as caught:
        check_memory(Work("whisper-large", "fp32", batch_size=4), free=8_000_000_000)
    said = str(caught.value)
    assert said.startswith("Whisper large in fp32, method none, 4 utterances at a time, needs about ")
    assert "8.0 GB is free" in said
    assert "what would fit is precision bf16 (" in said and "precision int8 (" in said and "size medium (" in said
    assert "\n" not in said


def test_what_is_free_to_the_byte_fits_and_a_byte_less_does_not():
    needed = need(Work("whisper-tiny", "fp32", batch_size=8)).total
    assert check_memory(Work("whisper-tiny", "fp32", batch_size=8), free=needed).total == needed
    with pytest.raises(InputError):
        check_memory(Work("whisper-tiny", "fp32", batch_size=8), free=needed - 1)


def test_where_nothing_fits_it_is_said():
    with pytest.raises(InputError, match="what would fit is a machine with more memory"):
        check_memory(Work("whisper-large", "int8", "adalora"), free=1_000_000)


def test_training_needs_more_than_transcribing_and_checkpointing_and_adapters_less_than_full():
    none, full, lora = (need(Work("whisper-small", "fp32", method, train_batch_size=4)).total for method in ("none", "full", "lora"))
    checkpointed = need(Work("whisper-small", "fp32", "lora", train_batch_size=4, gradient_checkpointing=True)).total
    assert none < checkpointed < lora < full


def test_large_in_int8_with_adalora_fits_a_gpu_of_24_gb():
    work = Work("whisper-large", "int8", "adalora", batch_size=8, train_batch_size=1, gradient_checkpointing=True, device="cuda")
    assert check_memory(work, free=24_000_000_000).total < 24_000_000_000


def test_the_limit_of_a_control_group_counts_and_file_pages_in_it_are_free(tmp_path):
    group = tmp_path / "job"
    group.mkdir()
    (tmp_path / "membership").write_text("0::/job/step\n")
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    assert memory._group_left(tmp_path, tmp_path / "membership") == 1000 - 700 + 250
    (group / "memory.max").write_text("max\n")
    assert memory._group_left(tmp_path, tmp_path / "membership") is None


def heard(folder: str, precision: str, batch_size: int, steady: bool) -> int:
    """Resident bytes, above the imports, of loading and transcribing windows of silence; run in a child."""
    from contextlib import nullcontext

    from asum_lib import heap

    loading.load(TINY, "int8")  # what is imported on the way
    with heap.steady() if steady else nullcontext(), peak.watching() as watch, watch.phase("hear"):
        speech = loading.load(folder, precision)
        transcribe(speech.model, speech.tokenizer, np.zeros((batch_size, 80, 3000), np.float32), batch_size)
    return watch.peaks["hear"].resident


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "batch_size"), [("fp32", 8), ("int8", 4), ("int4", 4)])
@pytest.mark.parametrize(("steady", "most"), [(True, 1.4), (False, 2.6)])  # as the study does it, glibc keeps much of what is freed
def test_the_need_is_near_the_peak_that_a_process_shows(real_tiny, precision, batch_size, steady, most):
    needed = need(Work("whisper-tiny", precision, batch_size=batch_size)).total
    assert needed < peak.in_child(heard, str(real_tiny), precision, batch_size, steady) < most * needed
