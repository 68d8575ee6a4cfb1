"""The account of a step against the same step run: to the byte, for every family, precision and method, on a CPU.

Both go through one ledger. The account runs on a model of three layers without content, whose quantised layers are stand-ins; the real
step runs on four layers that were loaded from a file, with bitsandbytes' own.
"""

import importlib
import importlib.util
from dataclasses import replace

import pytest

from asum_lib.measure import memory, trace
from asum_lib.measure.memory import Part
from asum_lib.models import catalogue, loading
from asum_lib.study import fit
from asum_lib.training.finetune import keep_layer_inputs_only

FAMILIES = ("whisper", "t5", "mbart", "llama")
READ = {"whisper": 0, "t5": 33, "mbart": 33, "llama": 33}
SHAPE = {"batch_size": 3, "written": 21}
DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def config_of(family: str):
    """Four layers a stack, 64 wide: real shapes of weights and states, small numbers."""
    import transformers

    shared = {"vocab_size": 300, "pad_token_id": 0}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (("layers", 4), ("attention_heads", 2), ("ffn_dim", 128))}
    if family == "whisper":
        shared |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3, "suppress_tokens": None, "begin_suppress_tokens": None}
        return transformers.WhisperConfig(d_model=64, num_mel_bins=30, max_source_positions=50, max_target_positions=40, **sides, **shared)
    if family == "mbart":
        return transformers.MBartConfig(d_model=64, max_position_embeddings=64, dropout=0.0, vocab_size=300, **sides)
    if family == "t5":
        return transformers.T5Config(d_model=64, d_ff=128, d_kv=32, num_heads=2, num_layers=4, dropout_rate=0.0, decoder_start_token_id=0, **shared)
    heads = {"num_attention_heads": 2, "num_hidden_layers": 4}
    return transformers.LlamaConfig(hidden_size=64, intermediate_size=192, max_position_embeddings=64, **heads, **shared)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("families")
    return {family: catalogue.write_random(root / family, config_of(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def kernels() -> dict:
    """{operation: its function} of bitsandbytes' kernels for a CPU, which are Python over PyTorch's operations."""
    import bitsandbytes

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsandbytes._ops, "register_kernel", lambda name, device: lambda function: found.__setitem__(name, function))
        for device in ("default", "cpu"):  # what is registered for the CPU replaces the default
            file = importlib.import_module(f"bitsandbytes.backends.{device}.ops").__file__
            spec = importlib.util.spec_from_file_location(f"bitsandbytes.backends.{device}.again", file)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return found


@pytest.fixture
def open_kernels(kernels, monkeypatch):
    """The ledger sees what bitsandbytes' kernels allocate on the way: PyTorch shows a mode such as this only the operation as a whole."""
    usual = trace._ledger

    def ledger(*arguments):
        made = usual(*arguments)
        dispatch = type(made).__torch_dispatch__

        def opened(self, function, types, args=(), kwargs=None):
            if function.name() in kernels and not args[0].is_meta:
                with self:
                    return kernels[function.name()](*args, **(kwargs or {}))
            return dispatch(self, function, types, args, kwargs)

        type(made).__torch_dispatch__ = opened
        return made

    monkeypatch.setattr(trace, "_ledger", ledger)


def plan_of(family: str, precision: str, method: str, checkpointing: bool = False, rest: str | None = None) -> fit.Plan:
    more = {"gradient_checkpointing": checkpointing, "rest": rest}
    return fit.resolved(fit.Plan(config_of(family), precision, method, read=READ[family], **SHAPE, **more))


def loaded(folders, plan: fit.Plan):
    return loading.load_model(folders[plan.model.model_type], plan.precision, plan.rest)


def really(model, plan: fit.Plan) -> memory.Account:
    """The account of a step that runs."""
    stacks, depths = catalogue.stacks(model), catalogue.depths(plan.model)
    shape = {"batch_size": plan.batch_size, "read": plan.read, "written": plan.written}
    if plan.method == "none":
        return memory.decoding_account(model.eval(), lambda: catalogue.decode(model, **shape), stacks, depths, catalogue.cache_bytes(model, **shape))
    adapted = fit.prepare(model, plan.method, plan.rank)
    if plan.gradient_checkpointing:
        keep_layer_inputs_only(model)
    return memory.training_account(adapted, lambda: adapted(**catalogue.training_inputs(model, **shape)).loss, stacks, depths)


TRAINED = [("whisper", "fp32", "full", saves) for saves in (False, True)]
TRAINED += [
    ("whisper", precision, method, saves)
    for precision, methods in (("fp32", ("lora", "adalora")), ("int8", ("lora", "adalora")), ("int4", ("lora", "adalora")), ("int4-dq", ("lora",)))
    for method in methods
    for saves in (False, True)
]
TRAINED += [(family, precision, "lora", False) for family in FAMILIES[1:] for precision in ("fp32", "int8", "int4")]
TRAINED += [("t5", "int4-dq", "adalora", True), ("t5", "fp32", "full", False), ("mbart", "int4", "lora", True), ("llama", "int8", "lora", True)]


@pytest.mark.parametrize(("family", "precision", "method", "checkpointing"), TRAINED)
def test_a_training_step_takes_what_was_accounted(folders, open_kernels, family, precision, method, checkpointing):
    plan = plan_of(family, precision, method, checkpointing)
    assert really(loaded(folders, plan), plan) == fit.account(plan)


DROPOUTS = {"t5": {"dropout_rate": 0.1}, "mbart": {"dropout": 0.1}, "whisper": {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}}
DROPPING = [(family, "fp32", method, False) for family in DROPOUTS for method in ("lora", "full")]
DROPPING += [("t5", "int8", "lora", False), ("t5", "int4", "adalora", True), ("mbart", "int8", "adalora", False), ("whisper", "fp32", "lora", True)]


@pytest.mark.parametrize(("family", "precision", "method", "checkpointing"), DROPPING)
def test_a_step_with_dropout_takes_what_was_accounted(tmp_path, open_kernels, family, precision, method, checkpointing):
    plan = plan_of(family, precision, method, checkpointing)
    without = fit.account(plan).peak
    plan.model.update(DROPOUTS[family])
    folder = catalogue.write_random(tmp_path / family, plan.model)
    found = fit.account(plan)
    assert really(loading.load_model(folder, plan.precision, plan.rest), plan) == found
    assert found.peak > without


@pytest.mark.parametrize(
    ("family", "precision", "rest"),
    [("whisper", "bf16", None), ("mbart", "fp16", None), ("t5", "fp16", None), ("t5", "int8", "bfloat16"), ("llama", "int4", "bfloat16")],
)
def test_so_does_one_in_half_precision(folders, open_kernels, family, precision, rest):
    plan = plan_of(family, precision, "lora", rest=rest)
    assert really(loaded(folders, plan), plan) == fit.account(plan)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int4-dq"])
def test_decoding_takes_what_was_accounted(folders, open_kernels, family, precision):
    plan = plan_of(family, precision, "none")
    model = loaded(folders, plan)
    beside = fit._unpacked(plan, model)  # of transcription alone, which `catalogue.decode` is not
    found = fit.account(plan)
    assert really(model, plan) == replace(found, activations=found.activations - beside)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_transcribing_takes_what_was_accounted_within_four_in_a_hundred(folders, open_kernels, precision):
    """`decode` takes the first and the last step and no features in numpy; the loop of `transcribe` takes all, and chooses tokens."""
    import numpy as np

    from asum_lib.models.transcribe import transcribe_tokens

    plan = plan_of("whisper", precision, "none")
    model = loaded(folders, plan)
    model.generation_config.eos_token_id, model.generation_config.max_new_tokens = -1, plan.written - 4
    features, tokens = np.zeros((plan.batch_size, 30, 100), np.float32), []
    held = memory.held(model)
    found = trace.traced(lambda: tokens.extend(transcribe_tokens(model, [3, 4, 5, 6], features, plan.batch_size)), {}, {}, held)
    assert [len(window) for window in tokens] == [plan.written - 4] * plan.batch_size
    assert memory.weights_bytes(model) + found.peak == pytest.approx(fit.account(plan).peak, rel=0.04)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4", "int4-dq", "fp4"])
def test_weights_without_content_are_those_that_were_loaded(folders, family, precision):
    dtype = DTYPES.get(precision, "float32")
    skeleton, real = catalogue.skeleton(config_of(family), dtype, precision), loading.load_model(folders[family], precision, dtype)
    assert memory.weight_parts(skeleton) == memory.weight_parts(real)
    assert memory.weights_bytes(skeleton) == memory.weights_bytes(real) == sum(part.bytes for part in memory.weight_parts(real))
    assert memory.parameter_counts(skeleton) == memory.parameter_counts(real)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4", "int4-dq"])
def test_transformers_footprint_is_the_weights_without_quantisation_state(folders, family, precision):
    """Of a model that transformers itself loaded and quantised."""
    import torch

    dtype = getattr(torch, DTYPES.get(precision, "float32"))
    options = (
        {"quantization_config": loading.quantisation_config(precision, dtype), "device_map": {"": "cpu"}} if precision in loading.QUANTISATION else {}
    )
    model = catalogue.model_class(config_of(family)).from_pretrained(folders[family], dtype=dtype, **options)
    parts = memory.weight_parts(catalogue.skeleton(config_of(family), DTYPES.get(precision, "float32"), precision))
    assert sum(part.bytes for part in parts if part.kind != "quantisation state") == model.get_memory_footprint()


def test_the_parts_of_a_layer_in_nf4_by_hand():
    """64 x 128 weights: half a byte each, a float32 scale a block of 64, a table of 16, and 128 float32 of bias."""
    layer = catalogue.skeleton(config_of("whisper"), "float32", "int4").model.encoder.layers[0].fc1
    assert memory.weight_parts(layer) == [
        Part("linear", "uint8", 4096, 4096),
        Part("quantisation state", "float32", 128 + 16, 4 * 144),
        Part("linear", "float32", 128, 512),
    ]


def test_the_parts_of_a_layer_in_doubly_quantised_nf4_by_hand():
    """The 128 scales are bytes, with a scale for them all (a block of 256), a table of 256 and an offset; int8 has a scale a row."""
    layers = {p: catalogue.skeleton(config_of("whisper"), "float32", p).model.encoder.layers[0].fc1 for p in ("int4-dq", "int8")}
    states = {p: [part for part in memory.weight_parts(layer) if part.kind == "quantisation state"] for p, layer in layers.items()}
    assert states["int4-dq"] == [
        Part("quantisation state", "float32", 16 + 1 + 256 + 1, 4 * 274),
        Part("quantisation state", "uint8", 128, 128),
    ]
    assert states["int8"] == [Part("quantisation state", "float32", 128, 512)]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4-dq"])
def test_the_weights_of_missing_layers_are_those_of_the_last(precision):
    plan = plan_of("whisper", precision, "adalora")
    adapted = fit.prepare(whole := catalogue.skeleton(plan.model, "float32", precision), "adalora", 8)
    assert fit.parts(plan) == memory.weight_parts(whole)
    assert fit.counts(plan) == memory.parameter_counts(adapted)


def test_lora_of_rank_8_by_hand():
    """Three projections of 4 encoder layers and six of 4 decoder layers: 36 pairs of 8 x 64 and 64 x 8; each has two states and a counter."""
    found = fit.account(plan_of("whisper", "int8", "lora"))
    assert found.adapters == 36 * 2 * 8 * 64 * 4
    assert found.optimizer == 36 * 2 * (2 * 8 * 64 * 4 + 4)
    assert fit.counts(plan_of("whisper", "int8", "lora"))[1] == 36 * 2 * 8 * 64


SIZES = {
    (3,): "a few",
    (4095,): "below bitsandbytes' least",
    (4096,): "the least that it quantises",
    (70, 100): "no whole block",
    (64, 64, 3): "blocks",
}


def stepped(optimizer, parameters):
    import torch

    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def state_bytes(optimizer) -> int:
    """Bytes of every tensor of an optimiser's state, shared ones once."""
    import torch

    tensors = {
        value.untyped_storage()._cdata: value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    }
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_the_state_of_an_optimiser_is_what_was_accounted(name, dtype):
    import bitsandbytes
    import torch

    parameters = [torch.nn.Parameter(torch.ones(shape, dtype=getattr(torch, dtype))) for shape in SIZES]
    kind = torch.optim.AdamW if name == "adamw" else bitsandbytes.optim.AdamW8bit
    sizes = [(parameter.numel(), parameter.element_size()) for parameter in parameters]
    assert state_bytes(stepped(kind(parameters), parameters)) == memory.optimizer_bytes(sizes, name)


def test_adamw_by_hand():
    """Two float32 a number and a counter; in 8 bits two bytes a number, two float32 for each of 40 blocks, and two tables."""
    assert memory.optimizer_bytes([(1000, 4)], "adamw") == 8004
    assert memory.optimizer_bytes([(10_000, 4)], "adamw8bit") == 20_000 + 40 * 8 + 2 * 256 * 4
    assert memory.optimizer_bytes([(1000, 2)], "paged-adamw8bit") == 8000


def test_adamw_makes_two_copies_of_the_largest_parameter():
    import torch

    parameters = [torch.nn.Parameter(torch.zeros(count)) for count in (3000, 1000, 2000)]
    optimizer = stepped(torch.optim.AdamW(parameters, foreach=False), parameters)
    states = [value for state in optimizer.state.values() for value in state.values()]
    found = trace.traced(optimizer.step, {}, {}, [*parameters, *(parameter.grad for parameter in parameters), *states])
    assert found.peak == memory.UPDATE_COPIES * 3000 * 4


def test_the_step_of_the_optimiser_can_be_the_peak():
    """All gradients are there then, and no activation: of full training with little to read."""
    plan = replace(plan_of("llama", "fp32", "full"), batch_size=1, read=1, written=1)
    found = fit.account(plan)
    parameters = fit.counts(plan)[0]
    assert (found.where, found.gradients, found.activations) == ("optimizer step", 4 * parameters, 2 * 4 * 300 * 64)


def test_on_a_model_without_content_adalora_trains_what_it_trains_with_content(folders):
    """On its way off the CPU PEFT makes the divisor of each layer, `ranknum`, a trained parameter: `attach` keeps it frozen."""

    def trained(model) -> list[str]:
        return [name for name, parameter in fit.prepare(model, "adalora", 8).named_parameters() if parameter.requires_grad]

    on_meta = trained(catalogue.skeleton(config_of("whisper")))
    assert on_meta == trained(loading.load_model(folders["whisper"], "fp32"))
    assert len(on_meta) == 36 * 3 and not any("ranknum" in name for name in on_meta)
