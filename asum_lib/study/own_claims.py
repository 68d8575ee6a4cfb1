"""Claims of one's own: a YAML file beside the papers' ledgers, checked so that a mistake in it is one clear line.

    claims:
      - id: R1
        text: NF4 loses less than FP4.
        rule_text: At every size, nothing trained, WER of int4 (NF4) is below that of fp4.
        rule:
          kind: comparisons
          table: whisper_wer
          sizes: [tiny, base]
          equivalent_within_points: 0.5
          deciding:
            - {a: {precision: int4, method: none}, expect: below, b: {precision: fp4, method: none}}

`where`, `status`, `kind`, `tables`, `scale` and `foreseen` may be left out. What the kinds of rules mean is at the top of `claims`,
`text_claims` and `memory_claims`; the book's page on adding a claim says it with examples.
"""

from pathlib import Path

from asum_lib import papers, reading
from asum_lib.errors import InputError, choose, shown
from asum_lib.measure import rouge
from asum_lib.study import tables, text_cells, text_tables
from asum_lib.study.cells import EPOCHS, METHODS, PRECISIONS, RATES, SCALES
from asum_lib.study.verdicts import EXPECTATIONS

REQUIRED = ("id", "text", "rule_text", "rule")
TEXTS = {"id", "text", "rule_text", "where", "status", "kind"}
DEFAULTS = {"where": "one's own", "status": "own", "kind": "ordering", "scale": "mini"}
SPEECH_CELL = {"precision": PRECISIONS, "method": METHODS, "rate": RATES}
TEXT_CELL = {
    "precision": PRECISIONS,
    "method": text_cells.METHODS,
    "rank": text_cells.RANKS,
    "targets": text_cells.TARGETS,
}
RULES = {  # kind: keys that it must have, keys that it may have
    "comparisons": (("table", "sizes", "deciding"), ("equivalent_within_points", "also")),
    "largest_step": (("table", "sizes", "step", "deciding"), ("equivalent_within_points", "also")),
    "early_epochs": (("table", "sizes", "epochs", "deciding"), ("equivalent_within_points", "also")),
    "rouge_comparisons": (
        ("tables", "metrics", "deciding"),
        ("equivalent_within_points", "also", "within_points", "corpora", "models"),
    ),
    "rouge_ranks": (
        ("tables", "methods", "useful", "lower", "past", "deciding"),
        ("equivalent_within_points", "also", "corpora", "models"),
    ),
}
LISTS = {  # key of a rule: what one entry of its list is, which there are, how many it takes at least
    "tables": ("table", text_cells.TABLE_OF["mini"].values(), 1),
    "corpora": ("corpus", text_cells.TABLE_OF["mini"] | text_cells.TABLE_OF["paper"], 1),
    "models": ("model", text_cells.MODELS, 1),
    "metrics": ("metric", rouge.TYPES, 1),
    "methods": ("method", text_cells.ADAPTERS, 1),
    "useful": ("rank", text_cells.RANKS, 1),
    "lower": ("rank", text_cells.RANKS, 1),
    "past": ("rank", text_cells.RANKS, 0),
    "epochs": ("epoch", range(1, EPOCHS + 1), 1),
}
EQUIVALENT_WITHIN_POINTS = 0.5


def load(path) -> list[dict]:
    """The claims of a file, filled with the defaults; raises `InputError` naming file, claim, key and what would be right."""
    import yaml

    path = Path(path)
    try:
        data = reading.read_yaml(path)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {_no_yaml(error)}") from None
    if not isinstance(data, dict) or not isinstance(data.get("claims"), list) or not data["claims"]:
        raise InputError(f"{path}: expected a key `claims` with a list of claims")
    claims = [_claim(f"{path.name}: claim {number}", claim) for number, claim in enumerate(data["claims"], start=1)]
    twice = {claim["id"] for claim in claims if [other["id"] for other in claims].count(claim["id"]) > 1}
    if twice:
        raise InputError(f"{path.name}: id {', '.join(sorted(twice))} occurs twice")
    return claims


def _no_yaml(error: Exception) -> str:
    """Where a file stops being YAML, and what is behind that most of the time."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or not mark:
        return f"no YAML: {' '.join(str(error).split())}"
    usual = "keys of one block begin in one column, and every bracket is closed"
    if "\\t" in problem:
        usual = "indent with spaces, not tabs"
    elif problem.startswith("mapping values"):
        usual = "a text with a colon stands in quotes; keys of one block begin in one column"
    return f"no YAML at line {mark.line + 1}, column {mark.column + 1}, or just above: {problem} ({usual})"


def _claim(where: str, data) -> dict:
    _mapping(where, data)
    where = f"{where} ({data['id']})" if isinstance(data.get("id"), str) and len(data["id"]) <= 40 else where
    _keys(where, data, REQUIRED, [*DEFAULTS, "tables", "foreseen"])
    papers.check_foreseen(where, data)
    claim = DEFAULTS | data
    for key in TEXTS & claim.keys():
        if not isinstance(claim[key], str) or not claim[key].strip():
            raise InputError(f"{where}: {key} {shown(claim[key])} is no text")
    for name in _items(f"{where}: tables", claim.get("tables", []), "names of tables"):
        if not isinstance(name, str):
            raise InputError(f"{where}: tables: {shown(name)} is no text")
    choose(f"scale in {where}", claim["scale"], SCALES)
    rule = _rule(f"{where}: rule", data["rule"], claim["scale"])
    return claim | {"rule": rule, "tables": claim.get("tables", rule.get("tables", [rule.get("table")]))}


def _rule(where: str, rule, scale: str) -> dict:
    _mapping(where, rule)
    if "kind" not in rule:
        raise InputError(f"{where}: missing kind: choose from {', '.join(RULES)}")
    kind = choose(f"kind of {where}", rule["kind"], RULES)
    required, optional = RULES[kind]
    _keys(where, rule, ("kind", *required), optional)
    for key in ("equivalent_within_points", "within_points"):
        value = rule.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
            raise InputError(f"{where}: {key} {shown(value)} is not a number above 0, and at most 100")
    rule = {"equivalent_within_points": EQUIVALENT_WITHIN_POINTS, **rule}
    lists = dict(LISTS)
    if kind == "rouge_comparisons" or kind == "rouge_ranks":
        rule = {"also": [], **rule}
        if kind == "rouge_ranks":
            lists |= {"deciding": ("metric", rouge.TYPES, 1), "also": ("metric", rouge.TYPES, 0)}
    else:
        grid = tables.GRIDS[scale][choose(f"table in {where}", rule["table"], tables.GRIDS[scale])]
        lists["sizes"] = ("size", grid["sizes"], 1)
    for key, (one, choices, least) in lists.items():
        if key in rule:
            _all(f"{one} in {where}", rule[key], choices, least)
    planned = None  # a text cell that is in no grid is judged as soon as it is measured
    if kind == "rouge_comparisons" or kind == "rouge_ranks":
        _tables_of_corpora(where, rule, scale)
    else:
        planned = rule["table"], {(precision, method, None if method == "none" else rate) for precision, method, rate in grid["configurations"]}
    if kind in ("comparisons", "rouge_comparisons"):
        allowed = SPEECH_CELL if kind == "comparisons" else TEXT_CELL
        for part in ("deciding", "also"):
            pairs = rule.get(part, [])
            if not isinstance(pairs, list) or (part == "deciding" and not pairs):
                raise InputError(f"{where}: {part} is not a list of comparisons: each is a line of its own that begins with - {{a: ...")
            for number, pair in enumerate(pairs, start=1):
                _pair(f"{where}: {part} {number}", pair, allowed, planned if part == "deciding" else None)
                if pair["expect"] == "within" and "within_points" not in rule:
                    raise InputError(f"{where}: {part} {number}: expect within needs within_points, a key of the rule")
    elif kind == "largest_step":
        steps = [list(step) for step in zip(rule["sizes"], rule["sizes"][1:], strict=False)]
        if len(steps) < 2 or rule["step"] not in steps:
            raise InputError(
                f"{where}: step {shown(rule['step'])} is not one of two or more steps between neighbouring sizes: "
                f"{' and '.join(map(str, steps)) or 'there is only one size'}"
            )
        for part in [key for key in ("deciding", "also") if key in rule]:
            _cell(f"{where}: {part}", rule[part], SPEECH_CELL, planned)
    elif kind == "early_epochs":
        for part in [key for key in ("deciding", "also") if key in rule]:
            _keys(f"{where}: {part}", _mapping(f"{where}: {part}", rule[part]), ("with", "without"), ())
            _cell(f"{where}: {part}: with", rule[part]["with"], SPEECH_CELL, planned)
            for cell in _items(f"{where}: {part}: without", rule[part]["without"], "cells", 1):
                _cell(f"{where}: {part}: without", cell, SPEECH_CELL, planned)
    return rule


def _tables_of_corpora(where: str, rule: dict, scale: str) -> None:
    """Refuses a rule that is asked of a corpus whose table it does not read, and so could never be decided."""
    for corpus, model in text_tables.combinations(scale):
        table = text_cells.TABLE_OF[scale][corpus]
        if table not in rule["tables"] and corpus in rule.get("corpora", [corpus]) and model in rule.get("models", [model]):
            own = ", ".join(name for name, of in text_cells.TABLE_OF[scale].items() if of in rule["tables"])
            raise InputError(f"{where}: it is asked of {model} on {corpus} too, which is in table {table}: add that table, or write corpora: [{own}]")


def _items(where: str, values, many: str, least: int = 0) -> list:
    if not isinstance(values, list) or len(values) < least:
        raise InputError(f"{where}: {shown(values)} is not a list of {many}{' with at least one' if least else ''}")
    return values


def _pair(where: str, pair, allowed: dict, planned: tuple | None) -> None:
    _keys(where, _mapping(where, pair), ("a", "expect", "b"), ())
    choose(f"expectation in {where}", pair["expect"], EXPECTATIONS)
    for side in ("a", "b"):
        _cell(f"{where}: {side}", pair[side], allowed, planned)
    if pair["a"] == pair["b"]:
        raise InputError(f"{where}: a and b are the same")


def _cell(where: str, cell, allowed: dict, planned: tuple | None = None) -> None:
    """`planned`: (table, {(precision, method, rate)}) of the grid that the cell has to be in."""
    needed = ("precision", "method") if "rate" in allowed else ("method",)
    _keys(where, _mapping(where, cell), needed, [key for key in allowed if key not in needed])
    if isinstance(cell.get("rate"), int) and not isinstance(cell["rate"], bool):
        cell["rate"] = str(cell["rate"])  # YAML reads 1 as a number, and 1/40 as a text
    for key, value in cell.items():
        _all(f"{key} in {where}", [value], allowed[key])
    if "rate" in allowed and (cell["method"] == "none") == ("rate" in cell):
        raise InputError(
            f"{where}: {'method none trains nothing: leave the rate out' if 'rate' in cell else 'a rate is missing: ' + ', '.join(RATES)}"
        )
    if planned and (cell["precision"], cell["method"], cell.get("rate")) not in planned[1]:
        raise InputError(f"{where}: table {planned[0]} has no such cell in its grid; `asum table {planned[0]}` lists what it has")


def _mapping(where: str, data) -> dict:
    if not isinstance(data, dict):
        raise InputError(f"{where}: {shown(data)} is not a mapping of keys to values")
    return data


def _keys(where: str, data: dict, required, optional) -> None:
    missing = [key for key in required if key not in data]
    unknown = [key if isinstance(key, str) and len(key) <= 40 else shown(key) for key in data if key not in (*required, *optional)]
    if missing or unknown:
        said = f"missing {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}"
        raise InputError(f"{where}: {said}; keys are {', '.join(required)}{' and, optional, ' + ', '.join(optional) if optional else ''}")


def _all(what: str, values, choices, least: int = 1) -> None:
    """Refuse what is no list of at least `least` of the choices, each at most once and of the same type: 1 and true are not 1.0."""
    allowed, listed = {(type(choice), choice) for choice in choices}, ", ".join(map(str, choices))
    if not isinstance(values, list) or len(values) < least or not all(isinstance(value, str | int | float) for value in values):
        raise InputError(f"{what}: {shown(values)} is not a list of {'one or more of ' if least else ''}{listed}")
    for value in values:
        if (type(value), value) not in allowed:
            raise InputError(f"unknown {what}: {shown(value)}: choose from {listed}")
        if values.count(value) > 1:
            raise InputError(f"{what}: {shown(value)} stands twice")
