"""Inputs that nobody means, for every command and notebook: one line or an answer, in bounded time, and nothing written elsewhere.

The data are made here. What is in a record, a page or a manifest is tried in `test_security` and `test_faults`; claims of
one's own are mutated in `test_own_claims`.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.paths import CHECKPOINTS, NOTEBOOKS, RESULTS

pytestmark = pytest.mark.slow
BUSY_S, WAITING_S = 10, 120  # of the processor, and on the clock of a machine that does other things too
WORDS = [
    "", " ", "-", "--", "-1", "0", "1e400", "9" * 5_000, "nan", "²", "٣", "x", "x" * 300, "x" * 5_000, "a/b", "../..", ".", "..", "~",
    "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "no/such/file", "é🙂", "\u202e", "a\nb", "{}", "[[[[",
    "%n", "$(touch ran)", "`touch ran`", "*",
    "mini", "paper", "tiny", "none", "all", "T5", "owner/name", "owner/name@../x", "a=b", "=", "=x",
]  # fmt: skip


class Hung(BaseException):
    """Nothing that a command catches."""


@contextlib.contextmanager
def in_time(busy_s: float = BUSY_S):
    """Raises `Hung` in what takes longer."""

    def stop(*_):
        raise Hung(f"more than {busy_s} s busy or {WAITING_S} s waiting")

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, busy_s)
    signal.setitimer(signal.ITIMER_REAL, WAITING_S)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def listing(folder: Path) -> dict[str, tuple]:
    """Every file below, by its size and time."""
    paths = (Path(root) / name for root, folders, files in os.walk(folder) for name in [*folders, *files])
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths if not path.is_dir()}


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What libraries do once when they are imported is no part of a command's time."""
    import transformers  # noqa: F401

    from asum_lib.study import fit_report

    with contextlib.suppress(InputError):
        fit_report.held_bytes()


@pytest.fixture
def asum(tmp_path, monkeypatch, capfd):
    """Runs a command in this process, in an empty folder and home: its status, and what it said. Writes only below `given`."""
    places = {name: tmp_path / name for name in ("home", "here", "cache", "given")}
    for folder in places.values():
        folder.mkdir(exist_ok=True)
    monkeypatch.chdir(places["here"])
    monkeypatch.setenv("HOME", str(places["home"]))
    monkeypatch.setenv("ASUM_CACHE", str(places["cache"]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    watched = [places["home"], places["here"], RESULTS, CHECKPOINTS, NOTEBOOKS]

    def call(*arguments, busy_s: float = BUSY_S) -> tuple[int, str]:
        try:
            with in_time(busy_s):
                status = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:  # --help
            status = end.code or 0
        except (Exception, Hung) as error:
            raise AssertionError(f"asum {' '.join(map(str, arguments))[:300]}: {type(error).__name__}: {str(error)[:300]}") from error
        err = capfd.readouterr().err
        assert status in (0, 1, 2), (arguments, status)
        assert "Traceback" not in err, (arguments, err[-2_000:])
        if status == 2:
            last = err.rstrip("\n").rsplit("\n", 1)[-1]
            assert last.startswith("asum: "), (arguments, err[-500:])
        return status, err

    before = [listing(folder) for folder in watched]
    yield call
    for folder, files in zip(watched, before, strict=True):
        assert listing(folder) == files, f"something was written into {folder}"


# Every option of every command ------------------------------------------------------------------------------------------

SLOTS = {  # command: the arguments with X for the hostile word
    "table": [["X"], ["whisper_wer", "--scale", "X"], ["whisper_wer", "--format", "X"], ["whisper_wer", "--results", "X"]],
    "claims": [["--scale", "X"], ["--file", "X"], ["--claim", "X"], ["--format", "X"]],
    "verify": [["X", "--dry-run"], ["--cells", "X", "--scale", "no"], ["--minutes", "X", "--scale", "no"], ["--seed", "X", "--scale", "no"]],
    "pretrain": [["X"], ["whisper-tiny", "--out", "given/x", "--steps", "-X"]],
    "adapt": [["X"], ["whisper", "--seed", "X"], ["e2e-talks", "--seed", "-X"]],
    "data": [["X"]],
    "doctor": [["--format", "X"]],
    "measure": [["X"], ["whisper_quant", "-p", "X"], ["whisper_quant", "-p", "sizes=X"]],
    "run": [["X"], ["whisper_quant", "-p", "X"], ["whisper_quant", "-p", "precisions=X", "-o", "x"], ["X.ipynb"]],
    "fit": [
        ["--memory", "X"],
        *([f"--{name}", "X", "--memory", "8GB"] for name in ("task", "model", "precision", "method", "device", "optimizer", "format")),
        *(["--model", "t5-small", "--precision", "fp32", f"--{name}", "X"] for name in ("batch-size", "tokens", "rank")),
    ],
    "say": [["X", "given/none/a.wav"], ["a jar", "X"], ["a jar", "given/a.txt", "--voice", "X"], ["a jar", "given/a.txt", "--rate", "X"]],
    "summarize": [["X"], *(["X", f"--{name}", "X"] for name in ("system", "scale", "precision", "asr", "summarizer", "rounds", "format", "out"))],
    "fetch": [["X", "--check"]],
}  # fmt: skip


@pytest.mark.parametrize("command", SLOTS)
def test_a_hostile_word_in_any_place_is_refused_or_taken(command, asum):
    for arguments in SLOTS[command]:
        for word in WORDS:
            asum(command, *(argument.replace("X", word) for argument in arguments))


def test_every_command_is_tried():
    commands = next(action for action in cli._parser()._actions if getattr(action, "choices", None)).choices
    assert set(commands) - set(SLOTS) - {"rescore"} == {"export"}  # which writes into any folder: see below


def test_every_help_is_printed(asum):
    for command in SLOTS:
        assert asum(command, "--help")[0] == 0
