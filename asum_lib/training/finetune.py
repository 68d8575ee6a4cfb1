"""Fine-tuning a loaded Whisper or text model, whole or by adapter, with an evaluation after each epoch.

A plain loop: AdamW, linear warm-up and decay, and AdaLoRA's `update_and_allocate` where PEFT needs it. A batch may be cut
into micro-batches and dealt to several processes; its loss is always the mean over the tokens of the whole batch. What it
leaves to others: where the model comes from (models.loading), what a cell is (study.cells), who the processes are
(training.processes), what a state on disk holds (training.state).
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from asum_lib.errors import InputError, choose
from asum_lib.training import processes
from asum_lib.training.adapters import Adapter, attach, kept_rank_mean
from asum_lib.training.batches import Examples, ahead, collate, cut, encode_labels, epoch_order
from asum_lib.training.state import Position, Resume, restore, save

PROGRESS_EVERY_S = 60.0  # within an epoch


@dataclass(frozen=True)
class Training:
    """The resolved hyper-parameters of a fine-tuning run."""

    learning_rate: float
    epochs: int
    batch_size: int = 8
    warmup_share: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class Execution:
    """How a run is fitted to a machine; in exact arithmetic none of it changes the result.

    `micro_batch_size` utterances go through the model at once in each process (None: its whole share of the batch).
    Gradient checkpointing keeps the inputs of layers and computes the rest twice. `autocast="bfloat16"` computes in bf16
    where that is safe; trained weights, gradients and optimiser stay as they were loaded.
    """

    micro_batch_size: int | None = None
    gradient_checkpointing: bool = False
    autocast: str | None = None

    def __post_init__(self):
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise InputError(f"micro_batch_size {self.micro_batch_size}: give a whole number of utterances from 1 up")
        if self.autocast is not None:
            choose("autocast", self.autocast, ["bfloat16"])  # float16 would need its losses scaled


@dataclass(frozen=True)
class Split:
    """Features and texts of one split: `features[i]` is the log-mel (mel bins, frames) of utterance i."""

    features: object
    texts: list[str]

    def examples(self, speech) -> Examples:
        """Batches for `speech`; `InputError` for what would otherwise fail in the middle of an epoch."""
        labels = _labels(speech, self)
        return Examples([len(row) for row in labels], partial(collate, self.features, labels))


def finetune(
    loaded,
    train,
    training: Training,
    adapter: Adapter | None,
    seed: int,
    evaluate: Callable[[object], dict],
    progress: Callable[[str], None] = lambda line: None,
    execution: Execution = Execution(),
    resume: Resume | None = None,
    also: Sequence[str] = (),
) -> tuple[object, list[dict]]:
    """Train and return (model, history). `evaluate(model)` gives the entries of each epoch's row, epoch 0 before training.

    `loaded` holds the `model`; `train` gives its batches by `train.examples(loaded)`, as `Split` does for speech.
    `also` names modules that are trained whole beside an adapter.
    Weights and data order depend on `seed` alone; dtype, device, thread count and `execution` still move the last digits.
    With several processes each trains on its share of every batch, all hold the same weights, and each calls `evaluate`.
    With `resume` the state is saved before each evaluation and every `save_every_s`, and a run that finds its own state
    goes on from there; the caller removes it with `state.discard`. Then rows and `resume.kept` must be JSON.

    Raises InputError for a split that cannot be trained on, FloatingPointError where the loss stops being a number.
    """
    import torch
    from transformers import get_linear_schedule_with_warmup

    progress = progress if processes.is_main() else lambda line: None
    examples = train.examples(loaded)
    _check_autocast(execution.autocast, loaded.model.device)

    torch.manual_seed(seed)
    steps = training.epochs * -(-len(examples.tokens) // training.batch_size)
    model = attach(loaded.model, adapter, steps, also) if adapter else train_whole(loaded.model)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # one parameter at a time: on a GPU all at once would take temporaries as large as the weights
    optimizer = torch.optim.AdamW(trainable, lr=training.learning_rate, weight_decay=training.weight_decay, foreach=False)
    schedule = get_linear_schedule_with_warmup(optimizer, int(training.warmup_share * steps), steps)
    hooks = keep_layer_inputs_only(loaded.model) if execution.gradient_checkpointing else []

    position = _start(resume, model, optimizer, schedule, progress)
    clock = _Clock(resume.kept if resume else {}, position.step)

    def row(loss: float | None) -> dict:
        head = {"epoch": position.epoch, "step": position.step, "train_loss": loss, "kept_rank_mean": kept_rank_mean(model)}
        return head | evaluate(model)

    if not position.history:
        position.history.append(row(None))
        position.epoch = 1
    while position.epoch <= training.epochs:
        model.train()
        clock.start()
        for tokens, batches in _epoch(examples, training, execution, seed, position):
            loss = _meet(trainable, partial(_backward, model, batches, tokens, execution))
            position.step += 1
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the training loss became {loss.item()} at step {position.step} of {steps}")
            torch.nn.utils.clip_grad_norm_(trainable, training.max_grad_norm)
            optimizer.step()
            schedule.step()
            if adapter and adapter.method == "adalora":
                model.base_model.update_and_allocate(position.step)
            optimizer.zero_grad(set_to_none=True)
            position.losses.append(loss.item())
            position.done += 1
            clock.tick()
            if clock.is_due("speak", PROGRESS_EVERY_S):
                pace_s = clock.trained_s / (position.step - clock.first_step)
                pace = f"{pace_s:.2f} s a step, {pace_s * (steps - position.step) / 60:.0f} min of training left"
                progress(f"epoch {position.epoch}/{training.epochs} step {position.step}/{steps} loss {loss.item():.3f}, {pace}")
            if resume and clock.is_due("save", resume.save_every_s):
                _save(resume, position, model, optimizer, schedule)
        _check_agreement(trainable)
        if resume:
            _save(resume, position, model, optimizer, schedule)
        position.history.append(row(float(np.mean(position.losses))))
        last = position.history[-1]
        measured = [f"{name} {value:.2f}" for name, value in last.items() if name.startswith("dev_") and isinstance(value, float)]
        progress(f"epoch {position.epoch}/{training.epochs} loss {last['train_loss']:.3f} {' '.join(measured)}")
        position.epoch, position.done, position.losses = position.epoch + 1, 0, []
    if execution.gradient_checkpointing:
        loaded.model.activation_checkpointing_disable()
        for hook in hooks:
            hook.remove()
    return model, position.history


def train_whole(model):
    """Make every weight a trained one, but for Whisper's positions in the encoder, which are fixed sinusoids; returns the model."""
    model.requires_grad_(True)
    if model.config.model_type == "whisper":
        model.model.encoder.embed_positions.requires_grad_(False)
    return model


def _labels(speech, train: Split) -> list[list[int]]:
    """Labels of the training split; `InputError` for what would otherwise fail in the middle of an epoch."""
    count = len(train.features)
    if not train.texts or count != len(train.texts):
        raise InputError(f"training split of {count} utterances with {len(train.texts)} texts: give at least one, and a text for each")
    labels = encode_labels(speech.tokenizer, train.texts)
    longest, most = max(range(count), key=lambda item: len(labels[item])), speech.model.config.max_target_positions
    if len(labels[longest]) > most:
        text = f"training text {longest} ({train.texts[longest][:40]!r}...)"
        raise InputError(f"{text} has {len(labels[longest])} tokens: this model writes at most {most}, cut the utterance")
    return labels


def _check_autocast(autocast: str | None, device) -> None:
    import torch

    if autocast and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"autocast {autocast}: {torch.cuda.get_device_name(device)} does not compute in it, leave autocast out")


def keep_layer_inputs_only(model) -> list:
    """Switch gradient checkpointing on: what lies within a layer is computed again in the backward pass. Returns hooks to remove afterwards.

    bitsandbytes' int8 layers keep their inputs where PyTorch's usual kind of checkpointing does not see them, so that it would
    free little. The older, reentrant kind runs the layers without a graph and frees all. But it gives gradients only to layers
    whose input has one: behind frozen embeddings that has to be asked for.
    """
    import torch

    reentrant = bool(getattr(model, "is_loaded_in_8bit", False))
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    speech = hasattr(model.get_encoder(), "conv1")
    if speech:
        model.get_encoder().gradient_checkpointing = False  # its layers do it; the encoder itself would only warn of a cache it has not
    if not reentrant:
        return []

    def require_gradient(module, inputs, output):
        if torch.is_grad_enabled():
            output.requires_grad_(True)

    first = [model.get_encoder().conv1, model.get_decoder().embed_tokens] if speech else [model.get_input_embeddings()]
    return [module.register_forward_hook(require_gradient) for module in first]


def _epoch(examples: Examples, training: Training, execution: Execution, seed: int, position: Position) -> Iterator[tuple[int, Iterator]]:
    """(label tokens of the whole batch, this process's micro-batches) for each batch of the epoch that is not done yet."""

    def mine(items: np.ndarray) -> list[np.ndarray]:
        share = processes.share(len(items))
        return cut(items[share.start : share.stop], execution.micro_batch_size)

    order = list(epoch_order(len(examples.tokens), training.batch_size, seed, position.epoch))[position.done :]
    collated = ahead(examples.collate, (piece for items in order for piece in mine(items)))
    with contextlib.closing(collated):
        for items in order:
            # a batch's last share may be empty: that process then only meets the others
            yield sum(examples.tokens[item] for item in items), (next(collated) for _ in mine(items))


def _backward(model, batches: Iterator[dict], tokens: int, execution: Execution):
    """Add the gradients of this process's part of a batch; returns that part of the loss, summed over tokens by `tokens`.

    Each micro-batch's loss is a mean over its own tokens, and counts by how many of the batch's tokens these are: a mean
    of means would give the words of short sentences more weight. For a batch in one piece the factor is exactly 1.
    """
    import torch

    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    total = torch.zeros((), device=model.device)
    for batch in batches:
        share = int((batch["labels"] != -100).sum()) / tokens
        inputs = {name: tensor.to(model.device, dtype if tensor.is_floating_point() else None) for name, tensor in batch.items()}
        with torch.autocast(model.device.type, torch.bfloat16) if execution.autocast else contextlib.nullcontext():
            loss = model(**inputs, use_cache=False).loss.float() * share
        loss.backward()
        total += loss.detach()
    return total


def _meet(trainable: list, backward: Callable):
    """Run `backward` and sum what it gives over the processes: the gradients, in place, and the loss, which is returned.

    A process in which it fails meets the others all the same, so that they stop too instead of waiting for it.
    """
    if processes.world() == 1:
        return backward()
    import torch

    loss, failure = torch.zeros((), device=trainable[0].device), None
    try:
        loss = backward()
    except Exception as error:  # out of memory, or an utterance that cannot be read
        failure = error
    parts = [parameter.grad if parameter.grad is not None else torch.zeros_like(parameter) for parameter in trainable]
    *gradients, totals = processes.add_up([*parts, torch.stack([loss, torch.full_like(loss, failure is not None)])])
    if totals[1]:
        processes.raise_together(failure)
    for parameter, gradient in zip(trainable, gradients, strict=True):
        parameter.grad = gradient
    return totals[0]


def _check_agreement(trainable: list) -> None:
    """Processes that drifted apart would each evaluate another model: stop instead."""
    if processes.world() == 1:
        return
    import torch

    sums = torch.stack([parameter.detach().double().sum() for parameter in trainable]).tolist()
    if any(other != sums for other in processes.gather([sums])):
        raise RuntimeError("the trained weights differ between the processes")


def _start(resume: Resume | None, model, optimizer, schedule, progress) -> Position:
    """The position of the saved state, loaded in place, or the beginning."""
    found = restore(resume, model, optimizer, schedule) if resume else None
    if len(set(processes.gather([found.step if found else -1]))) > 1:
        raise InputError(f"{resume.path}: not all processes see the same state, give a folder that they share or remove it")
    if found:
        progress(f"going on in epoch {found.epoch}, after step {found.step}")
    elif resume and resume.path.is_file():
        progress(f"{resume.path} is not a state of this run: starting anew")
    return found or Position()


def _save(resume: Resume, position: Position, model, optimizer, schedule) -> None:
    if processes.is_main():  # the others hold the same weights
        save(resume, position, model, optimizer, schedule)


class _Clock:
    """Time in training, added up in `kept["train_s"]` too, and what is due every so often."""

    def __init__(self, kept: dict, first_step: int):
        self.kept, self.first_step, self.trained_s = kept, first_step, 0.0
        self.now = time.monotonic()
        self.last: dict[str, float] = {}

    def start(self) -> None:
        self.now = time.monotonic()

    def tick(self) -> None:
        before, self.now = self.now, time.monotonic()
        self.trained_s += self.now - before
        self.kept["train_s"] = self.kept.get("train_s", 0.0) + self.now - before

    def is_due(self, what: str, every_s: float) -> bool:
        if self.trained_s - self.last.get(what, 0.0) < every_s:
            return False
        self.last[what] = self.trained_s
        return True
