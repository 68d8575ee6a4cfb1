"""Check the built pages, not the exit code of the build: python .ci/check_book.py _build/html

Prints one line a fault and exits 1 where there is any: a page of the table of contents that is missing, a traceback,
an error or a warning on a page, a local link, image or script that leads nowhere (file or anchor), a measured value of
a table that is not on its page, or a page of measured numbers that does not say at which scale they were made.
What a browser sees (console errors, sideways scrolling) is checked by check_browser.py.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

REPOSITORY = Path(__file__).resolve().parent.parent
LOFTQ = ("lora", "loftq", "loftq-5")
TABLES = {"book/whisper_wer": "whisper_wer", "book/whisper_digits": "whisper_digits"}  # page: the table it shows
ALARMS = ("Traceback (most recent call last)", "WARNING", "ERROR:")


def pages(toc: dict) -> list[str]:
    """Names of the pages of a Jupyter Book `_toc.yml`, without suffix, in order."""
    found = []

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            found.extend(str(Path(node[key]).with_suffix("") if Path(node[key]).suffix else node[key]) for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections", "entries", "subtrees"):
                walk(node.get(key))

    walk(toc)
    return found


def links(soup: BeautifulSoup) -> list[str]:
    """Everything that a page refers to, without what leaves the book."""
    targets = [tag[attribute] for tag in soup.find_all(True) for attribute in ("href", "src", "data") if tag.has_attr(attribute)]
    return [target for target in targets if target and not urlsplit(target).scheme and not target.startswith("//")]


def anchors(path: Path, known: dict) -> set[str]:
    """Names that a fragment of a link to the page at `path` can point to."""
    if path not in known:
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        known[path] = {tag[attribute] for tag in soup.find_all(True) for attribute in ("id", "name") if tag.has_attr(attribute)}
    return known[path]


def link_faults(page: Path, root: Path, soup: BeautifulSoup, known: dict) -> list[str]:
    """Local targets of a page that do not exist."""
    faults = []
    for target in dict.fromkeys(links(soup)):
        parts = urlsplit(target)
        start = root / parts.path.lstrip("/") if parts.path.startswith("/") else page.parent / unquote(parts.path)
        path = (start if parts.path else page).resolve()
        path = path / "index.html" if path.is_dir() else path
        if not path.is_relative_to(root.resolve()):
            faults.append(f"{target} leaves the book")
        elif not path.is_file():
            faults.append(f"{target} does not exist")
        elif parts.fragment and path.suffix == ".html" and unquote(parts.fragment) not in anchors(path, known) and parts.fragment != "top":
            faults.append(f"{target} has no such anchor")
    return faults


def text_faults(soup: BeautifulSoup) -> list[str]:
    """Tracebacks, warnings and error outputs on a page."""
    faults = []
    for cell in soup.select("div.output.stderr, div.output.traceback"):
        faults.append(f"error output: {' '.join(cell.get_text().split())[:120]}")
    body = soup.find("article") or soup
    text = body.get_text(" ")
    faults += [f"says {alarm!r}" for alarm in ALARMS if alarm in text]
    if soup.find("article") is not None and len(body.get_text(strip=True)) < 20:
        faults.append("is empty")
    return faults


def number_faults(text: str, rows: list[dict]) -> list[str]:
    """Measured values of a table that its page does not show with one decimal, as often as the table has them or more."""
    expected = [f"{row['value']:.1f}" for row in rows if row["status"] == "ok"]
    shown = re.findall(r"(?<![\d.])\d+\.\d(?!\d)", text)
    faults = [f"shows {value} {shown.count(value)} times, its table holds it {expected.count(value)} times"
              for value in dict.fromkeys(expected) if shown.count(value) < expected.count(value)]  # fmt: skip
    if not expected:
        faults.append("its table holds no measured value")
    scales = {row["scale"] for row in rows if "scale" in row} or {"mini"}
    return faults + [f"does not say its scale, {scale!r}" for scale in sorted(scales) if not re.search(rf"\b{scale}\b", text)]


def check(html: Path, toc: dict, rows_of: dict[str, list[dict]]) -> list[str]:
    """All faults of a built book: `rows_of` gives for a page's name the rows of the table that it must show."""
    faults, known = [], {}
    for name in pages(toc):
        page = html / f"{name}.html"
        if not page.is_file():
            faults.append(f"{name}: the page is missing")
            continue
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        found = text_faults(soup) + link_faults(page, html, soup, known)
        if name in rows_of:
            found += number_faults((soup.find("article") or soup).get_text(" "), rows_of[name])
        faults += [f"{name}: {fault}" for fault in found]
    if not (html / "index.html").is_file():
        faults.append("index.html: the front door is missing")
    return faults


def rouge_rows() -> list[dict]:
    """The cells of the ROUGE tables that their page shows in its main tables, by the paper's metrics."""
    from asum_lib.paths import RESULTS
    from asum_lib.study import render_rouge, text_tables
    from asum_lib.study.text_cells import SYSTEMS, TABLE_OF

    found = [row for table in TABLE_OF["mini"].values() for row in text_tables.planned_rows(table)]
    corpora = dict.fromkeys(corpus for corpus, _ in text_tables.combinations())
    shown = [text_tables.find(found, corpus, system, precision=None) for corpus in corpora for system in SYSTEMS]
    shown += [text_tables.find(found, *pair, **cell) for pair in text_tables.combinations() for cell in render_rouge.MAIN]
    return [text_tables.as_object(row, metric, "mini", RESULTS) for row in shown for metric in text_tables.PAPERS_METRICS]


def main(arguments: list[str]) -> int:
    from asum_lib.study import learning_rates, tables

    html = Path(arguments[0]) if arguments else REPOSITORY / "_build" / "html"
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    rows_of = {page: tables.rows(table, planned_only=True) for page, table in TABLES.items()}
    # what was measured for LoftQ stands on a page of its own
    asked_by_loftq = [row for row in rows_of["book/whisper_wer"] if row["cell"]["precision"] == "nf2" or row["cell"]["method"] in LOFTQ]
    rows_of["book/whisper_wer"] = [row for row in rows_of["book/whisper_wer"] if row not in asked_by_loftq]
    rows_of["book/loftq"] = [row for row in asked_by_loftq if row["cell"]["method"] in ("lora", "loftq")]
    rows_of["book/learning_rates"] = [row for row in learning_rates.rows() if row["metric"] == tables.METRIC]
    rows_of["book/rouge"] = rouge_rows()
    faults = check(html, toc, rows_of)
    for fault in faults:
        print(fault)
    print(f"{len(pages(toc))} pages checked, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
