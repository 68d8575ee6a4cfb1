"""What ran, when, on what, and by which code: every table that has records or should have, at both scales. Measures nothing."""

import html
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study import all_tables, measuring_code, placing, records, verified
from asum_lib.study.cells import MEMORY
from asum_lib.study.remeasure import kind_of
from asum_lib.study.rescoring import cells_of

Entry = tuple[Path, records.Record]


def status(scale: str = "mini", results: Path = RESULTS) -> object:
    """For each table with records or planned ones: how many there are, time, hardware, versions, and the code that measured them.

    The table of memory, which is of the real sizes, is shown at scale paper. A table of which nothing is measured is named below.
    """
    from IPython.display import HTML

    sections, empty, strays, total, checked = [], [], [], 0, _verification(Path(results))
    for name in all_tables.kept(scale, results):
        if name == MEMORY and scale == "mini":
            continue
        there = [(path, records.read(path)) for path in placing.paths(all_tables.folder(name, scale, results))]
        found, left_out = placing.sort(there, results, *cells_of(name))
        planned = all_tables.planned(name, scale, results)
        strays += [f"{name}: {path.name} is left out: {reason}" for path, reason in left_out]
        if found:
            total += len(found)
            sections.append(_section(name, found, planned, Path(results), checked))
        elif planned:
            empty.append(f"{name} ({len(planned)} planned)")
    missing = f" Nothing is measured yet of {html.escape(', '.join(empty))}." if empty else ""
    left_out = f"<ul>{''.join(f'<li>{html.escape(stray)}</li>' for stray in strays)}</ul>" if strays else ""
    return HTML(f"<p>{total} records in {len(sections)} tables.{missing}</p>{left_out}{''.join(sections)}")


def by_code(found: list[Entry]) -> dict[str, list[Entry]]:
    """Records by the code that they were measured with: `same` as today's, `other`, or `unknown`; see `measuring_code.changes`."""
    groups = {"same": [], "other": [], "unknown": []}
    for path, record in found:
        changed = measuring_code.changes(kind_of(record).module, record.provenance)
        groups["unknown" if changed is None else "other" if changed else "same"].append((path, record))
    return groups


def _section(name: str, found: list[Entry], planned: set[Path], results: Path, checked) -> str:
    provenances = [record.provenance for _, record in found]

    def each(key):
        return html.escape(", ".join(sorted({str(provenance[key] or "none") for provenance in provenances})))

    days = sorted(provenance["finished_at"][:10] for provenance in provenances if provenance["finished_at"])
    versions = {", ".join(f"{name} {version}" for name, version in (provenance["packages"] or {}).items() if version) for provenance in provenances}
    beside = len({path for path, _ in found} - planned)
    count = f"{len(found) - beside} of {len(planned)} planned" + (f", {beside} beside the plan" if beside else "")
    lines = {
        "records": f"{count}; {sum(record.status != 'ok' for _, record in found)} not ok",
        "measuring took": f"{sum(map(_minutes, provenances)):.0f} min in all, with {each('threads')} thread a cell",
        "finished": " to ".join(dict.fromkeys((*days[:1], *days[-1:]))) or "unknown",
        "measuring code": _code(found, results),
        "verified": _verified(name, kind_of(found[0][1]).module, checked),
        "processor": each("cpu"),
        "accelerator": each("accelerator"),
        "Python": each("python"),
        "libraries": html.escape("; ".join(sorted(versions))),
    }
    body = "".join(f'<tr><th>{key}</th><td class="text">{value}</td></tr>' for key, value in lines.items())
    return f'<h3>{html.escape(name)}</h3><div class="asum-scroll" tabindex="0"><table class="table">{body}</table></div>'


def _code(found: list[Entry], results: Path) -> str:
    """How many records were measured by the code of today, and of the others which definitions are others now and which records they are."""
    groups = by_code(found)
    parts = []
    if groups["same"]:
        parts.append(f"{len(groups['same'])} by the code of today")
    if other := groups["other"]:
        counted = Counter(name for _, record in other for name in measuring_code.changes(kind_of(record).module, record.provenance))
        files = Counter(name.partition(": ")[0] for name in counted)
        changed = "; ".join(
            f"{file} ({', '.join(sorted(n.partition(': ')[2] or 'data' for n in counted if n.partition(': ')[0] == file))})" for file in files
        )
        parts.append(f"{len(other)} by other code {_details('what changed since', html.escape(changed))} {_details('which', _links(other, results))}")
    if unknown := groups["unknown"]:
        parts.append(f"{len(unknown)} unknown {_details('which', _links(unknown, results))}")
    return "; ".join(parts)


def _verification(results: Path) -> verified.Verification | None:
    """The last verification; None where there is none that this code reads, which the page on it says more of."""
    try:
        return verified.read(results)
    except InputError:
        return None


def _verified(name: str, module: str, checked: verified.Verification | None) -> str:
    """What the last verification found of a table, and whether that was by the code of today."""
    if checked is None or name not in checked.covered:
        return "not in the last verification"
    known = checked.covered[name]
    verdicts = Counter(cell.verdict for cell in checked.cells if cell.table == name)
    again = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items()) or "none"
    code = "the code of today" if known.code_digest == measuring_code.digest(module) else "other code"
    return f"{checked.rescored.get(name, 0)} scored again, measured again {again}; by {code}"


def _details(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>{text}</details>"


def _links(found: list[Entry], results: Path) -> str:
    from asum_lib.study.render import _link

    return ", ".join(_link(os.path.relpath(path, results.parent), path.stem) for path, _ in found)


def _minutes(provenance: dict) -> float:
    if not provenance["started_at"] or not provenance["finished_at"]:
        return 0.0
    return (datetime.fromisoformat(provenance["finished_at"]) - datetime.fromisoformat(provenance["started_at"])).total_seconds() / 60
