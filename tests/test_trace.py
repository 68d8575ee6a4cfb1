"""The trace: bytes that can be worked out by hand, and few layers that stand for many."""

import pytest

from asum_lib.measure import trace
from asum_lib.study import fit


def square_layers(count: int, device: str):
    """`count` linear maps of 4 numbers to 4, without bias: 64 bytes of float32 each."""
    import torch

    return torch.nn.Sequential(*[torch.nn.Linear(4, 4, bias=False, device=device) for _ in range(count)])


def step_of(model, depth: int) -> trace.Traced:
    """A training step on 2 rows of 4 numbers: 32 bytes at the input and after every layer."""
    import torch

    device, weights = model[0].weight.device, list(model.parameters())
    return trace.traced(lambda: model(torch.empty(2, 4, device=device)).sum(), {"layers": model}, {"layers": depth}, weights, weights)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_bytes_of_three_linear_layers(device):
    """Kept for the backward pass: the inputs of three layers, 32 each, and the loss, 4.

    The peak is in the second layer's backward pass: those 100, the gradient of the loss (4), the gradients of two weights (64 each) and that
    of the second layer's input (32). Only the third layer's weight has its gradient by then, and its input has gone as that of its gradient came.
    """
    assert step_of(square_layers(3, device), 3) == trace.Traced(peak=100 + 4 + 2 * 64 + 32, gradients=64, kept=100, where="layers backward")


@pytest.mark.parametrize("depth", [4, 10, 100])
def test_each_missing_layer_keeps_its_input_and_has_a_gradient(depth):
    """From layer to layer an input of 32 bytes goes and a gradient of 64 comes: the peak rises by 64 a layer, what is kept by 32."""
    found = step_of(square_layers(3, "meta"), depth)
    assert (found.peak, found.gradients, found.kept) == (264 + 64 * (depth - 3), 64 + 64 * (depth - 3), 100 + 32 * (depth - 3))


def test_ten_layers_that_run_take_what_three_foretell():
    assert step_of(square_layers(10, "cpu"), 10) == step_of(square_layers(3, "meta"), 10)


def test_what_is_held_is_not_counted_and_what_is_dropped_is_taken_off():
    import torch

    held = torch.empty(1000)

    def work():
        first = held * 2  # 4,000 bytes
        second = first[:500] * 2  # 2,000 beside it
        del first
        return held.view(10, 100), second

    assert trace.traced(work, {}, {}, [held]) == trace.Traced(peak=6000, gradients=0, kept=2000, where="before the layers")


@pytest.mark.parametrize(
    ("device", "dtype", "peak", "kept"),
    [
        ("cpu", "float32", 26_400, 25_600),  # outputs of 2 x 100 x 32 numbers, and a float32 a row and head for the backward pass
        ("cpu", "float16", 13_600, 12_800),
        ("cuda", "float32", 25_616, 25_600),  # the state of the random numbers instead: nothing here wants a gradient
        ("cuda", "float16", 13_624, 12_800),
    ],
)
def test_attention_on_the_meta_device_never_writes_out_the_matrix_of_positions(device, dtype, peak, kept):
    import torch

    states = torch.empty(1, 2, 100, 32, device="meta", dtype=getattr(torch, dtype))
    with trace.kernels_of(device):
        found = trace.traced(lambda: torch.nn.functional.scaled_dot_product_attention(states, states, states), {}, {}, [states])
    assert (found.peak, found.kept) == (peak, kept)


@pytest.mark.parametrize(("device", "kept"), [("cpu", 3 * 80_000 + 3 * 25_600), ("cuda", 25_600 + 1_024 + 16)])
def test_with_dropout_a_cpus_attention_keeps_its_weights(device, kept):
    """The softmax, the mask and their product, of 2 x 100 x 100 float32 each, and the scaled queries, the scaled keys and the output.

    A GPU's kernel keeps the output, a float32 a head and row, with rows rounded up to 128, and the state of the random numbers.
    """
    import torch

    states = torch.empty(1, 2, 100, 32, device="meta", requires_grad=True)
    with trace.kernels_of(device):
        attention = torch.nn.functional.scaled_dot_product_attention
        found = trace.traced(lambda: attention(states, states, states, dropout_p=0.1), {}, {}, [states])
    assert found.kept == kept


@pytest.mark.parametrize(("device", "mask_bytes"), [("cpu", 4), ("cuda", 1)])
def test_a_mask_of_dropout_is_smaller_on_a_gpu(device, mask_bytes):
    import torch

    states = torch.empty(1000, device="meta", requires_grad=True)
    with trace.kernels_of(device):
        found = trace.traced(lambda: torch.nn.Dropout(0.1)(states), {}, {}, [states])
    assert found.kept == 1000 * (4 + mask_bytes)


def test_the_kernels_are_pytorchs_own_again_afterwards():
    import torch

    functional = torch.nn.functional
    usual = functional.scaled_dot_product_attention, functional.dropout
    with pytest.raises(ZeroDivisionError), trace.kernels_of("cpu"):
        assert (functional.scaled_dot_product_attention, functional.dropout) != usual
        raise ZeroDivisionError
    assert (functional.scaled_dot_product_attention, functional.dropout) == usual


def test_hooks_are_gone_after_a_step_that_fails():
    model = square_layers(3, "cpu")

    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trace.traced(fails, {"layers": model}, {"layers": 3}, [], list(model.parameters()))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model)
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def config_of(family: str):
    """Six layers a stack, 64 wide."""
    import transformers

    shared = {"vocab_size": 300, "pad_token_id": 0}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (("layers", 6), ("attention_heads", 2), ("ffn_dim", 128))}
    if family == "whisper":
        shared |= {"eos_token_id": 2, "decoder_start_token_id": 3, "suppress_tokens": None, "begin_suppress_tokens": None}
        return transformers.WhisperConfig(d_model=64, num_mel_bins=30, max_source_positions=50, max_target_positions=40, **sides, **shared)
    if family == "mbart":
        return transformers.MBartConfig(d_model=64, max_position_embeddings=64, dropout=0.0, vocab_size=300, **sides)
    if family == "t5":
        return transformers.T5Config(d_model=64, d_ff=128, d_kv=32, num_heads=2, num_layers=6, dropout_rate=0.0, decoder_start_token_id=0, **shared)
    heads = {"num_attention_heads": 2, "num_hidden_layers": 6}
    return transformers.LlamaConfig(hidden_size=64, intermediate_size=192, max_position_embeddings=64, **heads, **shared)


WHISPER = [("fp32", "full", True), ("fp32", "full", False), ("fp32", "none", False)]
WHISPER += [(precision, method, saves) for precision in ("fp32", "int8") for method in ("lora", "adalora") for saves in (False, True)]


@pytest.mark.parametrize(
    ("family", "precision", "method", "checkpointing"),
    [
        *(("whisper", *row) for row in WHISPER),
        ("t5", "fp32", "adalora", True),  # its peak lies in one of the missing layers
        *((family, "int4", method, method != "none") for family in ("t5", "mbart", "llama") for method in ("lora", "none")),
        *((family, "fp32", "full", False) for family in ("t5", "mbart", "llama")),
    ],
)
def test_three_layers_a_stack_foretell_six_to_the_byte(monkeypatch, family, precision, method, checkpointing):
    read = 0 if family == "whisper" else 33
    batch_size, written = (9, 40) if family == "t5" else (3, 21)
    plan = fit.Plan(config_of(family), precision, method, batch_size=batch_size, read=read, written=written, gradient_checkpointing=checkpointing)

    def account(layers: int):
        monkeypatch.setattr(trace, "LAYERS", layers)
        monkeypatch.setattr(fit, "_accounts", {})
        return fit.account(plan)

    assert account(3) == account(6)
