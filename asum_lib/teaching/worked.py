"""Worked examples on a page: a value by hand held against the library's, and tables with marked cells. Knows no measure."""

import html
import importlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral

from asum_lib.errors import InputError

MARK = "background: #0072b233; font-weight: bold; outline: 2px solid #0072b2"


def agree(lines: Mapping[str, tuple[float | None, float | None]], decimals: int = 1) -> object:
    """{what: (by hand, by the library)} as a table; `InputError` where the two differ by more than rounding to `decimals`.

    None stands for a value that does not exist, and agrees with None alone. Two whole numbers are shown without decimals.
    """
    for what, (by_hand, computed) in lines.items():
        same = by_hand is computed if None in (by_hand, computed) else abs(by_hand - computed) <= 0.5 * 10**-decimals + 1e-12
        if not same:
            raise InputError(f"{what}: {by_hand} by hand, {computed} by the library")
    digits = {what: 0 if all(isinstance(value, Integral) for value in pair) else decimals for what, pair in lines.items()}
    shown = [[what, *("none" if value is None else f"{value:,.{digits[what]}f}" for value in pair)] for what, pair in lines.items()]
    return table(("", "by hand", "by the library"), shown)


def check(statements: Mapping[str, bool]) -> None:
    """{what a page says of measured data: whether it holds}; raises `InputError` naming the first that does not."""
    for statement, holds in statements.items():
        if not holds:
            raise InputError(f"the page says that {statement}, and it does not hold")


def quiet() -> None:
    """Keeps off a page what tqdm says, once, when transformers imports it: that a notebook's widget is missing, which nothing here uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("tqdm.auto")


def table(titles: Sequence[str], lines: Sequence[Sequence], caption: str = "") -> object:
    """Rows under titles as HTML, the first field of each a heading; every field is text."""
    from IPython.display import HTML

    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(first))}</th>' + "".join(f"<td>{html.escape(str(field))}</td>" for field in rest) + "</tr>"
        for first, *rest in lines
    )
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table">{said}<tr>{head}</tr>{body}</table></div>')


def grid(rows: Sequence[str], columns: Sequence[str], values, marked: Collection[tuple[int, int]] = (), caption: str = "") -> object:
    """A matrix with a word at each row and column, such as a table of costs; the `marked` (row, column) are framed and bold.

    `values` has shape (rows, columns). Raises `InputError` where the words do not fit it.
    """
    from IPython.display import HTML

    if len(values) != len(rows) or any(len(line) != len(columns) for line in values):
        raise InputError(f"{len(rows)} row and {len(columns)} column words do not fit values of {len(values)} rows")
    head = "<td></td>" + "".join(f'<th scope="col">{html.escape(word)}</th>' for word in columns)
    body = ""
    for i, (word, line) in enumerate(zip(rows, values, strict=True)):
        cells = (f'<td style="{MARK}">{value}</td>' if (i, j) in marked else f"<td>{value}</td>" for j, value in enumerate(line))
        body += f'<tr><th scope="row">{html.escape(word)}</th>{"".join(cells)}</tr>'
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return HTML(
        f'<div class="asum-scroll" tabindex="0"><table class="table" style="width: auto; text-align: center">'
        f"{said}<tr>{head}</tr>{body}</table></div>"
    )
