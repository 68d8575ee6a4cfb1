"""Low-rank adapters on the attention projections (the paper's W^Q, W^K, W^V), by PEFT.

AdaLoRA (Zhang et al. 2023) starts at a higher rank and prunes to the target while it trains. PEFT prunes only where
`update_and_allocate(step)` is called after each optimiser step; `transformers.Trainer` does not call it, so AdaLoRA
silently stays at `init_r`. The method `adalora-inactive` is that accident, kept as a cell of its own.

Neither has AdaLoRA's orthogonality penalty: PEFT adds it in `AdaLoraModel.forward`, which a `PeftModel` made without a
task type, as in PEFT's own Whisper example, never calls. What is measured is AdaLoRA as that example would train it.

LoftQ is LoRA that begins elsewhere: see `loftq`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asum_lib.errors import InputError
from asum_lib.models.adapted import fix_divisors
from asum_lib.training import loftq

TARGET_MODULES = ("q_proj", "k_proj", "v_proj")
TARGETS = ("qkv", "all-linear")
# By family: the paper's W^Q, W^K, W^V, and every linear layer of a block.
MODULES = {
    "whisper": {"qkv": TARGET_MODULES, "all-linear": (*TARGET_MODULES, "out_proj", "fc1", "fc2")},
    "mbart": {"qkv": TARGET_MODULES, "all-linear": (*TARGET_MODULES, "out_proj", "fc1", "fc2")},
    "bart": {"qkv": TARGET_MODULES, "all-linear": (*TARGET_MODULES, "out_proj", "fc1", "fc2")},
    "t5": {"qkv": ("q", "k", "v"), "all-linear": ("q", "k", "v", "o", "wi", "wo")},
}


@dataclass(frozen=True)
class Adapter:
    """The resolved adapter of a cell. `r` is LoRA's rank; AdaLoRA goes from `init_r` to `target_r` on average."""

    method: str
    r: int | None
    init_r: int | None
    target_r: int | None
    alpha: int
    target_modules: tuple[str, ...] = TARGET_MODULES
    warmup_share: float | None = None  # AdaLoRA: share of the steps before pruning starts
    final_share: float | None = None  # AdaLoRA: share of the steps after pruning ends


@dataclass(frozen=True)
class LoftQAdapter(Adapter):
    """LoRA whose start makes up for what quantisation lost, in so many rounds of quantising and decomposing."""

    iterations: int = 1


LOFTQ_ITERATIONS = {"loftq": 1, "loftq-5": 5}  # by method


def adapter_of(method: str, rank: int | None, target_modules: tuple[str, ...] = TARGET_MODULES) -> Adapter | None:
    """The adapter of a cell's method at kept rank `rank`; None for `none` and `full`."""
    if method == "lora":
        return Adapter(method, r=rank, init_r=None, target_r=None, alpha=2 * rank, target_modules=target_modules)
    if method in LOFTQ_ITERATIONS:  # LoRA's in all but its start
        rest = {"r": rank, "init_r": None, "target_r": None, "alpha": 2 * rank, "target_modules": target_modules}
        return LoftQAdapter(method, **rest, iterations=LOFTQ_ITERATIONS[method])
    if method in ("adalora", "adalora-inactive"):
        start = rank * 3 // 2  # PEFT's defaults, 12 and 8, in proportion
        shares = {"warmup_share": 0.1, "final_share": 0.4}
        return Adapter(method, r=None, init_r=start, target_r=rank, alpha=2 * rank, target_modules=target_modules, **shares)
    return None


def attach(model, adapter: Adapter, total_steps: int, also: Sequence[str] = ()):
    """The PEFT model that trains `adapter` on top of the frozen `model`, and the modules named `also` as a whole."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    modules = list(adapter.target_modules)
    if adapter.method == "lora" or isinstance(adapter, LoftQAdapter):
        adapted = get_peft_model(model, LoraConfig(r=adapter.r, lora_alpha=adapter.alpha, target_modules=modules, modules_to_save=list(also) or None))
        if isinstance(adapter, LoftQAdapter):
            loftq.start(adapted, adapter.iterations)
        return adapted
    warmup_steps, final_steps = max(1, int(adapter.warmup_share * total_steps)), max(1, int(adapter.final_share * total_steps))
    if total_steps <= warmup_steps + final_steps:
        raise InputError(f"AdaLoRA cannot prune within {total_steps} training steps: take more epochs or more training data")
    config = AdaLoraConfig(
        init_r=adapter.init_r,
        target_r=adapter.target_r,
        lora_alpha=adapter.alpha,
        target_modules=modules,
        tinit=warmup_steps,
        tfinal=final_steps,
        deltaT=1,
        total_step=total_steps,
        modules_to_save=list(also) or None,
    )
    adapted = get_peft_model(model, config)
    fix_divisors(adapted)
    return adapted


def kept_ranks(model) -> dict[str, int]:
    """{name of the adapted module: rank in use}: LoRA's r, or AdaLoRA's directions not pruned; empty without an adapter.

    A pruned direction has a singular value of exactly zero. Before the first step all of them are zero and none is pruned.
    """
    adapted = {name.removeprefix("base_model.model."): module for name, module in model.named_modules() if len(getattr(module, "lora_A", ()))}
    values = {name: module.lora_E["default"] for name, module in adapted.items() if len(getattr(module, "lora_E", ()))}
    if not values:
        return {name: module.r["default"] for name, module in adapted.items()}
    kept = {name: int((value != 0).sum()) for name, value in values.items()}
    return kept if any(kept.values()) else {name: value.numel() for name, value in values.items()}


def kept_rank_mean(model) -> float | None:
    """Mean of `kept_ranks`; None without an adapter."""
    ranks = kept_ranks(model)
    return sum(ranks.values()) / len(ranks) if ranks else None


def kept_parameters(model) -> int:
    """Trained numbers that the finished model needs: a rank's two vectors (and AdaLoRA's singular value), or every trained weight."""
    ranks = kept_ranks(model)
    if not ranks:
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    modules = {name.removeprefix("base_model.model."): module for name, module in model.named_modules()}
    extra = 1 if any(len(getattr(module, "lora_E", ())) for module in modules.values()) else 0
    return sum(rank * (modules[name].in_features + modules[name].out_features + extra) for name, rank in ranks.items())


def allocation(model) -> dict:
    """AdaLoRA's scores and the directions it keeps, as tensors and lists: what training goes on from. Empty for others."""
    allocator = getattr(getattr(model, "base_model", None), "rankallocator", None)
    if allocator is None:
        return {}
    scores = {name: dict(getattr(allocator, name)) for name in _SCORES}
    return scores | {"rank_pattern": allocator.peft_config.rank_pattern}


def restore_allocation(model, saved: dict) -> None:
    """Put back what `allocation` gave, on the devices of the adapters."""
    if not saved:
        return
    allocator, adapted = model.base_model.rankallocator, dict(model.base_model.model.named_parameters())
    for name in _SCORES:
        setattr(allocator, name, {key: score.to(adapted[key].device) for key, score in saved[name].items()})
    allocator.peft_config.rank_pattern = saved["rank_pattern"]


_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # sensitivity of each weight, its running mean, and that of its deviation
