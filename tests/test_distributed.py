"""Two processes started by `accelerate launch` train the model that one process trains, each on its share of every batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib.paths import REPOSITORY
from asum_lib.training import processes

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "distributed_run.py"
# `--multi_gpu` also where there is no GPU: with `--cpu` accelerate starts a single process, whatever the number asked for
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "0"]
RUNS = ["fp32-full", "fp32-lora", "int8-adalora"]
FURTHEST = 2e-4  # nine steps move a weight by some 5e-3


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[dict]:
    """What each of two processes has to show."""
    import torch

    folder = tmp_path_factory.mktemp("pair")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run([sys.executable, *LAUNCH, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=600, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("process-*.pt"))]


@pytest.fixture(scope="module")
def alone() -> dict:
    """The same, trained by this process."""
    import distributed_run

    return {f"{precision}-{method}": distributed_run.run(precision, method, execution) for precision, method, execution in distributed_run.CELLS}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one_does(alone, pair, name):
    assert len(pair) == 2
    expected, found = alone[name], pair[0][name]
    assert [row["step"] for row in found["history"]] == [0, 3, 6, 9]
    losses, expected_losses = ([row["train_loss"] for row in run["history"][1:]] for run in (found, expected))
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert max((found["weights"][key] - weight).abs().max().item() for key, weight in expected["weights"].items()) < FURTHEST


@pytest.mark.parametrize("name", [*RUNS, "resumed"])
def test_both_processes_hold_the_same_bits(pair, name):
    first, second = (run[name]["weights"] for run in pair)
    assert first.keys() == second.keys()
    assert all(weight.equal(second[key]) for key, weight in first.items())


def test_both_processes_prune_the_same_directions(alone, pair):
    masks = [{key: (w != 0) for key, w in run["int8-adalora"]["weights"].items() if "lora_E" in key} for run in (alone, *pair)]
    assert sum(int(mask.sum()) for mask in masks[0].values()) == 4 * len(masks[0]) > 0
    assert all(mask.equal(other[key]) for other in masks[1:] for key, mask in masks[0].items())
    assert pair[1]["int8-adalora"]["history"][-1]["kept_rank_mean"] == 4


def test_a_killed_pair_goes_on_to_the_same_result(pair):
    for run in pair:
        resumed, undisturbed = run["resumed"], run["int8-adalora"]
        assert resumed["history"] == undisturbed["history"]
        assert all(weight.equal(undisturbed["weights"][key]) for key, weight in resumed["weights"].items())


def test_what_the_processes_evaluate_comes_together_in_order_everywhere(pair):
    assert [run["fp32-full"]["history"][0]["items"] for run in pair] == [[0, 10, 20, 30, 40, 50, 60, 70, 80, 90]] * 2


def test_one_process_speaks(pair):
    assert pair[0]["resumed"]["said"][0] == "going on in epoch 1, after step 3"
    assert pair[1]["resumed"]["said"] == pair[1]["fp32-full"]["said"] == []


def test_what_fails_in_one_process_ends_all_of_them_with_its_reason(pair):
    first, second = (run["failures"] for run in pair)
    assert first[0].startswith("InputError: utterance ") and first[0].endswith(": no such file")
    assert second[0] == first[0]
    assert first[1] == "ZeroDivisionError: integer division or modulo by zero"
    assert second[1] == f"RuntimeError: process 0 failed: {first[1]}"


def test_shares_are_all_items_in_order(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        shares.append(list(processes.share(7)))
    assert shares == [[0, 1], [2, 3], [4, 5, 6]]


def test_alone_everything_is_trivial_and_nothing_is_imported():
    code = """
import sys
from asum_lib.training import processes
processes.barrier()
print(processes.rank(), processes.world(), processes.is_main(), list(processes.share(3)), processes.gather([1, 2]), processes.add_up([5]))
print([name for name in ("accelerate", "torch") if name in sys.modules])
"""
    alone = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")} | {"PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=alone)
    assert run.stdout.splitlines() == ["0 1 True [0, 1, 2] [1, 2] [5]", "[]"]


def test_tensors_travel_in_buckets_of_one_type(monkeypatch):
    import torch

    monkeypatch.setattr(processes, "BUCKET_BYTES", 16)
    tensors = [torch.zeros(2), torch.zeros(2), torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16), torch.zeros(9, dtype=torch.bfloat16)]
    assert [len(bucket) for bucket in processes._buckets(tensors)] == [2, 1, 1, 1]
