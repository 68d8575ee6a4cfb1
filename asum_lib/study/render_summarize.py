"""How the page on `asum summarize` shows what it takes and what it was chosen by, as HTML like in `render`, whose helpers are used here."""

import html
import json
import statistics
from pathlib import Path

from asum_lib.paths import CHECKPOINTS, RESULTS
from asum_lib.study.render import _link
from asum_lib.study.render_paper import _html, _table

STAGES = {"load": "imports and models", "read": "reading", "transcribe": "hearing", "summarize": "summarising"}
WHAT = {"summarizer": "T5 on what is said in talks", "hearer": "Whisper medium at int8 on the phrases of talks"}


def times(results: Path = RESULTS) -> object:
    """Wall time, speed and peak memory of `asum summarize`, a process of its own each time."""
    report = _read(results, "summarize.json")
    if report is None:
        return _html("<p>Not measured yet: <code>python bench/bench_summarize.py</code> does it.</p>")
    lines = []
    for row in report["rows"]:
        wall_s = statistics.median(row["wall_s"])
        spread = f" ({min(row['wall_s']):.1f} to {max(row['wall_s']):.1f})" if len(row["wall_s"]) > 1 else ""
        stages = ", ".join(f"{said} {row['time_s'][stage]:.1f}" for stage, said in STAGES.items())
        lines.append(
            [
                html.escape(f"{row['system']}, {row['precision']}"),
                html.escape(f"{row['recording']} ({row['audio_s']:,.0f} s)"),
                f"{wall_s:.1f}{spread}",
                f"{statistics.median(row['processor_s']):.1f}",
                f"{row['load_before']:.1f}",
                len(row["wall_s"]),
                f"{row['audio_s'] / wall_s:.0f}",
                f"{row['memory_bytes'] / 1e6:.0f}",
                stages,
            ]
        )
    titles = (
        "system",
        "recording",
        "seconds, cold start included",
        "of processor",
        "load before",
        "runs",
        "times real time",
        "peak memory, MB",
        "of them, s",
    )
    return _html(_table(titles, lines, _made(report["provenance"], f"{report['cores']} cores", results, "summarize.json")))


def growth(results: Path = RESULTS) -> object:
    """How much more memory the longest recording took than the one before it, in a sentence."""
    report = _read(results, "summarize.json")
    rows = sorted((row for row in report["rows"] if row["audio_s"] > 300), key=lambda row: row["audio_s"]) if report else []
    if len(rows) < 2:
        return _html("<p>Not measured yet.</p>")
    short, long = rows[0], rows[-1]
    more_mb, times_longer = (long["memory_bytes"] - short["memory_bytes"]) / 1e6, long["audio_s"] / short["audio_s"]
    return _html(
        f"<p>A recording {times_longer:.0f} times as long took {more_mb:+.0f} MB at the peak, "
        f"{long['memory_bytes'] / 1e6:.0f} MB instead of {short['memory_bytes'] / 1e6:.0f} MB.</p>"
    )


def choices(part: str, results: Path = RESULTS) -> object:
    """What was tried for one of the two models, on dev."""
    report = _read(results, "adapter_choices.json")
    rows = [row for row in report["rows"] if row["part"] == part] if report else []
    if not rows:
        return _html("<p>Not measured yet: <code>python runs/adapter_choices.py</code> does it.</p>")
    metrics = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2"} if part == "summarizer" else {"wer_pct": "WER, %"}
    lines = []
    for row in rows:
        method = html.escape(row["method"] if row["rank"] is None else f"{row['method']}, rank {row['rank']}, {row['targets']}")
        values = [f"{row[name]['value']:.1f} ({row[name]['lo']:.1f} to {row[name]['hi']:.1f})" for name in metrics]
        copies = [row["copies"]] if part == "hearer" else []
        lines.append([method, f"{row['learning_rate']:g}", row["epochs"], *copies, *values, row[next(iter(metrics))]["n"], row["seed"]])
    copies = ["copies of a phrase"] if part == "hearer" else []
    titles = ("trained", "rate", "epochs", *copies, *metrics.values(), "phrases" if part == "hearer" else "talks", "seed")
    before = "" if part == "summarizer" else f" Before training: {rows[0]['before_wer_pct']:.1f} %."
    caption = f"{WHAT[part]}, dev split of howto-talks; 95 % intervals over {titles[-2]}.{before}"
    link = _link(f"{Path(results).name}/adapter_choices.json", "All figures")
    return _html(_table(titles, lines, f"{html.escape(caption)} {link}."))


def adapters(folder: Path = CHECKPOINTS / "adapters") -> object:
    """The shipped adapters by their own notes."""
    lines = []
    for path in sorted(Path(folder).glob("*/asum_adapter.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        size = sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
        last = note["training"]["last_epoch"]
        scores = ", ".join(f"{said} {last[name]:.1f}" for name, said in {"dev_wer_pct": "WER, %", "dev_rouge1": "ROUGE-1"}.items() if name in last)
        name = html.escape(path.parent.name)
        about = [note["base"], note["precision"], ", ".join(note["training"]["corpora"])]
        lines.append([name, *map(html.escape, about), html.escape(scores), f"{size / 1e3:.0f}"])
    return _html(_table(("adapter", "on", "trained at", "on the train split of", "dev, last epoch", "kB"), lines))


def _read(results: Path, name: str) -> dict | None:
    path = Path(results) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _made(made: dict, machine: str, results: Path, name: str) -> str:
    commit = (made["git_commit"] or "unknown")[:8] + (" with changes" if made["git_dirty"] else "")
    libraries = ", ".join(f"{library} {made['packages'][library]}" for library in ("torch", "transformers", "bitsandbytes"))
    text = f"{made['cpu']}, {machine}, {made['finished_at']}, commit {commit}; {libraries}."
    return f"{html.escape(text)} {_link(f'{Path(results).name}/{name}', 'All figures')}."
