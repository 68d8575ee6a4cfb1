"""How the ROUGE tables are shown: tables as HTML, figures as SVG with a text alternative. Measures nothing, types no figure."""

import html
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.measure import stats
from asum_lib.models.two_bits import SIMULATED
from asum_lib.paths import RESULTS
from asum_lib.study import records, text_tables
from asum_lib.study.cells import LOFTQ
from asum_lib.study.render import MARKERS, METHOD_NAMES, STATUS_LETTERS, _link, _nothing_yet, _record_link, _signed, in_language, interactive
from asum_lib.study.tables import Row
from asum_lib.study.text_cells import CANDIDATES, RANK, RANKS, RATES_TABLE, SEARCHED, SYSTEMS, TARGETS

SYSTEM_NAMES = {"lead3": "Lead-3", "textrank": "TextRank", "oracle": "extractive oracle"}
METRIC_NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "rouge1_default": "ROUGE-1, English tokenizer",
    "chrf": "chrF",
    "bleu": "BLEU",
    "fact_recall": "facts stated, %",
    "made_up": "facts made up in 100 summaries",
    "novelty": "novel bigrams, %",
    "length": "words",
}
MODEL_NAMES = {"t5": "T5", "mbart": "mBART"}
COLOURS = {"none": "#000000", "full": "#009E73", "lora": "#D55E00", "adalora": "#0072B2", "adalora-inactive": "#CC79A7"}  # Okabe and Ito
COLOURS |= {"loftq": "#E69F00", "loftq-5": "#56B4E9"}
KEPT_TICKS = (3e4, 1e5, 3e5, 1e6)
MAIN = [  # the rows of a main table: the keys of `text_tables.find`
    {"method": "none"},
    {"method": "full"},
    {"method": "lora"},
    {"method": "adalora"},
    {"method": "adalora-inactive"},
    {"method": "lora", "precision": "int8"},
    {"method": "lora", "precision": "int4"},
    {"method": "lora", "targets": "all-linear"},
    {"method": "adalora", "targets": "all-linear"},
]


def name_of(cell: dict) -> str:
    """`LoRA, rank 16`; what differs from full precision and the attention projections is named."""
    if cell["model"] in SYSTEM_NAMES:
        return SYSTEM_NAMES[cell["model"]]
    parts = [METHOD_NAMES[cell["method"]] or "not fine-tuned"]
    if cell["rank"]:
        parts.append(f"rank {cell['rank']}")
    if cell["targets"] == TARGETS[1]:
        parts.append("all linear layers")
    if cell["precision"] != "fp32":
        parts.append(cell["precision"])
    if cell["learning_rate"] is not None:
        parts.append(f"rate {cell['learning_rate']:g}")
    return ", ".join(parts)


def main_table(
    table: str,
    metrics: Sequence[str] = text_tables.PAPERS_METRICS,
    scale: str = "mini",
    results: Path = RESULTS,
    configurations: Sequence[dict] = MAIN,
) -> object:
    """Systems and methods by model and metric, ours above the paper's; the best adapted row of a model and what ties with it are marked."""
    from IPython.display import HTML

    found = text_tables.planned_rows(table, scale, results)
    pairs = list(dict.fromkeys((row.cell["corpus"], row.cell["model"]) for row in found if row.cell["model"] not in SYSTEMS))
    body = []
    for corpus in dict.fromkeys(corpus for corpus, _ in pairs):
        body += [
            _line(name, text_tables.find(found, corpus, system, precision=None), metrics, scale, results) for system, name in SYSTEM_NAMES.items()
        ]
        for model in (model for known, model in pairs if known == corpus):
            body.append(f'<tr><th colspan="{1 + len(metrics)}">{MODEL_NAMES[model]}</th></tr>')
            rows = [row for row in (text_tables.find(found, corpus, model, **cell) for cell in configurations) if row]
            marks = _marks(rows, metrics)
            body += [_line(name_of(row.cell), row, metrics, scale, results, marks[number]) for number, row in enumerate(rows)]
    head = "".join(f"<th>{METRIC_NAMES[metric]}</th>" for metric in metrics)
    caption = "95 % intervals over documents and seeds. ★ highest of its model; = a tie with it (paired, Holm-corrected within model and column)."
    if table.startswith(("rouge_gazeta", "rouge_wikihow")):
        caption += " In italics the paper's figure: s from a secondary source; ? not in the sources at hand."
        caption += " Only LoRA's on Gazeta is tied to a model and a rank."
    return HTML(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><caption>{caption}</caption>'
        f"<tr><th></th>{head}</tr>{''.join(body)}</table></div>"
    )


def _marks(rows: list[Row], metrics: Sequence[str]) -> list[dict[str, str]]:
    """For each row {metric: ★, = or nothing} among the rows that were measured."""
    marks: list[dict[str, str]] = [{} for _ in rows]
    for metric in metrics:
        there = [number for number, row in enumerate(rows) if row.measured]
        if metric in text_tables.CORPUS_METRICS or len(there) < 2 or text_tables.MEASURES[metric].better != "higher":
            continue
        best = max(there, key=lambda number: text_tables.interval(rows[number], metric)[0])
        others = [number for number in there if number != best]
        corrected = stats.holm([text_tables.difference(rows[number], rows[best], metric).p for number in others])
        marks[best][metric] = "★"
        for number, p in zip(others, corrected, strict=True):
            marks[number][metric] = "=" if p >= 1 - stats.LEVEL else ""
    return marks


def _line(name: str, row: Row | None, metrics: Sequence[str], scale: str, results: Path, marks: dict[str, str] | None = None) -> str:
    cells = "".join(_cell(row, metric, scale, results, (marks or {}).get(metric, "")) for metric in metrics)
    return f"<tr><th>{html.escape(name)}</th>{cells}</tr>"


def _cell(row: Row | None, metric: str, scale: str, results: Path, mark: str) -> str:
    if row is None:
        return "<td></td>"
    shown = text_tables.as_object(row, metric, scale, Path(results))
    if shown["value"] is None:
        ours = f'<span title="{html.escape(shown["reason"] or "")}">{shown["status"]}</span>'
    else:
        value = _record_link(shown, f"{shown['value']:.1f}")
        ours = f"{value} {mark}<br><small>{shown['lo']:.1f} to {shown['hi']:.1f}</small>"
    paper = ""
    if shown["paper_status"] is not None:
        known = "?" if shown["paper"] is None else f"{shown['paper']:g} {STATUS_LETTERS[shown['paper_status']]}"
        paper = f'<br><em title="{html.escape(shown["paper_source"] or "")}">{known}</em>'
    return f"<td>{ours}{paper}</td>"


def plot_ranks(metric: str = "rouge1", scale: str = "mini", results: Path = RESULTS) -> object:
    """A metric against the rank kept, one panel a corpus and model, with full fine-tuning as a level."""
    pairs = text_tables.combinations(scale)
    every = _planned(scale, results)
    if not any(row.measured for row in every if row.cell["rank"]):
        return _nothing_yet()
    figure, axes = figures.panels(len(pairs), width_in=3.4, sharey=False)
    said = []
    for axis, (corpus, model) in zip(axes, pairs, strict=True):
        for method in ("lora", "adalora"):
            line = [(rank, text_tables.find(every, corpus, model, method=method, rank=rank)) for rank in RANKS]
            line = [(rank, text_tables.interval(row, metric)) for rank, row in line if row and row.measured]
            if line:
                x, y = [rank for rank, _ in line], [value for _, (value, _, _) in line]
                spread = [[value - lo for _, (value, lo, _) in line], [hi - value for _, (value, _, hi) in line]]
                axis.errorbar(x, y, yerr=spread, capsize=2, label=METHOD_NAMES[method], color=COLOURS[method], marker=MARKERS[method], markersize=4)
                said.append(f"{corpus} {MODEL_NAMES[model]} {METHOD_NAMES[method]} " + ", ".join(f"{a} {b:.1f}" for a, b in zip(x, y, strict=True)))
        row = text_tables.find(every, corpus, model, method="full")
        if row and row.measured:
            axis.axhline(text_tables.interval(row, metric)[0], color=COLOURS["full"], linestyle="--", linewidth=1, label=METHOD_NAMES["full"])
        axis.set_xscale("log", base=2)
        axis.set_xticks(RANKS, RANKS)
        axis.set(title=f"{MODEL_NAMES[model]}, {corpus}", xlabel="rank kept", ylabel=METRIC_NAMES[metric] if axis is axes[0] else None)
    figures.legend(figure, axes)
    return figures.show(figure, f"{METRIC_NAMES[metric]} by rank: " + "; ".join(said) + ".")


def plot_parameters(metric: str = "rouge1", scale: str = "mini", results: Path = RESULTS) -> object:
    """A metric against the trained numbers that the finished model keeps; the upper left is better."""
    pairs = text_tables.combinations(scale)
    every = _planned(scale, results)
    if not any(row.measured for row in every if row.cell["rank"]):
        return _nothing_yet()
    figure, axes = figures.panels(len(pairs), width_in=3.4, sharey=False)
    said = []
    for axis, (corpus, model) in zip(axes, pairs, strict=True):
        here = [row for row in every if (row.cell["corpus"], row.cell["model"]) == (corpus, model) and row.measured and row.cell["method"] != "none"]
        here = [row for row in here if row.cell["precision"] not in SIMULATED and row.cell["method"] not in LOFTQ]  # they have a page of their own
        for (method, precision, targets), group in itertools.groupby(sorted(here, key=_kind), key=_kind):
            points = sorted((row.measured[0][1].params["kept"], *text_tables.interval(row, metric)) for row in group)
            x, y = [point[0] for point in points], [point[1] for point in points]
            spread = [[value - lo for _, value, lo, _ in points], [hi - value for _, value, _, hi in points]]
            label = ", ".join(
                part
                for part in (METHOD_NAMES[method], precision if precision != "fp32" else "", "all linear" if targets == TARGETS[1] else "")
                if part
            )
            filled = "none" if targets == TARGETS[1] or precision != "fp32" else COLOURS[method]
            axis.errorbar(
                x,
                y,
                yerr=spread,
                capsize=2,
                markersize=5,
                linewidth=0.8,
                label=label,
                color=COLOURS[method],
                marker=MARKERS[method],
                markerfacecolor=filled,
            )
            said.append(f"{corpus} {MODEL_NAMES[model]} {label} " + ", ".join(f"{a:,} kept {b:.1f}" for a, b in zip(x, y, strict=True)))
        axis.set_xscale("log")
        axis.set_xticks(KEPT_TICKS, [f"{tick / 1e3:g}k" for tick in KEPT_TICKS])
        axis.minorticks_off()
        axis.set(title=f"{MODEL_NAMES[model]}, {corpus}", xlabel="trained numbers kept", ylabel=METRIC_NAMES[metric] if axis is axes[0] else None)
    figures.legend(figure, axes)
    return figures.show(figure, f"{METRIC_NAMES[metric]} against kept trained parameters: " + "; ".join(said) + ".")


def _kind(row: Row) -> tuple[str, str, str]:
    return row.cell["method"], row.cell["precision"], row.cell["targets"] or ""


def _planned(scale: str, results: Path) -> list[Row]:
    """The planned rows of every corpus's table."""
    return [row for table in dict.fromkeys(_tables(scale)) for row in text_tables.planned_rows(table, scale, results)]


def _tables(scale: str) -> list[str]:
    return [name for name in text_tables.table_names(scale) if name not in (RATES_TABLE, text_tables.RANKS_TABLE)]


def plot_kept_ranks(corpus: str, model: str, rank: int = RANK, targets: str = TARGETS[0], scale: str = "mini", results: Path = RESULTS) -> object:
    """What AdaLoRA chose in the grid: the rank kept in every adapted module, mean over seeds, as a heat map of layers by projections."""
    every = _planned(scale, results)
    row = text_tables.find(every, corpus, model, method="adalora", rank=rank, targets=targets)
    return _heat_map([record for _, record in row.measured] if row else [])


def plot_kept_ranks_of(row) -> object:
    """The same for the first AdaLoRA configuration of a measured row (`peft_rouge.Row`)."""
    found = [record for record in row.records if record.cell["method"] == "adalora" and record.status == "ok"]
    return _heat_map([record for record in found if name_of(record.cell) == name_of(found[0].cell)])


def _heat_map(found: Sequence[records.Record]) -> object:
    if not found:
        return _nothing_yet()
    kept = [record.params["kept_ranks"] for record in found]
    means = {name: float(np.mean([one[name] for one in kept])) for name in kept[0]}
    places = {name: _place(name) for name in means}
    lines, columns = list(dict.fromkeys(line for line, _ in places.values())), list(dict.fromkeys(column for _, column in places.values()))
    grid = np.full((len(lines), len(columns)), np.nan)
    for name, (line, column) in places.items():
        grid[lines.index(line), columns.index(column)] = means[name]
    figure, (axis,) = figures.subplots()
    cell, adapter = found[0].cell, found[0].config["adapter"]
    start = adapter["init_r"]
    image = axis.imshow(grid, cmap="cividis", vmin=0, vmax=start, aspect="auto")
    for i, j in itertools.product(range(len(lines)), range(len(columns))):
        if not np.isnan(grid[i, j]):
            axis.text(j, i, f"{grid[i, j]:.1f}", ha="center", va="center", color="white" if grid[i, j] < start / 2 else "black", fontsize=8)
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(lines)), lines)
    axis.set_title(f"AdaLoRA, {MODEL_NAMES[cell['model']]} on {cell['corpus']}: rank kept of {start}, target {adapter['target_r']}")
    figure.colorbar(image, ax=axis, label="rank kept")
    said = "; ".join(f"{line} {column} {grid[lines.index(line), columns.index(column)]:.1f}" for line, column in places.values())
    return figures.show(figure, f"Rank that AdaLoRA kept by module, mean over {len(kept)} training runs: {said}.")


def _place(name: str) -> tuple[str, str]:
    """(layer, projection) of a module's name in T5 or mBART, in words."""
    parts = name.split(".")
    stack = "encoder" if "encoder" in parts else "decoder"
    layer = next(part for part in parts if part.isdigit())
    if "EncDecAttention" in parts or "encoder_attn" in parts:
        kind = "cross "
    elif "SelfAttention" in parts or "self_attn" in parts:
        kind = "self "
    else:
        kind = ""
    return f"{stack} {int(layer) + 1}", kind + parts[-1].removesuffix("_proj")


def traps(results: Path = RESULTS, scale: str = "mini") -> object:
    """What unequal treatment fakes: gaps to LoRA of rank 16 from more numbers kept, from a rate that suits one method, from an English tokenizer."""
    from IPython.display import HTML

    lines, found = [], _planned(scale, results)
    for corpus, model in text_tables.combinations(scale):
        fair = text_tables.find(found, corpus, model, method="lora")
        for what, cell in (
            ("AdaLoRA of equal kept rank", {"method": "adalora"}),
            ("AdaLoRA that never prunes: half as much rank again", {"method": "adalora-inactive"}),
            ("LoRA on all linear layers", {"method": "lora", "targets": TARGETS[1]}),
            ("LoRA of twice the rank", {"method": "lora", "rank": 2 * RANK}),
        ):
            row = text_tables.find(found, corpus, model, **cell)
            if not (row and row.measured and fair and fair.measured):
                continue
            gap, kept = text_tables.difference(row, fair, "rouge1"), row.measured[0][1].params["kept"] / fair.measured[0][1].params["kept"]
            lines.append((f"{MODEL_NAMES[model]}, {corpus}", what, f"{kept:.2f}×", f"{_signed(gap.value)} ({_signed(gap.lo)} to {_signed(gap.hi)})"))
        lines += _one_rate(corpus, model, scale, results)
        if fair and fair.measured and "rouge1_default" in fair.measured[0][1].metrics:
            value, other = text_tables.interval(fair, "rouge1"), text_tables.interval(fair, "rouge1_default")
            lines.append(
                (
                    f"{MODEL_NAMES[model]}, {corpus}",
                    "the same LoRA summaries under the English tokenizer",
                    "1×",
                    f"{value[0]:.1f} becomes {other[0]:.1f} ({other[1]:.1f} to {other[2]:.1f})",
                )
            )
    if not lines:
        return _nothing_yet()
    head = "".join(
        f"<th>{title}</th>" for title in ("model, corpus", "held against LoRA of rank 16", "numbers kept", "ROUGE-1, points (95 % interval)")
    )
    body = "".join("<tr>" + "".join(f'<td class="text">{html.escape(field)}</td>' for field in line) + "</tr>" for line in lines)
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table"><tr>{head}</tr>{body}</table></div>')


def _one_rate(corpus: str, model: str, scale: str, results: Path) -> list[tuple[str, str, str, str]]:
    """Lines of `traps`: AdaLoRA against LoRA where both have one and the same rate, the best of either, on dev."""
    found = text_tables.gather(RATES_TABLE, scale, results)

    def row(method: str, rate: float) -> Row | None:
        one = text_tables.find(found, corpus, model, method=method, learning_rate=rate)
        return one if one and one.measured else None

    lines = []
    for method in ("lora", "adalora"):
        value = {rate: text_tables.interval(row(method, rate), "rouge1")[0] for rate in CANDIDATES if row(method, rate)}
        if not value:
            continue
        rate = max(value, key=value.get)
        a, b = row("adalora", rate), row("lora", rate)
        if a and b:
            gap = text_tables.difference(a, b, "rouge1")
            what = f"AdaLoRA of equal kept rank, both at {METHOD_NAMES[method]}'s best rate of {rate:g} (dev documents, one seed)"
            lines.append((f"{MODEL_NAMES[model]}, {corpus}", what, "1.00×", f"{_signed(gap.value)} ({_signed(gap.lo)} to {_signed(gap.hi)})"))
    return lines


def rates_table(scale: str = "mini", results: Path = RESULTS) -> object:
    """Dev ROUGE-1 of every candidate learning rate by method; the chosen one is marked, and whether it lies at an end of the list."""
    from IPython.display import HTML

    found = text_tables.gather(RATES_TABLE, scale, results)
    lines = []
    for corpus, model in text_tables.combinations(scale):
        for method in SEARCHED:
            row_of = {rate: text_tables.find(found, corpus, model, method=method, learning_rate=rate) for rate in CANDIDATES}
            value_of = {rate: text_tables.interval(row, "rouge1")[0] for rate, row in row_of.items() if row and row.measured}
            best = max(value_of, key=value_of.get, default=None)
            cells = [f"{value_of[rate]:.1f}{' ★' if rate == best else ''}" if rate in value_of else "missing" for rate in CANDIDATES]
            edge = "at the end of the list" if best in (CANDIDATES[0], CANDIDATES[-1]) else ""
            lines.append([f"{MODEL_NAMES[model]}, {corpus}", METHOD_NAMES[method], *cells, edge])
    head = "".join(f"<th>{title}</th>" for title in ("model, corpus", "method", *(f"{rate:g}" for rate in CANDIDATES), ""))
    body = "".join("<tr>" + "".join(f"<td>{html.escape(field)}</td>" for field in line) + "</tr>" for line in lines)
    caption = "ROUGE-1 on dev documents, rank 16, seed 0. ★ the highest, taken for every cell of the method."
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table"><caption>{caption}</caption><tr>{head}</tr>{body}</table></div>')


def row_table(row) -> object:
    """The cells of one measured row (`peft_rouge.Row`), seed by seed."""
    from IPython.display import HTML

    lines = []
    for record in row.records:
        fields = [html.escape(name_of(record.cell)), record.cell["seed"] if record.cell["method"] != "none" else ""]
        if record.status == "ok":
            shown = [record.metrics[kind] for kind in text_tables.PAPERS_METRICS]
            fields += [f"{metric.value:.1f} <small>({metric.lo:.1f} to {metric.hi:.1f})</small>" for metric in shown]
            facts = [record.metrics.get(name) for name in ("fact_recall", "made_up")]
            fields += ["" if metric is None else f"{metric.value:.0f}" for metric in facts]
        else:
            fields += [html.escape(record.reason or record.status), "", "", "", ""]
        kept, trained_s = record.params["kept_rank_mean"], record.time_s["train"]
        fields += ["" if kept is None else f"{kept:g}", record.params["trainable"] or "", f"{trained_s:.0f}" if trained_s else ""]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    titles = ("", "seed", "ROUGE-1", "ROUGE-2", "ROUGE-L", "facts stated, %", "made up in 100", "kept rank", "trained", "training, s")
    head = "".join(f"<th>{title}</th>" for title in titles)
    notes = {record.config["checkpoint_note"] for record in row.records if record.config.get("checkpoint_note")}
    said = "".join(f"<caption>The checkpoint says of itself: {html.escape(note)}. Its scores mean nothing.</caption>" for note in sorted(notes))
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table">{said}<tr>{head}</tr>{"".join(lines)}</table></div>')


def plot_losses(row) -> object:
    """Dev loss by epoch, one line a configuration (mean over seeds)."""
    groups: dict[str, list[records.Record]] = {}
    for record in row.records:
        if len(record.history) > 1:
            groups.setdefault(name_of(record.cell), []).append(record)
    if not groups:
        return _nothing_yet()
    figure, (axis,) = figures.subplots()
    said = []
    for name, group in groups.items():
        epochs = [entry["epoch"] for entry in group[0].history]
        mean = np.mean([[entry["dev_loss"] for entry in record.history] for record in group], axis=0)
        method = group[0].cell["method"]
        axis.plot(epochs, mean, label=name, color=COLOURS[method], marker=MARKERS[method], markersize=4)
        said.append(f"{name} from {mean[0]:.2f} to {mean[-1]:.2f}")
    axis.set(xlabel="epoch", ylabel="dev loss, nats a token")
    axis.set_ylim(bottom=0)
    figures.legend(figure, [axis])
    return figures.show(figure, "Loss on held-out documents by epoch: " + "; ".join(said) + ".")


def samples(found: Sequence[tuple[Path, records.Record]], position: int = 0) -> object:
    """One document of the records' split as every configuration summarised it.

    Facts are marked right, true but beside the point, or made up; missed ones are listed.

    `position` counts from the document on which the configurations differ most in facts stated.
    """
    from IPython.display import HTML

    from asum_lib.corpora import texts
    from asum_lib.measure import summaries

    by_name, corpus, split = {}, None, None
    for path, record in found:
        name = name_of(record.cell)
        if record.status == "ok" and name not in by_name:
            by_name[name] = {sample["id"]: sample for sample in records.samples_of(record, path)}
            corpus, split = record.cell["corpus"], record.cell["split"]
    if not by_name or corpus not in texts.NAMES:
        return _nothing_yet()
    first = next(iter(by_name.values()))

    def spread(identity: str) -> int:
        stated = [rows[identity]["right"] - rows[identity]["made_up"] for rows in by_name.values()]
        return max(stated) - min(stated)

    identity = sorted(first, key=lambda identity: (-spread(identity), identity))[position]
    loaded, lexicon = texts.load_texts(corpus, split), texts.lexicon(corpus)
    document, language = next(document for document in loaded.documents if document.id == identity), loaded.language
    lines = [("reference", document.reference)] + [(name, rows[identity]["summary"]) for name, rows in by_name.items()]
    shown = []
    for name, summary in lines:
        pieces, missed = summaries.marked(summary, document.facts, lexicon)
        text = "".join(_MARKUP[kind].format(html.escape(piece)) for piece, kind in pieces)
        lost = in_language(", ".join(value for _, value in missed), language)
        shown.append(f'<tr><th>{html.escape(name)}</th><td class="text" lang="{language}">{text}</td><td class="text">{lost}</td></tr>')
    body = "".join(in_language(paragraph, language, "p") for paragraph in document.paragraphs)
    legend = '<span class="asum-right">right</span>, <span class="asum-beside">true, but not in the reference</span>, <mark>made up</mark>'
    return HTML(
        f"<details><summary>The document: {in_language(document.title, language)}</summary>{body}</details>"
        f'<div class="asum-scroll" tabindex="0"><table class="table"><caption>Facts: {legend}.</caption>'
        f"<tr><th></th><th>summary</th><th>missed</th></tr>{''.join(shown)}</table></div>"
    )


_MARKUP = {
    "plain": "{}",
    "right": '<span class="asum-right">{}</span>',
    "beside": '<span class="asum-beside">{}</span>',
    "made-up": "<mark>{}</mark>",
}


def sample_rows(corpus: str, model: str, scale: str = "mini", results: Path = RESULTS, position: int = 0) -> object:
    """`samples` of the main rows of a corpus and model, first seed each, extractive systems included."""
    every = _planned(scale, results)
    chosen = [text_tables.find(every, corpus, "lead3", precision=None)]
    chosen += [text_tables.find(every, corpus, model, **cell) for cell in MAIN[:4]]
    return samples([row.measured[0] for row in chosen if row and row.measured], position)


def all_cells(table: str, scale: str = "mini", results: Path = RESULTS) -> object:
    """Every cell of a table with all its metrics, sortable and searchable, each with links to its records."""
    lines = []
    for row in text_tables.gather(table, scale, results):
        objects = {
            shown["metric"]: shown for shown in (text_tables.as_object(row, metric, scale, Path(results)) for metric in text_tables.metrics_of(row))
        }
        first = next(iter(objects.values()))
        line = {"corpus": html.escape(row.cell["corpus"]), "model": MODEL_NAMES.get(row.cell["model"], "")}
        line["configuration"] = html.escape(name_of(row.cell))
        for metric, name in METRIC_NAMES.items():
            shown = objects.get(metric)
            line[name] = "" if shown is None or shown["value"] is None else f"{shown['value']:.1f} ({shown['lo']:.1f} to {shown['hi']:.1f})"
        line |= {
            "documents": first["n"],
            "seeds": len(first["seeds"]),
            "learning rate": "" if first["learning_rate"] is None else f"{first['learning_rate']:g}",
            "trained": first["trainable"],
            "kept": first["kept"],
            "kept rank": first["kept_rank_mean"],
            "status": html.escape(first["status"] if first["reason"] is None else f"{first['status']}: {first['reason']}"),
            "records": " ".join(_link(path, "s" + path.removesuffix(".json").rsplit("-s", 1)[1]) for path in first["records"]),
        }
        lines.append(line)
    return interactive(lines)


def findings(scale: str = "mini", results: Path = RESULTS) -> object:
    """What the tables say, in a few sentences made from their records."""
    from IPython.display import HTML

    every = _planned(scale, results)
    pairs = text_tables.combinations(scale)

    def row(pair: tuple[str, str], **cell) -> Row | None:
        found = text_tables.find(every, *pair, **cell)
        return found if found and found.measured else None

    def changes(text: str, a: dict, b: dict) -> str:
        there = [pair for pair in pairs if row(pair, **a) and row(pair, **b)]
        found = [text_tables.difference(row(pair, **a), row(pair, **b), "rouge1") for pair in there]
        ties = [", a tie" if p >= 1 - stats.LEVEL else "" for p in stats.holm([one.p for one in found])]
        said = [
            f"{_pair(pair)} {_signed(one.value)} ({_signed(one.lo)} to {_signed(one.hi)}{tie})"
            for pair, one, tie in zip(there, found, ties, strict=True)
        ]
        return f"<li>{text}: {'; '.join(said)}.</li>" if said else ""

    def levels(text: str, cell: dict) -> str:
        said = [f"{_pair(pair)} {text_tables.interval(row(pair, **cell), 'rouge1')[0]:.1f}" for pair in pairs if row(pair, **cell)]
        return f"<li>{text}: {', '.join(said)}.</li>" if said else ""

    items = [
        levels("ROUGE-1 before fine-tuning", {"method": "none"}),
        levels("After full fine-tuning", {"method": "full"}),
        changes("AdaLoRA against LoRA, both of rank 16, in points of ROUGE-1", {"method": "adalora"}, {"method": "lora"}),
        changes("AdaLoRA of rank 16 against full fine-tuning", {"method": "adalora"}, {"method": "full"}),
        changes("LoRA of rank 16 against full fine-tuning", {"method": "lora"}, {"method": "full"}),
        changes("LoRA of rank 64 against rank 4", {"method": "lora", "rank": 64}, {"method": "lora", "rank": 4}),
        changes("LoRA on int4 weights (QLoRA) against LoRA in full precision", {"method": "lora", "precision": "int4"}, {"method": "lora"}),
        changes("LoRA on int8 weights against LoRA in full precision", {"method": "lora", "precision": "int8"}, {"method": "lora"}),
    ]
    if not any(items):
        return _nothing_yet()
    trained = [found for found in every if found.measured and found.cell["method"] != "none"]
    counts = sorted({len(found.measured) for found in trained})
    steps = sorted({record.history[-1]["step"] for found in trained for _, record in found.measured if record.history})
    documents = sorted({record.metrics["rouge1"].n for found in every for _, record in found.measured})
    shown = [f"{' to '.join(map(str, dict.fromkeys((each[0], each[-1]))))}" for each in (counts, steps, documents)] if trained else []
    if shown:
        items.append(
            f"<li>{shown[0]} training runs of {shown[1]} steps a trained cell; {shown[2]} test documents. Ties are Holm-corrected within a line.</li>"
        )
    return HTML(f'<ul class="asum-findings">{"".join(items)}</ul>')


def _pair(pair: tuple[str, str]) -> str:
    return f"{MODEL_NAMES[pair[1]]} on {pair[0]}"


def calibration_table(results: Path = RESULTS) -> object:
    """The released model on Gazeta: published values, ours, and whether they agree by the rule of `text_calibration`."""
    from IPython.display import HTML

    from asum_lib.study import text_calibration

    lines = []
    for corpus in text_calibration.VERSIONS:
        found = text_calibration.calibration(corpus, results)
        for metric, (published, measured, lo, hi) in found.values.items():
            ours = "not measured" if measured is None else f"{measured:.1f} ({lo:.1f} to {hi:.1f})"
            lines.append(
                f"<tr><th>{corpus}</th><td>{METRIC_NAMES[metric]}</td><td>{published:g}</td><td>{ours}</td><td>{html.escape(found.state)}</td></tr>"
            )
    head = "".join(f"<th>{title}</th>" for title in ("corpus", "metric", "published (primary source)", "ours", "state"))
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table"><tr>{head}</tr>{"".join(lines)}</table></div>')


def setup_table(scale: str = "mini", results: Path = RESULTS) -> object:
    """What the cells of a corpus and model were trained with, from their records: documents, steps, and the rates that were chosen."""
    from IPython.display import HTML

    every = _planned(scale, results)
    lines = []
    for corpus, model in text_tables.combinations(scale):
        found = {method: text_tables.find(every, corpus, model, method=method) for method in SEARCHED}
        known = {method: row.measured[0][1] for method, row in found.items() if row and row.measured}
        if not known:
            continue
        first = next(iter(known.values()))
        training = first.config["training"]
        rates = ", ".join(f"{METHOD_NAMES[method]} {record.config['training']['learning_rate']:g}" for method, record in known.items())
        fields = [first.config["execution"]["train_documents"], training["epochs"], training["batch_size"], first.history[-1]["step"]]
        fields += [first.metrics["rouge1"].n, f"{first.params['total']:,}", rates]
        lines.append(f"<tr><th>{MODEL_NAMES[model]}, {corpus}</th>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    if not lines:
        return _nothing_yet()
    titles = ("", "training documents", "epochs", "batch", "steps", "test documents", "weights", "learning rates")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><tr>{head}</tr>{"".join(lines)}</table></div>')


def rank_or_rate(corpus: str = "howto-text", model: str = "t5", scale: str = "mini", results: Path = RESULTS) -> object:
    """LoRA at high ranks with the rate that was chosen at rank 16, and with another: cells beside the grid."""
    from IPython.display import HTML

    found = [row for table in _tables(scale) for row in text_tables.gather(table, scale, results)]
    beside = [row for row in found if (row.cell["corpus"], row.cell["model"]) == (corpus, model) and not row.planned_seeds and row.measured]
    lines = []
    for other in sorted((row for row in beside if row.cell["method"] == "lora" and row.cell["learning_rate"]), key=lambda row: row.cell["rank"]):
        chosen = text_tables.find(found, corpus, model, method="lora", rank=other.cell["rank"])
        if not (chosen and chosen.measured):
            continue
        change = text_tables.difference(other, chosen, "rouge1")
        fields = [str(other.cell["rank"])]
        for row in (chosen, other):
            value, lo, hi = text_tables.interval(row, "rouge1")
            rate = row.measured[0][1].config["training"]["learning_rate"]
            seeds = f"{len(row.measured)} seed{'s' if len(row.measured) > 1 else ''}"
            fields.append(f"{value:.1f} ({lo:.1f} to {hi:.1f}) at {rate:g}, {seeds}")
        lines.append([*fields, f"{_signed(change.value)} ({_signed(change.lo)} to {_signed(change.hi)})"])
    if not lines:
        return _nothing_yet()
    head = "".join(f"<th>{title}</th>" for title in ("rank", "ROUGE-1 at the chosen rate", "at another", "other minus chosen"))
    body = "".join("<tr>" + "".join(f"<td>{html.escape(field)}</td>" for field in line) + "</tr>" for line in lines)
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><tr>{head}</tr>{body}</table></div>')
