"""The systems that are shipped: a Whisper that hears talks and a T5 that summarises what it heard, both with AdaLoRA.

`summarizer` learns from what is said in a talk to its summary, by text alone: no audio is made for it. It sees all talks of the
source domain and the few of the target domain's train split. `hearer` is a cell of the WER table, trained as the table trains it.
`asum adapt NAME` makes an adapter anew and writes it where the shipped one lies.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from asum_lib.corpora import load_corpus, talks
from asum_lib.corpora.features import log_mel
from asum_lib.errors import choose
from asum_lib.measure import rouge, wer
from asum_lib.models import adapted, ladder, loading, summarize, text_ladder
from asum_lib.models.transcribe import transcribe
from asum_lib.paths import CHECKPOINTS
from asum_lib.training.adapters import MODULES, Adapter, adapter_of
from asum_lib.training.finetune import Split, Training, finetune
from asum_lib.training.text_examples import TextSplit, mean_loss

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How an adapter is made; the choices were made on dev."""

    base: str  # a shipped checkpoint
    precision: str
    adapter: Adapter | None
    training: Training
    corpora: tuple[str, ...]  # whose train splits it learns from
    dev: str  # whose dev split is looked at after each epoch


HEARER = Recipe(
    "whisper-medium", "int8", adapter_of("adalora", 8), Training(ladder.LADDER["medium"].peak_lr, epochs=6), corpora=("howto",), dev="howto"
)
SUMMARIZER = Recipe(
    "t5-mini",
    "fp32",
    adapter_of("adalora", 16, MODULES["t5"]["all-linear"]),
    Training(learning_rate=1e-2, epochs=10, batch_size=16),
    corpora=("howto-talks-source", "howto-talks"),
    dev="howto-talks",
)
SHIPPED = {"whisper-medium-int8-adalora": HEARER, "t5-talks-adalora": SUMMARIZER}
WHAT = {
    "whisper-medium-int8-adalora": "AdaLoRA on mini Whisper medium at int8, trained on the speech of howto",
    "t5-talks-adalora": "AdaLoRA on mini T5, trained on the talks of howto-talks and howto-talks-source and their summaries",
}
MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS = 400, 100


def adapt(name: str, folder: Path | None = None, seed: int = 0, progress: Progress = print) -> Path:
    """Train a shipped adapter anew and write it into `folder`, by default where the shipped one lies; returns the folder."""
    recipe = SHIPPED[choose("adapter", name, SHIPPED)]
    train = hearer if recipe is HEARER else summarizer
    loaded, history = train(seed, recipe, progress)
    best = {key: value for key, value in history[-1].items() if key.startswith(("dev_", "kept_"))}
    training = asdict(recipe.training) | {"adapter": asdict(recipe.adapter), "seed": seed, "corpora": recipe.corpora, "last_epoch": best}
    folder = Path(folder or CHECKPOINTS / "adapters" / name)
    base = str(CHECKPOINTS / recipe.base)
    return adapted.save(loaded.model, folder, base=base, precision=recipe.precision, what=WHAT[name], training=training)


def hearer(seed: int = 0, recipe: Recipe = HEARER, progress: Progress = lambda line: None) -> tuple[loading.Speech, list[dict]]:
    """The Whisper of the cascade: (it with its trained model, a row an epoch with dev WER)."""
    speech = loading.load(str(CHECKPOINTS / recipe.base), recipe.precision, "mini")
    (corpus,) = recipe.corpora
    train, dev = load_corpus(corpus, "train", progress), load_corpus(recipe.dev, "dev", progress)
    heard = log_mel(dev, speech.extractor, progress)

    def evaluate(model) -> dict:
        hypotheses = transcribe(model, speech.tokenizer, heard)
        return {"dev_wer_pct": wer.wer_pct(wer.count_errors(dev.texts, hypotheses, "whisper-basic"))}

    split = Split(log_mel(train, speech.extractor, progress), train.texts)
    model, history = finetune(speech, split, recipe.training, recipe.adapter, seed, evaluate, progress)
    return loading.Speech(model, speech.tokenizer, speech.extractor, speech.generate), history


def summarizer(seed: int = 0, recipe: Recipe = SUMMARIZER, progress: Progress = lambda line: None) -> tuple[summarize.Summarizer, list[dict]]:
    """The T5 of the cascade: (the summariser with its trained model, a row an epoch with dev loss and ROUGE)."""
    loaded = summarize.load(str(text_ladder.checkpoint("t5")), recipe.precision, "en", "mini")
    dev = talk_split((recipe.dev, "dev"))
    examples = dev.examples(loaded)
    sources = summarize.encode(loaded.tokenizer, loaded.family, dev.texts, MAX_SOURCE_TOKENS)

    def evaluate(model) -> dict:
        written = summarize.summarize(model, loaded.tokenizer, sources, "en")
        scores = rouge.score(dev.summaries, written, "en")
        return {"dev_loss": mean_loss(model, examples)} | {f"dev_{kind}": float(100 * scores[kind].mean()) for kind in ("rouge1", "rouge2", "rougeL")}

    train = talk_split(*((corpus, "train") for corpus in recipe.corpora))
    model, history = finetune(loaded, train, recipe.training, recipe.adapter, seed, evaluate, progress)
    return summarize.Summarizer(model, loaded.tokenizer, loaded.family, loaded.language), history


def talk_split(*parts: tuple[str, str]) -> TextSplit:
    """What is said in the talks of (corpus, split) parts, and their summaries."""
    scripts = [script for name, split in parts for script in talks.scripts(name, split)]
    return TextSplit([script.transcript for script in scripts], [script.summary for script in scripts], MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS)
