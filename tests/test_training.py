"""Adapters and fine-tuning on a handful of utterances of the tiny rung."""

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.models import ladder, loading
from asum_lib.training.adapters import adapter_of, attach, kept_rank_mean
from asum_lib.training.batches import collate, encode_labels, epoch_order
from asum_lib.training.finetune import Split, Training, finetune

TINY = str(ladder.checkpoint("tiny"))
TEXTS = ["stir the paint", "cut the onions", "fold the fabric", "wipe the brush"] * 4


@pytest.fixture(scope="module")
def train() -> Split:
    return Split(np.random.default_rng(0).normal(size=(16, 80, 200)).astype(np.float32), TEXTS)


def run(train, precision, method, rate=1e-2, epochs=3, rank=4):
    speech = loading.load(TINY, precision)
    training = Training(learning_rate=rate, epochs=epochs, batch_size=4)
    return finetune(speech, train, training, adapter_of(method, rank), seed=0, evaluate=lambda model: {"dev_wer_pct": 0.0})


def test_labels_lose_the_start_token_and_padding_is_ignored():
    tokenizer, _ = loading.load_parts(TINY)
    labels = encode_labels(tokenizer, ["stir", "stir the paint"])
    assert tokenizer.convert_ids_to_tokens([labels[0][0], labels[0][-1]]) == ["<|notimestamps|>", "<|endoftext|>"]
    batch = collate(np.zeros((2, 80, 200), np.float32), labels, np.array([0, 1]))
    assert (batch["labels"][0] == -100).sum() == len(labels[1]) - len(labels[0])


def test_an_epoch_sees_every_item_once_and_depends_on_the_seed():
    first, again, other = (np.concatenate(list(epoch_order(10, 4, seed, 1))) for seed in (0, 0, 1))
    assert sorted(first) == list(range(10))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_adalora_prunes_to_its_target(train, precision):
    model, history = run(train, precision, "adalora")
    assert history[0]["kept_rank_mean"] == 6  # it starts at one and a half times its target
    assert history[-1]["kept_rank_mean"] == kept_rank_mean(model) == 4


def test_inactive_adalora_never_prunes(train):
    _, history = run(train, "int8", "adalora-inactive")
    assert [entry["kept_rank_mean"] for entry in history] == [6, 6, 6, 6]


@pytest.mark.parametrize(("precision", "method"), [("fp32", "full"), ("int8", "lora"), ("int4", "lora")])
def test_training_lowers_the_loss(train, precision, method):
    _, history = run(train, precision, method)
    assert history[0]["train_loss"] is None
    assert history[-1]["train_loss"] < 0.9 * history[1]["train_loss"]


def test_too_few_steps_to_prune_are_refused(train):
    with pytest.raises(InputError, match="AdaLoRA cannot prune within 2 training steps"):
        attach(loading.load(TINY, "fp32").model, adapter_of("adalora", 4), total_steps=2)


def test_an_adapter_starts_as_nothing(train):
    import torch

    speech = loading.load(TINY, "fp32")
    batch = {"input_features": torch.from_numpy(train.features[:1]), "decoder_input_ids": torch.tensor([[598, 599]])}
    untouched = speech.model.eval()(**batch).logits
    assert torch.equal(attach(speech.model, adapter_of("adalora", 4), total_steps=10).eval()(**batch).logits, untouched)


def test_an_adapter_trains_itself_and_nothing_else(train):
    before = dict(loading.load(TINY, "fp32").model.named_parameters())
    model, _ = run(train, "fp32", "lora", epochs=1)
    after = {name.replace(".base_layer", ""): parameter for name, parameter in model.base_model.model.named_parameters()}
    assert all(after[name].equal(parameter) for name, parameter in before.items())
    assert any("lora_B" in name and bool(parameter.any()) for name, parameter in after.items())


def test_two_runs_of_one_seed_agree(train):
    losses = [[entry["train_loss"] for entry in run(train, "fp32", "lora", epochs=1)[1]] for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_loss_that_is_no_number_stops_the_run(train):
    broken = Split(np.full_like(train.features, np.nan), train.texts)
    with pytest.raises(FloatingPointError, match="at step 1 of 12"):
        run(broken, "fp32", "full")
