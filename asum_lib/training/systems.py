"""The systems that are shipped: a Whisper that hears talks and a T5 that summarises what it heard, both with AdaLoRA.

`summarizer` learns from what is said in a talk to its summary, by text alone: no audio is made for it. It sees all talks of the
source domain and the few of the target domain's train split. `hearer` learns from the phrases of talks, as `corpora.phrases` cuts them,
and of copies of them that are cut a little earlier or later. The mini ladder was trained on utterances that begin with
their first sound: the same models, the adapted ones of the WER table too, mishear four words of five where a tenth of a second goes
before it. Where a pause ends can be told to some hundredths of a second only, so that has to be learnt.
`asum adapt NAME` makes an adapter anew and writes it where the shipped one lies.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from asum_lib import files
from asum_lib.corpora import talks
from asum_lib.corpora.audio import read_audio
from asum_lib.corpora.phrases import phrases
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError, choose
from asum_lib.measure import rouge, wer
from asum_lib.models import adapted, ladder, loading, summarize, text_ladder
from asum_lib.models.transcribe import transcribe
from asum_lib.paths import CHECKPOINTS, cache
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
    copies: int = 1  # of each phrase to train on: the first as it is cut, the others shifted


HEARER = Recipe(
    "whisper-medium",
    "int8",
    adapter_of("adalora", 16, MODULES["whisper"]["all-linear"]),
    Training(ladder.LADDER["medium"].peak_lr, epochs=6),
    corpora=("howto-talks",),
    dev="howto-talks",
    copies=4,
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
    "whisper-medium-int8-adalora": "AdaLoRA on mini Whisper medium at int8, trained on the phrases of howto-talks",
    "t5-talks-adalora": "AdaLoRA on mini T5, trained on the talks of howto-talks and howto-talks-source and their summaries",
}
END_TO_END = "e2e-talks"
MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS = 400, 100
SHIFT_S = 0.06  # how much earlier or later a shifted copy begins, at most


def hearer_of(size: str) -> Recipe:
    """The recipe of `HEARER` for another size of the ladder; each has the rate that it was pre-trained at."""
    return replace(HEARER, base=f"whisper-{size}", training=replace(HEARER.training, learning_rate=ladder.LADDER[size].peak_lr))


def summarizer_of(corpus: str) -> Recipe:
    """The recipe of `SUMMARIZER` for another corpus of talks, and its source domain."""
    return replace(SUMMARIZER, corpora=(f"{corpus}-source", corpus), dev=corpus)


def adapt(name: str, folder: Path | None = None, seed: int = 0, progress: Progress = print, replace: bool = False) -> Path:
    """Train a shipped adapter anew and write it into `folder`; returns the folder.

    By default that is where the shipped one lies, which it replaces. `InputError`, before anything is trained, for a
    folder that has anything in it, unless `replace` says that files of the same names are to be replaced.
    """
    choose("adapter", name, (*SHIPPED, END_TO_END))
    replace = replace or folder is None
    folder = Path(folder or CHECKPOINTS / "adapters" / name)
    files.refuse_filled(folder, replace)
    if name == END_TO_END:
        return _end_to_end(folder, seed, progress, replace)
    recipe = SHIPPED[name]
    train = hearer if recipe is HEARER else summarizer
    loaded, history = train(seed, recipe, progress)
    best = {key: value for key, value in history[-1].items() if key.startswith(("dev_", "kept_"))}
    about = {"adapter": asdict(recipe.adapter), "seed": seed, "corpora": recipe.corpora, "copies": recipe.copies, "last_epoch": best}
    training = asdict(recipe.training) | about
    saved = {"base": str(CHECKPOINTS / recipe.base), "precision": recipe.precision, "what": WHAT[name]}
    return adapted.save(loaded.model, folder, **saved, training=training, replace=replace)


def _end_to_end(folder: Path, seed: int, progress: Progress, replace: bool) -> Path:
    """On top of the two shipped adapters, which must lie beside `folder` too."""
    from asum_lib.models import speech_summary as models
    from asum_lib.training import speech_summary as training

    recipe, beside = training.RECIPE, CHECKPOINTS / "adapters"
    hearer_name, reader_name = SHIPPED
    for needed in SHIPPED:
        if not (folder.parent / needed / adapted.WEIGHTS).is_file():
            raise InputError(f"{END_TO_END} stands on {needed}, which is not in {folder.parent}: copy {beside / needed} there first")
    ear = training.joined(beside / hearer_name, beside / reader_name, seed, recipe)
    heard = training.listening(ear, progress)
    rows = training.aligned(ear, seed, recipe.alignment, heard, progress)
    ear, history = training.end_to_end(ear, SUMMARIZER.dev, seed, recipe, heard, progress)
    about = asdict(recipe) | {"seed": seed, "bridge": rows[-1], "last_epoch": history[-1]}
    what = "bridge and AdaLoRA of an end-to-end summariser, trained on the talks of howto-talks and howto-talks-source"
    names = {"hearer": hearer_name, "summarizer": reader_name}
    return models.save(ear, folder, **names, precision=HEARER.precision, what=what, training=about, replace=replace)


def hearer(seed: int = 0, recipe: Recipe = HEARER, progress: Progress = lambda line: None) -> tuple[loading.Speech, list[dict]]:
    """The Whisper of the cascade: (it with its trained model, a row an epoch with the dev WER over phrases)."""
    speech = loading.load(str(CHECKPOINTS / recipe.base), recipe.precision, "mini")
    dev = phrase_split(speech.extractor, [(recipe.dev, "dev")], 1, seed, progress)

    def evaluate(model) -> dict:
        hypotheses = transcribe(model, speech.tokenizer, dev.features)
        return {"dev_wer_pct": wer.wer_pct(wer.count_errors(dev.texts, hypotheses, "whisper-basic"))}

    train = phrase_split(speech.extractor, [(corpus, "train") for corpus in recipe.corpora], recipe.copies, seed, progress)
    model, history = finetune(speech, train, recipe.training, recipe.adapter, seed, evaluate, progress)
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


def kept(recipe: Recipe, seed: int, progress: Progress = lambda line: None) -> tuple[Path, list[dict]]:
    """(folder of the adapter that a recipe makes, its training's rows), from the cache or trained now; several tables need the same ones."""
    data = [talks.fingerprint(name, "train") for name in recipe.corpora]
    base = str(CHECKPOINTS / recipe.base)
    key = json.dumps([asdict(recipe), data, loading.checksum(base, everything=True), seed, *map(version, ("torch", "transformers", "peft"))])
    folder = cache() / "adapters" / f"{recipe.base}-{recipe.dev}-s{seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / adapted.NOTE).is_file():
        loaded, rows = (hearer if recipe.base.startswith("whisper") else summarizer)(seed, recipe, progress)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            made = adapted.save(loaded.model, Path(work) / "made", base=base, precision=recipe.precision, what="", training={"rows": rows})
            with suppress(OSError):  # another process made the same meanwhile
                made.rename(folder)
    return folder, adapted.read(folder).training["rows"]


def phrase_split(extractor, parts: Sequence[tuple[str, str]], copies: int, seed: int, progress: Progress = lambda line: None) -> Split:
    """The phrases of the talks of (corpus, split) parts with what is said in each, `copies` of each.

    Left out are talks that are not cut into as many phrases as they have sentences: there it is not known what is said in which.
    """
    rng = np.random.default_rng(seed)
    window_s = extractor.n_samples / SAMPLE_RATE_HZ
    pieces, texts, left_out = [], [], 0
    for name, split in parts:
        for talk, script in zip(talks.load_talks(name, split, progress).talks, talks.scripts(name, split), strict=True):
            samples, found = read_audio(talk.audio), list(phrases(talk.audio, window_s))
            if len(found) != len(script.takes):
                left_out += 1
                continue
            for phrase, take in zip(found, script.takes, strict=True):
                for copy in range(copies):
                    start_s = phrase.start_s + (rng.uniform(-SHIFT_S, SHIFT_S) if copy else 0)
                    start, stop = (round(at_s * SAMPLE_RATE_HZ) for at_s in (max(0, start_s), phrase.end_s))
                    pieces.append(samples[start : min(stop, start + extractor.n_samples)])
                    texts.append(take.text)
    if left_out:
        progress(f"{left_out} talks are left out: not as many phrases as sentences")
    if not pieces:
        raise InputError(f"no talk of {', '.join(f'{name} {split}' for name, split in parts)} is cut into as many phrases as it has sentences")
    return Split(extractor(pieces, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features, texts)


def talk_split(*parts: tuple[str, str]) -> TextSplit:
    """What is said in the talks of (corpus, split) parts, and their summaries."""
    scripts = [script for name, split in parts for script in talks.scripts(name, split)]
    return TextSplit([script.transcript for script in scripts], [script.summary for script in scripts], MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS)
