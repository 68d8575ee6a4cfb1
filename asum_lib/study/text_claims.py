"""The claims on the ROUGE tables: comparisons of cells paired by document, for `verdicts` to decide on.

A rule is asked of every corpus and model of the grid of its scale, or of those that its `corpora` and `models` name. Differences are of
ROUGE x 100, pooled over seeds. Rule kinds:

- `rouge_comparisons`: for every corpus and model, and every {a, expect, b}: a minus b, by metrics that
  have to agree. `expect: within` is equivalence: the part holds if the 95 % intervals of all metrics lie
  within `within_points` of 0, contradicts if they lie wholly outside, and is a tie otherwise.
- `rouge_ranks`: for every corpus, model and method: the mean of the `useful` ranks minus the mean of the `lower` ones, above 0;
  and each rank `past` them minus the highest useful one, not above 0. What it lists as deciding and beside are metrics.
"""

from collections.abc import Sequence
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.study import text_tables
from asum_lib.study.tables import Row
from asum_lib.study.verdicts import EXPECTATIONS, Part, agreed, decide, family_evidence

UNIT = "points of ROUGE"


def judge(rule: dict, scale: str, results: Path) -> tuple[str, str, list[dict]]:
    """(verdict, reason, evidence) of a rule of one of `KINDS`."""
    found = [row for table in rule["tables"] for row in text_tables.gather(table, scale, results)]
    if not any(row.measured for row in found if row.cell["method"] != "none"):
        return "not testable", f"no record of {', '.join(rule['tables'])} at scale {scale} yet", []
    make_parts = KINDS[rule["kind"]]
    deciding = make_parts(rule, rule["deciding"], found, scale)
    verdict, reason, _ = decide(deciding, rule["equivalent_within_points"])
    beside = make_parts(rule, rule["also"], found, scale)
    shown = [one for parts, decides in ((deciding, True), (beside, False)) for one in family_evidence(parts, decides, results, [UNIT] * len(parts))]
    caveats = {text_tables.caveat(row, scale, results) for part in deciding for row in part.rows if row.measured} - {None}
    if caveats:
        return "inconclusive", f"{reason}; but {'; '.join(sorted(caveats))}", shown
    return verdict, reason, shown


def comparisons(rule: dict, stated: Sequence[dict], found: Sequence[Row], scale: str) -> list[Part]:
    """For every pair that is stated, and every corpus and model: a minus b, by the metrics of the rule, which have to agree."""
    return [
        _part(
            f"{_where(corpus, model)}, {', '.join(rule['metrics'])}: {_name(pair['a'])} minus {_name(pair['b'])}",
            pair["expect"],
            sides,
            rule["metrics"],
            rule.get("within_points"),
        )
        for pair in stated
        for corpus, model in _asked(rule, scale)
        for sides in [[(1.0, text_tables.find(found, corpus, model, **pair["a"])), (-1.0, text_tables.find(found, corpus, model, **pair["b"]))]]
    ]


def ranks(rule: dict, metrics: Sequence[str], found: Sequence[Row], scale: str) -> list[Part]:
    """Useful ranks against lower ones, and what lies past them against the highest useful one."""
    useful, lower, parts = rule["useful"], rule["lower"], []
    for corpus, model in _asked(rule, scale):
        for method in rule["methods"]:
            row = {rank: text_tables.find(found, corpus, model, method=method, rank=rank) for rank in (*useful, *lower, *rule["past"])}
            sides = [(1 / len(useful), row[rank]) for rank in useful] + [(-1 / len(lower), row[rank]) for rank in lower]
            where = f"{_where(corpus, model)}, {', '.join(metrics)}, {method}"
            parts.append(_part(f"{where}: mean of ranks {_list(useful)} minus mean of {_list(lower)}", "above", sides, metrics))
            for past in rule["past"]:
                sides = [(1.0, row[past]), (-1.0, row[max(useful)])]
                parts.append(_part(f"{where}: rank {past} minus rank {max(useful)}", "not above", sides, metrics))
    return parts


KINDS = {"rouge_comparisons": comparisons, "rouge_ranks": ranks}


def _asked(rule: dict, scale: str) -> list[tuple[str, str]]:
    """(corpus, model) of the grid that the rule is asked of."""
    found = [
        (corpus, model)
        for corpus, model in text_tables.combinations(scale)
        if corpus in rule.get("corpora", [corpus]) and model in rule.get("models", [model])
    ]
    if not found:
        raise InputError(f"no cell of the grid at scale {scale} has corpus {rule.get('corpora')} and model {rule.get('models')}")
    return found


def _part(what: str, expect: str, sides: Sequence[tuple[float, Row | None]], metrics: Sequence[str], within_points: float | None = None) -> Part:
    choose("expectation of a rule", expect, EXPECTATIONS)
    rows = tuple(row for _, row in sides if row)
    complete = len(rows) == len(sides) and all(row.complete for row in rows)
    if not complete or not metrics:
        return Part(what, expect, None, rows, within_points)
    measured = tuple((metric, text_tables.contrast(sides, metric)) for metric in metrics)
    return Part(what, expect, agreed(measured), rows, within_points, measured)


def _where(corpus: str, model: str) -> str:
    return f"{model} on {corpus}"


def _name(configuration: dict) -> str:
    rank = f"r{configuration['rank']}" if "rank" in configuration else ""
    parts = [configuration.get("precision", ""), configuration["method"], rank, configuration.get("targets", "")]
    return " ".join(part for part in parts if part)


def _list(ranks: Sequence[int]) -> str:
    return " and ".join(map(str, ranks))
