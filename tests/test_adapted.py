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


@pytest.mark.parametrize("name", [adapted.NOTE, adapted.CONFIG, adapted.WEIGHTS])
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
        (adapted.NOTE, "{", "asum_adapter.json is not JSON"),
        (adapted.NOTE, '{"base": "t5-mini"}', "asum_adapter.json has base, not base, base_sha256, precision, training, what"),
        (adapted.CONFIG, '{"peft_type": "PREFIX_TUNING"}', "peft_type 'PREFIX_TUNING': only LORA and ADALORA are loaded"),
        (adapted.WEIGHTS, "nothing", "cannot be read"),
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
