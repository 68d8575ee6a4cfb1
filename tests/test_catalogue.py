"""The models of the memory study: their published sizes, skeletons against really loaded models, and random checkpoints."""

import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.measure.memory import weights_bytes
from asum_lib.models import catalogue, checkpoint, loading

FAMILIES = ("whisper", "t5", "mbart", "llama")
FLOATS = ("float32", "float16", "bfloat16")
# every dtype of the rest without quantisation and with int8, and every kind of 4 bits once
STORED = [*itertools.product(("fp32", "int8"), FLOATS), ("int4", "float32"), ("int4-dq", "bfloat16"), ("fp4", "float16")]


def small(family: str):
    """A configuration of the family whose matrices are no whole number of blocks of 64, nor all of even size."""
    import transformers

    sides = ("encoder", "decoder")
    speech = {f"{s}_attention_heads": 2 for s in sides} | {f"{s}_ffn_dim": 130 for s in sides} | {"encoder_layers": 2, "decoder_layers": 3}
    speech |= {"d_model": 72, "vocab_size": 301}
    ids = {f"{name}_token_id": 1 for name in ("bos", "eos", "pad", "decoder_start")}
    if family == "whisper":
        return transformers.WhisperConfig(**speech, **ids, num_mel_bins=9, max_source_positions=20, max_target_positions=17)
    if family == "mbart":
        return transformers.MBartConfig(**speech, max_position_embeddings=32)
    if family == "t5":
        sizes = {"d_model": 72, "d_kv": 20, "d_ff": 129, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3, "vocab_size": 301}
        return transformers.T5Config(**sizes, decoder_start_token_id=0)
    return transformers.LlamaConfig(hidden_size=64, intermediate_size=129, num_hidden_layers=3, num_attention_heads=2, vocab_size=301)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: catalogue.write_random(root / family, small(family)) for family in FAMILIES}


def loaded(folder: Path, precision: str, dtype: str):
    """(the model as transformers loads and quantises it, what it says of the keys)."""
    import torch
    from transformers import AutoConfig

    kind = getattr(torch, dtype)
    options = {"dtype": kind, "local_files_only": True, "output_loading_info": True}
    if precision in loading.QUANTISATION:
        options |= {"quantization_config": loading.quantisation_config(precision, kind), "device_map": {"": "cpu"}}
    return catalogue.model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, **options)


def layout(model) -> dict[str, tuple]:
    """(shape, dtype, bytes, trained) of every parameter, buffer and part of a quantisation state, by name; tied weights once."""
    found = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    for name, weight in model.named_parameters():
        if getattr(weight, "SCB", None) is not None:
            found[f"{name} SCB"] = weight.SCB
        state, depth = getattr(weight, "quant_state", None), 0
        while state is not None:
            found |= {f"{name} {part} {depth}": getattr(state, part) for part in ("absmax", "code", "offset") if getattr(state, part) is not None}
            state, depth = state.state2, depth + 1
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch."), t.numel() * t.element_size(), t.requires_grad) for name, t in found.items()}


def total(model) -> int:
    return sum(size for _, _, size, _ in layout(model).values())


# Sizes


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("t5-small", 60_506_624),
        ("t5-base", 222_903_552),
        ("t5-large", 737_668_096),
        ("mbart-large", 610_851_840),  # of cc25; mBART-large-50 has 27 tokens more: 610,879,488
        ("llama-7b", 6_738_415_616),
        ("whisper-tiny", 37_760_640),
        ("whisper-large", 1_543_304_960),
    ],
)
def test_a_model_has_as_many_parameters_as_the_published_one(name, parameters):
    assert sum(parameter.numel() for parameter in catalogue.skeleton(catalogue.config(name)).parameters()) == parameters


def test_the_study_has_twelve_models_of_four_families():
    assert len(catalogue.MODELS) == 12
    assert {entry.family for entry in catalogue.MODELS.values()} == set(FAMILIES)
    assert all(name == entry.name and entry.source for name, entry in catalogue.MODELS.items())


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_a_configuration_is_of_its_family(name):
    config = catalogue.config(name)
    assert config.model_type == catalogue.entry(name).family
    assert config.architectures == [catalogue.model_class(config).__name__]


def test_an_unknown_model_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"unknown model 't5-huge': choose from whisper-tiny, .*, t5-large, mbart-large, llama-7b$"):
        catalogue.config("t5-huge")


def test_another_family_is_refused_with_the_choices():
    from transformers import BertConfig

    with pytest.raises(InputError, match="unknown model type 'bert': choose from whisper, t5, mbart, bart, llama"):
        catalogue.model_class(BertConfig())


def test_importing_the_catalogue_imports_no_torch():
    code = "import sys, asum_lib.models.catalogue; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Stacks


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("whisper-turbo", {"encoder": 32, "decoder": 4}),
        ("t5-large", {"encoder": 24, "decoder": 24}),
        ("mbart-large", {"encoder": 12, "decoder": 12}),
        ("llama-7b", {"decoder": 32}),
    ],
)
def test_depths_of_published_models(name, layers):
    assert catalogue.depths(catalogue.config(name)) == layers


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stacks_are_as_deep_as_the_configuration_says(family):
    model = catalogue.skeleton(small(family))
    expected = {"decoder": 3} if family == "llama" else {"encoder": 2, "decoder": 3}
    assert catalogue.depths(model.config) == expected
    assert {name: len(stack) for name, stack in catalogue.stacks(model).items()} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shallow_copy_has_at_most_so_many_layers_and_leaves_the_original(family):
    config = small(family)
    before = catalogue.depths(config)
    assert set(catalogue.depths(catalogue.shallow(config, 1)).values()) == {1}
    assert catalogue.depths(catalogue.shallow(config, 9)) == catalogue.depths(config) == before


@pytest.mark.parametrize(("family", "attentions"), [("whisper", 2 + 2 * 3), ("t5", 2 + 2 * 3), ("mbart", 2 + 2 * 3), ("llama", 3)])
def test_every_attention_has_its_three_matrices(family, attentions):
    """An encoder layer has one attention, a decoder layer beside an encoder two."""
    model = catalogue.skeleton(small(family))
    names = [name.rpartition(".")[2] for name, _ in model.named_modules()]
    assert [names.count(wanted) for wanted in catalogue.attention_modules(model.config)] == 3 * [attentions]


# Skeletons


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("precision", "dtype"), STORED)
def test_a_skeleton_is_laid_out_as_the_model_that_transformers_loads(folders, family, precision, dtype):
    model, _ = loaded(folders[family], precision, dtype)
    skeleton = catalogue.skeleton(small(family), dtype, precision)
    assert layout(skeleton) == layout(model)
    assert total(skeleton) == weights_bytes(skeleton) == weights_bytes(model)
    assert skeleton.get_memory_footprint() == model.get_memory_footprint()
    assert {tensor.device.type for tensor in itertools.chain(skeleton.parameters(), skeleton.buffers())} == {"meta"}


@pytest.mark.parametrize("precision", ["int8", "int4", "int4-dq", "fp4"])
def test_a_skeleton_is_laid_out_as_what_our_own_loading_gives(folders, precision):
    assert layout(catalogue.skeleton(small("whisper"), "float32", precision)) == layout(loading.load_model(folders["whisper"], precision))


def quantised(family: str, precision: str) -> dict[str, int]:
    """Bytes of the first query matrix of the family and of its state, by part."""
    first = {"t5": "encoder.block.0.layer.0.SelfAttention.q.weight"}[family]
    found = layout(catalogue.skeleton(small(family), "float32", precision))
    return {name.removeprefix(first).strip(): size for name, (_, _, size, _) in found.items() if name.startswith(first)}


def test_a_matrix_in_int8_by_hand():
    """60 rows of 72: a byte each, and a float32 scale a row."""
    assert quantised("t5", "int8") == {"": 4320, "SCB": 240}


def test_a_matrix_in_nf4_by_hand():
    """60 x 72 = 4,320 weights: half a byte each; 68 blocks of 64, the last one half full, with a float32 scale each; 16 float32 levels."""
    assert quantised("t5", "int4") == {"": 2160, "absmax 0": 272, "code 0": 64}


def test_a_matrix_in_doubly_quantised_nf4_by_hand():
    """The 68 scales are a byte each, less one float32 mean; they make one block of 256 with a float32 scale, and have 256 float32 levels."""
    state = {"absmax 0": 68, "code 0": 64, "offset 0": 4, "absmax 1": 4, "code 1": 1024}
    assert quantised("t5", "int4-dq") == {"": 2160} | state


@pytest.mark.parametrize(("family", "left"), [("whisper", {"proj_out"}), ("mbart", {"lm_head"}), ("llama", {"lm_head"}), ("t5", {"lm_head", "wo"})])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_linear_layers_that_are_not_quantised(family, left, precision):
    import bitsandbytes
    import torch

    kind = bitsandbytes.nn.Linear8bitLt if precision == "int8" else bitsandbytes.nn.Linear4bit
    modules = dict(catalogue.skeleton(small(family), "float32", precision).named_modules())
    plain = {name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, torch.nn.Linear) and not isinstance(module, kind)}
    assert plain == left


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize(("dtype", "kept"), [("float32", "float32"), ("float16", "float32"), ("bfloat16", "bfloat16")])
def test_the_second_feed_forward_matrix_of_t5_stays_float32_in_float16_only(precision, dtype, kept):
    found = layout(catalogue.skeleton(small("t5"), dtype, precision))
    assert {held for name, (_, held, _, _) in found.items() if name.endswith("wo.weight")} == {kept}


def test_a_skeleton_of_seven_billion_parameters_takes_no_memory():
    """6.7 billion weights in bf16, and the two float32 buffers of 64 rotation frequencies."""
    assert total(catalogue.skeleton(catalogue.config("llama-7b"), "bfloat16")) == 2 * 6_738_415_616 + 2 * 64 * 4


# Steps


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("whisper", {"input_features": (2, 9, 40), "labels": (2, 5)}),
        ("t5", {"input_ids": (2, 7), "labels": (2, 5)}),
        ("mbart", {"input_ids": (2, 7), "labels": (2, 5)}),
        ("llama", {"input_ids": (2, 12), "labels": (2, 12)}),
    ],
)
def test_a_training_step_reads_and_writes_so_many_tokens(folders, family, shapes):
    import torch

    model, _ = loaded(folders[family], "fp32", "float32")
    inputs = catalogue.training_inputs(model, 2, read=7, written=5)
    assert {name: tuple(value.shape) for name, value in inputs.items() if name != "use_cache"} == shapes
    output = model(**inputs)
    assert output.logits.shape == (*shapes["labels"], 301)
    assert output.loss.shape == ()
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_inputs_of_a_skeleton_are_without_content_and_in_its_dtype(family):
    inputs = catalogue.training_inputs(catalogue.skeleton(small(family), "bfloat16"), 2, read=7, written=5)
    tensors = [value for name, value in inputs.items() if name != "use_cache"]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point()} <= {"torch.bfloat16"}


@pytest.mark.parametrize(
    ("family", "expected"),
    [  # keys and values x 2 windows or texts x width x positions x bytes of bfloat16
        ("whisper", 2 * 2 * 72 * (20 + 6) * 2),
        ("t5", 2 * 2 * 60 * (7 + 6) * 2),
        ("mbart", 2 * 2 * 72 * (7 + 6) * 2),
        ("llama", 2 * 2 * 64 * (7 + 6) * 2),
    ],
)
def test_the_cache_holds_what_was_read_and_what_was_written(family, expected):
    model = catalogue.skeleton(small(family), "bfloat16").eval()
    assert catalogue.cache_bytes(model, 2, read=7, written=6) == {"decoder": expected}


@pytest.mark.parametrize("family", ["whisper", "t5", "mbart"])
def test_decoding_leaves_a_cache_of_the_bytes_that_are_accounted(folders, family):
    model, _ = loaded(folders[family], "fp32", "bfloat16")
    cache, states = catalogue.decode(model, 2, read=7, written=6)
    assert states.shape[:2] == (2, 20 if family == "whisper" else 7)
    kept = [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
    size = sum(part.numel() * part.element_size() for layer in kept for part in (layer.keys, layer.values))
    assert size == 3 * catalogue.cache_bytes(model, 2, read=7, written=6)["decoder"]


def test_decoding_without_an_encoder_leaves_a_position_for_each_token_that_was_read_or_written(folders):
    """In each of three layers: (texts, heads, 7 + 6 tokens, width of a head)."""
    model, _ = loaded(folders["llama"], "fp32", "bfloat16")
    cache, states = catalogue.decode(model, 2, read=7, written=6)
    assert states is None
    assert [layer.keys.shape for layer in cache.layers] == 3 * [(2, 2, 13, 32)]


# Random checkpoints


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_checkpoint_has_every_weight_and_no_other(folders, family):
    assert sorted(path.name for path in folders[family].iterdir()) == ["config.json", "model.safetensors"]
    _, report = loaded(folders[family], "fp32", "float32")
    assert not any(report.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_its_configuration_is_that_which_was_given(folders, family):
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(folders[family])
    assert catalogue.weights(found) == catalogue.weights(small(family))
    assert found.architectures == [catalogue.model_class(found).__name__]
    assert checkpoint.note(folders[family]) == "random weights, memory only"


def test_norms_are_one_biases_zero_and_the_rest_is_normal(folders):
    from safetensors.torch import load_file

    weights = load_file(folders["mbart"] / "model.safetensors")
    assert weights["final_logits_bias"].shape == (1, 301)
    assert {float(value.abs().max()) for name, value in weights.items() if name.endswith("bias")} == {0.0}
    norms = [value for name, value in weights.items() if "norm" in name and name.endswith("weight")]
    assert len(norms) == 2 * 2 + 3 * 3 + 4  # of the layers; before and after each stack
    assert all((value == 1).all() for value in norms)
    fc1 = weights["model.encoder.layers.0.fc1.weight"]
    assert float(fc1.std()) == pytest.approx(0.02, rel=0.05)
    assert abs(float(fc1.mean())) < 0.001


def test_a_weight_that_is_another_one_is_written_once(folders):
    """The output layer of LLaMA is a matrix of its own, that of the others is the embedding."""
    names = {family: {n.split(".")[0] for n in catalogue.weights(small(family))} for family in FAMILIES}
    assert "lm_head" in names["llama"]
    assert "proj_out" not in names["whisper"]
    assert "lm_head" not in names["t5"] | names["mbart"]
    size = (folders["t5"] / "model.safetensors").stat().st_size
    assert size - 4 * sum(math.prod(shape) for shape in catalogue.weights(small("t5")).values()) < 10_000  # the header


def test_the_same_seed_gives_the_same_file_and_another_seed_another(folders, tmp_path):
    same, other = (catalogue.write_random(tmp_path / str(seed), small("t5"), seed=seed) for seed in (0, 1))
    first = (folders["t5"] / "model.safetensors").read_bytes()
    assert (same / "model.safetensors").read_bytes() == first
    assert (other / "model.safetensors").read_bytes() != first


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_halves_the_file(tmp_path, dtype):
    from safetensors.torch import load_file

    folder = catalogue.write_random(tmp_path / dtype, small("llama"), dtype)
    weights = load_file(folder / "model.safetensors")
    assert {str(value.dtype) for value in weights.values()} == {f"torch.{dtype}"}
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype


def test_a_large_weight_is_made_in_pieces(monkeypatch, tmp_path):
    """Here of 1,000 numbers, of which the embedding has 301 x 64."""
    from safetensors.torch import load_file

    monkeypatch.setattr(catalogue, "CHUNK_NUMBERS", 1000)
    folder = catalogue.write_random(tmp_path / "pieces", small("llama"))
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].flatten()
    assert float(embedding[-264:].std()) == pytest.approx(0.02, rel=0.2)
    assert not (embedding[:1000] == embedding[1000:2000]).any()


def test_a_model_of_the_study_goes_by_its_name_and_a_full_disk_is_refused_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    with pytest.raises(InputError, match=r"the checkpoint takes 6\.2 GB and 1\.0 GB of disk are free"):
        catalogue.write_random(tmp_path / "deep" / "large", "whisper-large")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already: name a new or an empty one"):
        catalogue.write_random(tmp_path, small("t5"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_unknown_dtype_is_refused_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="unknown dtype 'int8': choose from float32, float16, bfloat16"):
        catalogue.write_random(tmp_path / "new", small("t5"), "int8")


@pytest.mark.parametrize(("name", "share"), [("t5-base", 0.1), ("mbart-large", 0.1), ("whisper-tiny", 0.0), ("llama-7b", 0.0)])
def test_a_model_has_the_dropout_that_was_published(name, share):
    published = catalogue.config(name)
    assert catalogue.dropout(name) == share == getattr(published, "dropout_rate", getattr(published, "dropout", 0.0))
