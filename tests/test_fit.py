"""`asum fit`: which models a memory holds, by figures that can be worked out by hand, and one line for what cannot be."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY
from asum_lib.study import fit, fit_report

MB = 10**6
TINY = 37_760_640  # parameters of Whisper tiny: the 37.76 M of its paper's 39 M that are not counted twice
LLAMA = 6_738_415_616
HELD = 400 * MB


@pytest.fixture(autouse=True)
def holds_400_mb(monkeypatch):
    """The process that asks holds 400 MB: what it really holds depends on the tests before."""
    monkeypatch.setattr(fit_report, "held_bytes", lambda device="cpu": HELD if device == "cpu" else 0)


def asum(capsys, *arguments):
    """`asum fit` in this process: (status, stdout, stderr)."""
    status = cli.main(["fit", *map(str, arguments)])
    return status, *capsys.readouterr()


def row(rows, **wanted):
    """The one row with these values."""
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found


def bars(text):
    """{label: (column where the bar begins, its length)} of the lines with a bar."""
    lines = [line for line in text.splitlines() if "#" in line]
    return {line.split("  ")[0]: (line.index("#"), line.count("#")) for line in lines}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("8GiB", 8 * 2**30),
        ("24000MB", 24 * 10**9),
        ("7.5gb", 7_500 * MB),
        ("8 GB", 8 * 10**9),
        ("512kib", 2**19),
        ("8G", 8 * 2**30),
        ("8Gi", 8 * 2**30),
        ("24000M", 24_000 * 2**20),
        ("1TB", 10**12),
    ],
)
def test_a_size_has_a_unit_of_ten_or_of_two(text, size):
    assert fit_report.memory_bytes(text) == size


def test_free_is_what_the_machine_has_left(monkeypatch):
    monkeypatch.setattr(fit_report, "free_bytes", lambda on_gpu: 3 * 10**9)
    assert fit_report.memory_bytes("free") == 3 * 10**9


def test_free_is_refused_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(fit_report, "free_bytes", lambda on_gpu: None)
    with pytest.raises(InputError, match=r"^memory 'free': this system does not say what is free, write a size such as 8GB$"):
        fit_report.memory_bytes("free")


def test_free_on_a_gpu_that_is_not_there_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^memory 'free' on device cuda: torch sees no GPU here, write a size such as 24GB$"):
        fit_report.memory_bytes("free", "cuda")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "8"], "memory '8' has no unit: write 8GB, or another size such as 8GB, 7.5GiB, 8G or 24000MB, or free"),
        (["--memory", "0GB"], "memory '0GB' is not a size above 0: write one such as 8GB, 7.5GiB, 8G or 24000MB, or free"),
        (["--memory", "-1GB"], "memory '-1GB' is not a size above 0: write one such as 8GB, 7.5GiB, 8G or 24000MB, or free"),
        (["--memory", "8 parrots"], "memory '8 parrots' is not a size above 0: write one such as 8GB, 7.5GiB, 8G or 24000MB, or free"),
        ([], "how much memory is there? write --memory 8GB or --memory free, or explain one run with --model and --precision"),
        (["--memory", "8GB", "--batch-size", "-1"], "--batch-size '-1' is not a whole number of 1 or more"),
        (["--memory", "8GB", "--batch-size", "0"], "--batch-size '0' is not a whole number of 1 or more"),
        (["--memory", "8GB", "--batch-size", "1001"], "batch size 1001: should be a whole number from 1 to 1,000"),
        (["--memory", "8GB", "--task", "train", "--rank", "0"], "--rank '0' is not a whole number of 1 or more"),
        (["--memory", "8GB", "--rank", "4"], "rank is of training: choose task train, or leave it out"),
        (["--memory", "8GB", "--gradient-checkpointing"], "gradient checkpointing is of training: choose task train, or leave it out"),
        (["--memory", "8GB", "--method", "full", "--rank", "4"], "method 'full' has no rank: leave it out, or choose method lora or adalora"),
        (["--memory", "8GB", "--task", "fly"], "unknown task 'fly': choose from decode, train"),
        (["--memory", "8GB", "--device", "tpu"], "unknown device 'tpu': choose from cpu, cuda"),
        (["--memory", "8GB", "--method", "prune"], "unknown method 'prune': choose from none, lora, adalora, full"),
        (["--memory", "8GB", "--task", "decode", "--method", "lora"], "method 'lora' is not of task 'decode': choose from none, or another task"),
        (["--memory", "8GB", "--task", "train", "--optimizer", "sgd"], "unknown optimizer 'sgd': choose from adamw, adamw8bit, paged-adamw8bit"),
        (["--memory", "8GB", "--format", "xml"], "unknown format 'xml': choose from md, json"),
        (["--model", "t5-small", "--precision", "int9"], "unknown precision 'int9': choose from fp32, fp16, bf16, int8, int4, int4-dq, fp4"),
        (
            ["--model", "t5-small", "--precision", "fp32", "--task", "train"],
            "task train needs a method with one model and precision: --method lora, adalora, full",
        ),
        (
            ["--model", "whisper-huge", "--precision", "fp32"],
            "unknown model 'whisper-huge': choose from whisper-tiny, whisper-base, whisper-small, whisper-medium, whisper-large, "
            "whisper-large-v3, whisper-turbo, t5-small, t5-base, t5-large, mbart-large, llama-7b",
        ),
        (
            ["--model", "t5-small", "--precision", "int8", "--method", "full"],
            "method 'full' cannot train int8 weights: choose precision fp32, fp16 or bf16, or method lora or adalora",
        ),
        (
            ["--memory", "8GB", "--precision", "int4", "--method", "full"],
            "method 'full' cannot train int4 weights: choose precision fp32, fp16 or bf16, or method lora or adalora",
        ),
        (["--model", "whisper-tiny", "--precision", "fp32", "--tokens", "449"], "449 written tokens: whisper-tiny writes at most 448"),
        (["--memory", "8GB", "--model", "whisper-tiny", "--tokens", "449"], "449 written tokens: whisper-tiny writes at most 448"),
        (["--model", "mbart-large", "--precision", "fp32", "--tokens", "1025"], "1025 written tokens: mbart-large writes at most 1024"),
        (["--model", "llama-7b", "--precision", "fp32", "--tokens", "1449"], "1449 written tokens: llama-7b writes at most 1448"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(capsys, arguments, message):
    assert asum(capsys, *arguments) == (2, "", f"asum: {message}\n")


def test_weights_of_whisper_tiny_are_its_parameters_by_four():
    found = fit_report.explain(fit.Plan("whisper-tiny", "fp32"))
    assert found["parameters"] == TINY
    assert found["parts_bytes"]["weights"] == 4 * TINY == 151_042_560


def test_loading_half_precision_holds_the_embedding_in_full_beside_it():
    found = fit_report.explain(fit.Plan("whisper-tiny", "fp16"))
    converting = 2 * 448 * 384 + 6 * 51_865 * 384  # positions come before the embedding of 51,865 words, which is there twice
    assert found["load_bytes"] == converting
    assert found["decides"] == "load"
    assert found["peak_bytes"] == converting + HELD


@pytest.mark.parametrize("precision", fit.QUANTISED)
def test_a_quantised_model_holds_less_than_a_full_one_while_it_loads(precision):
    assert TINY / 2 < fit.load_bytes(fit.Plan("whisper-tiny", precision)) < fit.load_bytes(fit.Plan("whisper-tiny", "fp32"))


def test_a_step_of_adamw_on_the_whole_of_a_7b_model_takes_16_bytes_a_parameter():
    found = fit_report.explain(fit.Plan("llama-7b", "fp32", "full"))
    tensors, buffers = 291, 512  # a step counter of 4 bytes a tensor; two tables of 64 frequencies
    update = 2 * 4 * 32_000 * 4096  # two temporaries of the embedding
    assert found["step_bytes"] == 16 * LLAMA + 4 * tensors + buffers + update
    assert (found["decides"], found["where"]) == ("optimiser", "optimizer step")


def test_a_run_fits_the_memory_that_it_takes_and_not_a_byte_less():
    plan = fit.Plan("t5-small", "fp32")
    peak = fit_report.explain(plan)["peak_bytes"]
    exact, less = fit_report.explain(plan, peak), fit_report.explain(plan, peak - 1)
    assert (exact["fits"], exact["spare_bytes"]) == (True, 0)
    assert (less["fits"], less["spare_bytes"]) == (False, -1)


def test_on_a_gpu_the_interpreter_is_not_counted():
    found = fit_report.explain(fit.Plan("t5-small", "fp32", device="cuda"))
    assert found["held_bytes"] == 0
    assert found["peak_bytes"] == max(found["load_bytes"], found["step_bytes"])


def test_what_checkpointing_and_an_8_bit_optimiser_save_is_the_difference_of_two_peaks():
    plan = fit.Plan("t5-small", "fp32", "full")
    found = fit_report.explain(plan)
    checkpointing, eight_bit = found["savings"]
    assert checkpointing["peak_bytes"] == fit.account(fit.Plan("t5-small", "fp32", "full", gradient_checkpointing=True)).peak + HELD
    assert checkpointing["saves_bytes"] == found["peak_bytes"] - checkpointing["peak_bytes"] > 0
    # 60.5 M numbers with 8 bytes of state each come down to 2 and a scale of 4 bytes for 256 of each: 6 - 8/256 bytes less
    assert eight_bit["saves_bytes"] == pytest.approx((6 - 8 / 256) * 60_506_624, rel=1e-3)


def test_nothing_is_left_to_save_where_the_plan_has_it_or_nothing_is_trained():
    assert fit_report.explain(fit.Plan("t5-small", "fp32"))["savings"] == []
    lean = fit.Plan("t5-small", "fp32", "full", optimizer="adamw8bit", gradient_checkpointing=True)
    assert fit_report.explain(lean)["savings"] == []


def test_a_listing_has_every_model_the_largest_first():
    rows = fit_report.listing(precisions=["fp32"])
    sizes = [row["parameters"] for row in rows]
    assert len(rows) == 12 and sizes == sorted(sizes, reverse=True)
    assert [row["model"] for row in rows][:3] == ["llama-7b", "whisper-large-v3", "whisper-large"] and rows[-1]["model"] == "whisper-tiny"
    assert {row["fits"] for row in rows} == {None}  # no memory was named


def test_a_listing_has_every_precision_and_method_that_go_together():
    rows = fit_report.listing(10**9, "train", models=["t5-small"])
    pairs = {(row["precision"], row["method"]) for row in rows}
    assert len(rows) == 10 and pairs == {
        *((precision, method) for precision in ("fp32", "fp16", "int8", "int4") for method in ("lora", "adalora")),
        ("fp32", "full"),
        ("fp16", "full"),
    }


@pytest.mark.parametrize(
    ("memory", "best"),
    [
        (2000 * MB, ("fp32", "full")),
        (1000 * MB, ("fp32", "lora")),  # which fp16 and full would fit too: small updates are lost in half precision
        (700 * MB, ("fp16", "lora")),
    ],
)
def test_the_mark_is_on_the_most_precise_weights_that_fit(memory, best):
    rows = fit_report.listing(memory, "train", models=["whisper-tiny"])
    marked = row(rows, best=True)
    assert (marked["precision"], marked["method"]) == best
    if best == ("fp32", "lora"):
        assert row(rows, precision="fp16", method="full")["fits"]


def test_models_without_the_positions_are_left_out_and_named(capsys):
    status, out, err = asum(capsys, "--memory", "1TB", "--tokens", 1_200, "--precision", "fp32", "--format", "json")
    assert status == 0
    assert {row["model"] for row in json.loads(out)} == {"t5-small", "t5-base", "t5-large", "llama-7b"}
    assert err.splitlines()[0] == (
        "left out, as they write fewer than 1200 tokens: whisper-tiny, whisper-base, whisper-small, whisper-medium, whisper-large, "
        "whisper-large-v3, whisper-turbo, mbart-large"
    )


def test_the_table_says_what_it_is_and_lists_what_fits(capsys):
    status, out, err = asum(capsys, "--memory", "650MB", "--model", "whisper-tiny")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == "accounted, not measured: the peak of a process, with the 400 MB that this one holds after its imports"
    assert lines[3] == "| model | parameters | precision | method | peak | decided by | of 0.65 GB | best |"
    assert lines[5].startswith("| whisper-tiny | 38 M | fp32 | none | 0.58 GB | step | 0.07 GB left | * |")
    assert len(lines) == 9  # four precisions fit


def test_all_lists_what_is_missing_too(capsys):
    few, everything = (asum(capsys, "--memory", "3GB", "--model", "whisper-medium", *more)[1] for more in ([], ["--all"]))
    assert "missing" not in few and len(everything.splitlines()) > len(few.splitlines())
    # 763.86 M parameters of 4 bytes, 0.33 GB of activations and cache, and 0.4 GB held: 3.79 GB
    assert "| whisper-medium | 764 M | fp32 | none | 3.79 GB | step | 0.79 GB missing |  |" in everything


def test_where_nothing_fits_the_line_names_what_takes_the_least(capsys):
    status, out, err = asum(capsys, "--memory", "100MB", "--model", "t5-small")
    assert (status, out) == (1, "")  # 1, since one model was asked for
    assert err.startswith("nothing fits 0.10 GB: t5-small in int4 takes the least, 0.57 GB")


def test_one_run_is_explained_by_bars_that_stack(capsys):
    status, out, err = asum(capsys, "--model", "whisper-tiny", "--precision", "fp32", "--method", "full", "--memory", "8GB")
    assert (status, err) == (0, "")
    assert out.isascii() and max(map(len, out.splitlines())) == fit_report.WIDTH
    found = bars(out)
    parts = ["weights", "gradients", "optimiser", "activations", "held by the process"]
    for first, second in itertools.pairwise(parts):
        assert found[second][0] == sum(found[first])  # one begins where the other ends
    assert found["total of a training step"] == (found["weights"][0], sum(length for _, length in map(found.get, parts)))
    assert "weights                     151.0 MB" in out
    assert out.splitlines()[-1].startswith("fits 8.00 GB: ") and out.splitlines()[-1].endswith(" left")


def test_json_has_the_numbers_of_the_text(capsys):
    arguments = ["--model", "t5-small", "--precision", "int8", "--method", "adalora", "--batch-size", 2, "--rank", 4]
    status, out, _ = asum(capsys, *arguments, "--format", "json")
    found = json.loads(out)
    plan = fit.Plan("t5-small", "int8", "adalora", batch_size=2, rank=4)
    assert status == 0 and found == json.loads(json.dumps(fit_report.explain(plan)))
    assert sum(found["parts_bytes"].values()) == found["step_bytes"]
    text = asum(capsys, *arguments)[1]
    for size in (*filter(None, found["parts_bytes"].values()), found["peak_bytes"], found["savings"][0]["saves_bytes"]):
        assert f"{size / 1e6:,.1f} MB" in text


def test_a_run_that_does_not_fit_is_status_1_and_says_what_would_help(capsys):
    status, out, err = asum(capsys, "--model", "whisper-tiny", "--precision", "fp32", "--method", "lora", "--memory", "700MB")
    assert (status, err) == (1, "")
    *_, checkpointing, eight_bit, verdict = out.splitlines()
    assert checkpointing.startswith("gradient checkpointing would save ") and checkpointing.endswith(", which fits")
    assert eight_bit.startswith("8-bit AdamW would save ") and not eight_bit.endswith("fits")
    assert verdict == "does not fit 0.70 GB: 0.09 GB missing"


def test_on_a_gpu_the_text_says_what_was_never_checked(capsys):
    out = asum(capsys, "--model", "t5-small", "--precision", "fp32", "--device", "cuda")[1]
    assert "on a GPU not yet held against a measurement" in out.replace("\n", " ")


def test_in_a_process_of_its_own_stdout_is_json_and_stderr_one_line():
    """What this process holds is then what a run has after its imports: more than the 100 MB of torch alone."""
    command = [
        sys.executable,
        "-m",
        "asum_lib",
        "fit",
        "--memory",
        "8GB",
        "--task",
        "train",
        "--model",
        "t5-small",
        "--precision",
        "int4",
        "--method",
    ]
    done = subprocess.run([*command, "lora", "--format", "json"], capture_output=True, text=True, cwd=REPOSITORY, env=os.environ, timeout=120)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["held_bytes"] > 100 * MB
    assert done.stderr == f"{fit_report.caveat('cpu', found['held_bytes'])}\n"
