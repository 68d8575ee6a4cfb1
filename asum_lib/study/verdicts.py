"""A verdict from parts: what a comparison has to show, and what the comparisons of a claim show together.

The definitions are at the top of `claims`. Which cells are compared is for `claims` (error rates) and `text_claims` (ROUGE).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asum_lib.measure import stats
from asum_lib.study.tables import Row

VERDICTS = ("reproduced", "consistent", "not reproduced", "inconclusive", "not testable")
ALPHA = 1 - stats.LEVEL
EXPECTATIONS = ("below", "above", "not above", "within")  # of 0, by the part's difference
DIRECTIONAL = ("below", "above")


@dataclass(frozen=True)
class Part:
    """One comparison of a rule; `difference` is None where a record is missing."""

    what: str
    expect: str
    difference: stats.Difference | None
    rows: tuple[Row, ...]
    within_points: float | None = None  # of 0, where the claim expects no difference
    metrics: tuple[tuple[str, stats.Difference], ...] = ()  # where several say the same thing of it, see `agreed`

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest end of the intervals of all its metrics."""
        every = [one for _, one in self.metrics] or [self.difference]
        return min(one.lo for one in every), max(one.hi for one in every)

    def outcome(self, p_holm: float | None) -> str:
        """holds, contradicts, tie or missing."""
        if self.difference is None:
            return "missing"
        if self.expect == "within":
            return self._equivalence()
        significant, above = p_holm < ALPHA, self.difference.value > 0
        if self.expect == "not above":
            return "contradicts" if significant and above else "holds"
        if not significant:
            return "tie"
        return "holds" if above == (self.expect == "above") else "contradicts"

    def _equivalence(self) -> str:
        margin, (lo, hi) = self.within_points, self.bounds
        if -margin <= lo and hi <= margin:
            return "holds"
        return "contradicts" if lo > margin or hi < -margin else "tie"


def decide(parts: Sequence[Part], equivalent_within_points: float) -> tuple[str, str, list[float | None]]:
    """(verdict, reason in one line, Holm-corrected p of each part) by the definitions at the top of this module."""
    p_holm = corrected(parts)
    outcomes = [part.outcome(p) for part, p in zip(parts, p_holm, strict=True)]
    number = {outcome: outcomes.count(outcome) for outcome in ("holds", "tie", "contradicts", "missing")}
    words = {"holds": "hold", "tie": "tied", "contradicts": "contradict", "missing": "missing"}
    reason = f"of {len(parts)} parts: " + ", ".join(f"{count} {words[outcome]}" for outcome, count in number.items() if count)
    directional = [(part, outcome) for part, outcome in zip(parts, outcomes, strict=True) if part.expect in DIRECTIONAL]
    if number["contradicts"]:
        return "not reproduced", reason, p_holm
    if number["missing"]:
        return "inconclusive", reason, p_holm
    if number["holds"] == len(parts):
        return "reproduced", reason, p_holm
    margin = equivalent_within_points
    if directional and all(-margin <= part.bounds[0] and part.bounds[1] <= margin for part, _ in directional):
        return "not reproduced", f"{reason}; every difference is within {margin} points of 0", p_holm
    if not directional:
        return "inconclusive", reason, p_holm
    mean = np.mean([part.difference.value * (1 if part.expect == "above" else -1) for part, _ in directional])
    if mean > 0 and any(outcome == "holds" for _, outcome in directional):
        return "consistent", reason, p_holm
    return "inconclusive", reason, p_holm


def agreed(metrics: Sequence[tuple[str, stats.Difference]]) -> stats.Difference:
    """What several metrics of the same texts say of one comparison together: the weakest of them.

    ROUGE-1, -2 and -L of the same summaries are no three pieces of evidence. They have to agree, so the p
    is the largest of theirs, and 1 where they point to different sides (R. L. Berger, Multiparameter
    hypothesis testing and acceptance sampling, 1982).
    """
    weakest = max((one for _, one in metrics), key=lambda one: one.p)
    same_side = len({one.value > 0 for _, one in metrics}) == 1
    return weakest if same_side else replace(weakest, p=1.0)


def corrected(parts: Sequence[Part]) -> list[float | None]:
    """Holm over all parts that were measured; None for the others."""
    values = iter(stats.holm([part.difference.p for part in parts if part.difference]))
    return [next(values) if part.difference else None for part in parts]


def family_evidence(parts: Sequence[Part], decides: bool, results: Path, units: Sequence[str]) -> list[dict]:
    """`evidence` of parts that share one Holm correction, each with its unit."""
    measured = sum(part.difference is not None for part in parts)
    return [evidence(part, p, decides, results, unit, max(measured, 1)) for part, p, unit in zip(parts, corrected(parts), units, strict=True)]


def evidence(part: Part, p_holm: float | None, decides: bool, results: Path, unit: str = "points of WER", comparisons: int = 1) -> dict:
    """{what, expect, difference, lo, hi, p_holm, outcome, decides, unit, records} of one part.

    `detectable` is the smallest difference that it could have told from none, as one of `comparisons`;
    `metrics` has {difference, lo, hi, p} of each metric, where several have to agree.
    """
    measured = part.difference
    return {
        "what": part.what,
        "expect": part.expect,
        "difference": measured.value if measured else None,
        "lo": measured.lo if measured else None,
        "hi": measured.hi if measured else None,
        "p_holm": p_holm,
        "outcome": part.outcome(p_holm),
        "decides": decides,
        "unit": unit,
        "detectable": measured.detectable(comparisons) if measured else None,
        "metrics": {name: {"difference": one.value, "lo": one.lo, "hi": one.hi, "p": one.p} for name, one in part.metrics},
        "records": [os.path.relpath(path, results.parent) for row in part.rows for path, _ in row.found],
    }
