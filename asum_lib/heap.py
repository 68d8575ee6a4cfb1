"""glibc's heap: what it does with freed memory, where that decides the peak of a process. Elsewhere nothing happens here."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STEADY_BYTES = 2**16
USUAL_BYTES = 2**25  # where glibc's own threshold ends up in any process that has freed large blocks
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # malloc.h
_depth = 0


@contextmanager
def steady() -> Iterator[None]:
    """Within it, each block above 64 KiB goes back to the system when it is freed.

    By default glibc raises that threshold as it goes, to 32 MiB, and keeps smaller blocks for later: a training step then takes far more
    memory than its live tensors, and every run another amount. The price is page faults, which show in the time of many small blocks:
    so it is for loading and training at the real sizes, not for decoding nor for the mini sizes.
    """
    global _depth
    _depth += 1
    _set(STEADY_BYTES)
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set(USUAL_BYTES)
            trim()


def trim() -> None:
    """Give back what is free now."""
    malloc_trim = _libc("malloc_trim")
    if malloc_trim:
        malloc_trim(0)


def _set(threshold_bytes: int) -> None:
    mallopt = _libc("mallopt")
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, threshold_bytes)
        mallopt(M_TRIM_THRESHOLD, 2 * threshold_bytes)  # as glibc raises it with the other; left at 128 KiB, each large block costs its pages anew


def _libc(name: str):
    """A function of the C library, None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
