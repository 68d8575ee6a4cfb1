"""The memory table: its cells, what a record of one holds, the rows made of them, and the verdicts on the three claims."""

import json

import pytest

from asum_lib import cli, papers
from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study import claims, memory_claims, memory_table, placing, records
from asum_lib.study import memory_footprint as footprint
from asum_lib.study.memory_footprint import make_cell, make_row


def test_a_cell_is_named_by_what_is_not_usual():
    assert make_cell("whisper-large", "int8", "adalora").name == "whisper-large-int8-adalora-r8-cpu"
    assert make_cell("whisper-large", "int8", "none", rest="float16").name == "whisper-large-int8-rest_float16-none-cpu"
    cell = make_cell("t5-base", "fp32", "full", batch_size=4, read=300, optimizer="adamw8bit", gradient_checkpointing=True)
    assert cell.name == "t5-base-fp32-full-b4-read300-adamw8bit-checkpointing-cpu"


def test_a_row_leaves_out_what_cannot_be_trained():
    pairs = [(cell.precision, cell.method) for cell in make_row("whisper-tiny", ["fp32", "int4"], ["none", "full"])]
    assert pairs == [("fp32", "none"), ("fp32", "full"), ("int4", "none")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "whisper-huge"}, "unknown model 'whisper-huge': choose from whisper-tiny, "),
        ({"measure": "gpu"}, "unknown measure 'gpu': choose from no, cpu, cuda"),
        ({"audio_s": 90.0}, "audio_s 90.0 is not above 0 and at most 30: Whisper hears a window of 30 s, and fills up what is shorter"),
        ({"tokens": -1}, "parameter tokens is -1, and should be a whole number from 0"),
        ({"tokens": 449}, "449 written tokens: whisper-tiny writes at most 448"),
        ({"batch_size": 0}, "batch_size 0 is not a whole number of 1 or more"),
        ({"precisions": "int8"}, "parameter precisions is 'int8', and should be a list of one or more texts"),
        ({"precisions": ["int8"], "methods": ["full"]}, "method 'full' cannot train int8 weights: choose precision fp32, fp16 or bf16"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd': choose from adamw, adamw8bit, paged-adamw8bit"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, given, message):
    with pytest.raises(InputError) as caught:
        footprint.run(**given, results_dir=str(tmp_path))
    assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="measure 'cuda': torch sees no CUDA device here, choose cpu or no"):
        footprint.run(measure="cuda", results_dir=str(tmp_path))


def test_an_account_is_a_record_and_a_second_run_reads_it(tmp_path, capsys):
    given = {"precisions": ["fp32"], "methods": ["none", "full"], "measure": "no", "results_dir": str(tmp_path)}
    row = footprint.run(**given)
    loaded, trained = row.records
    assert loaded.metrics["weights_bytes"].value == 37_760_640 * 4
    assert loaded.params["total"] == trained.params["total"] == 37_760_640
    assert trained.params["trainable"] == 37_760_640 - 1500 * 384  # the encoder's positions are fixed
    account = dict(trained.config["account"])
    assert account.pop("where") and sum(account.values()) == trained.metrics["train_peak_accounted_bytes"].value
    assert footprint.run(**given).records == row.records
    assert capsys.readouterr().err.count("already there") == 2


def test_a_measured_cell_has_the_weights_to_the_byte_and_its_peaks_near_the_account(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "REPEATS", 1)
    row = footprint.run(precisions=["int8"], methods=["none", "lora"], results_dir=str(tmp_path))
    loaded, trained = row.records
    assert (loaded.status, trained.status) == ("ok", "ok")
    value = {name: metric.value for name, metric in (loaded.metrics | trained.metrics).items()}
    assert value["held_bytes"] == value["weights_bytes"]
    assert value["footprint_bytes"] < value["weights_bytes"] < value["disk_bytes"] < 1.01 * value["weights_bytes"]
    assert value["load_peak_bytes"] <= 1.3 * value["weights_bytes"]
    assert 1 < value["decode_peak_bytes"] / value["decode_peak_accounted_bytes"] < 1.15
    assert 1 < value["train_peak_bytes"] / value["train_peak_accounted_bytes"] < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize(("name", "key"), [("t5-small", "dropout_rate"), ("mbart-large", "dropout")])
def test_a_text_models_step_takes_what_its_dropout_asks_for(tmp_path, name, key, share):
    """A process that trains a T5 and an mBART of few layers, 256 wide, with LoRA on four texts of 400 + 150 tokens."""
    from asum_lib.measure.peak import in_child
    from asum_lib.models import catalogue
    from asum_lib.study import fit

    config = catalogue.config(name)
    sizes = {"num_layers": 4, "num_decoder_layers": 4, "num_heads": 8, "d_kv": 32, "d_ff": 1024, "vocab_size": 4000}
    sizes |= {
        f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in (("layers", 4), ("attention_heads", 8), ("ffn_dim", 1024))
    }
    config.update({what: value for what, value in (sizes | {"d_model": 256, key: share}).items() if hasattr(config, what)})
    folder = catalogue.write_random(tmp_path / "random", config)
    cell = make_cell(name, "fp32", "lora", read=400, written=150, batch_size=4)
    peak = in_child(footprint._measured, cell, str(folder), str(folder))["bytes"]["train_peak_bytes"]
    accounted = fit.account(fit.Plan(config, "fp32", "lora", read=400, written=150, batch_size=4)).peak
    assert 0.97 < peak / accounted < 1.1


def test_a_cell_that_fails_is_a_record_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "LIMIT_BYTES", 100_000_000)
    [record] = footprint.run(precisions=["fp32"], methods=["full"], results_dir=str(tmp_path)).records
    assert record.status == "failed"
    assert record.reason == "MemoryError: accounted for 0.9 GB: more than the 0.1 GB that a measurement may take"
    assert record.metrics["train_peak_accounted_bytes"].value > 900_000_000 and "train_peak_bytes" not in record.metrics


def test_text_models_are_measured_in_training_and_near_their_account():
    cells = [cell for cell in memory_table.planned() if cell.model in ("t5", "mbart") and memory_table.is_measured(cell)]
    assert {("t5", "small"), ("t5", "base"), ("mbart", "large")} <= {(cell.model, cell.size) for cell in cells}
    for cell in cells:
        record = records.read(cell.path(RESULTS))
        assert record.fingerprint == footprint.fingerprint(cell)
        measured, accounted = (record.metrics[name].value for name in ("train_peak_bytes", "train_peak_accounted_bytes"))
        assert 1 < measured / accounted < 1.1, cell.name


def test_every_planned_cell_has_a_path_of_its_own_and_large_is_measured_in_int8_and_int4():
    cells = [*memory_table.planned("cpu"), *memory_table.planned("cuda")]
    assert len({cell.name for cell in cells}) == len(cells)
    measured = {(cell.precision, cell.method) for cell in memory_table.planned() if memory_table.is_measured(cell) and cell.size == "large"}
    assert {(precision, "none") for precision in ("fp32", "fp16", "int8", "int4")} | {("int8", "adalora"), ("int4", "adalora")} <= measured


def test_the_table_has_every_metric_of_the_five_sizes_with_a_value_or_a_reason():
    rows = [row for row in memory_table.rows() if row["cell"]["model"] == "whisper" and row["cell"]["device"] == "cpu"]
    found = {(row["cell"]["size"], row["cell"]["precision"], row["cell"]["method"], row["metric"]) for row in rows}
    for size in memory_table.SIZES:
        for precision in memory_table.PRECISIONS:
            for metric in ("weights_bytes", "footprint_bytes", "disk_bytes", "load_peak_bytes", "decode_peak_bytes"):
                assert (size, precision, "none", metric) in found
            for method in ("lora", "adalora") + (("full",) if precision in ("fp32", "fp16") else ()):
                assert (size, precision, method, "train_peak_bytes") in found
        for precision in ("int8", "int4"):
            assert {(size, precision, "none", f"decode_peak_vs_{base}_pct") for base in ("fp32", "fp16")} <= found
    assert all(row["value"] is not None or row["reason"] for row in rows)


def test_not_measured_yet_stands_with_the_gpu_and_nowhere_else():
    for row in memory_table.rows():
        assert (row["reason"] == "not measured yet") == (row["cell"]["device"] == "cuda" and row["status"] == "missing")


def test_a_change_is_that_of_the_two_records(tmp_path):
    for precision in ("fp32", "fp16", "int8"):
        footprint.run(precisions=[precision], methods=["none"], measure="no", results_dir=str(tmp_path))
    rows = {
        (row["cell"]["precision"], row["cell"]["rest"], row["metric"]): row for row in memory_table.rows(tmp_path) if row["cell"]["size"] == "tiny"
    }
    row = rows["int8", "float32", "weights_vs_fp32_pct"]
    assert row["value"] == pytest.approx(100 * (101_632_512 / 151_042_560 - 1))
    assert (row["paper"], row["paper_status"], row["unit"], len(row["records"])) == (-30, "secondary", "%", 2)
    missing = rows["int8", "float32", "disk_vs_fp32_pct"]
    assert missing["value"] is None and missing["reason"] == "no record yet"


def test_the_command_prints_the_table_and_refuses_another_scale(capsys):
    assert cli.main(["table", "memory", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"cell", "metric", "value", "lo", "hi", "unit", "n", "paper", "paper_status", "signature", "status", "records"} <= set(rows[0])
    assert cli.main(["table", "memory", "--scale", "mini"]) == 2
    assert capsys.readouterr().err == "asum: unknown scale of the table memory 'mini': choose from paper\n"


def rule(identity: str) -> dict:
    return next(claim["rule"] for claim in papers.load("derkach2024")["claims"] if claim["id"] == identity)


def count_row(model: str, rank: int, metric: str, value: int, precision="fp32") -> dict:
    family, _, size = model.partition("-")
    cell = {"model": family, "size": size, "precision": precision, "method": "lora", "rank": rank, "device": "cpu", "gradient_checkpointing": False}
    return {"cell": cell, "metric": f"parameters_{metric}", "value": value, "records": [f"{model}-{rank}"]}


def counts(trained_share: dict, precision="fp32") -> list[dict]:
    """Rows of models with a million parameters, of which LoRA trains the given number, by (model, rank)."""
    pairs = {(model, rank): (("trainable", trained), ("total", 1_000_000 + trained)) for (model, rank), trained in trained_share.items()}
    return [count_row(model, rank, name, value, precision) for (model, rank), found in pairs.items() for name, value in found]


@pytest.mark.parametrize(
    ("trained", "verdict"),
    [
        ({8: 10_000, 16: 10_000, 32: 19_000}, "reproduced"),  # 100x, 100x, 53x
        ({8: 10_000, 16: 20_000, 32: 40_000}, "consistent"),  # 25x at rank 32
        ({8: 1_000, 16: 2_000, 32: 4_000}, "not reproduced"),  # 1000x, 500x, 250x
    ],
)
def test_a_hundred_times_fewer_is_read_as_within_a_factor_of_two(trained, verdict):
    wanted = rule("A4")
    rows = counts({(model, rank): number for model in wanted["models"] for rank, number in trained.items()})
    assert memory_claims.trainable_ratio(wanted, rows)[0] == verdict
    # where a record is missing nothing is decided, unless a model is out of range at every rank already
    assert memory_claims.trainable_ratio(wanted, rows[:-2])[0] == ("not reproduced" if verdict == "not reproduced" else "inconclusive")


def change_rows(int8: float, int4: float, sizes=("tiny", "base", "small", "medium", "large"), metrics=None) -> list[dict]:
    """Rows of every reading of A7 that say int8 and int4 at `sizes`, and no change elsewhere."""
    wanted, rows = rule("A7"), []
    for metric in metrics or wanted["metrics"]:
        for base in wanted["baselines"]:
            for rest in ("float32", "float16"):
                for size in wanted["sizes"]:
                    for precision, value in (("int8", int8), ("int4", int4)):
                        cell = {"model": "whisper", "size": size, "precision": precision, "rest": rest, "method": "none", "device": "cpu"}
                        change = value if size in sizes else 0.0
                        rows.append({"cell": cell, "metric": f"{metric.removesuffix('_bytes')}_vs_{base}_pct", "value": change, "records": ["x"]})
    return rows


def test_both_savings_have_to_come_from_one_reading_and_one_size():
    wanted = rule("A7")
    assert memory_claims.memory_change(wanted, change_rows(-27, -69))[0] == "reproduced"
    assert memory_claims.memory_change(wanted, change_rows(-27, -69, sizes=["base"]))[0] == "consistent"
    assert memory_claims.memory_change(wanted, change_rows(-36, -65))[0] == "not reproduced"  # int8 saves 6 points more than said
    partly = change_rows(-27, -69, sizes=["base"], metrics=["weights_bytes"])
    assert memory_claims.memory_change(wanted, partly)[0] == "inconclusive"  # another reading might hold at every size
    apart = change_rows(-30, 0, sizes=["base"]) + change_rows(0, -65, sizes=["medium"])
    assert memory_claims.memory_change(wanted, apart)[0] == "not reproduced"
    assert memory_claims.memory_change(wanted, change_rows(-36, -65, metrics=["weights_bytes"]))[0] == "inconclusive"


def test_the_share_of_lora_at_7b_has_to_round_to_two_thousandths():
    wanted = rule("A11")
    ranks = (8, 4, 16, 32, 64)

    def judged(trained: dict) -> str:
        return memory_claims.adapter_share(wanted, counts({("llama-7b", rank): trained[rank] for rank in ranks}, "fp16"))[0]

    # float32 adapters of 1,000 numbers are 0.2 % of a million float16 weights
    assert judged({4: 500, 8: 1_000, 16: 2_000, 32: 4_000, 64: 8_000}) == "reproduced"
    assert judged({4: 1_000, 8: 2_000, 16: 4_000, 32: 8_000, 64: 16_000}) == "consistent"
    assert judged({4: 2_000, 8: 4_000, 16: 8_000, 32: 16_000, 64: 32_000}) == "not reproduced"


def test_without_records_the_claims_on_memory_are_not_testable(tmp_path):
    judged = {claim["claim"]: claim for claim in claims.judge("mini", tmp_path)}
    for identity in ("A4", "A7", "A11"):
        assert (judged[identity]["verdict"], judged[identity]["scale"]) == ("not testable", "paper")


def test_the_committed_records_are_those_of_planned_cells():
    planned = {cell.name for cell in (*memory_table.planned("cpu"), *memory_table.planned("cuda"))}

    for path, record in placing.load(RESULTS, "paper", "memory"):
        assert path.stem in planned
        assert record.config["account"] and record.provenance["git_dirty"] is False
