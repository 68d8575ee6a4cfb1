"""The memory of a step without running it: tensors without content are made and dropped, and their bytes counted.

A step runs on a model of a few layers a stack on PyTorch's meta device, where a tensor has a shape and no memory, under a
dispatch mode that sees every tensor that comes and goes. All layers of a stack are alike, so what the missing ones add follows
from the last one: the peak of the whole model comes out to the byte, in a tenth of a second at any size. The same mode
counts a real step just as well, which is how the tests hold one against the other. Nothing here knows a model family.
"""

import weakref
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# Of a stack in the traced model. Nothing that is trained lies before the first, which may make the second special too; the third is like the rest.
LAYERS = 3


@dataclass(frozen=True)
class Traced:
    """Bytes of the live tensors beside the weights when they are most, and what they are made of."""

    peak: int
    gradients: int  # of trained parameters, at that moment
    kept: int  # after the forward pass: activations that wait for the backward pass, or the cache that decoding leaves
    where: str  # the stack and the direction of the peak, e.g. "decoder backward"


def traced(
    forward: Callable[[], object],
    stacks: Mapping[str, object],
    depths: Mapping[str, int],
    held: list,
    trained: list = (),
    cache_per_layer: Mapping[str, int] = {},
) -> Traced:
    """The peak of a step of a model with `depths` layers; `stacks` are its module lists, in the order of the forward pass.

    `held` are the tensors that are there before and after (weights, buffers, quantisation state): they are not counted. Where
    there are `trained` parameters, `forward` returns the loss and the backward pass follows; else it decodes and returns its cache, whose
    bytes a layer at the end are `cache_per_layer`: from the second pass through the last stack on, all layers have theirs.
    """
    names, modules = list(stacks), list(stacks.values())
    ledger = _ledger(modules, held, trained)
    try:
        with ledger:
            result = forward()  # bound to a name: it is alive in the real run too
            after = ledger.live
            if trained:
                ledger.in_backward = True
                result.backward()
    finally:
        ledger.remove()
    missing = [depths[name] - len(stack) for name, stack in stacks.items()]
    kept, gradients = ledger.kept_per_layer(), ledger.gradients_per_layer()

    def whole(stage, first: bool = False) -> tuple[int, int]:
        """(bytes, of them gradients) of the whole model at a stage of the traced one; `first`: the missing layer that goes back first."""
        live, grown = stage.live, stage.gradients
        for index, layers in enumerate(missing):
            progress = "cached" if stage.again else _progress(stage, index, len(modules[index]), first)
            full = cache_per_layer.get(names[index], 0)
            live += layers * {"before": 0, "kept": kept[index], "done": gradients[index], "cached": full}[progress]
            grown += layers * gradients[index] * (progress == "done")
        return live, grown

    # what lives changes evenly from one missing layer to the next: the peak is in the first or in the last of them, or in a traced one
    choices = [(stage, first) for stage in ledger.stages for first in {False, 0 < stage.layer < len(modules[stage.stack]) - 1}]
    best, first = max(choices, key=lambda choice: whole(*choice)[0])
    where = f"{names[best.stack]} {'backward' if best.backward else 'forward'}" if best.stack >= 0 else "before the layers"
    return Traced(*whole(best, first), after + sum(map(int.__mul__, missing, kept)), where)


@contextmanager
def kernels_of(device: str):
    """Within it, attention and dropout on the meta device allocate as PyTorch's own kernels of `device` (cpu or cuda) do.

    PyTorch chooses a kernel by the device of its inputs; on the meta device it would take the one that writes out the matrix
    of positions x positions. A CPU takes that one too where attention has dropout: then the weights, the mask and their
    product all wait for the backward pass. No kernel gives a gradient to a mask: such calls are left as they are. A mask of
    dropout is as large as its inputs on a CPU, and a byte a number on a GPU.
    """
    import torch

    functional = torch.nn.functional
    usual, usual_dropout = functional.scaled_dot_product_attention, functional.dropout

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        mask_learns = attn_mask is not None and attn_mask.requires_grad
        written_out = device == "cpu" and dropout_p > 0
        if query.device.type != "meta" or mask_learns or enable_gqa or written_out:
            return usual(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if device == "cpu":
            mask = attn_mask.to(query.dtype) if attn_mask is not None and attn_mask.dtype == torch.bool else attn_mask
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale)[0]
        if query.dtype == torch.float32 or attn_mask is not None:
            bias = None if attn_mask is None else attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
            learns = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
            return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, bias, learns, dropout_p, is_causal, scale=scale)[0]
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]

    def dropout(inputs, p=0.5, training=True, inplace=False):
        if device == "cuda" and inputs.device.type == "meta" and training and 0 < p < 1 and not inplace:
            return torch.native_dropout(inputs, p, True)[0]
        return usual_dropout(inputs, p, training, inplace)

    functional.scaled_dot_product_attention, functional.dropout = attention, dropout
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = usual, usual_dropout


def _progress(stage, stack: int, layers: int, first: bool) -> str:
    """What the missing layers of `stack`, which lie before its last, have done at `stage`: nothing, forward or backward too."""
    if stack == stage.stack:
        done = first or stage.layer == layers - 1  # forward: those before it are done; backward: none is
        return "kept" if done else "done" if stage.backward else "before"
    if stage.backward:
        return "done" if stack > stage.stack else "kept"
    return "kept" if stack < stage.stack else "before"


@dataclass
class _Stage:
    """A stretch of a step, in one layer of one stack, with the highest count of live bytes in it."""

    stack: int
    layer: int
    backward: bool
    live: int
    gradients: int
    again: bool = False  # in a later forward pass of decoding


def _shortcuts() -> dict:
    """{operation: what it returns, made without asking PyTorch}, where that is slow to work out shapes; None where it is not that simple."""
    import torch

    aten, empty_like = torch.ops.aten, torch.empty_like

    def same(first, *others, **named):
        simple = all(not isinstance(other, torch.Tensor) or (other.shape == first.shape and other.dtype == first.dtype) for other in others)
        return empty_like(first) if simple and first.is_floating_point() and not named else None

    def norm(inputs, shape, weight, bias, eps):
        rows = inputs.shape[: inputs.dim() - len(shape)] + (1,) * len(shape)
        return inputs.new_empty(inputs.shape), inputs.new_empty(rows), inputs.new_empty(rows)  # without gaps, whatever the inputs' strides

    def norm_backward(gradient, inputs, shape, mean, rstd, weight, bias, wanted):
        made = zip((inputs, weight, bias), wanted, strict=True)
        return tuple(part.new_empty(part.shape) if ask and part is not None else None for part, ask in made)

    def product(bias, left, right, **named):
        return left.new_empty(left.shape[0], right.shape[1]) if not named else None

    return {
        **dict.fromkeys((aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.neg.default), same),
        **dict.fromkeys((aten.gelu.default, aten.gelu_backward.default, aten.silu.default), lambda first, *others, **named: empty_like(first)),
        aten.native_layer_norm.default: norm,
        aten.native_layer_norm_backward.default: norm_backward,
        aten.addmm.default: product,
    }


def _ledger(stacks: list, held: list, trained: list):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    shortcuts = _shortcuts()

    class Ledger(TorchDispatchMode):
        """Counts the bytes of storages as they come and go, a stage at a time."""

        def __init__(self):
            super().__init__()
            self.live = self.gradients = self.passes = 0
            self.in_backward = False
            self.seen = weakref.WeakSet(tensor.untyped_storage() for tensor in held)
            self.stages = [_Stage(-1, 0, False, 0, 0)]
            self.at_end: dict[tuple[int, int], int] = {}
            self.hooks = [parameter.register_post_accumulate_grad_hook(self.has_gradient) for parameter in trained]
            for place in ((stack, layer) for stack, layers in enumerate(stacks) for layer in range(len(layers))):
                module = stacks[place[0]][place[1]]
                self.hooks += [module.register_forward_pre_hook(self.starts(*place)), module.register_forward_hook(self.ends(*place))]

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
                return args[0].dtype == torch.bool  # to a question such as "is nothing masked", the usual answer
            quick = shortcuts.get(function)
            result = quick(*args, **(kwargs or {})) if quick and args[0].is_meta else None
            if result is None:
                result = function(*args, **(kwargs or {}))
            for tensor in (result,) if isinstance(result, torch.Tensor) else tree_iter(result):
                if isinstance(tensor, torch.Tensor):
                    self.count(tensor.untyped_storage())
            return result

        def count(self, storage) -> None:
            if storage in self.seen:
                return
            self.seen.add(storage)
            size = storage.nbytes()
            self.live += size
            weakref.finalize(storage, self.drop, size).atexit = False
            stage = self.stages[-1]
            if self.live > stage.live:
                stage.live, stage.gradients = self.live, self.gradients

        def drop(self, size: int) -> None:
            self.live -= size

        def starts(self, stack: int, layer: int):
            def hook(module, inputs):
                self.passes += not self.in_backward and (stack, layer) == (len(stacks) - 1, 0)
                again = self.passes > 1 and not self.in_backward
                self.stages.append(_Stage(stack, layer, self.in_backward, self.live, self.gradients, again))

            return hook

        def ends(self, stack: int, layer: int):
            def turn(gradient):
                self.stages.append(_Stage(stack, layer, True, self.live, self.gradients))

            def hook(module, inputs, output):
                states = output if isinstance(output, torch.Tensor) else output[0]
                if states.requires_grad:
                    states.register_hook(turn)
                if not self.in_backward:
                    self.at_end.setdefault((stack, layer), self.live)

            return hook

        def has_gradient(self, parameter) -> None:
            self.gradients += parameter.grad.numel() * parameter.grad.element_size()

        def kept_per_layer(self) -> list[int]:
            """What one more layer of each stack leaves after its forward pass."""
            return [self.at_end[i, len(stack) - 1] - self.at_end[i, len(stack) - 2] if (i, 1) in self.at_end else 0 for i, stack in enumerate(stacks)]

        def gradients_per_layer(self) -> list[int]:
            return [sum(p.numel() * p.element_size() for p in stack[-1].parameters() if p.requires_grad) for stack in stacks]

        def remove(self) -> None:
            for hook in self.hooks:
                hook.remove()

    return Ledger()
