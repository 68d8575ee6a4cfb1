"""What the book adds to Sphinx: numbers in prose that come from records, downloads of every table and page, formulas that need no
network, docstrings as they are written.

Roles, for MyST pages:

    {value}`whisper_wer size=tiny precision=int8 method=none`    a measured value with its interval, linked to its record
    {paper}`whisper_wer size=large precision=int8 method=none`   what the paper under study gives for a cell, with how well it is known
    {verdict}`A5` or {verdict}`A5 paper`                         the verdict on a claim, linked to its page
    {download-table}`whisper_wer`                                links to the table as CSV and JSON

A role that names a cell without a value, or a record that is not there, is a warning with its page and line; the book is built
with warnings as errors. Loaded by `_config.yml`; measures nothing.
"""

import html
import re
import shutil
from functools import cache
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.paths import RESULTS

DOWNLOADS = "downloads"  # folder of the built book: tables as CSV and JSON, pages as executed notebooks
PAPER = "derkach2024"
CLAIMS_PAGE = "book/claims"


def setup(app) -> dict:
    """Sphinx's hook."""
    for name, said in {"value": value, "paper": paper, "verdict": verdict, "download-table": download_table}.items():
        app.add_role(name, _role(said))
    app.setup_extension("sphinx.ext.autodoc")
    app.add_html_math_renderer("mathml", inline_renderers=(_inline_math, None), block_renderers=(_display_math, None))
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("html-page-context", _notebook_button, priority=600)  # after the theme has made its menu, at 501
    app.connect("build-finished", _downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def value(reference: str, root: str) -> str:
    """HTML of a measured value: `32.1 % (30.0 to 34.2)`, linked to the first of its records; `root` leads to the book's top."""
    row = _find(reference)
    if row["value"] is None or not row["records"]:
        raise InputError(f"reference {reference!r}: the cell has no value ({row['status']}{': ' + row['reason'] if row.get('reason') else ''})")
    missing = [path for path in row["records"] if not (RESULTS.parent / path).is_file()]
    if missing:
        raise InputError(f"reference {reference!r}: its record {missing[0]} is not there")
    interval = "" if row["lo"] is None else f" ({_number(row['lo'])} to {_number(row['hi'])})"
    unit = "" if row["unit"] in ("", "count", "ROUGE x 100") else f" {row['unit']}"
    title = f"seeds {', '.join(map(str, row['seeds']))}; n = {row['n']}" if row["seeds"] and row["n"] else reference
    return f'<a href="{root}{html.escape(row["records"][0])}" title="{html.escape(title)}">{_number(row["value"])}</a>{html.escape(unit)}{interval}'


def paper(reference: str, root: str) -> str:
    """HTML of a figure of the paper under study: `11.3 % (secondary source)`."""
    from asum_lib import papers

    table, *pairs = reference.split()
    known = papers.value(PAPER, table, **dict(pair.split("=", 1) for pair in pairs))
    if known is None or known["value"] is None or known["status"] == "unverified":
        raise InputError(f"reference {reference!r}: the paper's file has no such figure, or none that may be shown")
    said = known["source"] if known["status"] == "secondary" else f"{known['status']}: {known['source']}"
    shown = {"secondary": "secondary source"}.get(known["status"], known["status"])
    return f'<span title="{html.escape(said)}">{known["value"]:g} {html.escape(known["unit"])} ({shown})</span>'


def verdict(reference: str, root: str) -> str:
    """HTML of the verdict on a claim at a scale (mini where none is named), linked to the page of the claims."""
    identity, *scale = reference.split()
    judged = _judged(*(scale or ["mini"]))
    if identity not in judged:
        raise InputError(f"reference {reference!r}: no such claim: choose from {', '.join(judged)}")
    return f'<a href="{root}{CLAIMS_PAGE}.html">{html.escape(judged[identity])}</a>'


def download_table(reference: str, root: str) -> str:
    """HTML of links to a table as CSV and as JSON; `memory` and tables of another scale are named as `NAME SCALE`."""
    from asum_lib.study import all_tables

    name, *scale = reference.split()
    scale = scale[0] if scale else "paper" if name == all_tables.MEMORY else "mini"
    if name != "claims" and name not in all_tables.names(scale):
        raise InputError(f"reference {reference!r}: no such table: choose from {', '.join(all_tables.names(scale))}")
    forms = ["json"] if name == "claims" else ["csv", "json"]
    links = ", ".join(f'<a href="{root}{DOWNLOADS}/{name}-{scale}.{form}" download>{form.upper()}</a>' for form in forms)
    return f'<span class="asum-download">{html.escape(name)} as {links}</span>'


def _role(said):
    from docutils import nodes

    def role(name, rawtext, text, lineno, inliner, options=None, content=None):
        document = inliner.document.settings.env.docname
        try:
            return [nodes.raw("", said(text, "../" * document.count("/")), format="html")], []
        except InputError as error:
            return [], [inliner.reporter.warning(str(error), line=lineno)]

    return role


@cache
def _find(reference: str) -> dict:
    from asum_lib.study import all_tables

    return all_tables.find(reference)


@cache
def _judged(scale: str) -> dict[str, str]:
    from asum_lib.study import claims

    return {claim["claim"]: claim["verdict"] for claim in claims.judge(scale)}


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) < 1_000 else f"{value:,.0f}"


def _inline_math(translator, node) -> None:
    """A formula as MathML, which browsers set by themselves: no script, no network, and a screen reader can read it."""
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    translator.body.append(convert(node.astext()))
    raise SkipNode


def _display_math(translator, node) -> None:
    """The same on a line of its own."""
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    translator.body.append(f'<div class="asum-math" tabindex="0">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def _docstring(app, what, name, obj, options, lines) -> None:
    """Docstrings name code in single backticks and indent examples; reStructuredText wants two, and a literal block."""
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", "\n".join(lines))
    text = re.sub(r"(?<!\\)\*(?=\S)", r"\\*", text)
    written, before = [], ""
    for line in text.split("\n"):
        if line.startswith("    ") and before and not before.startswith("    ") and not written[-1]:
            written += ["::", ""]
        written.append(line)
        before = line or before
    lines[:] = written


def _notebook_button(app, pagename, templatename, context, doctree) -> None:
    """A page that was executed can be had as a notebook: one more entry in the theme's menu of downloads."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if not executed.is_file():
        return
    root = "../" * pagename.count("/")
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            here = f"{root}{DOWNLOADS}/{pagename.replace('/', '-')}.ipynb"
            link = {"type": "link", "url": here, "text": ".ipynb", "icon": "fas fa-code", "label": "download-notebook-button"}
            group["buttons"].insert(0, link | {"tooltip": "The page as an executed notebook"})


def _downloads(app, exception) -> None:
    """Tables as CSV and JSON, pages as executed notebooks, beside the built pages."""
    if exception is not None or app.builder.format != "html":
        return
    from asum_lib.study import all_tables

    folder = Path(app.outdir) / DOWNLOADS
    all_tables.export(folder, replace=True)
    for path in sorted((Path(app.outdir).parent / "jupyter_execute").glob("**/*.ipynb")):
        parts = path.relative_to(Path(app.outdir).parent / "jupyter_execute")
        shutil.copyfile(path, folder / "-".join(parts.parts))
