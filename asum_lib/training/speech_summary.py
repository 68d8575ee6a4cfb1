"""The end-to-end summariser in steps: hearing, then reading, then both together, as the literature trains it.

1. *Hearing*: Whisper is adapted to the speech (int8 + AdaLoRA, `systems.hearer`); of it the encoder is kept, frozen. The bridge learns
   by CTC to say the transcript of single phrases in the text model's tokens (`align`).
2. *Reading*: the text model is adapted to summarise transcripts (`systems.summarizer`); its adapter is merged into its weights.
3. *Both*: on talks, the bridge and a new AdaLoRA of the text model learn to write the summary (`summarise`).

The encoder does not change after the first step, so its states are computed once for each corpus and kept in memory.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from asum_lib import files
from asum_lib.corpora import talks
from asum_lib.measure import rouge, wer
from asum_lib.models import adapted, summarize
from asum_lib.models.speech_summary import NOTE, WINDOWS, Ear, alignment_loss, hear, heard_tokens, join, load, phrase_tokens, save, write
from asum_lib.paths import cache
from asum_lib.training import systems
from asum_lib.training.adapters import MODULES, Adapter, adapter_of
from asum_lib.training.batches import Examples
from asum_lib.training.finetune import Training, finetune
from asum_lib.training.text_examples import mean_loss

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Alignment:
    """How the bridge learns to hear: AdamW, one-cycle. The few phrases of the target are shown `target_times` as often."""

    learning_rate: float = 2e-3
    steps: int = 2_000
    batch_size: int = 32
    target_times: int = 8
    corpora: tuple[str, str] = ("howto-talks-source", "howto-talks")  # source, target; talks whose phrases are known


@dataclass(frozen=True)
class Recipe:
    """How the end-to-end model is made of an adapted Whisper and an adapted text model; the choices were made on dev."""

    alignment: Alignment
    inner: int  # width within the bridge: with it the bridge is smaller than the decoder of mini Whisper medium at int8, which it replaces
    adapter: Adapter  # of the text model, in the last step
    training: Training  # of the last step


RECIPE = Recipe(Alignment(), 128, adapter_of("adalora", 16, MODULES["t5"]["all-linear"]), Training(3e-3, epochs=3, batch_size=16))


@dataclass(frozen=True)
class HeardTalks:
    """Talks as the training loop takes them: `states[i]` (windows, positions, heard) of talk i in half precision, and its summary.

    `frames[i]`, for a model that sees, are those of talk i as `eye.Eye` takes them.
    """

    states: Sequence
    summaries: Sequence[str]
    frames: Sequence | None = None
    max_target_tokens: int = 100

    def examples(self, loaded) -> Examples:
        """Batches for an `Ear`."""
        targets = summarize.encode_summaries(loaded.text.tokenizer, self.summaries, self.max_target_tokens)
        return Examples([len(target) for target in targets], partial(collate, self.states, targets, frames=self.frames))


def collate(states, targets, items: np.ndarray, frames: Sequence | None = None) -> dict:
    """`states` (windows of all talks, positions, heard), `counts` (talks,), `labels` (talks, longest target) padded with -100, as tensors.

    Where there are frames, `frames` of all talks, one after the other, and `frame_counts` (talks,) too.
    """
    labels, _ = summarize.pad([targets[item] for item in items], -100)
    chosen = [states[item] for item in items]
    batch = {"states": torch.cat(chosen).float(), "counts": torch.tensor([len(windows) for windows in chosen]), "labels": labels}
    if frames is None:
        return batch
    seen = [frames[item] for item in items]
    return batch | {"frames": torch.cat(seen), "frame_counts": torch.tensor([len(of_talk) for of_talk in seen])}


def listening(ear: Ear, progress: Progress = lambda line: None) -> Callable[[str, str], list]:
    """A function of (corpus, split): what the encoder of `ear` hears of its talks, heard once."""
    return lru_cache(maxsize=None)(lambda corpus, split: hear(ear, talks.load_talks(corpus, split, progress), progress))


def aligned(ear: Ear, seed: int, training: Alignment, heard: Callable[[str, str], list], progress: Progress = lambda line: None) -> list[dict]:
    """Teach the bridge of `ear` to hear, on the phrases of `training.corpora`, `heard` by `listening`; returns `align`'s rows."""
    source, target = training.corpora
    parts = [(source, "train"), (target, "train"), (target, "dev")]
    found = [phrases_of(heard(*part), *part, ear.text.tokenizer) for part in parts]
    return align(ear, *found, training, seed, progress)


def end_to_end(
    ear: Ear, corpus: str, seed: int, recipe: Recipe, heard: Callable[[str, str], list], progress: Progress = lambda line: None
) -> tuple[Ear, list[dict]]:
    """(the end-to-end model for the talks of a corpus, adapted; a row an epoch) of one whose bridge has learnt to hear. `ear` is changed in place."""
    parts = [(f"{corpus}-source", "train"), (corpus, "train"), (corpus, "dev")]
    *train, dev = (HeardTalks(heard(*part), [talk.summary for talk in talks.load_talks(*part, progress).talks]) for part in parts)
    together = HeardTalks([states for part in train for states in part.states], [text for part in train for text in part.summaries])
    model, history = summarise(ear, together, dev, recipe.training, recipe.adapter, seed, progress)
    return replace(ear, model=model), history


def kept(corpus: str, seed: int, recipe: Recipe = RECIPE, progress: Progress = lambda line: None) -> tuple[Ear, list[dict]]:
    """The end-to-end model for the talks of a corpus, and the rows of its trainings, from the cache or trained now, with all that it stands on."""
    (hearer, _), (reader, _) = (systems.kept(one, seed, progress) for one in (systems.HEARER, systems.summarizer_of(corpus)))
    key = json.dumps([asdict(recipe), hearer.name, reader.name])
    folder = cache() / "adapters" / f"e2e-{corpus}-s{seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / NOTE).is_file():
        ear = joined(hearer, reader, seed, recipe)
        heard = listening(ear, progress)
        rows = _kept_bridge(ear, hearer, seed, recipe, heard, progress)
        ear, history = end_to_end(ear, corpus, seed, recipe, heard, progress)
        names = {"hearer": hearer.name, "summarizer": reader.name, "precision": systems.HEARER.precision}
        save(ear, folder, **names, what="", training={"rows": [*rows, *history]}, replace=True)
    rows = json.loads((folder / NOTE).read_text(encoding="utf-8"))["training"]["rows"]
    return load(folder, systems.HEARER.precision, "mini"), rows


def joined(hearer: Path, reader: Path, seed: int, recipe: Recipe = RECIPE) -> Ear:
    """An end-to-end model before its last two trainings, of two adapters' folders."""
    speech = adapted.speech(str(hearer), systems.HEARER.precision, "mini")
    text = adapted.summarizer(str(reader), systems.SUMMARIZER.precision, "en", "mini")
    return join(speech, text, seed, inner=recipe.inner)


def _kept_bridge(ear: Ear, hearer: Path, seed: int, recipe: Recipe, heard: Callable[[str, str], list], progress: Progress) -> list[dict]:
    """Teach the bridge of `ear` to hear, or take what the cache has of it: that does not depend on the talks that are to be summarised."""
    from safetensors.torch import load_file, save_file

    key = json.dumps([asdict(recipe.alignment), recipe.inner, hearer.name, seed])
    path = cache() / "adapters" / f"bridge-s{seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        rows = aligned(ear, seed, recipe.alignment, heard, progress)
        files.write_whole(path.with_suffix(".json"), json.dumps(rows).encode())
        with files.aside(path) as written:
            save_file(ear.model.bridge.state_dict(), written)
            files.put(written, path)
    ear.model.bridge.load_state_dict(load_file(path))
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def phrases_of(heard: Sequence, corpus: str, split: str, tokenizer) -> list[tuple[object, list[int], str]]:
    """(states, tokens, text) of every phrase of the heard talks of a split, but for talks that were not cut as they were spoken."""
    found = []
    for states, script in zip(heard, talks.scripts(corpus, split), strict=True):
        if len(states) == len(script.takes):
            texts = [take.text for take in script.takes]
            found += zip(states, phrase_tokens(tokenizer, texts), texts, strict=True)
    return found


def align(
    ear: Ear, source: Sequence, target: Sequence, dev: Sequence, training: Alignment, seed: int, progress: Progress = lambda line: None
) -> list[dict]:
    """Train the bridge to hear, the rest as it is; returns rows {step, loss, dev_wer_pct}. The phrases are those of `phrases_of`.

    `dev_wer_pct` is of the bridge's own greedy reading.
    """
    pairs = [(states, tokens) for states, tokens, _ in [*source, *list(target) * training.target_times] if _fits(tokens, len(states))]
    model = ear.model.train()
    model.text.requires_grad_(False)
    trained = list(model.bridge.parameters())
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1)
    rows, losses, started = [], [], time.monotonic()
    order = _endless(len(pairs), training.batch_size, seed)
    for step in range(1, training.steps + 1):
        model.train()
        items = [pairs[item] for item in next(order)]
        loss = alignment_loss(model, torch.stack([states for states, _ in items]).float(), [tokens for _, tokens in items])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 500 == 0 or step == training.steps:
            rows.append({"step": step, "loss": float(np.mean(losses)), "dev_wer_pct": bridge_wer_pct(ear, dev)})
            losses.clear()
            pace_s = (time.monotonic() - started) / step
            last = f"loss {rows[-1]['loss']:.3f} dev WER {rows[-1]['dev_wer_pct']:.1f} %"
            progress(f"bridge step {step}/{training.steps} {last}; {pace_s:.2f} s a step")
    return rows


def summarise(
    ear: Ear, train: HeardTalks, dev: HeardTalks, training: Training, adapter: Adapter, seed: int, progress: Progress = lambda line: None
) -> tuple[object, list[dict]]:
    """(the adapted model, a row an epoch): the bridge, the eye of a model that sees and `adapter` on the text model learn to write summaries.

    `ear.model` is changed in place; epoch 0 is what hearing and reading alone amount to.
    """
    ear.model.requires_grad_(False)
    examples = dev.examples(ear)

    def evaluate(model) -> dict:
        written = write(model, ear.text, dev.states, summarize.Decoding(), frames=dev.frames)
        scores = rouge.score(dev.summaries, written, ear.text.language)
        return {"dev_loss": mean_loss(model, examples), "dev_rouge1": float(100 * scores["rouge1"].mean())}

    return finetune(ear, train, training, adapter, seed, evaluate, progress, also=("bridge",) if train.frames is None else ("bridge", "eye"))


def bridge_wer_pct(ear: Ear, phrases: Sequence) -> float:
    """WER of what the bridge alone takes to be said, in per cent."""
    ear.model.eval()
    states, texts = [one for one, _, _ in phrases], [text for _, _, text in phrases]
    batches = (torch.stack(states[start : start + WINDOWS]).float() for start in range(0, len(states), WINDOWS))
    tokens = [row for batch in batches for row in heard_tokens(ear.model, batch)]
    return wer.wer_pct(wer.count_errors(texts, ear.text.tokenizer.batch_decode(tokens), "whisper-basic"))


def _fits(tokens: Sequence[int], positions: int) -> bool:
    """CTC needs a state a token, and one of nothing between two that are the same."""
    return len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens)) <= positions


def _endless(count: int, batch_size: int, seed: int):
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(count)
        yield from (order[start : start + batch_size] for start in range(0, count - batch_size + 1, batch_size))
        epoch += 1
