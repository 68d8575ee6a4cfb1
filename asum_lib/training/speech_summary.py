"""The end-to-end summariser in steps: hearing, then reading, then both together, as the literature trains it.

1. *Hearing*: Whisper is adapted to the speech (int8 + AdaLoRA, `systems.hearer`); of it the encoder is kept, frozen. The bridge learns
   by CTC to say the transcript of single phrases in the text model's tokens (`align`).
2. *Reading*: the text model is adapted to summarise transcripts (`systems.summarizer`); its adapter is merged into its weights.
3. *Both*: on talks, the bridge and a new AdaLoRA of the text model learn to write the summary (`summarise`).

The encoder does not change after the first step, so its states are computed once for each corpus and kept in memory.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from asum_lib.corpora import load_corpus
from asum_lib.corpora.features import log_mel
from asum_lib.corpora.phrases import phrases
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.corpora.talks import Talks
from asum_lib.models import loading, summarize
from asum_lib.models.speech_summary import Bridge, SpeechSummarizer, alignment_loss, frame_of, heard_tokens, phrase_tokens, shape_of
from asum_lib.training.batches import Examples

Progress = Callable[[str], None]
WINDOWS = 64  # whose log-mel features are computed together


@dataclass(frozen=True)
class Alignment:
    """How the bridge learns to hear: AdamW, one-cycle. The few phrases of the target are shown `target_times` as often."""

    learning_rate: float = 2e-3
    steps: int = 3_000
    batch_size: int = 32
    target_times: int = 8
    corpora: tuple[str, str] = ("howto-source", "howto")  # source, target; utterances with transcripts


@dataclass(frozen=True)
class Ear:
    """A model between its steps, with what it needs to read and write: `text` is the loaded text model, `speech` the loaded Whisper."""

    model: SpeechSummarizer
    speech: loading.Speech
    text: summarize.Summarizer


@dataclass(frozen=True)
class HeardTalks:
    """Talks as the training loop takes them: `states[i]` (windows, positions, heard) of talk i in half precision, and its summary."""

    states: Sequence
    summaries: Sequence[str]
    max_target_tokens: int = 100

    def examples(self, loaded) -> Examples:
        """Batches for an `Ear`."""
        targets = summarize.encode_summaries(loaded.text.tokenizer, self.summaries, self.max_target_tokens)
        return Examples([len(target) for target in targets], partial(collate, self.states, targets))


def collate(states, targets, items: np.ndarray) -> dict:
    """`states` (windows of all talks, positions, heard), `counts` (talks,), `labels` (talks, longest target) padded with -100, as tensors."""
    labels, _ = summarize.pad([targets[item] for item in items], -100)
    chosen = [states[item] for item in items]
    return {"states": torch.cat(chosen).float(), "counts": torch.tensor([len(windows) for windows in chosen]), "labels": labels}


def join(speech: loading.Speech, text: summarize.Summarizer, seed: int, **numbers) -> Ear:
    """A new end-to-end model of an adapted Whisper and an adapted text model, whose adapters are merged where that is exact.

    Of Whisper only the encoder stays. The bridge is random by `seed`.
    """
    whisper = speech.model.get_base_model() if hasattr(speech.model, "get_base_model") else speech.model
    written = text.model.merge_and_unload() if hasattr(text.model, "merge_and_unload") else text.model
    loaded = summarize.Summarizer(written, text.tokenizer, text.family, text.language)
    torch.manual_seed(seed)
    bridge = Bridge(shape_of(whisper.model.encoder, written, **numbers))
    return Ear(SpeechSummarizer(whisper.model.encoder, bridge, written, frame_of(loaded)), speech, loaded)


def hear(ear: Ear, talks: Talks, progress: Progress = lambda line: None) -> list:
    """The states of every talk of a split, cut into phrases as a user's recording is; half precision, for they are many."""
    extractor, window_s = ear.speech.extractor, ear.speech.extractor.n_samples / ear.speech.extractor.sampling_rate
    result, told = [], time.monotonic()
    for talk in talks.talks:
        result.append(hear_phrases(ear.model, extractor, [phrase.samples for phrase in phrases(talk.audio, window_s, fill=window_s > 10)]))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            progress(f"{talks.name} {talks.split}: {len(result)} of {len(talks.talks)} talks heard")
    return result


def hear_phrases(model: SpeechSummarizer, extractor, samples: Sequence[np.ndarray]):
    """States (windows, positions, heard) in half precision of phrases; a talk in which nothing is said is one window of silence."""
    samples = samples or [np.zeros(SAMPLE_RATE_HZ // 10, np.float32)]
    parts = []
    for start in range(0, len(samples), WINDOWS):
        features = extractor(samples[start : start + WINDOWS], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
        parts.append(model.hear(features).half())
    return torch.cat(parts)


def utterances(ear: Ear, corpus: str, split: str, progress: Progress) -> tuple[list, list[list[int]], list[str]]:
    """(states a window, tokens a window, texts) of a corpus of phrases with transcripts, as far as they fit one window."""
    loaded = load_corpus(corpus, split, progress)
    features = log_mel(loaded, ear.speech.extractor, progress).whole_utterances()
    states, told = [], time.monotonic()
    for start in range(0, len(features), WINDOWS):
        items = range(start, min(start + WINDOWS, len(features)))
        states.extend(ear.model.hear(torch.from_numpy(features.batch(items))).half())
        if time.monotonic() - told > 30:
            told = time.monotonic()
            progress(f"{corpus} {split}: {len(states)} of {len(features)} utterances heard")
    texts = [loaded.texts[owner] for owner in features.utterances]
    return states, phrase_tokens(ear.text.tokenizer, texts), texts


def align(ear: Ear, training: Alignment, seed: int, progress: Progress = lambda line: None) -> list[dict]:
    """Train the bridge to hear, the rest as it is; returns rows {step, loss, dev_wer_pct}. `dev_wer_pct` is of the bridge's own greedy reading."""
    source, target = (utterances(ear, corpus, "train", progress) for corpus in training.corpora)
    dev = utterances(ear, training.corpora[1], "dev", progress)
    pairs = [*zip(*source[:2], strict=True), *list(zip(*target[:2], strict=True)) * training.target_times]
    positions = len(pairs[0][0])
    pairs = [pair for pair in pairs if _fits(pair[1], positions)]
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
            progress(
                f"bridge step {step}/{training.steps} loss {rows[-1]['loss']:.3f} dev WER {rows[-1]['dev_wer_pct']:.1f} %; {pace_s:.2f} s a step"
            )
    return rows


def bridge_wer_pct(ear: Ear, heard: tuple[list, list[list[int]], list[str]]) -> float:
    """WER of what the bridge alone takes to be said, in per cent."""
    from asum_lib.measure import wer

    ear.model.eval()
    states, _, texts = heard
    tokens = [
        row for start in range(0, len(states), WINDOWS) for row in heard_tokens(ear.model, torch.stack(states[start : start + WINDOWS]).float())
    ]
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
