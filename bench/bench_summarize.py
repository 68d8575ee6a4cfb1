"""What `asum summarize` takes on this machine: from a cold start on a talk of a minute, and on recordings of ten minutes and three hours.

    python bench/bench_summarize.py

Each is a process of its own, started as a person starts it, so that imports and loading count; the wall time is taken outside. The
recordings are generated talks of the test split of `howto-talks`, joined until they are long enough, one after the other and over again.
Peak memory is the process's own (`VmHWM`), read at its end. Prints the figures and writes `results/summarize.json`, which the book shows.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from asum_lib import files
from asum_lib.corpora.audio import samples_of
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.corpora.talks import load_talks
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.systems import END_TO_END

SYSTEMS = ({"system": "cascade", "precision": "int8"}, {"system": "cascade", "precision": "fp32"}, {"system": "e2e", "precision": "int8"})
LENGTHS_S = {"a minute": 60, "ten minutes": 600, "three hours": 10_800}
ROUNDS = {"a minute": 5, "ten minutes": 1, "three hours": 1}
PROVENANCE = ("git_commit", "git_dirty", "packages", "python", "cpu", "accelerator", "finished_at")


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", action="append", help="one system only, such as cascade; repeatable (default: all)")
    parser.add_argument("--out", default=str(RESULTS / "summarize.json"), help="where the figures go")
    options = parser.parse_args(arguments)
    there = [system for system in SYSTEMS if system["system"] != "e2e" or END_TO_END.is_dir()]
    chosen = [system for system in there if options.system is None or system["system"] in options.system]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, length_s in LENGTHS_S.items():
            path = joined(Path(folder) / "recording.wav", length_s)
            for system in chosen if name == "a minute" else chosen[:1]:
                rows.append(measure(path, name, system, ROUNDS[name]))
                print(as_text(rows[-1]))
    made = records.provenance("python bench/bench_summarize.py", None, records.now())
    report = {"rows": rows, "cores": os.cpu_count(), "provenance": {key: made[key] for key in PROVENANCE}}
    files.write_whole(Path(options.out), (json.dumps(report, indent=1) + "\n").encode())
    return 0


def joined(path: Path, length_s: float) -> Path:
    """A recording of at least `length_s`: talks of the test split, whole, in order, over again."""
    talks = load_talks("howto-talks", "test").talks
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
        number = 0
        while file.frames < length_s * SAMPLE_RATE_HZ:
            for block in samples_of(talks[number % len(talks)].audio):
                file.write(block)
            number += 1
    return path


def measure(path: Path, name: str, system: dict, rounds: int) -> dict:
    """Wall times and what the command says of itself, of `rounds` processes."""
    options = [part for key, value in system.items() for part in (f"--{key}", value)]
    walls, processor, answers, load = [], [], [], os.getloadavg()[0]
    for _ in range(rounds):
        start, spent = time.perf_counter(), _children_s()
        done = subprocess.run(
            [sys.executable, "-m", "asum_lib", "summarize", str(path), "--format", "json", *options], stdout=subprocess.PIPE, text=True, check=True
        )
        walls.append(round(time.perf_counter() - start, 3))
        processor.append(round(_children_s() - spent, 3))
        answers.append(json.loads(done.stdout)[0])
    middle = answers[walls.index(statistics.median_low(walls))]
    return {
        **system,
        "recording": name,
        "audio_s": middle["audio_s"],
        "wall_s": walls,
        "processor_s": processor,
        "load_before": load,
        "time_s": middle["time_s"],
        "memory_bytes": max(answer["memory_bytes"] for answer in answers),
        "segments": len(middle["segments"]),
        "summary_words": len(middle["summary"].split()),
    }


def _children_s() -> float:
    """Processor seconds of all children so far, which another program on the machine hardly moves."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def as_text(row: dict) -> str:
    wall_s, processor_s = statistics.median(row["wall_s"]), statistics.median(row["processor_s"])
    what = f"{row['system']} {row['precision']}, {row['recording']} ({row['audio_s']:.0f} s)"
    speed = f"{wall_s:.1f} s ({processor_s:.1f} s of processor), {row['audio_s'] / wall_s:.1f} times real time"
    return f"{what}: {speed}, {row['memory_bytes'] / 1e6:.0f} MB, {row['time_s']}"


if __name__ == "__main__":
    sys.exit(main())
