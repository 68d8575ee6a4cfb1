"""Is the apparatus right for summaries of speech at scale paper? A released model's summaries must land on its published ROUGE before How2 counts.

The rule, written before any run. ESPnet's released model of How2 (`espnet/roshansh_how2_asr_raw_ft_sum_valid.acc`; Sharma, Palaskar, Black and
Metze 2022, "End-to-End Speech Summarization Using Restricted Self-Attention") reads How2's features and leaves its summaries of the test set
`dev5_test_sum` in a file `text`, a line `id summary` each. Those are scored here as everything else is, against the summaries of the corpus as
`talk_files` reads it, which is thereby tried too. How2 is *calibrated* if the record is of all 2,127 summaries and ROUGE-1, ROUGE-2 and ROUGE-L
each lie within half a point of the published value, or if their 95 % interval holds it. Otherwise the state is *off*; without such a record it
is *not measured*. Rows of this study's own systems on How2 are of other models, from which no figure of this one can be asked: they keep a caveat
until How2 is calibrated, and count from then on if they are of all 2,127 too.

Values of unlike signatures are never compared. The recipe's script (`pyscripts/utils/score_summarization.py`) takes ROUGE by Hugging Face's
metric with its defaults: rouge_score's own tokenizer, no stemming, F1, the mean over summaries. That is the signature of English here, but for
the version of rouge_score, which the sources at hand do not name. METEOR there is nlg-eval's or Hugging Face's, by the version of the script, and
its BERTScore is the mean of the precision, not of F1: neither is computed here, so both are shown and do not decide.

    export ASUM_HOW2_SUMMARIES=/path/to/how2_release
    python -m asum_lib.study.speech_calibration exp/asr_sum_finetune/decode_sum_asr_model_valid.acc.best/dev5_test_sum/text

makes the record, without any text of How2 in it. The published figures are data: `papers/summarisation.yaml`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from asum_lib import papers
from asum_lib.corpora import kaldi
from asum_lib.corpora.manifest import refuse
from asum_lib.corpora.sentences import rule_of
from asum_lib.corpora.talks import load_talks
from asum_lib.errors import InputError
from asum_lib.measure import rouge
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records, text_scores
from asum_lib.study.text_calibration import WITHIN_POINTS, Calibration
from asum_lib.study.text_cells import TextCell
from asum_lib.study.text_scores import DIGITS

CORPUS = "how2-summaries"
CORPORA = (CORPUS, "how2-text")  # whose rows wait for this
MODEL = "espnet-conformer"
CHECKPOINT = "espnet/roshansh_how2_asr_raw_ft_sum_valid.acc"
DECIDING = ("rouge1", "rouge2", "rougeL")
CELL = TextCell("rouge_how2", "paper", MODEL, None, None, "none", None, None, None, None, CORPUS, "test", 0)


def calibration(results: Path = RESULTS) -> Calibration:
    """Hold the record of the released model's summaries against the published figures."""
    published = {metric: _published(metric) for metric in DECIDING}
    record = placing.of_cell(CELL, results)
    if record is None or (unfit := _unfit(record)):
        reason = unfit if record else f"no record of {CHECKPOINT}'s summaries yet"
        return Calibration(CORPUS, "not measured", {metric: (value, None, None, None) for metric, value in published.items()}, reason)
    found = {metric: record.metrics[metric] for metric in DECIDING}
    values = {metric: (published[metric], one.value, one.lo, one.hi) for metric, one in found.items()}
    off = [
        f"{metric} {value:.1f} instead of {target:g}"
        for metric, (target, value, lo, hi) in values.items()
        if abs(value - target) > WITHIN_POINTS and not lo <= target <= hi
    ]
    said = ", ".join(f"{metric} {value:.1f} ({target:g})" for metric, (target, value, _, _) in values.items())
    return Calibration(CORPUS, "off" if off else "calibrated", values, "; ".join(off) or said)


def measure(path: Path, results: Path = RESULTS, progress: Callable[[str], None] = lambda line: None) -> tuple[Path, records.Record]:
    """Score the summaries in a file of lines `id summary` against How2's and write the record; every fault of the file is listed at once."""
    started = records.now()
    talks = load_talks(CORPUS, "test", progress)
    written, faults = kaldi.read_table(Path(path))
    ids = {talk.id for talk in talks.talks}
    faults += [f"{talk.id} has no summary there" for talk in talks.talks if talk.id not in written]
    faults += [f"line {number}: {identity} is not in the test set" for identity, (number, _) in written.items() if identity not in ids]
    refuse(path, faults)
    scores = rouge.score([talk.summary for talk in talks.talks], [written[talk.id][1] for talk in talks.talks], talks.language)
    # Whose words these are is not this project's to give away: ids and scores are kept.
    samples = [
        {"split": "test", "id": talk.id, "reference": None, "summary": None}
        | {kind: round(float(values[number]), DIGITS) for kind, values in scores.items()}
        for number, talk in enumerate(talks.talks)
    ]
    rule = rule_of([talk.summary for talk in talks.talks], talks.language)
    config = {"checkpoint": CHECKPOINT, "summaries": "given"}
    record = records.Record(
        schema=records.SCHEMA,
        fingerprint=records.fingerprint(config, {"test": talks.fingerprint}, CHECKPOINT, rouge.signature("rouge1", talks.language)),
        table=CELL.table,
        scale=CELL.scale,
        status="ok",
        reason=None,
        cell=CELL.as_dict(),
        config=config,
        metrics=text_scores.metrics(CELL.as_dict(), samples, talks.language, rule),
        memory_bytes=records.unmeasured(records.MEMORY_BYTES),
        params=records.unmeasured(records.PARAMS),
        time_s=records.unmeasured(records.TIME_S),
        audio_s=talks.audio_s,
        rtfx=None,
        history=[],
        samples=None,
        provenance=records.provenance("python -m asum_lib.study.speech_calibration FILE", None, started, "asum_lib.study.speech_calibration")
        | {"dataset_fingerprint": talks.fingerprint, "finished_at": records.now()},
    )
    where = CELL.path(Path(results))
    return where, records.write(record, where, samples)


def caveat(results: Path = RESULTS) -> str | None:
    """Why values on How2 do not count yet; None where they do."""
    found = calibration(results)
    return None if found.state == "calibrated" else f"not calibrated ({found.state}: {found.reason})"


def _published(metric: str) -> float:
    return papers.value("summarisation", "how2_summaries", system="end-to-end", metric=metric)["value"]


def _unfit(record: records.Record) -> str | None:
    """Why a record cannot calibrate How2; None where it can."""
    if record.status != "ok":
        return f"the run {record.status}: {record.reason}"
    wanted, measured = int(_published("summaries")), record.metrics["rouge1"].n
    return None if measured == wanted else f"measured on {measured:,} summaries, the test set has {wanted:,}"


def main(arguments: list[str] | None = None) -> int:
    """The command: scores the file, prints the record's path, and says how it stands."""
    parser = argparse.ArgumentParser(prog="python -m asum_lib.study.speech_calibration", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="summaries of How2's test set, a line `id summary` each")
    given = parser.parse_args(arguments)
    try:
        path, _ = measure(given.file, progress=lambda line: print(line, file=sys.stderr, flush=True))
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    found = calibration()
    print(f"how2 is {found.state}: {found.reason}", file=sys.stderr)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
