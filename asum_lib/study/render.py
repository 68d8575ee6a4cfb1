"""How results are shown: tables as HTML that sorts without a kernel, figures as SVG with a text alternative.

Functions take rows of `study.tables` or records and return an object that a notebook cell shows. They measure nothing
and type no figure of their own. All text from data is escaped.
"""

import html
import itertools
import re
from pathlib import Path

from asum_lib import figures
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import records, tables
from asum_lib.study.cells import PAPER_CONFIGURATIONS, PAPER_RATE, PAPER_SIZES, SIZES

METHOD_NAMES = {"none": "", "lora": "LoRA", "adalora": "AdaLoRA", "adalora-inactive": "inactive AdaLoRA", "full": "full fine-tuning"}
METHOD_NAMES |= {"loftq": "LoftQ", "loftq-5": "LoftQ of 5 rounds"}
COLOURS = {  # Okabe and Ito's palette, told apart by the colour-blind; one colour a configuration on every page
    ("fp32", "none"): "#000000",
    ("bf16", "none"): "#999999",
    ("int8", "none"): "#56B4E9",
    ("int4", "none"): "#F0E442",
    ("fp4", "none"): "#CC79A7",
    ("int8", "adalora"): "#0072B2",
    ("int4", "adalora"): "#E69F00",
    ("fp32", "full"): "#009E73",
    ("int8", "adalora-inactive"): "#D55E00",
}
AT_PAPER_RATE = [(precision, method, PAPER_RATE) for precision, method in PAPER_CONFIGURATIONS]
AT_FULL_RATE = [(precision, method, "1") for precision, method in PAPER_CONFIGURATIONS]
BESIDE = [("int8", "none", None), ("int8", "adalora-inactive", PAPER_RATE), ("int8", "adalora", PAPER_RATE)]
OTHER_PRECISIONS = [(precision, "none", None) for precision in ("fp32", "bf16", "int8", "int4", "fp4")]
STATUS_LETTERS = {"primary": "p", "secondary": "s", "derived": "d", "unverified": "u"}
BYTES_TICKS_MB = (0.2, 0.5, 1, 2, 5, 10)
MARKERS = {"none": "o", "lora": "D", "adalora": "s", "adalora-inactive": "X", "full": "^", "loftq": "P", "loftq-5": "v"}


def configuration_name(cell: dict) -> str:
    """`int8 + AdaLoRA`; a rate other than the paper's is named: `int8 + AdaLoRA, rate 1`."""
    method = METHOD_NAMES[cell["method"]]
    name = f"{cell['precision']} + {method}" if method else cell["precision"]
    return name if cell["rate"] in (None, PAPER_RATE) else f"{name}, rate {cell['rate']}"


def scale_note(scale: str = "mini") -> object:
    """The banner that says which scale a page shows."""
    from IPython.display import HTML

    text = {
        "mini": "<strong>Scale: mini.</strong> Models trained from scratch by this project on data that it generates. "
        "Orderings, ratios and trends are put to the test; no figure of ours here is evidence on an absolute figure of the paper.",
        "paper": "<strong>Scale: paper.</strong> The published checkpoints on real corpora.",
    }[scale]
    return HTML(f'<div class="admonition note asum-scale"><p>{text}</p></div>')


def main_table(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS, configurations: list | None = None) -> object:
    """Sizes by configurations: our WER with interval, the paper's below it; the best of a size and its ties are marked.

    `configurations` are triples of precision, method and rate; the paper's six by default, `AT_FULL_RATE` and `BESIDE` are others.
    """
    from IPython.display import HTML

    configurations = configurations or AT_PAPER_RATE
    rows = tables.mark_ties(table, scale, results, configurations)
    keys = [(precision, method, None if method == "none" else rate) for precision, method, rate in configurations]
    found = {tuple(row["cell"][key] for key in ("size", "precision", "method", "rate")): row for row in rows}
    sizes = [size for size in PAPER_SIZES if any(key[0] == size for key in found)]
    keys = [key for key in keys if any((size, *key) in found for size in sizes)]
    head = "".join(f"<th>{configuration_name({'precision': p, 'method': m, 'rate': r})}</th>" for p, m, r in keys)
    body = "".join(f"<tr><th>{size}</th>{''.join(_main_cell(found.get((size, *key))) for key in keys)}</tr>" for size in sizes)
    over = tables.intervals_over(tables.planned_rows(table, scale, results))
    caption = f"WER in per cent with 95 % interval {html.escape(over)}."
    caption += " ★ lowest of its row; = a tie with it (paired, Holm-corrected within the row)."
    if any(found.get((size, *key), {}).get("paper_status") for size in sizes for key in keys):
        caption += " In italics the paper's figure: s from a secondary source, d derived from one; ? not in the sources at hand."
    style = 'class="table asum-main"'
    return HTML(f'<div class="asum-scroll" tabindex="0"><table {style}><caption>{caption}</caption><tr><th>size</th>{head}</tr>{body}</table></div>')


def _main_cell(row: dict | None) -> str:
    if row is None:
        return "<td></td>"
    mark = "★" if row["best_of_size"] else "=" if row["tie_with_best"] else ""
    if row["value"] is None:
        reason = html.escape(row["reason"] or "")
        ours = f'<span title="{reason}">{row["status"]}</span>'
    else:
        value = _record_link(row, f"{row['value']:.1f}")
        ours = f"{value} {mark}<br><small>{row['lo']:.1f} to {row['hi']:.1f}</small>"
    paper = ""
    if row["paper_status"] is not None:
        known = "?" if row["paper"] is None else f"{row['paper']:g} {STATUS_LETTERS[row['paper_status']]}"
        source = html.escape(row["paper_source"] or "")
        paper = f'<br><em title="{source}">{known}</em>'
    return f"<td>{ours}{paper}</td>"


def all_cells(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS) -> object:
    """Every cell of a table, sortable and searchable, each with links to its records and the command that measures it."""
    lines = []
    for row in tables.rows(table, scale, results):
        cell = row["cell"]
        lines.append(
            {
                "size": f"<span hidden>{PAPER_SIZES.index(cell['size']):02d}</span>{cell['size']}",
                "configuration": html.escape(configuration_name(cell)),
                "WER, %": None if row["value"] is None else round(row["value"], 2),
                "from": None if row["lo"] is None else round(row["lo"], 2),
                "to": None if row["hi"] is None else round(row["hi"], 2),
                "utterances": row["n"],
                "seeds": len(row["seeds"]),
                "weights, kB": None if row["weights_bytes"] is None else round(row["weights_bytes"] / 1e3, 1),
                "trainable": row["trainable"],
                "kept rank": row["kept_rank_mean"],
                "paper, %": "" if row["paper"] is None else f"{row['paper']:g} ({row['paper_status']})",
                "status": html.escape(row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"),
                "records": " ".join(_link(path, "s" + path.removesuffix(".json").rsplit("-s", 1)[1]) for path in row["records"]),
                "command": f"<code>{html.escape(_command(row, results))}</code>",
            }
        )
    return interactive(lines)


def interactive(lines: list[dict]) -> object:
    """Lines as a table that a reader sorts and searches, without a kernel or the network; columns that are empty throughout are left out.

    The values are HTML: the caller escapes what comes from data.
    """
    import pandas as pd
    from IPython.display import HTML
    from itables import init_notebook_mode, options, to_html_datatable

    init_notebook_mode(all_interactive=False, connected=False)
    options.warn_on_undocumented_option = False
    frame = pd.DataFrame(lines).astype(object).where(lambda shown: shown.notna(), "")
    shown = to_html_datatable(
        frame.loc[:, (frame != "").any()],
        allow_html=True,
        showIndex=False,
        paging=False,
        scrollX=True,
        scrollY="32em",
        scrollCollapse=True,
        connected=False,
        text_in_header_can_be_selected=False,  # a click anywhere in a header sorts, not on its small arrow alone
    )
    return HTML(shown)


def _command(row: dict, results: Path) -> str:
    """The command that measures all of the row's seeds: its first record's, with every seed."""
    if not row["records"]:
        return ""
    command = records.read(Path(results).parent / row["records"][0]).provenance["command"] or ""
    return re.sub(r"seeds=\[\d+\]", f"seeds={row['seeds']}", command)


def in_language(text: str, language: str, tag: str = "span") -> str:
    """A text as an element that says its language, so that it is read out as Russian where it is."""
    return f'<{tag} lang="{html.escape(language)}">{html.escape(text)}</{tag}>'


def _link(path: str, text: str) -> str:
    """A link to a record as the built book carries it: `results` lies at the site's root, every page one level below."""
    return f'<a href="../{html.escape(path)}">{html.escape(text)}</a>'


def _record_link(row: dict, text: str) -> str:
    return _link(row["records"][0], text) if row["records"] else html.escape(text)


def row_table(row) -> object:
    """The cells of one measured row (`whisper_quant.Row`), seeds pooled."""
    from IPython.display import HTML

    lines = []
    for group in _by_configuration(row):
        cell, metrics = group[0][1].cell, [record.metrics.get("wer_pct") for _, record in group]
        if None in metrics:
            wer = html.escape("; ".join(record.reason for _, record in group if record.reason))
        else:
            value, lo, hi = tables.interval(group)
            wer = f"{value:.1f} ({lo:.1f} to {hi:.1f})"
        first = group[0][1]
        kept = first.params["kept_rank_mean"]
        train_s = sum(record.time_s["train"] or 0 for _, record in group) / len(group)
        weights = first.memory_bytes["weights"]
        fields = [html.escape(configuration_name(cell)), wer, len(group), "" if weights is None else f"{weights / 1e3:,.0f}"]
        fields.append(first.params["trainable"] or "")
        fields += ["" if kept is None else f"{kept:.1f}", f"{train_s:.0f}" if train_s else ""]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    head = "".join(
        f"<th>{title}</th>" for title in ("configuration", "WER, % (95 % interval)", "seeds", "weights, kB", "trained", "kept rank", "training, s")
    )
    notes = {record.config["checkpoint_note"] for record in row.records if record.config.get("checkpoint_note")}
    said = "".join(f"<caption>The checkpoint says of itself: {html.escape(note)}. Its error rates mean nothing.</caption>" for note in sorted(notes))
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table">{said}<tr>{head}</tr>{"".join(lines)}</table></div>')


def _by_configuration(row) -> list[list]:
    groups: dict[str, list] = {}
    for path, record in zip(row.paths, row.records, strict=True):
        groups.setdefault(configuration_name(record.cell), []).append((path, record))
    return list(groups.values())


def example(row, position: int = 0) -> object:
    """One test utterance as each configuration of the row wrote it, wrong words marked.

    `position` counts from the utterance on which the configurations differ most.
    """
    from IPython.display import HTML

    by_name = {}
    for group in _by_configuration(row):
        if group[0][1].status == "ok":
            by_name[configuration_name(group[0][1].cell)] = {s["id"]: s for s in records.read_samples(group[0][0]) if s["split"] == "test"}

    def spread(identity):
        errors = [sum(rows[identity][kind] for kind in ("substitutions", "insertions", "deletions")) for rows in by_name.values()]
        return max(errors) - min(errors)

    identity = sorted(next(iter(by_name.values())), key=lambda identity: (-spread(identity), identity))[position]
    reference = next(iter(by_name.values()))[identity]["reference"]
    lines = [f"<tr><th>spoken</th><td>{html.escape(reference)}</td></tr>"]
    lines += [f"<tr><th>{html.escape(name)}</th><td>{_marked(reference, rows[identity]['hypothesis'])}</td></tr>" for name, rows in by_name.items()]
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table">{"".join(lines)}</table></div>')


def _marked(reference: str, hypothesis: str) -> str:
    """The hypothesis with substituted and inserted words in <mark> and deleted ones struck out."""
    import jiwer

    if not reference.split() or not hypothesis.split():
        return f"<mark>{html.escape(hypothesis)}</mark>"
    output = jiwer.process_words(reference, hypothesis)
    parts = []
    for chunk in output.alignments[0]:
        spoken = " ".join(output.references[0][chunk.ref_start_idx : chunk.ref_end_idx])
        written = " ".join(output.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type == "equal":
            parts.append(html.escape(written))
        elif chunk.type == "delete":
            parts.append(f"<del>{html.escape(spoken)}</del>")
        else:
            parts.append(f'<mark title="spoken: {html.escape(spoken)}">{html.escape(written)}</mark>')
    return " ".join(parts)


def curves(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS, rates: tuple[str, ...] = (PAPER_RATE,)) -> object:
    """`plot_curves` of a table's planned cells that have a colour, those of the paper and beside them, at some rates."""
    planned = tables.planned_rows(table, scale, results)
    trained = [row for row in planned if row.cell["rate"] in rates and (row.cell["precision"], row.cell["method"]) in COLOURS]
    return plot_curves([entry for row in trained for entry in row.measured], f"Trained at rate {' and '.join(rates)}.")


def plot_curves(found: list[tuple[Path, records.Record]], title: str = "") -> object:
    """Dev WER by epoch, one line a configuration (mean over seeds, each seed as a thin line)."""
    groups: dict[tuple, list] = {}
    for _, record in found:
        if len(record.history) > 1:
            groups.setdefault((record.cell["size"], configuration_name(record.cell)), []).append(record)
    if not groups:
        return _nothing_yet()
    sizes = [size for size in PAPER_SIZES if any(key[0] == size for key in groups)]
    figure, axes = figures.panels(len(sizes))
    said = []
    for axis, size in zip(axes, sizes, strict=True):
        for (group_size, name), group in groups.items():
            if group_size != size:
                continue
            cell = group[0].cell
            style = {"color": COLOURS.get((cell["precision"], cell["method"]), "#555555"), "linestyle": "-" if cell["rate"] == PAPER_RATE else "--"}
            epochs = [entry["epoch"] for entry in group[0].history]
            curves = [[entry["dev_wer_pct"] for entry in record.history] for record in group]
            for curve in curves:
                axis.plot(epochs, curve, linewidth=0.5, alpha=0.5, **style)
            mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
            axis.plot(epochs, mean, marker=MARKERS[cell["method"]], markersize=4, label=name, **style)
            said.append(f"{size} {name} from {mean[0]:.1f} to {mean[-1]:.1f}")
        axis.set(title=size, xlabel="epoch", ylabel="dev WER, %" if axis in axes[::3] else None)
        axis.set_ylim(bottom=0)
    figures.legend(figure, axes)
    return figures.show(figure, f"{title} Dev word error rate by epoch in per cent: " + "; ".join(said) + ".")


def ladder_table(scale: str = "mini", results: Path = RESULTS) -> object:
    """The sizes before any adaptation: parameters, WER on the source and the target test set, and the step from the next smaller size."""
    from IPython.display import HTML

    def zero_shot(table):
        return {key[0]: pair for key, pair in _measured(table, scale, results).items() if key[1:] == ("fp32", "none", None)}

    source, target = zero_shot("whisper_source"), zero_shot("whisper_wer")
    steps = dict(zip(list(target)[1:], _differences([(target[b][0], target[a][0]) for a, b in itertools.pairwise(target)]), strict=True))
    lines = []
    for size, (row, shown) in target.items():
        fields = [
            f"{row.measured[0][1].params['total'] / 1e6:.2f} M",
            _value_link(source[size][1]) if size in source else "missing",
            _value_link(shown),
        ]
        lines.append(f"<tr><th>{size}</th>" + "".join(f"<td>{field}</td>" for field in [*fields, steps.get(size, "")]) + "</tr>")
    titles = ("size", "parameters", "source, WER %", "target, WER %", "step on the target, points")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table">{"<tr>" + head + "</tr>"}{"".join(lines)}</table></div>')


def _measured(table: str, scale: str, results: Path) -> dict[tuple, tuple]:
    """{(size, precision, method, rate): (row, its object)} of the planned cells that have a value."""
    pairs = zip(tables.planned_rows(table, scale, results), tables.rows(table, scale, results, planned_only=True), strict=True)
    return {tuple(row.cell[key] for key in ("size", "precision", "method", "rate")): (row, shown) for row, shown in pairs if row.measured}


def _differences(pairs: list[tuple]) -> list[str]:
    """`+1.2 (+0.3 to +2.0)` for each pair of rows, first minus second in points; a tie by Holm's correction over all pairs is marked."""
    found = [tables.difference(a, b) for a, b in pairs]
    corrected = stats.holm([difference.p for difference in found])
    ties = [", a tie" if p >= 1 - stats.LEVEL else "" for p in corrected]
    return [f"{_signed(d.value)} ({_signed(d.lo)} to {_signed(d.hi)}{tie})" for d, tie in zip(found, ties, strict=True)]


def _signed(points: float) -> str:
    return f"{round(points, 1) + 0:+.1f}"  # + 0 turns -0.0 into 0.0


def _value_link(row: dict) -> str:
    return _record_link(row, f"{row['value']:.1f}") + f" ({row['lo']:.1f} to {row['hi']:.1f})"


def overlap() -> object:
    """How many distinct test sentences of `howto` a model has met word for word in training, in other takes."""
    from IPython.display import HTML

    from asum_lib.corpora import howto

    def sentences(domain, split):
        return {sentence for document in howto.documents(domain, split) for sentence in document.sentences}

    test = sentences("target", "test")
    shares = [
        f"{100 * len(test & sentences(domain, 'train')) / len(test):.0f} % in the {domain} domain's training talks" for domain in ("source", "target")
    ]
    return HTML(f"<p>Of {len(test)} distinct sentences of the target test set, {' and '.join(shares)} occur word for word, in other takes.</p>")


def plot_ladder(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS, rate: str = PAPER_RATE) -> object:
    """WER by size, one line a configuration of the paper, with 95 % intervals; beside it the paper's own figures."""
    rows = [r for r in tables.rows(table, scale, results, planned_only=True) if (r["cell"]["precision"], r["cell"]["method"]) in PAPER_CONFIGURATIONS]
    rows = [r for r in rows if r["cell"]["rate"] in (None, rate)]
    paper = [row for row in rows if row["paper"] is not None]
    figure, axes = figures.panels(1 + bool(paper), width_in=4.6)
    said = []
    for precision, method in PAPER_CONFIGURATIONS:
        line = [r for r in rows if (r["cell"]["precision"], r["cell"]["method"]) == (precision, method)]
        style = {"color": COLOURS[precision, method], "marker": MARKERS[method], "markeredgecolor": "#333333", "markeredgewidth": 0.5}
        measured = [row for row in line if row["value"] is not None]
        if measured:
            name = configuration_name(measured[0]["cell"])
            x, y = [SIZES.index(row["cell"]["size"]) for row in measured], [row["value"] for row in measured]
            spread = [[row["value"] - row["lo"] for row in measured], [row["hi"] - row["value"] for row in measured]]
            axes[0].errorbar(x, y, yerr=spread, capsize=2, label=name, **style)
            said.append(name + " " + ", ".join(f"{row['cell']['size']} {row['value']:.1f}" for row in measured))
        theirs = [row for row in line if row["paper"] is not None]
        if theirs:
            axes[1].plot([SIZES.index(r["cell"]["size"]) for r in theirs], [r["paper"] for r in theirs], linestyle=":", **style)
    for axis, title in zip(axes, (f"ours, scale {scale}", "the paper (secondary or derived)"), strict=False):
        axis.set_xticks(range(len(SIZES)), SIZES)
        axis.set(title=title, xlabel="Whisper size", ylabel="WER, %")
        axis.set_ylim(bottom=0)
    figures.legend(figure, axes)
    return figures.show(figure, "Word error rate by size in per cent. " + "; ".join(said) + ".")


def plot_bytes(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS) -> object:
    """WER against bytes of weights, one point a cell without and with adaptation; the lower left is better."""
    rows = [
        row for row in tables.rows(table, scale, results, planned_only=True) if row["value"] is not None and row["cell"]["rate"] in (None, PAPER_RATE)
    ]
    rows = [row for row in rows if row["cell"]["method"] != "adalora-inactive" and row["weights_bytes"]]  # simulated weights have no bytes
    if not rows:
        return _nothing_yet()
    figure, axes = figures.subplots(width_in=7.5)
    for key in dict.fromkeys((row["cell"]["precision"], row["cell"]["method"]) for row in rows):
        line = sorted((r for r in rows if (r["cell"]["precision"], r["cell"]["method"]) == key), key=lambda r: r["weights_bytes"])
        spread = [[row["value"] - row["lo"] for row in line], [row["hi"] - row["value"] for row in line]]
        axes[0].errorbar(
            [row["weights_bytes"] / 1e6 for row in line],
            [row["value"] for row in line],
            yerr=spread,
            color=COLOURS[key],
            marker=MARKERS[key[1]],
            markeredgecolor="#333333",
            markeredgewidth=0.5,
            linewidth=0.8,
            capsize=2,
            label=configuration_name(line[0]["cell"]),
        )
    best = pareto_front(rows)
    shown = [(row["weights_bytes"] / 1e6, row["value"]) for row in best]
    axes[0].step(*zip(*shown, strict=True), where="post", color=figures.GREY, linestyle="--", linewidth=1.5, zorder=0, label="Pareto front")
    axes[0].set_xscale("log")
    axes[0].set_xticks(BYTES_TICKS_MB, [f"{tick:g}" for tick in BYTES_TICKS_MB])
    axes[0].minorticks_off()
    axes[0].set(xlabel="weights, MB (log scale)", ylabel="WER, %")
    axes[0].set_ylim(bottom=0)
    figures.legend(figure, axes)
    front = "; ".join(
        f"{row['cell']['size']} {configuration_name(row['cell'])} {row['value']:.1f} % at {row['weights_bytes'] / 1e6:.2f} MB" for row in best
    )
    return figures.show(figure, f"Word error rate against bytes of weights, {len(rows)} cells. Nothing is both smaller and better than: {front}.")


def pareto_front(rows: list[dict]) -> list[dict]:
    """The rows that no other beats in both bytes of weights and error rate, smallest first; by their values, whatever their intervals."""
    front = []
    for row in sorted(rows, key=lambda row: (row["weights_bytes"], row["value"])):
        if not front or row["value"] < front[-1]["value"]:
            front.append(row)
    return front


def _nothing_yet() -> object:
    from IPython.display import HTML

    return HTML("<p>No record of this yet.</p>")


def findings(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS) -> object:
    """What the table says, in a few sentences made from its records: the ladder, what bits cost, what training brings."""
    from IPython.display import HTML

    measured = _measured(table, scale, results)
    sizes = [size for size in SIZES if (size, "fp32", "none", None) in measured]
    if not sizes:
        return HTML(f"<p>No record of {table} at scale {scale} yet.</p>")

    def changes(text, a, b):
        there = [size for size in sizes if (size, *a) in measured and (size, *b) in measured]
        said = _differences([(measured[size, *a][0], measured[size, *b][0]) for size in there])
        return f"<li>{text}: {'; '.join(f'{size} {change}' for size, change in zip(there, said, strict=True))}.</li>" if there else ""

    ladder = ", ".join(f"{size} {_value_link(measured[size, 'fp32', 'none', None][1])}" for size in sizes)
    items = [
        f"<li>Before adapting, in full precision, WER in per cent: {ladder}.</li>",
        changes("int8 against full precision, nothing trained, in points of WER", ("int8", "none", None), ("fp32", "none", None)),
        changes("int4 against full precision, nothing trained", ("int4", "none", None), ("fp32", "none", None)),
        changes("int8 + AdaLoRA at the paper's rate of 1/40 against int8 alone", ("int8", "adalora", PAPER_RATE), ("int8", "none", None)),
        changes("The same at the full pre-training rate", ("int8", "adalora", "1"), ("int8", "none", None)),
        changes("Full fine-tuning at 1/40 against none", ("fp32", "full", PAPER_RATE), ("fp32", "none", None)),
    ]
    trained = [row for row, _ in measured.values() if row.cell["method"] != "none"]
    if trained:
        seeds = sorted({len(row.measured) for row in trained})
        steps = sorted({record.history[-1]["step"] for row in trained for _, record in row.measured if record.history})
        runs = f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} training runs" + (f" of {steps[-1]} steps" if steps else "")
        items.append(f"<li>{runs} for a trained cell; cells without training are deterministic and have one record.</li>")
    items.append(f"<li>{measured[sizes[0], 'fp32', 'none', None][1]['n']} test utterances. Ties are Holm-corrected over the sizes of a line.</li>")
    return HTML(f'<ul class="asum-findings">{"".join(items)}</ul>')
