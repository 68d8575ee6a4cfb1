"""What stands beside the tables of WER: what chance reaches, and what is heard that was seen before."""

import html
from collections.abc import Sequence
from pathlib import Path

from asum_lib.paths import RESULTS
from asum_lib.study import chance, tables
from asum_lib.study.cells import SIZES
from asum_lib.study.render import configuration_name

SHOWN = (("fp32", "none", None), ("int8", "none", None), ("int8", "adalora", "1"), ("fp32", "full", "1"))


def chance_lines(table: str, scale: str = "mini", results: Path = RESULTS) -> object:
    """What answers reach that hear nothing: a sentence a line, from the references of the table."""
    from IPython.display import HTML

    lines = [
        f"<li>{chance.ANSWERS[row['cell']['method']]}: {row['value']:.1f} % ({row['lo']:.1f} to {row['hi']:.1f})</li>"
        for row in chance.rows(table, scale, results)
    ]
    if not lines:
        return HTML("<p>No record of the table keeps references, so no chance line can be drawn.</p>")
    said = "WER of answers that hear nothing, computed from the references of the test split:"
    return HTML(f'<p>{said}</p><ul class="asum-findings">{"".join(lines)}</ul>')


def seen_table(table: str = "whisper_wer", scale: str = "mini", results: Path = RESULTS) -> object:
    """WER by size, on the test sentences that stand in the source's training text and on the others."""
    from IPython.display import HTML

    rows = [row for row in tables.rows(table, scale, results) if row["seen_n"]]
    found = {_key(row["cell"]): row for row in rows}
    keys = [key for key in SHOWN if any((size, *key) in found for size in SIZES)]
    if not keys:
        return HTML(f"<p>No record of {html.escape(table)} at scale {html.escape(scale)} yet.</p>")
    names = ("precision", "method", "rate")
    titles = [configuration_name(dict(zip(names, key, strict=True))) for key in keys]
    first = "".join(f'<th colspan="2">{html.escape(title)}</th>' for title in titles)
    second = "<th>seen</th><th>unseen</th>" * len(keys)
    body = "".join(f"<tr><th>{size}</th>{_line(found, size, keys)}</tr>" for size in SIZES)
    seen, unseen = rows[0]["seen_n"], rows[0]["unseen_n"]
    share = f"{100 * seen / (seen + unseen):.0f} %"
    caption = (
        f"WER in per cent with 95 % interval, on the {seen} test utterances ({share}) whose sentence stands "
        f"word for word in the source's training text, and on the {unseen} others."
    )
    head = f'<tr><th rowspan="2">size</th>{first}</tr><tr>{second}</tr>'
    table_text = f'<table class="table asum-main"><caption>{caption}</caption>{head}{body}</table>'
    return HTML(f'<div class="asum-scroll" tabindex="0">{table_text}</div>')


def seen_summaries(corpus: str) -> object:
    """How many test summaries of a corpus of talks stand word for word in its training text, in a sentence."""
    from IPython.display import HTML

    from asum_lib.corpora import seen

    number, of = seen.seen_summaries(corpus)
    said = f"{number} of the {of} test summaries ({100 * number / of:.0f} %) stand word for word in a training split"
    return HTML(f"<p>{said}: with so few tasks and steps they are not new sentences, only new talks.</p>")


def _key(cell: dict) -> tuple:
    return tuple(cell[name] for name in ("size", "precision", "method", "rate"))


def _line(found: dict, size: str, keys: Sequence[tuple]) -> str:
    cells = []
    for key in keys:
        row = found.get((size, *key))
        for name in ("seen", "unseen"):
            values = row and [row[f"{name}_{what}"] for what in ("value", "lo", "hi")]
            shown = "" if not row else "{:.1f}<br><small>{:.1f} to {:.1f}</small>".format(*values)
            cells.append(f"<td>{shown}</td>")
    return "".join(cells)
