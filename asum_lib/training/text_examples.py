"""Documents and summaries as training batches, and the loss on held-out ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from asum_lib.errors import InputError
from asum_lib.models import summarize
from asum_lib.training.batches import Examples

LOSS_BATCH = 64


@dataclass(frozen=True)
class TextSplit:
    """Documents to read and summaries to write, in the same order, cut at so many tokens each."""

    texts: Sequence[str]
    summaries: Sequence[str]
    max_source_tokens: int
    max_target_tokens: int

    def examples(self, loaded: summarize.Summarizer) -> Examples:
        """Batches for a loaded summariser; `InputError` where nothing is to be learnt."""
        if not self.texts or len(self.texts) != len(self.summaries):
            raise InputError(
                f"training split of {len(self.texts)} documents with {len(self.summaries)} summaries: give at least one, and a summary each"
            )
        sources = summarize.encode(loaded.tokenizer, loaded.family, self.texts, self.max_source_tokens)
        targets = summarize.encode_summaries(loaded.tokenizer, self.summaries, self.max_target_tokens)
        return Examples([len(target) for target in targets], partial(collate, sources, targets, loaded.tokenizer.pad_token_id))


def collate(sources, targets, pad_id: int, items: np.ndarray) -> dict:
    """`input_ids` and `attention_mask` (documents, longest source), `labels` (documents, longest target) padded with -100, as tensors."""
    ids, mask = summarize.pad([sources[item] for item in items], pad_id)
    labels, _ = summarize.pad([targets[item] for item in items], -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def mean_loss(model, examples: Examples) -> float:
    """Cross-entropy a token of the summaries, in nats, over all examples; the model is left in evaluation mode."""
    import torch

    model.eval()
    order = np.argsort(examples.tokens, kind="stable")
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(order), LOSS_BATCH):
            items = order[start : start + LOSS_BATCH]
            batch = {name: tensor.to(model.device) for name, tensor in examples.collate(items).items()}
            total += model(**batch, use_cache=False).loss.item() * sum(examples.tokens[item] for item in items)
    return total / sum(examples.tokens)
