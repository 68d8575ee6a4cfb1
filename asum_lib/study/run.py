"""From a list of cells to their records: read what is there and fresh, measure the rest, one cell at a time.

A record is fresh if its fingerprint (configuration, corpora, checkpoint, metric) is what the cell asks for. All corpora and
checkpoints are looked through, and the memory is counted, before anything long starts. Features and corpora are loaded once
for all cells; a failing cell becomes a record with its reason and the rest goes on; a killed run loses at most the cell it
was in, and at scale `paper` at most an epoch of its training. Started by `accelerate launch`, several processes share each
cell's work, and the first one writes.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from asum_lib import heap
from asum_lib.corpora import GENERATED, NAMES, Corpus, dataset_revision, generated_fingerprint, load_corpus
from asum_lib.errors import InputError, shown
from asum_lib.measure import wer
from asum_lib.models import ladder
from asum_lib.paths import cache
from asum_lib.study import measuring_code, placing, records, speech_scores
from asum_lib.study.cells import EPOCHS, LEARNING_RATES, SOURCE_OF, Cell
from asum_lib.study.sweep import Task, progress_of, silent, sweep
from asum_lib.training import processes
from asum_lib.training.adapters import adapter_of

EVALUATION_BATCH = 64
# Windows decoded together at the real sizes: their keys and values for 30 s take 18 MB (tiny) to 490 MB (large) a window in float32.
PAPER_EVALUATION_BATCH = {"tiny": 32, "base": 32, "small": 16, "medium": 8, "large": 8, "large-v2": 8, "large-v3": 8, "turbo": 32}
# Utterances a batch. Of the paper's batch sizes only large's, 1, is in the sources at hand; the others are this study's.
PAPER_TRAINING_BATCH = {"large": 1, "large-v2": 1, "large-v3": 1, "turbo": 1}
MICRO_BATCH = {"medium": 2, "large": 1, "large-v2": 1, "large-v3": 1, "turbo": 1}
PROGRESS_EVERY_S = 60.0  # while one split is transcribed
LEADING_QUIET = "left out but for 0.02 s"
TRIMMED = "the quiet before the first sound of a recording is left out, as the mini models know utterances that begin with it"
LONG_FORM = "windows cut at the quietest 50 ms of their last quarter"


def normalizer_of(corpus: str) -> str:
    """Generated text is in normal form already, and Whisper's English normaliser would join spoken digits into one word."""
    return "whisper-basic" if corpus in GENERATED else "whisper-en"


def normalizer_for(cell: Cell) -> str:
    """What was asked for, else the usual one of the language, else the corpus's."""
    if cell.normalizer or not cell.language:
        return cell.normalizer or normalizer_of(cell.corpus)
    return wer.normalizer_for(cell.language)


@dataclass
class _Row:
    """What the cells of one row share: a checkpoint and a corpus, each loaded when first asked for."""

    where: str
    scale: str
    corpus_name: str
    model: str | None  # given instead of the size's own checkpoint
    progress: Callable[[str], None]
    language: str | None = None

    @cached_property
    def base(self) -> str:
        """The checkpoint itself, or the one under an adapter."""
        from asum_lib.models import adapted

        return adapted.base_of(self.where)

    @cached_property
    def parts(self):
        from asum_lib.models.loading import load_parts

        return load_parts(self.base, self.language)

    @cached_property
    def config(self):
        from asum_lib.models import checkpoint, pretrained
        from asum_lib.models.loading import folder_of

        checkpoint.check(folder_of(self.base))
        return pretrained.config(folder_of(self.base))

    @cached_property
    def checksum(self) -> str:
        from asum_lib.models import adapted
        from asum_lib.models.loading import checksum

        found = checksum(self.base, everything=self.scale == "paper" or self.model is not None)
        return adapted.checksum(self.where, found) if adapted.is_adapter(self.where) else found

    @cached_property
    def languages(self) -> tuple[str, ...]:
        from asum_lib.models import checkpoint
        from asum_lib.models.loading import folder_of

        return checkpoint.languages(folder_of(self.base))

    @cached_property
    def note(self) -> str | None:
        from asum_lib.models.loading import note

        return note(self.base)

    @cached_property
    def revision(self) -> str | None:
        from asum_lib import hub
        from asum_lib.models.loading import folder_of

        return hub.revision(folder_of(self.base))

    @cached_property
    def _corpora(self) -> dict:
        return {}

    @cached_property
    def _features(self) -> dict:
        return {}

    @property
    def from_first_sound(self) -> bool:
        """Whether the models hear a user's own recordings as they know utterances: the mini ones begin with their first sound."""
        return self.scale == "mini" and self.corpus_name not in NAMES

    def corpus(self, split: str) -> Corpus:
        if split not in self._corpora:
            corpus = load_corpus(self.corpus_name, split, progress=self.progress)
            if not self._corpora and self.from_first_sound:
                self.progress(f"{corpus.name}: {TRIMMED}")
            self._corpora[split] = replace(corpus, from_first_sound=self.from_first_sound)
        return self._corpora[split]

    @cached_property
    def source(self) -> "_Row":
        """The same model with the corpus that it was pre-trained on."""
        return _Row(self.where, self.scale, SOURCE_OF[self.corpus_name], self.model, self.progress, self.language)

    def features(self, split: str):
        """Log-mel features of a split, `corpora.features.Features`."""
        from asum_lib.corpora.features import log_mel

        if split not in self._features:
            self._features[split] = log_mel(self.corpus(split), self.parts[1], self.progress)
        return self._features[split]


def run_cells(
    cells: list[Cell], *, model: str | None = None, results: Path, notebook: str | None = None, progress: Callable[[str], None] | None = None
) -> list[tuple[Path, records.Record]]:
    """Records of `cells`, in order. `model` overrides the checkpoint (a local folder or a Hub name).

    Raises `InputError` for a faulty corpus or checkpoint, and where no cell fits the memory, before the first cell is measured.
    """
    from asum_lib.models.loading import source

    progress = progress_of(progress)
    rows: dict[tuple, _Row] = {}
    work = []
    for cell in cells:
        where = source(cell.scale, cell.size, model)
        row = rows.setdefault((where, cell.corpus), _Row(where, cell.scale, cell.corpus, model, progress, cell.language))
        config, fingerprint = _resolve(cell, row)
        cell = replace(cell, own=_own(cell, row))
        work.append((cell, row, config, fingerprint, records.fresh(cell.path(results), fingerprint)))
    for cell, row, config, _, found in work:
        if not found and cell.corpus not in GENERATED:
            _check_words(cell, row, config["normalizer"])
    too_big = _too_big([(cell, row) for cell, row, _, _, found in work if not found], progress)
    for row in {id(row): row for cell, row, _, _, found in work if not found}.values():
        if row.corpus_name not in NAMES and not row.language and len(row.languages) > 1:
            progress(f"{row.corpus_name} is heard as English: write -p language=CODE for another of {len(row.languages)} languages")

    def task(cell, row, config, fingerprint, found) -> Task:
        path = cell.path(results)
        measure = partial(_measure_and_write, cell, row, path, config, fingerprint, notebook, too_big.get(cell), progress)
        return Task(f"{cell.name} on {Path(cell.corpus).name}", path, found, measure)

    return sweep([task(*one) for one in work], _wer, progress)


def _own(cell: Cell, row: _Row) -> str | None:
    """The digest of a user's own corpus or model, by content; None where both are the study's and nothing else was asked for."""
    if cell.corpus in NAMES and not (row.model or cell.language or cell.normalizer):
        return None
    splits = (cell.split,) if cell.method == "none" else ("train", "dev", cell.split)
    data = {split: _corpus_fingerprint(split, row) for split in splits}
    asked = {name: value for name in ("language", "normalizer") if (value := getattr(cell, name))}
    return placing.own_digest(data, row.checksum if row.model else None, **asked)


def fingerprint_of(cell: Cell, signature: str | None = None) -> str:
    """What the record of a cell of the study must carry to be fresh on this machine. Raises `InputError` where its data are not here.

    `signature` is that of the WER, today's where none is given.
    """
    from asum_lib.models.loading import source

    row = _Row(source(cell.scale, cell.size), cell.scale, cell.corpus, None, silent)
    return _resolve(cell, row, signature)[1]


def evaluation_batch(scale: str, size: str) -> int:
    """Windows decoded together. A part of the configuration, since it moves the last digits, and so not fitted to the machine."""
    return EVALUATION_BATCH if scale == "mini" else PAPER_EVALUATION_BATCH[size.removesuffix(".en")]


def execution_of(cell: Cell):
    """How training is fitted to a GPU of 24 GB; none of it changes the result in exact arithmetic, but for `autocast`.

    `autocast` is bfloat16 at scale `paper` on a GPU that computes in it.
    """
    import torch

    from asum_lib.training.finetune import Execution

    if cell.scale == "mini":
        return Execution()
    quick = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    size = cell.size.removesuffix(".en")
    return Execution(MICRO_BATCH.get(size), gradient_checkpointing=size in MICRO_BATCH, autocast="bfloat16" if quick else None)


def _check_words(cell: Cell, row: _Row, normalizer: str) -> None:
    """Refuse a corpus of which nothing is left to be heard, before anything is measured on it."""
    try:
        wer.check_normalizer(normalizer, row.corpus(cell.split).texts)
    except InputError as error:
        raise InputError(f"corpus {cell.corpus}: {error}") from None
    words_of = wer.normalizer(normalizer)
    for split in (cell.split,) if cell.method == "none" else (cell.split, "dev"):
        texts = row.corpus(split).texts
        if not any(any(letter.isalnum() for letter in words_of(text)) for text in texts):
            raise InputError(
                f"corpus {cell.corpus}: the normaliser {normalizer} leaves no word of the references of split {split} "
                f"({shown(texts[0]) if texts else 'there are none'}): an error rate of nothing has no value"
            )


def _wer(record: records.Record) -> str:
    value = record.metrics["wer_pct"].value
    return f"{value:.1f} %"


def _resolve(cell: Cell, row: _Row, signature: str | None = None) -> tuple[dict, str]:
    """The fully resolved configuration, and the fingerprint that holds its record to it."""
    from asum_lib.models.loading import QUANTISATION, SIMULATED, compute_dtype

    adapter = adapter_of(cell.method, cell.rank)
    training = training_of(cell)
    config = {
        "checkpoint": Path(cell.model).name if Path(row.where).is_dir() else row.where,
        "quantisation": (QUANTISATION | SIMULATED).get(cell.precision),
        "dtype": compute_dtype(cell.precision, cell.scale),
        "adapter": asdict(adapter) if adapter else None,
        "training": asdict(training) if training else None,
        "seed": cell.seed,
        "decoding": {"strategy": "greedy", "batch_size": evaluation_batch(cell.scale, cell.size)},
        "normalizer": normalizer_for(cell),
    }
    if cell.language:
        config["language"] = cell.language
    if cell.corpus not in GENERATED:
        config["decoding"]["long_form"] = LONG_FORM
    if row.from_first_sound:
        config["leading_quiet"] = LEADING_QUIET
    if row.note:
        config["checkpoint_note"] = row.note
    if training and cell.scale == "paper":
        config["autocast"] = execution_of(cell).autocast
    if training and cell.corpus not in GENERATED:
        config["training_text"] = "lower case" if all_capitals(row.corpus("train").texts) else "as it is"
    splits = ("train", "dev", cell.split) if training else (cell.split,)
    data = {split: _corpus_fingerprint(split, row) for split in splits}
    if source := source_of(cell):
        config["source"] = source
        data["source dev"] = generated_fingerprint(source, "dev")
    signature = signature or wer.signature(normalizer_for(cell))
    return config, records.fingerprint(config, data, row.checksum, signature)


def source_of(cell: Cell) -> str | None:
    """The corpus that the cell's model was pre-trained on, if the cell is to be tried on it after every epoch."""
    return SOURCE_OF[cell.corpus] if cell.table == LEARNING_RATES and cell.method != "none" else None


def _corpus_fingerprint(split: str, row: _Row) -> str:
    return generated_fingerprint(row.corpus_name, split) or row.corpus(split).fingerprint


def all_capitals(texts: list[str]) -> bool:
    """Whether no letter is small, as in LibriSpeech: trained on as it is, a model would first learn to shout."""
    return not any(letter.islower() for text in texts for letter in text)


def training_of(cell: Cell):
    """Hyper-parameters of a cell, None where nothing is trained: its rate times the pre-training rate of its size.

    At scale `paper` that is the real size's rate, large's for the later large ones too.
    """
    from asum_lib.training.finetune import Training

    if cell.method == "none":
        return None
    numerator, _, denominator = cell.rate.partition("/")
    size = cell.size.removesuffix(".en")
    rung = ladder.LADDER.get(size, ladder.LADDER["large"])
    peak_lr = rung.peak_lr if cell.scale == "mini" else rung.real_peak_lr
    batch_size = Training.batch_size if cell.scale == "mini" else PAPER_TRAINING_BATCH.get(size, Training.batch_size)
    return Training(learning_rate=peak_lr * int(numerator) / int(denominator or 1), epochs=cell.epochs, batch_size=batch_size)


def _too_big(work: list[tuple[Cell, _Row]], progress: Callable[[str], None]) -> dict[Cell, str]:
    """The cells that cannot fit, each with what would, said before anything starts; `InputError` where none of them fits."""
    from asum_lib.models.loading import device
    from asum_lib.study import fit

    found = {}
    for cell, row in work:
        execution, training = execution_of(cell), training_of(cell)
        at_once = (execution.micro_batch_size or training.batch_size) if training else 1
        batches = {"batch_size": evaluation_batch(cell.scale, cell.size), "train_batch_size": at_once}
        more = {"gradient_checkpointing": execution.gradient_checkpointing, "rank": cell.rank or 1, "device": device(cell.scale).partition(":")[0]}
        model = row.config  # a damaged checkpoint is refused here, and not as one that is too big
        if cell.scale == "paper" and not row.model:
            model = f"whisper-{cell.size}"  # by its name, so that a smaller one can be offered
        try:
            fit.check_memory(fit.Work(model, cell.precision, cell.method, **batches, **more))
        except InputError as error:
            found[cell] = str(error)
    for others in processes.gather([found]):  # what one process cannot hold, none starts
        found = others | found
    if found and len(found) == len(work):
        raise InputError(f"none of {len(work)} cells to measure fits ({', '.join(cell.name for cell in found)}): {next(iter(found.values()))}")
    for cell, reason in found.items():
        progress(f"{cell.name} will not be measured: {reason}")
    return found


def _measure_and_write(cell: Cell, row: _Row, path: Path, config: dict, fingerprint: str, notebook, too_big, progress) -> records.Record:
    """Measure in every process, write in the first; a state of training that a killed run left is used, and removed in the end."""
    from asum_lib.training.state import Resume, discard

    resume = None
    if cell.scale == "paper" and cell.method != "none":  # a state goes with the code and the libraries that made it
        key = records.canonical([fingerprint, measuring_code.digest(__name__), records.packages()])
        resume = Resume(cache() / "training" / fingerprint[:32], key)
    record, samples = _measure(cell, row, config, fingerprint, notebook, resume, too_big, progress)
    if processes.is_main():
        record = records.write(record, path, samples)
        if resume and record.status == "ok":
            discard(resume)
    processes.barrier()
    return record


def _measure(cell: Cell, row: _Row, config: dict, fingerprint: str, notebook, resume, too_big, progress) -> tuple[records.Record, list[dict]]:
    provenance = records.provenance(_command(cell, row.model), notebook, records.now(), __name__)  # before: the code that is running now
    fixed = {"schema": records.SCHEMA, "fingerprint": fingerprint, "table": cell.table, "scale": cell.scale}
    fixed |= {"cell": cell.as_dict(), "config": config}
    try:
        if too_big:
            raise MemoryError(too_big)
        measured, samples = _run(cell, row, resume, progress)
        outcome = {"status": "ok", "reason": None, **measured}
        fixed["config"] = config | {"execution": outcome.pop("execution")}
    except InputError:
        raise
    except (RuntimeError, MemoryError, ArithmeticError, NotImplementedError) as error:
        outcome, samples = records.failure(error), []
    provenance |= {
        "model_revision": row.revision,
        "dataset_revision": dataset_revision(cell.corpus),
        "dataset_fingerprint": _corpus_fingerprint(cell.split, row),
        "finished_at": records.now(),
    }
    return records.Record(**fixed, **outcome, samples=None, provenance=provenance), samples


def _command(cell: Cell, model: str | None) -> str:
    """The command that measures this cell alone."""
    given = {"size": cell.size, "corpus": cell.corpus, "precisions": f'["{cell.precision}"]', "methods": f'["{cell.method}"]'}
    if cell.method != "none":
        given |= {"rates": f'["{cell.rate}"]', "seeds": f"[{cell.seed}]", "epochs": cell.epochs}
    if cell.scale != "mini":
        given["scale"] = cell.scale
    given |= {name: value for name in ("language", "normalizer") if (value := getattr(cell, name))}
    if model:
        given["model"] = model
    started = f"accelerate launch --multi_gpu --num_processes {processes.world()} -m asum_lib measure" if processes.world() > 1 else "asum run"
    if cell.table == LEARNING_RATES:
        rates, seeds = given.get("rates", '["1"]'), given.get("seeds", "[0]")
        epochs = f" -p epochs={cell.epochs}" if cell.epochs != EPOCHS else ""
        return f"{started} learning_rates -p size={cell.size} -p 'methods=[\"{cell.method}\"]' -p 'rates={rates}' -p 'seeds={seeds}'" + epochs
    return f"{started} whisper_quant " + " ".join(f"-p '{name}={value}'" for name, value in given.items())


def _run(cell: Cell, row: _Row, resume, progress) -> tuple[dict, list[dict]]:
    """Load, quantise, adapt, train, evaluate."""
    from asum_lib.measure.memory import parameter_counts
    from asum_lib.models import adapted
    from asum_lib.training.adapters import kept_rank_mean

    clock = time.perf_counter
    corpus, features = row.corpus(cell.split), row.features(cell.split)
    start, speech, failure = clock(), None, None
    try:
        speech = adapted.speech(row.where, cell.precision, cell.scale, cell.language)
    except Exception as error:  # too little memory in one process must not leave the others waiting for it
        failure = error
    processes.raise_together(failure)
    load_s = clock() - start
    execution = {"processes": processes.world(), "windows": len(features)}
    if cell.method == "none":
        model, history, samples, train_s = speech.model, [], [], None
        model.requires_grad_(False)
    else:
        model, history, samples, train_s, about = _train(cell, row, speech, resume, progress)
        execution |= about

    start = clock()
    hypotheses = _hear(cell, model, speech.tokenizer, features, progress)
    evaluate_s = clock() - start
    heard = [
        {"split": cell.split, "id": utterance.id, "reference": utterance.text, "hypothesis": hypothesis} | _spoken_by(utterance)
        for utterance, hypothesis in zip(corpus.utterances, hypotheses, strict=True)
    ]
    test = [
        row | {"duration_s": round(utterance.duration_s, 4)}
        for row, utterance in zip(speech_scores.count_test(heard, normalizer_for(cell)), corpus.utterances, strict=True)
    ]
    total, trainable = parameter_counts(model)
    return {
        "metrics": speech_scores.metrics(cell.as_dict(), test, normalizer_for(cell)),
        "memory_bytes": weights_of(cell.precision, model, speech.model),
        "params": {"total": total, "trainable": trainable, "kept_rank_mean": kept_rank_mean(model)},
        "time_s": {"load": round(load_s, 3), "train": train_s and round(train_s, 3), "evaluate": round(evaluate_s, 3)},
        "audio_s": round(corpus.audio_s, 3),
        "rtfx": round(corpus.audio_s / evaluate_s, 2),
        "history": history,
        "execution": execution,
    }, [*samples, *test]


def _spoken_by(utterance) -> dict:
    """Who speaks, for a sample, where the manifest says so; the study's own corpora know it by their recipe."""
    return {} if utterance.speaker is None else {"speaker": utterance.speaker}


def weights_of(precision: str, model, base) -> dict:
    """The `memory_bytes` of a record: those of the model's weights, adapter included, and its footprint. Simulated weights count nothing."""
    from asum_lib.measure.memory import weights_bytes
    from asum_lib.models.loading import SIMULATED

    if precision in SIMULATED:
        return records.unmeasured(records.MEMORY_BYTES)
    return records.unmeasured(records.MEMORY_BYTES, weights=weights_bytes(model), footprint=base.get_memory_footprint())


def _hear(cell: Cell, model, tokenizer, features, progress) -> list[str]:
    """Hypotheses of all utterances; every process transcribes its share of the batches and gets them all."""
    from asum_lib.models.transcribe import transcribe

    said_s = time.monotonic()

    def say(done: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > PROGRESS_EVERY_S:
            said_s = time.monotonic()
            progress(f"{cell.name}: {done * processes.world()} of {len(features)} windows transcribed")

    def deal(count: int, hear) -> list:
        return processes.together(lambda: hear(processes.share(count)))

    return transcribe(model, tokenizer, features, evaluation_batch(cell.scale, cell.size), say, deal)


def _train(cell: Cell, row: _Row, speech, resume, progress) -> tuple[object, list[dict], list[dict], float, dict]:
    """(trained model, history, dev samples of every epoch, seconds in training, what the training split gave)."""
    from asum_lib.training.finetune import Split, finetune

    train, train_features = row.corpus("train"), row.features("train").whole_utterances()
    dev, dev_features = row.corpus("dev"), row.features("dev")
    source = (row.source.features("dev"), row.source.corpus("dev")) if source_of(cell) else None
    spoken = [text.lower() for text in train.texts] if all_capitals(train.texts) else train.texts
    texts = [spoken[index] for index in train_features.utterances]
    if left_out := len(train.utterances) - len(texts):  # a window of a longer utterance has no transcript of its own
        progress(f"{cell.name}: {left_out} of {len(train.utterances)} training utterances are longer than the model's window and left out")
    kept = resume.kept if resume else {}
    kept.setdefault("samples", [])
    evaluate_s, started_at = 0.0, records.now()

    def evaluate(current) -> dict:
        nonlocal evaluate_s
        start = time.perf_counter()
        kept["starts"] = sorted({*kept.get("starts", []), started_at})
        epoch = len({sample["epoch"] for sample in kept["samples"]})
        totals = {}
        for name, (heard, corpus) in {"dev": (dev_features, dev), "source": source or (None, None)}.items():
            if corpus is None:
                continue
            hypotheses = _hear(cell, current, speech.tokenizer, heard, progress)
            rows = [
                {"split": name, "epoch": epoch, "id": utterance.id, "hypothesis": hypothesis} | _spoken_by(utterance)
                for utterance, hypothesis in zip(corpus.utterances, hypotheses, strict=True)
            ]
            texts = {utterance.id: utterance.text for utterance in corpus.utterances}
            rows = speech_scores.count_epochs(rows, texts, normalizer_for(cell))
            kept["samples"] += rows
            totals |= speech_scores.totals(name, rows)
        evaluate_s += time.perf_counter() - start
        return totals

    execution = execution_of(cell)
    start = time.perf_counter()
    split, adapter = Split(train_features, texts), adapter_of(cell.method, cell.rank)
    with heap.steady() if cell.scale == "paper" else nullcontext():
        model, history = finetune(speech, split, training_of(cell), adapter, cell.seed, evaluate, progress, execution, resume)
    train_s = kept.get("train_s", time.perf_counter() - start - evaluate_s)  # where a run was resumed, the time of all its starts
    about = asdict(execution) | {"train_utterances": len(texts), "train_left_out": left_out, "starts": kept["starts"]}
    return model, history, list(kept["samples"]), train_s, about
