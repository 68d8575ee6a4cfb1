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

`where`, `status`, `kind`, `tables` and `scale` may be left out. What the kinds of rules mean is at the top of `claims`,
`text_claims` and `memory_claims`; the book's page on adding a claim says it with examples.
"""

from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.measure import rouge
from asum_lib.study import text_cells
from asum_lib.study.cells import METHODS, PRECISIONS, RATES, SCALES, SIZES
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
        raise InputError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not isinstance(data.get("claims"), list) or not data["claims"]:
        raise InputError(f"{path}: expected a key `claims` with a list of claims")
    claims = [_claim(f"{path.name}: claim {number}", claim) for number, claim in enumerate(data["claims"], start=1)]
    twice = {claim["id"] for claim in claims if [other["id"] for other in claims].count(claim["id"]) > 1}
    if twice:
        raise InputError(f"{path.name}: id {', '.join(sorted(twice))} occurs twice")
    return claims


def _claim(where: str, data) -> dict:
    _mapping(where, data)
    where = f"{where} ({data['id']})" if "id" in data else where
    _keys(where, data, REQUIRED, [*DEFAULTS, "tables"])
    for key in ("id", "text", "rule_text"):
        if not isinstance(data[key], str) or not data[key].strip():
            raise InputError(f"{where}: {key} {data[key]!r} is no text")
    claim = DEFAULTS | data
    choose(f"scale in {where}", claim["scale"], SCALES)
    rule = _rule(f"{where}: rule", data["rule"])
    return claim | {"rule": rule, "tables": claim.get("tables", rule.get("tables", [rule.get("table")]))}


def _rule(where: str, rule) -> dict:
    _mapping(where, rule)
    kind = choose(f"kind of {where}", rule.get("kind"), RULES)
    required, optional = RULES[kind]
    _keys(where, rule, ("kind", *required), optional)
    rule = {"equivalent_within_points": EQUIVALENT_WITHIN_POINTS, **rule}
    if kind == "rouge_comparisons" or kind == "rouge_ranks":
        rule = {"also": [], **rule}
        tables = list(text_cells.TABLE_OF["mini"].values())
        _all(f"table in {where}", rule["tables"], tables)
        _all(f"corpus in {where}", rule.get("corpora", []), text_cells.TABLE_OF["mini"] | text_cells.TABLE_OF["paper"])
        _all(f"model in {where}", rule.get("models", []), text_cells.MODELS)
        metrics = rule["metrics"] if kind == "rouge_comparisons" else [*rule["deciding"], *rule["also"]]
        _all(f"metric in {where}", metrics, rouge.TYPES)
    else:
        _all(f"size in {where}", rule["sizes"], SIZES)
    if kind in ("comparisons", "rouge_comparisons"):
        allowed = SPEECH_CELL if kind == "comparisons" else TEXT_CELL
        for part in ("deciding", "also"):
            for number, pair in enumerate(rule.get(part) or [], start=1):
                _pair(f"{where}: {part} {number}", pair, allowed)
    elif kind == "rouge_ranks":
        _all(f"method in {where}", rule["methods"], text_cells.ADAPTERS)
        _all(f"rank in {where}", [*rule["useful"], *rule["lower"], *rule["past"]], text_cells.RANKS)
    elif kind == "largest_step":
        _all(f"step in {where}", rule["step"], rule["sizes"])
        _cell(f"{where}: deciding", rule["deciding"], SPEECH_CELL)
    else:
        for side in ("with", "without"):
            _keys(f"{where}: deciding", _mapping(f"{where}: deciding", rule["deciding"]), ("with", "without"), ())
            cells = rule["deciding"][side]
            for cell in cells if isinstance(cells, list) else [cells]:
                _cell(f"{where}: deciding: {side}", cell, SPEECH_CELL)
    return rule


def _pair(where: str, pair, allowed: dict) -> None:
    _keys(where, _mapping(where, pair), ("a", "expect", "b"), ())
    choose(f"expectation in {where}", pair["expect"], EXPECTATIONS)
    for side in ("a", "b"):
        _cell(f"{where}: {side}", pair[side], allowed)


def _cell(where: str, cell, allowed: dict) -> None:
    needed = ("precision", "method") if "rate" in allowed else ("method",)
    _keys(where, _mapping(where, cell), needed, [key for key in allowed if key not in needed])
    for key, value in cell.items():
        _all(f"{key} in {where}", [value], allowed[key])
    if "rate" in allowed and (cell["method"] == "none") == ("rate" in cell):
        raise InputError(
            f"{where}: {'method none trains nothing: leave the rate out' if 'rate' in cell else 'a rate is missing: ' + ', '.join(RATES)}"
        )


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
