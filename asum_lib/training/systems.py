"""The systems that are shipped: a Whisper that hears talks and a T5 that summarises what it heard, both with AdaLoRA.

`summarizer` learns from what is said in a talk to its summary, by text alone: no audio is made for it. It sees all talks of the
source domain and the few of the target domain's train split. `hearer` is a cell of the WER table, trained as the table trains it.
The dev figures that rank, rate and epochs were chosen by are on the book's page on the command `asum summarize`.
"""

from collections.abc import Callable

from asum_lib.corpora import talks
from asum_lib.measure import rouge
from asum_lib.models import summarize, text_ladder
from asum_lib.training.adapters import MODULES, adapter_of
from asum_lib.training.finetune import Training, finetune
from asum_lib.training.text_examples import TextSplit, mean_loss

TALKS = ("howto-talks-source", "howto-talks")  # whose train splits a summariser learns from
DEV = "howto-talks"
MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS = 400, 100


def talk_split(*parts: tuple[str, str]) -> TextSplit:
    """What is said in the talks of (corpus, split) parts, and their summaries."""
    scripts = [script for name, split in parts for script in talks.scripts(name, split)]
    return TextSplit([script.transcript for script in scripts], [script.summary for script in scripts], MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS)


def summarizer(
    seed: int = 0,
    precision: str = "fp32",
    method: str = "adalora",
    rank: int = 16,
    targets: str = "qkv",
    training: Training = Training(learning_rate=1e-2, epochs=6, batch_size=16),
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[summarize.Summarizer, list[dict]]:
    """T5-mini, trained on the talks of `TALKS`: (the summariser with its trained model, a row an epoch with dev loss and ROUGE)."""
    loaded = summarize.load(str(text_ladder.checkpoint("t5")), precision, "en", "mini")
    dev = talk_split((DEV, "dev"))
    examples = dev.examples(loaded)
    sources = summarize.encode(loaded.tokenizer, loaded.family, dev.texts, MAX_SOURCE_TOKENS)

    def evaluate(model) -> dict:
        written = summarize.summarize(model, loaded.tokenizer, sources, "en")
        scores = rouge.score(dev.summaries, written, "en")
        return {"dev_loss": mean_loss(model, examples)} | {f"dev_{kind}": float(100 * scores[kind].mean()) for kind in ("rouge1", "rouge2", "rougeL")}

    adapter = adapter_of(method, rank, MODULES["t5"][targets]) if method != "full" else None
    train = talk_split(*((name, "train") for name in TALKS))
    model, history = finetune(loaded, train, training, adapter, seed, evaluate, progress)
    return summarize.Summarizer(model, loaded.tokenizer, loaded.family, loaded.language), history
