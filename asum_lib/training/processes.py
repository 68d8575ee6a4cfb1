"""The processes of one run: who this one is, and how they meet. Started by `accelerate launch`; alone otherwise.

Every process holds the whole model and a share of the work. A single process never imports accelerate, and all of this
is then trivial. What it leaves to others: how a batch is trained in shares (training.finetune), and on which device a
process loads its model (models.loading).
"""

import os
from collections.abc import Callable
from datetime import timedelta

from asum_lib.errors import InputError

PATIENCE = timedelta(hours=2)  # how long one process waits for the others; torch's 10 minutes are less than a slow share of a test set


def world() -> int:
    """How many processes run together, as the launcher says in `WORLD_SIZE`; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes records and speaks."""
    return rank() == 0


def share(count: int) -> range:
    """The items of `count` that fall to this process: consecutive ones, so that `gather` gives back the order."""
    return range(count * rank() // world(), count * (rank() + 1) // world())


def gather(items: list) -> list:
    """The lists of all processes as one, in the order of their numbers: of items dealt by `share`, the original order.

    Every process must call it, and every process gets the whole list. Items must be picklable.
    """
    if world() == 1:
        return list(items)
    from accelerate.utils import gather_object

    _join()
    return gather_object(list(items))


def together(work: Callable[[], list]) -> list:
    """The lists that `work()` gives in each process, as `gather` does; where it fails in one, all of them raise.

    So nobody waits for a process that went another way, and the one that writes the record knows the reason.
    """
    mine, failure = [], None
    try:
        mine = list(work())
    except Exception as error:
        failure = error
    raise_together(failure)
    return gather(mine)


def raise_together(failure: Exception | None) -> None:
    """Raise in every process if one of them has a `failure`: its own there, what it says elsewhere. All must call it."""
    reports = gather([failure and (rank(), f"{type(failure).__name__}: {failure}", isinstance(failure, InputError))])
    if failure:
        raise failure
    for number, said, is_input in filter(None, reports):
        raise InputError(said.removeprefix("InputError: ")) if is_input else RuntimeError(f"process {number} failed: {said}")


def barrier() -> None:
    """Wait until every process is here."""
    if world() > 1:
        _join().wait_for_everyone()


def add_up(tensors: list) -> list:
    """Each tensor summed over the processes, the same bits on all of them. Tensors of one type travel together in buckets."""
    if world() == 1:
        return tensors
    import torch
    from accelerate.utils import reduce

    _join()
    result: list = []
    for bucket in _buckets(tensors):
        flat = reduce(torch.cat([tensor.reshape(-1) for tensor in bucket]), reduction="sum")
        parts = flat.split([tensor.numel() for tensor in bucket])
        result += [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)]
    return result


BUCKET_BYTES = 64 * 2**20


def _buckets(tensors: list):
    """Consecutive tensors of one type, at most `BUCKET_BYTES` together unless one alone is larger."""
    bucket: list = []
    filled_bytes = 0
    for tensor in tensors:
        size_bytes = tensor.numel() * tensor.element_size()
        if bucket and (tensor.dtype != bucket[0].dtype or filled_bytes + size_bytes > BUCKET_BYTES):
            yield bucket
            bucket, filled_bytes = [], 0
        bucket.append(tensor)
        filled_bytes += size_bytes
    if bucket:
        yield bucket


def _join():
    """accelerate's state of this process, which joins the others when first asked for."""
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if state.num_processes != world():  # made by someone else without `cpu=True`: it would gather from itself alone
        raise RuntimeError(f"accelerate sees {state.num_processes} processes, the launcher started {world()}")
    return state
