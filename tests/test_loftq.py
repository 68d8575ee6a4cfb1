"""LoftQ and 2 simulated bits: where an adapter on quantised weights starts, what is refused, and the cells and the rule of the comparison."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.models import checkpoint, ladder, loading, summarize, text_ladder, two_bits
from asum_lib.paths import RESULTS
from asum_lib.study import claims, loftq_start, render, render_loftq, run, tables, text_run
from asum_lib.study.cells import make_cell, make_row
from asum_lib.study.text_cells import make_text_cell, make_text_row, planned_text
from asum_lib.training import loftq
from asum_lib.training.adapters import MODULES, adapter_of, attach

FAMILIES = {"whisper": ladder.checkpoint("tiny"), "t5": text_ladder.checkpoint("t5"), "mbart": text_ladder.checkpoint("mbart")}


def adapted(size: str, precision: str, method: str, rank: int = 8):
    import torch

    torch.manual_seed(0)
    return attach(loading.load(str(ladder.checkpoint(size)), precision, "mini").model, adapter_of(method, rank), total_steps=1)


def layers(model) -> dict:
    """{name: LoRA layer}."""
    return {name.removeprefix("base_model.model."): module for name, module in model.named_modules() if len(getattr(module, "lora_A", ()))}


def weights_off(model, size: str) -> float:
    """Relative distance of the adapted layers, adapter included, from the original weights."""
    exact = loading.load(str(ladder.checkpoint(size)), "fp32", "mini").model
    off = norm = 0.0
    for name, layer in layers(model).items():
        original = exact.get_submodule(name).weight.data
        stands_for = loading.dequantised(layer.get_base_layer()) + layer.get_delta_weight("default").detach()
        off, norm = off + float((stands_for - original).square().sum()), norm + float(original.square().sum())
    return (off / norm) ** 0.5


def encoded(model):
    """What the encoder makes of noise."""
    import torch

    model.eval()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad():
        return base.model.encoder(torch.randn(2, 80, 200, generator=torch.manual_seed(1))).last_hidden_state


# Two bits ---------------------------------------------------------------------------------------------------------------


def test_the_levels_of_two_bits_are_four_and_of_four_bits_those_of_nf4():
    assert two_bits.levels(2) == pytest.approx([-1, 0, 0.3379, 1], abs=1e-4)
    from bitsandbytes.functional import get_4bit_type

    assert two_bits.levels(4) == pytest.approx(get_4bit_type("nf4", device="cpu").numpy(), abs=1e-6)


def test_a_block_takes_its_nearest_levels_by_hand():
    """The block's largest magnitude is 2: its levels are -2, 0, 0.68 and 2."""
    import torch

    assert two_bits.rounded(torch.tensor([[2.0, 0.3, 0.4, -0.9, -1.1, 1.4]])).tolist() == [pytest.approx([2, 0, 0.6758, 0, -2, 2], abs=1e-3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_has_four_values_at_most_in_the_layers_that_int4_quantises_and_no_other(family):
    exact, coarse, packed = (loading.load_model(FAMILIES[family], precision, "float32") for precision in ("fp32", "nf2", "int4"))
    changed = {name for name, module in coarse.named_modules() if hasattr(module, "simulated")}
    assert changed == {name for name, module in packed.named_modules() if hasattr(module, "support_avx512bf16_for_cpu")}
    for name, module in exact.named_modules():
        if name in changed:
            blocks = coarse.get_submodule(name).weight.flatten().split(64)
            assert all(len(block.unique()) <= 4 for block in blocks)
        elif isinstance(getattr(module, "weight", None), type(exact.lm_head.weight if family == "mbart" else next(exact.parameters()))):
            assert (coarse.get_submodule(name).weight == module.weight).all()


def test_simulated_weights_claim_no_bytes():
    model = loading.load(str(FAMILIES["whisper"]), "nf2", "mini").model
    assert set(run.weights_of("nf2", model, model).values()) == {None}
    assert run.weights_of("fp32", model, model)["weights"] > 0


# Where it starts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["tiny", "medium"])  # rows that are not whole blocks of 64, and rows that are
@pytest.mark.parametrize("precision", ["int4", "int4-dq", "fp4", "nf2"])
def test_it_starts_closer_to_the_original_weights_and_closer_still_after_more_rounds(size, precision):
    lora, once, five = (weights_off(adapted(size, precision, method), size) for method in ("lora", "loftq", "loftq-5"))
    assert five < once < 0.95 * lora


def test_loras_own_start_adds_nothing():
    quantised = loading.load(str(ladder.checkpoint("tiny")), "int4", "mini").model
    assert (encoded(adapted("tiny", "int4", "lora")) == encoded(quantised)).all()


@pytest.mark.parametrize("precision", ["int4", "nf2"])
def test_one_round_keeps_the_codes_of_quantise_then_adapt_and_five_change_them(precision):
    lora, once, five = (layers(adapted("tiny", precision, method)) for method in ("lora", "loftq", "loftq-5"))
    for name, layer in lora.items():
        codes = [loading.dequantised(found[name].get_base_layer()) for found in (lora, once, five)]
        assert (codes[0] == codes[1]).all()
        assert not (codes[0] == codes[2]).all()
        assert layer.get_base_layer().weight.dtype == five[name].get_base_layer().weight.dtype


def test_the_part_of_a_rank_is_the_closest_by_hand():
    """Of diag(3, 2, 1) two directions are kept: what is left is 1."""
    import torch

    a, b = loftq.decompose(torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2)
    assert (a.shape, b.shape) == ((2, 3), (3, 2))
    assert (b @ a).tolist() == [pytest.approx(row, abs=1e-6) for row in ([3, 0, 0], [0, 0, 0], [0, 0, 2])]


@pytest.mark.parametrize("rounds", [1, 5])
def test_at_a_scale_of_one_and_whole_blocks_it_is_what_pefts_own_function_gives(monkeypatch, rounds):
    """PEFT sends the weight to a GPU by name; here that name is the CPU."""
    import bitsandbytes
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.utils.loftq_utils import loftq_init

    model = get_peft_model(
        loading.load(str(ladder.checkpoint("medium")), "int4", "mini").model, LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj"])
    )
    loftq.start(model, rounds)
    for kind in (torch.Tensor, bitsandbytes.nn.Params4bit):
        monkeypatch.setattr(kind, "to", on_the_cpu(kind.to))
    for name, layer in list(layers(model).items())[:3]:
        weight = loading.original_weights(model.get_base_model(), [name])[name]
        theirs, a, b = loftq_init(weight, num_bits=4, reduced_rank=8, num_iter=rounds)
        assert torch.equal(loading.dequantised(layer.get_base_layer()), theirs)
        assert torch.allclose(layer.get_delta_weight("default"), b @ a, atol=1e-6)


def on_the_cpu(to):
    def moved(tensor, *arguments, **named):
        arguments = ["cpu" if argument == "cuda" else argument for argument in arguments]
        return to(tensor, *arguments, **{name: "cpu" if value == "cuda" else value for name, value in named.items()})

    return moved


def test_with_the_scale_left_out_nothing_is_won():
    """At alpha = 2 r the part is then taken twice: as far off as without it."""
    without, unscaled = adapted("small", "int4", "lora"), adapted("small", "int4", "loftq")
    for layer in layers(unscaled).values():
        layer.lora_B["default"].weight.data *= layer.scaling["default"]
    assert weights_off(unscaled, "small") == pytest.approx(weights_off(without, "small"), rel=1e-4)


def test_a_layer_that_is_not_quantised_keeps_loras_start():
    """T5's second matrix of a feed-forward layer stays in full precision: a start of zeros on both sides could never be trained."""
    loaded = summarize.load(str(FAMILIES["t5"]), "int4", "en", "mini")
    found = layers(attach(loaded.model, adapter_of("loftq", 16, MODULES["t5"]["all-linear"]), total_steps=1))
    exact = [layer for name, layer in found.items() if name.endswith(".wo")]
    assert exact and all((layer.lora_B["default"].weight == 0).all() and (layer.lora_A["default"].weight != 0).any() for layer in exact)
    assert all((layer.lora_B["default"].weight != 0).any() for name, layer in found.items() if name.endswith(".q"))


def test_a_rank_above_a_layers_own_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^rank 49: LoftQ starts from that many singular vectors, and model\.encoder\S+ has 48: choose fewer$"):
        adapted("tiny", "int4", "loftq", rank=49)


def test_a_checkpoint_without_the_original_weights_is_refused(tmp_path):
    model = loading.load(str(FAMILIES["whisper"]), "int4", "mini").model
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"the weight of model\.encoder\S+_proj was saved quantised: give the checkpoint as it was published"):
        attach(loading.load_model(tmp_path, "int4", "float32"), adapter_of("loftq", 8), total_steps=1)


def test_training_goes_on_from_there():
    from asum_lib.training.finetune import Split, Training, finetune

    features = np.random.default_rng(0).normal(size=(8, 80, 200)).astype(np.float32)
    split = Split(features, ["stir the paint", "cut the onions"] * 4)
    for precision in ("int4", "nf2"):
        speech = loading.load(str(FAMILIES["whisper"]), precision, "mini")
        training = Training(learning_rate=1e-2, epochs=3, batch_size=4)
        model, history = finetune(speech, split, training, adapter_of("loftq", 4), seed=0, evaluate=lambda model: {})
        assert history[-1]["train_loss"] < history[1]["train_loss"]
        assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize("model", ["whisper-tiny", "whisper-small", "t5 on howto-text"])
def test_the_first_output_is_closer_to_full_precisions_on_speech_and_documents(model):
    found = {(start.precision, start.method): start for start in loftq_start.starts(model)}
    assert set(found) == {(precision, method) for precision in ("int4", "nf2") for method in loftq_start.METHODS}
    for precision in ("int4", "nf2"):
        lora, once = found[precision, "lora"], found[precision, "loftq"]
        assert once.weights_pct < lora.weights_pct and once.outputs_pct < lora.outputs_pct
    assert found["nf2", "lora"].outputs_pct > 3 * found["int4", "lora"].outputs_pct


def recorded(weights_pct: float, model: str = "whisper-tiny", targets: str = "qkv", checkpoint: str = "0" * 64) -> dict:
    """An entry of the file of starts with one figure everywhere."""
    figures = {"weights_pct": weights_pct, "outputs_pct": 20.0, "agreement_pct": 90.0}
    pairs = [(precision, method) for precision in ("int4", "nf2") for method in loftq_start.METHODS]
    starts = [asdict(loftq_start.Start(model, precision, method, targets, **figures)) for precision, method in pairs]
    return {"model": model, "targets": targets, "checkpoint_sha256": checkpoint, "items": 32, "starts": starts, "time_s": 1.0, "provenance": {}}


def write_starts(results, *entries) -> None:
    (results / loftq_start.NAME).write_text(json.dumps({"command": loftq_start.COMMAND, "entries": entries}))


def test_the_table_of_starts_is_read_and_not_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(loftq_start, "starts", lambda *arguments: pytest.fail("a page computes"))
    write_starts(tmp_path, recorded(12.5))
    table = BeautifulSoup(render_loftq.start_table(models=["whisper-tiny", "whisper-base"], results=tmp_path).data, "html.parser")
    tiny, base = ([cell.text for cell in row.find_all("td")] for row in table.find_all("tr")[2:])
    assert tiny == 8 * ["12.5"]
    assert base == 8 * ["missing"]


def test_the_recorded_starts_are_of_the_shipped_checkpoints():
    entries = json.loads((RESULTS / loftq_start.NAME).read_text(encoding="utf-8"))["entries"]
    assert [(entry["model"], entry["targets"]) for entry in entries] == list(loftq_start.RECORDED)
    shipped = {f"whisper-{size}": ladder.checkpoint(size) for size in ladder.SIZES} | {name: text_ladder.checkpoint(name) for name in ("t5", "mbart")}
    for entry in entries:
        assert entry["checkpoint_sha256"] == checkpoint.checksum(shipped[entry["model"].split(" on ")[0]])
        assert entry["provenance"]["git_commit"]


def test_only_what_is_missing_or_of_other_weights_is_measured(tmp_path, monkeypatch):
    done = [(model, targets) for model, targets in loftq_start.RECORDED[2:]]
    entries = [recorded(1.0, *key, loftq_start._checksum(key[0])) for key in done]
    write_starts(tmp_path, recorded(1.0), *entries)  # that of tiny is of other weights, that of base is missing
    again = []
    monkeypatch.setattr(loftq_start, "measured", lambda *key: again.append(key) or recorded(2.0, *key))
    loftq_start.write(tmp_path)
    assert again == [("whisper-tiny", "qkv"), ("whisper-base", "qkv")]
    assert [starts[0].weights_pct for starts in loftq_start.read(tmp_path).values()] == [2.0, 2.0] + len(done) * [1.0]


@pytest.mark.parametrize("content", ["", "[]", '{"entries": [{}]}', '{"entries": [{"starts": [{"weights_pct": "<b>"}]}]}'])
def test_a_file_that_holds_no_starts_is_refused_in_one_line(tmp_path, content):
    (tmp_path / loftq_start.NAME).write_text(content)
    with pytest.raises(InputError, match=r"loftq_start\.json is not a file of LoftQ's starts"):
        loftq_start.read(tmp_path)


@pytest.mark.slow
def test_an_entry_measured_again_says_the_same():
    entry = loftq_start.measured("whisper-tiny")
    known = loftq_start.read()["whisper-tiny", "qkv"]
    for again, start in zip(entry["starts"], known, strict=True):
        assert again["weights_pct"] == pytest.approx(start.weights_pct, rel=1e-3)


# Cells ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["loftq", "loftq-5"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("make", [lambda p, m: make_cell("tiny", p, m), lambda p, m: make_text_cell("howto-text", "t5", p, m)])
def test_weights_that_lose_too_little_are_refused_in_one_line(make, precision, method):
    said = (
        rf"^method '{method}' makes up for what weights of 4 or 2 bits lose, not for {precision}: choose precision int4, int4-dq, fp4, nf2, or method"
    )
    with pytest.raises(InputError, match=said):
        make(precision, method)


def test_two_bits_cannot_be_trained_whole():
    with pytest.raises(InputError, match="method 'full' cannot train nf2 weights"):
        make_cell("tiny", "nf2", "full")


def test_a_row_leaves_out_what_cannot_be():
    speech = make_row("tiny", ["fp32", "int8", "nf2"], ["none", "lora", "loftq"])
    assert [(cell.precision, cell.method) for cell in speech if cell.method == "loftq"] == [("nf2", "loftq")]
    text = make_text_row("howto-text", "t5", methods=["lora", "loftq"], precisions=["fp32", "int4"])
    assert [(cell.precision, cell.method) for cell in text] == [("fp32", "lora"), ("int4", "lora"), ("int4", "loftq")]


def test_its_cells_are_named_and_planned_beside_those_of_quantise_then_adapt():
    names = {cell.name for cell in tables.planned("whisper_wer")}
    assert {
        f"whisper-{size}-{precision}-{method}-r8-rate1-s2"
        for size in ("tiny", "medium")
        for precision in ("int4", "nf2")
        for method in ("lora", "loftq")
    } <= names
    assert {"whisper-small-nf2-none-s0", "whisper-small-int4-loftq-5-r8-rate1-s0"} <= names
    assert not any("whisper-large-" in name and ("loftq" in name or "nf2" in name) for name in names)
    text = {cell.name for cell in planned_text("rouge_gazeta")}
    assert {"mbart-mini-nf2-none-s0", "mbart-mini-nf2-lora-r16-s1", "mbart-mini-int4-loftq-r16-s1", "mbart-mini-nf2-loftq-r16-s1"} <= text
    assert not any("loftq" in cell.name or "nf2" in cell.name for cell in planned_text("rouge_gazeta", "paper"))


def test_it_differs_from_lora_in_its_start_alone():
    lora, once = asdict(adapter_of("lora", 8)), asdict(adapter_of("loftq", 8))
    assert once == lora | {"method": "loftq", "iterations": 1}
    assert adapter_of("loftq-5", 8).iterations == 5
    assert run.training_of(make_cell("tiny", "int4", "loftq", rate="1")) == run.training_of(make_cell("tiny", "int4", "lora", rate="1"))
    assert text_run.chosen_rate("news-ru", "mbart", "loftq") == text_run.chosen_rate("news-ru", "mbart", "lora")


# The rule and the page --------------------------------------------------------------------------------------------------


@pytest.fixture
def speech(add_record):
    """Adds what the rule asks of Whisper: LoftQ with so many errors fewer in 100 words than LoRA's 20, by bits."""

    def add(fewer: dict[str, int]):
        for size in render_loftq.SIZES:
            for precision, by in fewer.items():
                for seed in range(3):
                    add_record(size, precision, "lora", rate="1", seed=seed, errors=[20] * 4, words=100)
                    add_record(size, precision, "loftq", rate="1", seed=seed, errors=[20 - by] * 4, words=100)

    return add


def test_the_rule_asks_both_kinds_of_table_and_waits_for_both(speech, tmp_path):
    speech({"int4": 3, "nf2": 3})
    [claim] = claims.judge(results=tmp_path / "results", only="A14")
    assert (claim["verdict"], claim["reason"]) == ("inconclusive", "of 14 parts: 8 hold, 6 missing")
    first = claim["evidence"][0]
    assert first["what"] == "tiny: int4 + loftq at rate 1 minus int4 + lora at rate 1"
    assert (first["difference"], first["unit"]) == (pytest.approx(-3), "points of WER")
    missing = [part for part in claim["evidence"] if part["decides"] and part["outcome"] == "missing"]
    assert missing[0]["what"] == "t5 on howto-text, rouge1: int4 loftq minus int4 lora" and missing[0]["unit"] == "points of ROUGE"


def test_one_comparison_the_other_way_contradicts(speech, tmp_path):
    speech({"int4": -3, "nf2": 3})
    [claim] = claims.judge(results=tmp_path / "results", only="A14")
    assert claim["verdict"] == "not reproduced"


def test_without_records_of_it_the_claim_is_not_testable(add_record, tmp_path):
    add_record("tiny", "fp32")
    for scale in ("mini", "paper"):
        [claim] = claims.judge(scale, results=tmp_path / "results", only="A14")
        assert claim["verdict"] == "not testable"


def text(shown) -> str:
    return " ".join(BeautifulSoup(shown.data, "html.parser").get_text(" ").split())


def test_the_table_holds_both_beside_each_other_with_their_difference(speech, tmp_path):
    speech({"nf2": 3})
    row = text(render_loftq.wer_table(tmp_path / "results")).split("Whisper tiny 2 bits, simulated", 1)[1].split("Whisper base", 1)[0]
    assert "20.0 20.0 to 20.0; 3 seeds 17.0 17.0 to 17.0; 3 seeds -3.0 -3.0 to -3.0; p 0.0" in row
    assert "In 2 bits, simulated, in points of WER: LoftQ is better in 4 of 4 comparisons" in text(render_loftq.findings(tmp_path / "results"))


def test_without_records_the_page_says_what_is_missing(tmp_path):
    results = tmp_path / "results"
    assert "seed 0 missing" in text(render_loftq.wer_table(results))
    assert "seed 0 missing" in text(render_loftq.rouge_table(results=results))
    for shown in (render_loftq.findings, render_loftq.plot_wer, render_loftq.plot_losses):
        assert text(shown(results)) == "No record of this yet."


def test_the_papers_own_figures_do_not_show_it(speech, add_record, tmp_path):
    """Curves and bytes of the main page are of the paper's configurations and those beside them."""
    speech({"int4": 3})
    assert "No record of this yet." in text(render.curves(results=tmp_path / "results", rates=("1",)))


def test_a_mean_of_ties_is_not_called_better():
    said = text(render_loftq.findings())
    assert "LoftQ minus LoRA is " in said and "on average, lower is better" in said
    assert "it is better by" not in said
