"""AdaLoRA piece by piece, by PEFT's own allocator: scores of directions, the budget, a toy whose ranks are known, and what the study's runs kept.

PEFT's names: P is `lora_B` (out, r), the diagonal of Lambda is `lora_E` (r, 1), Q is `lora_A` (r, in).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.teaching import low_rank

ADAPTER = "default"  # PEFT's name of the only adapter
METHODS = ("adalora", "adalora-inactive", "lora")


# Scores and the budget ------------------------------------------------------------------------------------------------


def running_score(sensitivities: Sequence[float], beta: float = 0.85) -> dict[str, float]:
    """Smoothed sensitivity, its uncertainty and their product for one number, after these sensitivities |weight x gradient|, one a step.

    Both averages start at zero and keep the share `beta` of what they were (Zhang et al. 2023, section 3.2).
    """
    import torch

    model = _adapted({"linear": 1}, init_r=1, target_r=1, beta=beta)
    allocator = model.base_model.rankallocator
    name, value = next((name, parameter) for name, parameter in model.base_model.model.named_parameters() if "lora_E" in name)
    value.data.fill_(1.0)
    for sensitivity in sensitivities:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        value.grad.fill_(sensitivity)
        allocator.update_ipt(model.base_model.model)
    smoothed, uncertainty = allocator.exp_avg_ipt[name].item(), allocator.exp_avg_unc[name].item()
    return {"smoothed": smoothed, "uncertainty": uncertainty, "score": smoothed * uncertainty}


@dataclass(frozen=True)
class Pruned:
    """One call of the allocator: by module the score of each direction, and whether it was kept."""

    scores: Mapping[str, list[float]]
    kept: Mapping[str, list[bool]]


def prune(values: Mapping[str, Sequence[float]], gradients: Mapping[str, Sequence[Sequence[float]]], budget: int, beta: float = 0.5) -> Pruned:
    """What the allocator keeps of square modules with P and Q the identity, after one step: `budget` directions of all.

    `values` are each module's singular values (side,), `gradients` the loss's gradient by its weight (side, side). Raises
    `InputError` where the shapes do not fit, or the budget is not below the number of directions.
    """
    import torch

    side = len(next(iter(values.values())))
    if values.keys() != gradients.keys() or any(np.shape(one) != (side,) for one in values.values()):
        raise InputError("values and gradients: give the same modules, and as many singular values for each")
    if any(np.shape(one) != (side, side) for one in gradients.values()):
        raise InputError(f"gradients: give a matrix of {side} x {side} for each module, as {side} singular values need")
    if not 0 <= budget < side * len(values):
        raise InputError(f"budget {budget}: give a number of directions from 0 to {side * len(values) - 1}")
    model = _adapted(dict.fromkeys(values, side), init_r=side, target_r=1, beta=beta)
    layers, allocator = model.base_model.model, model.base_model.rankallocator
    loss = torch.zeros(())
    for name in values:
        layer, gradient = layers[name], torch.tensor(gradients[name], dtype=torch.float32)
        layer.lora_A[ADAPTER].data, layer.lora_B[ADAPTER].data = torch.eye(side), torch.eye(side)
        layer.lora_E[ADAPTER].data = torch.tensor(values[name], dtype=torch.float32).reshape(side, 1)
        # the layer's outputs for the unit vectors are the columns of its weight, so this loss has `gradient` as the weight's gradient
        loss = loss + (layer(torch.eye(side)).T * gradient).sum()
    loss.backward()
    allocator.update_ipt(layers)
    score = {name: allocator.exp_avg_ipt[name] * allocator.exp_avg_unc[name] for name in allocator.exp_avg_ipt}
    kept = allocator.mask_to_budget(layers, budget)
    scores = {}
    for name in values:
        p, value, q = (score[f"{name}.{part}.{ADAPTER}"] for part in ("lora_B", "lora_E", "lora_A"))
        scores[name] = (value.flatten() + p.mean(dim=0) + q.mean(dim=1)).tolist()
    return Pruned(scores, {name: kept[f"{name}.lora_E.{ADAPTER}"] for name in values})


def budget_by_step(modules: int, init_r: int, target_r: int, tinit: int, tfinal: int, total_step: int) -> list[int]:
    """Directions that PEFT lets all modules together keep, at steps 0 to `total_step`."""
    names = {f"module{number}": 1 for number in range(modules)}
    model = _adapted(names, init_r, target_r, tinit=tinit, tfinal=tfinal, total_step=total_step)
    return [model.base_model.rankallocator.budget_schedule(step)[0] for step in range(total_step + 1)]


def _adapted(sides: Mapping[str, int], init_r: int, target_r: int, beta: float = 0.85, tinit: int = 0, tfinal: int = 0, total_step: int = 1):
    """A PEFT model of square linear layers, {name: side}; `alpha` is the starting rank, so that PEFT's scale is 1."""
    import torch

    low_rank.quiet()
    from peft import AdaLoraConfig, get_peft_model

    config = AdaLoraConfig(
        init_r=init_r,
        target_r=target_r,
        lora_alpha=init_r,
        target_modules=list(sides),
        beta1=beta,
        beta2=beta,
        tinit=tinit,
        tfinal=tfinal,
        total_step=total_step,
    )
    return get_peft_model(torch.nn.ModuleDict({name: torch.nn.Linear(side, side, bias=False) for name, side in sides.items()}), config)


# A toy whose ranks are known ------------------------------------------------------------------------------------------

NEEDED = {"query": 0, "key": 2, "value": 6, "output": 8}  # rank of the change that each module has to learn
WIDTH, INIT_R, TARGET_R, STEPS, RATE, BATCH, NOISE = 32, 8, 4, 200, 0.02, 64, 0.3


@dataclass(frozen=True)
class Run:
    """One training: by module the directions in use at each step from 0, and the loss above that of the true change at each step from 0."""

    method: str
    ranks: Mapping[str, list[int]]
    excess: list[float]

    @property
    def mean(self) -> list[float]:
        """Mean rank over the modules at each step."""
        return [float(np.mean(step)) for step in zip(*self.ranks.values(), strict=True)]

    @property
    def at_end(self) -> dict[str, int]:
        return {name: by_step[-1] for name, by_step in self.ranks.items()}


@lru_cache(maxsize=32)
def train(method: str, seed: int = 0, zero_first: bool = False) -> Run:
    """Teach linear modules of 32 x 32 each a change of known rank (`NEEDED`, all its singular values 1), from noisy examples; about a second.

    `adalora` has its allocator called after every step, `adalora-inactive` has not, `lora` has the target rank everywhere.
    With `zero_first` the gradients are set to zero before the allocator is called instead of after it, a mistake.
    The excess is exact: the mean over outputs of the squared error that the remaining change makes on standard normal inputs.
    """
    import torch

    choose("method", method, METHODS)
    low_rank.quiet()
    from asum_lib.training.adapters import Adapter, attach

    torch.manual_seed(seed)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(WIDTH, WIDTH, bias=False) for name in NEEDED})
    changes = {
        name: torch.from_numpy(low_rank.with_spectrum([1.0] * rank, WIDTH, WIDTH, seed=len(NEEDED) * seed + number)).float()
        for number, (name, rank) in enumerate(NEEDED.items())
    }
    truth = {name: model[name].weight.detach() + change for name, change in changes.items()}
    if method == "lora":
        adapter = Adapter("lora", r=TARGET_R, init_r=None, target_r=None, alpha=2 * TARGET_R, target_modules=tuple(NEEDED))
    else:
        adapter = Adapter(method, None, INIT_R, TARGET_R, 2 * INIT_R, tuple(NEEDED), warmup_share=0.1, final_share=0.4)
    adapted = attach(model, adapter, STEPS)
    optimizer = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=RATE, weight_decay=0.0)
    history = [_state(model, changes, method)]
    for step in range(1, STEPS + 1):
        inputs = torch.randn(BATCH, WIDTH)
        loss = torch.zeros(())
        for name, layer in model.items():
            wanted = inputs @ truth[name].T + NOISE * torch.randn(BATCH, WIDTH)
            loss = loss + (layer(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        if zero_first:
            optimizer.zero_grad(set_to_none=False)
        if method == "adalora":
            adapted.base_model.update_and_allocate(step)
        optimizer.zero_grad(set_to_none=True)
        history.append(_state(model, changes, method))
    history[0] = (dict.fromkeys(NEEDED, adapter.init_r or adapter.r), history[0][1])  # before the first step all singular values are zero
    return Run(method, {name: [ranks[name] for ranks, _ in history] for name in NEEDED}, [excess for _, excess in history])


def _state(model, changes, method: str) -> tuple[dict[str, int], float]:
    """(directions in use by module, loss above that of the true change)."""
    import torch

    with torch.no_grad():
        excess = sum((layer.get_delta_weight(ADAPTER) - changes[name]).square().sum().item() / WIDTH for name, layer in model.items())
        if method == "lora":
            return {name: layer.r[ADAPTER] for name, layer in model.items()}, excess
        return {name: int((layer.lora_E[ADAPTER] != 0).sum()) for name, layer in model.items()}, excess


# What the study's runs kept -------------------------------------------------------------------------------------------


def _records(corpus: str, model: str, method: str, rank: int, targets: str, results: Path) -> list:
    """The records of the grid for one configuration, a seed each, in the order of their seeds."""
    from asum_lib.study import placing, text_tables
    from asum_lib.study.text_cells import RATES_TABLE, TextCell

    tables = [name for name in text_tables.table_names("mini") if name not in (RATES_TABLE, text_tables.RANKS_TABLE)]
    wanted = {"corpus": corpus, "model": model, "method": method, "rank": rank, "targets": targets, "precision": "fp32", "learning_rate": None}
    every = [record for table in tables for _, record in placing.load(results, "mini", table, TextCell)]
    ours = [one for one in every if one.status == "ok" and "own" not in one.cell]
    found = [one for one in ours if all(one.cell.get(key) == value for key, value in wanted.items())]
    if not found:
        raise InputError(f"no record of {method} of rank {rank} for {model} on {corpus} ({targets}) in {results}")
    return sorted(found, key=lambda record: record.cell["seed"])


def rank_history(corpus: str, model: str, method: str, rank: int = 16, targets: str = "qkv", results: Path = RESULTS) -> dict[int, float]:
    """{step: mean rank kept} at the end of each epoch of the study's run, by its record (the first seed)."""
    return {row["step"]: row["kept_rank_mean"] for row in _records(corpus, model, method, rank, targets, results)[0].history}


@dataclass(frozen=True)
class KeptRanks:
    """Rank that AdaLoRA kept, `kept` (seeds, layers, modules), NaN where a layer has no such module."""

    model: str
    corpus: str
    init_r: int
    target_r: int
    seeds: tuple[int, ...]
    layers: tuple[str, ...]
    modules: tuple[str, ...]
    kept: np.ndarray

    def mean_of(self, layer: str = "", module: str = "") -> float:
        """Mean rank over seeds, of the layers and modules with these words in their names, e.g. `decoder` and `cross`."""
        rows, columns = [layer in name for name in self.layers], [module in name for name in self.modules]
        if not any(rows) or not any(columns):
            raise InputError(f"no {module or 'module'} in a layer {layer!r}: layers {', '.join(self.layers)}; modules {', '.join(self.modules)}")
        return float(np.nanmean(self.kept[:, rows][:, :, columns]))


def kept_ranks(corpus: str, model: str, rank: int = 16, targets: str = "qkv", results: Path = RESULTS) -> KeptRanks:
    """Kept rank by layer and module of the study's AdaLoRA at target rank `rank`, from its committed records; `InputError` where there are none.

    Text models only: the records of speech keep the mean alone.
    """
    from asum_lib.study.render_rouge import _place

    found = _records(corpus, model, "adalora", rank, targets, results)
    by_seed = [{_place(name): kept for name, kept in record.params["kept_ranks"].items()} for record in found]
    layers = tuple(dict.fromkeys(layer for layer, _ in by_seed[0]))
    modules = tuple(sorted({module for _, module in by_seed[0]}, key=_order))
    kept = np.array([[[one.get((layer, module), np.nan) for module in modules] for layer in layers] for one in by_seed])
    adapter = found[0].config["adapter"]
    seeds = tuple(record.cell["seed"] for record in found)
    return KeptRanks(model, corpus, adapter["init_r"], adapter["target_r"], seeds, layers, modules, kept)


def _order(module: str) -> tuple[int, int]:
    """Self-attention, cross-attention, feed-forward; in attention query, key, value, output."""
    *kind, last = module.split()
    return ("self", "cross", "").index("".join(kind)), ("q", "k", "v", "o", "out", "wi", "wo", "fc1", "fc2").index(last)


def seed_agreement(data: KeptRanks) -> dict[str, float]:
    """Spearman's rank correlation over modules between the kept ranks of every two seeds."""
    from scipy.stats import spearmanr

    flat = data.kept.reshape(len(data.seeds), -1)
    flat = flat[:, ~np.isnan(flat[0])]
    pairs = [(i, j) for i in range(len(flat)) for j in range(i)]
    return {f"seeds {data.seeds[j]} and {data.seeds[i]}": float(spearmanr(flat[j], flat[i]).statistic) for i, j in pairs}


# Pictures -------------------------------------------------------------------------------------------------------------


def plot_ranks(active: Run, inactive: Run, histories: Mapping[str, Mapping[int, float]], schedule: Sequence[float]) -> object:
    """Left: rank by step of each module of the toy, and the mean where the allocator is not called. Right: the study's {label: {step: mean rank}}.

    `schedule` is the mean rank that the budget allows at each step of the study's run.
    """
    figure, (left, right) = figures.subplots(columns=2)
    for (name, by_step), colour in zip(active.ranks.items(), figures.COLOURS, strict=False):
        left.plot(by_step, color=colour, label=f"{name}, needs {NEEDED[name]}")
    left.plot(inactive.mean, color=figures.GREY, linestyle="--", label="every one, not called")
    left.set(xlabel="step", ylabel="directions in use", title="toy", ylim=(-0.3, INIT_R + 0.5))
    left.legend(frameon=False, fontsize=7, loc="center right", bbox_to_anchor=(1, 0.45))
    right.plot(schedule, color=figures.COLOURS[0], linewidth=0.8, label="budget over modules")
    for (label, history), colour, marker in zip(histories.items(), (figures.COLOURS[0], figures.GREY), "os", strict=False):
        right.plot(list(history), list(history.values()), color=colour, linestyle="none", marker=marker, label=label)
    right.set(xlabel="step", ylabel="mean rank kept", title="the study's runs", ylim=(0, 1.08 * max(schedule)))
    right.legend(frameon=False, fontsize=7, loc="lower right")
    said = ", ".join(f"{name} ends at {rank} and needs {NEEDED[name]}" for name, rank in active.at_end.items())
    ends = "; ".join(f"{label}: {history[min(history)]:.0f} at first, {history[max(history)]:.0f} at the end" for label, history in histories.items())
    return figures.show(figure, f"Toy: {said}; where the allocator is not called all stay at {inactive.mean[-1]:.0f}. The study's runs, {ends}.")


def plot_kept_ranks(data: KeptRanks) -> object:
    """Heat map of layers by modules: the mean rank kept over seeds, and its range below it."""
    figure, (axis,) = figures.subplots(height_in=1.1 + 0.55 * len(data.layers), width_in=max(figures.WIDTH_IN, 0.75 * len(data.modules) + 1.5))
    mean, least, most = data.kept.mean(axis=0), data.kept.min(axis=0), data.kept.max(axis=0)
    image = axis.imshow(mean, cmap="cividis", vmin=0, vmax=data.init_r, aspect="auto")
    for i, j in zip(*np.nonzero(~np.isnan(mean)), strict=True):
        colour = "white" if mean[i, j] < data.init_r / 2 else "black"
        axis.text(j, i, f"{mean[i, j]:.0f}\n{least[i, j]:.0f} to {most[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=7)
    axis.grid(False)
    axis.set_xticks(range(len(data.modules)), [name.replace(" ", "\n") for name in data.modules])
    axis.set_yticks(range(len(data.layers)), data.layers)
    axis.set(xlabel="module", ylabel="layer")
    figure.colorbar(image, ax=axis, label=f"rank kept, of {data.init_r}")
    said = "; ".join(f"{data.layers[i]} {data.modules[j]} {mean[i, j]:.1f}" for i, j in zip(*np.nonzero(~np.isnan(mean)), strict=True))
    return figures.show(
        figure, f"Rank that AdaLoRA kept, {data.model} on {data.corpus}, mean over {len(data.seeds)} seeds, target {data.target_r}: {said}."
    )
