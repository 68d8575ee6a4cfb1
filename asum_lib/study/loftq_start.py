"""How close a quantised model with its untrained adapter is to the model in full precision: what LoftQ changes before any training.

Everything is computed here and now from the shipped checkpoints, in seconds; nothing is trained and no record is read.
"""

from dataclasses import dataclass
from functools import lru_cache

from asum_lib.errors import choose
from asum_lib.models import ladder
from asum_lib.study.text_cells import COMBINATIONS, RANK, language_of

SPEECH = tuple(f"whisper-{size}" for size in ladder.SIZES)
MODELS = (*SPEECH, *(f"{model} on {corpus}" for corpus, model in COMBINATIONS))
BITS = {"int4": 4, "nf2": 2}
UNSCALED = "loftq, scale left out"  # as PEFT's own functions set the adapter, see `training.loftq`
METHODS = ("lora", "loftq", "loftq-5", UNSCALED)
ITEMS = 32  # dev utterances or documents that the outputs are of


@dataclass(frozen=True)
class Start:
    """One model in one precision with one adapter, before training."""

    model: str  # one of MODELS
    precision: str
    method: str  # one of METHODS
    targets: str
    weights_pct: float  # of the adapted layers: norm of what is off over norm of the original weights
    outputs_pct: float | None  # the same of the logits, teacher-forced over the references of ITEMS dev items; None with the scale left out
    agreement_pct: float | None  # share of these tokens of which the likeliest is full precision's


@lru_cache
def starts(model: str, targets: str = "qkv") -> tuple[Start, ...]:
    """Every precision of `BITS` with every method of `METHODS`, adapters on `targets`; raises `InputError` for an unknown model."""
    import torch

    from asum_lib.training.adapters import MODULES, adapter_of, attach

    choose("model", model, MODELS)
    exact = _loaded(model, "fp32")
    batch = _batch(model, exact)
    expected = _logits(exact.model, batch)
    weights = {name: module.weight.data for name, module in exact.model.named_modules() if hasattr(module, "in_features")}
    modules, rank = (MODULES["whisper"], 8) if model in SPEECH else (MODULES[model.partition(" ")[0]], RANK)
    found = []
    for precision in BITS:
        for method in METHODS[:3]:
            torch.manual_seed(0)
            adapted = attach(_loaded(model, precision).model, adapter_of(method, rank, modules[targets]), total_steps=1)
            logits = _logits(adapted, batch)
            outputs_pct = 100 * float((logits - expected).norm() / expected.norm())
            agreement_pct = 100 * float((logits.argmax(-1) == expected.argmax(-1)).float().mean())
            found.append(Start(model, precision, method, targets, _weights_pct(adapted, weights), outputs_pct, agreement_pct))
            if method == "loftq":
                found.append(Start(model, precision, UNSCALED, targets, _weights_pct(adapted, weights, unscaled=True), None, None))
    return tuple(found)


def _weights_pct(adapted, weights: dict, unscaled: bool = False) -> float:
    from asum_lib.models.loading import dequantised

    off = norm = 0.0
    for name, layer in adapted.named_modules():
        if len(getattr(layer, "lora_A", ())):
            original = weights[name.removeprefix("base_model.model.")]
            added = layer.get_delta_weight("default").detach() * (layer.scaling["default"] if unscaled else 1)
            off += float((dequantised(layer.get_base_layer()) + added - original).square().sum())
            norm += float(original.square().sum())
    return 100 * (off / norm) ** 0.5


def _loaded(model: str, precision: str):
    from asum_lib.models import loading, summarize, text_ladder

    if model in SPEECH:
        return loading.load(str(ladder.checkpoint(model.removeprefix("whisper-"))), precision, "mini")
    name, corpus = model.split(" on ")
    return summarize.load(str(text_ladder.checkpoint(name)), precision, language_of(corpus), "mini")


def _batch(model: str, loaded) -> dict:
    """What the model reads and is to write, of the first `ITEMS` dev items, as training has it."""
    import numpy as np

    from asum_lib.corpora import load_corpus, texts
    from asum_lib.corpora.features import log_mel
    from asum_lib.study.text_run import MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS
    from asum_lib.training.finetune import Split
    from asum_lib.training.text_examples import TextSplit

    if model in SPEECH:
        corpus = load_corpus("howto", "dev")
        split = Split(log_mel(corpus, loaded.extractor), corpus.texts)
    else:
        documents = texts.load_texts(model.split(" on ")[1], "dev").documents[:ITEMS]
        limits = {"max_source_tokens": MAX_SOURCE_TOKENS["mini"], "max_target_tokens": MAX_TARGET_TOKENS["mini"]}
        split = TextSplit([document.text for document in documents], [document.reference for document in documents], **limits)
    examples = split.examples(loaded)
    return examples.collate(np.arange(min(ITEMS, len(examples.tokens))))


def _logits(model, batch: dict):
    """(tokens, vocabulary) at the tokens that are to be written."""
    import torch

    model.eval()
    with torch.inference_mode():
        return model(**batch, use_cache=False).logits[batch["labels"] != -100]
