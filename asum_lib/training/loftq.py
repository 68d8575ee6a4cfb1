"""LoftQ (Li et al. 2023): a LoRA adapter that begins where quantised weights plus adapter are close to the original weights.

Quantise-then-adapt begins with the quantised weights Q and an adapter that adds nothing, so that all that quantisation lost is
lost. LoftQ alternates: the low-rank part of a rank is what of the residual W - Q is largest, by singular value decomposition, and
Q is what quantising leaves of W less that part. One round leaves Q as quantise-then-adapt has it; only the adapter starts
elsewhere. From the second round on the codes of Q are others too. Training goes on as LoRA's.

What is PEFT's: the adapter itself, its place in the model and its training. Its own LoftQ could not be used, and its arithmetic is
done again here:

- `peft.utils.loftq_utils.loftq_init` and `replace_lora_weights_loftq` send the weights to a GPU by name, so that neither runs on
  a CPU, and the first leaves dequantised floats in the model, where the second has one round and nothing but bitsandbytes' layers.
- They read 4-bit weights by bitsandbytes' kernel, which on a CPU misreads rows that are not whole blocks of 64
  (`models.loading`), as half of the mini widths are.
- They leave the adapter's scale (alpha over rank) out. A layer adds scale x B x A, so at a scale of 2, the one used here for
  LoRA, their start takes the low-rank part twice: Q + 2 B A is as far from W as Q alone. Here B x A is the part over the scale.
- 2-bit weights (`models.two_bits`) are unknown to them: PEFT's own simulation of two bits was dropped.

At a scale of 1 and rows of whole blocks both give the same numbers; a test holds that.
"""

from asum_lib.errors import InputError
from asum_lib.models import loading


def start(adapted, iterations: int = 1) -> None:
    """Set the start of every LoRA layer of a PEFT model on quantised weights, in place; more than one round changes these too.

    A layer that is not quantised, as T5's second matrix of each feed-forward layer, keeps LoRA's start: it has nothing to make up for. The
    original weights are read from the checkpoint folder that the model was loaded from. Raises `InputError` where they are not there, and
    for a rank above what a layer has.
    """
    import torch

    layers = {name.removeprefix("base_model.model."): module for name, module in adapted.named_modules() if len(getattr(module, "lora_A", ()))}
    layers = {name: layer for name, layer in layers.items() if loading.is_quantised(layer.get_base_layer())}
    original = loading.original_weights(adapted.get_base_model(), list(layers))
    for name, layer in layers.items():
        base, rank, scale = layer.get_base_layer(), layer.r["default"], layer.scaling["default"]
        if rank > min(original[name].shape):
            raise InputError(f"rank {rank}: LoftQ starts from that many singular vectors, and {name} has {min(original[name].shape)}: choose fewer")
        weight = original[name].to(base.weight.device)
        with torch.no_grad():
            part = None  # of the weight that the adapter stands for, after each round
            for _ in range(iterations):
                if part is not None:
                    loading.requantise(base, weight - part)
                a, b = decompose((weight - loading.dequantised(base).float()) / scale, rank)
                part = scale * (b @ a)
            for matrices, found in ((layer.lora_A, a), (layer.lora_B, b)):
                parameter = matrices["default"].weight
                parameter.copy_(found.to(parameter))


def decompose(residual, rank: int):
    """(A, B) with B @ A the closest to `residual` (out, in) that a rank allows, shapes (rank, in) and (out, rank), of equal norm."""
    import torch

    left, values, right = torch.linalg.svd(residual, full_matrices=False)
    root = values[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root
