"""Quantised layers that compute nothing and allocate what bitsandbytes allocates, for `asum_lib.measure.trace`.

Each function mirrors one of bitsandbytes 0.50.2, named in its docstring; its kernels for a CPU are written in PyTorch, those for
a GPU are fused. Tests hold the CPU's against the real layers, to the byte.
"""

from functools import partial


def stand_in(model, device: str) -> None:
    """Let the quantised layers of a model on the meta device allocate as they do on `device` (cpu or cuda)."""
    for module in model.modules():
        if (kind := type(module).__name__) == "Linear8bitLt":
            module.forward = partial(_int8_layer, module, device)
        elif kind == "Linear4bit":
            module.forward = partial(_int4_layer, module)


def _int8_layer(layer, device: str, inputs):
    """`bitsandbytes.matmul`: on a CPU in training `MatMul8bitFp`, else `MatMul8bitLt`."""
    shape = (layer.out_features, layer.in_features)
    if device == "cpu" and layer.training:
        return _functions()["plain"].apply(inputs, layer.bias, shape, True, 0)
    return _functions()["int8"].apply(inputs, layer.bias, shape, device)


def _int4_layer(layer, inputs):
    """`bitsandbytes.matmul_4bit` and `MatMul4Bit`: the whole weight in the inputs' dtype for as long as the product takes.

    Scales that are quantised too are dequantised before it.
    """
    state = layer.weight.quant_state
    scales = state.absmax.numel() if state.nested else 0
    return _functions()["plain"].apply(inputs, layer.bias, (layer.out_features, layer.in_features), False, scales)


def _int8_product(inputs, bias, shape: tuple[int, int], device: str):
    """Forward of `MatMul8bitLt` with its threshold for outliers and none found: quantise rows, multiply to int32, scale back."""
    import torch

    flat = inputs.reshape(-1, inputs.shape[-1])
    quantised, scales = _int8_rows(flat.to(torch.float16), device)
    whole = torch.empty(len(quantised), shape[0], dtype=torch.int32, device=inputs.device)
    if device == "cpu":  # backends/default: int8_mm_dequant
        outputs = whole * (scales.unsqueeze(-1) * torch.empty(1, shape[0], device=inputs.device)) * 6.2e-5
        if bias is not None:
            outputs += bias
    else:  # backends/cuda: one kernel, result in half precision
        outputs = torch.empty(whole.shape, dtype=torch.float16, device=inputs.device)
    return outputs.to(inputs.dtype).reshape(*inputs.shape[:-1], shape[0])


def _int8_rows(half, device: str):
    """`int8_vectorwise_quant`: (int8 rows, their scales)."""
    import torch

    if device == "cpu":
        outliers = half.abs() >= 6.0  # noqa: F841 - alive until the end, as there
        scales = torch.max(half.abs(), dim=1).values.float()
        return torch.round(half * (127.0 / scales.unsqueeze(-1))).to(torch.int8), scales
    rows = torch.empty(half.shape, dtype=torch.int8, device=half.device)
    scales = torch.empty(half.shape[0], device=half.device)
    (half.abs() >= 6.0).any(dim=0)
    return rows, scales


def _functions() -> dict:
    """The autograd functions, made when first asked for: nothing here imports torch before."""
    if not _made:
        import torch

        class Plain(torch.autograd.Function):
            """A frozen weight that is dequantised for each product, forward and backward; `MatMul8bitFp` keeps its inputs, `MatMul4Bit` does not."""

            @staticmethod
            def forward(ctx, inputs, bias, shape, keeps_inputs, scales):
                ctx.shape, ctx.inputs, ctx.scales = shape, inputs if keeps_inputs else None, scales
                dequantised = torch.empty(scales, device=inputs.device) + 0.0  # noqa: F841 - its offset is added; alive until the end, as there
                return torch.nn.functional.linear(inputs, torch.empty(shape, dtype=inputs.dtype, device=inputs.device), bias)

            @staticmethod
            def backward(ctx, gradient):
                flat = gradient.reshape(-1, gradient.shape[-1]).contiguous()
                dequantised = torch.empty(ctx.scales, device=gradient.device)
                weight = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device)
                del dequantised
                return torch.matmul(flat, weight).reshape(*gradient.shape[:-1], ctx.shape[1]), None, None, None, None

        class Int8(torch.autograd.Function):
            """`MatMul8bitLt` with a frozen weight."""

            @staticmethod
            def forward(ctx, inputs, bias, shape, device):
                ctx.shape, ctx.inputs, ctx.scales = shape, inputs, 0
                return _int8_product(inputs, bias, shape, device)

            @staticmethod
            def backward(ctx, gradient):
                return Plain.backward(ctx, gradient)[:4]

        _made.update(plain=Plain, int8=Int8)
    return _made


_made: dict = {}
