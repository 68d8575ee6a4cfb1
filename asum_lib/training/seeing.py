"""The end-to-end summariser with frames: a bridge learns to hear in three rooms, an eye to look, then both with the text model's adapter.

It stands on the two shipped adapters, which are the same for every seed, and so is the bridge before the last step: computing what the
encoder hears and aligning a bridge take most of the time, and neither has to do with frames. A seed is of the eye, the text model's
new adapter and the order of the talks.

*Looking* is to the eye what alignment is to the bridge: of the frames of talks it learns which words are said while each is seen. Words
that are said with many a frame tell little of it, so each counts by the logarithm of how few sentences have it (its inverse document
frequency). The target's few talks are drawn several times anew. The text model does not change.

The last step is that of `speech_summary`, on talks in their own rooms and in noisier ones. With `sees` false the same ear learns from the
same talks, in the same order, for as many steps, without an eye: that is what frames are held against.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from asum_lib.corpora import frames, talks
from asum_lib.models.eye import Eye, SeeingSummarizer, looking_loss
from asum_lib.models.speech_summary import Ear, SpeechSummarizer, hear, phrase_tokens
from asum_lib.paths import CHECKPOINTS
from asum_lib.training import systems
from asum_lib.training.adapters import Adapter
from asum_lib.training.finetune import Training
from asum_lib.training.speech_summary import RECIPE, Alignment, HeardTalks, align, joined, phrases_of, summarise

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Looking:
    """How the eye learns to look: AdamW, one-cycle."""

    learning_rate: float = 3e-3
    steps: int = 2_000
    batch_size: int = 64
    drawings: tuple[tuple[str, int], ...] = (("howto-talks-source", 1), ("howto-talks", 8))  # corpus and how often its talks are drawn


@dataclass(frozen=True)
class Rooms:
    """What both arms learn from, and how; the choices were made on dev."""

    looking: Looking
    alignment: Alignment  # on the same talks
    inner: int  # width within the bridge
    source: str  # corpora of talks, of which the train splits are learnt from
    target: tuple[str, ...]
    dev: str
    adapter: Adapter
    training: Training


ROOMS = Rooms(
    Looking(),
    replace(RECIPE.alignment, steps=800, target_times=2),
    RECIPE.inner,
    "howto-talks-rooms-source",
    ("howto-talks", "howto-talks-8db", "howto-talks-5db"),
    "howto-talks-5db",
    RECIPE.adapter,
    RECIPE.training,
)


@dataclass(frozen=True)
class InRooms:
    """What all arms of all seeds begin with: the bridge's weights after alignment, `align`'s rows, and the talks with their frames."""

    bridge: dict
    rows: list[dict]
    train: HeardTalks
    dev: HeardTalks


def look(model: SpeechSummarizer, tokenizer, training: Looking, seed: int, progress: Progress = lambda line: None) -> tuple[Eye, dict]:
    """(an eye for the text model of `model`, {step, loss}: the loss over the last 500 steps)."""
    embeddings = model.embeddings().detach()
    torch.manual_seed(seed)
    eye = Eye(embeddings.shape[1], len(embeddings))
    pictures, sentences = pictures_of(training.drawings)
    said = weights_of(phrase_tokens(tokenizer, sentences), len(embeddings))
    optimizer = torch.optim.AdamW(eye.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1)
    rng, losses, started = np.random.default_rng(seed), [], time.monotonic()
    for _ in range(training.steps):
        items = torch.from_numpy(rng.integers(len(pictures), size=training.batch_size))
        loss = looking_loss(eye, pictures[items], said[items], embeddings)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    row = {"step": training.steps, "loss": float(np.mean(losses[-500:]))}
    progress(f"eye step {row['step']} loss {row['loss']:.2f}; {time.monotonic() - started:.0f} s")
    return eye, row


@lru_cache(maxsize=1)
def pictures_of(drawings: tuple[tuple[str, int], ...]) -> tuple:
    """(frames, the sentence said while each is seen) of train splits, each drawn as often as is asked; they are the same for every seed."""
    parts = [(script, drawing) for corpus, times in drawings for drawing in range(times) for script in talks.scripts(corpus, "train")]
    pictures = torch.from_numpy(np.concatenate([frames.draw(script, drawing) for script, drawing in parts]))
    return pictures, [take.text for script, _ in parts for take in script.takes]


def weights_of(tokens: Sequence[Sequence[int]], vocabulary: int):
    """(sentences, vocabulary): the share of each token in its sentence by inverse document frequency; a row sums to 1."""
    said = torch.zeros(len(tokens), vocabulary)
    for row, ids in zip(said, tokens, strict=True):
        row[ids] = 1
    said *= torch.log(len(said) / said.sum(dim=0).clamp_min(1))
    return said / said.sum(dim=1, keepdim=True).clamp_min(1e-6)


def shipped(seed: int, rooms: Rooms = ROOMS) -> Ear:
    """An end-to-end model of the two shipped adapters, with a random bridge."""
    hearer, reader = (CHECKPOINTS / "adapters" / name for name in systems.SHIPPED)
    return joined(hearer, reader, seed, replace(RECIPE, inner=rooms.inner))


def in_rooms(rooms: Rooms = ROOMS, progress: Progress = lambda line: None) -> InRooms:
    """Hear all talks, and align one bridge on them."""
    ear = shipped(0, rooms)
    parts = [(rooms.source, "train"), *((name, "train") for name in rooms.target), (rooms.dev, "dev")]
    heard = [heard_and_seen(ear, talks.load_talks(*part, progress), progress) for part in parts]
    source, *target, dev = (phrases_of(found.states, *part, ear.text.tokenizer) for found, part in zip(heard, parts, strict=True))
    rows = align(ear, source, [phrase for part in target for phrase in part], dev, rooms.alignment, 0, progress)
    train = HeardTalks(*([one for part in heard[:-1] for one in getattr(part, name)] for name in ("states", "summaries", "frames")))
    return InRooms({name: value.clone() for name, value in ear.model.bridge.state_dict().items()}, rows, train, heard[-1])


def heard_and_seen(ear: Ear, of: talks.Talks, progress: Progress = lambda line: None) -> HeardTalks:
    """The states, summaries and frames of a split of a generated corpus."""
    seen = [torch.from_numpy(drawn) for drawn in frames.draw_all(of.name, of.split)]
    return HeardTalks(hear(ear, of, progress), [talk.summary for talk in of.talks], seen)


def together(begin: InRooms, sees: bool, seed: int, rooms: Rooms = ROOMS, progress: Progress = lambda line: None) -> tuple[Ear, list[dict]]:
    """(the model, adapted; rows of the bridge, of the eye where it `sees`, and a row an epoch)."""
    ear, rows, train, dev = shipped(seed, rooms), [], begin.train, begin.dev
    ear.model.bridge.load_state_dict(begin.bridge)
    if sees:
        eye, row = look(ear.model, ear.text.tokenizer, rooms.looking, seed, progress)
        ear, rows = replace(ear, model=SeeingSummarizer(ear.model, eye)), [row]
    else:
        train, dev = (replace(part, frames=None) for part in (train, dev))
    model, history = summarise(ear, train, dev, rooms.training, rooms.adapter, seed, progress)
    return replace(ear, model=model), [*begin.rows, *rows, *history]
