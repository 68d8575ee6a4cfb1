"""Quantisation: a few numbers by hand, the same by bitsandbytes' kernels on a CPU, and what it costs the layers of a mini Whisper.

`symmetric`, `affine` and `blockwise` are the textbook in NumPy. `int8_kernel` and `four_bit_kernel` are bitsandbytes', and so
is every layer of `losses` and `outlier_data`. A weight has shape (out, in) as in `torch.nn.Linear`. Errors are relative: the
Frobenius norm of what is off over that of what is exact.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from asum_lib import figures
from asum_lib.errors import InputError, choose
from asum_lib.models.two_bits import NORMAL_END as NF4_END  # noqa: F401 - the page shows it
from asum_lib.models.two_bits import levels as normal_levels
from asum_lib.teaching import worked

BLOCK = 64  # weights that share a scale in bitsandbytes' 4-bit layers
GRIDS = {"nf4": "NF4", "fp4": "FP4", "uniform": "uniform"}
QUANTISED = {"int8": "int8", "int4": "NF4", "fp4": "FP4"}  # the library's name of a precision: the page's
LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


# By hand --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantised:
    """Integer `codes` and what they stand for: `values`, of the same shape. `scale` is a number, or one a row or block."""

    codes: np.ndarray
    scale: np.ndarray
    values: np.ndarray
    zero_point: int = 0  # the code of 0.0


def symmetric(numbers, bits: int = 8, rows: bool = False) -> Quantised:
    """value = scale x code, codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1; the largest magnitude gets the last code.

    With `rows` each row of a matrix has a scale of its own, shape (rows, 1). A row of zeros has scale 1.
    """
    numbers, most = np.asarray(numbers, dtype=float), 2 ** (bits - 1) - 1
    largest = np.abs(numbers).max(axis=-1, keepdims=True) if rows else np.abs(numbers).max()
    scale = np.where(largest > 0, largest / most, 1.0)
    codes = np.rint(numbers / scale).astype(int)
    return Quantised(codes, scale, scale * codes)


def affine(numbers, bits: int = 8) -> Quantised:
    """value = scale x (code - zero point), codes from -2^(bits-1) to 2^(bits-1) - 1, spread from the least number to the largest.

    The range is widened to hold 0.0, which gets a code of its own.
    """
    numbers, least_code = np.asarray(numbers, dtype=float), -(2 ** (bits - 1))
    least, largest = min(0.0, numbers.min()), max(0.0, numbers.max())
    scale = (largest - least) / (2**bits - 1) or 1.0
    zero_point = round(least_code - least / scale)
    codes = np.clip(np.rint(numbers / scale) + zero_point, least_code, -least_code - 1).astype(int)
    return Quantised(codes, np.asarray(scale), scale * (codes - zero_point), zero_point)


def levels(grid: str) -> np.ndarray:
    """The sorted levels of a 4-bit grid between -1 and 1: 16 of `nf4`, 15 of `fp4` and `uniform`, where +0 and -0 are one.

    NF4: quantiles of the normal distribution at evenly spaced probabilities, eight above the median and seven below it, and 0,
    over the largest (Dettmers et al. 2023). FP4: one sign bit, two of exponent, one of mantissa, as in bitsandbytes.
    Uniform: the symmetric integers from -7 to 7.
    """
    choose("grid", grid, GRIDS)
    if grid == "uniform":
        return np.arange(-7, 8) / 7
    if grid == "fp4":
        positive = np.array([0.0625, 2, 3, 4, 6, 8, 12]) / 12
        return np.concatenate([-positive[::-1], [0.0], positive])
    return normal_levels(bits=4)


def blockwise(numbers, grid: str = "nf4", block: int = BLOCK) -> Quantised:
    """Every `block` consecutive numbers over their largest magnitude, each to the nearest level; codes count levels from the lowest.

    Rows do not matter: a matrix is read as one long row. The last block may be shorter.
    """
    numbers = np.asarray(numbers, dtype=float)
    flat, table = numbers.ravel(), levels(grid)
    starts = np.arange(0, flat.size, block)
    scale = np.maximum.reduceat(np.abs(flat), starts)
    scale = np.where(scale > 0, scale, 1.0)
    each = np.repeat(scale, block)[: flat.size]
    codes = np.searchsorted((table[:-1] + table[1:]) / 2, flat / each)
    return Quantised(codes.reshape(numbers.shape), scale, (each * table[codes]).reshape(numbers.shape))


def relative_error_pct(exact, approximate) -> float:
    """Norm of the difference over the norm of `exact`, in per cent."""
    exact = np.asarray(exact, dtype=float)
    return float(100 * np.linalg.norm(np.asarray(approximate, dtype=float) - exact) / np.linalg.norm(exact))


def misread(numbers, width: int, block: int = BLOCK) -> np.ndarray:
    """NF4 weights of rows of `width`, read by one who starts a new block at every row although quantisation ran on across rows.

    Raises `InputError` where the numbers are no whole rows.
    """
    rows = np.asarray(numbers, dtype=float).reshape(-1)
    if rows.size % width:
        raise InputError(f"{rows.size} numbers are no whole rows of {width}")
    right = blockwise(rows, "nf4", block)
    blocks_a_row = -(-width // block)
    column = np.arange(rows.size) % width
    supposed = np.arange(rows.size) // width * blocks_a_row + column // block
    scale = right.scale[np.minimum(supposed, len(right.scale) - 1)]
    return (scale * levels("nf4")[right.codes]).reshape(-1, width)


# bitsandbytes' kernels ------------------------------------------------------------------------------------------------


def quiet() -> None:
    """Before the first import of transformers or bitsandbytes: keeps off a page what they say of widgets and float16 casts."""
    worked.quiet()
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _functional():
    quiet()
    import bitsandbytes.functional

    return bitsandbytes.functional


def int8_kernel(matrix) -> Quantised:
    """A matrix in int8 with a scale a row, as LLM.int8() quantises weights and activations; from float16, as on a GPU."""
    import torch

    rows = torch.as_tensor(np.asarray(matrix)).half()
    codes, largest, _ = _functional().int8_vectorwise_quant(rows)
    scale = largest.double().numpy()[:, None] / 127
    return Quantised(codes.numpy().astype(int), scale, scale * codes.numpy())


def four_bit_kernel(numbers, grid: str = "nf4", block: int = BLOCK) -> Quantised:
    """Numbers in 4 bits, two in a byte, and read again. Codes are bitsandbytes' own; read as one row, for which its kernel is right."""
    import torch

    choose("grid", grid, ("nf4", "fp4"))
    functional, numbers = _functional(), np.asarray(numbers, dtype=np.float32)
    packed, state = functional.quantize_4bit(torch.from_numpy(numbers.ravel()), blocksize=block, quant_type=grid)
    values = functional.dequantize_4bit(packed, state).numpy()
    pairs = packed.numpy().ravel()
    codes = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[: numbers.size].astype(int)
    return Quantised(codes.reshape(numbers.shape), state.absmax.numpy(), values.reshape(numbers.shape))


def int8_product(inputs, weight, threshold: float = 6.0) -> np.ndarray:
    """inputs (positions, in) times weight (out, in), transposed, by bitsandbytes' int8 layer; shape (positions, out).

    A column of the inputs that reaches `threshold` anywhere stays out of int8; 0 keeps all of them in.
    """
    import torch

    layer = _int8_layer(torch.as_tensor(np.asarray(weight, dtype=np.float32)), threshold)
    with torch.no_grad():
        return layer(torch.as_tensor(np.asarray(inputs, dtype=np.float32))).numpy()


def _int8_layer(weight, threshold: float):
    quiet()
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    layer = Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False, threshold=threshold)
    layer.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    return layer.to("cpu").eval()


# Grids on normal weights ----------------------------------------------------------------------------------------------


def grid_errors(numbers, blocks: Iterable[int] = (BLOCK,)) -> dict[str, list[float]]:
    """{grid: relative error in per cent for each block size} of `blockwise` on the same numbers."""
    blocks = list(blocks)
    return {grid: [relative_error_pct(numbers, blockwise(numbers, grid, block).values) for block in blocks] for grid in GRIDS}


def normal_weights(count: int = 2**18, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, shape (count,)."""
    return np.random.default_rng(seed).standard_normal(count)


# A real layer ---------------------------------------------------------------------------------------------------------


def weight(size: str = "medium", name: str = "encoder.layers.0.fc1") -> np.ndarray:
    """A linear layer's weight (out, in) of a shipped mini Whisper, in fp32."""
    return _model(size, "fp32").get_submodule(f"model.{name}").weight.detach().numpy()


@dataclass(frozen=True)
class Histogram:
    """A weight and its NF4 version: both flat, as they are and over the largest magnitude of their block of 64."""

    before: np.ndarray
    after: np.ndarray
    before_scaled: np.ndarray
    after_scaled: np.ndarray
    shares_pct: np.ndarray  # (16,) weights at each level, lowest first

    @property
    def distinct(self) -> tuple[int, int, int]:
        """How many different values there are: before, after, and after over the block's scale."""
        return len(np.unique(self.before)), len(np.unique(self.after)), len(np.unique(self.after_scaled))


def histogram_data(matrix) -> Histogram:
    """What NF4, by bitsandbytes' kernel, does to a weight."""
    flat = np.asarray(matrix, dtype=np.float32).ravel()
    packed = four_bit_kernel(flat)
    each = np.repeat(packed.scale, BLOCK)[: flat.size]
    shares = np.bincount(packed.codes, minlength=16) / flat.size
    return Histogram(flat, packed.values, flat / each, levels("nf4")[packed.codes], 100 * shares)


def plot_histogram(data: Histogram) -> object:
    """Left: the weights before and after. Right: the same over their block's largest magnitude, where the 16 levels are to be seen."""
    figure, (left, right) = figures.subplots(columns=2, height_in=3.2)
    reach = float(np.quantile(np.abs(data.before), 0.999))
    edges = np.linspace(-reach, reach, 121)
    after, before = {"color": figures.COLOURS[1], "label": "after NF4"}, {"color": figures.COLOURS[0], "label": "before", "linewidth": 1.3}
    left.hist(data.after, bins=edges, histtype="stepfilled", linewidth=0, **after)
    left.hist(data.before, bins=edges, histtype="step", **before)
    left.set(xlabel="weight", ylabel=f"weights a bin of {edges[1] - edges[0]:.4f}")
    width = 0.025
    right.bar(levels("nf4"), data.shares_pct * data.before.size / 100, width=width, linewidth=0, **after)
    right.hist(data.before_scaled, bins=np.arange(-1 - width / 2, 1 + width, width), histtype="step", **before)
    right.set(xlabel="weight / largest magnitude of its block", ylabel=f"weights a bin of {width}", xlim=(-1.07, 1.07))
    figures.legend(figure, [left])
    many, fewer, scaled = data.distinct
    said = f"{data.before.size:,} weights have {many:,} different values before NF4 and {fewer:,} after it. Left, the two outlines are alike"
    said += f" but near 0, where NF4 has a spike and less beside it. Right, over the largest magnitude of their block of {BLOCK}, only {scaled}"
    said += f" values are left, densest around 0, and the level 0 holds {data.shares_pct[7]:.0f} % of the weights."
    return figures.show(figure, f"Two histograms. {said}")


def levels_table(data: Histogram) -> object:
    """The 16 levels, their gaps to the next, and the share of a weight at each."""
    grid = levels("nf4")
    gaps = [f"{gap:.3f}" for gap in np.diff(grid)] + [""]
    lines = [[code, f"{level:.4f}", gap, f"{share:.1f}"] for code, (level, gap, share) in enumerate(zip(grid, gaps, data.shares_pct, strict=True))]
    return worked.table(("code", "level", "to the next", "weights of the layer, %"), lines)


# What a layer loses ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """A linear layer on real inputs: relative errors of what its weight contributes (the bias, which is exact, left out)."""

    name: str
    outlier_columns: int  # of the inputs, at the threshold of 6
    largest_input: float
    error_pct: dict[str, float]  # by precision: of `QUANTISED`

    @property
    def kind(self) -> str:
        return self.name.rsplit(".", 1)[-1]


@lru_cache(maxsize=5)
def losses(size: str = "medium") -> tuple[Loss, ...]:
    """Every quantised layer of a mini Whisper, each fed with what it gets in the fp32 model, so that errors do not add up.

    Layers are bitsandbytes' own, loaded as in the study.
    """
    import torch

    inputs = layer_inputs(size)
    models = {precision: _model(size, precision) for precision in ("fp32", *QUANTISED)}
    found = []
    with torch.inference_mode():
        for name, given in inputs.items():
            module = models["fp32"].get_submodule(name)
            exact, bias = module(given), 0 if module.bias is None else module.bias
            errors = {
                precision: 100 * float((models[precision].get_submodule(name)(given) - exact).norm() / (exact - bias).norm())
                for precision in QUANTISED
            }
            outliers = int((given.abs() >= 6).any(dim=0).sum())
            found.append(Loss(name.removeprefix("model."), outliers, float(given.abs().max()), errors))
    return tuple(found)


@lru_cache(maxsize=2)
def layer_inputs(size: str, utterances: int = 6) -> dict:
    """{name of a linear layer: what it gets for some utterances of the target's dev split, a tensor (positions, in)}, in fp32."""
    import torch

    from asum_lib.corpora import SAMPLE_RATE_HZ, howto
    from asum_lib.models import ladder, loading

    model, (tokenizer, extractor) = _model(size, "fp32"), loading.load_parts(str(ladder.checkpoint(size)))
    takes = howto.takes("target", "dev")[:utterances]
    features = extractor([howto.speak(take) for take in takes], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    rows = [torch.tensor(tokenizer(take.text).input_ids[:-1]) for take in takes]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id)
    caught: dict[str, object] = {}
    hooks = [
        module.register_forward_hook(lambda module, given, output, name=name: caught.update({name: given[0].detach().flatten(0, -2)}))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "proj_out"
    ]
    with torch.inference_mode():
        model(input_features=features, decoder_input_ids=tokens)
    for hook in hooks:
        hook.remove()
    return caught


def parameters(size: str) -> int:
    """Numbers that a shipped mini Whisper is made of."""
    return sum(parameter.numel() for parameter in _model(size, "fp32").parameters())


@lru_cache(maxsize=20)
def _model(size: str, precision: str):
    """A shipped mini Whisper, ready to evaluate."""
    quiet()
    from asum_lib.models import ladder, loading

    choose("size", size, ladder.SIZES)
    return loading.load(str(ladder.checkpoint(size)), precision, "mini").model.eval()


def outlier_table(found: Sequence[Loss]) -> object:
    """The layers whose inputs reach 6 somewhere: how many columns do, and how large they get."""
    lines = [
        [loss.name, loss.outlier_columns, f"{loss.largest_input:.1f}", f"{loss.error_pct['int8']:.1f}"] for loss in found if loss.outlier_columns
    ]
    return worked.table(("layer", "columns at 6", "largest input", "int8, error %"), lines, f"{len(lines)} of {len(found)} layers.")


def grid_table(errors: dict[str, list[float]], blocks: Sequence[int]) -> object:
    """`grid_errors` by block size."""
    lines = [[GRIDS[grid], *(f"{error:.1f}" for error in found)] for grid, found in errors.items()]
    return worked.table(("error, %", *(f"block of {block:,}" for block in blocks)), lines)


def loss_table(found: Sequence[Loss]) -> object:
    """Relative error of the layers of each kind: median, and from the least to the most."""
    lines = []
    for kind in LAYERS:
        of_kind = [loss for loss in found if loss.kind == kind]
        shown = []
        for precision in QUANTISED:
            errors = [loss.error_pct[precision] for loss in of_kind]
            shown.append(f"{np.median(errors):.1f} ({min(errors):.1f} to {max(errors):.1f})")
        lines.append([kind, len(of_kind), *shown])
    titles = ("layer", "how many", *(f"{name}, %" for name in QUANTISED.values()))
    return worked.table(titles, lines, "Relative error of a layer's output: median (least to most) over the layers of a kind.")


def sizes_table(sizes: Sequence[str]) -> object:
    """The median relative error over all layers of each size."""
    lines = [[size, *(f"{spread(losses(size), precision)[1]:.2f}" for precision in QUANTISED)] for size in sizes]
    return worked.table(("size", *(f"{name}, %" for name in QUANTISED.values())), lines, "Median over all layers of a model.")


def spread(found: Sequence[Loss], precision: str) -> tuple[float, float, float]:
    """(least, median, most) relative error in per cent over the layers."""
    errors = [loss.error_pct[choose("precision", precision, QUANTISED)] for loss in found]
    return min(errors), float(np.median(errors)), max(errors)


# Outliers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outlier:
    """Error of int8 on real inputs with one column set to a magnitude, over what the layer puts out without that column, in per cent."""

    magnitudes: np.ndarray
    all_int8_pct: np.ndarray
    llm_int8_pct: np.ndarray  # at threshold 6


def outlier_data(size: str = "medium", name: str = "encoder.layers.0.fc1", column: int = 0, magnitudes: Sequence[float] | None = None) -> Outlier:
    """One column of a layer's real inputs is set to each of `magnitudes` at every position. Kernels are bitsandbytes'.

    The constant column adds the same vector to every output, so what counts is how far the rest of the output is off. Raises
    `InputError` where another column reaches the threshold by itself.
    """
    magnitudes = np.geomspace(1, 100, 25) if magnitudes is None else np.asarray(magnitudes, dtype=float)
    matrix = weight(size, name)
    inputs = layer_inputs(size)[f"model.{name}"].numpy().copy()
    inputs[:, column] = 0.0
    if np.abs(inputs).max() >= 6:
        raise InputError(f"{name} of {size}: its inputs reach {np.abs(inputs).max():.1f} without an outlier added")
    size_without = np.linalg.norm(inputs @ matrix.T)
    errors: dict[float, list[float]] = {0.0: [], 6.0: []}
    for magnitude in magnitudes:
        inputs[:, column] = magnitude
        exact = inputs @ matrix.T
        for threshold, found in errors.items():
            found.append(100 * float(np.linalg.norm(int8_product(inputs, matrix, threshold) - exact) / size_without))
    return Outlier(magnitudes, np.array(errors[0.0]), np.array(errors[6.0]))


def plot_outlier(data: Outlier) -> object:
    """Error against the magnitude of the outlier, with and without LLM.int8()'s threshold; both axes logarithmic."""
    figure, (axis,) = figures.subplots()
    axis.plot(data.magnitudes, data.all_int8_pct, color=figures.COLOURS[3], marker="s", markersize=3, label="every column in int8")
    axis.plot(data.magnitudes, data.llm_int8_pct, color=figures.COLOURS[0], marker="o", markersize=3, label="LLM.int8(), threshold 6")
    axis.axvline(6, color=figures.GREY, linestyle="--", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="magnitude of the one outlier column", ylabel="error of the output, %")
    for ticks, by in ((axis.xaxis, "{x:g}"), (axis.yaxis, "{x:g}")):
        ticks.set_major_formatter(by)
    axis.legend(frameon=False)
    said = f"At magnitude {data.magnitudes[-1]:g} the error is {data.all_int8_pct[-1]:.1f} % with every column in int8 and"
    said += f" {data.llm_int8_pct[-1]:.1f} % with the threshold."
    return figures.show(figure, f"Error of a layer's output against the magnitude of one input column. Up to 6 the two lines are one. {said}")
