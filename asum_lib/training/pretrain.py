"""Pre-training of a mini rung on the source domain of `howto`: `asum pretrain whisper-medium`.

The sequence loss alone aligns text and audio late; a character CTC head on the encoder's output, dropped afterwards,
makes the alignment appear within a thousand steps (Graves et al. 2006; joint training as in Watanabe et al. 2017).
A run saves its whole state every 500 steps in the cache folder and goes on from there when started again.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asum_lib import files
from asum_lib.corpora import DOMAIN_OF, load_corpus
from asum_lib.corpora.features import log_mel
from asum_lib.measure import wer
from asum_lib.models import ladder
from asum_lib.models.transcribe import transcribe
from asum_lib.paths import cache
from asum_lib.training.batches import collate, encode_labels, epoch_order

BATCH_SIZE = 16
SAVE_EVERY = 500
EVALUATE_EVERY = 1_000
CHARACTERS = "abcdefghijklmnopqrstuvwxyz "


def pretrain(
    size: str,
    folder: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = print,
    replace: bool = False,
) -> Path:
    """Train a rung from scratch and save it with tokenizer and feature extractor in `folder`; returns the folder.

    By default that is where the shipped one lies, which it replaces. `InputError`, before anything is trained, for a
    folder that has anything in it, unless `replace` says that files of the same names are to be replaced.
    Runs on whatever torch offers (CUDA if present). `steps` shortens the run; the schedule shrinks with it.
    """
    import torch

    replace = replace or folder is None
    rung, folder = ladder.LADDER[size], folder or ladder.checkpoint(size)
    files.refuse_filled(folder, replace)
    steps = steps or rung.steps
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)

    train = load_corpus("howto-source", "train", progress)
    tokens = ladder.tokenizer(train.texts)
    features = log_mel(train, ladder.extractor())
    labels = encode_labels(tokens, train.texts)
    characters = [torch.tensor([CHARACTERS.index(c) + 1 for c in text]) for text in train.texts]

    model = ladder.untrained(size, tokens).to(device)
    head = torch.nn.Linear(rung.width, len(CHARACTERS) + 1, device=device)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rung.peak_lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rung.peak_lr, total_steps=steps, pct_start=0.1)
    objects = {"model": model, "head": head, "optimizer": optimizer, "schedule": schedule}

    state_path = cache() / "pretrain" / f"whisper-{size}-{steps}-s{seed}-{train.fingerprint[:8]}.pt"
    done = restore_state(state_path, objects)
    batches = _endless(len(labels), seed)
    started, losses = time.monotonic(), []
    for step, items in itertools.islice(enumerate(batches), done, steps):
        batch = collate(features, labels, items)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        batch["input_features"] = _mask(batch["input_features"], np.random.default_rng([seed, step]))
        model.train()
        output = model(**batch)
        logits = head(output.encoder_last_hidden_state).log_softmax(-1).transpose(0, 1)
        targets = [characters[item] for item in items]
        lengths = torch.tensor([len(target) for target in targets])
        frames = torch.full((len(items),), logits.shape[0])
        aligned = torch.nn.functional.ctc_loss(logits, torch.cat(targets).to(device), frames, lengths, zero_infinity=True)
        (output.loss + aligned).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append((output.loss.item(), aligned.item()))
        if (step + 1) % 100 == 0:
            sequence, ctc = np.mean(losses, axis=0)
            losses.clear()
            pace_s = (time.monotonic() - started) / (step + 1 - done)
            left = f"{pace_s:.3f} s a step, {pace_s * (steps - step - 1) / 60:.0f} min left"
            progress(f"whisper-{size} step {step + 1}/{steps} loss {sequence:.3f} ctc {ctc:.3f} {left}")
        if (step + 1) % SAVE_EVERY == 0:
            save_state(state_path, objects, step + 1)
        if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == steps:
            progress(f"whisper-{size} step {step + 1} dev WER " + ", ".join(f"{name} {_dev_wer(model, tokens, name):.1f} %" for name in DOMAIN_OF))

    with files.folder_aside(folder, replace) as made:
        for part in (model, tokens, ladder.extractor()):
            part.save_pretrained(made)
    state_path.unlink(missing_ok=True)
    return folder


def _endless(count: int, seed: int):
    for epoch in itertools.count():
        yield from epoch_order(count, BATCH_SIZE, seed, epoch)


def _mask(features, rng: np.random.Generator):
    """SpecAugment (Park et al. 2019), light: one band of mel bins and one stretch of frames to the floor, for the batch."""
    low, start = rng.integers(0, 80), rng.integers(0, features.shape[2])
    features[:, low : low + rng.integers(0, 10)] = features.min()
    features[:, :, start : start + rng.integers(0, 10)] = features.min()
    return features


def _dev_wer(model, tokens, corpus: str) -> float:
    dev = load_corpus(corpus, "dev")
    hypotheses = transcribe(model, tokens, log_mel(dev, ladder.extractor()))
    return wer.wer_pct(wer.count_errors(dev.texts, hypotheses, "whisper-basic"))


def save_state(path: Path, objects: dict, step: int) -> None:
    """Write the states of `objects` ({name: model, optimiser, schedule}) aside, then rename."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with files.aside(path) as written:
        torch.save({name: item.state_dict() for name, item in objects.items()} | {"step": step}, written)
        files.put(written, path)


def restore_state(path: Path, objects: dict) -> int:
    """Load a saved state in place and return its step; 0 where there is none, or one that cannot be read."""
    import pickle

    import torch

    if not path.is_file():
        return 0
    try:
        state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return 0
    for name, item in objects.items():
        item.load_state_dict(state[name])
    return state["step"]
