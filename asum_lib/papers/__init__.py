"""What the papers report, as data: one YAML file a paper, each cell with value, unit, status and source.

Statuses: primary (read on the authors' own page), secondary (read in a summary of the paper), derived (worked out here,
the arithmetic is the source), unverified (remembered only: never shown as fact), unknown (value null).
To fill in an unknown cell, edit its line in the YAML file: value, status and source.
"""

from functools import cache
from pathlib import Path

from asum_lib.errors import InputError, choose, shown

STATUSES = ("primary", "secondary", "derived", "unverified", "unknown")
UNKNOWN_SOURCE = "not in the sources at hand"
CLAIM_KEYS = ("id", "text", "where", "status", "kind", "tables", "scale", "rule_text", "rule")
FORESEEN_KEYS = ("parts", "why")  # of a claim's optional `foreseen`: what of its verdict arithmetic on the designs gives without a run
FORESEEN_PARTS = ("all", "some")


def names() -> list[str]:
    """The papers there are, e.g. `["derkach2024"]`."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


@cache
def load(name: str) -> dict:
    """The paper's file with every cell filled to {cell, value, unit, status, source, note}; raises `InputError` on a faulty one."""
    import yaml

    choose("paper", name, names())
    paper = yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))
    for table_id, table in paper["tables"].items():
        table["cells"] = [_cell(f"{name}.yaml: {table_id}", cell, table.get("unit")) for cell in table["cells"]]
    for claim in paper["claims"]:
        if set(claim) - {"foreseen"} != set(CLAIM_KEYS):
            raise InputError(f"{name}.yaml: claim {claim.get('id')}: keys {sorted(claim)}, expected {sorted(CLAIM_KEYS)}")
        check_foreseen(f"{name}.yaml: claim {claim['id']}", claim)
    return paper


def check_foreseen(where: str, claim: dict) -> None:
    """Refuse a claim whose `foreseen` is not {parts: all or some, why: a text}; without the key nothing was foreseen."""
    if "foreseen" not in claim:
        return
    foreseen = claim["foreseen"]
    if not isinstance(foreseen, dict) or set(foreseen) != set(FORESEEN_KEYS):
        raise InputError(f"{where}: foreseen {shown(foreseen)}: expected {{parts: all or some, why: a text}}")
    choose(f"parts in {where}: foreseen", foreseen["parts"], FORESEEN_PARTS)
    if not isinstance(foreseen["why"], str) or not foreseen["why"].strip():
        raise InputError(f"{where}: foreseen: why {foreseen['why']!r} is no text")


def value(name: str, table: str, **cell) -> dict | None:
    """The paper's entry {value, unit, status, source, ...} for a cell; None where the paper has no such table or cell."""
    cells = load(name)["tables"].get(table, {"cells": []})["cells"]
    return next((entry for entry in cells if entry["cell"] == cell), None)


def _cell(where: str, data: dict, unit: str | None) -> dict:
    about = {"value", "unit", "status", "source", "note"}
    cell = {key: part for key, part in data.items() if key not in about}
    entry = {
        "cell": cell,
        "value": data["value"],
        "unit": data.get("unit", unit),
        "status": data["status"],
        "source": data.get("source"),
        "note": data.get("note"),
    }
    choose(f"status in {where}", entry["status"], STATUSES)
    if (entry["value"] is None) != (entry["status"] == "unknown"):
        raise InputError(f"{where}: {cell}: value {entry['value']!r} with status {entry['status']!r}: null and unknown go together")
    if entry["status"] == "unknown":
        entry["source"] = entry["source"] or UNKNOWN_SOURCE
    if not entry["source"] or not entry["unit"]:
        raise InputError(f"{where}: {cell}: a value needs a unit and a source")
    return entry
