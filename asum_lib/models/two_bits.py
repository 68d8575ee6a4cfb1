"""NF2: weights of two bits, simulated. A weight is one of four levels of its block and is kept as a float.

bitsandbytes quantises to eight and to four bits and has no layer of two; PEFT had a simulation of two bits and has dropped it.
So this is arithmetic in floats: what two bits do to the *quality* of a model shows, what they would save in memory does not, and
nothing here counts it. The levels are made as NF4's are, and their blocks are of 64 weights that run on across rows, as in
bitsandbytes and in the LoftQ authors' own simulation (Li et al. 2023).
"""

import numpy as np

SIMULATED = {"nf2": {"simulated": True, "levels": "nf2", "bits": 2, "block": 64}}
# Dettmers et al. 2023, section 3: where the two halves of the normal distribution end. The mean of 1 - 1/32 and 1 - 1/30, as in bitsandbytes.
NORMAL_END = 1 - (1 / 32 + 1 / 30) / 2


def levels(bits: int) -> np.ndarray:
    """The 2^bits sorted levels of NormalFloat between -1 and 1.

    Quantiles of the normal distribution at evenly spaced probabilities, half of the levels above the median, one fewer below
    it, and 0, over the largest (Dettmers et al. 2023). With two bits they are -1, 0, 0.34 and 1.
    """
    from scipy.stats import norm

    half = 2 ** (bits - 1)
    above = norm.ppf(np.linspace(0.5, NORMAL_END, half + 1)[1:])
    below = norm.ppf(np.linspace(0.5, NORMAL_END, half)[1:])
    return np.concatenate([-below[::-1], [0.0], above]) / above[-1]


def rounded(weight, precision: str = "nf2"):
    """`weight`, a tensor, with each of its numbers at the nearest level of its block: same shape and dtype. The last block may be shorter."""
    import torch
    from torch.nn.functional import pad

    settings = SIMULATED[precision]
    flat = weight.detach().float().flatten()
    blocks = pad(flat, (0, -len(flat) % settings["block"])).view(-1, settings["block"])
    scale = blocks.abs().amax(dim=1, keepdim=True)
    grid = torch.tensor(levels(settings["bits"]), dtype=torch.float32, device=flat.device)
    nearest = torch.bucketize(blocks / torch.where(scale > 0, scale, 1.0), (grid[1:] + grid[:-1]) / 2)
    return (scale * grid[nearest]).flatten()[: len(flat)].view(weight.shape).to(weight.dtype)


def simulate(model, precision: str) -> None:
    """Round the weights of the layers that bitsandbytes would quantise to four bits, in place; the others stay as they are."""
    from asum_lib.models import catalogue

    packed = catalogue.skeleton(model.config, precision="int4")  # on the meta device: which layers transformers' own rule takes
    taken = {name for name, module in packed.named_modules() if hasattr(module, "support_avx512bf16_for_cpu")}
    for name, module in model.named_modules():
        if name in taken:
            module.weight.data = rounded(module.weight.data, precision)
            module.weight.requires_grad_(False)  # as a packed weight cannot be trained either
            module.simulated = precision
