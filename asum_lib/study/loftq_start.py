"""How close a quantised model with its untrained adapter is to the model in full precision: what LoftQ changes before any training.

`starts` computes it from a shipped checkpoint, in seconds to minutes a model; nothing is trained. `runs/loftq_start.py` writes it
down for every model in `results/loftq_start.json`, which the pages `read`. `measured` is one entry of that file.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from asum_lib import files
from asum_lib.errors import InputError, choose
from asum_lib.models import ladder
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.study.text_cells import COMBINATIONS, RANK, language_of

SPEECH = tuple(f"whisper-{size}" for size in ladder.SIZES)
MODELS = (*SPEECH, *(f"{model} on {corpus}" for corpus, model in COMBINATIONS))
BITS = {"int4": 4, "nf2": 2}
UNSCALED = "loftq, scale left out"  # as PEFT's own functions set the adapter, see `training.loftq`
METHODS = ("lora", "loftq", "loftq-5", UNSCALED)
WIDER = ("whisper-tiny", "whisper-small", "t5 on howto-text", "mbart on news-ru")  # with an adapter on every linear layer too
RECORDED = (*((model, "qkv") for model in MODELS), *((model, "all-linear") for model in WIDER))
NAME = "loftq_start.json"
COMMAND = "python runs/loftq_start.py"
PROVENANCE = ("git_commit", "git_dirty", "packages", "python", "cpu", "threads", "accelerator", "finished_at")
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


def read(results: Path = RESULTS) -> dict[tuple[str, str], tuple[Start, ...]]:
    """{(model, targets): its starts} of what has been measured; `InputError` where the file is not what `write` makes."""
    return {key: tuple(Start(**start) for start in entry["starts"]) for key, entry in _entries(Path(results) / NAME).items()}


def write(results: Path = RESULTS, progress=lambda line: None) -> Path:
    """Measure what of `RECORDED` the file of starts lacks or has of other checkpoints, and write it after each; returns its path."""
    path = Path(results) / NAME
    found = _entries(path)
    for model, targets in RECORDED:
        key = (model, targets)
        if key in found and found[key]["checkpoint_sha256"] == _checksum(model):
            continue
        found[key] = measured(model, targets)
        ordered = [found[known] for known in RECORDED if known in found]
        files.write_whole(path, (json.dumps({"command": COMMAND, "entries": ordered}, indent=1) + "\n").encode())
        progress(f"{model}, {targets}: {found[key]['time_s']:.0f} s")
    return path


def measured(model: str, targets: str = "qkv") -> dict:
    """One entry of the file of starts, measured here and now: the starts, what they are of, and how they were made."""
    start = time.perf_counter()
    found = [asdict(start) for start in starts(model, targets)]
    made = records.provenance(COMMAND, None, records.now())
    what = {"model": model, "targets": targets, "checkpoint_sha256": _checksum(model), "items": ITEMS, "starts": found}
    return what | {"time_s": round(time.perf_counter() - start, 1), "provenance": {key: made[key] for key in PROVENANCE}}


def _entries(path: Path) -> dict[tuple[str, str], dict]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        for entry in entries:
            if not isinstance(entry, Mapping) or not all(_is_start(start, entry) for start in entry["starts"]):
                raise ValueError
        return {(entry["model"], entry["targets"]): entry for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} is not a file of LoftQ's starts: {COMMAND} writes it anew where it is gone") from None


def _is_start(start: dict, entry: dict) -> bool:
    """Whether a start has all fields, is of its entry, and its figures are numbers."""
    figures = [start[name] for name in ("weights_pct", "outputs_pct", "agreement_pct")]
    numbers = all(isinstance(figure, (int, float)) and not isinstance(figure, bool) for figure in figures if figure is not None)
    own = all(start[name] == entry[name] for name in ("model", "targets"))
    return numbers and own and start["precision"] in BITS and start["method"] in METHODS and len(start) == 7


def _checksum(model: str) -> str:
    from asum_lib.models import checkpoint

    return checkpoint.checksum(_folder(model))


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
    from asum_lib.models import loading, summarize

    if model in SPEECH:
        return loading.load(str(_folder(model)), precision, "mini")
    return summarize.load(str(_folder(model)), precision, language_of(model.split(" on ")[1]), "mini")


def _folder(model: str) -> Path:
    from asum_lib.models import text_ladder

    if model in SPEECH:
        return ladder.checkpoint(model.removeprefix("whisper-"))
    return text_ladder.checkpoint(model.split(" on ")[0])


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
