"""An adapter on disk: what is loaded computes what was saved, to the bit, and what does not belong together is refused in one line."""

import json
import shutil

import pytest
import torch

from asum_lib.errors import InputError
from asum_lib.models import adapted, ladder, loading, summarize, text_ladder
from asum_lib.training.adapters import MODULES, adapter_of, attach, kept_ranks

SAVED = {"what": "made for a test", "training": {}}
IDS = torch.tensor([[5, 9, 40, 7, 1], [11, 3, 1, 0, 0]])


def trained(model, method: str, family: str, inputs: dict, rank: int = 2):
    """A PEFT model after so many steps on one batch that AdaLoRA has pruned."""
    torch.manual_seed(0)
    steps = 12
    model = attach(model, adapter_of(method, rank, MODULES[family]["qkv"]), steps)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(1, steps + 1):
        model(**inputs).loss.backward()
        optimizer.step()
        if method == "adalora":
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model.eval()


def text_model(precision: str):
    return summarize.load(str(text_ladder.checkpoint("t5")), precision, "en", "mini")


def whisper(precision: str):
    return loading.load(str(ladder.checkpoint("tiny")), precision, "mini")


TEXT = {"input_ids": IDS, "labels": IDS}
SPEECH = {"input_features": torch.linspace(-1, 1, 2 * 80 * 200).reshape(2, 80, 200), "labels": IDS}


@pytest.fixture
def t5_adapter(tmp_path):
    model = trained(text_model("fp32").model, "adalora", "t5", TEXT)
    return adapted.save(model, tmp_path / "adapter", base=str(text_ladder.checkpoint("t5")), precision="fp32", **SAVED)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_a_text_model_computes_after_a_round_trip_what_it_did_to_the_bit(tmp_path, method, precision):
    model = trained(text_model(precision).model, method, "t5", TEXT)
    folder = adapted.save(model, tmp_path / "adapter", base=str(text_ladder.checkpoint("t5")), precision=precision, **SAVED)
    loaded = adapted.summarizer(str(folder), precision, "en", "mini").model
    with torch.no_grad():
        assert torch.equal(model(**TEXT).logits, loaded(**TEXT).logits)
        assert not torch.equal(text_model(precision).model(**TEXT).logits, loaded(**TEXT).logits)


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_a_whisper_computes_after_a_round_trip_what_it_did_to_the_bit(tmp_path, method):
    model = trained(whisper("int8").model, method, "whisper", SPEECH)
    folder = adapted.save(model, tmp_path / "adapter", base=str(ladder.checkpoint("tiny")), precision="int8", **SAVED)
    loaded = adapted.speech(str(folder), "int8", "mini").model
    with torch.no_grad():
        assert torch.equal(model(**SPEECH).logits, loaded(**SPEECH).logits)


def test_pruned_directions_are_not_in_the_file_and_a_module_may_have_none(t5_adapter):
    from safetensors import safe_open

    with safe_open(t5_adapter / adapted.WEIGHTS, framework="pt") as file:
        ranks = [file.get_slice(name).get_shape()[0] for name in file.keys() if name.endswith("lora_E")]  # noqa: SIM118 - a file is no mapping
    assert sum(ranks) == 2 * len(ranks) and 0 in ranks and max(ranks) == 3  # a mean of target_r, and init_r at most
    assert sorted(kept_ranks(adapted.summarizer(str(t5_adapter), "fp32", "en", "mini").model).values()) == sorted(ranks)


def plain_adapter(folder, model=None, base=None):
    """A LoRA as PEFT itself saves it, without a note."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False)
    model = get_peft_model(model or text_model("fp32").model, config)
    model.save_pretrained(folder)
    return model.eval()


def change_weights(folder, change):
    """Write an adapter's weights anew after `change` has edited them, and no digest of the file in its note."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / adapted.WEIGHTS)
    change(weights)
    save_file(weights, folder / adapted.WEIGHTS)
    note = json.loads((folder / adapted.NOTE).read_text())
    (folder / adapted.NOTE).write_text(json.dumps(note | {"sha256": None}))


def test_an_adapter_that_peft_saved_computes_what_it_did(tmp_path):
    model = plain_adapter(tmp_path / "peft")
    loaded = adapted.summarizer(str(tmp_path / "peft"), "fp32", "en", "mini").model
    with torch.no_grad():
        assert torch.equal(model(**TEXT).logits, loaded(**TEXT).logits)
        assert not torch.equal(text_model("fp32").model(**TEXT).logits, loaded(**TEXT).logits)


def test_an_adapter_without_a_digest_is_said(t5_adapter, tmp_path):
    plain_adapter(tmp_path / "peft")
    said = adapted.unchecked(str(tmp_path / "peft"))
    assert said.startswith(f"adapter {tmp_path / 'peft'}: saved by PEFT, without a digest") and "t5-mini" in said
    assert adapted.unchecked(str(t5_adapter)) is None and adapted.unchecked("t5-small") is None


def test_a_base_that_is_not_here_is_named(tmp_path):
    plain_adapter(tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / adapted.CONFIG).read_text())
    for base, said in (("/gone/t5", "its base is not here: checkpoint /gone/t5"), (None, "names no base_model_name_or_path")):
        (tmp_path / "peft" / adapted.CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": base}))
        with pytest.raises(InputError, match=said):
            adapted.summarizer(str(tmp_path / "peft"), "fp32", "en", "mini")


def test_an_adapter_cannot_name_code_to_import(tmp_path):
    plain_adapter(tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / adapted.CONFIG).read_text())
    evil = config | {"megatron_config": {"a": 1}, "megatron_core": "evil"}
    (tmp_path / "peft" / adapted.CONFIG).write_text(json.dumps(evil))
    with pytest.raises(InputError, match="megatron_config, whose code would be run"):
        adapted.read(tmp_path / "peft")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.clear(), "lacks "),
        (lambda weights: weights.pop(sorted(weights)[0]), "lacks base_model"),
        (lambda weights: weights.update(other=torch.ones(2)), "no place for: other"),
        (lambda weights: weights[sorted(weights)[0]].fill_(torch.nan), "NaN or infinite in base_model"),
    ],
)
def test_an_adapter_with_wrong_weights_is_refused(t5_adapter, change, message):
    change_weights(t5_adapter, change)
    with pytest.raises(InputError, match=message) as caught:
        adapted.summarizer(str(t5_adapter), "fp32", "en", "mini")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_the_notes_are_refused(t5_adapter):
    content = bytearray((t5_adapter / adapted.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (t5_adapter / adapted.WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match=r"is not the file that asum_adapter\.json has the SHA-256 of"):
        adapted.read(t5_adapter)


def test_a_text_model_with_nan_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(text_ladder.checkpoint("t5"), tmp_path / "t5")
    weights = load_file(folder / "model.safetensors")
    weights["shared.weight"][7] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"shared\.weight with values that are NaN or infinite"):
        adapted.summarizer(str(folder), "fp32", "en", "mini")


def test_an_empty_tokenizer_is_refused(tmp_path):
    text = shutil.copytree(text_ladder.checkpoint("t5"), tmp_path / "t5")
    values = json.loads((text / "tokenizer.json").read_text())
    values["model"]["vocab"] = values["model"]["vocab"][:3]  # pad, end and unknown
    (text / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="its tokenizer knows no letter of"):
        adapted.summarizer(str(text), "fp32", "en", "mini")
    hears = shutil.copytree(ladder.checkpoint("tiny"), tmp_path / "whisper")
    values = json.loads((hears / "tokenizer.json").read_text())
    values["model"] |= {"vocab": {}, "merges": []}
    (hears / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="0 tokens beside the special ones"):
        adapted.speech(str(hears), "fp32", "mini")


def test_a_model_is_pruned_once_however_often_it_is_saved(tmp_path):
    model = trained(text_model("fp32").model, "adalora", "t5", TEXT)
    base = str(text_ladder.checkpoint("t5"))
    first, second = (adapted.save(model, tmp_path / name, base=base, precision="fp32", **SAVED) for name in ("a", "b"))
    assert (first / adapted.WEIGHTS).read_bytes() == (second / adapted.WEIGHTS).read_bytes()


def test_the_note_names_the_shipped_base_and_no_path_of_the_machine(t5_adapter):
    assert adapted.read(t5_adapter).base == "t5-mini" and adapted.read(t5_adapter).precision == "fp32"
    assert json.loads((t5_adapter / adapted.CONFIG).read_text())["base_model_name_or_path"] == "t5-mini"
    assert {path.name for path in t5_adapter.iterdir()} == {adapted.NOTE, adapted.CONFIG, adapted.WEIGHTS}


def test_an_adapter_on_another_model_is_refused(t5_adapter, tmp_path):
    other = shutil.copytree(text_ladder.checkpoint("t5"), tmp_path / "other")
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "model.safetensors").write_bytes(content)
    model = summarize.load(str(other), "fp32", "en", "mini").model
    with pytest.raises(InputError, match=r"it was trained on other weights of t5-mini than those in .*other"):
        adapted.put_on(model, t5_adapter)


@pytest.mark.parametrize("name", [adapted.CONFIG, adapted.WEIGHTS])
def test_a_missing_file_is_named(t5_adapter, name):
    (t5_adapter / name).unlink()
    with pytest.raises(InputError, match=f"adapter .*: no {name}: "):
        adapted.summarizer(str(t5_adapter), "fp32", "en", "mini")


def test_a_pickle_is_refused_and_not_read(t5_adapter):
    (t5_adapter / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(InputError, match=r"adapter_model\.bin is a pickle, and loading it can run code"):
        adapted.read(t5_adapter)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (adapted.NOTE, "{", "asum_adapter.json: not JSON"),
        (adapted.NOTE, '{"base": "t5-mini"}', "asum_adapter.json has base, not base, base_sha256, precision, sha256, training, what"),
        (adapted.CONFIG, '{"peft_type": "PREFIX_TUNING"}', "peft_type 'PREFIX_TUNING': only LORA and ADALORA are loaded"),
        (adapted.WEIGHTS, "nothing", "is not the file that asum_adapter.json has"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(t5_adapter, name, content, message):
    (t5_adapter / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        adapted.put_on(text_model("fp32").model, t5_adapter)
    assert "\n" not in str(caught.value)


def test_a_folder_without_an_adapter_is_a_checkpoint():
    assert not adapted.is_adapter(str(text_ladder.checkpoint("t5"))) and not adapted.is_adapter("openai/whisper-small")
    with pytest.raises(InputError, match="adapter /nowhere: no such folder"):
        adapted.read("/nowhere")


def test_an_adapter_of_rank_0_is_refused(t5_adapter):
    config = json.loads((t5_adapter / "adapter_config.json").read_text())
    (t5_adapter / "adapter_config.json").write_text(json.dumps(config | {"r": 0, "init_r": 0, "target_r": 0}))
    with pytest.raises(InputError, match=r"adapter .*: cannot be read"):
        adapted.summarizer(str(t5_adapter), "fp32", "en", "mini")


def test_a_text_model_with_anothers_tokenizer_is_refused(tmp_path):
    shutil.copytree(text_ladder.checkpoint("t5"), tmp_path / "t5")
    shutil.copy(text_ladder.checkpoint("mbart") / "tokenizer.json", tmp_path / "t5")
    with pytest.raises(InputError, match=r"its tokenizer has .* tokens, but config.json's vocab_size is .*: take both from one"):
        summarize.load(str(tmp_path / "t5"), "fp32", "en", "mini")
