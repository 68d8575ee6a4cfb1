"""A record: the JSON of one cell's measurement, with its per-utterance samples beside it as gzip JSON lines.

Written once, whole or not at all: a killed run leaves no half record. Field names carry units; what was not measured is
null. Reading is strict: an unknown or a missing key is refused, so that a renamed field cannot pass unseen.
What the numbers mean is for `measure`; which cells there are is for `cells` and `tables`.
"""

import fcntl
import gzip
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from asum_lib import files, reading
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY
from asum_lib.study import measuring_code

SCHEMA = 1
STATUSES = ("ok", "failed", "skipped")
BETTER = ("lower", "higher", "neither")

MEMORY_BYTES = ("weights", "footprint", "peak_allocated", "peak_reserved", "process_peak")
PARAMS = ("total", "trainable", "kept_rank_mean")
MORE_PARAMS = ("kept", "kept_ranks")  # of text cells: trained numbers that the finished model needs, and {module: rank kept}
TIME_S = ("load", "train", "evaluate")
EPOCH = ("epoch", "step", "train_loss", "dev_wer_pct", "dev_errors", "dev_words", "kept_rank_mean")  # epoch 0: before training
FORGETTING_EPOCH = (*EPOCH, "source_wer_pct", "source_errors", "source_words")  # of the table of learning rates: dev of the source too
TEXT_EPOCH = ("epoch", "step", "train_loss", "dev_loss", "kept_rank_mean")
EPOCHS = (EPOCH, FORGETTING_EPOCH, TEXT_EPOCH)  # a row of a history has the keys of one of them
SAMPLES = ("path", "sha256", "n")
KINDS = dict.fromkeys(("fingerprint", "table", "scale", "status"), (str, "a string")) | {"reason": (str | None, "a string or null")}
KINDS |= dict.fromkeys(("cell", "config", "metrics"), (dict, "an object")) | {"history": (list, "a list")}
PROVENANCE = [
    "command",
    "notebook",
    "git_commit",
    "git_dirty",
    "code_digest",
    "packages",
    "python",
    "os",
    "cpu",
    "threads",
    "accelerator",
    "driver",
    "model_revision",
    "dataset_revision",
    "dataset_fingerprint",
    "started_at",
    "finished_at",
]
LIBRARIES = [
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "evaluate",
    "jiwer",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
    "espeakng-loader",
    "tokenizers",
    "datasets",
    "rouge_score",
    "sacrebleu",
    "pymorphy3",
]


@dataclass(frozen=True)
class Metric:
    """One value with its 95 % interval; `n` is the number of utterances behind it, `signature` says how it was computed."""

    value: float | None
    lo: float | None
    hi: float | None
    unit: str
    better: str  # lower | higher
    signature: str
    n: int


@dataclass(frozen=True)
class Record:
    schema: int
    fingerprint: str
    table: str
    scale: str
    status: str  # ok | failed | skipped
    reason: str | None  # one line where the status is not ok
    cell: dict
    config: dict
    metrics: dict[str, Metric]
    memory_bytes: dict  # keys MEMORY_BYTES
    params: dict  # keys PARAMS
    time_s: dict  # keys TIME_S
    audio_s: float | None
    rtfx: float | None  # seconds of audio transcribed in a second
    history: list[dict]  # keys EPOCH
    samples: dict | None  # keys SAMPLES
    provenance: dict  # keys PROVENANCE


def unmeasured(keys: Iterable[str], **measured) -> dict:
    """A dictionary with null for every key of `keys` (such as `MEMORY_BYTES`) that is not in `measured`."""
    keys = tuple(keys)
    check_keys("unmeasured()", dict.fromkeys(keys) | measured, keys)
    return dict.fromkeys(keys) | measured


def failure(error: Exception) -> dict:
    """The parts of a record that say that its cell failed, and why in one line."""
    message = str(error).strip()
    return {
        "status": "failed",
        "reason": f"{type(error).__name__}: {message.splitlines()[0] if message else 'no message'}",
        "metrics": {},
        "memory_bytes": unmeasured(MEMORY_BYTES),
        "params": unmeasured(PARAMS),
        "time_s": unmeasured(TIME_S),
        "audio_s": None,
        "rtfx": None,
        "history": [],
    }


def read(path) -> Record:
    """The record at `path`; raises `InputError` naming the file and the key where it is not exactly a record of this schema."""
    path = Path(path)
    try:
        data = reading.read_json(path)
    except InputError as error:
        if not path.exists():
            raise InputError(f"{path}: no such record") from None
        raise InputError(f"{error}: take it from git again, or remove it so that its cell is measured anew") from None
    return _from_dict(data, path)


def fresh(path, fingerprint: str) -> Record | None:
    """The record at `path` if it was measured, and with this fingerprint; else None."""
    found = read(path) if Path(path).is_file() else None
    return found if found and found.fingerprint == fingerprint and found.status == "ok" else None


def write(record: Record, path, samples: list[dict]) -> Record:
    """Write samples and record to temporary files, then rename both; returns the record with `samples` filled in.

    Until both are written the record that is already there stays, so that a full disk loses nothing. It is removed before the
    first is renamed, so that a kill in between leaves no record with another's samples. Two runs that write the same record do so
    one after the other: the later one stays, with its own samples.
    """
    path = Path(path)
    samples_path = _samples_path(path)
    if samples:
        lines = "".join(_json(row) + "\n" for row in samples)
        packed = gzip.compress(lines.encode(), compresslevel=9, mtime=0)
        filled = {"path": samples_path.name, "sha256": hashlib.sha256(packed).hexdigest(), "n": len(samples)}
    else:
        packed, filled = None, None
    record = replace(record, samples=filled)
    content = _as_json(record, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent), files.aside(path) as record_aside, files.aside(samples_path) as samples_aside:
        files.fill(record_aside, content)
        files.fill(samples_aside, packed or b"")
        path.unlink(missing_ok=True)
        if packed is None:
            samples_path.unlink(missing_ok=True)
        else:
            files.put(samples_aside, samples_path)
        files.put(record_aside, path)
    return record


def rewrite(record: Record, path) -> None:
    """Write a record in the place of another with the same samples, which stay as they are."""
    path = Path(path)
    content = _as_json(record, path)
    with _alone(path.parent):
        files.write_whole(path, content)


def check_writable(folder) -> None:
    """Raises `InputError` where no record can be written into `folder`: to be asked before anything is measured, not after."""
    folder = Path(folder)
    try:
        files.check_writable(folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"no record can be written into {folder} ({reason}): make it writable, or name another folder with results_dir") from None


def read_samples(path) -> list[dict]:
    """The sample rows of the record at `path` (its JSON); refuses a file whose hash is not the recorded one."""
    path = Path(path)
    return samples_of(read(path), path)


def samples_of(record: Record, path) -> list[dict]:
    """As `read_samples`, for a record that was already read; an empty list where the record keeps no samples."""
    if record.samples is None:
        return []
    samples_path = Path(path).parent / record.samples["path"]
    if samples_path.name != record.samples["path"]:
        raise InputError(f"{path}: samples {record.samples['path']!r} must be the name of a file beside the record")
    if not samples_path.exists():
        raise InputError(f"{samples_path}: no such file, though {Path(path).name} names it")
    packed = reading.read_bytes(samples_path)
    found = hashlib.sha256(packed).hexdigest()
    if found != record.samples["sha256"]:
        raise InputError(f"{samples_path}: sha256 {found[:12]}..., but {Path(path).name} says {record.samples['sha256'][:12]}...")
    lines = enumerate(reading.unpack(packed, str(samples_path)).splitlines(), start=1)
    return [reading.json_of(line, f"{samples_path} line {number}") for number, line in lines]


def fingerprint(config: dict, data: dict, checkpoint: str, signature: str) -> str:
    """What a value depends on, as one hash: a record whose fingerprint differs from its cell's is stale.

    `config` is the resolved configuration, `data` identifies the corpus (its own fingerprint and split), `checkpoint` is
    the SHA-256 or pinned revision of the weights, `signature` that of the metric.
    """
    what = {"config": config, "data": data, "checkpoint": checkpoint, "signature": signature}
    return hashlib.sha256(canonical(what).encode()).hexdigest()


def canonical(value) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def provenance(command: str, notebook: str | None, started_at: str, module: str | None = None) -> dict:
    """Where and from what a value came, asked of this machine now (`finished_at`); revisions of model and data are the caller's.

    `module` is the one that measures, such as `asum_lib.study.run`: the digest is of the code that it reaches, by default of the package.
    `started_at` is UTC in ISO 8601, as `now()` gives it. Outside a git repository, and without a commit, git's keys are null.
    """
    return {
        "command": command,
        "notebook": notebook,
        **_git(),
        "code_digest": measuring_code.digest(module),
        "packages": packages(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu(),
        **_torch(),
        "model_revision": None,
        "dataset_revision": None,
        "dataset_fingerprint": None,
        "started_at": started_at,
        "finished_at": now(),
    }


def now() -> str:
    """UTC to the second, e.g. `2025-01-31T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def packages() -> dict[str, str | None]:
    """Installed versions of the libraries that move a number; null where one is not installed."""

    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in LIBRARIES}


def _as_json(record: Record, path: Path) -> bytes:
    """What the file of a record holds; refuses what could not be read again."""
    text = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    _from_dict(json.loads(text), path)
    return text.encode()


def _samples_path(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.json')}.samples.jsonl.gz")


def _json(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock on `folder` while other runs that write records there wait; the kernel lets go of it when its holder is killed.

    What lies aside while the lock is held was left by a killed run, and is removed. Some network file systems know no locks: then none is held.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass
        else:
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def check_keys(where, found, expected) -> None:
    """Raises `InputError` naming `where` and the key if `found` is not an object with exactly the keys `expected`."""
    if not isinstance(found, dict):
        raise InputError(f"{where}: expected an object with the keys {', '.join(expected)}, got {found!r}")
    for key in found:
        if key not in expected:
            raise InputError(f"{where}: unknown key {key!r} (known: {', '.join(expected)})")
    for key in expected:
        if key not in found:
            raise InputError(f"{where}: missing key {key!r}")


def _from_dict(data: dict, path: Path) -> Record:
    if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"{path}: schema {data['schema']!r}, this code reads {SCHEMA}")
    check_keys(path, data, [field.name for field in fields(Record)])
    for key, (kind, name) in KINDS.items():
        if not isinstance(data[key], kind):
            raise InputError(f"{path}: {key}: expected {name}, got {repr(data[key])[:80]}")
    params = (*PARAMS, *MORE_PARAMS) if isinstance(data["params"], dict) and set(MORE_PARAMS) & set(data["params"]) else PARAMS
    for key, allowed in {"memory_bytes": MEMORY_BYTES, "params": params, "time_s": TIME_S, "provenance": PROVENANCE}.items():
        check_keys(f"{path}: {key}", data[key], allowed)
    for entry in data["history"]:
        fitting = max(EPOCHS, key=lambda keys: len(set(keys) & set(entry))) if isinstance(entry, dict) else EPOCH
        check_keys(f"{path}: history", entry, fitting)
    if data["samples"] is not None:
        check_keys(f"{path}: samples", data["samples"], SAMPLES)
    for name, metric in data["metrics"].items():
        check_keys(f"{path}: metrics: {name}", metric, [field.name for field in fields(Metric)])
        if metric["better"] not in BETTER:
            raise InputError(f"{path}: metrics: {name}: better {metric['better']!r}, expected {' or '.join(BETTER)}")
    if data["status"] not in STATUSES:
        raise InputError(f"{path}: status {data['status']!r}, expected one of {', '.join(STATUSES)}")
    if data["status"] != "ok" and not data["reason"]:
        raise InputError(f"{path}: reason is empty, but the status is {data['status']}")
    return Record(**data | {"metrics": {name: Metric(**metric) for name, metric in data["metrics"].items()}})


def _git() -> dict:
    def ask(*arguments):
        try:
            return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    commit = ask("rev-parse", "--verify", "--quiet", "HEAD")
    changes = ask("status", "--porcelain", "--", ".", ":!results") if commit else None  # a study writes its records as it goes
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _torch() -> dict:
    """Threads and accelerator as torch sees them: a guess made without it would stand in the record as a fact."""
    import torch

    if not torch.cuda.is_available():
        return {"threads": torch.get_num_threads(), "accelerator": None, "driver": None}
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        driver = None
    return {"threads": torch.get_num_threads(), "accelerator": torch.cuda.get_device_name(0), "driver": driver}
