"""Attention: three positions by hand, the heads of a mini Whisper that follow the sound, and where an adapter sits in a layer.

`attend` is the textbook in NumPy, and `recomputed` holds it against a head of a real model. A query, key or value has shape
(positions, dims), attention weights (queries, keys), a linear layer's weight (out, in) as in `torch.nn.Linear`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from asum_lib import figures
from asum_lib.errors import InputError, choose
from asum_lib.teaching import quantisation, worked

POSITION_S = 0.04  # of sound that an encoder position of the mini ladder stands for: two log-mel frames of 20 ms
ROLES = ("query", "key", "value", "output", "widening", "narrowing")  # in the order of `adapters.MODULES`
CHECKPOINTS = {"whisper": "Whisper medium (mini)", "t5": "T5 (mini)", "mbart": "mBART (mini)"}
REAL = {"whisper-medium": "Whisper medium", "t5-base": "T5 base", "mbart-large": "mBART large"}
TARGETS = {"qkv": "q, k, v", "all-linear": "all of a block"}


# By hand --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attended:
    """Scaled `scores` (queries, keys), -inf where masked; their softmax `weights`; and the `output` (queries, dims of a value)."""

    scores: np.ndarray
    weights: np.ndarray
    output: np.ndarray


def softmax(scores) -> np.ndarray:
    """exp(score) over the sum of its row, for each row; minus infinity becomes 0."""
    scores = np.asarray(scores, dtype=float)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attend(query, key, value, causal: bool = False) -> Attended:
    """softmax(Q K^T / sqrt(dims)) V (Vaswani et al. 2017, equation 1). With `causal`, query i sees keys 0 to i only.

    Raises `InputError` where the shapes do not fit.
    """
    query, key, value = (np.asarray(one, dtype=float) for one in (query, key, value))
    if query.shape[-1] != key.shape[-1] or len(key) != len(value):
        raise InputError(
            f"queries {query.shape}, keys {key.shape} and values {value.shape} do not fit: dims of query and key, positions of key and value"
        )
    scores = query @ key.T / np.sqrt(key.shape[-1])
    if causal:
        scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf)
    weights = softmax(scores)
    return Attended(scores, weights, weights @ value)


def attend_in_heads(query, key, value, heads: int, causal: bool = False) -> np.ndarray:
    """The outputs of `heads` attentions, each on its own share of the columns, side by side; shape (queries, dims)."""
    parts = (np.split(np.asarray(one, dtype=float), heads, axis=-1) for one in (query, key, value))
    return np.concatenate([attend(*head, causal).output for head in zip(*parts, strict=True)], axis=-1)


# A real decoder -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """One sentence in a mini Whisper, given its true text. `weights` (layers, heads, tokens, positions) of the cross-attention,
    a row for each token: those of the decoder's position that predicts it. Times are of the sound, in seconds."""

    text: str
    tokens: tuple[str, ...]  # as written, without the prefix, the end token last
    middles_s: np.ndarray  # (tokens - 1,) of the word that a token belongs to, as the synthesiser spoke it
    weights: np.ndarray
    duration_s: float

    @property
    def centres_s(self) -> np.ndarray:
        """(layers, heads, tokens): the mean position of the attention, as time."""
        return self.weights @ (POSITION_S * (np.arange(self.weights.shape[-1]) + 0.5))


@lru_cache(maxsize=5)
def _eager(size: str):
    """(model, tokenizer, extractor) of a shipped mini Whisper whose attention hands out its weights."""
    quantisation.quiet()
    from asum_lib.models import ladder, loading

    choose("size", size, ladder.SIZES)
    speech = loading.load(str(ladder.checkpoint(size)), "fp32", "mini")
    speech.model.eval().set_attn_implementation("eager")
    return speech.model, speech.tokenizer, speech.extractor


def hear(take, size: str = "large") -> Heard:
    """A take of `corpora.howto` in a mini Whisper; `InputError` where it is longer than the model's window."""
    from asum_lib.study.word_times import spoken_words

    _, tokenizer, _ = _eager(size)
    output, tokens, duration_s = _forward(take, size)
    weights = np.stack([layer[0].numpy() for layer in output.cross_attentions])
    prefix = len(tokenizer.prefix_tokens)
    times = [word for word in spoken_words(take) for _ in word.text.split()]  # some are spoken as one
    pieces = tokenizer.convert_ids_to_tokens(tokens[prefix:])
    word = np.cumsum([piece.startswith("Ġ") for piece in pieces[:-1]])
    middles = np.array([(times[number].start_s + times[number].end_s) / 2 for number in word])
    written = tuple(piece.replace("Ġ", "") or "␣" for piece in pieces[:-1])
    return Heard(take.text, (*written, "end"), middles, weights[:, :, prefix - 1 :], duration_s)


def _forward(take, size: str, **more):
    """(output with attentions, token ids, seconds) of the model on a take and its text."""
    import torch

    from asum_lib.corpora import SAMPLE_RATE_HZ, howto

    model, tokenizer, extractor = _eager(size)
    audio = howto.speak(take)
    if len(audio) > extractor.n_samples:
        raise InputError(f"{take.id}: {len(audio) / SAMPLE_RATE_HZ:.1f} s do not fit a window of {extractor.chunk_length} s")
    features = extractor([audio], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
    tokens = tokenizer(take.text).input_ids
    with torch.inference_mode():
        output = model(input_features=features, decoder_input_ids=torch.tensor([tokens[:-1]]), output_attentions=True, **more)
    return output, tokens, len(audio) / SAMPLE_RATE_HZ


def code_takes(split: str, count: int) -> list:
    """The first takes of the target that say a code digit by digit: digits that no decoder can guess."""
    from asum_lib.corpora import howto

    codes = {document.id: document.slots["code"] for document in howto.documents("target", split) if "code" in document.slots}
    said = [take for take in howto.takes("target", split) if f" {codes.get(take.id.rpartition('-')[0])}" in take.text]
    return said[:count]


def opening_takes(split: str, count: int) -> list:
    """The first sentences of the target's first documents: a greeting from a template."""
    from asum_lib.corpora import howto

    return [take for take in howto.takes("target", split) if take.id.endswith("-0")][:count]


def head_scores(heard: Sequence[Heard]) -> np.ndarray:
    """(layers, heads): correlation of where a head looks and when the token's word is spoken, mean over sentences; the end token is left out."""
    every = [[[np.corrcoef(head[:-1], one.middles_s)[0, 1] for head in layer] for layer in one.centres_s] for one in heard]
    return np.mean(every, axis=0)


def best_head(scores: np.ndarray) -> tuple[int, int]:
    """(layer, head) with the highest score, counted from 0."""
    layer, head = np.unravel_index(np.argmax(scores), scores.shape)
    return int(layer), int(head)


def lag_s(heard: Sequence[Heard], layer: int, head: int) -> float:
    """Mean time by which a head looks later than the word is spoken."""
    return float(np.mean([(one.centres_s[layer, head, :-1] - one.middles_s).mean() for one in heard]))


def plot_head_scores(scores: np.ndarray) -> object:
    """The score of every head: a square for each, layers from below."""
    figure, (axis,) = figures.subplots(height_in=2.6)
    shown = axis.pcolormesh(scores, cmap="cividis", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for layer, row in enumerate(scores):
        for head, score in enumerate(row):
            axis.text(head + 0.5, layer + 0.5, f"{score:.2f}", ha="center", va="center", color="black" if score > 0.5 else "white", fontsize=7)
    axis.set(xlabel="head", ylabel="layer of the decoder")
    axis.set_xticks(np.arange(scores.shape[1]) + 0.5, range(scores.shape[1]))
    axis.set_yticks(np.arange(scores.shape[0]) + 0.5, range(scores.shape[0]))
    axis.grid(False)
    figure.colorbar(shown, label="correlation with the speech")
    layer, head = best_head(scores)
    rows = "; ".join(f"layer {number} from {row.min():.2f} to {row.max():.2f}" for number, row in enumerate(scores))
    return figures.show(figure, f"Correlation of attention and time for every head: {rows}. The highest is head {head} of layer {layer}.")


def plot_alignment(heard: Sequence[Heard], layer: int, head: int) -> object:
    """One panel a sentence: the head's attention, each row over its largest weight, with the middle of each spoken word as a mark."""
    figure, axes = figures.subplots(columns=len(heard), height_in=4.2, width_in=7.4)
    said = []
    for axis, one in zip(axes, heard, strict=True):
        weights = one.weights[layer, head]
        edges = POSITION_S * np.arange(weights.shape[1] + 1)
        axis.pcolormesh(edges, np.arange(len(weights) + 1), weights / weights.max(axis=1, keepdims=True), cmap="cividis", rasterized=True)
        axis.plot(one.middles_s, np.arange(len(one.middles_s)) + 0.5, "o", color=figures.COLOURS[3], markersize=3, label="the word is spoken")
        axis.axvline(one.duration_s, color="white", linestyle="--", linewidth=1)
        axis.set_yticks(np.arange(len(weights)) + 0.5, one.tokens, fontsize=7)
        axis.set(xlabel="encoder position, s", ylim=(len(weights), 0), ylabel="token" if axis is axes[0] else None)
        axis.grid(False)
        score = head_scores([one])[layer, head]
        said.append(f"'{one.text}': correlation {score:.2f}, sound until {one.duration_s:.1f} s")
    figures.legend(figure, axes)
    return figures.show(figure, f"Attention of head {head} of layer {layer} over the encoder's positions, a row for each token. {'; '.join(said)}.")


def recomputed(take, size: str = "large", layer: int = 0, head: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The output of one head of the decoder's cross-attention: by `attend` from the layer's own projections, and the model's.

    Both (tokens, dims of a head). The model's is what goes into `out_proj`, in that head's columns.
    """
    model, _, _ = _eager(size)
    attention = model.model.decoder.layers[layer].encoder_attn
    caught: dict[str, object] = {}
    hooks = [
        getattr(attention, name).register_forward_hook(lambda module, given, made, name=name: caught.update({name: (given[0], made)}))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    ]
    _forward(take, size)
    for hook in hooks:
        hook.remove()
    columns = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    query, key, value = (caught[name][1][0, :, columns].numpy() for name in ("q_proj", "k_proj", "v_proj"))
    return attend(query, key, value).output, caught["out_proj"][0][0, :, columns].numpy()


def weight_on_the_future(take, size: str = "large") -> tuple[float, float]:
    """The largest weight of the decoder's self-attention on a later position, and of the encoder's."""
    output, _, _ = _forward(take, size)
    return tuple(float(max(layer.triu(1).max() for layer in stack)) for stack in (output.decoder_attentions, output.encoder_attentions))


# Where adapters sit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """A linear layer of a block, as often as the model has it."""

    stack: str  # encoder or decoder
    part: str
    role: str  # of `ROLES`
    name: str  # the last part of its name
    path: str  # of the first one
    shape: tuple[int, int]  # (out, in)
    bias: bool
    count: int
    adapter: int  # numbers of a LoRA adapter on one of them

    @property
    def numbers(self) -> int:
        """Weights of one of them, without the bias."""
        return self.shape[0] * self.shape[1]


def modules(family: str, rank: int = 16) -> list[Module]:
    """The linear layers in the blocks of a shipped mini model (`whisper`, `t5` or `mbart`), found by putting LoRA on all of them."""
    from asum_lib.training.adapters import MODULES

    base, names = _mini(family), MODULES[family]["all-linear"]
    model = _with_lora(base, names, rank)
    found: dict[tuple[str, str, str], list[tuple[str, object]]] = {}
    for path, module in model.base_model.model.named_modules():
        if len(getattr(module, "lora_A", ())):
            stack, part, name = "decoder" if "decoder." in path else "encoder", _part(path), path.rsplit(".", 1)[-1]
            found.setdefault((stack, part, name), []).append((path, module))
    result = []
    for (stack, part, name), each in found.items():
        path, module = each[0]
        adapter = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        shape = tuple(module.get_base_layer().weight.shape)
        role = ROLES[names.index(name)]
        result.append(Module(stack, part, role, name, path, shape, module.get_base_layer().bias is not None, len(each), adapter))
    return sorted(
        result, key=lambda one: (one.stack != "encoder", ("self-attention", "cross-attention", "feed-forward").index(one.part), ROLES.index(one.role))
    )


def _part(path: str) -> str:
    if any(name in path for name in ("encoder_attn", "EncDecAttention")):
        return "cross-attention"
    return "self-attention" if any(name in path for name in ("self_attn", "SelfAttention")) else "feed-forward"


def _mini(family: str):
    quantisation.quiet()
    from asum_lib.models import ladder, loading, text_ladder

    folder = ladder.checkpoint("medium") if choose("family", family, CHECKPOINTS) == "whisper" else text_ladder.checkpoint(family)
    return loading.load_model(folder, "fp32")


def _with_lora(model, names: Sequence[str], rank: int):
    from asum_lib.training.adapters import adapter_of, attach

    quantisation.quiet()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # transformers', of a name that PEFT asks for
        return attach(model, adapter_of("lora", rank, tuple(names)), total_steps=100)


def t5_scaling() -> float:
    """What T5's attention multiplies its scores by; 1 / sqrt(dims) in the other families."""
    return float(_mini("t5").encoder.block[0].layer[0].SelfAttention.scaling)


def names_table() -> object:
    """What the layers of a block are called in each family, as in `adapters.MODULES`, and which of them have a bias."""
    from asum_lib.training.adapters import MODULES

    lines = []
    for family in CHECKPOINTS:
        without = list(dict.fromkeys(one.name for one in modules(family) if not one.bias))
        names = MODULES[family]["all-linear"]
        lines.append([family, *names, "all" if len(without) == len(names) else ", ".join(without) or "none"])
    return worked.table(("family", *ROLES, "no bias"), lines)


def modules_table(found: Sequence[Module], names: Sequence[str] = ()) -> object:
    """The linear layers of the blocks, those of one place and shape in a line; those called by one of `names`, which carry the paper's adapter,
    in a line of their own."""
    alike: dict[tuple, list[Module]] = {}
    for one in found:
        alike.setdefault((one.stack, one.part, one.shape, one.name in names), []).append(one)
    lines = [
        [
            f"{stack}, {part}",
            ", ".join(one.name for one in each),
            f"{out} × {into}",
            sum(one.count for one in each),
            f"{each[0].adapter:,} ({100 * each[0].adapter / each[0].numbers:.0f} %)",
        ]
        for (stack, part, (out, into), _), each in alike.items()
    ]
    caption = f"LoRA on one: its numbers (in per cent of the weight's). The paper's adapter is on {', '.join(names)}." if names else ""
    return worked.table(("where", "layers", "weight", "count", "LoRA on one"), lines, caption)


@dataclass(frozen=True)
class Share:
    """A LoRA adapter on a whole model."""

    model: str
    target: str  # of `TARGETS`
    modules: int
    trained: int
    weights: int  # of the model without the adapter

    @property
    def pct(self) -> float:
        return 100 * self.trained / self.weights


def share(name: str, target: str = "qkv", rank: int = 16) -> Share:
    """The adapter of a mini model (`whisper`, `t5`, `mbart`) or of a real architecture of `catalogue`, which has shapes and no weights."""
    quantisation.quiet()
    from asum_lib.models import catalogue
    from asum_lib.training.adapters import MODULES

    model = _mini(name) if name in CHECKPOINTS else catalogue.skeleton(catalogue.config(name))
    names, weights = MODULES[model.config.model_type][choose("target", target, TARGETS)], sum(one.numel() for one in model.parameters())
    adapted = _with_lora(model, names, rank)
    count = sum(len(getattr(module, "lora_A", ())) > 0 for module in adapted.modules())
    return Share(
        CHECKPOINTS.get(name, REAL.get(name, name)), target, count, sum(one.numel() for one in adapted.parameters() if one.requires_grad), weights
    )


def shares_table(shares: Sequence[Share]) -> object:
    """`share` of several models."""
    lines = [[one.model, TARGETS[one.target], one.modules, f"{one.trained:,}", f"{one.weights:,}", f"{one.pct:.1f} %"] for one in shares]
    return worked.table(("model", "LoRA on", "layers", "trained numbers", "weights", "share"), lines)


# A quantised layer with an adapter ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adapted:
    """A 4-bit layer with a LoRA adapter on real inputs (positions, in); `base` and `output` (positions, out) are its own forward's."""

    inputs: np.ndarray
    base: np.ndarray  # of the quantised layer alone
    down: np.ndarray  # A, (rank, in)
    up: np.ndarray  # B, (out, rank)
    scaling: float  # alpha / rank
    output: np.ndarray
    tensors: Mapping[str, tuple[str, bool]]  # {tensor: (dtype, whether a backward pass gives it a gradient)}


def qlora_layer(size: str = "medium", name: str = "encoder.layers.0.self_attn.q_proj", rank: int = 16, seed: int = 0) -> Adapted:
    """NF4 by bitsandbytes, LoRA by PEFT, on the inputs of `quantisation.layer_inputs`. B, zero at the start, is drawn, as if trained."""
    import torch

    quantisation.quiet()
    from asum_lib.models import ladder, loading
    from asum_lib.training.adapters import TARGET_MODULES

    inputs = quantisation.layer_inputs(size)[f"model.{name}"].clone()
    model = _with_lora(loading.load(str(ladder.checkpoint(size)), "int4", "mini").model, TARGET_MODULES, rank)
    layer = model.base_model.model.get_submodule(f"model.{name}")
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(up, std=0.02, generator=torch.Generator().manual_seed(seed))
    output = layer(inputs)
    output.sum().backward()
    parts = {"quantised weight": layer.get_base_layer().weight, "A": down, "B": up}
    tensors = {what: (str(tensor.dtype).removeprefix("torch."), tensor.grad is not None) for what, tensor in parts.items()}
    arrays = (one.detach().numpy() for one in (inputs, layer.get_base_layer()(inputs), down, up))
    return Adapted(*arrays, layer.scaling["default"], output.detach().numpy(), tensors)


def tensors_table(adapted: Adapted) -> object:
    """What the three tensors of the layer are in memory, and whether training changes them."""
    return worked.table(
        ("tensor", "dtype", "has a gradient"), [[what, dtype, "yes" if has else "no"] for what, (dtype, has) in adapted.tensors.items()]
    )


def repaired_pct(exact, rank: int) -> tuple[float, float]:
    """Relative error of a weight in NF4, in per cent: by itself, and with the best update of that rank on top (a truncated SVD of the difference)."""
    exact = np.asarray(exact, dtype=float)
    rounded = quantisation.blockwise(exact).values
    left, values, right = np.linalg.svd(exact - rounded, full_matrices=False)
    update = (left[:, :rank] * values[:rank]) @ right[:rank]
    return quantisation.relative_error_pct(exact, rounded), quantisation.relative_error_pct(exact, rounded + update)
