"""The end-to-end summariser's eye: a small convolutional net that turns a frame of a talk into one vector that the text model can read.

As the bridge does for what is heard: a projection of the picture, in product with the text model's token embeddings, says which words
are likely to be said while it is seen, and the vector is the mean of their embeddings by how likely they are, plus a second projection
that starts at zero. The bias learns what is said whatever is seen, and is left out of the vector. This module imports torch: import it
where it is used.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from asum_lib.models.speech_summary import SpeechSummarizer

INNER = 48


class Eye(nn.Module):
    """From frames to vectors of the width `read`, by way of the text model's `vocabulary`; about 15,000 weights and as many in the projections."""

    def __init__(self, read: int, vocabulary: int):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, INNER, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.norm = nn.LayerNorm(2 * INNER)
        self.words = nn.Linear(2 * INNER, read)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.beside = nn.Linear(2 * INNER, read)
        nn.init.zeros_(self.beside.weight)
        nn.init.zeros_(self.beside.bias)

    def forward(self, frames, embeddings):
        """(scores (frames, vocabulary), vectors (frames, read)) of frames, uint8 (frames, height, width, 3)."""
        seen = self.look(frames.permute(0, 3, 1, 2).float() / 127.5 - 1).flatten(2)
        seen = self.norm(torch.cat([seen.mean(dim=-1), seen.amax(dim=-1)], dim=-1))
        scores = self.words(seen) @ embeddings.T / embeddings.shape[1] ** 0.5
        return scores + self.bias, scores.softmax(dim=-1) @ embeddings + self.beside(seen)


class SeeingSummarizer(SpeechSummarizer):
    """A `SpeechSummarizer` with an eye: the vectors of a talk's frames stand between the text model's prefix and what is heard."""

    def __init__(self, hearing: SpeechSummarizer, eye: Eye):
        super().__init__(hearing.bridge, hearing.text, hearing.frame)
        self.eye = eye

    def read(self, states, counts: Sequence[int], frames: Sequence | None = None):
        """As there; `frames[i]` are those of talk i, as `Eye` takes them. Without frames it reads as if it had no eye."""
        inputs, mask = super().read(states, counts)
        if frames is None:
            return inputs, mask
        _, vectors = self.eye(torch.cat(list(frames)).to(self.device), self.embeddings())
        seen, begin = vectors.split([len(of_talk) for of_talk in frames]), len(self.frame.prefix)
        lengths = mask.sum(dim=1).tolist()
        rows = [torch.cat([row[:begin], more, row[begin:length]]) for row, more, length in zip(inputs, seen, lengths, strict=True)]
        mask = nn.utils.rnn.pad_sequence([mask.new_ones(len(row)) for row in rows], batch_first=True)
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), mask

    def forward(self, states, counts, labels, frames=None, frame_counts=None, use_cache: bool = False):
        """`frames` are those of all talks, one after the other, `frame_counts[i]` of them of talk i."""
        inputs, mask = self.read(states, counts.tolist(), frames if frames is None else frames.split(frame_counts.tolist()))
        return self.text(inputs_embeds=inputs, attention_mask=mask, labels=labels, use_cache=use_cache)


def looking_loss(eye: Eye, frames, said, embeddings):
    """Cross-entropy in nats a frame of what is said while each is seen; `said` (frames, vocabulary) weighs the tokens and sums to 1 in a row."""
    scores, _ = eye(frames, embeddings)
    return functional.cross_entropy(scores, said)
