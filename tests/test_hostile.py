"""Inputs that nobody means, for every command and notebook: one line or an answer, in bounded time, and nothing written elsewhere.

The data are made here. What is in a record, a page or a manifest is tried in `test_security` and `test_faults`; claims of
one's own are mutated in `test_own_claims`.
"""

import contextlib
import gzip
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import VALUES

from asum_lib import cli
from asum_lib.corpora import say as speech
from asum_lib.errors import InputError
from asum_lib.paths import CHECKPOINTS, NOTEBOOKS, REPOSITORY, RESULTS
from asum_lib.study import parameters, run, talk_run, text_run

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


# Files that are read ------------------------------------------------------------------------------------------------------


def a_record(folder: Path) -> Path:
    """A copy of a committed record with its samples; returns the record."""
    source = RESULTS / "mini" / "whisper_digits" / "whisper-tiny-fp32-none-s0.json"
    target = folder / "mini" / "whisper_digits" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    shutil.copy(source.with_name(f"{source.stem}.samples.jsonl.gz"), target.parent)
    return target


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_link(target: str):
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def as_text(text: str):
    return lambda path: path.write_text(text, encoding="utf-8")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_sparse(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 2**40)


def as_bomb(path: Path) -> None:
    """A gigabyte of nothing, packed, with the hash that the record names."""
    samples = path.with_name(f"{path.stem}.samples.jsonl.gz")
    packed = gzip.compress(bytes(10**6)) * 1_000
    samples.write_bytes(packed)
    record = json.loads(path.read_text())
    record["samples"]["sha256"] = hashlib.sha256(packed).hexdigest()
    path.write_text(json.dumps(record))


CHANGES = {
    "pipe": as_pipe,
    "zeros": as_link("/dev/zero"),
    "itself": lambda path: as_link(path.name)(path),
    "folder": as_folder,
    "sparse": as_sparse,
    "empty": as_text(""),
    "deep": as_text("[" * 100_000),
    "deep object": as_text('{"schema":' * 5_000),
    "digits": as_text('{"schema": ' + "9" * 5_000 + "}"),
    "nothing": as_text("null"),
    "nan": as_text("NaN"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "aliases": as_text("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "claims: *a39\n"),
    "itself in yaml": as_text("claims: &a [*a]"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_hostile_record_is_named(change, asum, tmp_path):
    record = a_record(tmp_path / "given")
    CHANGES[change](record)
    for command in (["table", "whisper_digits"], ["table", "whisper_digits", "--format", "json"]):
        status, err = asum(*command, "--results", tmp_path / "given")
        unseen = change in ("folder", "pipe", "zeros", "itself")  # no file: its cell shows as missing
        assert (status == 2 and record.name in err) or (unseen and status == 0), (change, status, err[-300:])


def test_samples_that_unpack_to_gigabytes_are_refused(asum, tmp_path):
    record = a_record(tmp_path / "given")
    as_bomb(record)
    status, err = asum("table", "whisper_digits", "--results", tmp_path / "given")
    assert status == 2 and "more than is read of it" in err


@pytest.mark.parametrize("change", CHANGES)
def test_a_hostile_file_of_claims_is_named(change, asum, tmp_path):
    path = tmp_path / "given" / "mine.yaml"
    shutil.copy(REPOSITORY / "book" / "own_claims.yaml", path)
    CHANGES[change](path)
    assert asum("claims", "--file", path)[0] == 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_hostile_log_of_rules_is_named(change, asum, tmp_path):
    path = tmp_path / "given" / "mine.yaml"
    for name in ("own_claims.yaml", "own_claims.rules.jsonl"):
        shutil.copy(REPOSITORY / "book" / name, path.with_name(name.replace("own_claims", "mine")))
    CHANGES[change](path.with_suffix(".rules.jsonl"))
    for more in ([], ["--register"]):
        assert asum("claims", "--file", path, *more)[0] in (0, 2)


@pytest.mark.parametrize("change", CHANGES)
def test_a_hostile_notebook_is_named(change, asum, tmp_path):
    path = tmp_path / "given" / "mine.ipynb"
    shutil.copy(NOTEBOOKS / "corpora.ipynb", path)
    CHANGES[change](path)
    assert asum("run", path, "-o", tmp_path / "given" / "out.ipynb")[0] == 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_hostile_checkpoint_is_named(change, asum, tmp_path):
    audio = tmp_path / "given" / "a.wav"
    speech.write(audio, speech.say("you need a glass jar"))
    for option, source in (("--asr", "whisper-tiny"), ("--summarizer", "t5-mini"), ("--asr", "adapters/whisper-medium-int8-adalora")):
        for name in sorted(path.name for path in (CHECKPOINTS / source).iterdir() if path.suffix == ".json"):
            folder = tmp_path / "given" / f"{Path(source).name}-{name}"
            shutil.copytree(CHECKPOINTS / source, folder)
            CHANGES[change](folder / name)
            assert asum("summarize", audio, option, folder)[0] in (0, 2), (source, name)


@pytest.mark.parametrize("number", [10**6, 10**12, 10**400, -1, 0, 0.5, "x", None, [], True])
@pytest.mark.parametrize("source", ["whisper-tiny", "t5-mini"])
def test_a_configuration_of_a_million_layers_is_refused(number, source, asum, tmp_path):
    audio = tmp_path / "given" / "a.wav"
    speech.write(audio, speech.say("you need a glass jar"))
    keys = ("encoder_layers", "d_model", "vocab_size") if source == "whisper-tiny" else ("num_layers", "d_model", "vocab_size")
    for key in keys:
        folder = tmp_path / "given" / key
        shutil.copytree(CHECKPOINTS / source, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {key: number}))
        assert asum("summarize", audio, "--asr" if source == "whisper-tiny" else "--summarizer", folder)[0] in (1, 2), key


# Parameters of the notebooks ----------------------------------------------------------------------------------------------


class Measuring(Exception):
    """All parameters were taken."""


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_hostile_parameter_is_refused_or_taken(name, monkeypatch, tmp_path):
    """Every value in every parameter, as papermill hands it over; what is taken stops before it is measured."""
    module = importlib.import_module(f"asum_lib.study.{'corpora_table' if name == 'corpora' else name}")

    def stop(*_, **__):
        raise Measuring

    for place in (run, text_run, talk_run):
        monkeypatch.setattr(place, "sweep", stop)
    for function in ("read_or_measure", "measure_cells"):
        monkeypatch.setattr(module, function, stop, raising=False)
    monkeypatch.chdir(tmp_path)
    for parameter in parameters.declared(module.run):
        for value in VALUES:
            given = {parameter: value} if parameter == "results_dir" else {parameter: value, "results_dir": str(tmp_path / "results")}
            try:
                with in_time():
                    module.run(**given)
            except Measuring:
                continue
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 2_000, (parameter, str(error)[:300])
            except (Exception, Hung) as error:
                raise AssertionError(f"{name} {parameter}={value!r:.80}: {type(error).__name__}: {str(error)[:300]}") from error
    assert not list(tmp_path.iterdir())


# In a process of its own, with little memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["zeros", "sparse", "deep", "aliases"])
def test_no_hostile_file_takes_the_memory(change, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("claims: []")
    CHANGES[change](path)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    command = [sys.executable, "-m", "asum_lib", "claims", "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, preexec_fn=limit, timeout=300)
    assert done.returncode == 2 and done.stderr.startswith("asum: ") and done.stderr.count("\n") == 1, done.stderr[-500:]
