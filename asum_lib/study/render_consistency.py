"""How the checks of the paper's own numbers are shown. Measures nothing, types no figure."""

import html

from asum_lib import figures, papers
from asum_lib.study import consistency
from asum_lib.study.cells import SIZES

VERDICT_CLASSES = {"fits": "success", "does not fit": "danger", "cannot be told": "secondary"}
MARKERS = {"weights": "o", "footprint": "s", "disk": "^", "load peak": "D", "decode peak": "X"}
EDGE_PCT = 30  # of the figure of memory: what lies beyond saves nothing
LABEL_OFFSETS = ((6, -10), (-16, 2), (6, 3))
COLOURS = {"tiny": "#CC79A7", "base": "#E69F00", "small": "#009E73", "medium": "#0072B2", "large": "#000000"}  # Okabe and Ito


def check(name: str) -> object:
    """One check: its figures in a table and its verdict."""
    from IPython.display import HTML

    found = getattr(consistency, name)()
    lines = "".join(f'<tr><td class="text">{html.escape(what)}</td><td class="text">{html.escape(value)}</td></tr>' for what, value in found.figures)
    return HTML(
        f'<p><span class="badge text-bg-{VERDICT_CLASSES[found.verdict]}">{found.verdict}</span> {html.escape(found.why)}.</p>'
        f'<div class="asum-scroll" tabindex="0"><table class="table wrap">{lines}</table></div>'
    )


def overview() -> object:
    """All checks, a line each."""
    from IPython.display import HTML

    lines = []
    for compute in consistency.CHECKS:
        found = compute()
        badge = f'<span class="badge text-bg-{VERDICT_CLASSES[found.verdict]}">{found.verdict}</span>'
        lines.append(f"<tr><td>{html.escape(found.question)}</td><td>{badge}</td><td>{html.escape(found.why)}</td></tr>")
    return HTML(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-claims">'
        f"<tr><th>question</th><th></th><th>why</th></tr>{''.join(lines)}</table></div>"
    )


def plot_ladder() -> object:
    """The paper's WER by size of Whisper beside Whisper's published WER without adaptation."""
    wer = consistency.wer_by_size()
    published = {size: cell["value"] for size, cell in consistency.zero_shot_by_size().items()}
    figure, (axis,) = figures.subplots()
    axis.plot(list(wer), list(wer.values()), marker="s", color="#0072B2", label="the paper, int8 + AdaLoRA on How2 (secondary)")
    axis.plot(
        list(wer),
        [published[size] for size in wer],
        marker="o",
        color="#000000",
        linestyle=":",
        label="published, multilingual, LibriSpeech, no adaptation (secondary)",
    )
    conformer = papers.value("summarisation", "how2", system="Conformer", metric="wer")
    axis.axhline(conformer["value"], color="#D55E00", linestyle="--", linewidth=1, label=f"a Conformer trained on How2 ({conformer['status']})")
    axis.set(xlabel="Whisper size", ylabel="WER, %")
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper right", frameon=False)
    said = ", ".join(f"{size} {value:g}" for size, value in wer.items())
    return figures.show(
        figure,
        f"The paper's word error rates by size in per cent: {said}; {sum(value > published[size] for size, value in wer.items())} of {len(wer)} lie "
        f"above the published ones, {sum(value > conformer['value'] for value in wer.values())} above the Conformer's {conformer['value']:g}.",
    )


def plot_gazeta() -> object:
    """ROUGE-1 on Gazeta: the paper's two values among the published ones."""
    rows = consistency.gazeta_values()
    figure, (axis,) = figures.subplots(width_in=7)
    names = [f"{who} ({version})" for who, version, _, _ in rows]
    colours = ["#0072B2" if who.startswith("the paper") else "#999999" for who, _, _, _ in rows]
    axis.barh(range(len(rows)), [value for _, _, value, _ in rows], color=colours)
    axis.set_yticks(range(len(rows)), names)
    axis.invert_yaxis()
    for place, (_, _, value, status) in enumerate(rows):
        axis.text(value + 0.3, place, f"{value:g} ({status})", va="center", fontsize=8)
    axis.set(xlabel="ROUGE-1 x 100")
    axis.set_xlim(0, 1.25 * max(value for _, _, value, _ in rows))
    return figures.show(
        figure, "ROUGE-1 on Gazeta: " + "; ".join(f"{name} {value:g}" for name, (_, _, value, _) in zip(names, rows, strict=True)) + "."
    )


def plot_gaps() -> object:
    """AdaLoRA minus LoRA in ROUGE-1: the paper's, those that AdaLoRA's authors publish, ours."""
    gaps = consistency.adapter_gaps()
    figure, (axis,) = figures.subplots(width_in=7)
    colours = ["#0072B2" if where.startswith("the paper") else "#009E73" if where.startswith("ours") else "#999999" for where, _, _ in gaps]
    axis.barh(range(len(gaps)), [gap for _, gap, _ in gaps], color=colours)
    axis.set_yticks(range(len(gaps)), [where for where, _, _ in gaps])
    axis.invert_yaxis()
    axis.axvline(0, color="#000000", linewidth=0.8)
    for place, (_, gap, status) in enumerate(gaps):
        axis.text(max(gap, 0) + 0.15, place, f"{gap:+.2f} ({status})", va="center", fontsize=8)
    axis.set(xlabel="AdaLoRA minus LoRA, points of ROUGE-1")
    axis.set_xlim(min(0, min(gap for _, gap, _ in gaps)) - 0.5, 1.6 * max(gap for _, gap, _ in gaps))
    return figures.show(figure, "AdaLoRA minus LoRA in points of ROUGE-1: " + "; ".join(f"{where} {gap:+.2f}" for where, gap, _ in gaps) + ".")


def plot_tokenizers() -> object:
    """ROUGE-1 of Russian by the English tokenizer against that by a Unicode one: on the diagonal they would agree."""
    found = consistency.rescored()
    figure, (axis,) = figures.subplots()
    figure.set_size_inches(6.5, 4.6)
    axis.plot([0, 100], [0, 100], color="#999999", linestyle=":", linewidth=1, label="where the two would agree")
    for number, one in enumerate(found, start=1):
        axis.scatter([one.known], [one.wrong], color="#009E73" if one.measured else "#D55E00", marker="s" if one.measured else "o", s=22)
        axis.annotate(str(number), (one.known, one.wrong), xytext=LABEL_OFFSETS[number % 3], textcoords="offset points", fontsize=8)
        axis.scatter([], [], color="none", label=f"{number}  {one.what}")
    axis.set(xlabel="ROUGE-1, Unicode tokenizer", ylabel="ROUGE-1, English tokenizer", xlim=(-3, 108), ylim=(-5, 108))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=1)
    said = "; ".join(f"{one.what} {one.known:.1f} and {one.wrong:.1f}" for one in found)
    return figures.show(figure, f"ROUGE-1 of Russian by a Unicode and by the English tokenizer: {said}.")


def plot_memory() -> object:
    """int4's saving against int8's by size, a point a reading of memory; the paper's point marked."""
    points = consistency.memory_points()
    claimed = {precision: papers.value(consistency.PAPER, "memory", precision=precision)["value"] for precision in ("int8", "int4")}
    figure, (axis,) = figures.subplots()
    for size in SIZES:
        for metric, marker in MARKERS.items():
            here = [(int8, int4) for reading, known, int8, int4 in points if known == size and f" {metric} against" in reading]
            axis.scatter([x for x, _ in here], [y for _, y in here], color=COLOURS[size], marker=marker, s=18)
        axis.scatter([], [], color=COLOURS[size], label=size, s=18)
    for metric, marker in MARKERS.items():
        axis.scatter([], [], color="#777777", marker=marker, label=metric, s=18)
    axis.scatter([claimed["int8"]], [claimed["int4"]], marker="*", s=160, color="#D55E00", edgecolors="black", label="the paper (secondary)")
    for (baseline, bits), style in zip(consistency.BASELINE_BITS.items(), ("-", "--"), strict=True):
        ratio = consistency.ratio_of_savings(bits)
        axis.plot([-100 / ratio, 0], [-100, 0], color="#999999", linestyle=style, linewidth=0.8, label=f"weights alone, against {baseline}", zorder=0)
    beyond = sum(int8 > EDGE_PCT or int4 > EDGE_PCT for _, _, int8, int4 in points)
    axis.set(xlabel=f"int8, change in % ({beyond} of {len(points)} readings lie beyond the edge)", ylabel="int4, change in %")
    axis.set(xlim=(-90, EDGE_PCT), ylim=(-100, EDGE_PCT))
    figure.set_size_inches(6.5, 5.4)
    figures.legend(figure, [axis])
    said = f"the paper says {claimed['int8']:g} and {claimed['int4']:g} %"
    near = dict(consistency.memory_rule().figures)["of them within 5 points of both"]
    return figures.show(
        figure, f"Change of memory by int4 against that by int8 at the real sizes, {len(points)} readings; {said}; {near} lie within 5 points."
    )
