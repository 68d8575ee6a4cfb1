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

from asum_lib import papers
from asum_lib.errors import InputError, choose
from asum_lib.measure import rouge
from asum_lib.study import tables, text_cells, text_tables
from asum_lib.study.cells import METHODS, PRECISIONS, RATES, SCALES
from asum_lib.study.verdicts import EXPECTATIONS

REQUIRED = ("id", "text", "rule_text", "rule")
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
EQUIVALENT_WITHIN_POINTS = 0.5


def load(path) -> list[dict]:
    """The claims of a file, filled with the defaults; raises `InputError` naming file, claim, key and what would be right."""
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    where = f"{where} ({data['id']})" if "id" in data else where
    _keys(where, data, REQUIRED, [*DEFAULTS, "tables", "foreseen"])
    papers.check_foreseen(where, data)
    for key in ("id", "text", "rule_text"):
        if not isinstance(data[key], str) or not data[key].strip():
            raise InputError(f"{where}: {key} {data[key]!r} is no text")
    claim = DEFAULTS | data
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
        if key in rule and (isinstance(rule[key], bool) or not isinstance(rule[key], int | float) or not rule[key] > 0):
            raise InputError(f"{where}: {key} {rule[key]!r} is not a number above 0")
    rule = {"equivalent_within_points": EQUIVALENT_WITHIN_POINTS, **rule}
    if kind == "rouge_comparisons" or kind == "rouge_ranks":
        rule = {"also": [], **rule}
        _all(f"table in {where}", rule["tables"], text_cells.TABLE_OF["mini"].values())
        _all(f"corpus in {where}", rule.get("corpora", []), text_cells.TABLE_OF["mini"] | text_cells.TABLE_OF["paper"])
        _all(f"model in {where}", rule.get("models", []), text_cells.MODELS)
        metrics = rule["metrics"] if kind == "rouge_comparisons" else [*rule["deciding"], *rule["also"]]
        _all(f"metric in {where}", metrics, rouge.TYPES)
        _tables_of_corpora(where, rule, scale)
        planned = None  # a text cell that is in no grid is judged as soon as it is measured
    else:
        grid = tables.GRIDS[scale][choose(f"table in {where}", rule["table"], tables.GRIDS[scale])]
        _all(f"size in {where}", rule["sizes"], grid["sizes"])
        planned = rule["table"], {(precision, method, None if method == "none" else rate) for precision, method, rate in grid["configurations"]}
    if kind in ("comparisons", "rouge_comparisons"):
        allowed = SPEECH_CELL if kind == "comparisons" else TEXT_CELL
        for part in ("deciding", "also"):
            pairs = rule.get(part) or []
            if not isinstance(pairs, list) or (part == "deciding" and not pairs):
                raise InputError(f"{where}: {part} is not a list of comparisons: each is a line of its own that begins with - {{a: ...")
            for number, pair in enumerate(pairs, start=1):
                _pair(f"{where}: {part} {number}", pair, allowed, planned if part == "deciding" else None)
                if pair["expect"] == "within" and "within_points" not in rule:
                    raise InputError(f"{where}: {part} {number}: expect within needs within_points, a key of the rule")
    elif kind == "rouge_ranks":
        _all(f"method in {where}", rule["methods"], text_cells.ADAPTERS)
        _all(f"rank in {where}", [*rule["useful"], *rule["lower"], *rule["past"]], text_cells.RANKS)
    elif kind == "largest_step":
        _all(f"step in {where}", rule["step"], rule["sizes"])
        _cell(f"{where}: deciding", rule["deciding"], SPEECH_CELL, planned)
    else:
        for side in ("with", "without"):
            _keys(f"{where}: deciding", _mapping(f"{where}: deciding", rule["deciding"]), ("with", "without"), ())
            cells = rule["deciding"][side]
            for cell in cells if isinstance(cells, list) else [cells]:
                _cell(f"{where}: deciding: {side}", cell, SPEECH_CELL, planned)
    return rule


def _tables_of_corpora(where: str, rule: dict, scale: str) -> None:
    """Refuses a rule that is asked of a corpus whose table it does not read, and so could never be decided."""
    for corpus, model in text_tables.combinations(scale):
        table = text_cells.TABLE_OF[scale][corpus]
        if table not in rule["tables"] and corpus in rule.get("corpora", [corpus]) and model in rule.get("models", [model]):
            own = ", ".join(name for name, of in text_cells.TABLE_OF[scale].items() if of in rule["tables"])
            raise InputError(f"{where}: it is asked of {model} on {corpus} too, which is in table {table}: add that table, or write corpora: [{own}]")


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
    if isinstance(cell.get("rate"), int):
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
        raise InputError(f"{where}: {data!r} is not a mapping of keys to values")
    return data


def _keys(where: str, data: dict, required, optional) -> None:
    missing = [key for key in required if key not in data]
    unknown = [str(key) for key in data if key not in (*required, *optional)]
    if missing or unknown:
        said = f"missing {', '.join(missing)}" if missing else f"unknown key {', '.join(unknown)}"
        raise InputError(f"{where}: {said}; keys are {', '.join(required)}{' and, optional, ' + ', '.join(optional) if optional else ''}")


def _all(what: str, values, choices) -> None:
    if not isinstance(values, list) or any(isinstance(value, (list, dict)) for value in values):
        raise InputError(f"{what}: {values!r} is not a list of {', '.join(map(str, choices))}")
    for value in values:
        if value not in list(choices):
            raise InputError(f"unknown {what}: {value!r}: choose from {', '.join(map(str, choices))}")
