"""Fine-tuning a loaded Whisper, whole or by adapter, with the dev WER after each epoch.

A plain loop: AdamW, linear warm-up and decay, and AdaLoRA's `update_and_allocate` where PEFT needs it. What it leaves
to others: where the model comes from (models.loading), what a cell is (study.cells).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asum_lib.training.adapters import Adapter, attach, kept_rank_mean
from asum_lib.training.batches import collate, encode_labels, epoch_order


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
class Split:
    """Features (utterances, mel bins, frames) and texts of one split."""

    features: np.ndarray
    texts: list[str]


def finetune(
    speech,
    train: Split,
    training: Training,
    adapter: Adapter | None,
    seed: int,
    evaluate: Callable[[object], dict],
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[object, list[dict]]:
    """Train and return (model, history). `evaluate(model)` gives the entries of each epoch's row, epoch 0 before training.

    Weights and data order depend on `seed` alone; dtype, device and thread count still move the last digits.
    Raises FloatingPointError where the loss stops being a number.
    """
    import torch
    from transformers import get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    steps = training.epochs * -(-len(train.texts) // training.batch_size)
    model = attach(speech.model, adapter, steps) if adapter else speech.model
    if not adapter:
        model.requires_grad_(True)
        model.model.encoder.embed_positions.requires_grad_(False)  # fixed sinusoids
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, int(training.warmup_share * steps), steps)
    labels = encode_labels(speech.tokenizer, train.texts)
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())

    history = [{"epoch": 0, "step": 0, "train_loss": None, "kept_rank_mean": kept_rank_mean(model)} | evaluate(model)]
    step = 0
    for epoch in range(1, training.epochs + 1):
        model.train()
        losses = []
        for items in epoch_order(len(labels), training.batch_size, seed, epoch):
            batch = {name: tensor.to(model.device) for name, tensor in collate(train.features, labels, items).items()}
            batch["input_features"] = batch["input_features"].to(dtype)
            loss = model(**batch).loss
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the training loss became {loss.item()} at step {step + 1} of {steps}")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, training.max_grad_norm)
            optimizer.step()
            schedule.step()
            step += 1
            if adapter and adapter.method == "adalora":
                model.base_model.update_and_allocate(step)
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        row = {"epoch": epoch, "step": step, "train_loss": float(np.mean(losses)), "kept_rank_mean": kept_rank_mean(model)}
        history.append(row | evaluate(model))
        progress(f"epoch {epoch}/{training.epochs} loss {row['train_loss']:.3f} dev WER {history[-1]['dev_wer_pct']:.1f} %")
    return model, history
