"""Lean loading: the weights are those of transformers' own loading, bit for bit, and the peak is near what stays."""

import json
import os
from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.measure import peak
from asum_lib.measure.memory import weights_bytes
from asum_lib.models import catalogue, ladder, loading, real

TINY = ladder.checkpoint("tiny")
MB = 1_000_000
FLOATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def theirs(folder, precision: str, dtype: str):
    """The model as transformers loads it alone, from a mapped file."""
    import torch
    from transformers import AutoConfig

    kind = getattr(torch, dtype)
    options = {"dtype": kind, "use_safetensors": True, "local_files_only": True}
    if precision in loading.QUANTISATION:
        options |= {"quantization_config": loading.quantisation_config(precision, kind), "device_map": {"": "cpu"}}
    return catalogue.model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, **options)


def state(model) -> dict:
    """Every tensor of a model by name: weights, buffers, and bitsandbytes' scales, codes and offsets with their depth."""
    import torch

    found = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)} | dict(model.named_buffers())
    for name, weight in model.named_parameters():
        if getattr(weight, "SCB", None) is not None:
            found[f"{name} SCB"] = weight.SCB
        part, depth = getattr(weight, "quant_state", None), 0
        while part is not None:
            found |= {f"{name} {kind} {depth}": getattr(part, kind) for kind in ("absmax", "code", "offset") if getattr(part, kind) is not None}
            part, depth = part.state2, depth + 1
    return found


def assert_same(ours, others) -> None:
    import torch

    one, other = state(ours), state(others)
    assert one.keys() == other.keys()
    unlike = [n for n in one if one[n].dtype != other[n].dtype or not torch.equal(one[n], other[n])]
    assert unlike == []
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == {n: p.requires_grad for n, p in others.named_parameters()}


def small(family: str):
    """A configuration of the family, two layers a stack and 64 wide."""
    import transformers

    if family == "whisper":
        return real.config("tiny").__class__(**_sizes("d_model"), vocab_size=300, num_mel_bins=8, max_source_positions=20, pad_token_id=0)
    if family == "mbart":
        return transformers.MBartConfig(**_sizes("d_model"), vocab_size=300, max_position_embeddings=32)
    if family == "t5":
        return transformers.T5Config(d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2, vocab_size=300)
    return transformers.LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=300)


def _sizes(width: str) -> dict:
    sides = ("encoder", "decoder")
    return {width: 64} | {f"{s}_layers": 2 for s in sides} | {f"{s}_attention_heads": 2 for s in sides} | {f"{s}_ffn_dim": 128 for s in sides}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: catalogue.write_random(root / family, small(family)) for family in ("whisper", "t5", "mbart", "llama")}


@pytest.mark.parametrize("precision", loading.PRECISIONS)
def test_every_tensor_is_that_of_transformers_own_loading(precision):
    assert_same(loading.load(str(TINY), precision, "mini").model, theirs(TINY, precision, FLOATS.get(precision, "float32")))


@pytest.mark.parametrize("family", ["t5", "mbart", "llama"])
@pytest.mark.parametrize("precision", ["fp16", "int8", "int4-dq"])
def test_the_other_families_too_without_a_tokenizer(folders, family, precision):
    dtype = FLOATS.get(precision, "bfloat16")
    assert sorted(path.name for path in folders[family].iterdir()) == ["config.json", "model.safetensors"]
    assert_same(loading.load_model(folders[family], precision, dtype), theirs(folders[family], precision, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_file_in_half_precision_quantises_to_the_same(tmp_path, dtype):
    folder = catalogue.write_random(tmp_path / dtype, small("whisper"), dtype)
    assert_same(loading.load_model(folder, "int8", "float32"), theirs(folder, "int8", "float32"))


def test_shards_are_the_single_file(folders, tmp_path):
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_text((folders["whisper"] / "config.json").read_text())
    real.save_weights(tmp_path, load_file(folders["whisper"] / "model.safetensors"), shards=3)
    assert_same(loading.load_model(tmp_path, "int4", "float32"), theirs(folders["whisper"], "int4", "float32"))


def test_the_model_is_described_as_transformers_describes_it():
    ours, others = loading.load(str(TINY), "int8", "mini").model, theirs(TINY, "int8", "float32")
    assert ours.config.to_dict() == others.config.to_dict()
    assert ours.name_or_path == str(TINY)
    assert ours.generation_config.to_dict() == others.generation_config.to_dict()
    assert ours.training is others.training is False
    assert vars(ours).keys() == vars(others).keys()


def test_the_output_layer_is_the_embedding():
    model = loading.load_model(TINY, "int4", "float32")
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_the_caller_chooses_the_dtype_of_what_is_not_quantised(dtype, size):
    model = loading.load_model(TINY, "int8", dtype)
    assert model.model.decoder.embed_tokens.weight.element_size() == size
    assert model.model.encoder.layers[0].fc1.weight.element_size() == 1


def test_fp16_is_float16_of_every_weight():
    assert loading.compute_dtype("fp16") == "float16"
    model = loading.load_model(TINY, "fp16", "float16")
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float16"}


def test_a_float32_model_is_no_view_of_its_file(tmp_path):
    """Overwriting the file does not reach the weights."""
    folder = catalogue.write_random(tmp_path / "whisper", small("whisper"))
    model = loading.load_model(folder, "fp32", "float32")
    before = model.model.encoder.conv1.weight.clone()
    size = (folder / "model.safetensors").stat().st_size
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
        file.seek(4096)
        file.write(bytes(size // 2))
    assert (model.model.encoder.conv1.weight == before).all()
    assert before.any()


def test_a_weight_that_is_not_there_is_refused_and_not_invented(folders, tmp_path):
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_text((folders["t5"] / "config.json").read_text())
    held = load_file(folders["t5"] / "model.safetensors")
    del held["decoder.block.1.layer.2.DenseReluDense.wo.weight"]
    real.save_weights(tmp_path, held)
    with pytest.raises(InputError, match=r"1 weights were not found there, e.g. decoder.block.1.layer.2.DenseReluDense.wo.weight"):
        loading.load_model(tmp_path, "int8", "float32")


def test_the_dtype_follows_the_precision_where_none_is_given():
    assert str(loading.load_model(TINY, "bf16").dtype) == "torch.bfloat16"


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"unknown precision 'int3': choose from fp32, bf16, fp16, int8"):
        loading.load_model(TINY, "int3")


def test_a_folder_without_a_configuration_and_one_with_a_cut_file_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match=r"config.json"):
        loading.load_model(tmp_path, "fp32")
    (tmp_path / "config.json").write_text((folders["llama"] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folders["llama"] / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"checkpoint .*: "):
        loading.load_model(tmp_path, "fp32")


def test_a_missing_shard_is_refused(folders, tmp_path):
    from safetensors.torch import load_file

    real.save_weights(tmp_path, load_file(folders["llama"] / "model.safetensors"), shards=2)
    (tmp_path / "config.json").write_text((folders["llama"] / "config.json").read_text())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors"):
        loading.load_model(tmp_path, "fp32", "float32")


def loaded(folder: str, precision: str, dtype: str) -> tuple[int, peak.Peak]:
    """(bytes that stay, peak) of one loading; run in a child."""
    loading.load_model(TINY, precision, dtype)  # what is imported on the way
    with peak.watching() as watch, watch.phase("load"):
        model = loading.load_model(Path(folder), precision, dtype)
    return weights_bytes(model), watch.peaks["load"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Whisper base with random weights: 290 MB of float32, of which 106 MB are the embedding, which is never quantised."""
    return catalogue.write_random(tmp_path_factory.mktemp("real") / "base", catalogue.config("whisper-base"))


@on_linux
@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
def test_the_peak_of_loading_is_at_most_1_3_times_what_stays(base, precision):
    final, found = peak.in_child(loaded, str(base), precision, FLOATS.get(precision, "float32"))
    assert final > 100 * MB
    assert final < found.resident <= 1.3 * final
    assert found.file_mapped < 20 * MB  # not one of the large weights of the file


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_whisper_large_quantises_within_1_3_times_what_stays(precision):
    """`$ASUM_LARGE_CHECKPOINT` is a folder with Whisper large in one float32 file, e.g. of `catalogue.write_random`; 6.2 GB."""
    folder = os.environ.get("ASUM_LARGE_CHECKPOINT")
    if not folder:
        pytest.skip("no Whisper large: set ASUM_LARGE_CHECKPOINT to a folder with its config.json and model.safetensors")
    assert json.loads((Path(folder) / "config.json").read_text())["encoder_layers"] == 32
    final, found = peak.in_child(loaded, folder, precision, "float32", limit_bytes=8_000 * MB)
    assert final > 1_000 * MB
    assert found.resident <= 1.3 * final
    assert found.file_mapped < 20 * MB
