"""When each rule of the ledger was written, and what it said before: a log that only grows.

A verdict is worth something if its rule was there before the run. `asum_lib/papers/rules.jsonl` keeps a line for every rule that a
claim has had, in the order in which they were written: {paper, claim, rule_sha, written_at, rule_text, rule}. `asum claims
--register` appends the rules that are new; a claim whose rule is not its last line there is shown as not registered, and the
tests fail on it. What the rules decide is for `claims`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from asum_lib import files, papers, reading
from asum_lib.errors import InputError
from asum_lib.study import records

LOG = Path(papers.__file__).parent / "rules.jsonl"
KEYS = ("paper", "claim", "rule_sha", "written_at", "rule_text", "rule")


@dataclass(frozen=True)
class Written:
    """A rule that a claim has, or had."""

    paper: str
    claim: str
    rule_sha: str
    written_at: str  # ISO 8601 with its zone
    rule_text: str
    rule: dict


def rule_sha(rule: dict) -> str:
    """SHA-256 of the rule as canonical JSON: it changes with any change of the rule, not with its layout."""
    return hashlib.sha256(records.canonical(rule).encode()).hexdigest()


def read(log: Path = LOG) -> list[Written]:
    """The log, oldest first; raises `InputError` naming the line that is not whole or whose hash is not its rule's."""
    found = []
    for number, line in enumerate(_text(log).splitlines(), start=1):
        data = reading.json_of(line, f"{log.name}, line {number}")
        records.check_keys(f"{log.name}, line {number}", data, KEYS)
        if rule_sha(data["rule"]) != data["rule_sha"]:
            raise InputError(
                f"{log.name}, line {number}: the rule of {data['claim']} is not the one of its hash {data['rule_sha'][:8]}: lines are never edited"
            )
        found.append(Written(**data))
    return found


def _text(log: Path) -> str:
    return reading.read_text(log) if os.path.lexists(log) else ""


def of_claim(paper: str, claim: str, log: Sequence[Written]) -> list[Written]:
    """The rules that a claim has had, oldest first."""
    return [written for written in log if (written.paper, written.claim) == (paper, claim)]


def log_of(file=None) -> Path:
    """Where the rules of the papers are logged, or those of a file of claims of one's own: beside it."""
    return LOG if file is None else Path(file).with_suffix(".rules.jsonl")


def register(stated: Sequence[tuple[str, dict]], log: Path = LOG) -> list[Written]:
    """Append the rules of these (paper, claim) that are not the last of their claim; returns them."""
    known, new = read(log), []
    for paper, claim in stated:
        before, found = of_claim(paper, claim["id"], known), rule_sha(claim["rule"])
        if testable(claim["rule"]) and (not before or before[-1].rule_sha != found):
            new.append(Written(paper, claim["id"], found, records.now(), " ".join(claim["rule_text"].split()), claim["rule"]))
    if new:
        lines = [json.dumps({key: getattr(written, key) for key in KEYS}, ensure_ascii=False) + "\n" for written in new]
        before = _text(log)
        between = "\n" if before and not before.endswith("\n") else ""  # an editor may have left the last line open
        files.write_whole(log, (before + between + "".join(lines)).encode())
    return new


def testable(rule: dict) -> bool:
    """Whether it is a rule at all, and no note that a table does not exist yet."""
    return rule["kind"] != "not_testable"


def standing(rule: dict, written: Sequence[Written], first_run_at: str | None, foreseen: dict | None = None) -> str:
    """How a rule stands to the run that it decides, in a phrase.

    `written` are the claim's rules, `first_run_at` the start of its first record. `foreseen`, {parts, why}, is what of the
    verdict follows from the designs without a run: of all parts that is a standing of its own, beside before and after.
    """
    if not testable(rule):
        return "no rule yet"
    if not written:
        return "not registered: `--register` notes when it was written"
    if written[-1].rule_sha != rule_sha(rule):
        return f"CHANGED since {_minute(datetime.fromisoformat(written[-1].written_at))}, not registered: `--register` notes when"
    written_at = datetime.fromisoformat(written[-1].written_at)
    said = f"{'CHANGED' if len(written) > 1 else 'written'} {_minute(written_at)}, "
    if first_run_at is None:
        return f"{said}no record behind it yet"
    run_at = datetime.fromisoformat(first_run_at)
    if foreseen and foreseen["parts"] == "all":
        return f"{said}FORESEEN BY ARITHMETIC (first record {_minute(run_at)}; {foreseen['why']})"
    order = "AFTER" if written_at > run_at else "before"
    if foreseen:
        return f"{said}{order} the first of its records; IN PART FORESEEN BY ARITHMETIC ({_minute(run_at)}; {foreseen['why']})"
    return f"{said}{order} the first of its records ({_minute(run_at)})"


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
