"""Made-up records of speech summarisation: twelve talks without audio, and systems that write what a test says."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from asum_lib.corpora import talks
from asum_lib.study import records, talk_scores
from asum_lib.study.talk_cells import E2E, TalkCell, make_talk_cell

COUNT = 12


@cache
def few(corpus: str = "howto-talks") -> talks.Talks:
    """The first talks of a test split, as scripts."""
    scripts = talks.scripts(corpus, "test")[:COUNT]
    spoken = tuple(talks.Talk(script.id, None, None, 1.0, script.transcript, script.summary, script.facts) for script in scripts)
    return talks.Talks(corpus, "test", "en", spoken, "made up")


def tool(talk) -> str:
    """The tool that the talk's summary names."""
    return next(fact.value for fact in talk.facts if fact.kind == "tool" and fact.key)


def without_tool(talk) -> str:
    """The summary with another tool in the place of its own."""
    return talk.summary.replace(tool(talk), "a magic wand")


def misheard(talk) -> str:
    """The transcript with another word in the place of the tool."""
    return talk.transcript.replace(tool(talk), "something")


def right(talk) -> str:
    """The summary itself."""
    return talk.summary


def write_system(
    results: Path,
    system: str,
    written: Callable = right,
    heard: Callable | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    reason: str | None = None,
    table: str = E2E,
    corpus: str = "howto-talks",
    **cell,
) -> list[Path]:
    """The records of a system's seeds, from what it writes, and hears, of each talk; failed ones where there is a `reason`."""
    spoken = few(corpus)
    transcripts = None if heard is None else [heard(talk) for talk in spoken.talks]
    rows = talk_scores.sample_rows(spoken, [written(talk) for talk in spoken.talks], transcripts)
    return [write_cell(results, make_talk_cell(system, table=table, corpus=corpus, seed=seed, **cell), rows, reason) for seed in seeds]


def write_cell(results: Path, cell: TalkCell, rows: Sequence[dict], reason: str | None = None) -> Path:
    """One record with these samples."""
    record = records.Record(
        schema=records.SCHEMA,
        fingerprint=records.fingerprint(cell.as_dict(), {}, "none", "0"),
        table=cell.table,
        scale="mini",
        status="failed" if reason else "ok",
        reason=reason,
        cell=cell.as_dict(),
        config={
            "peak_runs": 3,
            "execution": {"rows": [{"step": 2_000, "loss": 0.1, "dev_wer_pct": 8.25}, {"dev_rouge1": 61.0}, {"dev_rouge1": 62.5}]},
        },
        metrics={} if reason else talk_scores.metrics(cell.as_dict(), rows),
        memory_bytes=records.unmeasured(records.MEMORY_BYTES, weights=2_500_000),
        params=records.unmeasured(records.PARAMS, total=1_000, trainable=1_234),
        time_s=records.unmeasured(records.TIME_S),
        audio_s=None,
        rtfx=None,
        history=[{"epoch": epoch, "step": epoch, "train_loss": None, "dev_loss": 1.5 - epoch, "kept_rank_mean": None} for epoch in (0, 1)],
        samples=None,
        provenance=dict.fromkeys(records.PROVENANCE) | {"cpu": "a processor", "threads": 1, "command": "asum run e2e_summarization"},
    )
    path = cell.path(results)
    records.write(record, path, [] if reason else list(rows))
    return path


def cost_rows(seed: int) -> list[dict]:
    """Samples of the table of costs: half the time, less weights, more memory end to end."""
    fixed = {"e2e_weights_kb": 2_000.0, "cascade_weights_kb": 2_500.0, "e2e_peak_kb": 5e5, "cascade_peak_kb": 4e5 + seed}
    return [
        {"split": "test", "id": talk.id, "e2e_ms": 500.0 * number, "cascade_ms": 1_000.0 * number, **fixed}
        for number, talk in enumerate(few().talks, start=1)
    ]
