"""From a list of cells to their records: read what is there and fresh, measure the rest, one cell at a time.

A record is fresh if its fingerprint (configuration, corpora, checkpoint, metric) is what the cell asks for. Features and
corpora are loaded once for all cells; a failing cell becomes a record with its reason and the rest goes on; a killed run
loses at most the cell it was in.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from asum_lib.corpora import GENERATED, Corpus, generated_fingerprint, load_corpus, log_mel
from asum_lib.errors import InputError
from asum_lib.measure import wer
from asum_lib.models import ladder
from asum_lib.study import records
from asum_lib.study.cells import Cell
from asum_lib.training.adapters import adapter_of

EVALUATION_BATCH = 64


def normalizer_of(corpus: str) -> str:
    """Generated text is in normal form already, and Whisper's English normaliser would join spoken digits into one word."""
    return "whisper-basic" if corpus in GENERATED else "whisper-en"


@dataclass
class _Row:
    """What the cells of one row share: a checkpoint and a corpus, each loaded when first asked for."""

    where: str
    corpus: str
    model: str | None  # given instead of the size's own checkpoint
    progress: Callable[[str], None]

    @cached_property
    def parts(self):
        from asum_lib.models.loading import load_parts

        return load_parts(self.where)

    @cached_property
    def checksum(self) -> str:
        from asum_lib.models.loading import checksum

        return checksum(self.where)

    @cached_property
    def _splits(self) -> dict:
        return {}

    def split(self, name: str) -> tuple[Corpus, object]:
        """Corpus split and its log-mel features."""
        if name not in self._splits:
            corpus = load_corpus(self.corpus, name, progress=self.progress)
            self._splits[name] = (corpus, log_mel(corpus, self.parts[1]))
        return self._splits[name]


def run_cells(
    cells: list[Cell], *, model: str | None = None, results: Path, notebook: str | None = None, progress: Callable[[str], None] | None = None
) -> list[tuple[Path, records.Record]]:
    """Records of `cells`, in order. `model` overrides the checkpoint (a local folder or a Hub name)."""
    from asum_lib.models.loading import source

    progress = progress or (lambda line: print(line, file=sys.stderr, flush=True))
    rows: dict[tuple, _Row] = {}
    result = []
    for number, cell in enumerate(cells, start=1):
        where = source(cell.scale, cell.size, model)
        row = rows.setdefault((where, cell.corpus), _Row(where, cell.corpus, model, progress))
        label = f"[{number}/{len(cells)}] {cell.name} on {Path(cell.corpus).name}"
        path = cell.path(results)
        config, fingerprint = _resolve(cell, row)
        if path.is_file() and (found := records.read(path)).fingerprint == fingerprint and found.status == "ok":
            progress(f"{label}: already measured, WER {found.metrics['wer_pct'].value:.1f} %")
            result.append((path, found))
            continue
        progress(f"{label}: measuring")
        record, samples = _measure(cell, row, config, fingerprint, notebook, progress)
        record = records.write(record, path, samples)
        outcome = f"WER {record.metrics['wer_pct'].value:.1f} %" if record.status == "ok" else f"failed: {record.reason}"
        progress(f"{label}: {outcome} ({sum(t or 0 for t in record.time_s.values()):.0f} s)")
        result.append((path, record))
    return result


def _resolve(cell: Cell, row: _Row) -> tuple[dict, str]:
    """The fully resolved configuration, and the fingerprint that holds its record to it."""
    from asum_lib.models.loading import QUANTISATION

    adapter = adapter_of(cell.method, cell.rank)
    training = _training(cell)
    config = {
        "checkpoint": cell.model if Path(row.where).is_dir() else row.where,
        "quantisation": QUANTISATION.get(cell.precision),
        "dtype": "bfloat16" if cell.precision == "bf16" else "float32",
        "adapter": asdict(adapter) if adapter else None,
        "training": asdict(training) if training else None,
        "seed": cell.seed,
        "decoding": {"strategy": "greedy", "batch_size": EVALUATION_BATCH},
        "normalizer": normalizer_of(cell.corpus),
    }
    splits = ("train", "dev", cell.split) if training else (cell.split,)
    data = {split: _corpus_fingerprint(cell.corpus, split, row) for split in splits}
    return config, records.fingerprint(config, data, row.checksum, wer.signature(normalizer_of(cell.corpus)))


def _corpus_fingerprint(corpus: str, split: str, row: _Row) -> str:
    return generated_fingerprint(corpus, split) or row.split(split)[0].fingerprint


def _training(cell: Cell):
    """Hyper-parameters of a cell: its rate times the pre-training rate of its size, of the real ladder at scale `paper`."""
    from asum_lib.training.finetune import Training

    if cell.method == "none":
        return None
    rung = ladder.LADDER[cell.size]
    peak_lr = rung.peak_lr if cell.scale == "mini" else rung.real_peak_lr
    numerator, _, denominator = cell.rate.partition("/")
    return Training(learning_rate=peak_lr * int(numerator) / int(denominator or 1), epochs=cell.epochs)


def _measure(cell: Cell, row: _Row, config: dict, fingerprint: str, notebook, progress) -> tuple[records.Record, list[dict]]:
    provenance = records.provenance(_command(cell, row.model), notebook, records.now())  # before: the code that is running now
    fixed = {"schema": records.SCHEMA, "fingerprint": fingerprint, "table": cell.table, "scale": cell.scale}
    fixed |= {"cell": cell.as_dict(), "config": config}
    try:
        measured, samples = _run(cell, row, progress)
        outcome = {"status": "ok", "reason": None, **measured}
    except InputError:
        raise
    except (RuntimeError, MemoryError, ArithmeticError, NotImplementedError) as error:
        samples = []
        outcome = {
            "status": "failed",
            "reason": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}",
            "metrics": {},
            "memory_bytes": records.unmeasured(records.MEMORY_BYTES),
            "params": records.unmeasured(records.PARAMS),
            "time_s": records.unmeasured(records.TIME_S),
            "audio_s": None,
            "rtfx": None,
            "history": [],
        }
    provenance |= {"dataset_fingerprint": _corpus_fingerprint(cell.corpus, cell.split, row), "finished_at": records.now()}
    return records.Record(**fixed, **outcome, samples=None, provenance=provenance), samples


def _command(cell: Cell, model: str | None) -> str:
    """The command that measures this cell alone."""
    given = {"size": cell.size, "corpus": cell.corpus, "precisions": f'["{cell.precision}"]', "methods": f'["{cell.method}"]'}
    if cell.method != "none":
        given |= {"rates": f'["{cell.rate}"]', "seeds": f"[{cell.seed}]", "epochs": cell.epochs}
    if cell.scale != "mini":
        given["scale"] = cell.scale
    if model:
        given["model"] = model
    return "asum run whisper_quant " + " ".join(f"-p '{name}={value}'" for name, value in given.items())


def _run(cell: Cell, row: _Row, progress) -> tuple[dict, list[dict]]:
    """Load, quantise, adapt, train, evaluate."""
    from asum_lib.measure.memory import parameter_counts, weights_bytes
    from asum_lib.measure.stats import ratio_interval
    from asum_lib.models.loading import load
    from asum_lib.models.transcribe import transcribe
    from asum_lib.training.adapters import kept_rank_mean
    from asum_lib.training.finetune import Split, finetune

    clock = time.perf_counter
    corpus, features = row.split(cell.split)
    start = clock()
    speech = load(row.where, cell.precision)
    model, load_s, train_s, history, samples = speech.model, clock() - start, None, [], []
    if cell.method == "none":
        model.requires_grad_(False)
    else:
        train, train_features = row.split("train")
        dev, dev_features = row.split("dev")
        evaluate_s = 0.0

        def evaluate(current) -> dict:
            nonlocal evaluate_s
            begun = clock()
            hypotheses = transcribe(current, speech.tokenizer, dev_features, EVALUATION_BATCH, speech.generate)
            counts = wer.count_errors(dev.texts, hypotheses, normalizer_of(cell.corpus))
            epoch = len({sample["epoch"] for sample in samples})
            for utterance, hypothesis, count in zip(dev.utterances, hypotheses, counts, strict=True):
                samples.append(
                    {"split": "dev", "epoch": epoch, "id": utterance.id, "hypothesis": hypothesis, "errors": count.errors, "words": count.words}
                )
            evaluate_s += clock() - begun
            totals = {"dev_errors": sum(c.errors for c in counts), "dev_words": sum(c.words for c in counts)}
            return totals | {"dev_wer_pct": wer.wer_pct(counts)}

        start = clock()
        training, adapter = _training(cell), adapter_of(cell.method, cell.rank)
        model, history = finetune(speech, Split(train_features, train.texts), training, adapter, cell.seed, evaluate, progress)
        train_s = clock() - start - evaluate_s

    start = clock()
    hypotheses = transcribe(model, speech.tokenizer, features, EVALUATION_BATCH, speech.generate)
    evaluate_test_s = clock() - start
    counts = wer.count_errors(corpus.texts, hypotheses, normalizer_of(cell.corpus))
    for utterance, hypothesis, count in zip(corpus.utterances, hypotheses, counts, strict=True):
        samples.append(
            {"split": cell.split, "id": utterance.id, "reference": utterance.text, "hypothesis": hypothesis}
            | asdict(count)
            | {"duration_s": round(utterance.duration_s, 4)}
        )
    value, lo, hi = ratio_interval([[count.errors for count in counts]], [count.words for count in counts])
    total, trainable = parameter_counts(model)
    metric = records.Metric(value, lo, hi, "%", "lower", wer.signature(normalizer_of(cell.corpus)), len(counts))
    return {
        "metrics": {"wer_pct": metric},
        "memory_bytes": records.unmeasured(records.MEMORY_BYTES, weights=weights_bytes(model), footprint=speech.model.get_memory_footprint()),
        "params": {"total": total, "trainable": trainable, "kept_rank_mean": kept_rank_mean(model)},
        "time_s": {"load": round(load_s, 3), "train": train_s and round(train_s, 3), "evaluate": round(evaluate_test_s, 3)},
        "audio_s": round(corpus.audio_s, 3),
        "rtfx": round(corpus.audio_s / evaluate_test_s, 2),
        "history": history,
    }, samples
