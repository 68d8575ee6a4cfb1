"""Our loading gives the logits of transformers' own, bit for bit, on the real tiny architecture; format and place do not matter."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from asum_lib.models import loading, real
from asum_lib.paths import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs():
    """Two random log-mel windows of 30 s, and texts of five tokens that the decoder is given."""
    import torch

    features = np.random.default_rng(0).normal(size=(2, 80, 3000)).astype(np.float32)
    return torch.from_numpy(features), torch.tensor([[50258, 50259, 50359, 50363, 440], [50258, 50259, 50359, 50363, 1029]])


def logits(model, inputs):
    import torch

    features, texts = inputs
    model.eval()
    with torch.inference_mode():
        return model(input_features=features.to(model.device, model.dtype), decoder_input_ids=texts.to(model.device)).logits


def plain(folder, precision: str):
    """The model as transformers loads it alone: the same configuration, written out."""
    import torch
    from transformers import BitsAndBytesConfig, WhisperForConditionalGeneration

    options = {
        "fp32": {"dtype": torch.float32},
        "bf16": {"dtype": torch.bfloat16},
        "fp16": {"dtype": torch.float16},
        "int8": {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
        "int4": {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")},
        "int4-dq": {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)},
        "fp4": {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")},
    }[precision]
    if "quantization_config" in options:
        dtype = getattr(torch, loading.compute_dtype(precision))
        options["quantization_config"].bnb_4bit_compute_dtype = dtype
        options |= {"dtype": dtype, "device_map": {"": loading.device()}}
    model = WhisperForConditionalGeneration.from_pretrained(str(folder), **options)
    return model if "device_map" in options else model.to(loading.device())


@pytest.fixture
def no_repacking(monkeypatch):
    """A processor without AVX512-BF16; with it bitsandbytes computes in bf16, whatever dtype was asked for (see `loading`)."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


@pytest.mark.parametrize("precision", loading.PRECISIONS)
def test_logits_equal_those_of_transformers_own_loading(real_tiny, inputs, precision, no_repacking):
    import torch

    ours, theirs = (logits(model, inputs) for model in (loading.load(str(real_tiny), precision).model, plain(real_tiny, precision)))
    assert ours.shape == (2, 5, 51865)
    assert torch.equal(ours, theirs)


def test_where_bitsandbytes_repacks_weights_in_bf16_the_logits_differ_by_the_rounding_of_bf16(real_tiny, inputs):
    import torch
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16() or loading.device() != "cpu":
        pytest.skip("this processor has no AVX512-BF16, so bitsandbytes repacks nothing")
    ours, theirs = (logits(model, inputs) for model in (loading.load(str(real_tiny), "int4").model, plain(real_tiny, "int4")))
    exact = logits(loading.load(str(real_tiny), "fp32").model, inputs)
    assert not torch.equal(ours, theirs)
    assert (theirs - ours).norm() / ours.norm() < 0.02
    assert (ours - exact).norm() / exact.norm() > 0.05  # what four bits cost anyway


def test_each_precision_gives_logits_of_its_own(real_tiny, inputs):
    """What the equality above rests on: a precision that was silently not applied would give another one's logits."""
    digests = {
        precision: hashlib.sha256(logits(loading.load(str(real_tiny), precision).model, inputs).float().cpu().numpy().tobytes()).hexdigest()
        for precision in loading.PRECISIONS
    }
    assert len(set(digests.values())) == len(loading.PRECISIONS)


def test_shards_give_the_logits_of_the_single_file(real_tiny, inputs, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(real_tiny, tmp_path / "whisper", ignore=shutil.ignore_patterns("*.safetensors"))
    real.save_weights(folder, load_file(real_tiny / "model.safetensors"), shards=3)
    assert len(list(folder.glob("*.safetensors"))) == 3
    one, several = (logits(loading.load(str(where), "int8").model, inputs) for where in (real_tiny, folder))
    assert torch.equal(one, several)


def test_a_seed_gives_the_same_weights_and_another_seed_others(real_tiny, real_data, tmp_path):
    tokens = real_data / "tokenizers" / "whisper"
    again = real.random_checkpoint(tmp_path / "again", "tiny", tokens, max_length=20)
    other = real.random_checkpoint(tmp_path / "other", "tiny", tokens, seed=1, max_length=20)
    assert loading.checksum(str(again), everything=True) == loading.checksum(str(real_tiny), everything=True)
    assert loading.checksum(str(other)) != loading.checksum(str(real_tiny))


def test_a_random_checkpoint_decodes_greedily_and_says_what_it_is(real_tiny, inputs):
    speech = loading.load(str(real_tiny), "fp32")
    tokens = speech.model.generate(input_features=inputs[0].to(speech.model.device), do_sample=False, num_beams=1, **speech.generate)
    assert tokens.shape[0] == 2 and 1 < tokens.shape[1] <= 20
    assert loading.note(str(real_tiny)) == "random weights, format check only"


def test_the_token_ids_are_those_of_the_published_tiny(real_tiny):
    generation = json.loads((real_tiny / "generation_config.json").read_text())
    assert generation["lang_to_id"]["<|en|>"] == 50259
    assert generation["task_to_id"] == {"transcribe": 50359, "translate": 50358}
    assert (generation["decoder_start_token_id"], generation["no_timestamps_token_id"], generation["prev_sot_token_id"]) == (50258, 50363, 50361)
    assert generation["begin_suppress_tokens"] == [220, 50257]
    assert generation["suppress_tokens"][-7:] == [50254, 50258, 50358, 50359, 50360, 50361, 50362]
    assert loading.load_parts(str(real_tiny))[0]("so").input_ids == [50258, 50259, 50359, 50363, 539, 50257]


def test_a_snapshot_in_the_hubs_cache_loads_offline_and_has_the_digest_of_the_folder(real_tiny, tmp_path):
    """In a process of its own, since the cache's place is read when huggingface_hub is imported."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--whisper-tiny-random"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    (repository / "snapshots" / commit).mkdir(parents=True)
    for path in real_tiny.iterdir():
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        (repository / "snapshots" / commit / path.name).symlink_to(os.path.relpath(blob, repository / "snapshots" / commit))
    code = (
        "from asum_lib.models import loading\n"
        "where = 'someone/whisper-tiny-random'\n"
        "speech = loading.load(where, 'int8')\n"
        "print(loading.folder_of(where).name, speech.model.config.d_model, loading.checksum(where, everything=True))"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "ASUM_CACHE": str(tmp_path / "asum"), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [commit, "384", loading.checksum(str(real_tiny), everything=True)]


def test_only_the_arithmetic_of_widths_that_are_no_whole_blocks_is_mended(real_tiny):
    """bitsandbytes is wrong on a CPU where rows are not whole blocks of 64; the real widths are, and keep its own kernel."""
    real_layer = loading.load(str(real_tiny), "int4").model.model.encoder.layers[0].fc1
    mini_layer = loading.load(loading.source("mini", "tiny"), "int4").model.model.encoder.layers[0].fc1
    assert "forward" not in vars(real_layer)
    assert ("forward" in vars(mini_layer)) == (loading.device() == "cpu")
