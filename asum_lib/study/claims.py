"""Verdicts on the papers' claims, computed from records by rules that are data in the papers' YAML files.

A rule names parts: comparisons of cells with the direction that the claim expects. Each part is a difference of WER in
points, paired over voices or speakers, with the variance of seeds (see `asum_lib.measure.stats`). Metrics of the same texts
are one part, and have to agree (`verdicts.agreed`). All deciding parts of a claim share one Holm correction,
and significant means corrected p < 0.05. A part **holds** if it is significantly on the expected side (a part that expects
"not above" holds unless it is significantly above 0), **contradicts** if it is significantly on the other side, and is a
**tie** otherwise. It is **missing** unless every planned seed of its cells was measured (and, for curves, the epochs that the
rule names). The verdicts:

- *reproduced*: every deciding part holds.
- *consistent*: none contradicts or is missing, at least one directional part holds, and the mean of the directional
  differences points the claim's way.
- *not reproduced*: a deciding part contradicts; or equivalence is shown: the intervals of all directional parts lie within
  the rule's `equivalent_within_points` of 0.
- *inconclusive*: everything else: only ties, or records missing.
- *not testable*: no table yet, no record of it at this scale, or a scale that cannot decide the claim.

Mini scale tests orderings, ratios and trends, never absolute figures. `also` in a rule is evidence to look at; it has a
Holm correction of its own and no say in the verdict. Rule kinds: `comparisons`, `early_epochs`, `largest_step`,
`not_testable`; each is one function below that turns a rule into parts. `comparisons_of_both` asks its comparisons of error rates and of
ROUGE (those of `text_claims`) together, with one Holm correction and one verdict. The claims on memory are judged at the real sizes
whatever the scale asked for, by `asum_lib.study.memory_claims`.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import memory_claims, own_claims, records, rules, tables, talk_claims, text_claims, text_tables
from asum_lib.study.cells import SCALES
from asum_lib.study.tables import Row
from asum_lib.study.verdicts import EXPECTATIONS, Part, decide, family_evidence

FindRow = Callable[[str, dict], Row]  # (size, {precision, method, rate}) -> the row of the table


def judge(scale: str = "mini", results=RESULTS, file=None, only: str | None = None) -> list[dict]:
    """One object a claim, in the ledger's order: {claim, text, paper, where, kind, scale, rule, rule_text, rule_sha, rule_standing,
    foreseen, earlier_rules, verdict, reason, evidence}.

    The claims are those of the papers, or those of `file` (see `own_claims`); `only` is the id of one of them. `evidence` lists {what,
    expect, difference, lo, hi, p_holm, outcome, decides, unit, records}; `unit` is that of the
    metric, such as "points of WER" or "percentage points of summaries". `rule_standing` says whether the
    rule was written before its records, or its verdict `foreseen` by arithmetic (see `rules`),
    `earlier_rules` lists {rule_sha, written_at, rule_text, verdict} of what the claim was judged by before,
    each judged on today's records; its verdict is None where it can no longer be evaluated.
    """
    choose("scale", scale, SCALES)
    results = Path(results)
    stated = stated_claims(file)
    if only is not None:
        choose("claim", only, [claim["id"] for _, claim in stated])
    log = rules.read(rules.log_of(file))
    gathered: dict[str, list[Row]] = {}
    judged = []
    for paper, claim in stated:
        if only not in (None, claim["id"]):
            continue
        verdict, reason, evidence = _judge_one(claim, scale, results, gathered)
        sha, written = rules.rule_sha(claim["rule"]), rules.of_claim(paper, claim["id"], log)
        judged.append(
            {
                "claim": claim["id"],
                "text": claim["text"],
                "paper": paper,
                "where": claim["where"],
                "kind": claim["kind"],
                "scale": "paper" if claim["rule"]["kind"] in memory_claims.KINDS else scale,
                "rule": claim["rule"],
                "rule_text": claim["rule_text"],
                "rule_sha": sha,
                "rule_standing": rules.standing(claim["rule"], written, _first_run_at(evidence, results), claim.get("foreseen")),
                "foreseen": claim.get("foreseen"),
                "earlier_rules": [_earlier(claim, rule, scale, results, gathered) for rule in written if rule.rule_sha != sha],
                "verdict": verdict,
                "reason": reason,
                "evidence": evidence,
            }
        )
    return judged


def stated_claims(file=None) -> list[tuple[str, dict]]:
    """(paper, claim) of every claim of the papers, or of a file of one's own."""
    if file is not None:
        return [(Path(file).stem, claim) for claim in own_claims.load(file)]
    return [(paper, claim) for paper in papers.names() for claim in papers.load(paper)["claims"]]


def _earlier(claim: dict, written: rules.Written, scale: str, results: Path, gathered: dict) -> dict:
    try:
        verdict = _judge_one(claim | {"rule": written.rule}, scale, results, gathered)[0]
    except (InputError, KeyError):  # of a form that the code no longer reads
        verdict = None
    return {"rule_sha": written.rule_sha, "written_at": written.written_at, "rule_text": written.rule_text, "verdict": verdict}


def _first_run_at(evidence: list[dict], results: Path) -> str | None:
    """When the first of the records behind the deciding parts was begun."""
    paths = {path for part in evidence if part["decides"] for path in part["records"]}
    return min(filter(None, (_started_at(results.parent / path) for path in paths)), default=None)


@cache
def _started_at(path: Path) -> str | None:
    return records.read(path).provenance["started_at"]


def comparisons(rule: dict, stated: list[dict], find: FindRow) -> list[Part]:
    """For every size and every {a, expect, b}: test WER of a minus that of b."""
    return [_part(size, pair, find) for pair in stated for size in rule["sizes"]]


def early_epochs(rule: dict, stated: dict, find: FindRow) -> list[Part]:
    """Change of dev WER from before training to the mean of the first epochs: above 0 without, not above 0 with, and with below without."""
    parts = []
    for size in rule["sizes"]:
        with_row = find(size, stated["with"])
        with_name = _name(stated["with"])
        parts.append(_change_part(f"{size}: dev WER, early epochs minus epoch 0, {with_name}", "not above", [(1, with_row)], rule["epochs"]))
        for configuration in stated["without"]:
            row, name = find(size, configuration), _name(configuration)
            parts.append(_change_part(f"{size}: dev WER, early epochs minus epoch 0, {name}", "above", [(1, row)], rule["epochs"]))
            what = f"{size}: that change with {with_name} minus with {name}"
            parts.append(_change_part(what, "below", [(1, with_row), (-1, row)], rule["epochs"]))
    return parts


def largest_step(rule: dict, stated: dict, find: FindRow) -> list[Part]:
    """The fall of test WER over the named step of the ladder minus the fall over each other step: above 0."""
    steps = list(zip(rule["sizes"], rule["sizes"][1:], strict=False))
    named = tuple(rule["step"])
    parts = []
    for other in steps:
        if other == named:
            continue
        weights = dict.fromkeys(rule["sizes"], 0)
        for size, weight in zip((*named, *other), (1, -1, -1, 1), strict=True):
            weights[size] += weight
        sides = [(weight, find(size, stated)) for size, weight in weights.items() if weight]
        what = f"{_name(stated)}: fall from {named[0]} to {named[1]} minus fall from {other[0]} to {other[1]}"
        parts.append(_test_part(what, "above", sides))
    return parts


KINDS = {"comparisons": comparisons, "early_epochs": early_epochs, "largest_step": largest_step}
BOTH = "comparisons_of_both"
WER = "points of WER"


def _judge_one(claim: dict, scale: str, results: Path, gathered: dict[str, list[Row]]) -> tuple[str, str, list[dict]]:
    rule = claim["rule"]
    if (
        choose(
            f"kind of rule of {claim['id']}",
            rule["kind"],
            [*KINDS, BOTH, *memory_claims.KINDS, *text_claims.KINDS, *talk_claims.KINDS, "not_testable"],
        )
        == "not_testable"
    ):
        return "not testable", f"no table yet: {rule['until']}", []
    if rule["kind"] in memory_claims.KINDS:
        return memory_claims.judge(rule, results)
    if SCALES.index(scale) < SCALES.index(claim["scale"]):
        return "not testable", f"scale {scale} cannot decide it: it needs {claim['scale']}", []
    if rule["kind"] in text_claims.KINDS:
        return text_claims.judge(rule, scale, results)
    if rule["kind"] in talk_claims.KINDS:
        return talk_claims.judge(rule, scale, results)
    if rule["kind"] == BOTH:
        return _judge_both(claim, scale, results, gathered)
    table = rule["table"]
    found = _gathered(table, scale, results, gathered)
    if not any(row.found for row in found):
        return "not testable", f"no record of {table} at scale {scale} yet", []
    find = partial(_find, found, f"rule of {claim['id']}", table)
    make_parts = KINDS[rule["kind"]]
    deciding = make_parts(rule, rule["deciding"], find)
    verdict, reason, _ = decide(deciding, rule["equivalent_within_points"])
    shown = family_evidence(deciding, True, results, [WER] * len(deciding))
    also = make_parts(rule, rule["also"], partial(find, must_be_planned=False)) if "also" in rule else []
    shown += family_evidence(also, False, results, [WER] * len(also))
    caveats = {row.cell["size"]: tables.caveat(row, scale, results) for part in deciding for row in part.rows if row.measured}
    if doubtful := sorted(size for size, caveat in caveats.items() if caveat):
        return "inconclusive", f"{reason}; but the apparatus is not calibrated for {', '.join(doubtful)}", shown
    return verdict, reason, shown


def _judge_both(claim: dict, scale: str, results: Path, gathered: dict[str, list[Row]]) -> tuple[str, str, list[dict]]:
    """`comparisons` of what the rule says for `speech`, and then those for `text`, as one list of parts."""
    rule = claim["rule"]
    text_rows = [row for table in rule["deciding"]["text"]["tables"] for row in text_tables.gather(table, scale, results)]

    def parts(sides: dict, must_be_planned: bool) -> list[tuple[Part, str]]:
        speech, text = sides["speech"], sides["text"]
        rows = _gathered(speech["table"], scale, results, gathered)
        find = partial(_find, rows, f"rule of {claim['id']}", speech["table"], must_be_planned=must_be_planned)
        heard = [(part, WER) for part in comparisons(speech, speech["pairs"], find)]
        return heard + [(part, text_claims.UNIT) for part in text_claims.comparisons(text, text["pairs"], text_rows, scale)]

    planned = scale == "mini"  # the grids of scale paper have not all of it: there it shows as missing
    deciding, beside = parts(rule["deciding"], planned), parts(rule["also"], must_be_planned=False)
    if not any(part.difference for part, _ in deciding):
        return "not testable", f"nothing that it compares is measured at scale {scale} yet", []
    verdict, reason, _ = decide([part for part, _ in deciding], rule["equivalent_within_points"])
    shown = []
    for family, decides in ((deciding, True), (beside, False)):
        if family:
            parts, of = zip(*family, strict=True)
            shown += family_evidence(parts, decides, results, of)
    return verdict, reason, shown


def _gathered(table: str, scale: str, results: Path, known: dict[str, list[Row]]) -> list[Row]:
    """The rows of a table of error rates; `known` keeps them for the next claim."""
    if table not in known:
        known[table] = tables.gather(table, scale, results)
    return known[table]


def _find(rows: list[Row], asked_by: str, table: str, size: str, configuration: dict, must_be_planned: bool = True) -> Row:
    wanted = {"size": size, "rate": None, **configuration}
    for row in rows:
        if row.planned_seeds and all(row.cell[key] == value for key, value in wanted.items()):
            return row
    if must_be_planned:
        raise InputError(f"{asked_by}: {wanted} is not in the grid of {table}")
    return Row(wanted, (), ())  # evidence beside the verdict may wait for a larger grid: it shows as missing


def _part(size: str, pair: dict, find: FindRow) -> Part:
    sides = [(1, find(size, pair["a"])), (-1, find(size, pair["b"]))]
    return _test_part(f"{size}: {_name(pair['a'])} minus {_name(pair['b'])}", pair["expect"], sides)


def _test_part(what: str, expect: str, sides: list[tuple[float, Row]]) -> Part:
    choose("expectation of a rule", expect, EXPECTATIONS)
    rows = tuple(row for _, row in sides)
    return Part(what, expect, tables.contrast(sides) if all(row.complete for row in rows) else None, rows)


def _change_part(what: str, expect: str, sides: list[tuple[float, Row]], epochs: list[int]) -> Part:
    rows = tuple(row for _, row in sides)
    if not all(row.complete and tables.has_samples(row, "dev", [0, *epochs]) for row in rows):
        return Part(what, expect, None, rows)
    _, words = tables.check_comparable(rows, "dev", [0, *epochs])
    clusters = tables.units_of(rows[0].measured, "dev").clusters
    return Part(what, expect, stats.contrast([(weight, _early_change(row, epochs)) for weight, row in sides], words, clusters), rows)


def _early_change(row: Row, epochs: list[int]) -> np.ndarray:
    """[seeds, items]: mean dev errors of `epochs` minus those before training, within each seed."""
    return (
        np.mean([tables.pooled_counts(row.measured, "dev", epoch)[1] for epoch in epochs], axis=0) - tables.pooled_counts(row.measured, "dev", 0)[1]
    )


def _name(configuration: dict) -> str:
    """`int8 + adalora at rate 1/40`, `int8 alone`."""
    if configuration["method"] == "none":
        return f"{configuration['precision']} alone"
    return f"{configuration['precision']} + {configuration['method']} at rate {configuration['rate']}"
