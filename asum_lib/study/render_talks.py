"""How the tables on speech summarisation are shown: systems, what stands between cascade and end-to-end model, time and memory.

Measures nothing and types no figure. What errors of hearing cost is for `render_talk_errors`, prosody for `render_prosody`. HTML as in
`render`.
"""

import html
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from asum_lib import figures
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import talk_errors, talk_tables, text_tables
from asum_lib.study.render import METHOD_NAMES, _link, _nothing_yet, _record_link, interactive
from asum_lib.study.render_paper import _html
from asum_lib.study.render_rates import _interval, _table
from asum_lib.study.render_rouge import METRIC_NAMES as ROUGE_NAMES
from asum_lib.study.render_rouge import _marks
from asum_lib.study.tables import Row
from asum_lib.study.talk_cells import COST, E2E, IN_ROOMS, SIZE
from asum_lib.study.text_tables import MEASURES

MAIN = {"asr": SIZE, "precision": "int8", "method": "adalora"}  # what the cascade hears with where one Whisper is enough
SYSTEM_NAMES = {
    "reference": "upper bound: reads what was said",
    "oracle": "extractive oracle of what was said",
    "lead3": "Lead-3 of what was said",
    "textrank": "TextRank of what was said",
    "chance": "chance: the summary of another talk",
    "cascade": "cascade",
    "ladder": "transcripts of the WER table",
    "e2e": "end-to-end",
    "e2e-frames": "end-to-end with the talk's frames",
    "e2e-other-frames": "end-to-end with another talk's frames",
}
HEADINGS = {  # above the first row of a system
    "cascade": "Cascade, by what it hears with",
    "ladder": "The same text model on transcripts of the WER table: what Whisper wrote of the same sentences, heard one by one",
    "e2e": "End to end, without a transcript",
}
METRIC_NAMES = ROUGE_NAMES | {"step_right": "names the stressed step, %", "wer_pct": "WER of the transcript, %"}
METRIC_NAMES |= {
    "shown_recall": "task and tool stated, %",
    "unshown_recall": "person, place, opinion stated, %",
    "sentiment_recall": "opinion stated, %",
}
METRIC_NAMES |= {f"{kind}_recall": f"{kind} stated, %" for kind in ("task", "tool", "person", "place")}
SHOWN = ("rouge1", "rouge2", "rougeL", "fact_recall", "made_up", "wer_pct")
COMPARED = SHOWN[:-1]
BOTH = ("rouge1", "fact_recall")  # what is said in sentences and drawn
COSTS = {"ms": "time a talk, s", "weights_kb": "weights, MB", "peak_kb": "highest resident memory of a process, MB"}  # thousands of
COLOURS = {"reference": "#009E73", "ladder": "#56B4E9", "cascade": "#E69F00", "e2e": "#0072B2"}  # Okabe and Ito
# Boxes of the diagram: middle, width (0 where nothing works on it: `BARE_WIDTH` of text), text, whether it learns to summarise
BARE_WIDTH = 1.4
_HEARS = ((0.6, 0, "phrases", False), (2.9, 2.0, "Whisper's\nencoder", False))
_WRITES = ((12.0, 1.9, "T5 with\nAdaLoRA", True), (14.3, 0, "summary", False))
CASCADE = (*_HEARS, (5.8, 2.0, "Whisper's\ndecoder", False), (9.0, 0, "transcript", False), *_WRITES)
END_TO_END = (*_HEARS, (5.8, 2.0, "bridge", True), (9.0, 0, "vectors", False), *_WRITES)
MARKERS = {"reference": "*", "ladder": "o", "cascade": "s", "e2e": "D"}


def name_of(cell: dict) -> str:
    """`cascade, medium int8 + AdaLoRA`."""
    name = SYSTEM_NAMES.get(cell["system"], str(cell["system"]))
    if cell["asr"] is None or cell["system"] in ("both", *IN_ROOMS):
        return name
    method = METHOD_NAMES.get(cell["method"], str(cell["method"]))
    return f"{name}, {cell['asr']} {cell['precision']}" + (f" + {method}" if method else "")


def diagram() -> object:
    """Both systems as chains of boxes, what they share at the same place."""
    from matplotlib.patches import FancyBboxPatch

    figure, (axis,) = figures.subplots(width_in=7.5, height_in=2.7)
    axis.set(xlim=(0, 15), ylim=(-0.2, 4.4))
    axis.axis("off")
    for name, y, chain in (("cascade", 3.2, CASCADE), ("end-to-end", 0.9, END_TO_END)):
        axis.text(0, y + 0.78, name, fontweight="bold", fontsize=9, va="bottom")
        edges = []
        for x, width, text, learns in chain:
            style = {"facecolor": figures.COLOURS[4] if learns else "none", "edgecolor": "#333333", "linewidth": 0.8}
            if width:
                axis.add_patch(FancyBboxPatch((x - width / 2, y - 0.55), width, 1.1, boxstyle="round,pad=0.02", **style))
            axis.text(x, y, text, ha="center", va="center", fontsize=8, style="normal" if width else "italic")
            reach = (width or BARE_WIDTH) / 2 + 0.06
            edges.append((x - reach, x + reach))
        for (_, end), (start, _) in itertools.pairwise(edges):
            axis.annotate("", (start, y), (end, y), arrowprops={"arrowstyle": "->", "color": "#333333", "linewidth": 0.8})
    axis.text(0, -0.15, "In colour: what learns to summarise talks. An adapter is trained on the encoder beforehand, for both alike.", fontsize=8)
    said = "; ".join(
        f"{name}: " + ", then ".join(text.replace(chr(10), " ") + (" (learns)" if learns else "") for _, _, text, learns in chain)
        for name, chain in (("Cascade", CASCADE), ("End-to-end", END_TO_END))
    )
    return figures.show(figure, f"Two ways from a recording to a summary. {said}.")


def main_table(results: Path = RESULTS) -> object:
    """Every system by every metric; the best of those that hear a recording is marked, and what ties with it or with the upper bound."""
    found = sorted(_planned(E2E, results), key=lambda row: list(SYSTEM_NAMES).index(row.cell["system"]))
    if not any(row.measured for row in found):
        return _nothing_yet()
    hearing = [row for row in found if row.cell["system"] in ("cascade", "e2e")]
    marks = dict(zip(map(id, hearing), _marks(hearing, COMPARED), strict=True))
    level = _level_with(_main(found, "reference"), [row for row in found if row.cell["system"] != "reference"])
    body, systems = [], set()
    for row in found:
        system = row.cell["system"]
        if system in HEADINGS and system not in systems:
            body.append(f'<tr><th colspan="{len(SHOWN) + 5}">{HEADINGS[system]}</th></tr>')
        systems.add(system)
        body.append(_line(row, results, marks.get(id(row), {}), level.get(id(row), set())))
    head = "".join(f"<th>{title}</th>" for title in ("", *_head(SHOWN), "weights, MB", "trained", "talks", "seeds"))
    caption = (
        "95 % intervals over talks and seeds. ★ highest of the systems that hear a recording; = a tie with it; ° a tie with the upper bound "
        "(paired, Holm-corrected within the column). A figure leads to the first of its records. Weights: of all models of a system, "
        "quantisation state and adapters included. Trained: numbers that training has added to the checkpoints."
    )
    return _html(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><caption>{caption}</caption>'
        f"<tr>{head}</tr>{''.join(body)}</table></div>"
    )


def _head(metrics: Sequence[str]) -> list[str]:
    return [METRIC_NAMES[metric] for metric in metrics]


def _level_with(reference: Row | None, rows: Sequence[Row]) -> dict[int, set[str]]:
    """{id of a row: metrics in which it ties with the reference's}, Holm-corrected within a metric."""
    level: dict[int, set[str]] = {id(row): set() for row in rows}
    there = [row for row in rows if row.measured]
    for metric in COMPARED if reference and reference.measured else ():
        p_values = stats.holm([text_tables.difference(row, reference, metric).p for row in there])
        for row, p in zip(there, p_values, strict=True):
            if p >= 1 - stats.LEVEL:
                level[id(row)].add(metric)
    return level


def _line(row: Row, results: Path, marks: dict[str, str], level: set[str]) -> str:
    cells = [_value(row, metric, results, marks.get(metric, "") + ("°" if metric in level else "")) for metric in SHOWN]
    first = row.measured[0][1] if row.measured else None
    weights = first.memory_bytes["weights"] if first else None
    trained = first.params["trainable"] if first else None
    fields = ["" if not weights else f"{weights / 1e6:.2f}", "" if not trained else f"{trained:,}"]
    fields += [next(iter(first.metrics.values())).n if first else "", _seeds(row)]
    return f"<tr><th>{html.escape(name_of(row.cell))}</th>" + "".join(f"<td>{field}</td>" for field in (*cells, *fields)) + "</tr>"


def _value(row: Row, metric: str, results: Path, mark: str = "") -> str:
    """A value with its interval below, linked to its record; else what keeps it from being there. Nothing where a system has no such metric."""
    if row.measured and metric not in row.measured[0][1].metrics:
        return ""
    shown = talk_tables.as_object(row, metric, Path(results))
    if shown["value"] is None:
        return f'<span title="{html.escape(shown["reason"] or "")}">{shown["status"]}</span>'
    value = _record_link(shown, f"{shown['value']:.1f}")
    return f"{value} {mark}<br><small>{shown['lo']:.1f} to {shown['hi']:.1f}</small>"


def _seeds(row: Row) -> str:
    """How many seeds are measured; where some are not, why."""
    count = len(row.measured)
    if row.complete:
        return str(count)
    return f'<span title="{html.escape("; ".join(row.problems))}">{count}, {row.status}</span>'


def differences_table(results: Path = RESULTS) -> object:
    """End-to-end and cascade with the same Whisper against each other and against what they are to be held against, paired by talk."""
    found = _planned(E2E, results)
    if not any(row.measured for row in found):
        return _nothing_yet()
    lines = []
    for a, b in (("e2e", "cascade"), ("e2e", "reference"), ("cascade", "reference"), ("e2e", "lead3"), ("cascade", "lead3"), ("e2e", "chance")):
        left, right = _main(found, a), _main(found, b)
        name = f"{_short(a)} minus {_short(b)}"
        if not (left.measured and right.measured):
            lines.append([name, *[_absent(left, right)] * len(COMPARED), ""])
            continue
        differences = [text_tables.difference(left, right, metric) for metric in COMPARED]
        ties = [" =" if p >= 1 - stats.LEVEL else "" for p in stats.holm([one.p for one in differences])]
        fields = [f"{_interval(one)}{tie}" for one, tie in zip(differences, ties, strict=True)]
        lines.append([name, *fields, f"{_count(left)} and {_count(right)}"])
    count = next(_talks(row, "rouge1") for row in found if row.measured)
    caption = (
        f"Differences with 95 % interval, paired over {count} talks; the cascade hears with {SIZE} int8 + AdaLoRA, as the end-to-end model does. "
        "= a tie (Holm-corrected within the row). Of facts made up fewer are better."
    )
    return _table(["", *_head(COMPARED), "seeds"], lines, caption)


def _short(system: str) -> str:
    """`upper bound` of its whole name, `Lead-3` of another."""
    return SYSTEM_NAMES[system].partition(":")[0].removesuffix(" of what was said")


def _main(found: Sequence[Row], system: str) -> Row:
    """The one row of a planned system on which it is compared."""
    return talk_tables.find(found, system=system, **(MAIN if system in ("cascade", "e2e") else {}))


def _absent(*rows: Row) -> str:
    """`missing` or `failed`, with what is absent in the title."""
    absent = [row for row in rows if not row.measured]
    why = "; ".join(f"{name_of(row.cell)}: {problem}" for row in absent for problem in row.problems)
    return f'<span title="{html.escape(why)}">{absent[0].status}</span>'


def _count(row: Row) -> int:
    return len(row.measured)


def cost_table(results: Path = RESULTS) -> object:
    """Time a talk, weights and memory of both systems, their difference and their ratio."""
    row = talk_tables.find(_planned(COST, results), system="both")
    if not row.measured:
        return _html(f"<p>Not measured: {html.escape('; '.join(row.problems))}.</p>") if row.found else _nothing_yet()
    lines = []
    for name, title in COSTS.items():
        (_, a, over), (_, b, _) = (text_tables.values(row, f"{system}_{name}") for system in ("e2e", "cascade"))
        voices = text_tables.clusters(row)
        change = stats.contrast([(1, a - b)], over, voices)
        ratio = talk_errors.relation(a, b, voices)
        fields = [_thousandth(stats.ratio_interval(of, over, voices)) for of in (a, b)]
        lines.append([title, *fields, _thousandth((change.value, change.lo, change.hi), "+"), _thousandth([1e3 * one for one in ratio])])
    record, shown = row.measured[0][1], talk_tables.as_object(row, "e2e_ms", Path(results))
    links = ", ".join(_link(path, "s" + path.removesuffix(".json").rsplit("-s", 1)[1]) for path in shown["records"])
    caption = (
        f"{shown['n']} talks, seeds: {_seeds(row)}. 95 % intervals over voices and seeds of both systems together; where there is none, "
        f"all give the same. The highest memory of a seed is the median of {record.config.get('peak_runs', 1)} processes. "
        f"{html.escape(str(record.provenance['cpu']))}, {html.escape(str(record.provenance['threads']))} thread. Records: {links}."
    )
    return _table(["", "end-to-end", "cascade", "end-to-end minus cascade", "end-to-end over cascade"], lines, caption)


def _thousandth(interval: Sequence[float], sign: str = "") -> str:
    """A value of a thousand times the unit, with its interval unless that is nothing."""
    value, lo, hi = (f"{one / 1e3:{sign}.2f}" for one in interval)
    return value if lo == hi else f"{value}<br><small>{lo} to {hi}</small>"


def cost_findings(results: Path = RESULTS) -> object:
    """What the table of costs says of time and weights, in a sentence."""
    row = talk_tables.find(_planned(COST, results), system="both")
    if not row.measured:
        return _nothing_yet()
    said = []
    for name, what in (("ms", "time a talk"), ("weights_kb", "bytes of weights")):
        (_, a, _), (_, b, _) = (text_tables.values(row, f"{system}_{name}") for system in ("e2e", "cascade"))
        value, lo, hi = talk_errors.relation(a, b, text_tables.clusters(row))
        where = "less than" if hi < 1 else "more than" if lo > 1 else "not told from"
        interval = "" if f"{lo:.2f}" == f"{hi:.2f}" else f" ({lo:.2f} to {hi:.2f})"
        said.append(f"{value:.2f} times the cascade's {what}{interval}, {where} its own")
    return _html(f"<p>The end-to-end model takes {' and '.join(said)}.</p>")


def steps_table(results: Path = RESULTS) -> object:
    """What the end-to-end model learnt in each step, seed by seed, from its records."""
    row = _main(_planned(E2E, results), "e2e")
    if not row.measured:
        return _nothing_yet()
    lines = []
    for path, record in row.measured:
        rows = record.config["execution"]["rows"]
        bridge, epochs = [one for one in rows if "dev_wer_pct" in one], record.history
        seed = _link(os.path.relpath(path, Path(results).parent), f"seed {record.cell['seed']}")
        hears = f"{bridge[-1]['dev_wer_pct']:.1f} after {bridge[-1]['step']:,} steps" if bridge else ""
        losses = " ".join(f"{one['dev_loss']:.3f}" for one in epochs)
        scores = " ".join(f"{one['dev_rouge1']:.1f}" for one in rows if "dev_rouge1" in one)
        lines.append([seed, hears, losses, scores])
    titles = ["", "hearing: WER of the bridge's own reading of dev phrases, %", "both: loss on dev talks before, and after each epoch, nats a token"]
    titles.append("both: ROUGE-1 on dev talks, likewise")
    return _table(titles, lines, "One training run a seed. What is read off the bridge alone is the best token a state, without a language model.")


def rates_table(results: Path = RESULTS) -> object:
    """The rates that were tried for the last step, by their loss and ROUGE-1 on dev; made by `runs/e2e_choices.py`."""
    path = Path(results) / "e2e_choices.json"
    if not path.is_file():
        return _nothing_yet()
    tried = json.loads(path.read_text(encoding="utf-8"))["rows"]
    lines = []
    for row in sorted(tried, key=lambda row: -row["learning_rate"]):
        by_epoch = [" ".join(f"{one[key]:{form}}" for one in row["history"]) for key, form in (("dev_loss", ".3f"), ("dev_rouge1", ".1f"))]
        lines.append([_link("results/e2e_choices.json", f"{row['learning_rate']:g}"), *by_epoch, str(row["seed"])])
    titles = ["learning rate", "loss on dev talks before, and after each epoch, nats a token", "ROUGE-1 on dev talks, likewise", "seed"]
    return _table(titles, lines, "The last step by its learning rate, from the same aligned bridge; 25 dev talks, no interval.")


# In short --------------------------------------------------------------------------------------------------------------------


def findings(results: Path = RESULTS) -> object:
    """What the table of systems says, in a few sentences made from its records."""
    found = _planned(E2E, results)
    planned, measured = sum(len(row.planned_seeds) for row in found), sum(_count(row) for row in found)
    if not measured:
        return _nothing_yet()
    items = [f"{measured} of {planned} planned cells are measured."]
    rows = {system: _main(found, system) for system in ("reference", "cascade", "e2e", "lead3", "chance")}
    said = [f"{_short(system)} {_plain(row, 'rouge1')}" for system, row in rows.items() if row.measured]
    if said:
        items.append(f"ROUGE-1 (95 % interval): {', '.join(said)}.")
    if rows["cascade"].measured:
        items.append(f"The cascade hears with a WER of {_plain(rows['cascade'], 'wer_pct')} %.")
    for a, b in (("e2e", "cascade"), ("cascade", "reference"), ("e2e", "lead3")):
        if rows[a].measured and rows[b].measured:
            pair = [(metric, text_tables.difference(rows[a], rows[b], metric)) for metric in BOTH]
            told = "; ".join(f"{METRIC_NAMES[metric]} {_interval(one)}, {_judged(one)}" for metric, one in pair)
            items.append(f"{_short(a).capitalize()} minus {_short(b)}: {told}.")
    return _list(items)


def _judged(one: stats.Difference) -> str:
    return "a tie" if one.tie else "above" if one.value > 0 else "below"


def all_cells(table: str = E2E, results: Path = RESULTS) -> object:
    """Every cell of a table with all its metrics, sortable and searchable, with links to its records and the command that measures them."""
    lines = []
    for row in talk_tables.gather(table, results=results):
        shown = {metric: talk_tables.as_object(row, metric, Path(results)) for metric in talk_tables.metrics_of(row)}
        first = next(iter(shown.values()))
        line = {"system": html.escape(name_of(row.cell)), "corpus": html.escape(row.cell["corpus"])}
        for metric, one in shown.items():
            line[METRIC_NAMES.get(metric, f"{metric}, {MEASURES[metric].unit}")] = (
                "" if one["value"] is None else f"{one['value']:.1f} ({one['lo']:.1f} to {one['hi']:.1f})"
            )
        command = row.found[0][1].provenance["command"] if row.found else None
        line |= {
            "talks": first["n"],
            "seeds": len(first["seeds"]),
            "status": html.escape(first["status"] if first["reason"] is None else f"{first['status']}: {first['reason']}"),
            "records": " ".join(_link(path, "s" + path.removesuffix(".json").rsplit("-s", 1)[1]) for path in first["records"]),
            "command": f"<code>{html.escape(command)}</code>" if command else "",
        }
        lines.append(line)
    return interactive(lines)


def _planned(table: str, results: Path) -> list[Row]:
    return [row for row in talk_tables.gather(table, results=results) if row.planned_seeds]


def _talks(row: Row, metric: str) -> int | str:
    return row.measured[0][1].metrics[metric].n if row.measured else ""


def _plain(row: Row, metric: str) -> str:
    value, lo, hi = text_tables.interval(row, metric)
    return f"{value:.1f} ({lo:.1f} to {hi:.1f})"


def _list(items: Sequence[str]) -> object:
    return _html(f'<ul class="asum-findings">{"".join(f"<li>{item}</li>" for item in items)}</ul>')
