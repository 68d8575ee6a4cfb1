"""How memory is shown: the tables of `study.memory_table` and the accounting of `study.fit`, as HTML like in `render`, whose helpers are used.

Functions for the tables take `rows`, the objects of `memory_table.rows()` (None reads them), and say so where there is nothing yet.
They measure nothing and type no measured figure: what others published stands in `QUOTED` with its status and source, the rest is
read or computed here. All text from data is escaped. MB and GB are 10^6 and 10^9 bytes.
"""

import html
import warnings
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asum_lib import figures, papers
from asum_lib.errors import InputError, choose
from asum_lib.measure.memory import PARTS
from asum_lib.paths import RESULTS
from asum_lib.study import fit
from asum_lib.study.cells import SIZES
from asum_lib.study.render import METHOD_NAMES, STATUS_LETTERS, _link, _nothing_yet
from asum_lib.study.render_ledger import VERDICT_COLOURS, rule_note
from asum_lib.study.render_paper import _badge, _html, _table

PAPER = "derkach2024"
PRECISIONS = ("fp32", "fp16", "int8", "int4")
MEANINGS = {  # design: "memory" means at least five things; metric: (short name, what it is)
    "weights_bytes": ("weights", "accounted, quantisation state included"),
    "footprint_bytes": ("footprint", "as transformers counts: no quantisation state"),
    "disk_bytes": ("disk", "file of the saved checkpoint"),
    "load_peak_bytes": ("loading", "peak of the process, above the imports"),
    "decode_peak_bytes": ("decoding", "peak of the process for 30 s, above the imports"),
}
PHASES = {"load_peak": "loading", "decode_peak": "decoding", "train_peak": "training step"}
GPU_FIGURES = {"allocated": "tensors (max_memory_allocated)", "reserved": "allocator (max_memory_reserved)", "driver": "the driver's at the end"}
NOT_YET = "not measured yet"
LINE_COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7")  # Okabe and Ito's palette
PART_COLOURS = dict(zip(PARTS, ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#999999"), strict=True))
PART_NAMES = {name: name.replace("_", " ").replace("optimizer", "optimiser") for name in PARTS}


@dataclass(frozen=True)
class Quoted:
    """A figure that others published."""

    value: float
    unit: str
    status: str  # as in `papers.STATUSES`
    source: str


_QLORA = "Dettmers et al. 2023 (QLoRA), section 2: LLaMA 7B, FLAN v2, batch 1; read in a copy of its text"
_RUDALLE = "the model card of ruDALL-E Malevich (XL) by Sber AI, which describes both models; read in a stored copy"
QUOTED = {
    "qlora_adapters": Quoted(26e6, "bytes", "secondary", _QLORA),
    "qlora_input_gradients": Quoted(567e6, "bytes", "secondary", _QLORA),
    "qlora_input_gradients_checkpointing": Quoted(18e6, "bytes", "secondary", f"{_QLORA}: an average a sequence"),
    "qlora_base": Quoted(5048e6, "bytes", "secondary", _QLORA),
    "gpu_days": Quoted(20_352, "V100-days", "secondary", "a summary of the paper"),
    "parameters": Quoted(12e9, "parameters", "primary", _RUDALLE),
    "training_pairs": Quoted(120e6, "pairs of text and image", "primary", f"{_RUDALLE}: of the XL model; that of the 12B model is not given"),
    "tokens_a_pair": Quoted(128 + 32 * 32, "tokens", "primary", "the XL model's configuration in ai-forever/ru-dalle: 128 of text, 32 x 32 of image"),
    "v100_flop_s": Quoted(125e12, "FLOP/s", "primary", "NVIDIA, Programming Tensor Cores in CUDA 9: peak of float16 products with float32 sums"),
}
LLAMA_LAYERS = 32  # of the 7B model (Touvron et al. 2023, Table 2)
GPU_SCHEDULE = ((37, 512), (11, 128))  # (days, GPUs) of the 12B model, from the same card as `parameters`
FLOP_A_TOKEN = 6  # for each parameter: 2 forward, 4 backward (Kaplan et al. 2020, section 2.1), without the scores of attention
UTILISATIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@contextmanager
def _quietly():
    """Without what libraries say on a page where they are imported and nothing is trained."""
    from asum_lib.study.fit_report import _quiet

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        with _quiet():
            yield


def scale_note() -> object:
    """The banner of the pages on memory."""
    text = "<strong>Scale: paper.</strong> The models at their true sizes, really quantised, with random weights: memory does not depend on them."
    return _html(f'<div class="admonition note asum-scale"><p>{text}</p></div>')


@_quietly()
def rows(results: Path = RESULTS) -> list[dict]:
    """The rows of `memory_table`."""
    from asum_lib.study import memory_table

    return memory_table.rows(results)


@_quietly()
def account(plan: fit.Plan):
    """`fit.account`."""
    return fit.account(plan)


# The tables of records ------------------------------------------------------------------------------------------------


def precision_table(rows: list[dict] | None = None, rest: str = "float32", device: str = "cpu") -> object:
    """Whisper's sizes and precisions against the meanings of memory, in MB, with the change against fp32 and fp16; the paper's beside it.

    `rest` is the dtype of what is not quantised.
    """
    rows = _read(rows)
    shared = {"model": "whisper", "method": "none", "device": device}
    lines = []
    for size in SIZES:
        for precision in PRECISIONS:
            cell = shared | {"size": size, "precision": precision, "rest": _rest(precision, rest)}
            found = {metric: _find(rows, metric, **cell) for metric in MEANINGS}
            if any(found.values()):
                shown = [_value(row) + _changes(rows, metric, cell) for metric, row in found.items()]
                lines.append([size, precision, *shown, _claimed(precision)])
    if not lines:
        return _nothing_yet()
    heads = [f"{name}, MB<br>{_small(text)}" for name, text in MEANINGS.values()]
    titles = ("size", "precision", *heads, f"the paper<br>{_small('which memory is unknown')}")
    repeated = " Below a value its range over repeats and their number, where there are any." if _repeated(rows) else ""
    caption = f"Small: change against fp32 / against fp16. What is not quantised is in {rest} where weights are in int8 or int4.{repeated}"
    return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')


def loading_table(rows: list[dict] | None = None) -> object:
    """The peak of loading a quantised Whisper, from a float32 file and from its own saved checkpoint, over the weights that are there afterwards."""
    rows = _read(rows)
    lines = []
    for row in rows:
        cell = row["cell"]
        quantised = cell["precision"] in fit.QUANTISED and cell["model"] == "whisper" and cell["size"] in SIZES
        if row["metric"] != "load_peak_bytes" or not quantised or cell["device"] != "cpu":
            continue
        weights, saved = (_find(rows, metric, **cell) for metric in ("weights_bytes", "saved_load_peak_bytes"))
        peaks = [entry for peak in (row, saved) for entry in (_value(peak), _times(peak, weights))]
        lines.append([cell["size"], cell["precision"], cell["rest"], _value(weights), *peaks])
    if not lines:
        return _nothing_yet()
    titles = ("size", "precision", "rest", "weights, MB", "peak from a float32 file, MB", "times the weights")
    titles += ("peak from the saved checkpoint, MB", "times the weights")
    return _html(f'<div class="asum-main">{_table(titles, lines, "Peaks of the process, above what the imports take.")}</div>')


def peak_table(phases: Iterable[str] = ("train_peak",), rows: list[dict] | None = None, measured: bool = True) -> object:
    """Every accounted peak of `phases` (of `PHASES`) on a CPU beside the measured one, and how far the measured one is apart in per cent.

    With `measured` false the other cells: those that are accounted for only, and why.
    """
    rows = _read(rows)
    lines = []
    for phase in phases:
        choose("phase", phase, PHASES)
        for row in rows:
            if row["metric"] != f"{phase}_accounted_bytes" or row["cell"]["device"] != "cpu" or row["value"] is None:
                continue
            other = _find(rows, f"{phase}_bytes", **row["cell"])
            known = other is not None and other["value"] is not None
            if (known or (other is not None and other["status"] == "failed")) == measured:
                apart = _signed_pct(_change(other["value"], row["value"])) if known else ""
                last = [_value(other), apart] if measured else [html.escape((other or {}).get("reason") or "")]
                lines.append([*_configuration(row["cell"]), PHASES[phase], _value(row), *last])
    if not lines:
        return _nothing_yet()
    titles = ("model", "precision", "method", "phase", "accounted, MB", *(("measured, MB", "apart") if measured else ("why not measured",)))
    caption = "Accounted: live tensors at the peak."
    caption += " Measured: highest resident set of the process, above what the imports take. Apart: measured against accounted." if measured else ""
    return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')


def gpu_table(rows: list[dict] | None = None) -> object:
    """The peaks on a GPU as tensors / allocator / driver see them; one line a size while nothing is measured."""
    rows = [row for row in _read(rows) if row["cell"]["device"] == "cuda"]
    steps = [phase for phase in PHASES if any(row["metric"].startswith(phase) for row in rows)]
    if not steps:
        return _html(f"<p>On a GPU: {NOT_YET}.</p>")
    titles = ("model", "precision", "method", *(f"{PHASES[step]}, MB" for step in steps))
    caption = f"{' / '.join(GPU_FIGURES.values())}."
    if all(row["value"] is None for row in rows if row["metric"].startswith(tuple(steps))):
        sizes = dict.fromkeys(f"{row['cell']['model']} {row['cell']['size']}" for row in rows)
        lines = [[html.escape(size), "all", "all", *(NOT_YET for _ in steps)] for size in sizes]
        return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')
    lines = []
    for cell in _cells(rows):
        shown = []
        for step in steps:
            found = [_find(rows, f"{step}_{name}_bytes", **cell) for name in GPU_FIGURES]
            known = [NOT_YET if figure is None or figure["status"] == "missing" else _value(figure) for figure in found]
            shown.append("" if not any(found) else " / ".join(dict.fromkeys(known)) if set(known) == {NOT_YET} else " / ".join(known))
        lines.append([*_configuration(cell), *shown])
    return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')


def plot_change(rows: list[dict] | None = None, rest: str = "float32", baseline: str = "fp32") -> object:
    """Change of each meaning of memory against a baseline by size, for int8 and int4, with the paper's percentages as lines."""
    rows = _read(rows)
    sizes = [size for size in SIZES if any(row["cell"]["size"] == size for row in rows)]
    series = {
        (precision, metric): [_pct(rows, metric, baseline, size=size, precision=precision, rest=rest) for size in sizes]
        for precision in ("int8", "int4")
        for metric in MEANINGS
    }
    if not any(value is not None for values in series.values() for value in values):
        return _nothing_yet()
    figure, axes = figures.panels(2, width_in=4.6)
    said = []
    for axis, precision in zip(axes, ("int8", "int4"), strict=True):
        for (of, metric), values in series.items():
            points = [(place, value) for place, value in enumerate(values) if value is not None]
            if of != precision or not points:
                continue
            style = {"color": LINE_COLOURS[list(MEANINGS).index(metric)], "marker": "osD^v"[list(MEANINGS).index(metric)], "markersize": 4}
            axis.plot(*zip(*points, strict=True), label=MEANINGS[metric][0], linewidth=1, **style)
            said.append(f"{precision} {MEANINGS[metric][0]} " + ", ".join(f"{sizes[place]} {value:.0f}" for place, value in points))
        claimed = papers.value(PAPER, "memory", precision=precision)
        axis.axhline(claimed["value"], color="#555555", linestyle="--", linewidth=1.2, label=f"the paper ({claimed['status']})")
        said.append(f"the paper for {precision} {claimed['value']:g}")
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set(title=precision, xlabel="size", ylabel=f"change against {baseline}, %" if axis is axes[0] else None)
    highest = max(value for values in series.values() for value in values if value is not None)
    axes[0].set_ylim(-100, max(10, highest + 5))
    figures.legend(figure, axes)
    return figures.show(figure, f"Change of memory against {baseline} in per cent. " + "; ".join(said) + ".")


def measured_on(rows: list[dict] | None = None, results: Path = RESULTS) -> object:
    """Where, when and with what the records of the table were made."""
    from asum_lib.study import records

    paths = sorted({path for row in _read(rows) for path in row["records"]})
    made = [records.read(Path(results).parent / path).provenance for path in paths if (Path(results).parent / path).is_file()]
    if not made:
        return _nothing_yet()

    def each(what):
        return html.escape("; ".join(sorted({str(what(entry)) for entry in made})))

    names = ("torch", "transformers", "peft", "bitsandbytes")
    lines = {
        "records": len(made),
        "finished": " to ".join(dict.fromkeys(pick(entry["finished_at"][:10] for entry in made) for pick in (min, max))),
        "processor": each(lambda entry: f"{entry['cpu']}, {entry['threads']} threads"),
        "accelerator": each(lambda entry: entry["accelerator"] or "none"),
        "libraries": each(lambda entry: ", ".join(f"{name} {entry['packages'][name]}" for name in names if name in entry["packages"])),
    }
    body = "".join(f'<tr><th>{key}</th><td class="text">{value}</td></tr>' for key, value in lines.items())
    return _html(f'<div class="asum-scroll" tabindex="0"><table class="table">{body}</table></div>')


# The paper's statements -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One way to read "int8 saves 30 %, int4 65 %": a meaning of memory, a baseline, and the dtype of what is not quantised."""

    metric: str
    baseline: str
    rest: str
    changes: dict  # {(size, precision): per cent or None}
    agreeing: tuple[str, ...]  # sizes at which both precisions are as claimed
    furthest: float | None  # points between claim and change, at the size where the worse of the two precisions is nearest


def readings(rows: list[dict] | None = None) -> list[Reading]:
    """Every reading of claim A7, from its rule."""
    rows, rule = _read(rows), _rule("A7")
    found = []
    for metric in rule["metrics"]:
        for baseline in rule["baselines"]:
            for rest in ("float32", "float16"):
                changes = {
                    (size, precision): _pct(rows, metric, baseline, size=size, precision=precision, rest=rest)
                    for size in rule["sizes"]
                    for precision in rule["claimed_pct"]
                }
                apart = {
                    size: max(abs(changes[size, precision] - claimed) for precision, claimed in rule["claimed_pct"].items())
                    for size in rule["sizes"]
                    if all(changes[size, precision] is not None for precision in rule["claimed_pct"])
                }
                agreeing = tuple(size for size, points in apart.items() if points <= rule["within_points"])
                found.append(Reading(metric, baseline, rest, changes, agreeing, min(apart.values(), default=None)))
    return found


def readings_table(rows: list[dict] | None = None) -> object:
    """Every reading of claim A7 by size; what is within the rule's margin of the claim is in bold."""
    found, rule = readings(rows), _rule("A7")
    if all(change is None for reading in found for change in reading.changes.values()):
        return _nothing_yet()

    def shown(reading, size):
        parts = []
        for precision, claimed in rule["claimed_pct"].items():
            change = reading.changes[size, precision]
            text = "?" if change is None else _signed_pct(change)
            parts.append(f"<strong>{text}</strong>" if change is not None and abs(change - claimed) <= rule["within_points"] else text)
        return " / ".join(parts)

    lines = [
        [MEANINGS[reading.metric][0], reading.baseline, reading.rest]
        + [shown(reading, size) for size in rule["sizes"]]
        + [", ".join(reading.agreeing) or "none", "?" if reading.furthest is None else f"{reading.furthest:.0f}"]
        for reading in found
    ]
    claimed = " / ".join(f"{precision} {_signed_pct(value)}" for precision, value in rule["claimed_pct"].items())
    titles = ("memory", "against", "not quantised in", *rule["sizes"], "both hold at", "nearest, points")
    caption = f"Change of int8 / int4. The paper: {claimed} (secondary source). Bold: within {rule['within_points']} points of it. "
    caption += "Nearest: how far the worse of the two is from the claim, at the size where that is least."
    return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')


def verdict(identity: str, results: Path = RESULTS) -> object:
    """The verdict on a claim about memory, why, and its rule in words."""
    from asum_lib.study import claims

    [claim] = claims.judge("paper", results, only=identity)
    return _html(f"<p>{_badge(claim['verdict'], VERDICT_COLOURS)} {html.escape(claim['reason'])}</p>{rule_note(claim)}")


def ratio_table(rows: list[dict] | None = None) -> object:
    """Claim A4: all parameters over those that LoRA trains, by model and rank, counted."""
    rows, rule = _read(rows), _rule("A4")
    low, high = rule["claimed"] / rule["within_factor"], rule["claimed"] * rule["within_factor"]
    lines = []
    for model in rule["models"]:
        shown, parameters = [], ""
        for rank in rule["ranks"]:
            total, trained = _counts(rows, model, "fp32", rank)
            if total is None:
                shown.append("missing")
                continue
            parameters, ratio = f"{(total['value'] - trained['value']) / 1e6:,.1f} M", (total["value"] - trained["value"]) / trained["value"]
            text = _linked(trained, f"{ratio:,.0f}x")
            text = f"<strong>{text}</strong>" if low <= ratio <= high else text
            shown.append(f"{text}<br><small>{trained['value'] / 1e6:,.2f} M trained</small>")
        lines.append([model, parameters, *shown])
    titles = ("model", "parameters", *(f"rank {rank}" for rank in rule["ranks"]))
    caption = f"The model's parameters over those of LoRA on query, key and value. Bold: {low:g}x to {high:g}x, read as about {rule['claimed']}x."
    return _html(_table(titles, lines, caption))


@_quietly()
def share_table(rows: list[dict] | None = None) -> object:
    """Claim A11: LoRA's part of LLaMA 7B's weights by rank, and what else a training step on a text of 512 tokens takes."""
    rows, rule = _read(rows), _rule("A11")
    lines = []
    for rank in sorted([rule["rank"], *rule["other_ranks"]]):
        _, trained = _counts(rows, rule["model"], rule["precision"], rank)
        account = fit.account(_text_of_512(rule["model"], rule["precision"], rank))
        share = 100 * account.adapters / account.weights
        text = f"{share:.2f} %" if trained is None else _linked(trained, f"{share:.2f} %")
        held = abs(share - rule["claimed_pct"]) <= rule["within_pct"]
        lora = account.adapters + account.optimizer + account.gradients
        lines.append(
            [
                f"{rank}{' (decides)' if rank == rule['rank'] else ''}",
                _megabytes(account.weights),
                _megabytes(account.adapters),
                f"<strong>{text}</strong>" if held else text,
                f"{100 * account.adapters / account.peak:.2f} %",
                _megabytes(lora),
                _megabytes(account.activations),
                f"{account.activations / lora:,.0f}x",
            ]
        )
    titles = ("rank", "weights, MB", "LoRA, MB", "of the weights", "of the peak", "all of LoRA's, MB", "activations, MB", "against all of LoRA's")
    caption = f"LLaMA 7B in {rule['precision']}, accounted. Bold: rounds to {rule['claimed_pct']} %. All of LoRA's: its weights, what AdamW keeps "
    caption += "of them, and their gradients at the peak. Activations: what is kept for the backward pass, and the temporaries of the peak."
    return _html(f'<div class="asum-main">{_table(titles, lines, caption)}</div>')


@_quietly()
def bottleneck_table() -> object:
    """What QLoRA's authors report for LLaMA 7B beside our account of it, without and with checkpointing."""
    usual, lean = (fit.account(_text_of_512("llama-7b", "int4-dq", 8, device="cuda", gradient_checkpointing=saving)) for saving in (False, True))
    lines = [
        ["4-bit base model", "qlora_base", usual.weights + usual.quantisation_state],
        ["LoRA's weights", "qlora_adapters", usual.adapters],
        ["gradients through the frozen weights", "qlora_input_gradients", usual.activations],
        ["the same with checkpointing", "qlora_input_gradients_checkpointing", lean.activations],
    ]
    shown = [[what, _quoted(QUOTED[name], 1e6), _megabytes(ours)] for what, name, ours in lines]
    caption = "Theirs: input gradients alone; the length of the text is not stated. Ours: LoRA of rank 8 on query, key, value, a text of 512 tokens; "
    caption += "all activations that wait for the backward pass and the temporaries of the peak, logits included: more than theirs by definition. "
    a_layer = QUOTED["qlora_input_gradients"].value / 1e6 / LLAMA_LAYERS
    caption += f"Theirs over LLaMA's {LLAMA_LAYERS} layers is {a_layer:.1f} MB a layer: what is left with checkpointing looks like one layer's."
    return _html(_table(("LLaMA 7B", "QLoRA, MB", "our account, MB"), shown, caption))


def tokens_trained(gpu_days: float, flop_s: float, utilisation: float, parameters: float) -> float:
    """Tokens that fit into a budget of GPU-days, from FLOP = 6 x parameters x tokens (Kaplan et al. 2020, section 2.1)."""
    return gpu_days * 86_400 * flop_s * utilisation / (FLOP_A_TOKEN * parameters)


def budget_table() -> object:
    """What 20,352 V100-days of a 12B model would have computed, by utilisation of the GPUs."""
    value = {name: quoted.value for name, quoted in QUOTED.items()}
    lines = []
    for utilisation in UTILISATIONS:
        tokens = tokens_trained(value["gpu_days"], value["v100_flop_s"], utilisation, value["parameters"])
        flop = FLOP_A_TOKEN * value["parameters"] * tokens
        pairs = tokens / value["tokens_a_pair"]
        times = pairs / value["training_pairs"]
        compute = [f"{100 * utilisation:.0f} %", f"{flop / 1e21:,.1f}", f"{tokens / 1e9:,.0f}", f"{tokens / value['parameters']:.1f}"]
        lines.append([*compute, f"{pairs / 1e6:,.0f}", f"{times:.1f}"])
    passes = f"passes over {value['training_pairs'] / 1e6:,.0f} million"
    titles = ("utilisation", "FLOP, 10<sup>21</sup>", "tokens, 10<sup>9</sup>", "tokens a parameter", "pairs, millions", passes)
    return _html(_table(titles, lines))


def budget_sources() -> object:
    """The figures behind `budget_table`, each with status and source, and the sum of the days."""
    names = ("gpu_days", "parameters", "v100_flop_s", "tokens_a_pair", "training_pairs")
    lines = [[_quoted(QUOTED[name]), QUOTED[name].unit, html.escape(QUOTED[name].source)] for name in names]
    total = sum(days * gpus for days, gpus in GPU_SCHEDULE)
    schedule = " + ".join(f"{days} days x {gpus}" for days, gpus in GPU_SCHEDULE)
    lines.append([f"{total:,} p", "V100-days", html.escape(f"{schedule}: {_RUDALLE}")])
    return _html(f'<div class="wrap">{_table(("figure", "of", "source"), lines, "p primary, s secondary source.")}</div>')


@_quietly()
def divisor_table(model: str = "whisper-large") -> object:
    """What AdaLoRA's own divisor costs on a GPU where PEFT makes it trainable, accounted: a training step with it frozen and learnt."""
    lines = []
    for precision in ("fp32", "bf16", "int8", "int4"):
        plan = fit.Plan(model, precision, "adalora", device="cuda")
        frozen, learnt = fit.account(plan).peak, _with_learnt_divisor(plan)
        lines.append([precision, _megabytes(learnt), _megabytes(frozen), _signed_pct(_change(frozen, learnt))])
    titles = ("precision", "as PEFT leaves it, MB", "frozen, as here, MB", "change")
    caption = f"{html.escape(model)}, AdaLoRA from rank {_started_rank()}, batch 1, peak of a training step on a GPU, accounted and not measured."
    return _html(_table(titles, lines, caption))


def findings(rows: list[dict] | None = None, results: Path = RESULTS) -> object:
    """What the records say, in a few sentences made from them."""
    rows = _read(rows)
    items = [
        *_saving_sentences(rows),
        *_reading_sentence(rows),
        *_weights_sentence(rows, results),
        *_loading_sentence(rows),
        *_training_sentence(rows),
    ]
    if not items:
        return _nothing_yet()
    return _html('<ul class="asum-findings">' + "".join(f"<li>{item}</li>" for item in items) + "</ul>")


def _saving_sentences(rows) -> Iterable[str]:
    for precision in ("int8", "int4"):
        changes = {size: _pct(rows, "weights_bytes", "fp32", size=size, precision=precision, rest="float32") for size in SIZES}
        known = {size: change for size, change in changes.items() if change is not None}
        if len(known) > 1:
            least, most = max(known, key=known.get), min(known, key=known.get)
            claimed = papers.value(PAPER, "memory", precision=precision)
            yield (
                f"The weights in {precision} are {-known[least]:.0f} % ({least}) to {-known[most]:.0f} % ({most}) smaller than in fp32; "
                f"the paper has about {-claimed['value']:g} % ({claimed['status']} source)."
            )


def _reading_sentence(rows) -> Iterable[str]:
    found = [reading for reading in readings(rows) if reading.furthest is not None]
    if not found or any(change is None for reading in found for change in reading.changes.values()):
        return
    holding = [reading for reading in found if reading.agreeing]
    nearest = min(found, key=lambda reading: reading.furthest)
    of = f"{MEANINGS[nearest.metric][0]} against {nearest.baseline}, the rest in {nearest.rest}"
    if holding:
        yield f"Both percentages hold at some size in {len(holding)} of {len(found)} readings; nearest comes {of}."
    else:
        yield f"In none of {len(found)} readings do both percentages hold at any size; nearest comes {of}, {nearest.furthest:.0f} points off."


def _weights_sentence(rows, results: Path) -> Iterable[str]:
    from asum_lib.study import records

    same = []
    for row in rows:
        if row["metric"] == "weights_bytes" and row["value"] is not None and row["records"]:
            held = records.read(Path(results).parent / row["records"][0]).metrics.get("held_bytes")
            same += [held.value == row["value"]] if held else []
    if same:
        yield f"Counted on the loaded model, the weights are to the byte what was accounted for in {sum(same)} of {len(same)} cells."


def _loading_sentence(rows) -> Iterable[str]:
    said = []
    for precision in ("int8", "int4"):
        cell = {"model": "whisper", "size": "large", "precision": precision, "rest": "float32", "method": "none", "device": "cpu"}
        peak, final = (_find(rows, metric, **cell) for metric in ("load_peak_bytes", "weights_bytes"))
        if peak and final and peak["value"] and final["value"]:
            said.append(f"{precision} {_value(peak)} MB, {peak['value'] / final['value']:.2f} times its weights")
    if said:
        yield f"Loading Whisper large from a float32 file takes at its peak: {'; '.join(said)}."


def _training_sentence(rows) -> Iterable[str]:
    apart = []
    for row in rows:
        if row["metric"] == "train_peak_accounted_bytes" and row["cell"]["device"] == "cpu" and row["value"] is not None:
            measured = _find(rows, "train_peak_bytes", **row["cell"])
            if measured is not None and measured["value"] is not None:
                apart.append(_change(measured["value"], row["value"]))
    if apart:
        within = sum(abs(points) <= 10 for points in apart)
        yield (
            f"The measured peak of a training step is within 10 % of the accounted one in {within} of {len(apart)} cells, "
            f"from {_signed_pct(min(apart))} to {_signed_pct(max(apart))}."
        )


# Teaching -------------------------------------------------------------------------------------------------------------


@_quietly()
def layer(precision: str, rest: str = "float32"):
    """The first feed-forward layer (1,280 x 5,120) of Whisper large on the meta device: right shapes and dtypes, no memory."""
    from asum_lib.models import catalogue

    return catalogue.skeleton(catalogue.shallow(catalogue.config("whisper-large"), 1), rest, precision).model.decoder.layers[0].fc1


@_quietly()
def layer_table(precisions: Iterable[str] = ("fp32", "fp16", "int8", "int4", "int4-dq")) -> object:
    """That layer's tensors in each precision, as the library counts them."""
    from asum_lib.measure.memory import weight_parts, weights_bytes

    lines = []
    for precision in precisions:
        module = layer(precision, fit.FLOATS.get(precision, "float32"))
        parts = [f"{part.numbers:,} of {part.dtype} ({part.kind}): {part.bytes:,}" for part in weight_parts(module)]
        bits = 8 * weights_bytes(module) / (module.in_features * module.out_features)
        lines.append([precision, "<br>".join(parts), f"{weights_bytes(module):,}", f"{bits:.3f}"])
    return _html(_table(("precision", "numbers, dtype, kind: bytes", "bytes", "bits a weight"), lines))


def agree(lines: Mapping[str, tuple[int, int]]) -> object:
    """{what: (bytes worked out by hand, bytes that the library counts)} as a table; `InputError` where the two differ."""
    for what, (by_hand, counted) in lines.items():
        if by_hand != counted:
            raise InputError(f"{what}: {by_hand:,} bytes by hand, {counted:,} by the library")
    return _html(_table(("", "by hand, bytes", "by the library, bytes"), [[html.escape(what), f"{a:,}", f"{b:,}"] for what, (a, b) in lines.items()]))


@dataclass(frozen=True)
class Kept:
    """A tensor that waits for the backward pass."""

    name: str
    shape: tuple[int, ...]
    bytes: int


_KEPT_NAMES = {
    ("NativeLayerNorm", "input"): "layer norm: input",
    ("NativeLayerNorm", "result1"): "layer norm: means",
    ("NativeLayerNorm", "result2"): "layer norm: 1 / deviations",
    ("Gelu", "self"): "GELU: input",
}


@_quietly()
def kept(method: str, precision: str = "fp32", model: str = "whisper-large", rank: int = 8) -> list[Kept]:
    """What autograd keeps of one encoder layer of a Whisper on a CPU for one window, each storage once, weights left out.

    The graph of the layer's output is walked on the meta device: nothing is computed.
    """
    import torch

    from asum_lib.measure.standin import stand_in
    from asum_lib.measure.trace import kernels_of
    from asum_lib.models import catalogue

    config = catalogue.config(model)
    whole = catalogue.skeleton(catalogue.shallow(config, 1), "float32", precision)
    stand_in(whole, "cpu")
    adapted = fit.prepare(whole, method, rank)
    states = torch.zeros(1, config.max_source_positions, config.d_model, device="meta", requires_grad=True)
    with kernels_of("cpu"):
        output = whole.model.encoder.layers[0](states, attention_mask=None)
    output = output if isinstance(output, torch.Tensor) else output[0]
    seen = {parameter.untyped_storage()._cdata for parameter in adapted.parameters()}
    found, nodes, known = [], [output.grad_fn], set()
    while nodes:
        node = nodes.pop(0)
        if node is None or node in known:
            continue
        known.add(node)
        nodes += [following for following, _ in node.next_functions]
        for name, tensor in _saved(node):
            if tensor.untyped_storage()._cdata not in seen and tensor.dim():
                seen.add(tensor.untyped_storage()._cdata)
                kind = node.name().removesuffix("Backward0").removesuffix("Backward")
                found.append(Kept(_kept_name(kind, name), tuple(tensor.shape), tensor.untyped_storage().nbytes()))
    return found


def _saved(node) -> Iterable[tuple[str, object]]:
    """(name, tensor) of what a node of a graph keeps; `inputs` is where bitsandbytes' int8 layers do."""
    import torch

    names = sorted(name for name in dir(node) if name.startswith("_saved_"))
    for name in [*names, "inputs"]:
        value = getattr(node, name, None)
        if isinstance(value, torch.Tensor):
            yield name.removeprefix("_saved_"), value


def _kept_name(kind: str, name: str) -> str:
    if kind.startswith("ScaledDotProduct"):
        return f"attention: {name.replace('logsumexp', 'log of the sums')}"
    return _KEPT_NAMES.get((kind, name), "projection: input")


def kept_bytes(method: str, precision: str = "fp32") -> int:
    """The bytes of all that `kept` finds."""
    return sum(tensor.bytes for tensor in kept(method, precision))


def kept_table() -> object:
    """What one encoder layer of Whisper large keeps by way of training it, tensors of one name and shape summed."""
    columns = {"full, fp32": ("full", "fp32"), "LoRA, fp32": ("lora", "fp32"), "LoRA, int8": ("lora", "int8"), "LoRA, int4": ("lora", "int4")}
    counted = {title: _by_shape(kept(*key)) for title, key in columns.items()}
    keys = sorted({key for column in counted.values() for key in column}, key=lambda key: (key[0], -key[2]))
    lines = [
        [name, " x ".join(f"{side:,}" for side in shape), f"{size / 1e6:,.3f}", *(counted[title].get((name, shape, size), "") for title in columns)]
        for name, shape, size in keys
    ]
    sums = {title: sum(number * key[2] for key, number in column.items()) for title, column in counted.items()}
    lines.append(["<strong>one layer, MB</strong>", "", "", *(f"<strong>{size / 1e6:,.1f}</strong>" for size in sums.values())])
    caption = "How many of each. One window of 30 s, what is not quantised in float32."
    return _html(f'<div class="asum-main">{_table(("kept", "shape", "MB each", *columns), lines, caption)}</div>')


def _by_shape(tensors: list[Kept]) -> dict[tuple, int]:
    counted: dict[tuple, int] = {}
    for tensor in tensors:
        shape = tuple(side for side in tensor.shape if side != 1)
        key = (tensor.name, shape, tensor.bytes)
        counted[key] = counted.get(key, 0) + 1
    return counted


@_quietly()
def account_table(plans: Mapping[str, fit.Plan]) -> object:
    """The accounts of some plans side by side, by what the bytes are for, in MB."""
    accounts = {name: fit.account(plan) for name, plan in plans.items()}
    lines = [[PART_NAMES[part], *(_megabytes(account.parts[part]) for account in accounts.values())] for part in PARTS]
    lines.append(["<strong>peak</strong>", *(f"<strong>{_megabytes(account.peak)}</strong>" for account in accounts.values())])
    lines.append(["when", *(html.escape(account.where.replace("optimizer", "optimiser")) for account in accounts.values())])
    return _html(_table(("MB", *map(html.escape, accounts)), lines))


# Which of these can I train or run? ------------------------------------------------------------------------------------

PLOTTED = (("fp32", "full"), ("fp32", "lora"), ("int8", "adalora"), ("int4", "adalora"), ("fp32", "none"), ("int8", "none"), ("int4", "none"))
PLOTTED_MODELS = ("whisper-small", "whisper-medium", "whisper-large", "t5-large", "mbart-large", "llama-7b")


@_quietly()
def fit_rows(models: Iterable[str] | None = None, device: str = "cpu") -> list[dict]:
    """The rows of `fit_report.listing` for decoding and for training; without the interpreter and its libraries, which come on top."""
    from asum_lib.study.fit_report import listing

    return [row for task in fit.TASKS for row in listing(task=task, device=device, models=models, held=0)]


def fit_table(rows: list[dict] | None = None, memory_gb: float = 8) -> object:
    """Every plan with its bytes, as a table that sorts by its heads and hides what does not fit, without a network or a kernel."""
    from asum_lib.models.catalogue import MODELS

    rows = fit_rows() if rows is None else rows
    order = {model: place for place, model in enumerate(MODELS)}
    titles = ("model", "precision", "method", "peak, MB", "loading, MB", "step, MB", *(f"{name}, MB" for name in PART_NAMES.values()), "decided by")
    heads = "".join(f'<th aria-sort="none"><button type="button">{title}</button></th>' for title in titles)
    body = []
    for row in sorted(rows, key=lambda row: -row["peak_bytes"]):
        decided = "loading" if row["decides"] == "load" else row["where"].replace("optimizer", "optimiser")
        fields = [(order[row["model"]], row["model"]), *((row[key], row[key]) for key in ("precision", "method"))]
        sizes = [row["peak_bytes"], row["load_bytes"], row["step_bytes"], *(row["parts_bytes"][part] for part in PARTS)]
        fields += [*((size, _megabytes(size)) for size in sizes), (decided, decided)]
        cells = "".join(f'<td data-value="{html.escape(str(value))}">{html.escape(shown)}</td>' for value, shown in fields)
        body.append(f'<tr data-peak="{row["peak_bytes"]}" data-task="{row["task"]}">{cells}</tr>')
    controls = (
        f'<label>memory, GB <input type="number" min="0" step="any" value="{memory_gb:g}"></label> '
        '<label>task <select><option value="">both</option><option>decode</option><option>train</option></select></label> '
        '<label><input type="checkbox"> also what does not fit</label> <output></output>'
    )
    table = f'<div class="asum-scroll" tabindex="0"><table class="table"><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    return _html(f'{_FIT_STYLE}<div class="asum-fit"><p>{controls}</p>{table}</div>{_FIT_SCRIPT}')


_FIT_STYLE = """<style>
.asum-fit p { display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; align-items: center; }
.asum-fit input[type=number] { width: 6rem; }
.asum-fit td, .asum-fit th { padding: 0.2rem 0.4rem; font-size: 0.82rem; }
.asum-fit th { position: sticky; top: 0; background: var(--pst-color-surface, #eee); }
.asum-fit th button { all: unset; cursor: pointer; font-weight: bold; }
.asum-fit th button:focus-visible { outline: 2px solid; }
.asum-fit th[aria-sort=ascending] button::after { content: " \\25B2"; }
.asum-fit th[aria-sort=descending] button::after { content: " \\25BC"; }
.asum-fit .asum-scroll { max-height: 34rem; overflow-y: auto; }
.asum-fit tr.asum-over td { opacity: 0.5; }
</style>"""
_FIT_SCRIPT = """<script>
for (const box of document.querySelectorAll(".asum-fit:not([data-ready])")) {
  box.dataset.ready = "yes";
  const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("th")];
  const [memory, task, all] = ["input[type=number]", "select", "input[type=checkbox]"].map((name) => box.querySelector(name));
  const show = () => {
    const limit = 1e9 * memory.valueAsNumber, valid = limit > 0;
    let fitting = 0, asked = 0;
    for (const row of body.rows) {
      const wanted = !task.value || row.dataset.task === task.value, over = valid && Number(row.dataset.peak) > limit;
      asked += wanted;
      fitting += wanted && !over;
      row.hidden = !wanted || (over && !all.checked);
      row.classList.toggle("asum-over", over);
    }
    box.querySelector("output").textContent = valid ? `${fitting} of ${asked} fit` : "a size above 0, please";
  };
  const sort = (place) => {
    const up = heads[place].getAttribute("aria-sort") !== "ascending", value = (row) => row.cells[place].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)], apart = x - y;
      return (up ? 1 : -1) * (Number.isNaN(apart) ? x.localeCompare(y) : apart);
    });
    heads.forEach((head, other) => head.setAttribute("aria-sort", other !== place ? "none" : up ? "ascending" : "descending"));
    body.append(...rows);
  };
  heads.forEach((head, place) => head.firstChild.addEventListener("click", () => sort(place)));
  [memory, task, all].forEach((control) => control.addEventListener("input", show));
  show();
}
</script>"""


def plot_fit(rows: list[dict] | None = None, models: Iterable[str] = PLOTTED_MODELS) -> object:
    """Stacked bars of what the bytes of a step are for, one panel a model, one bar a precision and method; GB."""
    rows = fit_rows(models) if rows is None else rows
    models = [model for model in models if any(row["model"] == model for row in rows)]
    figure, axes = figures.panels(len(models), width_in=3)
    said = []
    for axis, model in zip(axes, models, strict=True):
        found = {(row["precision"], row["method"]): row for row in rows if row["model"] == model}
        bars = [key for key in PLOTTED if key in found]
        left = [0.0] * len(bars)
        for part in PARTS:
            sizes = [found[key]["parts_bytes"][part] / 1e9 for key in bars]
            axis.barh(range(len(bars)), sizes, left=left, color=PART_COLOURS[part], label=PART_NAMES[part], linewidth=0)
            left = [a + b for a, b in zip(left, sizes, strict=True)]
        names = [f"{precision} {METHOD_NAMES[method] or 'decoding'}" for precision, method in bars]
        axis.set_yticks(range(len(bars)), names)
        axis.set(title=model, xlabel="GB")
        said.append(f"{model}: " + ", ".join(f"{name} {total:.1f}" for name, total in zip(names, left, strict=True)))
    if axes:
        axes[0].invert_yaxis()  # shared by all
    figures.legend(figure, axes)
    return figures.show(figure, "Bytes at the peak of a step by what they are for, in GB. " + "; ".join(said) + ".")


# One model, for the notebook --------------------------------------------------------------------------------------------


def row_table(row) -> object:
    """The cells of a `memory_footprint.Row`: weights, and each peak accounted and measured with their ratio, in MB."""
    lines = []
    for path, record in zip(row.paths, row.records, strict=True):
        cell, metrics = record.cell, record.metrics
        peaks = [name for name in PHASES if f"{name}_accounted_bytes" in metrics]
        for name in peaks:
            kind = "" if cell["device"] == "cpu" else "_allocated"
            accounted, measured = metrics[f"{name}_accounted_bytes"], metrics.get(f"{name}{kind}_bytes")
            if measured is None:
                shown, ratio = html.escape(record.reason or "accounted only"), ""
            else:
                spread = "" if measured.lo is None else f" ({_megabytes(measured.lo)} to {_megabytes(measured.hi)}, n = {measured.n})"
                shown, ratio = f"{_megabytes(measured.value)}{spread}", f"{measured.value / accounted.value:.3f}"
            link = _link(f"results/{cell['scale']}/{cell['table']}/{path.name}", cell["precision"])
            method = METHOD_NAMES.get(cell["method"]) or "none"
            lines.append([link, method, PHASES[name], _megabytes(metrics["weights_bytes"].value), _megabytes(accounted.value), shown, ratio])
    titles = ("precision", "method", "what", "weights, MB", "peak accounted, MB", "peak measured, MB", "measured / accounted")
    return _html(_table(titles, lines))


def plot_row(row) -> object:
    """Stacked bars of what the accounted bytes at the peak of decoding or of a step are for, one bar a cell; MB."""
    figure, (axis,) = figures.subplots(width_in=7)
    names = [f"{record.cell['precision']} {METHOD_NAMES.get(record.cell['method']) or 'decoding'}" for record in row.records]
    left = [0.0] * len(names)
    for part in PARTS:
        sizes = [record.config["account"][part] / 1e6 for record in row.records]
        axis.barh(range(len(names)), sizes, left=left, color=PART_COLOURS[part], label=PART_NAMES[part], linewidth=0)
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(title=row.model, xlabel="MB")
    figures.legend(figure, [axis])
    said = ", ".join(f"{name} {total:.0f}" for name, total in zip(names, left, strict=True))
    return figures.show(figure, f"{row.model}: accounted bytes at the peak by what they are for, in MB: {said}.")


# Helpers --------------------------------------------------------------------------------------------------------------


def _read(given: list[dict] | None) -> list[dict]:
    return rows() if given is None else given


def _claim(identity: str) -> dict:
    return next(claim for claim in papers.load(PAPER)["claims"] if claim["id"] == identity)


def _rule(identity: str) -> dict:
    return _claim(identity)["rule"]


def _counts(rows: list[dict], model: str, precision: str, rank: int) -> tuple[dict | None, dict | None]:
    """The rows of all and of the trained parameters of a model with LoRA; Nones where they are missing."""
    family, size = model.split("-", 1)
    cell = {"model": family, "size": size, "precision": precision, "method": "lora", "rank": rank, "device": "cpu"}
    found = tuple(_find(rows, f"parameters_{which}", **cell) for which in ("total", "trainable"))
    return found if all(row is not None and row["value"] is not None for row in found) else (None, None)


def _find(rows: list[dict], metric: str, **cell) -> dict | None:
    """The first row of a metric whose cell has these values."""
    return next((row for row in rows if row["metric"] == metric and all(row["cell"].get(key) == value for key, value in cell.items())), None)


def _cells(rows: list[dict]) -> list[dict]:
    """The distinct cells of some rows, in order."""
    return list({tuple(row["cell"].items()): row["cell"] for row in rows}.values())


def _rest(precision: str, rest: str) -> str:
    return fit.FLOATS.get(precision, rest)


def _pct(rows: list[dict], metric: str, baseline: str, **cell) -> float | None:
    row = _find(rows, _change_name(metric, baseline), model="whisper", method="none", device="cpu", **cell)
    return None if row is None else row["value"]


def _change_name(metric: str, baseline: str) -> str:
    return f"{metric.removesuffix('_bytes')}_vs_{baseline}_pct"


def _changes(rows: list[dict], metric: str, cell: dict) -> str:
    """The changes of a quantised cell against fp32 and fp16, below its value."""
    if cell["precision"] in fit.FLOATS:
        return ""
    found = [_find(rows, _change_name(metric, baseline), **cell) for baseline in ("fp32", "fp16")]
    shown = ["?" if row is None or row["value"] is None else _signed_pct(row["value"]) for row in found]
    return "" if set(shown) == {"?"} else f"<br>{_small(' / '.join(shown))}"


def _claimed(precision: str) -> str:
    claimed = papers.value(PAPER, "memory", precision=precision)
    if claimed is None:
        return ""
    source = html.escape(claimed["source"])
    return f'<em title="{source}">{_signed_pct(claimed["value"])} {STATUS_LETTERS[claimed["status"]]}</em>'


def _value(row: dict | None) -> str:
    """A row's value in MB with a link to its record, range and number of repeats where there are any; its reason where it has no value."""
    if row is None:
        return ""
    if row["value"] is None:
        reason = html.escape(row["reason"] or "")
        return f'<span title="{reason}">{html.escape(row["status"])}</span>'
    shown = _linked(row, _megabytes(row["value"]))
    if row["n"] and row["n"] > 1 and row["lo"] is not None:
        spread = f"{_megabytes(row['lo'])} to {_megabytes(row['hi'])}, n = {row['n']}"
        shown += f"<br>{_small(spread)}"
    return shown


def _small(text: str) -> str:
    return f'<span style="font-size: 0.7rem; font-weight: normal">{text}</span>'


def _linked(row: dict, text: str) -> str:
    return _link(row["records"][0], text) if row["records"] else html.escape(text)


def _repeated(rows: list[dict]) -> bool:
    return any((row["n"] or 0) > 1 and row["lo"] is not None for row in rows)


def _configuration(cell: dict) -> tuple[str, str, str]:
    """(model and size, precision, method with what is not usual about it)."""
    method = METHOD_NAMES[cell["method"]] or "none"
    more = [f"rank {cell['rank']}"] * bool(cell["rank"]) + [f"batch {cell['batch_size']}"] * (cell["batch_size"] != 1)
    more += ["checkpointing"] * cell["gradient_checkpointing"]
    more += [cell["optimizer"]] * (cell["optimizer"] not in (None, "adamw"))
    more += [f"rest {cell['rest']}"] * (cell["precision"] in fit.QUANTISED and cell["rest"] != "float32")
    return html.escape(f"{cell['model']} {cell['size']}"), html.escape(cell["precision"]), html.escape(", ".join([method, *more]))


def _times(peak: dict | None, weights: dict | None) -> str:
    known = peak and weights and peak["value"] and weights["value"]
    return f"{peak['value'] / weights['value']:.2f}" if known else ""


def _change(value: float, against: float) -> float:
    return 100 * (value / against - 1)


def _signed_pct(value: float) -> str:
    """`−33 %`, with a true minus sign; below 10 with a decimal."""
    digits = 1 if abs(value) < 9.95 else 0
    return f"{round(value, digits) + 0:+.{digits}f} %".replace("-", "−")


def _megabytes(amount: float) -> str:
    return f"{amount / 1e6:,.0f}" if amount >= 9.5e6 or not amount else f"{amount / 1e6:,.1f}"


def _quoted(quoted: Quoted, unit: float = 1) -> str:
    source = html.escape(f"{quoted.status}: {quoted.source}")
    power = next((power for power in (12, 9) if unit == 1 and quoted.value >= 10**power), 0)
    value = f"{quoted.value / 10**power:g} x 10<sup>{power}</sup>" if power else f"{quoted.value / unit:,.0f}"
    return f'<span title="{source}">{value} {STATUS_LETTERS[quoted.status]}</span>'


def _text_of_512(model: str, precision: str, rank: int, **more) -> fit.Plan:
    return fit.Plan(model, precision, "lora", rank, read=511, written=1, **more)


def _started_rank() -> int:
    from asum_lib.training.adapters import adapter_of

    return adapter_of("adalora", fit.Plan.rank).init_r


def _with_learnt_divisor(plan: fit.Plan) -> int:
    """The peak of a training step where PEFT's divisor is a trained vector of one float32, as it is after a move to a GPU."""
    from asum_lib.measure.memory import training_account
    from asum_lib.measure.standin import stand_in
    from asum_lib.measure.trace import kernels_of
    from asum_lib.models import catalogue

    plan = fit.resolved(plan)
    model, stacks, depths = fit._skeleton(plan)
    stand_in(model, plan.device)
    adapted = fit.prepare(model, plan.method, plan.rank)
    for name, parameter in adapted.named_parameters():
        if "ranknum" in name:
            parameter.data = parameter.data.reshape(1)
            parameter.requires_grad_(True)
    inputs = {"batch_size": plan.batch_size, "read": plan.read, "written": plan.written}
    with kernels_of(plan.device):
        return training_account(adapted, lambda: adapted(**catalogue.training_inputs(model, **inputs)).loss, stacks, depths, plan.optimizer).peak
