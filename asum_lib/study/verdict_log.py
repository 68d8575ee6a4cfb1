"""What each claim was judged before, and why that changed: a log that only grows.

`asum_lib/papers/verdicts.jsonl` has a line for each verdict that a claim has had at a scale, in the order
in which they came: {claim, scale, on, verdict, why}. The first of a claim says how it was judged first, each
later one why the verdict changed: other records, another rule, or a fault mended. The tests fail where
today's verdict is not the last of the log, so no verdict changes without a reason on the claims page.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from asum_lib import papers
from asum_lib.errors import InputError
from asum_lib.study import records

LOG = Path(papers.__file__).parent / "verdicts.jsonl"
KEYS = ("claim", "scale", "on", "verdict", "why")


@dataclass(frozen=True)
class Change:
    """A verdict that replaced another; `before` is None for the first of a claim."""

    claim: str
    scale: str
    on: str  # ISO date
    before: str | None
    after: str
    why: str


def changes(log: Path = LOG) -> list[Change]:
    """Every verdict of the log with the one before it, oldest first; `InputError` naming a faulty line."""
    last: dict[tuple[str, str], str] = {}
    found = []
    for number, line in enumerate(log.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
        except ValueError as error:
            raise InputError(f"{log.name}, line {number}: no JSON ({error})") from None
        records.check_keys(f"{log.name}, line {number}", data, KEYS)
        key = data["claim"], data["scale"]
        found.append(Change(*key, data["on"], last.get(key), data["verdict"], data["why"]))
        last[key] = data["verdict"]
    return found


def unlisted(judged: list[dict], log: Path = LOG) -> list[str]:
    """A line for every judged claim whose verdict is not the last of the log."""
    last = {(change.claim, change.scale): change.after for change in changes(log)}
    return [
        f"{claim['claim']} at scale {claim['scale']}: {claim['verdict']}, but the log says {last.get((claim['claim'], claim['scale']))}"
        for claim in judged
        if last.get((claim["claim"], claim["scale"])) != claim["verdict"]
    ]
