"""How LoftQ is shown beside quantise-then-adapt: where each starts, how it ends, and what lies between. Types no figure of its own."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.paths import RESULTS
from asum_lib.study import loftq_start, tables, text_tables
from asum_lib.study.loftq_start import BITS, MODELS, UNSCALED
from asum_lib.study.render import MARKERS, METHOD_NAMES, _link, _nothing_yet, _signed
from asum_lib.study.render_rouge import COLOURS, METRIC_NAMES, MODEL_NAMES
from asum_lib.study.tables import Row
from asum_lib.study.text_cells import COMBINATIONS

SIZES = ("tiny", "base", "small", "medium")  # of the grid
RATE = "1"
START_NAMES = {"lora": "LoRA", "loftq": "LoftQ", "loftq-5": "LoftQ, 5 rounds", UNSCALED: "LoftQ, scale left out"}
CLAIM = "A14"


def bits_name(precision: str) -> str:
    """`4 bits`, `2 bits, simulated`."""
    return f"{BITS[precision]} bits" + (", simulated" if precision == "nf2" else "")


def start_table(quantity: str = "weights_pct", targets: str = "qkv", models: Sequence[str] = MODELS, results: Path = RESULTS) -> object:
    """A recorded quantity of `loftq_start.Start` by model, bits and start: what is off before training, or how many tokens agree."""
    methods = [method for method in START_NAMES if method != UNSCALED or quantity == "weights_pct"]
    lines, recorded = [], loftq_start.read(results)
    for model in models:
        found = {(start.precision, start.method): getattr(start, quantity) for start in recorded.get((model, targets), ())}
        name = model.replace("whisper-", "Whisper ").replace("t5 ", "T5 ").replace("mbart ", "mBART ")
        values = [found.get((precision, method)) for precision in BITS for method in methods]
        lines.append([name, *("missing" if value is None else f"{value:.1f}" for value in values)])
    above = "<th></th>" + "".join(f'<th colspan="{len(methods)}">{bits_name(precision)}</th>' for precision in BITS)
    titles = ["", *(START_NAMES[method] for _ in BITS for method in methods)]
    return _table(above, titles, lines, f"Measured by {loftq_start.COMMAND}, in {RESULTS.name}/{loftq_start.NAME}.")


def wer_table(results: Path = RESULTS) -> object:
    """Whisper's test WER by size and bits: in full precision and quantised, untrained; LoRA and LoftQ, trained; LoftQ minus LoRA."""
    found, evidence = tables.gather("whisper_wer", "mini", results), _evidence(results)

    def row(size: str, precision: str, method: str) -> Row | None:
        wanted = (size, precision, method, None if method == "none" else RATE)
        return next((row for row in found if tuple(row.cell[key] for key in ("size", "precision", "method", "rate")) == wanted), None)

    lines = []
    for precision in BITS:
        for size in SIZES:
            rows = [row(size, "fp32", "none"), *(row(size, precision, method) for method in ("none", "lora", "loftq"))]
            lines.append([f"Whisper {size}", bits_name(precision), *map(_wer, rows), _difference(rows[2], rows[3], "", evidence)])
    return _compared("WER in per cent, lower is better", lines)


def rouge_table(metric: str = "rouge1", results: Path = RESULTS) -> object:
    """The same for the text models by a metric of ROUGE."""
    found = [row for table in ("rouge_wikihow", "rouge_gazeta") for row in text_tables.gather(table, "mini", results)]
    lines, evidence = [], _evidence(results)
    for precision in BITS:
        for corpus, model in COMBINATIONS:
            cells = [("fp32", "none"), *((precision, method) for method in ("none", "lora", "loftq"))]
            rows = [text_tables.find(found, corpus, model, precision=p, method=method) for p, method in cells]
            shown = [_rouge(row, metric) for row in rows]
            lines.append([f"{MODEL_NAMES[model]}, {corpus}", bits_name(precision), *shown, _difference(rows[2], rows[3], metric, evidence)])
    return _compared(f"{METRIC_NAMES[metric]}, higher is better", lines)


def _compared(caption: str, lines: list[list[str]]) -> object:
    titles = ["", "bits", "full precision, untrained", "quantised, untrained", "quantise, then LoRA", "LoftQ", "LoftQ minus LoRA, points"]
    caption += ". 95 % intervals below the values; of the difference with Holm's p over all comparisons of the claim, and = where it is a tie."
    return _table("", titles, lines, caption)


def _table(above: str, titles: Sequence[str], lines: list[list[str]], caption: str = "") -> object:
    from IPython.display import HTML

    head = (f"<tr>{above}</tr>" if above else "") + "<tr>" + "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles) + "</tr>"
    body = "".join(f"<tr><th>{line[0]}</th>" + "".join(f"<td>{field}</td>" for field in line[1:]) + "</tr>" for line in lines)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-main">{said}{head}{body}</table></div>')


def _wer(row: Row | None) -> str:
    if row is None or not row.measured:
        return _missing(row)
    return _value(row, *tables.interval(row.measured))


def _rouge(row: Row | None, metric: str) -> str:
    if row is None or not row.measured:
        return _missing(row)
    return _value(row, *text_tables.interval(row, metric))


def _missing(row: Row | None) -> str:
    return html.escape("; ".join(row.problems)) if row else "missing"


def _value(row: Row, value: float, lo: float, hi: float) -> str:
    path = row.measured[0][0]
    record = "/".join(("results", *path.parts[-3:]))
    seeds = len(row.measured)
    return f"{_link(record, f'{value:.1f}')}<br><small>{lo:.1f} to {hi:.1f}{f'; {seeds} seeds' if seeds > 1 else ''}</small>"


def _difference(lora: Row | None, loftq: Row | None, metric: str, evidence: list[dict]) -> str:
    """LoftQ minus LoRA as the claim's evidence has it, found by the records that it names."""
    if not (lora and loftq and lora.measured and loftq.measured):
        return ""
    names = {path.name for row in (loftq, lora) for path, _ in row.measured}
    for part in evidence:
        if {Path(record).name for record in part["records"]} == names and part["difference"] is not None and _is_of(part, metric, loftq):
            tie = " =" if part["outcome"] == "tie" else ""
            one = part["metrics"].get(metric, part)
            p = f"p {part['p_holm']:.3f}"
            return f"{_signed(one['difference'])}{tie}<br><small>{_signed(one['lo'])} to {_signed(one['hi'])}; {p}</small>"
    return ""


def _is_of(part: dict, metric: str, row: Row) -> bool:
    """Records of one name lie in the tables of several corpora, and a record has several metrics."""
    if not metric:
        return part["what"].startswith(f"{row.cell['size']}:")
    return metric in part["metrics"] and part["what"].startswith(f"{row.cell['model']} on {row.cell['corpus']}, ")


def _evidence(results: Path) -> list[dict]:
    from asum_lib.study import claims

    return claims.judge("mini", results, only=CLAIM)[0]["evidence"]


def findings(results: Path = RESULTS) -> object:
    """What the comparisons say, in a few sentences made from the claim's evidence: the deciding ones by table and bits, then those of five rounds."""
    from IPython.display import HTML

    measured = [part for part in _evidence(results) if part["difference"] is not None]
    parts = [part for part in measured if part["decides"]]
    if not parts:
        return _nothing_yet()
    items = []
    for unit, better in (("points of WER", "lower"), ("points of ROUGE", "higher")):
        for precision in BITS:
            here = [part for part in parts if part["unit"] == unit and f"{precision} " in part["what"]]
            if not here:
                continue
            number = {outcome: sum(part["outcome"] == outcome for part in here) for outcome in ("holds", "tie", "contradicts")}
            mean = np.mean([part["difference"] for part in here])
            items.append(
                f"<li>In {bits_name(precision)}, in {unit}: LoftQ is better in {number['holds']} of {len(here)} comparisons, worse in "
                f"{number['contradicts']}, and ties in {number['tie']}. LoftQ minus LoRA is {_signed(mean)} on average, {better} is better ("
                + ", ".join(f"{html.escape(part['what'].split(':')[0].removesuffix(', rouge1'))} {_signed(part['difference'])}" for part in here)
                + ").</li>"
            )
    rounds = [part for part in measured if "loftq-5" in part["what"]]
    if rounds:
        size = rounds[0]["what"].partition(":")[0]
        said = "; ".join(f"{html.escape(part['what'].partition(': ')[2].replace(f' at rate {RATE}', ''))} {_interval(part)}" for part in rounds)
        items.append(f"<li>With five rounds, beside the claim, in points of WER at size {size}: {said}.</li>")
    return HTML(f'<ul class="asum-findings">{"".join(items)}</ul>')


def _interval(part: dict) -> str:
    tie = ", a tie" if part["outcome"] == "tie" else ""
    return f"{_signed(part['difference'])} ({_signed(part['lo'])} to {_signed(part['hi'])}{tie})"


def plot_wer(results: Path = RESULTS) -> object:
    """Whisper's dev WER by epoch, one panel a size: LoRA and LoftQ in both bits, means over seeds."""
    found = [row for row in tables.gather("whisper_wer", "mini", results) if row.cell["rate"] == RATE]
    groups = {(f"Whisper {row.cell['size']}", row.cell["precision"], row.cell["method"]): row for row in found}
    return _plot(groups, [f"Whisper {size}" for size in SIZES], "dev_wer_pct", "dev WER, %")


def plot_losses(results: Path = RESULTS) -> object:
    """The text models' dev loss by epoch, one panel a corpus and model."""
    found = [row for table in ("rouge_wikihow", "rouge_gazeta") for row in text_tables.gather(table, "mini", results)]
    groups = {}
    for corpus, model in COMBINATIONS:
        for precision in BITS:
            for method in ("lora", "loftq"):
                name = f"{MODEL_NAMES[model]}, {corpus}"
                groups[name, precision, method] = text_tables.find(found, corpus, model, precision=precision, method=method)
    return _plot(groups, [f"{MODEL_NAMES[model]}, {corpus}" for corpus, model in COMBINATIONS], "dev_loss", "dev loss, nats a token")


def _plot(groups: dict, panels: list[str], key: str, label: str) -> object:
    shown = {name: row for name, row in groups.items() if row and row.measured and name[1] in BITS and name[2] in ("lora", "loftq")}
    if not shown:
        return _nothing_yet()
    panels = [panel for panel in panels if any(name[0] == panel for name in shown)]
    figure, axes = figures.panels(len(panels), sharey=False)
    said = []
    for axis, panel in zip(axes, panels, strict=True):
        for (_, precision, method), row in ((name, row) for name, row in shown.items() if name[0] == panel):
            history = [record.history for _, record in row.measured]
            mean = np.mean([[entry[key] for entry in entries] for entries in history], axis=0)
            name = f"{METHOD_NAMES[method]}, {bits_name(precision)}"
            style = {"color": COLOURS[method], "marker": MARKERS[method], "linestyle": "-" if precision == "int4" else "--"}
            axis.plot([entry["epoch"] for entry in history[0]], mean, markersize=4, label=name, **style)
            said.append(f"{panel}, {name} from {mean[0]:.3g} to {mean[-1]:.3g}")
        axis.set(title=panel, xlabel="epoch", ylabel=label if axis is axes[0] else None)
        axis.set_ylim(bottom=0)
    figures.legend(figure, axes)
    return figures.show(figure, f"{label} by epoch, epoch 0 before training: " + "; ".join(said) + ".")
