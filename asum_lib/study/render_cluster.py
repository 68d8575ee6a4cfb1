"""How the forecasts for a cluster and the check of its profile are shown. Measures nothing, types no figure."""

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asum_lib import figures
from asum_lib.paths import RESULTS
from asum_lib.study import cluster, fit
from asum_lib.study.cells import make_cell
from asum_lib.study.cluster import CORPORA, GPUS, USUAL, Assumptions, Estimate, Gpu
from asum_lib.study.text_cells import make_text_cell

CHECK = RESULTS / "slurm_check.json"  # what runs/slurm_check.sh saw
GPU_COUNTS = (1, 2, 4, 8)
UNKNOWN = "unknown"
STATUS = '<abbr title="from arithmetic and assumptions, not measured">derived</abbr>'


def requests_table() -> object:
    """What some jobs ask a cluster for, at both scales."""
    mini = [make_cell(size, "int8", "adalora", seed=seed) for size in ("large",) for seed in (0, 1, 2)]
    jobs = {
        "mini: large, int8 + AdaLoRA, three seeds": mini,
        "mini: T5, fp32 + LoRA": [make_text_cell("howto-text", "t5", method="lora")],
        "mini: a corpus, without a model": [],
        "paper: Whisper tiny, int8": [make_cell("tiny", "int8", "none", scale="paper", corpus="librispeech")],
        "paper: Whisper large, int8 + AdaLoRA": [make_cell("large", "int8", "adalora", scale="paper", corpus="librispeech")],
        "paper: Whisper large on How2": [make_cell("large", "int8", "none", scale="paper", corpus="how2")],
        "paper: mBART on Gazeta, full": [make_text_cell("gazeta-v1", "mbart", method="full", scale="paper")],
    }
    lines = []
    for name, cells in jobs.items():
        asked, again = cluster.request(cells), cluster.request(cells, attempt=2)
        on_gpu = f"{max(map(cluster.fit_bytes, cells)) / 1e9:.1f}" if asked.gpu else ""
        lines.append([name, f"{asked.mem_mb:,}", f"{asked.runtime:,}", asked.gpu, on_gpu, f"{again.mem_mb:,} MB, {again.runtime:,} min"])
    own, with_gpu, times = cluster.PROCESS_BYTES / 1e9, cluster.GPU_PROCESS_BYTES / 1e9, cluster.MINUTES_MARGIN
    caption = (
        f"What a job asks for. Main memory: the library's forecast, {own:g} GB for the processes themselves ({with_gpu:g} GB with a GPU), and "
        f"{100 * cluster.MARGIN - 100:.0f} % more. Minutes: at scale mini {times} times what like cells have taken, at scale paper {times} times "
        "the derived time; a day where that is unknown."
    )
    return _table(["job", "memory, MB", "minutes", "GPUs", "GPU memory forecast, GB", "after a failure"], lines, caption)


def assumptions_table(gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL) -> object:
    """Every number that an estimate rests on, and how well it is known."""
    extra = ", ".join(f"{count} for {precision}" for precision, count in assumed.quantised_operations.items())
    lines = [
        ["card", gpu.name, "chosen", "any other by a <code>Gpu(...)</code>"],
        ["bfloat16, TFLOP/s", f"{gpu.half_flops / 1e12:g}", gpu.status, "training, and decoding of all but fp32"],
        ["float32, TFLOP/s", f"{gpu.single_flops / 1e12:g}", gpu.status, "decoding in fp32: PyTorch leaves TF32 off"],
        ["memory, TB/s", f"{gpu.bytes_per_s / 1e12:g}", gpu.status, "weights and cache in decoding, updates in training"],
        ["share of the FLOP/s reached", f"{assumed.utilisation:g}", "assumed", ""],
        ["share of the bytes/s reached", f"{assumed.bandwidth:g}", "assumed", ""],
        ["an operation takes at least, µs", f"{1e6 * assumed.operation_s:g}", "assumed", "Python and the launch of a kernel"],
        ["operations more a quantised layer", extra, "assumed", "bitsandbytes: scaling, or unpacking"],
        ["start of a job, s", f"{assumed.start_s:g}", "assumed", "imports, loading"],
        ["operations of a layer", f"{min(_operations())} to {max(_operations())}", "counted", "by method, on the real architectures"],
    ]
    for name, counts in CORPORA.items():
        shown = UNKNOWN if counts is None else f"{counts.train:,} / {counts.dev:,} / {counts.test:,}; {counts.written} tokens"
        lines.append([f"{name}: train / dev / test", shown, UNKNOWN if counts is None else "published", "" if counts is None else counts.source])
    return _table(["assumption", "value", "status", ""], lines, "What the hours rest on.", prose=True)


def _operations() -> list[int]:
    kinds = [kind for family in cluster.OPERATIONS.values() for kind in family.values()]
    return [number for kind in kinds for number in (kind if isinstance(kind, tuple) else [kind])]


def arithmetic(cell=None, gpu: Gpu = GPUS["a100"], assumed: Assumptions = USUAL) -> object:
    """The way from one cell to its hours, a line a step."""
    cell = cell or make_cell("large", "int8", "adalora", scale="paper", corpus="librispeech")
    shape, found = cluster.shape_of(cell), cluster.estimate(cell, gpu, assumed)
    layers, width, whole = shape.layers, shape.width, cell.method == "full"
    kind = "3 forward passes" if whole else "2 forward passes, since frozen weights need no gradient"
    kind += ", and one more for checkpointing" if shape.checkpointing else ""
    passes = -(-shape.batch // shape.micro_batch)
    operations, updates = cluster.launches(cell, shape, assumed)
    operations *= passes
    compute_s = cluster.training_flops(shape, cell.method) * shape.batch / (gpu.half_flops * assumed.utilisation)
    step_s = cluster.step_seconds(cell, gpu, assumed)
    microseconds, peak = f"{1e6 * assumed.operation_s:g} µs", f"{assumed.utilisation:.0%} of {gpu.half_flops / 1e12:g} TFLOP/s"
    words = f"{shape.written} tokens through {layers} layers and {shape.vocabulary:,} words"
    lines = [
        ["encoder", _tera(cluster.encoder_flops(shape)), f"{layers} layers × (2 × 12 × {width}² × {shape.read} + 4 × {shape.read}² × {width})"],
        ["keys and values of its states", _tera(cluster.cross_flops(shape)), f"{layers} layers × 4 × {width}² × {shape.read}"],
        ["decoder", _tera(cluster.decoder_flops(shape, shape.written)), words],
        ["an item's step", _tera(cluster.training_flops(shape, cell.method)), kind],
        ["its arithmetic", f"{1e3 * compute_s:.0f} ms", f"batch {shape.batch}, {peak}"],
        ["its launches", f"{1e3 * operations * assumed.operation_s:.0f} ms", f"{operations:,} operations of {microseconds}"],
        ["a step", f"{1e3 * step_s:.0f} ms", f"the longer of the two, and the update of the weights ({updates:,} operations)"],
        ["steps", f"{found.steps:,}", f"{shape.epochs} epochs of {-(-CORPORA[cell.corpus].train // shape.batch):,} batches"],
        *[[name, f"{seconds / 3600:.2f} h", STATUS] for name, seconds in found.parts.items()],
        ["the cell", f"{found.hours:.1f} h", STATUS],
    ]
    return _table(["part", "value", "from"], lines, f"{html.escape(cell.name)} on {cell.corpus}, on one {gpu.name}.", prose=True)


def _tera(flops: float) -> str:
    return f"{flops / 1e12:.2f} TFLOP"


def hours_table(planned: Mapping[str, Sequence[Estimate]], price_per_gpu_hour: float | None = None, currency: str = "") -> object:
    """Hours and cost by table; what is not known is counted and said. On the page a price can be filled in."""
    lines = []
    for table, found in planned.items():
        known = [one for one in found if one.hours is not None]
        hours = sum(one.hours for one in known) if known else None
        longest = max((one.hours for one in known), default=None)
        steps = f"{sum(one.steps for one in known):,}" if known else UNKNOWN
        reasons = "; ".join(sorted({one.reason for one in found if one.reason}))
        missing = f"{len(found) - len(known)}: {reasons}" if reasons else "none"
        lines.append([table, len(found), steps, _hours(hours), _hours(longest), _priced(hours, price_per_gpu_hour, currency), missing])
    total = sum(cluster.known_hours(planned).values())
    cells = sum(map(len, planned.values()))
    lines.append(["all that is known", cells, "", _hours(total), "", _priced(total, price_per_gpu_hour, currency), ""])
    caption = f"GPU hours of every planned cell at scale paper, one GPU a cell, {STATUS}. Without a price no cost is known."
    titles = ["table", "cells", "training steps", "GPU hours", "longest cell, h", "cost", "cells of unknown length"]
    value = "" if price_per_gpu_hour is None else f' value="{price_per_gpu_hour:g}"'
    form = f'<p><label>Price of a GPU hour <input type="number" min="0" step="any"{value} style="width: 7em"></label></p>'
    return _html(f'<div class="asum-cost">{form}{_table(titles, lines, caption, prose=True).data}</div>{_COST_SCRIPT}')


def _priced(hours: float | None, price: float | None, currency: str) -> str:
    """A cost that the page's form can fill in, where hours are known."""
    return UNKNOWN if hours is None else f'<span data-hours="{hours:.3f}">{_cost(hours, price, currency)}</span>'


_COST_SCRIPT = """<script>
for (const box of document.querySelectorAll(".asum-cost:not([data-ready])")) {
  box.dataset.ready = "yes";
  const price = box.querySelector("input");
  price.addEventListener("input", () => {
    for (const cost of box.querySelectorAll("[data-hours]")) {
      const value = price.valueAsNumber * Number(cost.dataset.hours);
      cost.textContent = value >= 0 ? Math.round(value).toLocaleString("en") : "unknown";
    }
  });
}
</script>"""


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:,.1f}"


def _cost(hours: float | None, price: float | None, currency: str) -> str:
    return UNKNOWN if None in (hours, price) else f"{cluster.cost(hours, price):,.0f} {html.escape(currency)}".strip()


def cells_table(planned: Mapping[str, Sequence[Estimate]], price_per_gpu_hour: float | None = None, currency: str = "") -> object:
    """Every cell once, its seeds together; those whose hours are known, the longest first within a table."""
    grouped: dict[tuple, list[Estimate]] = {}
    for table, found in planned.items():
        for one in found:
            if one.hours is not None:
                name = one.cell.name.rsplit("-s", 1)[0]
                grouped.setdefault((table, name), []).append(one)
    lines = []
    for (table, name), seeds in grouped.items():
        one = seeds[0]
        step_s = one.parts["train"] / one.steps if one.steps else None
        shown = [f"{one.parts.get(part, 0) / 3600:.2f}" for part in ("train", "dev", "test")]
        fields = [name, len(seeds), f"{one.steps:,}", "" if step_s is None else f"{step_s:.3f}", *shown, f"{one.hours:.2f}"]
        if price_per_gpu_hour is not None:
            fields.append(_cost(one.hours * len(seeds), price_per_gpu_hour, currency))
        lines.append((table, -one.hours, [table, *fields]))
    order = list(planned)
    lines.sort(key=lambda line: (order.index(line[0]), line[1]))
    titles = ["table", "cell", "seeds", "steps", "s a step", "training, h", "dev, h", "test, h", "cell, h"]
    priced = "the cost is of all its seeds" if price_per_gpu_hour is not None else "its cost is unknown, since no price is given"
    titles += ["cost"] if price_per_gpu_hour is not None else []
    caption = f"Hours of one seed's cell by what they are for, {STATUS}; {priced}."
    shown = _table(titles, [line for _, _, line in lines], caption).data
    return _html(shown.replace('class="asum-scroll"', 'class="asum-scroll" style="max-height: 30em; overflow-y: auto"', 1))


def schedule_table(planned: Mapping[str, Sequence[Estimate]], gpus: Sequence[int] = GPU_COUNTS) -> object:
    """How long all known cells take on N GPUs, the longest first."""
    hours = cluster.known_hours(planned)
    lines = []
    for count in gpus:
        found = cluster.schedule(hours, count)
        idle = 100 * (1 - found.busy_h / (count * found.makespan_h))
        lines.append([count, f"{found.makespan_h:,.1f}", f"{found.makespan_h / 24:,.1f}", f"{found.bound_h:,.1f}", f"{idle:.2f}"])
    caption = f"{len(hours)} cells, the longest first, each on the GPU that is free first; {STATUS}. No order is shorter than the bound."
    return _table(["GPUs", "makespan, h", "days", "bound, h", "idle, %"], lines, caption)


def schedule_data(planned: Mapping[str, Sequence[Estimate]], gpus: int = 4) -> cluster.Schedule:
    """The schedule of all known cells on `gpus` GPUs."""
    return cluster.schedule(cluster.known_hours(planned), gpus)


def plot_schedule(found: cluster.Schedule) -> object:
    """A bar a GPU, each cell a piece of it in its table's colour."""
    figure, (axis,) = figures.subplots(height_in=0.6 + 0.45 * found.gpus + 0.6)
    names = list(dict.fromkeys(job.name.split("/")[0] for job in sorted(found.placed, key=lambda job: job.name)))
    colours = dict(zip(names, figures.COLOURS, strict=False))
    for name in names:
        own = [job for job in found.placed if job.name.startswith(f"{name}/")]
        lengths, starts = [job.end_h - job.start_h for job in own], [job.start_h for job in own]
        axis.barh([job.gpu for job in own], lengths, left=starts, color=colours[name], edgecolor="white", linewidth=0.2, label=name)
    axis.set_yticks(range(found.gpus), [f"GPU {number}" for number in range(found.gpus)])
    axis.invert_yaxis()
    axis.set(xlabel="hours since the start (derived)")
    figures.legend(figure, [axis])
    longest = max(found.placed, key=lambda job: job.end_h - job.start_h)
    said = f"{len(found.placed)} cells on {found.gpus} GPUs end after {found.makespan_h:,.0f} hours. The longest, {longest.name}, "
    return figures.show(figure, f"{said}takes {longest.end_h - longest.start_h:.1f} hours and starts first; the shortest fill the ends.")


def sensitivity_table(price_per_gpu_hour: float | None = None, currency: str = "") -> object:
    """The sum of all known hours under other assumptions."""
    lines = []
    for gpu in GPUS.values():
        for utilisation in (0.15, 0.3, 0.5):
            for operation_s in (5e-6, 10e-6, 20e-6):
                planned = cluster.plan(gpu, Assumptions(utilisation=utilisation, operation_s=operation_s))
                total = sum(cluster.known_hours(planned).values())
                lines.append(
                    [
                        f"{gpu.name} ({gpu.status})",
                        f"{utilisation:g}",
                        f"{1e6 * operation_s:g}",
                        _hours(total),
                        _cost(total, price_per_gpu_hour, currency),
                    ]
                )
    return _table(
        ["card", "share of the FLOP/s", "µs an operation", "GPU hours", "cost"], lines, f"All known cells under other assumptions, {STATUS}."
    )


def check_table(path: Path = CHECK) -> object:
    """What the check of the profile saw, from its record."""
    if not Path(path).is_file():
        return _html("<p>No record of the check yet: <code>runs/slurm_check.sh</code> makes one.</p>")
    seen = json.loads(Path(path).read_text())
    lines = [[html.escape(step), html.escape(what)] for step, events in seen["seen"].items() for what in events]
    where = f"Slurm {seen['slurm']}, on one node of {seen['cpus']} CPUs, {seen['finished_at'][:10]}"
    caption = f"The table whisper_digits, nine jobs, through {html.escape(where)}."
    return _table(["run", "seen"], lines, caption, prose=True)


def gpu_memory_table() -> object:
    """How many of the planned cells fit a card, by the library's forecast."""
    sizes = [12, 16, 24, 40, 80]
    lines = []
    for table, cells in cluster.paper_cells().items():
        if table == cluster.memory_footprint.TABLE:
            continue
        kinds = Counter(replace(cell, seed=0) for cell in cells if cluster.needs_gpu(cell))
        needed = [amount for cell, count in kinds.items() for amount in [cluster.fit_bytes(cell)] * count]
        lines.append([table, len(needed), fit.gigabytes(max(needed)), *(sum(amount <= size * 1e9 for amount in needed) for size in sizes)])
    titles = ["table", "cells", "the largest", *(f"fit {size} GB" for size in sizes)]
    return _table(titles, lines, "Cells whose live tensors fit a card's memory, by the library's forecast; the context of the card comes on top.")


def _table(titles: Sequence[str], lines: Sequence[Sequence], caption: str, prose: bool = False) -> object:
    """A table with a heading a row; in one of `prose` long fields are broken into lines."""
    cell = '<td style="white-space: normal; text-align: left">' if prose else "<td>"
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr><th>{first}</th>" + "".join(f"{cell}{field}</td>" for field in rest) + "</tr>" for first, *rest in lines)
    return _html(
        f'<div class="asum-scroll" tabindex="0"><table class="table asum-main"><caption>{caption}</caption><tr>{head}</tr>{body}</table></div>'
    )


def _html(text: str) -> object:
    from IPython.display import HTML

    return HTML(text)
