"""How the shipped adapters were chosen: each candidate trained by the same functions, and its dev scores. Never looks at test.

    python runs/adapter_choices.py

Writes `results/adapter_choices.json` after each candidate, and goes on where it was stopped. An hour on one core.
"""

import json
import sys
from dataclasses import replace

from asum_lib import files
from asum_lib.measure import rouge, wer
from asum_lib.measure.stats import ratio_interval
from asum_lib.models import summarize
from asum_lib.models.transcribe import transcribe
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.training import systems
from asum_lib.training.adapters import MODULES, adapter_of
from asum_lib.training.finetune import Training

PATH = RESULTS / "adapter_choices.json"
CANDIDATES = (  # part, method, rank, which modules, learning rate, epochs, copies of each phrase
    ("hearer", "adalora", 8, "qkv", 1.5e-3, 6, 1),
    ("hearer", "adalora", 8, "qkv", 1.5e-3, 6, 4),
    ("hearer", "adalora", 16, "all-linear", 1.5e-3, 6, 4),
    ("summarizer", "full", None, None, 1e-3, 6, None),
    ("summarizer", "adalora", 16, "qkv", 1e-2, 6, None),
    ("summarizer", "adalora", 16, "all-linear", 1e-2, 6, None),
    ("summarizer", "adalora", 16, "all-linear", 1e-2, 10, None),
)
NAMES = ("part", "method", "rank", "targets", "learning_rate", "epochs", "copies")
PROVENANCE = ("git_commit", "git_dirty", "packages", "python", "cpu", "threads", "accelerator", "finished_at")


def main() -> int:
    report = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {"rows": []}
    for candidate in CANDIDATES:
        named = dict(zip(NAMES, candidate, strict=True))
        if any(all(row[key] == value for key, value in named.items()) for row in report["rows"]):
            continue
        family = "t5" if named["part"] == "summarizer" else "whisper"
        adapter = None if named["method"] == "full" else adapter_of(named["method"], named["rank"], MODULES[family][named["targets"]])
        measured = {"summarizer": _summarizer, "hearer": _hearer}[named["part"]](adapter, named)
        made = records.provenance("python runs/adapter_choices.py", None, records.now())
        report["rows"].append(named | {"seed": 0} | measured | {"provenance": {key: made[key] for key in PROVENANCE}})
        files.write_whole(PATH, (json.dumps(report, indent=1) + "\n").encode())
        print(named, measured, file=sys.stderr)
    return 0


def _summarizer(adapter, named: dict) -> dict:
    recipe = replace(systems.SUMMARIZER, adapter=adapter, training=Training(named["learning_rate"], named["epochs"], batch_size=16))
    loaded, history = systems.summarizer(0, recipe)
    dev = systems.talk_split((recipe.dev, "dev"))
    sources = summarize.encode(loaded.tokenizer, loaded.family, dev.texts, systems.MAX_SOURCE_TOKENS)
    scores = rouge.score(dev.summaries, summarize.summarize(loaded.model, loaded.tokenizer, sources, "en"), "en")
    found = {"dev_loss": history[-1]["dev_loss"]}
    for kind in ("rouge1", "rouge2"):
        found[kind] = _value(ratio_interval([scores[kind]], [1] * len(dev.texts)), len(dev.texts), rouge.signature(kind, "en"))
    return found


def _hearer(adapter, named: dict) -> dict:
    recipe = replace(systems.HEARER, adapter=adapter, training=Training(named["learning_rate"], named["epochs"]), copies=named["copies"])
    speech, history = systems.hearer(0, recipe)
    dev = systems.phrase_split(speech.extractor, [(recipe.dev, "dev")], 1, 0)
    counts = wer.count_errors(dev.texts, transcribe(speech.model, speech.tokenizer, dev.features), "whisper-basic")
    interval = ratio_interval([[count.errors for count in counts]], [count.words for count in counts])
    return {"before_wer_pct": history[0]["dev_wer_pct"], "wer_pct": _value(interval, len(counts), wer.signature("whisper-basic"))}


def _value(interval: tuple[float, float, float], n: int, signature: str) -> dict:
    return {**dict(zip(("value", "lo", "hi"), interval, strict=True)), "n": n, "signature": signature}


if __name__ == "__main__":
    sys.exit(main())
