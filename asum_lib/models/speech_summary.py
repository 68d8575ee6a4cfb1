"""The end-to-end summariser: Whisper's encoder, a small bridge, and a text model; no transcript is written on the way.

The encoder hears a talk phrase by phrase. The bridge turns each of its states into a vector of the text model's width, whose product
with the text model's token embeddings says which token is heard there, or none. Neighbouring states of one token are taken together
and states of none are left out (compression by CTC: Gaido et al. 2021, arXiv 2102.01578), so what the text model reads is as short as a
text: about seven vectors a second of speech instead of 25. Each is the mean of the embeddings of what may have been said there, weighted
by how likely it is, plus a second projection of the same states, which starts at zero: it can carry what words do not, such as
pitch and loudness, and where the bridge is unsure it passes on between what. The text model reads the phrases as it reads a
transcript: its prefix, each phrase with a stop behind it, its end token.

What is trained where is for `training.speech_summary`. This module imports torch: import it where it is used.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from asum_lib import files, reading
from asum_lib.corpora.phrases import phrases
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.corpora.talks import Talks
from asum_lib.errors import InputError
from asum_lib.models import adapted, pretrained, summarize
from asum_lib.models.loading import Speech, unpacked
from asum_lib.models.transcribe import windows_at_once

STOP = "."
# Mean log-probability of what the shipped model hears in a recording, below which it is not of the kind that it knows. Below it are 1
# of 25 dev talks, 9 of 9 paragraphs of ordinary English from eSpeak NG, all of 24 noises and 23 of 25 speeches in parliament.
LEAST_SURE = -0.72
WINDOWS = 64  # whose log-mel features are computed together
NOTE = "asum_speech_summary.json"


@dataclass(frozen=True)
class Shape:
    """Numbers of a bridge. A state of the encoder is 40 ms of speech at mini scale, 20 ms in a published Whisper."""

    heard: int  # width of the encoder
    read: int  # width of the text model
    vocabulary: int  # token embeddings of the text model
    inner: int = 256
    kernel: int = 5
    stride: int = 1
    dropout: float = 0.1


class Bridge(nn.Module):
    """From states of the encoder to vectors that a text model can read, and how likely each token is there."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.norm = nn.LayerNorm(shape.heard)
        self.first = nn.Conv1d(shape.heard, shape.inner, shape.kernel, stride=shape.stride, padding=shape.kernel // 2)
        self.second = nn.Conv1d(shape.inner, shape.inner, shape.kernel, padding=shape.kernel // 2)
        self.drop = nn.Dropout(shape.dropout)
        self.words = nn.Linear(shape.inner, shape.read)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))
        self.beside = nn.Linear(shape.inner, shape.read)
        nn.init.zeros_(self.beside.weight)
        nn.init.zeros_(self.beside.bias)

    def forward(self, states, embeddings):
        """(logits (windows, positions, vocabulary), what is beside the words (windows, positions, read)) of states (windows, positions, heard)."""
        inner = functional.gelu(self.first(self.drop(self.norm(states)).transpose(1, 2)))
        inner = functional.gelu(self.second(self.drop(inner))).transpose(1, 2)
        inner = self.drop(inner)
        return self.words(inner) @ embeddings.T / self.shape.read**0.5 + self.bias, self.beside(inner)


class SpeechSummarizer(nn.Module):
    """The bridge and the text model, which learn; the encoder does not and stays outside (`states_of`).

    As the training loop needs it: called with `labels` it gives a loss, and `device` and `config` are the text model's. A batch is the
    windows of several talks, one after the other.
    """

    def __init__(self, bridge: Bridge, text, frame: "Frame"):
        super().__init__()
        self.bridge, self.text, self.frame = bridge, text, frame

    @property
    def device(self):
        return self.text.device

    @property
    def config(self):
        return self.text.config

    def embeddings(self):
        """Token embeddings as the text model reads them (vocabulary, read); mBART scales them."""
        table = self.text.get_input_embeddings()
        return table(torch.arange(table.num_embeddings, device=self.device))

    def read(self, states, counts: Sequence[int]):
        """(inputs (talks, longest, read), mask) for the text model, of the states of `counts[i]` windows for talk i."""
        table = self.embeddings()
        logits, beside = self.bridge(states.to(self.device), table)
        phrases = compress(logits, beside, table, self.frame.nothing)
        stop, prefix, end = (table[ids] for ids in self.frame.tensors(self.device))
        rows, at = [], 0
        for count in counts:
            rows.append(torch.cat([prefix, *(part for phrase in phrases[at : at + count] for part in (phrase, stop)), end]))
            at += count
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long, device=self.device) for row in rows], batch_first=True)
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), mask

    def forward(self, states, counts, labels, use_cache: bool = False):
        inputs, mask = self.read(states, counts.tolist())
        return self.text(inputs_embeds=inputs, attention_mask=mask, labels=labels, use_cache=use_cache)


@dataclass(frozen=True)
class Ear:
    """An end-to-end summariser: `encoder` hears (frozen), `model` learns, adapted by PEFT after the last step; `text` has the tokenizer."""

    model: object
    encoder: object
    extractor: object
    text: summarize.Summarizer

    @property
    def model_as_trained(self) -> SpeechSummarizer:
        """The model itself, whether or not PEFT is around it; the bridge that PEFT trained is in it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


def states_of(encoder, features):
    """States (windows, positions, heard) that Whisper's encoder makes of log-mel windows (windows, mel bins, frames), a few at a time."""
    encoder.eval()
    place = encoder.conv1.weight
    with torch.inference_mode():
        parts = [
            encoder(piece.to(place.device, place.dtype)).last_hidden_state
            for piece in features.split(windows_at_once(encoder.config, place.device.type))
        ]
        return torch.cat(parts).float().clone()


@dataclass(frozen=True)
class Frame:
    """Token ids around what is heard: before a text, behind each phrase, behind the text; and the one that stands for no token at all."""

    prefix: tuple[int, ...]
    stop: tuple[int, ...]
    end: tuple[int, ...]
    nothing: int

    def tensors(self, device):
        return [torch.tensor(ids, dtype=torch.long, device=device) for ids in (self.stop, self.prefix, self.end)]


def frame_of(loaded: summarize.Summarizer) -> Frame:
    """The frame in which a text model reads a transcript; its padding token, which no text has, stands for nothing said."""
    tokenizer = loaded.tokenizer
    *prefix, end = summarize.encode(tokenizer, loaded.family, [""], 8)[0]
    stop = phrase_tokens(tokenizer, [STOP])[0][-1:]
    return Frame(tuple(prefix), tuple(stop), (end,), tokenizer.pad_token_id)


def phrase_tokens(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of phrases as the text model's tokenizer cuts them, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False).input_ids


def join(speech: Speech, text: summarize.Summarizer, seed: int, **numbers) -> Ear:
    """A new end-to-end model of an adapted Whisper and an adapted text model, whose adapters are merged where that is exact.

    Of Whisper only the encoder stays. The bridge is random by `seed`.
    """
    whisper = speech.model.get_base_model() if hasattr(speech.model, "get_base_model") else speech.model
    written = text.model.merge_and_unload() if hasattr(text.model, "merge_and_unload") else text.model
    loaded = summarize.Summarizer(written, text.tokenizer, text.family, text.language)
    torch.manual_seed(seed)
    bridge = Bridge(shape_of(whisper.model.encoder, written, **numbers))
    encoder = whisper.model.encoder.requires_grad_(False)
    return Ear(SpeechSummarizer(bridge, written, frame_of(loaded)), encoder, speech.extractor, loaded)


def hear(ear: Ear, talks: Talks, progress: Callable[[str], None] = lambda line: None) -> list:
    """The states of every talk of a split, cut into phrases as a user's recording is; half precision, for they are many."""
    window_s = ear.extractor.n_samples / ear.extractor.sampling_rate
    result, told = [], time.monotonic()
    for talk in talks.talks:
        result.append(hear_phrases(ear, [phrase.samples for phrase in phrases(talk.audio, window_s, fill=window_s > 10)]))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            progress(f"{talks.name} {talks.split}: {len(result)} of {len(talks.talks)} talks heard")
    return result


def hear_phrases(ear: Ear, samples: Sequence[np.ndarray]):
    """States (windows, positions, heard) in half precision of phrases; a talk in which nothing is said is one window of silence."""
    samples = samples or [np.zeros(SAMPLE_RATE_HZ // 10, np.float32)]
    parts = []
    for start in range(0, len(samples), WINDOWS):
        features = ear.extractor(samples[start : start + WINDOWS], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
        parts.append(states_of(ear.encoder, features).half())
    return torch.cat(parts)


def compress(logits, beside, embeddings, nothing: int) -> list:
    """For each window of logits (windows, positions, vocabulary): vectors (tokens heard, read), the states of a token taken together.

    The states of a run count by how sure they are of its token; those of nothing are left out. Where a run ends cannot be learnt from
    the summary, what it holds can.
    """
    best = logits.argmax(dim=-1)
    heard = best != nothing
    begins = heard.clone()
    begins[:, 1:] &= best[:, 1:] != best[:, :-1]
    run = begins.flatten().cumsum(0)[heard.flatten()] - 1
    counts = begins.sum(dim=1).tolist()
    chosen = logits[heard].float()
    sure = (chosen.max(dim=-1).values - chosen.logsumexp(dim=-1)).exp()
    total = sure.new_zeros(sum(counts)).index_add(0, run, sure)
    words = chosen.index_fill(1, torch.tensor([nothing], device=chosen.device), -torch.inf).softmax(dim=-1).to(beside.dtype)
    share = (sure / total[run]).to(beside.dtype)[:, None]
    vectors = beside.new_zeros(sum(counts), beside.shape[-1]).index_add(0, run, share * (words @ embeddings + beside[heard]))
    return list(vectors.split(counts))


def alignment_loss(model: SpeechSummarizer, states, tokens: Sequence[Sequence[int]]):
    """CTC loss (Graves et al. 2006) a window, in nats a token, of what is said in each, as `phrase_tokens` gives it."""
    logits, _ = model.bridge(states.to(model.device), model.embeddings())
    lengths = torch.tensor([len(row) for row in tokens])
    flat = torch.tensor([token for row in tokens for token in row], device=model.device)
    frames = torch.full((len(tokens),), logits.shape[1])
    scores = logits.float().log_softmax(-1).transpose(0, 1)
    return functional.ctc_loss(scores, flat, frames, lengths, blank=model.frame.nothing, zero_infinity=True)


def heard_tokens(model: SpeechSummarizer, states) -> list[list[int]]:
    """What the bridge takes to be said in each window, as token ids: the best token a state, repeats and nothing left out."""
    with torch.inference_mode():
        best = model.bridge(states.to(model.device), model.embeddings())[0].argmax(dim=-1)
    return [[token for token in torch.unique_consecutive(row).tolist() if token != model.frame.nothing] for row in best]


def sureness(model: SpeechSummarizer, states) -> list[float]:
    """Mean log-probability of the tokens that the bridge hears in each window; one in which it hears nothing is left out."""
    with torch.inference_mode():
        logprobs = model.bridge(states.to(model.device), model.embeddings())[0].float().log_softmax(-1)
    best, tokens = logprobs.max(dim=-1)
    heard = tokens != model.frame.nothing
    return [own[there].mean().item() for own, there in zip(best, heard, strict=True) if there.any()]


def write(
    model,
    loaded: summarize.Summarizer,
    states: Sequence,
    decoding: summarize.Decoding,
    progress: Callable[[int], None] = lambda done: None,
    frames: Sequence | None = None,
) -> list[str]:
    """One summary a talk; `states[i]` are the states (windows, positions, heard) of talk i, `frames[i]` for a model that sees its frames.

    The model is left in evaluation mode.
    """
    model.eval()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    order = sorted(range(len(states)), key=lambda item: -len(states[item]))
    written: dict[int, str] = {}
    with torch.inference_mode(), unpacked(base.text):
        for start in range(0, len(order), decoding.batch_size):
            items = order[start : start + decoding.batch_size]
            seen = [] if frames is None else [[frames[item] for item in items]]
            inputs, mask = base.read(torch.cat([states[item].float() for item in items]), [len(states[item]) for item in items], *seen)
            arguments = summarize.generation(base.text.config, loaded.tokenizer, loaded.language, decoding)
            tokens = base.text.generate(inputs_embeds=inputs, attention_mask=mask, **arguments)
            for item, text in zip(items, loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                written[item] = text.strip()
            progress(len(written))
    return [written[item] for item in range(len(states))]


def parts_of(ear: Ear, heard: Iterable, most: int) -> Iterator:
    """The states of a talk's phrases, in batches as they are heard, as parts of which each is read as at most `most` vectors (or is one phrase).

    A part is given as soon as it is full, so that no more than one lies in memory.
    """
    taken, length = [], 0
    around = len(ear.model_as_trained.frame.prefix) + len(ear.model_as_trained.frame.end)
    for window, tokens in ((window, tokens) for batch in heard for window, tokens in zip(batch, _lengths(ear, batch), strict=True)):
        if taken and around + length + tokens > most:
            yield torch.stack(taken)
            taken, length = [], 0
        taken.append(window.clone())  # and not a view of its whole batch
        length += tokens
    if taken:
        yield torch.stack(taken)


def _lengths(ear: Ear, states) -> list[int]:
    """Vectors that each window is read as, its stop included."""
    model = ear.model_as_trained
    return [len(tokens) + len(model.frame.stop) for tokens in heard_tokens(model, states.float())]


def save(
    ear: Ear,
    folder: Path,
    *,
    hearer: str,
    summarizer: str,
    precision: str,
    what: str,
    training: dict,
    replace: bool = False,
) -> Path:
    """Write what the last step trained (bridge and adapter) into `folder`, as `adapted.save` does.

    `hearer` and `summarizer` are adapters beside it, by name.
    """
    adapted.prune(ear.model)
    with files.folder_aside(folder, replace) as made:
        ear.model.save_pretrained(made, save_embedding_layers=False)
        (made / adapted.MODEL_CARD).unlink(missing_ok=True)
        config = json.loads((made / adapted.CONFIG).read_text(encoding="utf-8"))
        config["target_modules"] = sorted(config["target_modules"])  # a set: another order each time
        sha256 = {name: adapted.file_sha256(folder.parent / name / adapted.WEIGHTS) for name in (hearer, summarizer)}
        note = {
            "hearer": hearer,
            "summarizer": summarizer,
            "sha256": sha256,
            "precision": precision,
            "inner": ear.model_as_trained.bridge.shape.inner,
            "weights_sha256": adapted.file_sha256(made / adapted.WEIGHTS),
        }
        for name, value in ((adapted.CONFIG, config), (NOTE, note | {"what": what, "training": training})):
            (made / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def load(folder: Path, precision: str, scale: str = "paper") -> Ear:
    """The end-to-end model in `folder`, hearing at `precision`; raises `InputError` in one line where it or what it stands on is not whole."""
    for name in (NOTE, adapted.CONFIG, adapted.WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(
                f"end-to-end model {folder}: no {name}: {NOTE}, {adapted.CONFIG} and {adapted.WEIGHTS} must be there, as asum saves them"
            )
    note = _note(folder)
    for name, sha256 in note["sha256"].items():
        if adapted.file_sha256(folder.parent / name / adapted.WEIGHTS) != sha256:
            raise InputError(
                f"end-to-end model {folder}: it was trained on another {name} than the one beside it: make it anew with `asum adapt {folder.name}`"
            )
    if note.get("weights_sha256", weights := adapted.file_sha256(folder / adapted.WEIGHTS)) != weights:
        raise InputError(f"end-to-end model {folder}: {adapted.WEIGHTS} is not the file that {NOTE} has the SHA-256 of: copy both anew")
    speech = adapted.speech(str(folder.parent / note["hearer"]), precision, scale)
    text = adapted.summarizer(str(folder.parent / note["summarizer"]), "fp32", "en", scale)
    ear = join(speech, text, 0, inner=note["inner"])
    from safetensors import SafetensorError

    try:
        with warnings.catch_warnings():  # as in `adapted.put_on`
            warnings.filterwarnings("ignore", message="The following rank_pattern keys")
            model = pretrained.adapter(ear.model, folder)
    except InputError:
        raise
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"end-to-end model {folder}: cannot be read ({' '.join(str(error).split())[:200]}): copy it anew") from error
    adapted.check_weights(model, folder)
    adapted.fix_divisors(model)
    return replace(ear, model=model.eval())


def _note(folder: Path) -> dict:
    """What `save` wrote of the model; `InputError` where it is not that."""
    note = reading.read_json(folder / NOTE)
    sha256 = note.get("sha256") if isinstance(note, dict) else None
    names = [*sha256, note.get("hearer"), note.get("summarizer")] if isinstance(sha256, dict) else [None]
    inner = note.get("inner") if isinstance(note, dict) else None
    plain = all(isinstance(name, str) and Path(name).name == name for name in names)
    if not plain or not isinstance(inner, int) or not 0 < inner <= 65_536:
        raise InputError(f"end-to-end model {folder}: {NOTE} is not as asum writes it: copy it anew")
    return note


def shape_of(encoder, text, **numbers) -> Shape:
    """The shape of a bridge between two models."""
    return Shape(encoder.config.d_model, text.config.d_model, text.get_input_embeddings().num_embeddings, **numbers)
