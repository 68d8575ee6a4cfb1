"""What `notebooks/e2e_summarization.ipynb` shows of its own run: the measured cells, and one talk as every system summarised it."""

import html
from pathlib import Path

from asum_lib.corpora import talks
from asum_lib.measure import summaries
from asum_lib.study import records
from asum_lib.study.render import _nothing_yet
from asum_lib.study.render_rates import _table
from asum_lib.study.render_rouge import _MARKUP
from asum_lib.study.render_talks import METRIC_NAMES, name_of
from asum_lib.study.text_tables import MEASURES

HIDDEN = ("rouge2", "rougeLsum", "length")  # of the run's table; the book's tables have them


def row_table(row) -> object:
    """The cells of one measured row (`e2e_summarization.Row`), seed by seed."""
    metrics = [name for name in MEASURES if name not in HIDDEN and any(name in record.metrics for record in row.records)]
    lines = []
    for record in row.records:
        fields = [html.escape(name_of(record.cell)), html.escape(record.cell["corpus"]), record.cell["seed"]]
        if record.status == "ok":
            found = [record.metrics.get(name) for name in metrics]
            fields += ["" if metric is None else f"{metric.value:,.1f} <small>({metric.lo:,.1f} to {metric.hi:,.1f})</small>" for metric in found]
        else:
            fields += [html.escape(record.reason or record.status), *[""] * (len(metrics) - 1)]
        weights, trained = record.memory_bytes["weights"], record.params["trainable"]
        lines.append(
            [str(field) for field in [*fields, "" if weights is None else f"{weights / 1e6:.2f}", "" if trained is None else f"{trained:,}"]]
        )
    titles = ["", "corpus", "seed", *(METRIC_NAMES.get(name, f"{name}, {MEASURES[name].unit}") for name in metrics), "weights, MB", "trained"]
    count = max((metric.n for record in row.records for metric in record.metrics.values()), default=0)
    return _table(titles, lines, f"Scale mini, {count} talks, one seed a line; in brackets the 95 % interval over talks.")


def row_examples(row, position: int = 0) -> object:
    """The talk on which the row's systems differ most in the facts that they state, right less made up; `position` counts from it."""
    by_name: dict[str, dict[str, dict]] = {}
    corpus = row.records[0].cell["corpus"]
    for path, record in zip(row.paths, row.records, strict=True):
        name = name_of(record.cell)
        if record.status == "ok" and "rouge1" in record.metrics and record.cell["corpus"] == corpus and name not in by_name:
            by_name[name] = _samples(path, record)
    if not by_name:
        return _nothing_yet()
    scripts = {script.id: script for script in talks.scripts(corpus, row.records[0].cell["split"])}

    def spread(identity: str) -> int:
        stated = [samples[identity]["right"] - samples[identity]["made_up"] for samples in by_name.values()]
        return max(stated) - min(stated)

    shared = [identity for identity in scripts if all(identity in samples for samples in by_name.values())]
    if position >= len(shared):
        return _nothing_yet()
    identity = sorted(shared, key=lambda identity: (-spread(identity), identity))[position]
    script, lexicon = scripts[identity], talks.lexicon(corpus)
    lines = [["said", html.escape(script.transcript), ""]]
    lines += [
        [f"heard: {html.escape(name)}", html.escape(rows[identity]["heard"]), ""] for name, rows in by_name.items() if "heard" in rows[identity]
    ]
    for name, summary in {"reference": script.summary, **{name: rows[identity]["summary"] for name, rows in by_name.items()}}.items():
        pieces, missed = summaries.marked(summary, script.facts, lexicon)
        text = "".join(_MARKUP[mark].format(html.escape(piece)) for piece, mark in pieces)
        lines.append([html.escape(name), text, html.escape(", ".join(f"{kind}: {value}" for kind, value in missed))])
    legend = '<span class="asum-right">right</span>, <span class="asum-beside">true, but not in the reference</span>, <mark>made up</mark>'
    return _table(["", "", "missed"], lines, f"Talk {html.escape(identity)}. Facts: {legend}.")


def _samples(path: Path, record: records.Record) -> dict[str, dict]:
    return {sample["id"]: sample for sample in records.samples_of(record, path)}
