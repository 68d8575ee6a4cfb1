"""The state of a running fine-tuning on disk, so that a killed run goes on where it was instead of starting anew.

One file, written aside and renamed, readable without pickled code (`torch.load(weights_only=True)`). It holds what
changes while training: trainable weights, optimiser, schedule, random numbers, AdaLoRA's scores, history, and what the
caller keeps. The frozen model comes from its checkpoint again. When to save is training.finetune's part.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from asum_lib import files
from asum_lib.training.adapters import allocation, restore_allocation


@dataclass(frozen=True)
class Resume:
    """Where a run keeps its state and whose state it is.

    `key` stands for everything that decides the result (the fingerprint of the cell): a state under another key is not
    used. `kept` is the caller's: what `evaluate` collects there, as JSON knows it, is saved with the state and back in
    place before training goes on. `kept["train_s"]` is the time spent in training, over all starts.
    """

    folder: Path
    key: str
    kept: dict = field(default_factory=dict)
    save_every_s: float = 1_800.0

    @property
    def path(self) -> Path:
        return self.folder / "training.pt"


@dataclass
class Position:
    """How far a run is: `done` batches of `epoch` with their `losses`, and the rows of the epochs before."""

    epoch: int = 0
    done: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)


def save(resume: Resume, position: Position, model, optimizer, schedule) -> None:
    """Write the state in place of the one before; a kill while writing leaves the one before."""
    import torch

    plain = {"key": resume.key, "position": vars(position), "kept": resume.kept}
    content = {
        "plain": json.dumps(plain),
        "weights": _trainable(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "allocation": allocation(model),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    resume.folder.mkdir(parents=True, exist_ok=True)
    with files.aside(resume.path) as written:  # two runs of one cell write side by side
        torch.save(content, written)
        files.put(written, resume.path)


def restore(resume: Resume, model, optimizer, schedule) -> Position | None:
    """Load the state in place and return its position; None where there is none, or only another run's, or an unreadable one."""
    import pickle

    import torch

    if not resume.path.is_file():
        return None
    try:
        content = torch.load(resume.path, map_location="cpu", weights_only=True)
        plain = json.loads(content["plain"])
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
        return None
    weights = _trainable(model)
    if plain["key"] != resume.key or {n: w.shape for n, w in content["weights"].items()} != {n: w.shape for n, w in weights.items()}:
        return None
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(content["weights"][name])
    optimizer.load_state_dict(content["optimizer"])
    schedule.load_state_dict(content["schedule"])
    restore_allocation(model, content["allocation"])
    torch.set_rng_state(content["random"])
    if torch.cuda.is_available() and content["random_cuda"] is not None:
        torch.cuda.set_rng_state(content["random_cuda"])
    resume.kept.clear()
    resume.kept.update(plain["kept"])
    return Position(**plain["position"])


def discard(resume: Resume) -> None:
    """Remove the state, once the record of the run is written. The folder stays, where another run may be writing."""
    resume.path.unlink(missing_ok=True)


def _trainable(model) -> dict:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
