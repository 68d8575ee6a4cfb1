"""How summaries of speech at scale paper are shown: AMI's meetings, How2's calibration, and what a long text takes. Types no measured figure.

As in `render`, whose helpers are used here: everything is HTML, all text from records is escaped, and every value leads to its record.
"""

import html
from pathlib import Path

from asum_lib import papers
from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study import placing, speech_calibration, text_tables
from asum_lib.study.cells import LONG_TEXT
from asum_lib.study.render import _link, _nothing_yet, _record_link, _signed
from asum_lib.study.render_paper import STATE_COLOURS, _badge, _html, _list, _table
from asum_lib.study.render_rouge import METRIC_NAMES

MEETINGS = "rouge_ami"
METRICS = ("rouge1", "rouge2", "rougeL", "length")
SYSTEMS = {  # name: (as shown, what it is told of the reference)
    "lead3": ("Lead-3", "nothing"),
    "lead-length": ("Lead, to the reference's length", "its length"),
    "textrank": ("TextRank, 5 sentences", "nothing"),
    "textrank-length": ("TextRank, to the reference's length", "its length"),
    "oracle": ("extractive oracle, at most 5 sentences", "all of it"),
    "oracle-length": ("extractive oracle, any number", "all of it"),
}
COMPARED = (("textrank-length", "lead-length"), ("oracle", "textrank-length"), ("oracle-length", "oracle"))
PUBLISHED_NAMES = METRIC_NAMES | {"meteor": "METEOR", "bertscore": "BERTScore"}


def meetings_table(results: Path = RESULTS) -> object:
    """Every system on AMI's meetings: ROUGE and length with their intervals, the meetings scored, and what the system knows of the reference."""
    rows = _meetings(results)
    if not rows:
        return _nothing_yet()
    lines = []
    for row in rows:
        name, told = SYSTEMS.get(row.cell["model"], (row.cell["model"], ""))
        shown = {metric: text_tables.as_object(row, metric, "paper", Path(results)) for metric in METRICS}
        values = [_value(one) for one in shown.values()]
        lines.append([html.escape(name), html.escape(told), *values, shown["rouge1"]["n"] or "", html.escape(row.status)])
    titles = ("system", "told of the reference", *(METRIC_NAMES[metric] for metric in METRICS[:3]), "words", "meetings", "status")
    return _html(_table(titles, lines, "95 % intervals over meetings. Nothing is trained and nothing is drawn, so there is no seed."))


def meetings_findings(results: Path = RESULTS) -> object:
    """The systems of `COMPARED` held against each other, meeting by meeting."""
    rows = {row.cell["model"]: row for row in _meetings(results) if row.measured}
    items = []
    for a, b in COMPARED:
        if a in rows and b in rows:
            found = {metric: text_tables.difference(rows[a], rows[b], metric) for metric in METRICS[:3]}
            said = ", ".join(f"{METRIC_NAMES[metric]} {_signed(one.value)} ({_signed(one.lo)} to {_signed(one.hi)})" for metric, one in found.items())
            items.append(f"{SYSTEMS[a][0]} less {SYSTEMS[b][0]}: {said}")
    return _html(_list(items)) if items else _nothing_yet()


def how2_table(results: Path = RESULTS) -> object:
    """How2's published figures with their sources, ours beside them, and whether they agree by the rule of `speech_calibration`."""
    found, lines = speech_calibration.calibration(results), []
    path = speech_calibration.CELL.path(Path(results))
    for cell in papers.load("summarisation")["tables"]["how2_summaries"]["cells"]:
        metric, system = cell["cell"]["metric"], cell["cell"]["system"]
        if system != "end-to-end" or metric not in PUBLISHED_NAMES:
            continue
        _, value, lo, hi = found.values.get(metric, (None,) * 4)
        decides = metric in speech_calibration.DECIDING
        ours = "not measured here" if value is None else _link(_place(path, results), f"{value:.1f}") + f" ({lo:.1f} to {hi:.1f})"
        state = _badge(found.state, STATE_COLOURS) if decides else "shown, does not decide"
        lines.append([PUBLISHED_NAMES[metric], _published(cell), ours, state])
    above = papers.value("summarisation", "how2_summaries", system="end-to-end above its cascade", metric="rouge")
    heard = papers.value("summarisation", "how2", system="Conformer", metric="wer")
    lines.append(["end to end less its cascade, points of ROUGE", _published(above), "not measured here", "shown, does not decide"])
    lines.append(["WER of the recipe's recogniser, %", _published(heard), "not measured here", "shown, does not decide"])
    return _html(_table(("figure", "published", "ours (95 % interval)", "state"), lines, f"How2: {html.escape(found.reason)}."))


def long_text_table(results: Path = RESULTS) -> object:
    """What a meeting took by its length: parts, seconds, and the peak of memory above the loaded model. Random weights."""
    found = placing.load(results, "paper", LONG_TEXT)
    if not found:
        return _nothing_yet()
    lines = []
    for path, record in sorted(found, key=lambda entry: entry[1].metrics["words"].value if entry[1].metrics else 0):
        metrics, name = record.metrics, _link(_place(path, results), str(record.cell["document"]))
        if not metrics:
            lines.append([name, html.escape(record.reason or record.status), *[""] * 5])
            continue
        peak, seconds = metrics["summarize_peak_bytes"], metrics["summarize_s"]
        counts = [f"{metrics[key].value:,.0f}" for key in ("words", "parts", "longest_part_tokens")]
        took = f"{seconds.value:.1f} ({seconds.lo:.1f} to {seconds.hi:.1f})"
        memory = f"{peak.value / 1e6:,.0f} ({peak.lo / 1e6:,.0f} to {peak.hi / 1e6:,.0f})"
        lines.append([name, *counts, took, f"{seconds.value / metrics['parts'].value:.2f}", memory])
    titles = ("meeting", "words", "parts", "tokens of the longest", "seconds", "seconds a part", "peak above the model, MB")
    first = next((record for _, record in found if record.metrics), found[0][1])
    places = {f"{record.provenance['cpu']}, {record.provenance['threads']} threads" for _, record in found}
    decoding = first.config["decoding"]
    caption = f"Random weights, format check only: nothing here says anything on summaries. {html.escape(str(first.cell['model']))}, "
    caption += (
        f"parts of at most {decoding['max_source_tokens']} tokens, {decoding['batch_size']} at once, {decoding['max_new_tokens']} written for each. "
    )
    caption += f"Median of {first.config['repeats']} runs, each in a process of its own, with their lowest and highest. "
    caption += f"On {html.escape('; '.join(sorted(places)))}."
    return _html(_table(titles, lines, caption))


def _meetings(results: Path) -> list:
    """The rows of the meetings' table, known systems first, in the order of `SYSTEMS`."""
    try:
        rows = text_tables.gather(MEETINGS, "paper", Path(results))
    except InputError:  # no record of it
        return []
    order = list(SYSTEMS)
    return sorted(rows, key=lambda row: order.index(row.cell["model"]) if row.cell["model"] in order else len(order))


def _value(shown: dict) -> str:
    if shown["value"] is None:
        return ""
    value = _record_link(shown, f"{shown['value']:.1f}")
    return f"{value}<br><small>{shown['lo']:.1f} to {shown['hi']:.1f}</small>"


def _published(cell: dict) -> str:
    note = f"; {cell['note']}" if cell["note"] else ""
    return f'<span title="{html.escape(cell["source"] + note)}">{cell["value"]:g} ({html.escape(cell["status"])})</span>'


def _place(path: Path, results: Path) -> str:
    return f"{Path(results).name}/{path.relative_to(results).as_posix()}"
