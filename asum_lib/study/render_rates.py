"""How the table of learning rates is shown. Measures nothing, types no figure."""

import html
from pathlib import Path

import numpy as np

from asum_lib import papers
from asum_lib.measure import stats
from asum_lib.models import ladder
from asum_lib.paths import RESULTS
from asum_lib.study import learning_rates, tables
from asum_lib.study.cells import LEARNING_RATES, RATES, SIZES
from asum_lib.study.render import STATUS_LETTERS, _legend, _link, _nothing_yet, _show, _signed, _subplots

COLOURS = {"1": "#D55E00", "1/4": "#E69F00", "1/10": "#009E73", "1/40": "#0072B2", "1/100": "#CC79A7"}  # Okabe and Ito
NAMES = {"full": "full fine-tuning", "adalora": "int8 + AdaLoRA"}


def rates_table() -> object:
    """The paper's Table 5 beside our rates: 1/40 of the pre-training rate, theirs and ours."""
    from IPython.display import HTML

    lines = []
    for size in SIZES:
        known = papers.value("derkach2024", LEARNING_RATES, size=size)
        rung = ladder.LADDER[size]
        paper = f'<em title="{html.escape(known["source"])}">{known["value"]:g} {STATUS_LETTERS[known["status"]]}</em>'
        fields = [f"{rung.real_peak_lr:g}", paper, f"{known['value'] / rung.real_peak_lr:g}", f"{rung.peak_lr:g}", f"{rung.peak_lr / 40:g}"]
        lines.append(f"<tr><th>{size}</th>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    titles = ("size", "Whisper's pre-training rate", "the paper's rate", "ratio", "our pre-training rate", "1/40 of it")
    head = "".join(f"<th>{title}</th>" for title in titles)
    caption = "In italics the paper's figure: s from a secondary source, d derived from the rule itself, and so no check of it."
    return HTML(f'<div class="asum-scroll"><table class="table asum-main"><caption>{caption}</caption><tr>{head}</tr>{"".join(lines)}</table></div>')


def wer_table(method: str, results: Path = RESULTS) -> object:
    """WER on the target's test set by size and rate, with the untrained model's; the lowest of a size and its ties are marked."""
    from IPython.display import HTML

    found = _by(method, results)
    lines = []
    for size in SIZES:
        there = {rate: found[size, rate] for rate in RATES if found[size, rate].measured}
        before = learning_rates.untrained(size, method, results)
        marks = _marks(there)
        harms = _corrected({rate: tables.difference(row, before) for rate, row in there.items()})
        cells = [_value(before)]
        for rate in RATES:
            if rate not in there:
                cells.append("missing")
                continue
            worse = " ▲" if harms[rate][1] < 1 - stats.LEVEL and harms[rate][0].value > 0 else ""
            cells.append(f"{_value(there[rate])}{marks[rate]}{worse}")
        seeds = sorted({len(row.measured) for row in there.values()})
        fields = [*cells, " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else ""]
        lines.append(f"<tr><th>{size}</th>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    head = "".join(f"<th>{title}</th>" for title in ("size", "before", *(f"rate {rate}" for rate in RATES), "seeds"))
    caption = (
        f"WER on the target's test set in per cent with 95 % interval, {NAMES[method]}. ★ lowest of its size; = a tie with it; ▲ above the model "
        "before training (paired bootstrap, Holm-corrected within the size)."
    )
    return HTML(f'<div class="asum-scroll"><table class="table asum-main"><caption>{caption}</caption><tr>{head}</tr>{"".join(lines)}</table></div>')


def forgetting_table(method: str, results: Path = RESULTS) -> object:
    """Change of WER on the source's dev set over the whole training, by size and rate; what is significantly above 0 is marked."""
    from IPython.display import HTML

    found = _by(method, results)
    lines = []
    for size in SIZES:
        there = {rate: found[size, rate] for rate in RATES if found[size, rate].measured}
        changes = _corrected({rate: learning_rates.change(row, "source") for rate, row in there.items()})
        cells = []
        for rate in RATES:
            if rate not in changes:
                cells.append("missing")
                continue
            one, p = changes[rate]
            mark = "" if p >= 1 - stats.LEVEL else " ▲" if one.value > 0 else " ▼"
            shown = _link(_path(there[rate], results), _signed(one.value))
            cells.append(f"{shown}{mark}<br><small>{_signed(one.lo)} to {_signed(one.hi)}</small>")
        before = next(iter(there.values())).measured[0][1].history[0]["source_wer_pct"] if there else float("nan")
        lines.append(f"<tr><th>{size}</th><td>{before:.1f}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{title}</th>" for title in ("size", "before, %", *(f"rate {rate}" for rate in RATES)))
    caption = (
        f"Change of WER on the source's dev set in points with 95 % interval, {NAMES[method]}. ▲ forgets, ▼ improves; no mark: a tie with no "
        "change (paired bootstrap, Holm-corrected within the size)."
    )
    return HTML(f'<div class="asum-scroll"><table class="table asum-main"><caption>{caption}</caption><tr>{head}</tr>{"".join(lines)}</table></div>')


def plot_curves(method: str, split: str = "source", results: Path = RESULTS) -> object:
    """WER of the target's (`dev`) or the source's dev set by epoch, a panel a size, a line a rate (mean over seeds)."""
    return _curves([(row.cell["rate"], row.measured) for row in _by(method, results).values()], split, NAMES[method])


def plot_row(row, split: str = "source") -> object:
    """The same for one measured size (`learning_rates.Row`)."""
    groups: dict[tuple, list] = {}
    for path, record in zip(row.paths, row.records, strict=True):
        groups.setdefault((record.cell["method"], record.cell["rate"]), []).append((path, record))
    return _curves([(rate, tuple(found)) for (_, rate), found in groups.items()], split, "", by_method=True)


def _curves(found: list[tuple[str, tuple]], split: str, title: str, by_method: bool = False) -> object:
    key = "method" if by_method else "size"
    panels: dict[str, list] = {}
    for rate, measured in found:
        if measured:
            panels.setdefault(measured[0][1].cell[key], []).append((rate, [record for _, record in measured if record.history]))
    if not panels:
        return _nothing_yet()
    figure, axes = _subplots(len(panels))
    said = []
    for axis, (panel, lines) in zip(axes, panels.items(), strict=True):
        for rate, group in lines:
            mean = np.mean([[entry[f"{split}_wer_pct"] for entry in record.history] for record in group], axis=0)
            axis.plot([entry["epoch"] for entry in group[0].history], mean, label=f"rate {rate}", color=COLOURS[rate], marker="o", markersize=3)
            said.append(f"{panel} rate {rate} from {mean[0]:.1f} to {mean[-1]:.1f}")
        axis.set(title=NAMES.get(panel, panel), xlabel="epoch", ylabel="WER, %" if axis in axes[::3] else None)
        axis.set_ylim(bottom=0)
    _legend(figure, axes)
    where = {"dev": "target", "source": "source"}[split]
    return _show(figure, f"{title} Word error rate on the {where}'s dev set by epoch in per cent: " + "; ".join(said) + ".")


def findings(results: Path = RESULTS) -> object:
    """What the table says, in a few sentences made from its records, by the rules at the top of `learning_rates`."""
    from IPython.display import HTML

    items = []
    for method, name in NAMES.items():
        found = _by(method, results)
        by_size = {size: {rate: found[size, rate] for rate in RATES if found[size, rate].measured} for size in SIZES}
        there = {size: rows for size, rows in by_size.items() if rows}
        if not there:
            continue
        best = {size: _marks(rows) for size, rows in there.items()}
        said = [f"{size} {next(r for r, m in marks.items() if '★' in m)}{_ties(marks)}" for size, marks in best.items()]
        items.append(f"<li>{name}, lowest WER on the target at rate: {'; '.join(said)}.</li>")
        harms, forgets = [], []
        for size, rows in there.items():
            before = learning_rates.untrained(size, method, results)
            changed = _corrected({rate: tables.difference(row, before) for rate, row in rows.items()})
            harms += [f"{size} at {rate}" for rate, (one, p) in changed.items() if p < 1 - stats.LEVEL and one.value > 0]
            lost = _corrected({rate: learning_rates.change(row, "source") for rate, row in rows.items()})
            forgets += [f"{size} at {rate} ({_signed(one.value)})" for rate, (one, p) in lost.items() if p < 1 - stats.LEVEL and one.value > 0]
        items.append(f"<li>{name} harms the target, against the model before training: {', '.join(harms) or 'nowhere'}.</li>")
        items.append(f"<li>{name} forgets the source (change in points): {', '.join(forgets) or 'nowhere'}.</li>")
        small, large = by_size[SIZES[0]], by_size[SIZES[-1]]
        sizes = []
        for rate in RATES:
            if rate in small and rate in large:
                a, b = learning_rates.change(large[rate], "source"), learning_rates.change(small[rate], "source")
                sizes.append(f"at {rate} {_signed(a.value)} for {SIZES[-1]}, {_signed(b.value)} for {SIZES[0]}")
        if sizes:
            items.append(f"<li>{name}, what the largest and the smallest lose on the source: {'; '.join(sizes)}.</li>")
    return HTML(f'<ul class="asum-findings">{"".join(items)}</ul>') if items else _nothing_yet()


def row_table(row) -> object:
    """The cells of one measured size (`learning_rates.Row`)."""
    from IPython.display import HTML

    lines = []
    for record in row.records:
        cell, last = record.cell, record.history[-1] if record.history else None
        fields = [NAMES[cell["method"]], cell["rate"], cell["seed"]]
        if record.status == "ok":
            wer = record.metrics["wer_pct"]
            fields += [f"{record.config['training']['learning_rate']:g}", f"{wer.value:.1f} <small>({wer.lo:.1f} to {wer.hi:.1f})</small>"]
            fields += [f"{record.history[0]['source_wer_pct']:.1f}", f"{last['source_wer_pct']:.1f}"]
        else:
            fields += [html.escape(record.reason or record.status), "", "", ""]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    titles = ("", "fraction", "seed", "rate", "target, test WER %", "source before, %", "source after, %")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return HTML(f'<div class="asum-scroll"><table class="table"><tr>{head}</tr>{"".join(lines)}</table></div>')


def _by(method: str, results: Path) -> dict[tuple[str, str], tables.Row]:
    return {(row.cell["size"], row.cell["rate"]): row for row in learning_rates.gather(results) if row.cell["method"] == method}


def _marks(there: dict[str, tables.Row]) -> dict[str, str]:
    """{rate: ★, = or nothing} by test WER."""
    if not there:
        return {}
    value = {rate: stats.ratio_interval(*tables.pooled_counts(row.measured)[1:])[0] for rate, row in there.items()}
    best = min(value, key=value.get)
    corrected = _corrected({rate: tables.difference(row, there[best]) for rate, row in there.items() if rate != best})
    return {rate: " ★" if rate == best else " =" if corrected[rate][1] >= 1 - stats.LEVEL else "" for rate in there}


def _ties(marks: dict[str, str]) -> str:
    tied = [rate for rate, mark in marks.items() if "=" in mark]
    return f" (tied: {', '.join(tied)})" if tied else ""


def _corrected(found: dict[str, stats.Difference]) -> dict[str, tuple[stats.Difference, float]]:
    p_holm = stats.holm([one.p for one in found.values()])
    return {rate: (one, p) for (rate, one), p in zip(found.items(), p_holm, strict=True)}


def _value(row: tables.Row) -> str:
    _, errors, words = tables.pooled_counts(row.measured)
    value, lo, hi = stats.ratio_interval(errors, words)
    return f"{_link(_path(row, RESULTS), f'{value:.1f}')}<br><small>{lo:.1f} to {hi:.1f}</small>"


def _path(row: tables.Row, results: Path) -> str:
    return f"results/{row.measured[0][0].relative_to(results).as_posix()}" if row.measured[0][0].is_relative_to(results) else str(row.measured[0][0])
