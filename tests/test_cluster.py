"""What a job asks for, how long a cell takes by arithmetic, and how cells lie on GPUs: values worked out by hand."""

import json
from dataclasses import replace

import pytest

from asum_lib.errors import InputError
from asum_lib.study import cluster, fit, memory_footprint
from asum_lib.study.cells import make_cell, make_row
from asum_lib.study.cluster import GPUS, Assumptions, Counts, Shape
from asum_lib.study.text_cells import make_text_cell, make_text_row

# A model that can be calculated by hand: width 10, 2 layers, 100 words, 50 positions read and 4 tokens written.
SMALL = Shape("whisper", 10, 2, 100, 50, 4, 6, 8, 8, False, 16, 1)
PAPER = {"scale": "paper", "corpus": "librispeech"}


def test_flops_of_a_forward_pass_are_two_a_parameter_and_token_and_the_products_of_attention():
    # a layer: 2 x 12 x 10^2 x 50 = 120,000 and 4 x 50^2 x 10 = 100,000
    assert cluster.encoder_flops(SMALL) == 2 * (120_000 + 100_000)
    # a layer: 2 x 2 x 10^2 x 50
    assert cluster.cross_flops(SMALL) == 2 * 20_000
    # a layer: 2 x 14 x 10^2 x 4 = 11,200 and 4 x 4 x (50 + 2) x 10 = 8,320; the output layer: 2 x 100 x 10 x 4
    assert cluster.decoder_flops(SMALL, 4) == 2 * (11_200 + 8_320) + 8_000
    assert cluster.forward_flops(SMALL) == 440_000 + 40_000 + 47_040


def test_training_takes_three_forward_passes_an_adapter_two_and_checkpointing_one_more():
    forward = cluster.forward_flops(SMALL)
    assert cluster.training_flops(SMALL, "full") == 3 * forward
    assert cluster.training_flops(SMALL, "lora") == 2 * forward
    assert cluster.training_flops(replace(SMALL, checkpointing=True), "lora") == 3 * forward


def test_without_attention_full_training_is_six_flops_a_parameter_and_token():
    shape = replace(SMALL, read=1, written=1, vocabulary=0)
    parameters = 2 * (12 + 16) * 10**2  # encoder and decoder layers; each sees one token
    attention = 2 * (4 * 1 * 10 + 4 * 1 * 1.5 * 10)
    assert cluster.training_flops(shape, "full") == 6 * parameters + 3 * attention


def test_the_shape_of_a_cell_is_that_of_the_real_model_and_the_study():
    shape = cluster.shape_of(make_cell("large", "fp32", "full", **PAPER))
    assert (shape.width, shape.layers, shape.vocabulary, shape.read) == (1280, 32, 51_865, 1_500)
    assert (shape.epochs, shape.batch, shape.micro_batch, shape.checkpointing, shape.decode_batch) == (6, 1, 1, True, 8)
    small = cluster.shape_of(make_cell("small", "int8", "adalora", **PAPER))
    assert (small.batch, small.micro_batch, small.checkpointing) == (8, 8, False)
    text = cluster.shape_of(make_text_cell("gazeta-v1", "mbart", method="lora", scale="paper"))
    assert (text.width, text.layers, text.read, text.written, text.batch, text.micro_batch, text.beams) == (1024, 12, 600, 200, 16, 2, 5)


def test_a_cell_has_as_many_steps_as_its_epochs_have_batches():
    found = cluster.estimate(make_cell("small", "fp32", "full", **PAPER))
    assert found.steps == 6 * 3_568  # 28,539 utterances in batches of 8
    assert cluster.estimate(make_cell("large", "fp32", "full", **PAPER)).steps == 6 * 28_539


def test_a_large_model_is_as_slow_as_its_arithmetic():
    cell, card = make_cell("large", "fp32", "full", **PAPER), GPUS["a100"]
    nothing = Assumptions(utilisation=0.5, bandwidth=1.0, operation_s=0.0)
    arithmetic = cluster.training_flops(cluster.shape_of(cell), "full") / (0.5 * 312e12)
    trained = 1_543_304_960 - 1_500 * 1_280  # every weight but the encoder's fixed positions
    assert cluster.step_seconds(cell, card, nothing) == pytest.approx(arithmetic + 84 * trained / 2.039e12)


def test_a_small_model_is_as_slow_as_its_launches():
    cell = make_cell("tiny", "bf16", "none", **PAPER)
    slow = Assumptions(operation_s=1e-3, start_s=0.0)
    # 4 layers of 21 operations of a millisecond, 26 tokens, one batch of 32; the encoder's arithmetic is on top
    shape = cluster.shape_of(cell)
    encode = 32 * (cluster.encoder_flops(shape) + cluster.cross_flops(shape)) / (0.3 * 312e12)
    assert cluster.decoding_seconds(cell, 32, GPUS["a100"], slow) == pytest.approx(encode + 26 * 4 * 21e-3)
    assert cluster.decoding_seconds(cell, 33, GPUS["a100"], slow) == pytest.approx(2 * (encode + 26 * 4 * 21e-3))


def test_operations_of_a_layer_are_as_counted():
    """A layer more of encoder and decoder, in a training step of a real Whisper of that depth."""
    assert cluster.OPERATIONS["whisper"]["full"][:2] == tuple(b - a for a, b in zip(counted(1), counted(2), strict=True))


def counted(depth: int) -> tuple[int, int]:
    from torch.utils._python_dispatch import TorchDispatchMode

    from asum_lib.models import catalogue

    class Count(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            moves_nothing = function.is_view or function._schema.name in ("aten::detach", "aten::_unsafe_view", "aten::alias")
            self.number += not moves_nothing
            return function(*args, **(kwargs or {}))

    config = catalogue.shallow(catalogue.config("whisper-tiny"), depth)
    model = fit.prepare(catalogue.model_class(config)(config), "full", 1)
    with Count() as count:
        loss = model(**catalogue.training_inputs(model, 1, 0, 4)).loss
        forward = count.number
        loss.backward()
    return forward, count.number - forward


def test_arithmetic_takes_half_as_long_at_twice_the_utilisation():
    cell = make_cell("medium", "fp32", "full", **PAPER)
    slow, quick = (cluster.step_seconds(cell, assumed=Assumptions(utilisation=u, operation_s=0.0)) for u in (0.2, 0.4))
    arithmetic = cluster.training_flops(cluster.shape_of(cell), "full") * 8 / 312e12
    assert slow - quick == pytest.approx(arithmetic * (1 / 0.2 - 1 / 0.4))


def test_what_is_not_known_has_no_hours_and_says_why():
    found = cluster.estimate(make_cell("tiny", "int8", "none", scale="paper", corpus="how2"))
    assert found.hours is None
    assert found.reason == "how many utterances how2 has is not in the sources at hand"
    given = cluster.CORPORA | {"how2": Counts(1_000, 100, 100, 30, "given")}
    assert cluster.estimate(make_cell("tiny", "int8", "none", scale="paper", corpus="how2"), corpora=given).hours > 0
    assert cluster.estimate(make_text_cell("gazeta-v1", "lead3", scale="paper")).hours is None


@pytest.mark.parametrize(("name", "value"), [("utilisation", 0), ("utilisation", 1.2), ("bandwidth", -1), ("operation_s", -1e-6)])
def test_an_assumption_that_cannot_be_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        Assumptions(**{name: value})


JOBS = {"a": 7.0, "b": 6.0, "c": 5.0, "d": 4.0, "e": 3.0}


def test_the_longest_job_goes_first_to_the_gpu_that_is_free_first():
    found = cluster.schedule(JOBS, 2)
    # a and b start; c follows b at 6, d follows a at 7; e at 11 on either, the first of equals is GPU 0
    assert [(job.name, job.gpu, job.start_h) for job in found.placed] == [("a", 0, 0), ("b", 1, 0), ("c", 1, 6), ("d", 0, 7), ("e", 0, 11)]
    assert found.makespan_h == 14
    assert found.bound_h == 12.5


@pytest.mark.parametrize(("gpus", "makespan_h", "bound_h"), [(1, 25, 25), (2, 14, 12.5), (4, 7, 7), (8, 7, 7)])
def test_makespan_and_its_bound(gpus, makespan_h, bound_h):
    found = cluster.schedule(JOBS, gpus)
    assert (found.makespan_h, found.bound_h, found.busy_h) == (makespan_h, bound_h, 25)


def test_no_jobs_take_no_time_and_no_gpu_is_refused():
    assert cluster.schedule({}, 2).makespan_h == 0
    with pytest.raises(InputError, match="gpus 0"):
        cluster.schedule(JOBS, 0)


def test_a_cost_needs_hours_and_a_price():
    assert cluster.cost(10.0, 2.5) == 25.0
    assert cluster.cost(10.0, None) is None
    assert cluster.cost(None, 2.5) is None
    with pytest.raises(InputError, match="price"):
        cluster.cost(1.0, -1.0)


def test_the_plan_has_every_planned_cell_of_the_paper_scale():
    found = cluster.paper_cells()
    # speech: 5 sizes of 4 cells without training and 3 with three seeds each
    assert {table: len(cells) for table, cells in found.items() if table.startswith("whisper")} == dict.fromkeys(
        ("whisper_wer", "whisper_librispeech", "whisper_slue-voxpopuli"), 5 * (4 + 3 * 3)
    )
    assert "learning_rates" not in found


def test_the_arguments_of_a_cell_measure_it_and_no_other():
    for table, cells in cluster.paper_cells().items():
        for cell in [] if table == memory_footprint.TABLE else cells:
            notebook, given = cluster.arguments(cell)
            given = json.loads(json.dumps(given))
            if notebook == "whisper_quant":
                assert make_row(given.pop("size"), given.pop("precisions"), given.pop("methods"), **given) == [cell]
            elif "methods" in given:
                assert make_text_row(given.pop("corpus"), given.pop("model"), **given) == [cell]
            else:
                assert make_text_cell(**given) == cell


def test_a_mini_job_asks_for_its_process_and_the_forecast_and_as_long_as_its_like_took(tmp_path):
    cell = make_cell("tiny", "fp32", "full", corpus="digits")
    folder = tmp_path / "mini" / "whisper_wer"
    folder.mkdir(parents=True)
    for number, taken in enumerate((400, 500)):
        identity, times = {"model": "whisper", "size": "tiny", "method": "full"}, {"load": 0, "train": taken, "evaluate": None}
        record = {"status": "ok", "cell": identity, "time_s": times}
        (folder / f"{number}.json").write_text(json.dumps(record))
    found = cluster.request([cell], results=tmp_path)
    assert found.mem_mb == -(-1.25 * (1.5e9 + cluster.fit_bytes(cell)) // 1e6)
    assert (found.runtime, found.gpu) == (25, 0)  # three times 500 s
    again = cluster.request([cell, cell], 2, tmp_path)
    assert (again.mem_mb, again.runtime) == (2 * found.mem_mb, 100)


def test_a_job_without_a_model_asks_for_its_process_and_the_shortest_time():
    assert cluster.request([]) == cluster.Request(mem_mb=1_875, runtime=15, gpu=0)


def test_a_paper_job_asks_for_one_gpu_and_the_estimate_with_its_margin():
    cell = make_cell("tiny", "int8", "adalora", **PAPER)
    found = cluster.request([cell])
    assert found.gpu == 1
    assert found.runtime == -(-3 * cluster.estimate(cell).seconds // 60)
    # the file's float32 weights pass through main memory, and what trains is saved with AdamW's states
    assert found.mem_mb > 1.25 * cluster.GPU_PROCESS_BYTES / 1e6
    assert cluster.request([make_text_cell("gazeta-v1", "lead3", scale="paper")]).gpu == 0


def test_a_cell_of_unknown_length_asks_for_a_day():
    assert cluster.request([make_cell("tiny", "int8", "none", scale="paper", corpus="how2")]).runtime == 24 * 60


def test_bytes_on_the_gpu_are_the_librarys_forecast_in_what_a_gpu_computes_in():
    cell = make_cell("tiny", "int8", "lora", **PAPER)
    decode = fit.Plan("whisper-tiny", "int8", batch_size=32, device="cuda", rest="bfloat16")
    train = fit.Plan("whisper-tiny", "int8", "lora", rank=8, batch_size=8, device="cuda", rest="bfloat16")
    assert cluster.fit_bytes(cell) == max(fit.load_bytes(decode), fit.account(decode).peak, fit.account(train).peak)


def test_the_command_refuses_what_cannot_be(capsys):
    assert cluster.main(["--utilisation", "2"]) == 2
    assert "utilisation 2.0 is not a share" in capsys.readouterr().err
