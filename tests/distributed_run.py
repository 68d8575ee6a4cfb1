"""What each process of test_distributed runs: several fine-tunings, and what came of them as one file a process.

`python distributed_run.py FOLDER` alone, or under `accelerate launch`. Not a test itself.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch

from asum_lib.errors import InputError
from asum_lib.models import ladder, loading
from asum_lib.training import processes
from asum_lib.training.adapters import adapter_of
from asum_lib.training.finetune import Execution, Split, Training, finetune
from asum_lib.training.state import Resume

CELLS = [("fp32", "full", Execution()), ("fp32", "lora", Execution(micro_batch_size=1)), ("int8", "adalora", Execution(gradient_checkpointing=True))]
# 17 utterances by 8: the last batch has one, so that of two processes one has nothing to do
TEXTS = ["stir", "cut the onions " * 9, "fold", "wipe it"] * 4 + ["mix it"]
TRAIN = Split(np.random.default_rng(0).normal(size=(17, 80, 200)).astype(np.float32), TEXTS)


def dev(model) -> dict:
    """Each process takes its share of ten items; all get all of them."""
    mine = [10 * item for item in processes.share(10)]
    return {"dev_wer_pct": 0.0, "items": processes.gather(mine)}


def run(precision, method, execution, resume=None, evaluate=dev, train=TRAIN):
    speech = loading.load(str(ladder.checkpoint("tiny")), precision)
    said = []
    model, history = finetune(
        speech,
        train,
        Training(1e-3, epochs=3),
        adapter_of(method, 4),
        seed=0,
        evaluate=evaluate,
        progress=said.append,
        execution=execution,
        resume=resume,
    )
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {"weights": weights, "history": history, "said": said}


class Broken:
    """Features that the second process cannot read."""

    def __len__(self):
        return 17

    def __getitem__(self, item):
        if processes.rank() == 1:
            raise InputError(f"utterance {item}: no such file")
        return TRAIN.features[item]


def failure_of(work) -> str:
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def fail_in_one() -> list:
    return [1 // processes.rank()]


def main(folder: Path) -> None:
    outcome = {f"{precision}-{method}": run(precision, method, execution) for precision, method, execution in CELLS}
    rows = iter([dev(None)])
    with contextlib.suppress(StopIteration):  # the second evaluation does not come back
        run("int8", "adalora", CELLS[2][2], Resume(folder / "state", "this run"), lambda model: next(rows))
    processes.barrier()  # both have stopped, and the first has saved, before either starts again
    outcome["resumed"] = run("int8", "adalora", CELLS[2][2], Resume(folder / "state", "this run"))
    outcome["failures"] = [failure_of(lambda: run("fp32", "lora", Execution(), train=Split(Broken(), TEXTS)))]
    outcome["failures"].append(failure_of(lambda: processes.together(fail_in_one)))
    torch.save(outcome, folder / f"process-{processes.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
