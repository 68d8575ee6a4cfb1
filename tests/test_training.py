"""Adapters and fine-tuning on a handful of utterances of the tiny rung."""

import threading

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.models import ladder, loading
from asum_lib.training.adapters import adapter_of, attach, kept_rank_mean
from asum_lib.training.batches import ahead, collate, cut, encode_labels, epoch_order
from asum_lib.training.finetune import Execution, Split, Training, finetune
from asum_lib.training.state import Resume, discard

TINY = str(ladder.checkpoint("tiny"))
TEXTS = ["stir the paint", "cut the onions", "fold the fabric", "wipe the brush"] * 4


@pytest.fixture(scope="module")
def train() -> Split:
    return Split(np.random.default_rng(0).normal(size=(16, 80, 200)).astype(np.float32), TEXTS)


@pytest.fixture(scope="module")
def unequal() -> Split:
    """Texts of one word and of thirty, in one batch."""
    return Split(
        np.random.default_rng(0).normal(size=(8, 80, 200)).astype(np.float32), ["stir", "cut the onions " * 10, "fold", "wipe the brush"] * 2
    )


def dev(model) -> dict:
    return {"dev_wer_pct": 0.0}


def run(train, precision, method, rate=1e-2, epochs=3, rank=4, batch_size=4, evaluate=dev, **options):
    speech = loading.load(TINY, precision)
    training = Training(learning_rate=rate, epochs=epochs, batch_size=batch_size)
    return finetune(speech, train, training, adapter_of(method, rank), seed=0, evaluate=evaluate, **options)


def trained(model) -> dict:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def distance(model, other) -> float:
    """Largest difference between the trained weights of two models."""
    ours, theirs = trained(model), trained(other)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


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


@pytest.mark.parametrize("method", ["full", "lora", "adalora"])
def test_training_is_the_plain_loop_bit_for_bit(train, method):
    """The records in `results` were made by this loop: a change of order or of rounding would make them unrepeatable."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    speech = loading.load(TINY, "fp32")
    torch.manual_seed(0)
    plain = speech.model.requires_grad_(True) if method == "full" else attach(speech.model, adapter_of(method, 4), total_steps=12)
    speech.model.model.encoder.embed_positions.requires_grad_(False)
    weights = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 1, 12)
    labels, losses = encode_labels(speech.tokenizer, TEXTS), []
    plain.train()
    for epoch in (1, 2, 3):
        for items in epoch_order(16, 4, 0, epoch):
            loss = plain(**collate(train.features, labels, items)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if method == "adalora":
                plain.base_model.update_and_allocate(len(losses))
            optimizer.zero_grad()

    model, history = run(train, "fp32", method)
    assert [entry["train_loss"] for entry in history[1:]] == [float(np.mean(losses[start : start + 4])) for start in (0, 4, 8)]
    assert distance(model, plain) == 0


def test_a_batch_is_cut_into_pieces_and_none_is_empty():
    assert [piece.tolist() for piece in cut(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [piece.tolist() for piece in cut(np.arange(5), None)] == [[0, 1, 2, 3, 4]]
    assert cut(np.arange(0), 2) == cut(np.arange(0), None) == []


def test_the_next_batch_is_made_while_the_one_before_is_in_use():
    begun = threading.Event()

    def make(number):
        if number == 2:
            begun.set()
        return 10 * number

    made = ahead(make, [1, 2, 3])
    assert next(made) == 10
    assert begun.wait(timeout=10)
    assert list(made) == [20, 30]


def test_what_fails_in_making_a_batch_is_raised_where_it_is_used():
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 // number, [1, 0]))


@pytest.mark.parametrize("method", ["full", "adalora"])
def test_micro_batches_train_as_the_whole_batch_does(unequal, method):
    # Adam moves every weight by about the rate a step, four of them here: the tolerance is a twentieth of the way
    whole, expected = run(unequal, "fp32", method, rate=1e-3, batch_size=8, epochs=4)
    cut_up, history = run(unequal, "fp32", method, rate=1e-3, batch_size=8, epochs=4, execution=Execution(micro_batch_size=2))
    assert [entry["train_loss"] for entry in history[1:]] == pytest.approx([entry["train_loss"] for entry in expected[1:]], rel=1e-5)
    assert distance(cut_up, whole) < 2e-4


def test_the_loss_of_micro_batches_is_no_mean_of_means(unequal):
    """One batch of two utterances, 3 and 42 tokens: the mean of their means is another number."""
    import torch

    speech = loading.load(TINY, "fp32")
    pair = Split(unequal.features[:2], unequal.texts[:2])
    labels = encode_labels(speech.tokenizer, pair.texts)
    with torch.no_grad():
        means = [speech.model(**collate(pair.features, labels, np.array([item]))).loss.item() for item in (0, 1)]
    tokens = [len(ids) for ids in labels]
    _, history = run(pair, "fp32", "full", batch_size=2, epochs=1, execution=Execution(micro_batch_size=1))
    assert history[1]["train_loss"] == pytest.approx(np.average(means, weights=tokens), rel=1e-5)
    assert abs(history[1]["train_loss"] - np.mean(means)) > 0.1


@pytest.mark.parametrize(("precision", "method"), [("fp32", "full"), ("fp32", "lora"), ("int4", "adalora")])
def test_gradient_checkpointing_changes_nothing(train, precision, method):
    plain, expected = run(train, precision, method)
    model, history = run(train, precision, method, execution=Execution(gradient_checkpointing=True))
    assert history == expected
    assert distance(model, plain) == 0


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_gradient_checkpointing_of_int8_changes_the_last_digits_alone(train, method):
    plain, expected = run(train, "int8", method, rate=1e-3)
    model, history = run(train, "int8", method, rate=1e-3, execution=Execution(gradient_checkpointing=True))
    assert [entry["train_loss"] for entry in history[1:]] == pytest.approx([entry["train_loss"] for entry in expected[1:]], rel=1e-5)
    assert distance(model, plain) < 2e-4


@pytest.mark.parametrize(("precision", "method"), [("fp32", "lora"), ("int8", "lora"), ("int8", "adalora"), ("int4", "lora")])
def test_gradient_checkpointing_holds_little_between_forward_and_backward(train, precision, method):
    """The largest activation of a layer is the one between its two linear maps: none may be alive when the forward is over."""
    import gc

    import torch

    from asum_lib.training import finetune as module

    speech = loading.load(TINY, precision)
    model = attach(speech.model, adapter_of(method, 4), total_steps=10).train()
    module.keep_layer_inputs_only(speech.model)
    batch = collate(train.features, encode_labels(speech.tokenizer, TEXTS), np.arange(16))
    loss = model(**batch, use_cache=False).loss
    wide = {(16, 100, 4 * 48), (16 * 100, 4 * 48)}
    gc.collect()
    assert loss.requires_grad
    assert [tensor.shape for tensor in gc.get_objects() if isinstance(tensor, torch.Tensor) and tuple(tensor.shape) in wide] == []


def test_gradient_checkpointing_computes_layers_twice_in_training_and_once_in_evaluation(train):
    calls = []

    def evaluate(model):
        layer = model.base_model.model.model.encoder.layers[0].fc1
        if not layer._forward_hooks:
            layer.register_forward_hook(lambda *_: calls.append(model.training))
        model.eval()
        model(**collate(train.features, [[598, 599]], np.array([0])))
        return dev(model)

    model, _ = run(train, "int8", "lora", epochs=1, batch_size=16, evaluate=evaluate, execution=Execution(gradient_checkpointing=True))
    assert calls == [False, True, True, False]
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


@pytest.mark.parametrize(("precision", "method"), [("fp32", "full"), ("int8", "adalora"), ("int4", "lora")])
def test_bfloat16_trains_weights_that_stay_float32(train, precision, method):
    import torch

    everything = Execution(micro_batch_size=2, gradient_checkpointing=True, autocast="bfloat16")
    model, history = run(train, precision, method, execution=everything)
    plain, expected = run(train, precision, method)
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert history[-1]["train_loss"] == pytest.approx(expected[-1]["train_loss"], rel=0.05)
    assert {weight.dtype for weight in trained(model).values()} == {torch.float32}
    assert distance(model, plain) > 0


def test_int8_adalora_trains_and_prunes_with_everything_that_saves_memory(train):
    everything = Execution(micro_batch_size=1, gradient_checkpointing=True, autocast="bfloat16")
    _, history = run(train, "int8", "adalora", rate=3e-2, epochs=8, execution=everything)
    assert history[-1]["train_loss"] < 0.8 * history[1]["train_loss"]
    assert history[-1]["kept_rank_mean"] == 4


def test_an_unknown_execution_is_refused():
    with pytest.raises(InputError, match="unknown autocast 'float16': choose from bfloat16"):
        Execution(autocast="float16")
    with pytest.raises(InputError, match="micro_batch_size 0: give a whole number of utterances from 1 up"):
        Execution(micro_batch_size=0)


def test_a_text_longer_than_the_model_writes_is_refused_before_training(train):
    long = Split(train.features, [*TEXTS[:-1], "stir the paint " * 40])
    with pytest.raises(InputError, match=r"training text 15 \('stir the paint.*this model writes at most 64"):
        run(long, "fp32", "lora")


def test_a_training_split_without_utterances_is_refused(train):
    with pytest.raises(InputError, match="training split of 0 utterances"):
        run(Split(train.features[:0], []), "fp32", "lora")


class Killed(Exception):
    pass


def keeping(kept: dict, die_in_epoch: int | None = None):
    """An `evaluate` that keeps a row an epoch, and in one epoch does not come back."""

    def evaluate(model):
        seen = kept.setdefault("samples", [])
        if len(seen) == die_in_epoch:
            raise Killed
        seen.append({"epoch": len(seen)})
        return dev(model)

    return evaluate


@pytest.mark.parametrize(("precision", "method"), [("fp32", "full"), ("fp32", "lora"), ("int8", "adalora"), ("int4", "adalora")])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_goes_on_to_the_same_result(train, tmp_path, precision, method, epoch):
    undisturbed, expected = run(train, precision, method)
    resume = Resume(tmp_path, "this run")
    with pytest.raises(Killed):
        run(train, precision, method, evaluate=keeping(resume.kept, die_in_epoch=epoch), resume=resume)

    resume, said = Resume(tmp_path, "this run"), []
    model, history = run(train, precision, method, evaluate=keeping(resume.kept), resume=resume, progress=said.append)
    assert said[0] == f"going on in epoch {epoch}, after step {4 * epoch}"
    assert history == expected
    assert distance(model, undisturbed) == 0
    assert resume.kept["samples"] == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    assert resume.kept["train_s"] > 0
    discard(resume)
    assert not list(tmp_path.iterdir())


def test_a_run_killed_within_an_epoch_goes_on_there(train, tmp_path):
    class Cut:
        """Features whose reading fails at the sixth batch."""

        read = 0

        def __len__(self):
            return 16

        def __getitem__(self, item):
            self.read += 1
            if self.read > 20:
                raise Killed
            return train.features[item]

    undisturbed, expected = run(train, "int8", "adalora")
    often = {"save_every_s": 0.0}
    with pytest.raises(Killed):
        run(Split(Cut(), TEXTS), "int8", "adalora", resume=Resume(tmp_path, "this run", **often))
    said = []
    model, history = run(train, "int8", "adalora", resume=Resume(tmp_path, "this run"), progress=said.append)
    assert said[0] == "going on in epoch 2, after step 5"
    assert history == expected
    assert distance(model, undisturbed) == 0


@pytest.mark.parametrize("content", ["another run's state", b"no state at all", b""])
def test_a_state_that_is_not_this_run_s_is_not_used(train, tmp_path, content):
    resume = Resume(tmp_path, "this run")
    if isinstance(content, bytes):
        resume.path.write_bytes(content)
    else:
        run(train, "fp32", "lora", resume=Resume(tmp_path, "another run"))
    said = []
    _, history = run(train, "fp32", "lora", resume=resume, progress=said.append)
    assert said[0] == f"{resume.path} is not a state of this run: starting anew"
    assert history == run(train, "fp32", "lora")[1]


def test_a_kill_while_saving_leaves_the_state_before(train, tmp_path, monkeypatch):
    import torch

    resume = Resume(tmp_path, "this run")
    run(train, "fp32", "lora", epochs=1, resume=resume)
    before = resume.path.read_bytes()

    def torn(content, path):
        path.write_bytes(b"half a")
        raise Killed

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Killed):
        run(train, "fp32", "lora", epochs=1, resume=Resume(tmp_path, "another run"))
    assert resume.path.read_bytes() == before
