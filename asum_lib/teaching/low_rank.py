"""Low-rank updates of a weight matrix: what a rank keeps of an update, and how far LoRA's first step goes.

A matrix has shape (out, in) as in `torch.nn.Linear`; an update of rank r is B A with B (out, r) and A (r, in), times a scale.
The update of a real model comes from a short fit of the study's small T5, the learning rates from the study's records.
"""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.teaching import worked

METHODS = {"full": "full fine-tuning", "lora": "LoRA", "adalora": "AdaLoRA"}
COLOURS = dict(zip(METHODS, ("#000000", figures.COLOURS[0], figures.COLOURS[1]), strict=True))
LINEAR = ("q", "k", "v", "o", "wi", "wo")  # of T5's blocks: the projections of attention, and the feed-forward layers
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128)  # ranks at which a real update is tried


# What a rank keeps ----------------------------------------------------------------------------------------------------


def with_spectrum(singular_values, out: int, into: int, seed: int = 0) -> np.ndarray:
    """A matrix (out, into) with these singular values, between random orthonormal directions.

    Raises `InputError` where there are more of them than the smaller side has room for.
    """
    values = np.asarray(singular_values, dtype=float)
    if len(values) > min(out, into):
        raise InputError(f"{len(values)} singular values: a matrix of {out} x {into} has at most {min(out, into)}")
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((side, len(values))))[0] for side in (out, into))
    return (left * values) @ right.T


def truncate(matrix, rank: int) -> np.ndarray:
    """The matrix of at most this rank that is nearest in the Frobenius norm (Eckart and Young 1936), of the same shape."""
    return _recompose(np.linalg.svd(np.asarray(matrix, dtype=float), full_matrices=False), rank)


def _recompose(parts, rank: int) -> np.ndarray:
    """The first `rank` singular directions of a decomposition, put together again."""
    left, values, right = parts
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def kept_by_rank(matrix) -> np.ndarray:
    """Share of the squared Frobenius norm that the best approximation of rank 0, 1, 2, ... keeps; the last is 1."""
    squares = np.linalg.svd(np.asarray(matrix, dtype=float), compute_uv=False) ** 2
    return np.concatenate([[0.0], np.cumsum(squares) / squares.sum()])


def kept(matrix, rank: int) -> float:
    """Share of the squared Frobenius norm that rank `rank` keeps at best."""
    shares = kept_by_rank(matrix)
    return float(shares[min(rank, len(shares) - 1)])


def rank_for(matrix, share: float) -> int:
    """The smallest rank that keeps at least this share of the squared Frobenius norm."""
    return int(np.argmax(kept_by_rank(matrix) >= share - 1e-12))


# A real update --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A short full fine-tuning: each linear weight (out, in) before, its update, and the loss with all updates cut to a rank."""

    steps: int
    weights: Mapping[str, np.ndarray]
    updates: Mapping[str, np.ndarray]
    loss_by_rank: Mapping[int, float]  # nats a token on held-out documents; rank 0 is the model before, the highest the whole update


@lru_cache(maxsize=2)
def short_fit(steps: int = 20, batch_size: int = 8, learning_rate: float = 1e-3, held_out: int = 32, seed: int = 0) -> Fit:
    """Train every linear weight in the blocks of the study's small T5 on its target domain for `steps` of AdamW; about ten seconds on one core.

    Embeddings, norms and positions stay, so that the updates of the linear weights are the whole change.
    """
    import torch

    quiet()
    from asum_lib.corpora import texts
    from asum_lib.models import summarize, text_ladder
    from asum_lib.study.text_run import MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS
    from asum_lib.training.batches import epoch_order
    from asum_lib.training.text_examples import TextSplit, mean_loss

    def examples(split: str, count: int):
        documents = texts.load_texts("howto-text", split).documents[:count]
        documents = TextSplit(
            [one.text for one in documents], [one.reference for one in documents], MAX_SOURCE_TOKENS["mini"], MAX_TARGET_TOKENS["mini"]
        )
        return documents.examples(loaded)

    loaded = summarize.load(str(text_ladder.checkpoint("t5")), "fp32", "en", "mini")
    model = loaded.model.requires_grad_(False)
    trained = {name: module.weight.requires_grad_(True) for name, module in model.named_modules() if name.split(".")[-1] in LINEAR}
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    torch.manual_seed(seed)
    train, dev = examples("train", steps * batch_size), examples("dev", held_out)
    optimizer = torch.optim.AdamW(trained.values(), lr=learning_rate, weight_decay=0.0)
    model.train()
    for items in epoch_order(steps * batch_size, batch_size, seed, epoch=1):
        model(**train.collate(items)).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    updates = {name: (weight.detach() - before[name]).numpy() for name, weight in trained.items()}
    losses, parts = {}, {name: np.linalg.svd(update, full_matrices=False) for name, update in updates.items()}
    for rank in CUTS:
        for name, weight in trained.items():
            weight.data.copy_(before[name] + torch.from_numpy(_recompose(parts[name], rank)))
        losses[rank] = mean_loss(model, dev)
    return Fit(steps, {name: weight.numpy() for name, weight in before.items()}, updates, losses)


@dataclass(frozen=True)
class Shares:
    """Share of the squared norm kept by rank (index of an array) in per cent: of every update, every weight and random matrices alike."""

    updates: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    random: Sequence[np.ndarray]

    def at(self, rank: int) -> dict[str, tuple[float, float]]:
        """{kind: (least, most) kept at this rank, in per cent}."""
        groups = {"updates": self.updates, "weights": self.weights, "random": self.random}
        return {kind: (float(min(one[rank] for one in group)), float(max(one[rank] for one in group))) for kind, group in groups.items()}


def shares_data(fit: Fit, seed: int = 0) -> Shares:
    """What every rank keeps of the fit's updates, of the weights that they change, and of normal noise of the same shapes."""
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(update.shape) for update in fit.updates.values()]
    return Shares(*([100 * kept_by_rank(matrix) for matrix in group] for group in (fit.updates.values(), fit.weights.values(), noise)))


def plot_update(fit: Fit, shares: Shares, rank: int = 16) -> object:
    """Left: share of the squared norm that a rank keeps, a band from the least to the most of all matrices. Right: loss with updates of that rank."""
    figure, (left, right) = figures.subplots(columns=2)
    kinds = {"updates": ("updates", figures.COLOURS[0]), "weights": ("weights before", figures.COLOURS[3]), "random": ("random", figures.GREY)}
    for kind, (label, colour) in kinds.items():
        lines = np.array(getattr(shares, kind))
        ranks = np.arange(lines.shape[1])
        left.fill_between(ranks, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.35, linewidth=0)
        left.plot(ranks, np.median(lines, axis=0), color=colour, label=label)
    left.axvline(rank, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="rank", ylabel="squared norm kept, %", ylim=(0, 101), xlim=(0, lines.shape[1] - 1))
    left.legend(loc="lower right", frameon=False)
    right.plot(range(len(fit.loss_by_rank)), list(fit.loss_by_rank.values()), marker="o", color=figures.COLOURS[0])
    right.set_xticks(range(len(fit.loss_by_rank)), list(fit.loss_by_rank))
    right.set(xlabel="rank that each update is cut to", ylabel="held-out loss, nats a token")
    said = "; ".join(f"{kinds[kind][0]} {lo:.0f} to {hi:.0f} %" for kind, (lo, hi) in shares.at(rank).items())
    losses = ", ".join(f"{value:.2f} at rank {cut}" for cut, value in fit.loss_by_rank.items())
    return figures.show(figure, f"Squared norm kept by rank {rank}: {said}. Held-out loss with updates cut to a rank: {losses} nats a token.")


# The first step -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstStep:
    """One step at learning rate 1: the loss's gradient and the change of the weight, both (out, in)."""

    gradient: np.ndarray
    update: np.ndarray

    @property
    def along(self) -> float:
        """Length along the negative gradient, as a share of the gradient's own: 1 for full fine-tuning by plain gradient descent."""
        return float(-(self.gradient * self.update).sum() / (self.gradient**2).sum())

    @property
    def size(self) -> float:
        """Root mean square of the entries of the change."""
        return float(np.sqrt((self.update**2).mean()))


def trained_parameters(method: str, rank: int = 16, out: int = 512, into: int = 768) -> int:
    """Numbers that PEFT trains for one linear layer (out, in) without a bias; for `full` the layer's own, whatever the rank."""
    return sum(parameter.numel() for parameter in _layer(method, rank, None, out, into, False).parameters() if parameter.requires_grad)


def first_step(
    method: str,
    optimizer: str = "adamw",
    rank: int = 16,
    alpha: int | None = None,
    out: int = 512,
    into: int = 768,
    seed: int = 0,
    rslora: bool = False,
) -> FirstStep:
    """What one step of `sgd` or `adamw` at learning rate 1 does to a weight, by PEFT's own layers, for a normal random gradient.

    Adapters are the study's (alpha twice the rank; AdaLoRA starts at one and a half times the rank) unless `alpha` is given,
    for LoRA only; `rslora` divides it by the root of the rank instead. The adapter's random start depends on `seed` too.
    """
    import torch

    choose("optimizer", optimizer, ["sgd", "adamw"])
    torch.manual_seed(seed)
    gradient = torch.randn(out, into)
    layer = _layer(method, rank, alpha, out, into, rslora)
    before = layer.weight.detach().clone()
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    step = torch.optim.SGD(trained, lr=1.0) if optimizer == "sgd" else torch.optim.AdamW(trained, lr=1.0, weight_decay=0.0)
    # the layer's outputs for the unit vectors are the columns of its weight, so this loss has `gradient` as the weight's gradient
    (layer(torch.eye(into)).T * gradient).sum().backward()
    step.step()
    with torch.no_grad():
        update = layer.weight - before if method == "full" else layer.get_delta_weight("default")
    return FirstStep(gradient.numpy(), update.numpy())


def _layer(method: str, rank: int, alpha: int | None, out: int, into: int, rslora: bool):
    """A random linear layer, as it is trained by the method."""
    import torch

    choose("method", method, METHODS)
    if method != "lora" and (alpha or rslora):
        raise InputError(f"alpha and rslora are LoRA's here, not of {method}: leave them out")
    model = torch.nn.ModuleDict({"linear": torch.nn.Linear(into, out, bias=False)})
    if method == "full":
        return model["linear"]
    quiet()
    from peft import LoraConfig, get_peft_model

    from asum_lib.training.adapters import adapter_of, attach

    if alpha or rslora:
        get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, target_modules=["linear"], use_rslora=rslora))
    else:
        attach(model, adapter_of(method, rank, ("linear",)), total_steps=100)
    return model["linear"]


def quiet() -> None:
    """Hide from a page what PEFT's imports say of a widget of tqdm's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("tqdm.auto")


# The learning rates of the study --------------------------------------------------------------------------------------


def rates_data(results: Path = RESULTS, scale: str = "mini") -> dict[str, dict[str, dict[float, float]]]:
    """{"model, corpus": {method: {learning rate: ROUGE-1 on dev documents}}} of the study's search, rank 16, one seed; from its records.

    Raises `InputError` where there are no records.
    """
    from asum_lib.study import placing
    from asum_lib.study.text_cells import RATES_TABLE, TextCell

    found: dict[str, dict[str, dict[float, float]]] = {}
    for _, record in placing.load(results, scale, RATES_TABLE, TextCell):
        if record.status == "ok" and record.cell["method"] in METHODS and "own" not in record.cell:
            pair = found.setdefault(f"{record.cell['model']}, {record.cell['corpus']}", {})
            pair.setdefault(record.cell["method"], {})[record.cell["learning_rate"]] = record.metrics["rouge1"].value
    if not found:
        raise InputError(f"no records of learning rates in {Path(results) / scale / RATES_TABLE}")
    return {pair: {method: dict(sorted(by[method].items())) for method in METHODS if method in by} for pair, by in found.items()}


def best_rate(by_rate: Mapping[float, float]) -> float:
    """The learning rate with the highest value."""
    return max(by_rate, key=by_rate.get)


def gap_table(data: Mapping[str, Mapping[str, Mapping[float, float]]]) -> object:
    """ROUGE-1 of AdaLoRA minus that of LoRA at one and the same learning rate, in points, and where each has its own best."""
    rates = list(dict.fromkeys(rate for methods in data.values() for rate in methods["lora"]))
    lines = []
    for pair, methods in data.items():
        lora, adalora = methods["lora"], methods["adalora"]
        fair = max(adalora.values()) - max(lora.values())
        lines.append([pair, *(f"{adalora[rate] - lora[rate]:+.1f}" for rate in rates), f"{fair:+.1f}"])
    return worked.table(("AdaLoRA above LoRA, ROUGE-1", *(f"both at {rate:g}" for rate in rates), "each at its best"), lines)


def plot_rates(data: Mapping[str, Mapping[str, Mapping[float, float]]]) -> object:
    """ROUGE-1 against the learning rate, a panel for each model and corpus, a line for each method; the best rate of each is filled."""
    figure, axes = figures.panels(len(data))
    said = []
    for axis, (pair, methods) in zip(axes, data.items(), strict=True):
        for method, by_rate in methods.items():
            best = best_rate(by_rate)
            axis.plot(
                list(by_rate), list(by_rate.values()), color=COLOURS[method], label=METHODS[method], marker="o", markerfacecolor="none", markersize=4
            )
            axis.plot([best], [by_rate[best]], color=COLOURS[method], marker="o", markersize=7)
            said.append(f"{pair}: {METHODS[method]} {by_rate[best]:.1f} at {best:g}")
        axis.set_xscale("log")
        axis.set(title=pair, xlabel="learning rate", ylabel="ROUGE-1, dev" if axis is axes[0] else None)
    figures.legend(figure, axes)
    return figures.show(figure, "Best learning rate and its ROUGE-1. " + "; ".join(said) + ".")
