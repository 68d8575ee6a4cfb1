"""Bytes of a model's weights as they lie in memory, quantisation state included."""


def weights_bytes(model) -> int:
    """Bytes of parameters and buffers, each storage counted once, plus bitsandbytes' scales, codes and offsets.

    transformers' `get_memory_footprint()` leaves the quantisation state out; this does not.
    """
    seen: dict[int, int] = {}
    for tensor in _tensors(model):
        seen[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
    return sum(seen.values())


def parameter_counts(model) -> tuple[int, int]:
    """(all parameters, trainable parameters); a 4-bit weight counts as the matrix it stands for."""
    total = trainable = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = state.shape.numel() if state is not None else parameter.numel()
        total += count
        trainable += count * parameter.requires_grad
    return total, trainable


def _tensors(model):
    for tensor in [*model.parameters(), *model.buffers()]:
        yield tensor
        state, scales = getattr(tensor, "quant_state", None), getattr(tensor, "SCB", None)
        if scales is not None:
            yield scales
        while state is not None:
            yield from (part for part in (state.absmax, state.code, state.offset) if part is not None)
            state = state.state2
    for module in model.modules():  # at its first forward an int8 layer takes the scales over from its weight
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if scales is not None:
            yield scales
