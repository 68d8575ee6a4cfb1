"""Are two folders of records the same measurement? What a run elsewhere, or one that was killed and went on, is held to.

python -m asum_lib.study.same_records UNDISTURBED OTHER [NAME ...]
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.study import records

# What says where and when, not what was measured. `starts` are the times at which a training was begun.
MAY_DIFFER = ("time_s", "rtfx", "provenance", "config.execution.starts", "samples.sha256")


@dataclass(frozen=True)
class Comparison:
    """How many records and samples are the same, and one phrase for each thing that is not."""

    records: int
    samples: int
    differences: tuple[str, ...]


def compare(one: Path, other: Path, names=()) -> Comparison:
    """Records of `one` (all, or those whose file name contains one of `names`) against those of the same name in `other`, samples included."""
    one, other = Path(one), Path(other)
    paths = [path for path in sorted(one.glob("[!.]*.json")) if not names or any(name in path.name for name in names)]
    if not paths:
        raise InputError(f"folder {one}: no record{' named ' + ', '.join(names) if names else ''} there")
    same = samples = 0
    found: list[str] = []
    for path in paths:
        twin = other / path.name
        if not twin.is_file():
            found.append(f"{path.name}: no such record in {other}")
            continue
        a, b = records.read(path), records.read(twin)
        unlike = [key for key in _unlike(a.__dict__, b.__dict__) if not key.startswith(MAY_DIFFER)]
        if a.samples and b.samples:
            ours, theirs = (list(records.read_samples(where)) for where in (path, twin))
            samples += sum(x == y for x, y in zip(ours, theirs, strict=False))
            if ours != theirs:
                apart = sum(x != y for x, y in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))
                unlike.append(f"what {apart} of {len(ours)} samples say")
        same += not unlike
        found += [f"{path.name}: {key} differs" for key in unlike]
    return Comparison(same, samples, tuple(found))


def _unlike(a, b, at: str = "") -> list[str]:
    """Dotted names of the leaves in which two nested values differ."""
    a, b = (value.__dict__ if hasattr(value, "__dataclass_fields__") else value for value in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return [name for key in dict.fromkeys([*a, *b]) for name in _unlike(a.get(key), b.get(key), f"{at}.{key}" if at else str(key))]
    return [] if a == b else [at]


def main(given: list[str] | None = None) -> int:
    """The command: says what differs; exit status 1 where anything does."""
    given = sys.argv[1:] if given is None else given
    if len(given) < 2:
        print("same_records: give two folders of records, and parts of file names if only some are meant", file=sys.stderr)
        return 2
    try:
        found = compare(Path(given[0]), Path(given[1]), given[2:])
    except InputError as error:
        print(f"same_records: {error}", file=sys.stderr)
        return 2
    for line in found.differences:
        print(line)
    print(f"{found.records} records and {found.samples} samples are the same, {len(found.differences)} differences")
    return 1 if found.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
