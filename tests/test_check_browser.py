"""The browser's check of the built pages sees what a reader would run into."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from asum_lib.paths import REPOSITORY

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width">
<style>html[data-theme=dark] {{ background: #000; color: #fff }} a {{ color: inherit }}</style></head>
<body><main><article><h1>{name}</h1><p>Something is said of AdaLoRA.</p>{body}</article></main></body></html>"""
FOLD = '<div class="admonition {0} toggle-hidden" onclick="{1}"><p class="admonition-title">Answer</p><section>42</section></div>'
ROWS = "".join(f"<tr><td>{word}</td><td>{number}</td></tr>" for word, number in (("tiny", 3), ("base", 1), ("small", 2)))
TABLE = """<div class="dt-container"><input type="search" aria-label="filter"><table><thead><tr><th>size</th><th>WER</th></tr></thead>
<tbody>{rows}</tbody></table></div><script>{script}</script>"""
SORTS = """document.querySelectorAll('th').forEach((header, column) => header.onclick = () => {
  const body = document.querySelector('tbody'), up = header.ariaSort != 'ascending';
  const order = (a, b) => (up ? 1 : -1) * a.cells[column].innerText.localeCompare(b.cells[column].innerText);
  body.append(...[...body.rows].sort(order));
  header.ariaSort = up ? 'ascending' : 'descending';
});"""
FILTERS = """document.querySelector('input').oninput = event => {
  const body = document.querySelector('tbody');
  window.all = window.all || [...body.rows];
  body.replaceChildren(...window.all.filter(row => row.innerText.includes(event.target.value)));
};"""
SOUND = ['<img alt="a rise" src="plot.svg">', '<audio controls src="a.wav" aria-label="a tone"></audio>', '<a href="whole.html#x">whole</a>']
SIDEBAR = """<button class="primary-toggle" onclick="{opens}">menu</button>
<dialog class="bd-sidebar-primary" onclick="if (event.target === this) {closes}"><a href="whole.html">whole</a></dialog>"""
OPENS, CLOSES = "document.querySelector('dialog').showModal()", "this.close()"

BODIES = {  # a page each: what is in it
    "whole": "".join([*SOUND, FOLD.format("x", "this.classList.remove('toggle-hidden')"), TABLE.format(rows=ROWS, script=SORTS + FILTERS)]),
    "exception": "<script>throw new Error('no such table')</script>",
    "console": "<script>console.error('lost')</script>",
    "menu": SIDEBAR.format(opens=OPENS, closes=CLOSES),
    "no_button": SIDEBAR.format(opens=OPENS, closes=CLOSES).replace("<button", "<button hidden"),
    "dead_button": SIDEBAR.format(opens="", closes=CLOSES),
    "open_menu": SIDEBAR.format(opens=OPENS, closes="0"),
    "absent": '<script src="lost.js"></script>',
    "outside": '<script src="http://127.0.0.1:9/x.js"></script>',
    "wide": '<p style="width: 600px">wide</p>',
    "folded": FOLD.format("x", ""),
    "unsorted": TABLE.format(rows=ROWS, script=FILTERS),
    "unfiltered": TABLE.format(rows=ROWS, script=SORTS),
    "image": '<img alt="a rise" src="empty.svg">',
    "silent": '<audio controls src="empty.wav" aria-label="a tone"></audio>',
    "link": '<a href="../nowhere.html">x</a>',
    "pale": '<p style="color: #ddd; background: #fff">pale</p>',
    "dark": '<p style="color: #222">for a light page only</p>',
    "unnamed": '<img src="plot.svg">',
    "scrolls": '<div style="overflow-x: auto; width: 300px"><p style="width: 600px">wide <span style="float: right">end</span></p></div>',
}
SEARCH = '<ul id="search-results"><li><a href="whole.html">whole</a></li></ul>'
FAULTS = {  # page: (where, the beginning of the fault) of every fault that is expected
    "exception": [("at 390 px", "exception: no such table"), ("at 1280 px", "exception: no such table")],
    "console": [("at 390 px", "console: lost"), ("at 1280 px", "console: lost")],
    "no_button": [("at 390 px", "has no button for its menu")],
    "dead_button": [("at 390 px", "does not show its menu by a tap on the button")],
    "open_menu": [("at 390 px", "does not close its menu by a tap beside it")],
    "wide": [("at 390 px", "is 2")],
    "folded": [("at 390 px", "does not unfold: 'Answer'"), ("at 1280 px", "does not unfold: 'Answer'")],
    "unsorted": [("at 1280 px", "interactive table 1 does not sort by 'size'")],
    "unfiltered": [("at 1280 px", "interactive table 1 shows 3 of 3 rows for 'small'")],
    "link": [("at 1280 px", "link leads nowhere: nowhere.html")],
    "pale": [("at 1280 px", "axe color-contrast, 1 times: <p"), ("in the dark", "axe color-contrast, 1 times: <p")],
    "dark": [("in the dark", "axe color-contrast, 1 times: <p")],
    "unnamed": [("at 1280 px", "axe image-alt, 1 times: <img")],
    "scrolls": [("at 390 px", "axe scrollable-region-focusable"), ("at 1280 px", "axe scrollable-region-focusable")],
}


@pytest.fixture(scope="module")
def checker():
    def load(name):
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / ".ci" / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    load("check_book")
    return load("check_browser")


@pytest.fixture(scope="module")
def faults(checker, tmp_path_factory):
    """{page: [(where, fault)]} of a book of `BODIES`, all found by one browser."""
    program = checker.installed()
    if program is None:
        pytest.skip("no browser")
    html = tmp_path_factory.mktemp("html")
    for name, body in {**BODIES, "search": SEARCH}.items():
        (html / f"{name}.html").write_text(PAGE.format(name=name, body=body), encoding="utf-8")
    (html / "plot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>')
    tone = io.BytesIO()
    with wave.open(tone, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", None))
        file.writeframes(bytes(2 * 8000))
    (html / "a.wav").write_bytes(tone.getvalue())
    (html / "empty.svg").write_text("")
    (html / "empty.wav").write_bytes(b"")
    checker.LIMIT_MS = 500
    found = {}
    for line in checker.check(html, list(BODIES), program, pictures=html):
        where, fault = line.split(": ", 1)
        name, _, place = where.partition(" ")
        found.setdefault(name, []).append((place, fault))
    return {**found, "folder": html}


@pytest.mark.parametrize("name", ["whole", "menu", "search"])
def test_a_sound_page_has_no_fault(faults, name):
    assert name not in faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_where_it_is_and_nowhere_else(faults, name):
    assert [(place, text[: len(begins)]) for (place, text), (_, begins) in zip(faults[name], FAULTS[name], strict=True)] == FAULTS[name]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("absent", "status 404: "),
        ("outside", "asks the network for http://127.0.0.1:9/x.js"),
        ("image", "image does not show: "),
        ("silent", "sound does not play: "),
    ],
)
def test_what_does_not_load_is_seen(faults, name, begins):
    """The browser's own words on the console come on top of these."""
    assert any(text.startswith(begins) for place, text in faults[name] if place == "at 1280 px")


def test_every_page_has_its_two_pictures(faults):
    assert {path.stem for path in faults["folder"].glob("*.png")} == {f"{name}-{width_px}" for name in BODIES for width_px in (1280, 390)}


@pytest.fixture(scope="module")
def themed(checker, tmp_path_factory):
    """Two pages built with the book's own configuration and its static files, nothing executed."""
    if checker.installed() is None:
        pytest.skip("no browser")
    root = tmp_path_factory.mktemp("book")
    shutil.copy(REPOSITORY / "_config.yml", root)
    (root / "_toc.yml").write_text("{format: jb-book, root: book/index, chapters: [{file: book/page}]}")
    shutil.copytree(REPOSITORY / "book" / "_static", root / "book" / "_static")
    shutil.copy(REPOSITORY / "book" / "references.bib", root / "book")
    for name in ("index", "page"):
        (root / "book" / f"{name}.md").write_text(f"# {name}\n\n## One\n\nAdaLoRA.\n\n## Two\n\nAdaLoRA.\n")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root), "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    return root / "_build" / "html"


@pytest.mark.slow
def test_menu_and_contents_open_on_a_phone(checker, themed):
    found = checker.check(themed, ["book/index", "book/page"], checker.installed())
    assert [fault for fault in found if "menu" in fault or "contents" in fault] == []


@pytest.mark.slow
def test_a_contents_link_closes_what_it_opened(checker, themed):
    with checker.served(themed) as origin, checker.opened(checker.installed(), origin) as (page, complaints):
        checker.visit(page, f"{origin}book/page.html", checker.NARROW_PX, None)
        page.locator(".secondary-toggle:visible").tap()
        page.locator(".bd-sidebar-secondary a").last.tap()
        assert page.locator("dialog[open]").count() == 0
        assert page.url.endswith("#two")
        assert complaints == []


def test_a_search_that_finds_nothing_is_a_fault(checker):
    class Page:
        """A page on which nothing appears."""

        def goto(self, address):
            self.address = address

        def locator(self, selector):
            from playwright.sync_api import TimeoutError as TooLate

            class Nothing:
                first = property(lambda self: self)

                def wait_for(self):
                    raise TooLate("nothing")

            return Nothing()

    page = Page()
    assert checker.search_faults(page, "http://book/") == ["finds nothing for 'AdaLoRA'"]
    assert page.address == "http://book/search.html?q=AdaLoRA"


def test_without_a_browser_the_status_is_3(checker, monkeypatch, capsys):
    monkeypatch.setattr(checker, "installed", lambda: None)
    assert checker.main([]) == 3
    assert "no browser" in capsys.readouterr().err


def test_every_allowed_fault_says_why_it_stays(checker):
    assert all(isinstance(rule, str) and mark and len(why) > 20 for (rule, mark), why in checker.ALLOWED.items())
