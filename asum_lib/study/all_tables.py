"""Every table of the study by its name: its rows, as Markdown, JSON or CSV, and one value of it by a reference.

A row is an object {cell, metric, value, lo, hi, unit, n, seeds, paper, ..., records}, whatever the table; what it measures is for the
module that gathers it. A reference names a table and enough of a cell to leave one row: `whisper_wer size=tiny precision=int8 method=none`.
"""

import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from asum_lib import files
from asum_lib.errors import InputError, choose, shown
from asum_lib.paths import RESULTS
from asum_lib.study.cells import MEMORY, SCALES

FORMATS = ("md", "json", "csv")


def names(scale: str = "mini") -> list[str]:
    """The tables of a scale. That of memory is of the real sizes, so of scale paper, and is the same whichever scale is asked for."""
    from asum_lib.study import corpora_table, learning_rates, tables, talk_cells, text_tables

    grids = tables.GRIDS[choose("scale", scale, SCALES)]
    found = [*grids, corpora_table.TABLE, learning_rates.LEARNING_RATES, *text_tables.table_names(scale), *talk_cells.TABLES, MEMORY]
    planned_at_mini = (learning_rates.LEARNING_RATES, text_tables.RATES_TABLE, *talk_cells.TABLES)
    return [name for name in dict.fromkeys(found) if scale == "mini" or name not in planned_at_mini]


def kept(scale: str, results: Path = RESULTS) -> list[str]:
    """The tables of a scale that have records of their own: the study's, memory's at either scale, then whatever else has a folder."""
    from asum_lib.study import text_tables

    folders = sorted(path.name for path in (Path(results) / scale).glob("[!.]*") if path.is_dir())
    return list(dict.fromkeys([*(name for name in names(scale) if name != text_tables.RANKS_TABLE), *folders]))


def folder(name: str, scale: str, results: Path = RESULTS) -> Path:
    """Where the records of a table lie: those of memory are of the real sizes, whichever scale is asked for."""
    return Path(results) / ("paper" if name == MEMORY else scale) / name


def planned(name: str, scale: str, results: Path = RESULTS) -> set[Path]:
    """The paths of the planned records of a table; nothing where it has no grid. Memory of a GPU is not asked for: not every study has one."""
    from asum_lib.corpora import texts
    from asum_lib.study import corpora_table, learning_rates, memory_table, tables, talk_cells, text_tables

    splits = [corpora_table.Cell(corpora_table.TABLE, scale, corpus, split, None) for corpus in texts.NAMES for split in texts.SPLITS]
    grids = {
        MEMORY: memory_table.planned,
        corpora_table.TABLE: lambda: splits if scale == "mini" else [],
        learning_rates.LEARNING_RATES: lambda: learning_rates.planned_rates() if scale == "mini" else [],
    }
    grids |= {table: partial(talk_cells.planned_talks, table) for table in talk_cells.TABLES if scale == "mini"}
    grids |= {table: partial(tables.planned, table, scale) for table in tables.GRIDS[scale]}
    ranks = text_tables.RANKS_TABLE
    grids |= {table: partial(text_tables.planned_text, table, scale) for table in text_tables.table_names(scale) if table != ranks}
    return {cell.path(Path(results)) for cell in grids[name]()} if name in grids else set()


def rows(name: str, scale: str | None = None, results: Path = RESULTS) -> list[dict]:
    """The rows of a table, then its chance lines; raises `InputError` for a table or scale that there is not."""
    from asum_lib.study import chance

    own = own_tables(results, scale or "mini")
    if scale is None and name not in [*names(), *own] and name in own_tables(results, "paper"):
        raise InputError(f"table {shown(name)} has records at scale paper alone: add --scale paper")
    if name not in (known := [*names(scale or "mini"), *own]):
        elsewhere = "; of a run with a results_dir of its own, say --results DIR"
        raise InputError(f"unknown table {shown(name)}: choose from {', '.join(known)}{elsewhere}")
    return [*_module(name, scale)[1](results), *chance.rows(name, scale, results)]


def own_tables(results: Path = RESULTS, scale: str = "mini") -> list[str]:
    """The folders of records that are in no grid, such as those of a manifest of one's own: they are tables too."""
    folder = Path(results) / choose("scale", scale, SCALES)
    found = sorted(path.name for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []
    return [name for name in found if name not in names(scale)]


def as_text(name: str, table_rows: Sequence[dict], form: str, scale: str | None = None) -> str:
    """The rows of table `name` in one of `FORMATS`."""
    if choose("format", form, FORMATS) == "md":
        return _module(name, scale)[0].as_markdown(table_rows)
    return as_csv(table_rows) if form == "csv" else as_json(table_rows)


def as_json(value) -> str:
    """Rows, or one object, as JSON; what JSON cannot say (NaN, infinities) is null."""
    return json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(table_rows: Sequence[dict]) -> str:
    """The rows as CSV with a header: first the keys of the cell, then the row's own; lists are joined by spaces, null is empty."""
    flat = [finite(row["cell"]) | {key: value for key, value in finite(row).items() if key != "cell"} for row in table_rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()} for row in flat)
    return out.getvalue()


def export(folder: Path, results: Path = RESULTS, replace: bool = False) -> list[Path]:
    """Write every table as `NAME-SCALE.csv` and `.json`, and the ledger as `claims-SCALE.json`.

    Each file is written whole. Returns their paths; `InputError` where one is there and not to be replaced.
    """
    from asum_lib.study import claims

    folder.mkdir(parents=True, exist_ok=True)
    tables = [(name, scale) for scale in SCALES for name in names(scale) if (name, scale) != (MEMORY, "mini")]
    planned = [f"{name}-{scale}.{form}" for name, scale in tables for form in ("csv", "json")]
    planned += [f"claims-{scale}.json" for scale in SCALES]
    files.refuse_taken([folder / name for name in planned], replace)  # before what takes half a minute
    texts = {}
    for name, scale in tables:
        found = rows(name, scale, results)
        texts |= {f"{name}-{scale}.csv": as_csv(found), f"{name}-{scale}.json": as_json(found)}
    texts |= {f"claims-{scale}.json": as_json(claims.judge(scale, results)) for scale in SCALES}
    for name in planned:
        files.write_whole(folder / name, texts[name].encode(), replace)
    return [folder / name for name in planned]


def find(reference: str, scale: str | None = None, results: Path = RESULTS) -> dict:
    """The one row that a reference leaves; raises `InputError` where it leaves none, or says what tells those apart that it leaves."""
    name, *pairs = reference.split()
    wanted = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"reference {reference!r}: {pair!r} is not NAME=VALUE")
        wanted[key] = value
    found = rows(name, scale, results)
    known = dict.fromkeys(key for row in found for key in (*row["cell"], "metric"))
    for key in wanted:
        choose(f"name in reference {reference!r}", key, known)
    left = [row for row in found if all(_said(row, key) == value for key, value in wanted.items())]
    if not left:
        raise InputError(f"reference {reference!r}: no such cell in the table")
    if len(left) > 1:
        differing = [key for key in known if len({_said(row, key) for row in left}) > 1]
        raise InputError(f"reference {reference!r} leaves {len(left)} cells, told apart by {', '.join(differing)}")
    return left[0]


def _said(row: dict, key: str) -> str:
    value = row["metric"] if key == "metric" else row["cell"].get(key)
    return "none" if value is None else str(value)


def _module(name: str, scale: str | None):
    """(module, its rows as a function of the results' folder) of a table."""
    from asum_lib.study import corpora_table, learning_rates, memory_table, tables, talk_cells, talk_tables, text_tables

    if name == MEMORY:
        memory_table.scale_of(scale)
        return memory_table, memory_table.rows
    scale = choose("scale", scale or "mini", SCALES)
    modules = {corpora_table.TABLE: corpora_table, learning_rates.LEARNING_RATES: learning_rates}
    modules |= dict.fromkeys(text_tables.table_names(scale), text_tables) | dict.fromkeys(talk_cells.TABLES, talk_tables)
    module = modules.get(name, text_tables if name.startswith("rouge_") else tables)
    return module, lambda results: module.rows(name, scale, results)


def finite(value):
    """`value` with None for what JSON cannot say: NaN and the infinities."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    return value
