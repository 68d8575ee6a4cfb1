"""How the table of learning rates is shown. Measures nothing, types no figure."""

import html
from pathlib import Path

import numpy as np

from asum_lib import figures, papers
from asum_lib.measure import stats
from asum_lib.models import ladder
from asum_lib.paths import RESULTS
from asum_lib.study import learning_rates, tables
from asum_lib.study.cells import LEARNING_RATES, PAPER_RATE, RATES, SIZES
from asum_lib.study.render import STATUS_LETTERS, _link, _nothing_yet, _signed

COLOURS = {"1": "#D55E00", "1/4": "#E69F00", "1/10": "#009E73", "1/40": "#0072B2", "1/100": "#CC79A7"}  # Okabe and Ito
NAMES = {"full": "full fine-tuning", "adalora": "int8 + AdaLoRA"}
METHOD_COLOURS = {"full": "#777777", "adalora": "#000000"}
METHOD_MARKERS = {"full": "^", "adalora": "s"}
SOURCE_TICKS_PCT = (1, 2, 5, 10, 20, 50)
DOMAINS = ("source", "target")


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
    return HTML(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><caption>{caption}</caption>'
        f"<tr>{head}</tr>{''.join(lines)}</table></div>"
    )


def wer_table(method: str, results: Path = RESULTS) -> object:
    """WER on the target's test set by size and rate, with the untrained model's; the lowest of a size and its ties are marked."""
    lines = []
    for size in SIZES:
        before = learning_rates.untrained(size, method, results)
        there, whole = learning_rates.measured(size, method, results), learning_rates.family(size, method, results)
        marks, harms = learning_rates.marks(whole), learning_rates.harms(whole, before)
        shown = []
        for rate in RATES:
            if rate not in there:
                shown.append("missing")
                continue
            mark = {"best": " ★", "tie": " ="}.get(marks.get(rate), "")
            worse = " ▲" if rate in harms and learning_rates.significant(*harms[rate]) > 0 else ""
            shown.append(f"{_value(whole.get(rate, there[rate]), results)}{mark}{worse}")
        lines.append([size, _value(before, results) if before.measured else "missing", *shown, _seeds(whole or there)])
    caption = (
        f"WER on the target's test set in per cent with 95 % interval, {NAMES[method]}. ★ lowest of its size; = a tie with it; ▲ above the model "
        "before training (paired, Holm-corrected within the size). A size of which a rate is missing has no marks."
    )
    return _table(["size", "before", *(f"rate {rate}" for rate in RATES), "seeds"], lines, caption)


def forgetting_table(method: str, results: Path = RESULTS) -> object:
    """Change of WER on the source's dev set over the whole training, by size and rate; what is significantly above 0 is marked."""
    lines = []
    for size in SIZES:
        there, whole = learning_rates.measured(size, method, results), learning_rates.family(size, method, results)
        changes = learning_rates.forgets(whole or there)
        shown = []
        for rate in RATES:
            if rate not in changes:
                shown.append("missing")
                continue
            one = changes[rate][0]
            mark = {1: " ▲", -1: " ▼", 0: ""}[learning_rates.significant(*changes[rate]) if whole else 0]
            worse, better = learning_rates.moved((whole or there)[rate])
            interval = f"{_signed(one.lo)} to {_signed(one.hi)}<br>{worse} worse, {better} better"
            shown.append(f"{_link(_path(there[rate], results), _signed(one.value))}{mark}<br><small>{interval}</small>")
        before = f"{next(iter(there.values())).measured[0][1].history[0]['source_wer_pct']:.1f}" if there else "missing"
        lines.append([size, before, *shown, _seeds(whole or there)])
    caption = (
        f"Change of WER on the source's dev set in points with 95 % interval, {NAMES[method]}. ▲ forgets, ▼ improves; no mark: a tie with no "
        "change (paired, Holm-corrected within the size). Below it, how many utterances have more and fewer errors than before, all "
        "seeds together. A size of which a rate is missing has no marks."
    )
    return _table(["size", "before, %", *(f"rate {rate}" for rate in RATES), "seeds"], lines, caption)


def trade_table(results: Path = RESULTS) -> object:
    """`learning_rates.trade` of every size: does AdaLoRA keep more of the source than a full fine-tuning that learns as much?"""
    lines = []
    for size in SIZES:
        found = learning_rates.trade(size, results)
        if found is None:
            fields = ["missing", "missing", "", ""]
        elif found.full_rate is None:
            fields = [found.adalora_rate, "none is as good", "", ""]
        else:
            fields = [found.adalora_rate, found.full_rate, _interval(found.target), _interval(found.source)]
        lines.append([size, *fields])
    caption = (
        "AdaLoRA at the rate that is best for it on the target, beside the full fine-tuning that is no worse there and ends lowest on the source. "
        "Differences in points of WER with 95 % interval, not corrected; above 0 AdaLoRA is worse."
    )
    titles = ["size", "AdaLoRA's rate", "full fine-tuning's rate", "target, AdaLoRA minus full", "source, AdaLoRA minus full"]
    return _table(titles, lines, caption)


def plot_trade(results: Path = RESULTS) -> object:
    """WER on the source after training against WER on the target, a panel a size, a line a method along its rates."""
    panels = {size: {m: there for m in NAMES if (there := learning_rates.measured(size, m, results))} for size in SIZES}
    panels = {size: lines for size, lines in panels.items() if lines}
    if not panels:
        return _nothing_yet()
    figure, axes = figures.panels(len(panels))
    said = []
    for axis, (size, lines) in zip(axes, panels.items(), strict=True):
        for method, there in lines.items():
            x = [_mean(row, lambda record: record.metrics[tables.METRIC].value) for row in there.values()]
            y = [_mean(row, lambda record: record.history[-1]["source_wer_pct"]) for row in there.values()]
            axis.plot(x, y, color=METHOD_COLOURS[method], linewidth=0.8, marker=METHOD_MARKERS[method], markersize=4, label=NAMES[method], zorder=1)
            axis.scatter(
                x, y, color=[COLOURS[rate] for rate in there], marker=METHOD_MARKERS[method], s=26, edgecolor="#333333", linewidth=0.5, zorder=2
            )
            said.append(f"{size}, {NAMES[method]}: " + ", ".join(f"{r} {a:.1f} and {b:.1f}" for r, a, b in zip(there, x, y, strict=True)))
        axis.set(title=size, xlabel="target, WER %", ylabel="source, WER % (log)" if axis in axes[::3] else None, yscale="log")
        axis.set_yticks(SOURCE_TICKS_PCT, [f"{tick:g}" for tick in SOURCE_TICKS_PCT])
        axis.minorticks_off()
        axis.locator_params(axis="x", nbins=5)
    for rate, colour in COLOURS.items():
        axes[0].scatter([], [], color=colour, label=f"rate {rate}", s=26, edgecolor="#333333", linewidth=0.5)
    figures.legend(figure, axes)
    return figures.show(
        figure, "Word error rate after training in per cent, on the target's test set and the source's dev set, by rate. " + "; ".join(said)
    )


def plot_curves(method: str, split: str = "source", results: Path = RESULTS) -> object:
    """WER of the target's (`dev`) or the source's dev set by epoch, a panel a size, a line a rate (mean over seeds)."""
    rows = [row for row in learning_rates.gather(results) if row.cell["method"] == method]
    return _curves([(row.cell["rate"], row.measured) for row in rows], split, NAMES[method])


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
    figure, axes = figures.panels(len(panels))
    said = []
    for axis, (panel, lines) in zip(axes, panels.items(), strict=True):
        for rate, group in lines:
            mean = np.mean([[entry[f"{split}_wer_pct"] for entry in record.history] for record in group], axis=0)
            axis.plot([entry["epoch"] for entry in group[0].history], mean, label=f"rate {rate}", color=COLOURS[rate], marker="o", markersize=3)
            said.append(f"{panel} rate {rate} from {mean[0]:.1f} to {mean[-1]:.1f}")
        axis.set(title=NAMES.get(panel, panel), xlabel="epoch", ylabel="WER, %" if axis in axes[::3] else None)
        axis.set_ylim(bottom=0)
    figures.legend(figure, axes)
    where = {"dev": "target", "source": "source"}[split]
    return figures.show(figure, f"{title} Word error rate on the {where}'s dev set by epoch in per cent: " + "; ".join(said) + ".")


def findings(results: Path = RESULTS) -> object:
    """What the table says, in a few sentences made from its records, by the rules at the top of `learning_rates`."""
    from IPython.display import HTML

    rows = learning_rates.gather(results)
    planned, found = sum(len(row.planned_seeds) for row in rows), sum(len(row.measured) for row in rows)
    if not found:
        return _nothing_yet()
    whole = {method: {size: there for size in SIZES if (there := learning_rates.family(size, method, results))} for method in NAMES}
    absent = [f"{size} {NAMES[method]}" for method in NAMES for size in SIZES if size not in whole[method]]
    items = [f"{found} of {planned} planned trainings are measured."]
    if absent:
        items[0] += f" Of these not all five rates are there, and nothing is said: {', '.join(absent)}."
    behind = {row.cell["size"]: len(row.planned_seeds) for row in rows if 0 < len(row.measured) < len(row.planned_seeds)}
    if behind:
        items[0] += f" Not all planned seeds are there for {', '.join(f'{size} ({count})' for size, count in behind.items())}."
    for method, name in NAMES.items():
        if not whole[method]:
            continue
        marks = {size: learning_rates.marks(there) for size, there in whole[method].items()}
        said = [f"{size} {_of(one, 'best')[0]}{_ties(one)}" for size, one in marks.items()]
        fits = [size for size, one in marks.items() if one[PAPER_RATE] != "worse"]
        items.append(
            f"{name}, lowest WER on the target at rate: {'; '.join(said)}. The paper's {PAPER_RATE} is lowest or a tie for {_listed(fits)}, "
            f"above the lowest for {_listed([size for size in marks if size not in fits])}."
        )
        if ends := [size for size, one in marks.items() if _of(one, "best")[0] in (RATES[0], RATES[-1])]:
            items[-1] += f" At an end of what was tried, so that a rate beyond may be better: {_listed(ends)}."
        harms, helps, lost = [], 0, []
        for size, there in whole[method].items():
            for rate, one in learning_rates.harms(there, learning_rates.untrained(size, method, results)).items():
                harms += [f"{size} at {rate} ({_signed(one[0].value)})"] if learning_rates.significant(*one) > 0 else []
                helps += learning_rates.significant(*one) < 0
            at = {rate: one for rate, one in learning_rates.forgets(there).items() if learning_rates.significant(*one) > 0}
            lost += [f"{size} at " + ", ".join(f"{rate} ({_signed(one[0].value)})" for rate, one in at.items())] if at else []
        pairs = len(RATES) * len(whole[method])
        items.append(f"{name}, on the target against the model before training: of {pairs} sizes and rates {helps} help; harm: {_listed(harms)}.")
        items.append(f"{name} forgets the source (change in points): {'; '.join(lost) or 'nowhere'}.")
        if more := learning_rates.larger_minus_smaller(method, results=results):
            said = [f"at {rate} {_interval(one)}" for rate, one in more.items()]
            items.append(f"{name}, what {SIZES[-1]} loses on the source minus what {SIZES[0]} loses, in points: {'; '.join(said)}.")
    return HTML(f'<ul class="asum-findings">{"".join(f"<li>{item}</li>" for item in items)}</ul>')


def twins(results: Path = RESULTS) -> object:
    """How far trainings that `whisper_wer` holds too came out alike."""
    from IPython.display import HTML

    said = []
    for method, name in NAMES.items():
        if found := [twin for twin in learning_rates.twins(results) if twin.method == method]:
            losses, same = sum(twin.same_losses for twin in found), sum(twin.difference == 0 for twin in found)
            largest = max(abs(twin.difference) for twin in found)
            said.append(
                f"{name}: of {len(found)} trainings {losses} have the same losses, {same} the same test WER, {largest:.2f} points apart at most"
            )
    return HTML(f"<p>{'; '.join(said)}.</p>") if said else _nothing_yet()


def overlap() -> object:
    """How many sentences of the source's dev set the models met in training, word for word in other takes."""
    from IPython.display import HTML

    from asum_lib.corpora import howto

    def sentences(domain, split):
        return [sentence for document in howto.documents(domain, split) for sentence in document.sentences]

    heard = sentences("source", "dev")
    shares = [f"{sum(s in met for s in heard)} in the {domain}'s training talks" for domain in DOMAINS if (met := set(sentences(domain, "train")))]
    return HTML(f"<p>Of the {len(heard)} sentences of the source's dev set {' and '.join(shares)} occur word for word, in other takes.</p>")


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
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table"><tr>{head}</tr>{"".join(lines)}</table></div>')


def _table(titles: list[str], lines: list[list[str]], caption: str) -> object:
    from IPython.display import HTML

    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr><th>{first}</th>" + "".join(f"<td>{field}</td>" for field in rest) + "</tr>" for first, *rest in lines)
    return HTML(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><caption>{caption}</caption><tr>{head}</tr>{body}</table></div>'
    )


def _of(marks: dict[str, str], kind: str) -> list[str]:
    return [rate for rate, mark in marks.items() if mark == kind]


def _ties(marks: dict[str, str]) -> str:
    tied = _of(marks, "tie")
    return f" (tied: {', '.join(tied)})" if tied else ""


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _seeds(there: dict[str, tables.Row]) -> str:
    counts = sorted({len(row.measured) for row in there.values()})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else ""


def _interval(one: stats.Difference) -> str:
    return f"{_signed(one.value)} ({_signed(one.lo)} to {_signed(one.hi)})"


def _mean(row: tables.Row, value) -> float:
    return float(np.mean([value(record) for _, record in row.measured]))


def _value(row: tables.Row, results: Path) -> str:
    value, lo, hi = tables.interval(row.measured)
    return f"{_link(_path(row, results), f'{value:.1f}')}<br><small>{lo:.1f} to {hi:.1f}</small>"


def _path(row: tables.Row, results: Path) -> str:
    path = row.measured[0][0]
    return f"results/{path.relative_to(results).as_posix()}" if path.is_relative_to(results) else str(path)
