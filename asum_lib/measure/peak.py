"""The peak memory of a piece of work: in a fresh child process, phase by phase, anonymous memory told from mapped files.

    with watching() as watch, watch.phase("load"):
        ...
    watch.peaks["load"].anonymous

`VmHWM` is the kernel's own high-water mark of the resident set: exact, and reset where a phase begins. Anonymous memory and
file pages have no such mark: a small process beside this one reads them every millisecond. A thread of this process would wait
for the interpreter's lock, now and then for a whole phase. What the samples miss of a short peak is taken from the exact mark,
and said. Linux only. What is measured, and what it is compared with, is left to the caller.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from asum_lib import heap
from asum_lib.errors import InputError

PRELOAD = ("torch", "scipy.linalg", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors.torch")
SAMPLE_S = 0.001  # between two samples of a phase
CHECK_S = 0.005  # between two looks of the parent at the child's resident set
PROC = Path("/proc")
MADV_POPULATE_READ = 22  # of Linux's mman-common.h


@dataclass(frozen=True)
class Peak:
    """What a phase took at most, in bytes above what was there when it began; the parts need not peak at the same moment."""

    resident: int  # anonymous memory and file pages together
    anonymous: int
    file_mapped: int  # shared memory included
    missed: int  # of the resident peak, what no sample saw: counted with the part that grew more
    baseline: int  # resident set when the phase began
    time_s: float
    how: str  # "VmHWM and samples", or "samples" where the kernel cannot reset the mark: a short peak may then be missed
    allocated: int | None = None  # on a CUDA device, highest of torch's tensors; None without one
    reserved: int | None = None  # highest of what torch holds from the driver
    driver: int | None = None  # growth of the driver's figure from the beginning to the end, all processes together


class PeakError(RuntimeError):
    """The child gave no result. `kind` is limit, timeout, signal or raised; the message is the reason in one line."""

    def __init__(self, kind: str, reason: str):
        super().__init__(kind, reason)  # as they are: so it can be pickled
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return self.reason


def status(pid: int | str = "self") -> dict[str, int]:
    """The sizes in /proc/PID/status by name, in bytes. Quick for a process of any size, which smaps_rollup is not."""
    if not (PROC / "self" / "status").exists():
        raise InputError("peak memory is read from /proc, which this system has not")
    rows = (line.split() for line in (PROC / str(pid) / "status").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[-1] == "kB"}


def settle() -> None:
    """Make this process comparable with itself: no garbage, free heap given back (glibc), all pages of its libraries mapped.

    A page of a library counts from its first use. Without the last step the first use of a kernel would be memory of the work.
    """
    from ctypes import c_size_t, c_void_p

    libc = _libc()
    gc.collect()
    heap.trim()
    for line in (PROC / "self" / "maps").read_text().splitlines():
        place, rights, *_, name = line.split(maxsplit=5)
        if rights.startswith("r-") and ".so" in Path(name).name:
            start, end = (int(part, 16) for part in place.split("-"))
            libc.madvise(c_void_p(start), c_size_t(end - start), MADV_POPULATE_READ)  # a Linux before 5.14 refuses: no harm


class Watch:
    """Measures phases of this process one after the other; `peaks` has them by name."""

    def __init__(self, sampler: subprocess.Popen):
        self.peaks: dict[str, Peak] = {}
        self._sampler, self._phase = sampler, None

    @contextmanager
    def phase(self, name: str, device=None) -> Iterator[None]:
        """Measure what happens inside, on `device` too if that is a CUDA device of torch. Phases do not nest."""
        if self._phase is not None:
            raise RuntimeError(f"phase {name!r} begins inside {self._phase!r}: the high-water mark belongs to one phase")
        _announce(name)
        settle()
        gpu = gpu_peak(device)
        exact = _reset_mark()
        self._phase, (first, *_), began_s = name, self._ask("begin"), time.perf_counter()
        try:
            yield
        finally:
            time_s, mark = time.perf_counter() - began_s, status()["VmHWM"] if exact else 0
            top, anonymous, file = self._ask("end")
            self._phase = None
            missed = max(0, mark - top[0])
            if anonymous - first[1] >= file - first[2]:
                anonymous = max(anonymous, top[1] + missed)
            else:
                file = max(file, top[2] + missed)
            above = (top[0] + missed - first[0], anonymous - first[1], file - first[2])
            how = "VmHWM and samples" if exact else "samples"
            self.peaks[name] = Peak(*above, missed, first[0], time_s, how, *gpu())

    def _ask(self, what: str) -> tuple[tuple[int, int, int], int, int]:
        self._sampler.stdin.write(f"{what}\n".encode())
        answer = self._sampler.stdout.readline().split()
        if not answer:
            raise RuntimeError("the process that samples the memory of this one has ended")
        resident, anonymous, file, *highest = map(int, answer)
        return (resident, anonymous, file), *highest


# Answers "begin" and "end" in bytes: the sample since "begin" with the largest resident set (resident, anonymous, file pages), and
# the highest of anonymous memory and of file pages in any sample.
SAMPLER = """
import os, select, sys
status = os.open(f"/proc/{sys.argv[1]}/status", os.O_RDONLY)
top, anonymous, file = (0, 0, 0), 0, 0
while True:
    asked = os.read(0, 16) if select.select([0], [], [], float(sys.argv[2]))[0] else None
    found = dict(line.split(b":", 1) for line in os.pread(status, 8192, 0).splitlines())
    if asked == b"" or b"RssAnon" not in found:
        break
    a, f, s = (int(found[name].split()[0]) * 1024 for name in (b"RssAnon", b"RssFile", b"RssShmem"))
    if asked == b"begin\\n":
        top, anonymous, file = (0, 0, 0), 0, 0
    top, anonymous, file = max(top, (a + f + s, a, f + s)), max(anonymous, a), max(file, f + s)
    if asked:
        os.write(1, b"%d %d %d %d %d\\n" % (*top, anonymous, file))
"""


@contextmanager
def watching() -> Iterator[Watch]:
    """A `Watch` on this process; the process that samples it lives as long as the block."""
    status()  # refuses a system without /proc
    command = [sys.executable, "-I", "-S", "-c", SAMPLER, str(os.getpid()), str(SAMPLE_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as sampler:
        yield Watch(sampler)  # leaving closes its input, which ends it


def gpu_peak(device) -> Callable[[], tuple[int | None, int | None, int | None]]:
    """Begin to measure a CUDA device; the returned function gives (allocated, reserved, driver) of `Peak`, Nones without CUDA."""
    if device is None or str(device).split(":")[0] != "cuda":
        return lambda: (None, None, None)
    from torch import cuda

    def used() -> int:
        free, total = cuda.mem_get_info(device)
        return total - free

    cuda.synchronize(device)
    cuda.empty_cache()
    cuda.reset_peak_memory_stats(device)
    before = cuda.memory_allocated(device), cuda.memory_reserved(device), used()

    def end() -> tuple[int, int, int]:
        cuda.synchronize(device)
        after = cuda.max_memory_allocated(device), cuda.max_memory_reserved(device), used()
        return tuple(late - early for late, early in zip(after, before, strict=True))

    return end


def in_child(
    function: Callable,
    *args,
    limit_bytes: int | None = None,
    timeout_s: float | None = None,
    progress: Callable[[str], None] | None = None,
    preload: Sequence[str] = PRELOAD,
):
    """`function(*args)` in a fresh child process that has the modules `preload` imported already; returns its result.

    Function, arguments and result must be picklable, the function importable. The child is stopped when its resident set, imports
    included, passes `limit_bytes`, or after `timeout_s`. `progress` gets the name of each phase that begins.
    OMP_NUM_THREADS is the parent's. The first call waits for the imports and decides on them. An `InputError` of the child is raised as it is,
    anything else as `PeakError`.
    """
    for name, value in (("limit_bytes", limit_bytes), ("timeout_s", timeout_s)):
        if value is not None and value <= 0:
            raise InputError(f"{name} {value!r} is not above 0")
    status()
    try:
        work = pickle.dumps((function, args))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"{function!r} and its arguments cannot be sent to a child process: {error}") from None
    context = _server(preload)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, theirs, dict(os.environ), os.getcwd()), daemon=True)
    child.start()
    theirs.close()
    try:
        return _result(child, ours, limit_bytes, timeout_s, progress)
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def _result(child, pipe, limit_bytes: int | None, timeout_s: float | None, progress: Callable[[str], None] | None):
    """What the child sends in the end, while its memory and its time are looked after."""
    end_s = time.monotonic() + (timeout_s or float("inf"))
    while True:
        ended = child.exitcode is not None
        try:
            if pipe.poll(CHECK_S):
                kind, value = pipe.recv()
                if kind == "result":
                    return value
                if kind == "raised":
                    raise value
                if progress:
                    progress(value)
                continue
        except EOFError:
            child.join()
            ended = True
        if ended:
            raise _ending(child.exitcode)
        with suppress(OSError):  # it ended just now
            held = status(child.pid).get("VmRSS", 0)
            if held > (limit_bytes or float("inf")):
                raise PeakError("limit", f"stopped at {held / 1e9:.2f} GB of resident memory: the limit is {limit_bytes / 1e9:.2f} GB")
        if time.monotonic() > end_s:
            raise PeakError("timeout", f"stopped after {timeout_s:g} s, the limit of time")


def _ending(code: int) -> PeakError:
    if code >= 0:
        return PeakError("raised", f"ended with status {code} and no result")
    why = "out of memory, or stopped by somebody" if code == -signal.SIGKILL else signal.strsignal(-code)
    return PeakError("signal", f"killed by signal {-code}: {why}")


def _server(preload: Sequence[str]):
    """The context of the process from which children are forked. It only imports: a fork after threads began hangs.

    OpenBLAS begins threads at import, so it is held to one; torch begins its own at its first kernel, which is the child's.
    """
    import multiprocessing
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("OPENBLAS_NUM_THREADS")
        if before is not None:
            os.environ["OPENBLAS_NUM_THREADS"] = before
    return context


def _work(work: bytes, pipe, environment: dict[str, str], folder: str) -> None:
    """The child: sends what became of the work."""
    global _parent
    _parent = pipe
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # the imports are no garbage: collections are quick without them
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        if "torch" in sys.modules and environment.get("OMP_NUM_THREADS", "").isdecimal():
            sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
        function, args = pickle.loads(work)
        pipe.send(("result", function(*args)))
    except InputError as error:
        pipe.send(("raised", error))
    except BaseException as error:
        reason = PeakError("raised", " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":"))
        reason.add_note(traceback.format_exc())
        pipe.send(("raised", reason))
    sys.stdout.flush()


def _end_with_parent() -> None:
    from multiprocessing import connection, parent_process

    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


_parent = None  # in a child of `in_child`: its pipe to the parent


def _announce(phase: str) -> None:
    if _parent is not None:
        _parent.send(("phase", phase))


def _reset_mark() -> bool:
    """Set `VmHWM` of this process to its resident set (proc_pid_clear_refs(5), value 5); False where the kernel cannot."""
    try:
        (PROC / "self" / "clear_refs").write_text("5\n")
    except OSError:
        return False
    now = status()
    return now["VmHWM"] - now["VmRSS"] < 2**20


def _libc():
    import ctypes

    return ctypes.CDLL(None)
