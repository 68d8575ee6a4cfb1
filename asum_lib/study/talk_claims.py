"""The claims on speech summarisation: weighted sums of cells paired by talk, for `verdicts` to decide on.

The one kind of rule, `talk_contrasts`, lists parts {what, unit, expect, sides, minus}: a side is [weight, {table, metric, and what tells
the cell}]; `minus` is a number, such as chance, that is taken off the sum.
"""

from collections.abc import Sequence
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.study import talk_tables, text_tables
from asum_lib.study.tables import Row
from asum_lib.study.verdicts import EXPECTATIONS, Part, decide, family_evidence

KINDS = ("talk_contrasts",)


def judge(rule: dict, scale: str, results: Path) -> tuple[str, str, list[dict]]:
    """(verdict, reason, evidence) of a rule."""
    found = {table: talk_tables.gather(table, scale, results) for table in rule["tables"]}
    if not any(row.measured for rows in found.values() for row in rows):
        return "not testable", f"no record of {', '.join(rule['tables'])} at scale {scale} yet", []
    deciding, beside = ([_part(stated, found) for stated in rule.get(name, [])] for name in ("deciding", "also"))
    verdict, reason, _ = decide(deciding, rule["equivalent_within_points"])
    shown = family_evidence(deciding, True, results, [_unit(stated) for stated in rule["deciding"]])
    return verdict, reason, shown + family_evidence(beside, False, results, [_unit(stated) for stated in rule.get("also", [])])


def _unit(stated: dict) -> str:
    """What the difference is counted in, from the metrics of its sides; several would make no difference."""
    units = {text_tables.difference_unit(cell["metric"]) for _, cell in stated["sides"]}
    if len(units) > 1:
        raise InputError(f"{stated['what']}: its sides are in {', '.join(sorted(units))}: compare like with like")
    return units.pop()


def _part(stated: dict, found: dict[str, list[Row]]) -> Part:
    choose("expectation of a rule", stated["expect"], EXPECTATIONS)
    sides = [(float(weight), _find(found, cell), cell["metric"]) for weight, cell in stated["sides"]]
    rows = tuple({id(row): row for _, row, _ in sides if row}.values())
    complete = all(row is not None and row.complete for _, row, _ in sides)
    return Part(stated["what"], stated["expect"], _contrast(sides, stated.get("minus", 0.0)) if complete else None, rows)


def _find(found: dict[str, list[Row]], cell: dict) -> Row | None:
    told = {key: value for key, value in cell.items() if key not in ("table", "metric")}
    return talk_tables.find(found[choose("table of a rule", cell["table"], found)], **told)


def _contrast(sides: Sequence[tuple[float, Row, str]], minus: float) -> stats.Difference:
    """The weighted sum, less a constant, paired by talk; with the p-value of what is left. Two metrics of one row are paired by its seeds too."""
    read = [text_tables.values(row, metric) for _, row, metric in sides]
    ids, _, over = read[0]
    for (_, row, _), (other, _, other_over) in zip(sides, read, strict=True):
        if other != ids or (other_over != over).any():
            raise InputError(f"{row.measured[0][0]} was not scored on the same talks as {sides[0][1].measured[0][0]}")
    weighted = [(weight, of) for (weight, _, _), (_, of, _) in zip(sides, read, strict=True)]
    if len(sides) > 1 and len({id(row) for _, row, _ in sides}) == 1:
        weighted = [(1.0, sum(weight * of for weight, of in weighted))]
    constant = [(-1.0, (minus / 100 * over)[None])] if minus else []
    return stats.contrast([*weighted, *constant], over, text_tables.clusters(sides[0][1]))
