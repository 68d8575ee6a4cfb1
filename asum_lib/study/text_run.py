"""From text cells to their records: read what is there and fresh, measure the rest, one cell at a time. As `run` is for speech.

A failing cell becomes a record with its reason and the rest goes on; a killed run loses at most the cell it was in, and at
scale `paper` at most an epoch of its training.
"""

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from asum_lib import heap
from asum_lib.corpora import texts
from asum_lib.corpora.sentences import WITH_CAPITALS, rule_of
from asum_lib.errors import InputError
from asum_lib.measure import rouge
from asum_lib.models import summarize
from asum_lib.models.long_text import summarize_long
from asum_lib.paths import RESULTS, cache
from asum_lib.study import measuring_code, placing, records
from asum_lib.study.cells import LOFTQ
from asum_lib.study.run import weights_of
from asum_lib.study.sweep import Progress, Task, progress_of, sweep
from asum_lib.study.text_cells import CANDIDATES, EXTRACTIVE, LANGUAGE_OF, RATES_TABLE, TO_LENGTH, TextCell, language_of, make_text_cell
from asum_lib.training import processes
from asum_lib.training.adapters import MODULES, adapter_of

TRAIN_DOCUMENTS = {"mini": 640, "paper": None}  # of the target's train split; None is all
FEWER_DOCUMENTS = {
    "news-ru": 160
}  # with 640 every method was at the ceiling of this corpus (ROUGE-1 of 98.5 to 99), where none can be told from another
DEV_DOCUMENTS = {"mini": 200, "paper": 500}  # whose ROUGE decides between learning rates
LOSS_DOCUMENTS = {"mini": 96, "paper": 500}  # of dev, whose loss is watched by epoch
BATCH_SIZE = {"mini": 16, "paper": 16}
MICRO_BATCH = {"mini": None, "paper": 2}
MAX_SOURCE_TOKENS = {"mini": 400, "paper": 600}  # at scale paper Gazeta's own limits (its authors' script)
MAX_TARGET_TOKENS = {"mini": 100, "paper": 200}
DECODING = {
    "mini": summarize.Decoding(batch_size=64, beams=1, max_source_tokens=400, max_new_tokens=100),
    "paper": summarize.Decoding(batch_size=8, beams=5, max_source_tokens=600, max_new_tokens=200, no_repeat_ngram=4),
}
# Of scale paper. The paper's rates for text are not in the sources at hand: these are this study's, usual ones for each method.
PAPER_LEARNING_RATE = {"full": 5e-5, "lora": 5e-4, "adalora": 1e-3, "adalora-inactive": 1e-3, "loftq": 5e-4, "loftq-5": 5e-4}
REPOSITORIES = {"t5": "google-t5/t5-base", "mbart": "facebook/mbart-large-50"}
EXTRACTIVE_SENTENCES = {"en": 5, "ru": 3}  # of TextRank, and the most of the oracle
IN_PARTS = {"ami": {"rounds": 1}}  # corpora whose documents are far longer than a model reads: how `summarize_long` reads them to the end


@dataclass
class _Work:
    """What the cells of one corpus and model share, each loaded when first asked for."""

    corpus: str
    language: str
    scale: str
    model: str
    where: str | None  # None for what takes sentences from the document
    limit: int | None  # documents of each split, where fewer than the study's own were asked for
    results: Path  # where the search for learning rates is looked for first

    def documents(self, split: str, count: int | None = None) -> texts.TextCorpus:
        corpus = texts.load_texts(self.corpus, split, self.language)
        if self.corpus not in texts.NAMES:
            rouge.check_corpus(self.corpus, corpus.language, (document.reference for document in corpus.documents))
        wanted = [number for number in (count, self.limit) if number is not None]
        return texts.head(corpus, min([*wanted, len(corpus.documents)])) if wanted else corpus

    @cached_property
    def checksum(self) -> str | None:
        from asum_lib.models.checkpoint import check_text
        from asum_lib.models.loading import checksum, folder_of

        if not self.where:
            return None
        check_text(folder_of(self.where))
        return checksum(self.where, everything=True)

    @cached_property
    def note(self) -> str | None:
        from asum_lib.models.loading import note

        return note(self.where) if self.where else None

    @cached_property
    def tokenizer(self):
        from asum_lib.models.loading import folder_of

        return summarize.load_tokenizer(folder_of(self.where), self.language)


def run_text_cells(
    cells: list[TextCell],
    *,
    checkpoint: str | None = None,
    language: str | None = None,
    limit: int | None = None,
    results: Path = RESULTS,
    notebook: str | None = None,
    progress: Progress | None = None,
) -> list[tuple[Path, records.Record]]:
    """Records of `cells`, in order. `checkpoint` (a folder or a Hub name) replaces the model's own; `limit` cuts every split short."""
    progress = progress_of(progress)
    shared: dict[tuple, _Work] = {}
    tasks = []
    for cell in cells:
        known = shared.setdefault(
            (cell.corpus, cell.model),
            _Work(cell.corpus, language_of(cell.corpus, language), cell.scale, cell.model, _source(cell, checkpoint), limit, results),
        )
        config, fingerprint = _resolve(cell, known)
        cell = replace(cell, own=_own(cell, known, checkpoint))
        path = cell.path(results)
        measure = partial(_measure_and_write, cell, known, path, config, fingerprint, notebook, checkpoint, progress)
        tasks.append(Task(f"{cell.name} on {Path(cell.corpus).name}", path, records.fresh(path, fingerprint), measure))
    return sweep(tasks, _said, progress)


def _own(cell: TextCell, work: _Work, checkpoint: str | None) -> str | None:
    """The digest of what is not the study's: a corpus or checkpoint of one's own, fewer documents, another language."""
    given = checkpoint if work.where else None
    if cell.corpus in LANGUAGE_OF and not given and not work.limit and work.language == LANGUAGE_OF[cell.corpus]:
        return None
    data = {cell.split: _scored(cell, work).fingerprint}
    if cell.method != "none":
        data |= {"train": work.documents("train", train_documents(cell)).fingerprint}
    return placing.own_digest(data, work.checksum if given else None, language=work.language)


def fingerprint_of(cell: TextCell, signature: str | None = None) -> str:
    """What the record of a cell of the study must carry to be fresh on this machine.

    `signature` is that of ROUGE-1, today's where none is given.
    """
    work = _Work(cell.corpus, language_of(cell.corpus), cell.scale, cell.model, _source(cell, None), None, RESULTS)
    return _resolve(cell, work, signature)[1]


def chosen_rate(corpus: str, model: str, method: str, results: Path = RESULTS) -> float:
    """The candidate learning rate with the highest dev ROUGE-1 of the method, by the records of the search (one seed, rank 16).

    Inactive AdaLoRA takes AdaLoRA's, and LoftQ takes LoRA's. Raises `InputError` where the search is not done.
    """
    method = {"adalora-inactive": "adalora"}.get(method, "lora" if method in LOFTQ else method)
    cells = [make_text_cell(corpus, model, method=method, learning_rate=rate, split="dev", search=True) for rate in CANDIDATES]
    for folder in dict.fromkeys((results, RESULTS)):
        found = [placing.of_cell(cell, folder) for cell in cells]
        if all(found):
            measured = [record for record in found if record.status == "ok"]  # a rate at which training fails is not chosen
            return max(measured, key=lambda record: record.metrics["rouge1"].value).cell["learning_rate"]
    raise InputError(
        f"no learning rate is chosen yet for {method} of {model} on {corpus}: give learning_rates, or run the search first (peft_rouge with grid)"
    )


def _said(record: records.Record) -> str:
    return ", ".join(f"{kind} {record.metrics[kind].value:.1f}" for kind in ("rouge1", "rouge2", "rougeL"))


def _source(cell: TextCell, checkpoint: str | None) -> str | None:
    from asum_lib.models import text_ladder

    if cell.model in EXTRACTIVE:
        return None
    return checkpoint or (str(text_ladder.checkpoint(cell.model)) if cell.scale == "mini" else REPOSITORIES[cell.model])


def _resolve(cell: TextCell, work: _Work, signature: str | None = None) -> tuple[dict, str]:
    """The fully resolved configuration, and the fingerprint that holds its record to it."""
    signature = signature or rouge.signature("rouge1", work.language)
    if work.where is None:
        config = {"system": cell.model, "sentences": _sentences_taken(cell.model, work.language)}
        corpus = work.documents(cell.split)
        rule = rule_of([document.text for document in corpus.documents], work.language)
        if not rule.startswith(WITH_CAPITALS):
            config["sentence_rule"] = rule
        data = {cell.split: corpus.fingerprint}
        return config, records.fingerprint(config, data, cell.model, signature)
    from asum_lib.models.loading import QUANTISATION, SIMULATED, compute_dtype

    adapter, training = _adapter(cell), training_of(cell, work.results)
    dev = LOSS_DOCUMENTS[cell.scale]
    config = {
        "checkpoint": f"{cell.model}-{Path(cell.size).name}" if Path(work.where).is_dir() else work.where,
        "quantisation": (QUANTISATION | SIMULATED).get(cell.precision),
        "dtype": compute_dtype(cell.precision, cell.scale),
        "adapter": asdict(adapter) if adapter else None,
        "training": asdict(training) if training else None,
        "documents": {"train": train_documents(cell), "dev": dev, "limit": work.limit} if training else {"limit": work.limit},
        "max_tokens": {"source": MAX_SOURCE_TOKENS[cell.scale], "target": MAX_TARGET_TOKENS[cell.scale]},
        "seed": cell.seed,
        "decoding": asdict(DECODING[cell.scale]),
        "language": work.language,
    }
    if cell.corpus in IN_PARTS:
        config["in_parts"] = IN_PARTS[cell.corpus]
    if work.note:
        config["checkpoint_note"] = work.note
    data = {cell.split: _scored(cell, work).fingerprint}
    if training:
        data |= {"train": work.documents("train", train_documents(cell)).fingerprint, "dev": work.documents("dev", dev).fingerprint}
    return config, records.fingerprint(config, data, work.checksum, signature)


def train_documents(cell: TextCell) -> int | None:
    """How many documents a cell trains on; None is all of the split."""
    return FEWER_DOCUMENTS.get(cell.corpus, TRAIN_DOCUMENTS[cell.scale])


def _scored(cell: TextCell, work: _Work) -> texts.TextCorpus:
    return work.documents(cell.split, DEV_DOCUMENTS[cell.scale] if cell.split == "dev" else None)


def _adapter(cell: TextCell):
    return adapter_of(cell.method, cell.rank, MODULES[cell.model][cell.targets]) if cell.rank else None


def training_of(cell: TextCell, results: Path = RESULTS):
    """Hyper-parameters of a cell, None where nothing is trained."""
    from asum_lib.training.finetune import Training

    if cell.method == "none":
        return None
    rate = cell.learning_rate
    if rate is None:
        rate = PAPER_LEARNING_RATE[cell.method] if cell.scale == "paper" else chosen_rate(cell.corpus, cell.model, cell.method, results)
    return Training(learning_rate=rate, epochs=cell.epochs, batch_size=BATCH_SIZE[cell.scale])


def execution_of(cell: TextCell):
    """How training is fitted to a machine; see `run.execution_of`."""
    import torch

    from asum_lib.training.finetune import Execution

    if cell.scale == "mini":
        return Execution()
    quick = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return Execution(MICRO_BATCH[cell.scale], gradient_checkpointing=True, autocast="bfloat16" if quick else None)


def _measure_and_write(cell: TextCell, work: _Work, path: Path, config, fingerprint, notebook, checkpoint, progress) -> records.Record:
    from asum_lib.training.state import Resume, discard

    resume = None
    if cell.scale == "paper" and cell.method != "none":  # a state goes with the code and the libraries that made it
        key = records.canonical([fingerprint, measuring_code.digest(__name__), records.packages()])
        resume = Resume(cache() / "training" / fingerprint[:32], key)
    provenance = records.provenance(_command(cell, checkpoint, work.limit), notebook, records.now(), __name__)
    fixed = {"schema": records.SCHEMA, "fingerprint": fingerprint, "table": cell.table, "scale": cell.scale, "cell": cell.as_dict(), "config": config}
    try:
        outcome, samples = _run(cell, work, resume, progress)
        fixed["config"] = config | {"execution": outcome.pop("execution")}
    except InputError:
        raise
    except (RuntimeError, MemoryError, ArithmeticError, NotImplementedError) as error:
        outcome, samples = records.failure(error), []
    provenance |= {
        "model_revision": _revision(work.where),
        "dataset_revision": texts.dataset_revision(cell.corpus, cell.split),
        "dataset_fingerprint": _scored(cell, work).fingerprint,
        "finished_at": records.now(),
    }
    record = records.Record(**fixed, **outcome, samples=None, provenance=provenance)
    if processes.is_main():
        record = records.write(record, path, samples)
        if resume and record.status == "ok":
            discard(resume)
    processes.barrier()
    return record


def _revision(where: str | None) -> str | None:
    from asum_lib import hub
    from asum_lib.models.loading import folder_of

    return hub.revision(folder_of(where)) if where else None


def _command(cell: TextCell, checkpoint: str | None, limit: int | None) -> str:
    """The command that measures this cell alone."""
    given: dict = {"corpus": cell.corpus, "model": cell.model}
    if cell.model not in EXTRACTIVE:
        given |= {"methods": f'["{cell.method}"]', "precisions": f'["{cell.precision}"]'}
    if cell.rank:
        given |= {"ranks": f"[{cell.rank}]", "targets": f'["{cell.targets}"]'}
    if cell.method != "none":
        given |= {"seeds": f"[{cell.seed}]", "epochs": cell.epochs}
    if cell.learning_rate is not None:
        given["learning_rates"] = f"[{cell.learning_rate:g}]"
    if cell.table == RATES_TABLE:
        given["search"] = "true"
    given |= {name: value for name, value in {"checkpoint": checkpoint, "limit": limit}.items() if value}
    if cell.scale != "mini":
        given["scale"] = cell.scale
    return "asum run peft_rouge " + " ".join(f"-p '{name}={value}'" for name, value in given.items())


def _run(cell: TextCell, work: _Work, resume, progress: Progress) -> tuple[dict, list[dict]]:
    """Load, quantise, adapt, train, write summaries, score them."""
    from asum_lib.study.text_scores import metrics, sample_rows

    clock = time.perf_counter
    corpus = _scored(cell, work)
    if work.where is None:
        start = clock()
        written = _extract(cell, corpus)
        outcome = {
            "memory_bytes": records.unmeasured(records.MEMORY_BYTES),
            "params": records.unmeasured(records.PARAMS),
            "time_s": records.unmeasured(records.TIME_S, evaluate=round(clock() - start, 3)),
            "history": [],
            "execution": {"documents": len(corpus.documents)},
        }
    else:
        written, outcome = _write(cell, work, corpus, resume, progress)
    samples = sample_rows(corpus, written, cell.split)
    return {
        "status": "ok",
        "reason": None,
        "metrics": metrics(cell.as_dict(), samples, corpus.language),
        "audio_s": None,
        "rtfx": None,
    } | outcome, samples


def _extract(cell: TextCell, corpus: texts.TextCorpus) -> list[str]:
    from asum_lib.measure import extractive
    from asum_lib.measure.summaries import words

    count, written = _sentences_taken(cell.model, corpus.language), []
    for document in corpus.documents:
        sentences = [sentence for paragraph in document.paragraphs for sentence in rouge.split_sentences(paragraph, corpus.language)]
        system = cell.model.removesuffix("-length")
        if system == "oracle":
            taken = extractive.oracle(sentences, document.reference, count or max(1, len(sentences)), corpus.language)
        elif count:
            taken = extractive.lead(sentences, count) if system == "lead3" else extractive.textrank(sentences, count)
        else:
            rank = extractive.textrank_order(sentences) if system == "textrank" else range(len(sentences))
            taken = extractive.to_length(sentences, rank, len(words(document.reference)))
        written.append(" ".join(taken))
    return written


def _sentences_taken(system: str, language: str) -> int | None:
    """Sentences that an extractive system takes, or at most takes; None where the reference's length says it, or the score alone."""
    if system in TO_LENGTH:
        return None
    return 3 if system == "lead3" else EXTRACTIVE_SENTENCES[language]


def _write(cell: TextCell, work: _Work, corpus: texts.TextCorpus, resume, progress: Progress) -> tuple[list[str], dict]:
    """(summaries of the scored split, the parts of the record that tell of model and training)."""
    from asum_lib.measure.memory import parameter_counts
    from asum_lib.training.adapters import kept_parameters, kept_rank_mean, kept_ranks

    clock = time.perf_counter
    start, loaded, failure = clock(), None, None
    try:
        loaded = summarize.load(work.where, cell.precision, work.language, cell.scale)
    except Exception as error:  # too little memory in one process must not leave the others waiting for it
        failure = error
    processes.raise_together(failure)
    load_s = clock() - start
    execution = {"processes": processes.world(), "documents": len(corpus.documents)}
    if cell.method == "none":
        model, history, train_s = loaded.model, [], None
        model.requires_grad_(False)
    else:
        model, history, train_s, about = _train(cell, work, loaded, resume, progress)
        execution |= about
    start = clock()
    decoding, given = DECODING[cell.scale], [document.text for document in corpus.documents]
    if cell.corpus in IN_PARTS:
        written = [one.text for one in summarize_long(replace(loaded, model=model), given, decoding, **IN_PARTS[cell.corpus], progress=progress)]
    else:
        sources = summarize.encode(loaded.tokenizer, loaded.family, given, decoding.max_source_tokens)
        written = summarize.summarize(model, loaded.tokenizer, sources, work.language, decoding)
    evaluate_s = clock() - start
    total, trainable = parameter_counts(model)
    params = {"total": total, "trainable": trainable, "kept_rank_mean": kept_rank_mean(model)}
    return written, {
        "memory_bytes": weights_of(cell.precision, model, loaded.model),
        "params": params | {"kept": kept_parameters(model), "kept_ranks": kept_ranks(model)},
        "time_s": {"load": round(load_s, 3), "train": train_s and round(train_s, 3), "evaluate": round(evaluate_s, 3)},
        "history": history,
        "execution": execution,
    }


def _train(cell: TextCell, work: _Work, loaded: summarize.Summarizer, resume, progress: Progress) -> tuple[object, list[dict], float, dict]:
    from asum_lib.training.finetune import finetune
    from asum_lib.training.text_examples import TextSplit, mean_loss

    def split(name: str, count: int | None) -> TextSplit:
        documents = work.documents(name, count).documents
        limits = {"max_source_tokens": MAX_SOURCE_TOKENS[cell.scale], "max_target_tokens": MAX_TARGET_TOKENS[cell.scale]}
        return TextSplit([document.text for document in documents], [document.reference for document in documents], **limits)

    dev = split("dev", LOSS_DOCUMENTS[cell.scale]).examples(loaded)
    kept = resume.kept if resume else {}
    evaluate_s, started_at = 0.0, records.now()

    def evaluate(current) -> dict:
        nonlocal evaluate_s
        start = time.perf_counter()
        kept["starts"] = sorted({*kept.get("starts", []), started_at})
        loss = mean_loss(current, dev)
        evaluate_s += time.perf_counter() - start
        return {"dev_loss": loss}

    execution, start = execution_of(cell), time.perf_counter()
    train = split("train", train_documents(cell))
    with heap.steady() if cell.scale == "paper" else nullcontext():
        model, history = finetune(loaded, train, training_of(cell, work.results), _adapter(cell), cell.seed, evaluate, progress, execution, resume)
    train_s = kept.get("train_s", time.perf_counter() - start - evaluate_s)
    return model, history, train_s, asdict(execution) | {"train_documents": len(train.texts), "starts": kept["starts"]}
