#!/usr/bin/env python
"""Is the study whole after it was killed? Kills `make study` at random moments, lets it finish, and compares with an undisturbed run.

    .venv/bin/python runs/survive.py FOLDER

makes a clone of this repository in FOLDER (new, or one that an earlier call made), with an environment of its own, and in it

1. removes the records of some quick cells of several tables and lets `make study` measure them, undisturbed: the reference;
2. puts the records back, empties the caches, and then many times over removes a few of these records, starts `make study`, and
   kills every process of it with SIGKILL after a random time, the notebooks' kernels too;
3. looks after each kill whether every record that is there can be read, samples included, and what is left lying about;
4. lets `make study` finish, and holds every record that was removed against the reference: all but times and provenance must be
   equal. All other records must be the committed bytes.

Cells, moments and order are drawn with `--seed`. Exit status 0 if all is well, 1 otherwise. The longest test of this repository.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY
from asum_lib.study import learning_rates, records, tables, text_cells

QUICK_S = 6.0  # a cell is quick if its record says that measuring took less
MACHINES_OWN = ("time_s", "rtfx", "provenance")  # of a record; also what `execution` says of starts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--reference", type=Path, help="results folder of an earlier undisturbed run with this seed, instead of a new one")
    parser.add_argument("--longest-s", type=float, default=120.0, help="the last moment at which a run is killed")
    options = parser.parse_args()
    folder, draw = options.folder.resolve(), random.Random(options.seed)

    prepare(folder)
    quick = quick_cells()
    rounds = [[draw.choice(paths) for paths in quick.values()] for _ in range(options.kills)]
    moments_s = [draw.uniform(1.0, options.longest_s) for _ in rounds]
    removed = sorted({path for picked in rounds for path in picked})
    say(f"{len(removed)} records of {len(quick)} tables are at stake; seed {options.seed}")

    if options.reference:
        reference = {path: essence(options.reference.resolve().parent / path) for path in removed}
    else:
        remove(folder, removed)
        start = time.monotonic()
        if status := study(folder, folder / "build" / "undisturbed.log").wait():
            return fail(f"the undisturbed run ended with status {status}: see {folder}/build/undisturbed.log")
        say(f"undisturbed: done in {time.monotonic() - start:.0f} s")
        reference = {path: essence(folder / path) for path in removed}

    restore(folder)
    faults, done = [], 0
    for number, (picked, moment_s) in enumerate(zip(rounds, moments_s, strict=True), start=1):
        remove(folder, picked)
        absent = {path for path in removed if not (folder / path).is_file()}
        log = folder / "build" / f"killed-{number:02d}.log"
        process = study(folder, log)
        finished = wait(process, moment_s)
        killed = kill(process)
        done += finished
        measured = sum((folder / path).is_file() for path in absent)
        found = faulty(folder)
        faults += [f"kill {number}: {fault}" for fault in found]
        if "another make study is running" in log.read_text(encoding="utf-8"):
            faults.append(f"kill {number}: the lock of the run before was still held")
        what = "had ended before" if finished else f"killed {killed} processes, in the middle of: {last_line(log)}"
        say(f"{number:2d}. {moment_s:5.1f} s: {what}")
        say(f"    {measured} of {len(absent)} missing records measured, {len(found)} faulty; left: {leftovers(folder)}")

    start = time.monotonic()
    status = study(folder, folder / "build" / "clean.log").wait()
    say(f"clean run: status {status} in {time.monotonic() - start:.0f} s")
    if status:
        faults.append(f"the clean run ended with status {status}")
    faults += faulty(folder)
    for path, expected in reference.items():
        if not (folder / path).is_file():
            faults.append(f"{path}: not there after the clean run")
        elif (found := essence(folder / path)) != expected:
            faults.append(f"{path}: differs from the undisturbed run's in {', '.join(key for key in expected if found[key] != expected[key])}")
    samples = {path.replace(".json", ".samples.jsonl.gz") for path in removed}
    if others := sorted(set(changed(folder)) - set(removed) - samples):
        faults.append(f"records changed that nothing was to touch: {', '.join(others)}")
    say(f"left after the clean run: {leftovers(folder)}; processes still in the folder: {running(folder)}")
    again = time.monotonic()
    if study(folder, folder / "build" / "again.log").wait():
        faults.append("a run with nothing to do failed")
    say(f"a run with nothing to do: {time.monotonic() - again:.0f} s")
    for fault in faults:
        say(f"FAULT {fault}")
    say(f"{len(rounds) - done} of {len(rounds)} runs killed at work, {len(removed)} records compared, {len(faults)} faults")
    return 1 if faults else 0


def prepare(folder: Path) -> None:
    """A clone with its own environment."""
    if not (folder / ".git").is_dir():
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    subprocess.run(["make", "env"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    restore(folder)


def restore(folder: Path) -> None:
    """The committed records and no cache; executed notebooks stay, so that a study begins with those whose records are not there."""
    subprocess.run(["git", "checkout", "--quiet", "--", "results"], cwd=folder, check=True)
    shutil.rmtree(folder / "build" / "cache", ignore_errors=True)
    (folder / "build").mkdir(exist_ok=True)


def quick_cells() -> dict[str, list[str]]:
    """By table, the paths of records that `make study` would measure again in seconds if they were not there."""
    pairs = {name: [cell.path(Path("results")) for cell in tables.planned(name)] for name in ("whisper_wer", "whisper_source")}
    pairs["learning_rates"] = [cell.path(Path("results")) for cell in learning_rates.planned_rates()]
    for name in text_cells.TABLE_OF["mini"].values():
        planned = text_cells.planned_text(name)
        pairs[name] = [cell.path(Path("results")) for cell in planned if cell.model not in text_cells.SYSTEMS]
    pairs = {name: [str(path) for path in paths if took_s(path) < QUICK_S] for name, paths in pairs.items()}
    return {name: paths for name, paths in pairs.items() if paths}


def took_s(path: Path) -> float:
    return sum(seconds or 0.0 for seconds in records.read(REPOSITORY / path).time_s.values())


def remove(folder: Path, paths: list[str]) -> None:
    for path in paths:
        (folder / path).unlink(missing_ok=True)


def study(folder: Path, log: Path) -> subprocess.Popen:
    """`make study` as the leader of a process group, with caches of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASUM_", "PYTHON", "VIRTUAL_ENV", "MAKE"))}
    environment |= {"ASUM_CACHE": str(folder / "build" / "cache")}
    with open(log, "wb") as file:
        return subprocess.Popen(["make", "study"], cwd=folder, stdout=file, stderr=file, env=environment, start_new_session=True)


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Whether the process ended within so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill(process: subprocess.Popen) -> int:
    """SIGKILL to everything that the run has started; a kernel is in a session of its own, so the group alone would miss it."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            member.send_signal(signal.SIGSTOP)  # nobody has time to tidy up
        except psutil.NoSuchProcess:
            continue
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=10)
    return len(family)


def faulty(folder: Path) -> list[str]:
    """Why a record that is there cannot be read, for every one."""
    found = []
    for path in sorted((folder / "results" / "mini").rglob("*.json")):
        try:
            records.read_samples(path)
        except (InputError, ValueError, OSError) as error:
            found.append(str(error))
    return found


def essence(path: Path) -> dict:
    """What a record says but for times and machines."""
    data = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in data.items() if key not in MACHINES_OWN}
    kept["config"] = kept["config"] | {"execution": {k: v for k, v in kept["config"]["execution"].items() if k != "starts"}}
    return kept


def changed(folder: Path) -> list[str]:
    done = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all", "--", "results"], cwd=folder, capture_output=True, text=True, check=True
    )
    return [line[3:] for line in done.stdout.splitlines()]


def leftovers(folder: Path) -> str:
    """What a killed run leaves beside finished files: temporary files of records, folders of the cache."""
    results = [path for path in (folder / "results").rglob(".*") if path.is_file()]
    cache = [path for part in ("corpora", "features", "decoded") for path in (folder / "build" / "cache" / part).glob("*") if unfinished(path)]
    size = sum(file.stat().st_size for path in cache for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    return f"{len(results)} in results, {len(cache)} in the cache ({size / 1e6:.0f} MB)"


def unfinished(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".tmp"


def running(folder: Path) -> int:
    found = 0
    for process in psutil.process_iter(["cwd"]):
        found += bool(process.info["cwd"]) and Path(process.info["cwd"]).is_relative_to(folder)
    return found


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:110] if lines else "nothing said yet"


def say(line: str) -> None:
    print(line, flush=True)


def fail(line: str) -> int:
    say(line)
    return 1


if __name__ == "__main__":
    if shutil.which("make") is None:
        sys.exit("make is not installed")
    sys.exit(main())
