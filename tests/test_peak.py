"""Peaks of a process: known allocations come out at their size, each in its phase and in its kind, and failures say why."""

import mmap
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest

from asum_lib import heap
from asum_lib.errors import InputError
from asum_lib.measure import peak
from asum_lib.paths import REPOSITORY

MB = 1_000_000
LOOK_S = 0.5  # long enough that the process that samples gets a turn on a busy machine
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


@pytest.fixture(scope="module", autouse=True)
def light_server():
    """Children of a server without torch: most of these tests are about bytes, and the imports would take most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(peak.in_child.__kwdefaults__, "preload", ())
        forkserver._forkserver._stop()
        yield
        forkserver._forkserver._stop()


@pytest.fixture
def full_server():
    """For one test the server with all imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(peak.in_child.__kwdefaults__, "preload", peak.PRELOAD)
        forkserver._forkserver._stop()
        yield
        forkserver._forkserver._stop()


@pytest.fixture
def file_of_100_mb(tmp_path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(100 * MB))
    return path


def allocate(*sizes: int) -> dict[str, peak.Peak]:
    """One phase after the other, each with a block of that many bytes that is written and dropped."""
    with peak.watching() as watch:
        for number, size in enumerate(sizes):
            with watch.phase(f"{number}"):
                block = bytearray(b"\1") * size
                del block
    return watch.peaks


def allocate_sampled_only(size: int) -> dict[str, peak.Peak]:
    peak._reset_mark = lambda: False
    with peak.watching() as watch, watch.phase("0"):
        block = bytearray(b"\1") * size
        time.sleep(LOOK_S)
        del block
    return watch.peaks


def read_mapped(path: Path) -> peak.Peak:
    with peak.watching() as watch, watch.phase("read"), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        sum(pages[:: mmap.PAGESIZE])
        time.sleep(LOOK_S)
    return watch.peaks["read"]


def hold(size: int) -> None:
    block = bytearray(b"\1") * size
    time.sleep(30)
    del block


def refuse(error: type[Exception], message: str) -> None:
    raise error(message)


def note_and_sleep(path: str) -> None:
    Path(path).write_text(f"{os.getpid()}")
    time.sleep(30)


def wait_until(done, seconds: float = 15) -> bool:
    end_s = time.monotonic() + seconds
    while not done() and time.monotonic() < end_s:
        time.sleep(0.02)
    return bool(done())


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def heap_after_blocks(steady: bool) -> int:
    """Anonymous bytes at the most, of 100 MB in blocks of 10 MB that are dropped before 100 MB in blocks of 11 MB come."""
    with heap.steady() if steady else nullcontext(), peak.watching() as watch, watch.phase("blocks"):
        for size in (10 * MB, 11 * MB):
            blocks, walls = [], []
            for _ in range(10):
                blocks.append(bytearray(b"\1") * size)
                walls.append(bytearray(b"\1") * 60_000)
                blocks[0:1] = []
    return watch.peaks["blocks"].anonymous


def multiply() -> dict:
    torch = sys.modules["torch"]  # there already: this imports nothing
    square = torch.ones(600, 600)
    server_threads = len(os.listdir(f"/proc/{os.getppid()}/task"))
    return {"server_threads": server_threads, "threads": torch.get_num_threads(), "product": float((square @ square)[0, 0])}


def test_memory_that_is_written_is_anonymous():
    found = peak.in_child(allocate, 200 * MB)["0"]

    assert found.anonymous == pytest.approx(200 * MB, rel=0.02)
    assert found.resident == pytest.approx(200 * MB, rel=0.02)
    assert found.file_mapped < 2 * MB


def test_pages_of_a_mapped_file_are_resident_and_not_anonymous(file_of_100_mb):
    found = peak.in_child(read_mapped, file_of_100_mb)

    assert found.file_mapped == pytest.approx(100 * MB, rel=0.02)
    assert found.resident == pytest.approx(100 * MB, rel=0.02)
    assert found.anonymous < 2 * MB


def test_a_phase_does_not_inherit_the_peak_of_a_larger_one_before_it():
    found = peak.in_child(allocate, 200 * MB, 50 * MB)

    assert found["0"].anonymous == pytest.approx(200 * MB, rel=0.02)
    assert found["1"].anonymous == pytest.approx(50 * MB, rel=0.04)
    assert found["1"].resident == pytest.approx(50 * MB, rel=0.04)


def test_the_peak_is_above_what_the_parent_holds():
    ours = bytearray(b"\1") * (300 * MB)
    found = peak.in_child(allocate, 50 * MB)["0"]

    assert found.baseline < len(ours)
    assert found.resident == pytest.approx(50 * MB, rel=0.04)


def test_where_the_mark_cannot_be_reset_the_samples_stand_and_it_says_so():
    found = peak.in_child(allocate_sampled_only, 200 * MB)["0"]

    assert found.how == "samples"
    assert found.resident == pytest.approx(200 * MB, rel=0.02)


def test_phases_do_not_nest():
    with peak.watching() as watch, watch.phase("outer"), pytest.raises(RuntimeError, match="'inner' begins inside 'outer'"), watch.phase("inner"):
        pass


def test_a_phase_that_fails_still_has_its_peak():
    with peak.watching() as watch, pytest.raises(KeyError), watch.phase("load"):
        raise KeyError("no such weight")

    assert watch.peaks["load"].time_s > 0


def test_the_sampler_ends_with_the_watch():
    with peak.watching() as watch:
        pass

    assert watch._sampler.returncode == 0


def test_the_parent_is_told_the_phases():
    told = []
    peak.in_child(allocate, MB, MB, progress=told.append)

    assert told == ["0", "1"]


def test_an_error_of_the_child_is_one_line_with_its_traceback_as_a_note():
    with pytest.raises(peak.PeakError) as caught:
        peak.in_child(refuse, ValueError, "no such\nlayer")

    assert str(caught.value) == "ValueError: no such layer"
    assert caught.value.kind == "raised"
    assert "in refuse" in caught.value.__notes__[0]


def test_bad_input_found_in_the_child_stays_bad_input():
    with pytest.raises(InputError, match=r"^size 'huge'$"):
        peak.in_child(refuse, InputError, "size 'huge'")


def test_a_killed_child_says_that_memory_may_have_run_out():
    with pytest.raises(peak.PeakError, match="killed by signal 9: out of memory") as caught:
        peak.in_child(kill_myself)

    assert caught.value.kind == "signal"


def test_a_child_above_the_limit_is_stopped():
    began_s = time.monotonic()
    with pytest.raises(peak.PeakError, match=r"the limit is 0\.20 GB") as caught:
        peak.in_child(hold, 300 * MB, limit_bytes=200 * MB)

    assert caught.value.kind == "limit"
    assert time.monotonic() - began_s < 15  # it would have held for 30 s


def test_a_child_below_the_limit_is_left_alone():
    assert peak.in_child(allocate, 50 * MB, limit_bytes=500 * MB)["0"].anonymous == pytest.approx(50 * MB, rel=0.04)


def test_a_child_that_takes_too_long_is_stopped():
    with pytest.raises(peak.PeakError, match=r"stopped after 0\.5 s") as caught:
        peak.in_child(time.sleep, 30, timeout_s=0.5)

    assert caught.value.kind == "timeout"


def test_a_child_ends_with_its_parent(tmp_path):
    code = "import sys; from asum_lib.measure import peak; import test_peak; peak.in_child(test_peak.note_and_sleep, sys.argv[1], preload=())"
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", code, str(note)], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})
    wait_until(lambda: note.exists() and note.read_text())
    parent.kill()
    parent.wait()

    assert wait_until(lambda: not Path(f"/proc/{note.read_text()}").exists())


def test_a_child_that_leaves_without_a_result_says_so():
    with pytest.raises(peak.PeakError, match="ended with status 3 and no result"):
        peak.in_child(os._exit, 3)


@pytest.mark.parametrize("limits", [{"limit_bytes": 0}, {"timeout_s": -1}])
def test_limits_are_above_zero(limits):
    with pytest.raises(InputError, match="is not above 0"):
        peak.in_child(time.sleep, 0, **limits)


def test_a_function_that_cannot_be_imported_is_refused():
    with pytest.raises(InputError, match="cannot be sent to a child process"):
        peak.in_child(lambda: 1)


def test_a_system_without_proc_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "PROC", tmp_path)

    with pytest.raises(InputError, match="which this system has not"):
        peak.in_child(time.sleep, 0)


def test_a_steady_heap_keeps_no_holes():
    assert peak.in_child(heap_after_blocks, True) < peak.in_child(heap_after_blocks, False) - 5 * MB


def test_torch_multiplies_in_children_of_a_server_that_only_imports(full_server, monkeypatch):
    for threads in (2, 1):  # the second time the server is there already
        monkeypatch.setenv("OMP_NUM_THREADS", f"{threads}")

        assert peak.in_child(multiply, timeout_s=60) == {"server_threads": 1, "threads": threads, "product": 600.0}


class FakeCuda:
    """Counts as torch.cuda does: 1 GB of tensors, 2 GB reserved and 3 GB used at first, of 10."""

    def __init__(self):
        self.allocated, self.reserved, self.free = 1, 2, 7
        self.done = []

    def synchronize(self, device):
        self.done.append("synchronize")

    def empty_cache(self):
        self.done.append("empty_cache")

    def reset_peak_memory_stats(self, device):
        self.done.append("reset")

    def memory_allocated(self, device):
        return self.allocated

    max_memory_allocated = memory_allocated

    def memory_reserved(self, device):
        return self.reserved

    max_memory_reserved = memory_reserved

    def mem_get_info(self, device):
        return self.free, 10


def test_on_a_gpu_a_phase_has_torchs_figures_and_the_drivers(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    with peak.watching() as watch, watch.phase("train", device="cuda:0"):
        cuda.allocated, cuda.reserved, cuda.free = 4, 6, 2

    found = watch.peaks["train"]
    assert (found.allocated, found.reserved, found.driver) == (3, 4, 5)
    assert cuda.done == ["synchronize", "empty_cache", "reset", "synchronize"]


def test_without_a_gpu_its_figures_are_unmeasured():
    with peak.watching() as watch, watch.phase("train", device="cpu"):
        pass

    found = watch.peaks["train"]
    assert (found.allocated, found.reserved, found.driver) == (None, None, None)
