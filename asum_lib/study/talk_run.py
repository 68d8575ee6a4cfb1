"""From talk cells to their records: read what is there and fresh, measure the rest. As `text_run` is for text.

Whatever several cells need (an adapted Whisper and what it hears, an adapted text model, an end-to-end model) is trained once a run and
kept in memory, so a whole table in one run costs far less than its cells one by one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from statistics import median

from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.measure import extractive, rouge
from asum_lib.paths import CHECKPOINTS, RESULTS
from asum_lib.study import records, talk_video
from asum_lib.study.cells import PAPER_RATE, make_cell
from asum_lib.study.sweep import Progress, Task, progress_of, sweep
from asum_lib.study.talk_cells import COST, ROOMS, SIZE, TRAINED_IN_ROOMS, UNTRAINED, VIDEO, TalkCell
from asum_lib.study.talk_scores import metrics, sample_rows

EXTRACTED = {"textrank": 2, "oracle": 3}  # sentences, at most; the summaries have two
PEAK_RUNS = 3


def run_talk_cells(
    cells: Sequence[TalkCell], *, results: Path = RESULTS, notebook: str | None = None, progress: Progress | None = None
) -> list[tuple[Path, records.Record]]:
    """Records of `cells`, in order."""
    progress = progress_of(progress)
    shop = Workshop(progress)
    tasks = []
    for cell in cells:
        config, fingerprint = resolve(cell)
        path = cell.path(results)
        measure = partial(_measure_and_write, cell, shop, path, config, fingerprint, notebook)
        tasks.append(Task(f"{cell.table}: {cell.name}", path, records.fresh(path, fingerprint), measure))
    return sweep(tasks, _said, progress)


def fingerprint_of(cell: TalkCell, signature: str | None = None) -> str:
    """What the record of a cell of the study must carry to be fresh on this machine.

    `signature` is that of ROUGE-1, today's where none is given.
    """
    return resolve(cell, signature)[1]


def resolve(cell: TalkCell, signature: str | None = None) -> tuple[dict, str]:
    """The fully resolved configuration, and the fingerprint that holds its record to it. Makes no audio and loads no model."""
    config: dict = {"system": cell.system, "seed": cell.seed}
    data = {cell.split: talks.fingerprint(cell.corpus, cell.split)}
    bases = []
    if cell.system in UNTRAINED:
        config["sentences"] = EXTRACTED.get(cell.system)
    else:
        from asum_lib.models.summarize import Decoding
        from asum_lib.training import systems

        reader = systems.summarizer_of(ROOMS[0] if cell.trained_on == TRAINED_IN_ROOMS else cell.trained_on)
        config |= {"summarizer": asdict(reader), "decoding": asdict(Decoding()), "phrases": talks.VERSION}
        bases.append(reader.base)
        data |= {name: talks.fingerprint(name, "train") for name in reader.corpora}
    if cell.system == "ladder":
        path = _of_ladder(cell)
        config["transcripts"] = path.stem
        data["transcripts"] = records.read(path).samples["sha256"]
    elif cell.asr:
        from asum_lib.models.loading import QUANTISATION

        config |= {"hearer": asdict(systems.hearer_of(cell.asr)), "quantisation": QUANTISATION.get(cell.precision)}
        bases.append(f"whisper-{cell.asr}")
        if cell.system == "cascade":
            config["hearer_seed"] = hearer_seed(cell)
    if cell.system in ("e2e", "both") and cell.table != VIDEO:
        from asum_lib.training.speech_summary import RECIPE

        config["end_to_end"] = asdict(RECIPE)
    if cell.table == VIDEO:
        config["adapters"] = talk_video.adapters()
    if cell.trained_on == TRAINED_IN_ROOMS:
        config["in_rooms"] = talk_video.recipe(sees=cell.system != "e2e")
        data |= talk_video.train_fingerprints()
    if cell.table == COST:
        config["peak_runs"] = PEAK_RUNS
    signature = signature or rouge.signature("rouge1", "en")
    return config, records.fingerprint(config, data, "-".join(_checksum(base) for base in bases) or cell.system, signature)


def hearer_seed(cell: TalkCell) -> int:
    """The seed of the Whisper that a cell hears with: its own at the size that the end-to-end model has too, else the first.

    Adapting a Whisper takes minutes, and what seeds do to its error rate the WER table tells.
    """
    return cell.seed if cell.asr == SIZE else 0


@cache
def _checksum(base: str) -> str:
    from asum_lib.models.loading import checksum

    return checksum(str(CHECKPOINTS / base), everything=True)


def _of_ladder(cell: TalkCell) -> Path:
    """The record of the WER table whose transcripts a cell reads."""
    rate = "1" if cell.method == "adalora" else PAPER_RATE
    return make_cell(cell.asr, cell.precision, cell.method, corpus="howto", rate=rate, seed=cell.seed).path(RESULTS)


def _ladder_transcripts(cell: TalkCell, corpus: talks.Talks) -> list[str]:
    """What the record has of each talk's sentences, which were heard one by one."""
    written = {row["id"]: row["hypothesis"] for row in records.read_samples(_of_ladder(cell)) if row["split"] == cell.split}
    counts = {script.id: len(script.takes) for script in talks.scripts(cell.corpus, cell.split)}
    return [talks.transcript(written[f"{talk.id}-{number}"] for number in range(counts[talk.id])) for talk in corpus.talks]


class Workshop:
    """What the cells of one run share; each thing is made when first asked for and kept."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self._made: dict[tuple, object] = {}

    def once(self, key: tuple, make: Callable):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def talks(self, corpus: str, split: str) -> talks.Talks:
        return talks.load_talks(corpus, split, self.progress)

    def reader(self, corpus: str, seed: int):
        """The adapted text model for the talks of a corpus, and its training's rows."""
        from asum_lib.models import adapted
        from asum_lib.training import systems

        recipe = systems.summarizer_of(corpus)
        folder, rows = systems.kept(recipe, seed, self.progress)
        return self.once(("reader", corpus, seed), lambda: adapted.summarizer(str(folder), recipe.precision, "en", "mini")), rows

    def hearer(self, size: str, precision: str, seed: int):
        """An adapted Whisper and its training's rows. The adapter is trained at the recipe's precision and put on weights of any."""
        from asum_lib.models import adapted
        from asum_lib.training import systems

        folder, rows = systems.kept(systems.hearer_of(size), seed, self.progress)
        return self.once(("hearer", size, precision, seed), lambda: adapted.speech(str(folder), precision, "mini")), rows

    def transcripts(self, cell: TalkCell) -> tuple[list[str], float]:
        """(what the cell's Whisper writes of every talk, seconds it took)."""
        seed = hearer_seed(cell)
        speech, _ = self.hearer(cell.asr, cell.precision, seed)

        def make():
            start = time.perf_counter()
            return hear_all(speech, self.talks(cell.corpus, cell.split)), time.perf_counter() - start

        return self.once(("heard", cell.asr, cell.precision, seed, cell.corpus, cell.split), make)

    def end_to_end(self, corpus: str, seed: int):
        """The end-to-end model for the talks of a corpus, and its trainings' rows."""
        from asum_lib.training import speech_summary

        return self.once(("e2e", corpus, seed), lambda: speech_summary.kept(corpus, seed, progress=self.progress))


def hear_all(speech, corpus: talks.Talks) -> list[str]:
    """One transcript a talk, cut into phrases as a user's recording is; the phrases of all talks are heard in batches."""
    import numpy as np

    from asum_lib.corpora.phrases import phrases
    from asum_lib.models.transcribe import transcribe

    window_s = speech.extractor.n_samples / speech.extractor.sampling_rate
    owners, texts, batch = [], [], []

    def flush() -> None:
        features = speech.extractor(batch, sampling_rate=talks.SAMPLE_RATE_HZ, return_tensors="np").input_features
        texts.extend(transcribe(speech.model, speech.tokenizer, np.asarray(features)))
        batch.clear()

    for number, talk in enumerate(corpus.talks):
        for phrase in phrases(talk.audio, window_s):
            owners.append(number)
            batch.append(phrase.samples)
            if len(batch) == 128:
                flush()
    if batch:
        flush()
    return [talks.transcript(text for owner, text in zip(owners, texts, strict=True) if owner == number) for number in range(len(corpus.talks))]


def _measure_and_write(cell: TalkCell, shop: Workshop, path: Path, config, fingerprint, notebook) -> records.Record:
    provenance = records.provenance(_command(cell), notebook, records.now(), __name__)
    fixed = {"schema": records.SCHEMA, "fingerprint": fingerprint, "table": cell.table, "scale": cell.scale, "cell": cell.as_dict()}
    try:
        outcome, samples, execution = _measure(cell, shop)
        config = config | {"execution": execution}
    except InputError:
        raise
    except (RuntimeError, MemoryError, ArithmeticError, NotImplementedError) as error:
        outcome, samples = records.failure(error), []
    corpus = shop.talks(cell.corpus, cell.split)
    provenance |= {"model_revision": None, "dataset_revision": None, "dataset_fingerprint": corpus.fingerprint, "finished_at": records.now()}
    return records.write(records.Record(**fixed, config=config, **outcome, samples=None, provenance=provenance), path, samples)


def _command(cell: TalkCell) -> str:
    """The command that measures this cell, with the others of its system."""
    if cell.table == VIDEO:
        return f"asum run video_frames -p 'systems=[\"{cell.system}\"]' -p 'seeds=[{cell.seed}]'"
    given = {"table": cell.table, "systems": f'["{cell.system}"]', "seeds": f"[{cell.seed}]"}
    if cell.system == "cascade":
        given |= {"sizes": f'["{cell.asr}"]'}
    return "asum run e2e_summarization " + " ".join(f"-p '{name}={value}'" for name, value in given.items())


def _measure(cell: TalkCell, shop: Workshop) -> tuple[dict, list[dict], dict]:
    corpus = shop.talks(cell.corpus, cell.split)
    if cell.table == COST:
        return _cost(cell, shop, corpus)
    start = time.perf_counter()
    heard, history, params, memory, train_s = None, [], records.unmeasured(records.PARAMS), records.unmeasured(records.MEMORY_BYTES), None
    if cell.system in UNTRAINED:
        written = _untrained(cell.system, corpus)
    elif cell.table == VIDEO and cell.system == "cascade":
        speech, loaded = talk_video.shipped(shop.once)
        start = time.perf_counter()
        heard = hear_all(speech, corpus)
        written = _summaries(loaded, heard)
        params, memory = _of_model([speech.model, loaded.model])
    elif cell.table == VIDEO:
        ear, history = talk_video.trained(cell.seed, cell.system != "e2e", shop.once, shop.progress)
        start = time.perf_counter()
        written = talk_video.written(cell.system, ear, corpus, shop.once, shop.progress)
        params, memory = _of_model([ear.encoder, ear.model], _added(talk_video.shipped(shop.once)[1].model))
    elif cell.system == "e2e":
        ear, history = shop.end_to_end(cell.trained_on, cell.seed)
        start = time.perf_counter()
        written = _end_to_end_summaries(ear, corpus, shop)
        params, memory = _of_model([ear.encoder, ear.model], _added(shop.reader(cell.trained_on, cell.seed)[0].model))
    else:
        loaded, history = shop.reader(cell.trained_on, cell.seed)
        models = [loaded.model]
        texts = [talk.transcript for talk in corpus.talks]
        start, hear_s = time.perf_counter(), 0.0
        if cell.system == "ladder":
            texts = heard = _ladder_transcripts(cell, corpus)
        if cell.system == "cascade":
            heard, hear_s = shop.transcripts(cell)
            texts, models = heard, [shop.hearer(cell.asr, cell.precision, hearer_seed(cell))[0].model, *models]
            start = time.perf_counter() - hear_s
        written = _summaries(loaded, texts)
        params, memory = _of_model(models)
    evaluate_s = time.perf_counter() - start
    samples = sample_rows(corpus, written, heard, kinds=cell.table == VIDEO)
    outcome = {
        "status": "ok",
        "reason": None,
        "metrics": metrics(cell.as_dict(), samples),
        "memory_bytes": memory,
        "params": params,
        "time_s": records.unmeasured(records.TIME_S, train=train_s, evaluate=round(evaluate_s, 3)),
        "audio_s": corpus.audio_s if cell.asr else None,
        "rtfx": None,
        "history": [{key: row.get(key) for key in records.TEXT_EPOCH} for row in history if "epoch" in row],
    }
    return outcome, samples, {"rows": history}


def _cost(cell: TalkCell, shop: Workshop, corpus: talks.Talks) -> tuple[dict, list[dict], dict]:
    """Both systems in this process, a talk at a time, in turn; who begins changes from talk to talk. The first talk is heard once before."""
    from asum_lib import systems
    from asum_lib.models.summarize import Decoding

    ear, _ = shop.end_to_end(cell.trained_on, cell.seed)
    speech, reader = shop.hearer(cell.asr, cell.precision, cell.seed)[0], shop.reader(cell.trained_on, cell.seed)[0]
    batch = systems.BATCH["mini"]
    loaded = {
        "e2e": (systems.end_to_end_of(ear, Decoding(), batch), [ear.encoder, ear.model]),
        "cascade": (systems.cascade_of(speech, reader, Decoding(), batch), [speech.model, reader.model]),
    }
    of_model = {name: _of_model(models, _added(reader.model) if name == "e2e" else 0) for name, (_, models) in loaded.items()}
    for system, _ in loaded.values():
        system(corpus.talks[0].audio)
    peaks = {name: median(_peak_kb(name, corpus.talks[0].audio) for _ in range(PEAK_RUNS)) for name in loaded}
    samples, start = [], time.perf_counter()
    for number, talk in enumerate(corpus.talks):
        row = {"split": corpus.split, "id": talk.id, "duration_s": round(talk.duration_s, 3)}
        for name in loaded if number % 2 else reversed(loaded):
            began = time.perf_counter()
            loaded[name][0](talk.audio)
            row |= {f"{name}_ms": round(1000 * (time.perf_counter() - began), 3)}
            row |= {f"{name}_weights_kb": of_model[name][1]["weights"] / 1000, f"{name}_peak_kb": peaks[name]}
        samples.append(row)
    outcome = {
        "status": "ok",
        "reason": None,
        "metrics": metrics(cell.as_dict(), samples),
        "memory_bytes": of_model["e2e"][1],
        "params": of_model["e2e"][0],
        "time_s": records.unmeasured(records.TIME_S, evaluate=round(time.perf_counter() - start, 3)),
        "audio_s": corpus.audio_s,
        "rtfx": None,
        "history": [],
    }
    return outcome, samples, {"cascade": {"memory_bytes": of_model["cascade"][1], "params": of_model["cascade"][0]}}


def _peak_kb(system: str, audio: Path) -> float:
    """Highest resident memory of `asum summarize` with the shipped models, on one talk, in a process of its own."""
    command = [sys.executable, "-m", "asum_lib", "summarize", str(audio), "--system", system, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"asum summarize --system {system} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)[0]["memory_bytes"] / 1000


def _summaries(loaded, texts: Sequence[str]) -> list[str]:
    from asum_lib.models.long_text import summarize_long
    from asum_lib.models.summarize import Decoding

    return [one.text for one in summarize_long(loaded, texts, Decoding())]


def _end_to_end_summaries(ear, corpus: talks.Talks, shop: Workshop) -> list[str]:
    from asum_lib.models.speech_summary import write
    from asum_lib.models.summarize import Decoding
    from asum_lib.training import speech_summary

    return write(ear.model, ear.text, speech_summary.hear(ear, corpus, shop.progress), Decoding())


def _untrained(system: str, corpus: talks.Talks) -> list[str]:
    if system == "chance":  # the summary of the next talk: right in form, of another talk
        found = [talk.summary for talk in corpus.talks]
        return found[1:] + found[:1]
    written = []
    for talk in corpus.talks:
        sentences = rouge.split_sentences(talk.transcript, corpus.language)
        if system == "lead3":
            taken = extractive.lead(sentences, 3)
        elif system == "textrank":
            taken = extractive.textrank(sentences, EXTRACTED[system])
        else:
            taken = extractive.oracle(sentences, talk.summary, EXTRACTED[system], corpus.language)
        written.append(" ".join(taken))
    return written


def _of_model(models: Sequence, merged: int = 0) -> tuple[dict, dict]:
    """(params, memory_bytes) of a system of several models. `trainable` is what training has added to the checkpoints, `merged` of it
    no longer to be told from their weights."""
    from asum_lib.measure.memory import parameter_counts, weights_bytes
    from asum_lib.training.adapters import kept_rank_mean

    params = {"total": sum(parameter_counts(model)[0] for model in models), "trainable": sum(map(_added, models)) + merged}
    weights = sum(map(weights_bytes, models))
    return records.unmeasured(records.PARAMS, **params, kept_rank_mean=kept_rank_mean(models[-1])), records.unmeasured(
        records.MEMORY_BYTES, weights=weights
    )


def _added(model) -> int:
    """Numbers of an adapter, and of modules that were trained whole beside it."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name or "modules_to_save" in name)


def _said(record: records.Record) -> str:
    names = ("rouge1", "fact_recall", "step_right", "wer_pct", "e2e_ms", "cascade_ms")
    return ", ".join(f"{name} {record.metrics[name].value:.1f}" for name in names if name in record.metrics)
