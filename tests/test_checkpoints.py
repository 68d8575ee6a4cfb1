"""Checkpoint folders that are not sound are refused in one line before any weight is loaded; sound ones have one digest."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.models import checkpoint, ladder, loading, real
from asum_lib.paths import CHECKPOINTS

TINY = ladder.checkpoint("tiny")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the shipped tiny checkpoint, to be damaged."""
    return shutil.copytree(TINY, tmp_path / "whisper")


def change(path: Path, **values) -> None:
    """Set keys of a JSON file; None removes a key."""
    merged = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def in_shards(folder: Path, number: int = 2) -> Path:
    held = weights(folder)
    (folder / "model.safetensors").unlink()
    real.save_weights(folder, held, number)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        loading.load(str(folder), "fp32")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"checkpoint {folder}: ")
    return str(caught.value).removeprefix(f"checkpoint {folder}: ")


@pytest.mark.parametrize("size", ladder.SIZES)
def test_the_shipped_checkpoints_are_sound(size):
    assert checkpoint.faults(ladder.checkpoint(size)) == ()


def test_a_sound_folder_in_shards_loads_the_same_weights(folder):
    import torch

    one = loading.load(str(folder), "fp32").model.state_dict()
    several = loading.load(str(in_shards(folder, 3)), "fp32").model.state_dict()
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert one.keys() == several.keys()
    assert all(torch.equal(one[name], several[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "no config.json: a checkpoint folder as the Hub lays it out has one"),
        ("generation_config.json", "no generation_config.json: it holds the token ids that decoding starts with; save_pretrained writes it"),
        ("preprocessor_config.json", "no preprocessor_config.json: it says how audio becomes log-mel features"),
        ("tokenizer.json", "no tokenizer: tokenizer.json, or vocab.json with merges.txt, must be there"),
        ("model.safetensors", "no *.safetensors file: model.safetensors, or model.safetensors.index.json with its shards, must be there"),
    ],
)
def test_a_missing_file_is_named(folder, name, said):
    (folder / name).unlink()
    assert refusal(folder) == said


def test_all_faults_of_a_folder_are_listed_at_once(folder):
    change(folder / "preprocessor_config.json", feature_size=128)
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").unlink()
    said = refusal(folder)
    assert said.startswith("3 faults: ")
    assert "feature_size is 128" in said and "no tokenizer" in said and "no *.safetensors file" in said


def test_faults_are_found_before_any_weight_is_loaded(folder, monkeypatch):
    from transformers import WhisperForConditionalGeneration

    monkeypatch.setattr(WhisperForConditionalGeneration, "from_pretrained", lambda *_, **__: pytest.fail("weights were loaded"))
    (folder / "preprocessor_config.json").unlink()
    refusal(folder)


def test_a_folder_that_was_mended_is_read_again(folder):
    kept = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").unlink()
    refusal(folder)
    (folder / "tokenizer.json").write_bytes(kept)
    assert checkpoint.faults(folder) == ()


def test_a_json_file_that_is_not_json_is_named(folder):
    (folder / "config.json").write_text('{"model_type": "whisper", ')
    assert refusal(folder).startswith("config.json: not JSON (")


def test_a_model_of_another_family_is_refused(folder):
    change(folder / "config.json", model_type="wav2vec2")
    assert refusal(folder) == "config.json: model_type is 'wav2vec2', not 'whisper'"


def test_numbers_that_make_no_model_are_refused(folder):
    change(folder / "config.json", d_model=50)
    assert refusal(folder).startswith("config.json: not the configuration of a Whisper model (")


def test_weights_that_are_quantised_already_are_refused(folder):
    change(folder / "config.json", quantization_config={"load_in_8bit": True})
    assert "give the unquantised checkpoint" in refusal(folder)


def test_an_adapter_alone_is_refused(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert refusal(folder) == "an adapter alone (adapter_config.json, no config.json): merge it into its base model and save that"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tiny.pt"])
def test_pickled_weights_are_not_read_and_the_way_out_is_said(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"\x80\x04.")
    said = refusal(folder)
    assert said.startswith(f"no *.safetensors file: pickled weights ({name}) are not read")
    assert "convert a file that you trust with from_pretrained and save_pretrained of transformers" in said


def test_a_pickle_beside_safetensors_is_never_opened(folder):
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    loading.load(str(folder), "fp32")


def test_a_shard_that_is_missing_is_named(folder):
    (in_shards(folder, 3) / "model-00002-of-00003.safetensors").unlink()
    assert refusal(folder) == "model.safetensors.index.json names 3 files, model-00002-of-00003.safetensors missing: fetch the rest"


def test_a_weight_that_the_index_promises_and_no_shard_holds_is_named(folder):
    index = in_shards(folder) / "model.safetensors.index.json"
    change(index, weight_map=json.loads(index.read_text())["weight_map"] | {"model.extra.weight": "model-00001-of-00002.safetensors"})
    assert refusal(folder) == "model.safetensors.index.json promises model.extra.weight, which no file holds"


def test_an_index_that_names_a_file_outside_the_folder_is_refused(folder):
    index = in_shards(folder) / "model.safetensors.index.json"
    change(index, weight_map={"model.decoder.embed_tokens.weight": "../elsewhere.safetensors"})
    assert "no weight_map of weight names to files of this folder" in refusal(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-100], r"cut off or damaged (490388 bytes; incomplete metadata, file not fully covered): fetch it again"),
        (lambda content: content[:500], r"cut off or damaged (500 bytes; invalid header length): fetch it again"),
        (lambda content: b"", r"cut off or damaged (0 bytes; header too small): fetch it again"),
        (lambda content: b"\xff" * 8 + content[8:], r"cut off or damaged (490488 bytes; header too large): fetch it again"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer, not the weights"),
    ],
)
def test_a_damaged_weight_file_is_named_with_its_size(folder, damage, reason):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(folder).startswith(f"model.safetensors: {reason}")


def test_a_damaged_shard_is_named(folder):
    shard = in_shards(folder) / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert refusal(folder).startswith("model-00002-of-00002.safetensors: cut off or damaged")


def test_weights_that_the_configuration_asks_for_and_the_file_lacks_are_refused(folder):
    held = weights(folder)
    del held["model.encoder.conv1.weight"]
    real.save_weights(folder, held)
    said = refusal(folder)
    assert said.startswith("model.safetensors: model.encoder.conv1.weight missing; config.json describes a model of ")


def test_weights_of_another_shape_are_refused(folder):
    change(folder / "config.json", decoder_ffn_dim=96)
    said = refusal(folder)
    assert "model.decoder.layers.0.fc1.weight is 192 x 48, not 96 x 48" in said
    assert said.endswith("config.json and weights are not of one model")


def test_weights_that_the_configuration_does_not_know_are_refused(folder):
    held = weights(folder)
    held["model.decoder.layers.1.fc1.weight"] = held["model.decoder.layers.0.fc1.weight"].clone()
    real.save_weights(folder, held)
    assert refusal(folder) == "model.safetensors: model.decoder.layers.1.fc1.weight not in the model that config.json describes"


def test_the_output_projection_may_be_there_or_not(folder):
    held = weights(folder)
    assert "proj_out.weight" not in held
    held["proj_out.weight"] = held["model.decoder.embed_tokens.weight"].clone()
    real.save_weights(folder, held)
    loading.load(str(folder), "fp32")


def test_what_transformers_would_invent_is_refused_even_if_the_headers_pass(folder, monkeypatch):
    held = weights(folder)
    del held["model.encoder.conv1.bias"]
    real.save_weights(folder, held)
    monkeypatch.setattr(checkpoint, "faults", lambda _: ())
    assert refusal(folder) == "1 weights were not found there, e.g. model.encoder.conv1.bias: fetch it again"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    held = weights(folder)
    held["model.encoder.layers.0.fc1.weight"][7, 7] = value
    real.save_weights(folder, held)
    assert refusal(folder).startswith("model.safetensors: model.encoder.layers.0.fc1.weight with values that are NaN or infinite")


def test_weights_of_whole_numbers_are_refused(folder):
    import torch

    held = weights(folder)
    held["model.encoder.layers.0.fc1.weight"] = torch.zeros(192, 48, dtype=torch.int8)
    real.save_weights(folder, held)
    assert "model.encoder.layers.0.fc1.weight is I8: weights must be floating point" in refusal(folder)


def test_half_precision_files_are_read(folder):
    held = {name: tensor.half() for name, tensor in weights(folder).items()}
    real.save_weights(folder, held)
    model = loading.load(str(folder), "fp32").model
    assert str(model.model.encoder.conv1.weight.dtype) == "torch.float32"


def test_features_of_another_number_of_mel_bins_are_refused(folder):
    change(folder / "preprocessor_config.json", feature_size=128)
    assert refusal(folder) == ("preprocessor_config.json: feature_size is 128, but config.json's num_mel_bins is 80: take both from one checkpoint")


def test_a_window_that_the_encoder_does_not_take_is_refused(folder):
    change(folder / "preprocessor_config.json", chunk_length=30)
    assert refusal(folder) == "preprocessor_config.json: its window has 1500 frames, but config.json's max_source_positions asks for 200"


def test_another_sampling_rate_is_refused(folder):
    change(folder / "preprocessor_config.json", sampling_rate=8000)
    assert "preprocessor_config.json: sampling_rate is 8000, not 16000" in refusal(folder)


def test_the_extractor_may_lie_in_processor_config(folder):
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor, "processor_class": "WhisperProcessor"}))
    (folder / "preprocessor_config.json").unlink()
    assert loading.load_parts(str(folder))[1].chunk_length == 4


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["zzz"] = 600
    path.write_text(json.dumps(values))
    assert refusal(folder) == "tokenizer.json: 601 tokens, but config.json's vocab_size is 600: take both from one checkpoint"


def test_a_tokenizer_file_of_another_kind_is_refused(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert refusal(folder) == "tokenizer.json is not a Whisper tokenizer: fetch it again"


def test_a_tokenizer_as_vocabulary_and_merges_is_read(folder):
    values = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(values["model"]["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in values["model"]["merges"]) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps({token["content"]: token["id"] for token in values["added_tokens"]}))
    expected = loading.load_parts(str(folder))[0]("turn it").input_ids
    (folder / "tokenizer.json").unlink()
    assert loading.load_parts(str(folder))[0]("turn it").input_ids == expected


def test_a_multilingual_checkpoint_without_its_languages_is_refused(folder):
    change(folder / "generation_config.json", is_multilingual=True)
    assert refusal(folder).startswith("generation_config.json: multilingual, but without lang_to_id['<|en|>'] and task_to_id['transcribe']")


def test_a_missing_folder_and_a_mistyped_one_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for where in ("models/whisper-tinny", "./whisper", "/nowhere/whisper", "whisper", "a/b/c"):
        with pytest.raises(InputError, match=f"checkpoint {where}: no such folder"):
            loading.load_parts(where)


def test_the_digest_is_that_of_the_weights_read_in_pieces(folder, monkeypatch):
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 1000)
    assert loading.checksum(str(folder)) == expected == loading.checksum(str(TINY))
    assert expected == "45a415243a4214e8355ef9cf70a435d8c810f442cf554aefbe11bd2eaf5b8ee9"


def test_the_digest_of_shards_runs_over_all_of_them_in_name_order(folder):
    shards = sorted(in_shards(folder, 3).glob("*.safetensors"))
    assert loading.checksum(str(folder)) == hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()


def test_a_stray_weight_file_is_not_part_of_the_digest(folder):
    before = loading.checksum(str(folder))
    (folder / "model.fp32-00001-of-00002.safetensors").write_bytes(b"of another variant")
    assert loading.checksum(str(folder)) == before


def test_the_digest_of_everything_moves_with_the_settings_and_not_with_other_files(folder):
    plain, before = loading.checksum(str(folder)), loading.checksum(str(folder), everything=True)
    assert before != plain
    (folder / "README.md").write_text("words")
    assert loading.checksum(str(folder), everything=True) == before
    change(folder / "generation_config.json", max_length=63)
    assert loading.checksum(str(folder), everything=True) != before
    assert loading.checksum(str(folder)) == plain


def test_a_snapshot_of_links_has_the_digest_of_the_plain_folder_and_a_damaged_blob_shows(folder, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    expected = loading.checksum(str(folder), everything=True)
    assert loading.checksum(str(snapshot), everything=True) == expected
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-4] + b"\0\0\0\0")
    assert loading.checksum(str(snapshot), everything=True) != expected


def test_a_checkpoint_without_weights_has_no_digest(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \*.safetensors file"):
        loading.checksum(str(folder))


def test_a_note_in_the_configuration_is_read(folder):
    assert loading.note(str(folder)) is None
    change(folder / "config.json", asum_note="random weights, format check only")
    assert loading.note(str(folder)) == "random weights, format check only"


def test_a_hub_name_is_read_from_its_snapshot_and_nothing_else(folder, monkeypatch):
    from asum_lib import hub

    asked = []
    monkeypatch.setattr(hub, "snapshot", lambda repo_id: asked.append(repo_id) or folder)
    assert loading.checksum("openai/whisper-tiny") == loading.checksum(str(TINY))
    assert loading.load("openai/whisper-tiny", "fp32").model.config.d_model == 48
    assert set(asked) == {"openai/whisper-tiny"}


@pytest.mark.parametrize(
    ("size", "repository"),
    [
        ("tiny", "openai/whisper-tiny"),
        ("large-v2", "openai/whisper-large-v2"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("medium.en", "openai/whisper-medium.en"),
    ],
)
def test_a_size_at_scale_paper_is_a_repository(size, repository):
    assert loading.source("paper", size) == repository


def test_a_size_that_was_never_published_is_refused():
    with pytest.raises(InputError, match=r"unknown size 'large.en': choose from tiny, base, .*turbo"):
        loading.source("paper", "large.en")


@pytest.mark.parametrize(("size", "millions"), [("tiny", 37.76), ("base", 72.59), ("small", 241.73), ("medium", 763.86), ("large", 1543.30)])
def test_the_real_sizes_have_the_parameters_of_the_published_checkpoints(size, millions):
    shapes, tied = checkpoint.layout(real.config(size))
    assert tied == {"proj_out.weight"}
    assert round(sum(_product(shape) for name, shape in shapes.items() if name not in tied) / 1e6, 2) == millions


def test_large_v3_and_turbo_hear_more_bins_and_turbo_writes_with_four_layers():
    large, turbo = real.config("large-v3"), real.config("turbo")
    assert (large.num_mel_bins, large.vocab_size, large.decoder_layers) == (128, 51_866, 32)
    assert (turbo.num_mel_bins, turbo.vocab_size, turbo.encoder_layers, turbo.decoder_layers) == (128, 51_866, 32, 4)
    assert real.config("tiny.en").vocab_size == 51_864


def _product(shape) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


@pytest.mark.parametrize(("tokens", "told"), [(51_865, True), (51_866, True), (51_864, False)])
def test_a_checkpoint_that_does_not_say_its_languages_is_known_by_its_vocabulary(tmp_path, tokens, told):
    (tmp_path / "generation_config.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": tokens}))
    assert checkpoint.multilingual(tmp_path) is told


def test_a_folder_named_like_a_published_checkpoint_does_not_stand_in_for_it(tmp_path, monkeypatch):
    (tmp_path / "openai" / "whisper-tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(InputError, match="is not fetched: run `asum fetch whisper-tiny`"):
        loading.folder_of("openai/whisper-tiny")
    assert loading.folder_of("./openai/whisper-tiny") == Path("openai/whisper-tiny")


def test_an_english_only_checkpoint_is_not_told_a_language(folder):
    """The published English-only tokenizers hold the language tokens too; what decides is the generation configuration."""
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    last = max(token["id"] for token in values["added_tokens"])
    for token in values["added_tokens"]:  # the shipped tokenizer has no free place: a language takes that of <|notimestamps|>
        token["content"] = "<|en|>" if token["id"] == last else token["content"]
    path.write_text(json.dumps(values))
    (folder / "tokenizer_config.json").unlink()
    speech = loading.load(str(folder), "fp32")
    assert speech.tokenizer.convert_tokens_to_ids("<|en|>") == last
    assert speech.generate == {}


@pytest.mark.parametrize(
    ("name", "check", "key", "value", "said"),
    [
        ("whisper-tiny", checkpoint.check, "encoder_layers", 10**6, "encoder_layers is 1000000, and should be a whole number from 1 to 1000"),
        ("t5-mini", checkpoint.check_text, "num_layers", 0, "num_layers is 0, and should be a whole number from 1 to 1000"),
        ("mbart-mini", checkpoint.check_text, "vocab_size", 10**12, "vocab_size is 1000000000000, and should be at most 100,000,000"),
    ],
)
def test_a_number_that_no_model_has_is_named(tmp_path, name, check, key, value, said):
    folder = tmp_path / name
    shutil.copytree(CHECKPOINTS / name, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(InputError, match=said):
        check(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_layers", 1, r"config.json has 1 layers, but there are weights of more, e\.g\. decoder\.block\.1"),
        ("d_model", 10**6, "config.json and weights are not of one model"),
        ("num_heads", -1, "config.json and weights are not of one model"),
    ],
)
def test_a_text_model_of_other_sizes_than_its_weights_is_refused(tmp_path, key, value, said):
    from asum_lib.models.loading import load_model

    folder = tmp_path / "t5"
    shutil.copytree(CHECKPOINTS / "t5-mini", folder)
    config = json.loads((folder / "config.json").read_text())
    changed = {key: value} | ({"num_decoder_layers": 1} if key == "num_layers" else {})
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(InputError, match=said):
        load_model(folder, "fp32")
