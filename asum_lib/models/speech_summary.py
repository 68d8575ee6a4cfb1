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

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from asum_lib.models import summarize
from asum_lib.models.loading import unpacked
from asum_lib.models.transcribe import windows_at_once

STOP = "."


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
    """`encoder` is Whisper's, frozen; `text` the text model; a batch is phrases of several talks, one after the other.

    As the training loop needs it: called with `labels` it gives a loss, and `device` and `config` are the text model's.
    """

    def __init__(self, encoder, bridge: Bridge, text, frame: "Frame"):
        super().__init__()
        self.encoder, self.bridge, self.text, self.frame = encoder, bridge, text, frame
        self.encoder.requires_grad_(False)

    @property
    def device(self):
        return self.text.device

    @property
    def config(self):
        return self.text.config

    def hear(self, features):
        """States (windows, positions, heard) of log-mel windows (windows, mel bins, frames), a few at a time."""
        self.encoder.eval()
        size = windows_at_once(self.encoder.config, self.device.type)
        dtype = self.encoder.conv1.weight.dtype
        with torch.no_grad():
            return torch.cat([self.encoder(piece.to(self.device, dtype)).last_hidden_state.float() for piece in features.split(size)])

    def embeddings(self):
        """Token embeddings as the text model reads them (vocabulary, read); mBART scales them."""
        table = self.text.get_input_embeddings()
        return table(torch.arange(table.num_embeddings, device=self.device))

    def read(self, states, counts: Sequence[int]):
        """(inputs (talks, longest, read), mask) for the text model, of the states of `counts[i]` windows for talk i."""
        table = self.embeddings()
        logits, beside = self.bridge(states.to(self.device), table)
        phrases = [compress(*window, table, self.frame.nothing) for window in zip(logits, beside, strict=True)]
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


def compress(logits, beside, embeddings, nothing: int):
    """Vectors (tokens heard, read) of one window: the states of one token taken together, those of nothing left out.

    The states of a run count by how sure they are of its token. Where it ends cannot be learnt from the summary, what it holds can.
    """
    likely = logits.float().softmax(dim=-1)
    best = likely.argmax(dim=-1)
    tokens, run = torch.unique_consecutive(best, return_inverse=True)
    keep = tokens != nothing
    if not keep.any():
        return beside.new_zeros(0, beside.shape[1])
    weight = likely.gather(1, best[:, None]).squeeze(1)
    share = torch.zeros(len(tokens), len(best), dtype=weight.dtype, device=weight.device)
    share[run, torch.arange(len(best), device=weight.device)] = weight
    share = share[keep] / share[keep].sum(dim=1, keepdim=True)
    words = likely.clone()
    words[:, nothing] = 0
    words = words / words.sum(dim=-1, keepdim=True).clamp_min(1e-6)
    return share.to(beside.dtype) @ (words.to(beside.dtype) @ embeddings + beside)


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


def write(
    model,
    loaded: summarize.Summarizer,
    states: Sequence,
    decoding: summarize.Decoding,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """One summary a talk; `states[i]` are the states (windows, positions, heard) of talk i. The model is left in evaluation mode."""
    model.eval()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    order = sorted(range(len(states)), key=lambda item: -len(states[item]))
    written: dict[int, str] = {}
    with torch.inference_mode(), unpacked(base.text):
        for start in range(0, len(order), decoding.batch_size):
            items = order[start : start + decoding.batch_size]
            inputs, mask = base.read(torch.cat([states[item].float() for item in items]), [len(states[item]) for item in items])
            arguments = summarize.generation(base.text.config, loaded.tokenizer, loaded.language, decoding)
            tokens = base.text.generate(inputs_embeds=inputs, attention_mask=mask, **arguments)
            for item, text in zip(items, loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                written[item] = text.strip()
            progress(len(written))
    return [written[item] for item in range(len(states))]


def shape_of(encoder, text, **numbers) -> Shape:
    """The shape of a bridge between two models."""
    return Shape(encoder.config.d_model, text.config.d_model, text.get_input_embeddings().num_embeddings, **numbers)


def described(shape: Shape) -> dict:
    """A shape as a record or a folder keeps it."""
    return asdict(shape)
