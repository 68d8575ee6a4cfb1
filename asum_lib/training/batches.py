"""Batches for sequence-to-sequence training: labels as the models want them, and a shuffled order by epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Examples:
    """What a training loop needs of a split: how many tokens each item has to write, and the tensors of any items."""

    tokens: Sequence[int]
    collate: Callable[[np.ndarray], dict]


def encode_labels(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids with prefix and end token, without the leading start token: the model shifts the labels right itself."""
    return [ids[1:] for ids in tokenizer(texts).input_ids]


def collate(features, labels: list[list[int]], items: np.ndarray):
    """`input_features` (batch, mel bins, frames) and `labels` (batch, tokens), padded with -100, as tensors.

    `features[item]` is the log-mel (mel bins, frames) of one utterance, computed or read when asked for if need be.
    """
    import torch

    width = max(len(labels[item]) for item in items)
    padded = torch.full((len(items), width), -100)
    for row, item in enumerate(items):
        padded[row, : len(labels[item])] = torch.tensor(labels[item])
    return {"input_features": torch.from_numpy(np.stack([features[item] for item in items])), "labels": padded}


def epoch_order(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Index arrays of one epoch: a permutation that depends on seed and epoch alone, so that a run can resume."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def cut(items: np.ndarray, size: int | None) -> list[np.ndarray]:
    """`items` in consecutive pieces of at most `size`; whole where `size` is None, no piece of nothing."""
    return [items[start : start + (size or len(items))] for start in range(0, len(items), size or max(1, len(items)))]


def ahead(make: Callable, given: Iterable) -> Iterator:
    """`make(x)` for each x of `given`, in order; the next one is made in a thread while the one before is in use."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for item in given:
            following = pool.submit(make, item)
            if waiting:
                yield waiting.result()
            waiting = following
        if waiting:
            yield waiting.result()
