"""What a long text takes in time and memory: a T5 of real size on whole meetings, with random weights. A check of the path, and of nothing else.

`summarize_long` promises that memory depends on the part and the batch, not on the text. Here three meetings, the shortest, the middle and the
longest one, are summarised each in a fresh process, several times, and the peak of each is recorded. Random weights write to the limit of
tokens every time, so a trained model takes no more. What they write means nothing, and is not kept.

    python -m asum_lib.study.long_text_check FOLDER --tokenizer DIR

makes a T5-small with random weights in the new folder FOLDER, measures (`$ASUM_AMI` names the meetings) and prints the paths of the records.
"""

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from asum_lib.corpora import texts
from asum_lib.errors import InputError
from asum_lib.measure import peak
from asum_lib.models.summarize import Decoding
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.study.cells import LONG_TEXT

MODEL = "t5-small"
REPEATS = 3
DECODING = Decoding(batch_size=8, beams=1, max_source_tokens=512, max_new_tokens=64)


def make_checkpoint(folder: Path, tokenizer: Path, model: str = MODEL) -> Path:
    """A checkpoint of the catalogue's real size with random weights and a real tokenizer; returns the new folder."""
    from asum_lib.models.catalogue import write_random

    write_random(folder, model)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"):
        if (Path(tokenizer) / name).is_file():
            shutil.copyfile(Path(tokenizer) / name, Path(folder) / name)
    return Path(folder)


def chosen(corpus: texts.TextCorpus) -> list[texts.TextDocument]:
    """The shortest, the middle and the longest document, by words."""
    by_length = sorted(corpus.documents, key=lambda document: len(document.text.split()))
    return [by_length[0], by_length[len(by_length) // 2], by_length[-1]]


def run(
    checkpoint: Path,
    corpus: str = "ami",
    decoding: Decoding = DECODING,
    results: Path = RESULTS,
    repeats: int = REPEATS,
    progress: Callable[[str], None] = lambda line: None,
) -> list[tuple[Path, records.Record]]:
    """Measure each chosen document of a corpus and write its record; raises `InputError` for a checkpoint that has weights of its own."""
    from asum_lib.models.loading import checksum, note

    if not note(str(checkpoint)):
        raise InputError(f"checkpoint {checkpoint}: its config.json does not say that its weights are random, and this check is for such alone")
    loaded = texts.load_texts(corpus, "test")
    weights, found = checksum(str(checkpoint), everything=True), []
    for document in chosen(loaded):
        started = records.now()
        progress(f"{corpus} {document.id}: {len(document.text.split()):,} words, {repeats} times")
        measured = [peak.in_child(_measure, str(checkpoint), document.text, loaded.language, decoding) for _ in range(repeats)]
        config = {"checkpoint": MODEL, "checkpoint_note": note(str(checkpoint)), "decoding": asdict(decoding), "repeats": repeats}
        cell = {"model": MODEL, "precision": "fp32", "method": "none", "corpus": corpus, "split": "test", "document": document.id}
        metrics = _metrics(measured)
        module = "asum_lib.study.long_text_check"
        about = records.provenance(f"python -m {module} CHECKPOINT --corpus {corpus}", None, started, module)
        record = records.Record(
            schema=records.SCHEMA,
            fingerprint=records.fingerprint(config, {"test": texts.fingerprint([document])}, weights, metrics["summarize_peak_bytes"].signature),
            table=LONG_TEXT,
            scale="paper",
            status="ok",
            reason=None,
            cell=cell,
            config=config,
            metrics=metrics,
            memory_bytes=records.unmeasured(records.MEMORY_BYTES, weights=measured[0]["weights_bytes"]),
            params=records.unmeasured(records.PARAMS, total=measured[0]["parameters"], trainable=0),
            time_s=records.unmeasured(records.TIME_S, load=_middle(measured, "load_s"), evaluate=_middle(measured, "summarize_s")),
            audio_s=None,
            rtfx=None,
            history=[],
            samples=None,
            provenance=about | {"dataset_fingerprint": loaded.fingerprint, "finished_at": records.now()},
        )
        path = Path(results) / "paper" / LONG_TEXT / f"{MODEL}-{document.id}.json"
        found.append((path, records.write(record, path, [])))
    return found


def _measure(checkpoint: str, text: str, language: str, decoding: Decoding) -> dict:
    """In a child: load, summarise once, and what that took; the parts are counted and what they say is let go."""
    from asum_lib.measure.memory import parameter_counts, weights_bytes
    from asum_lib.models import summarize
    from asum_lib.models.long_text import reads_tokens, summarize_long

    with peak.watching() as watch:
        with watch.phase("load"):
            loaded = summarize.load(checkpoint, "fp32", language)
        with watch.phase("summarize"):
            (summary,) = summarize_long(loaded, [text], decoding)
    limit = reads_tokens(loaded, decoding)
    pieces = [text[start:stop] for start, stop, _ in summary.parts]
    if "".join(pieces) != text:
        raise RuntimeError("the parts are not the text")
    return {
        "words": len(text.split()),
        "parts": len(pieces),
        "longest_part_tokens": max(map(len, summarize.encode(loaded.tokenizer, loaded.family, pieces, limit + 1))),
        "summarize_peak_bytes": watch.peaks["summarize"].resident,
        "summarize_s": round(watch.peaks["summarize"].time_s, 3),
        "load_s": round(watch.peaks["load"].time_s, 3),
        "weights_bytes": weights_bytes(loaded.model),
        "parameters": parameter_counts(loaded.model)[0],
    }


def _metrics(measured: list[dict]) -> dict[str, records.Metric]:
    """Counts, and the peak and seconds as the median of the repeats with their lowest and highest."""
    counted = {"words": "words", "parts": "parts", "longest_part_tokens": "tokens"}
    found = {name: _metric(measured, name, unit, "neither", "counted") for name, unit in counted.items()}
    how = "resident set above that with the model loaded|median, lowest and highest of the repeats"
    found["summarize_peak_bytes"] = _metric(measured, "summarize_peak_bytes", "bytes", "lower", how)
    found["summarize_s"] = _metric(measured, "summarize_s", "s", "lower", "wall clock|median, lowest and highest of the repeats")
    return found


def _metric(measured: list[dict], name: str, unit: str, better: str, signature: str) -> records.Metric:
    values = [one[name] for one in measured]
    return records.Metric(statistics.median(values), min(values), max(values), unit, better, signature, len(values))


def _middle(measured: list[dict], name: str) -> float:
    return statistics.median(one[name] for one in measured)


def main(arguments: list[str] | None = None) -> int:
    """The command: makes the checkpoint where it is not there, measures, and prints the paths of the records."""
    parser = argparse.ArgumentParser(prog="python -m asum_lib.study.long_text_check", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the checkpoint; made where it is not there")
    parser.add_argument("--tokenizer", required=True, type=Path, metavar="DIR", help="folder of a T5 tokenizer")
    parser.add_argument("--corpus", default="ami", help="name of a corpus of texts (default: ami)")
    given = parser.parse_args(arguments)
    from asum_lib.study.long_text_check import run  # as a child can import it, whatever runs this file

    try:
        if not given.folder.exists():
            make_checkpoint(given.folder, given.tokenizer)
        found = run(given.folder, given.corpus, progress=lambda line: print(line, file=sys.stderr, flush=True))
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(*(path for path, _ in found), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
