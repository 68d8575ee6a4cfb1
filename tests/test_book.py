"""What the book adds to Sphinx: numbers in prose from records, and docstrings as they are written."""

import re
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup

from asum_lib import book
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY, RESULTS
from asum_lib.study import all_tables

REFERENCE = "whisper_wer size=tiny precision=int8 method=none"


def test_a_value_is_linked_to_its_record_with_its_interval():
    row, said = all_tables.find(REFERENCE), BeautifulSoup(book.value(REFERENCE, "../"), "html.parser")
    assert said.a.text == f"{row['value']:.1f}"
    assert (RESULTS.parent / said.a["href"].removeprefix("../")).is_file()
    assert said.text == f"{row['value']:.1f} % ({row['lo']:.1f} to {row['hi']:.1f})"


def test_a_value_whose_record_is_missing_is_refused(monkeypatch):
    row = all_tables.find(REFERENCE) | {"records": ["results/mini/whisper_wer/gone.json"]}
    monkeypatch.setattr(book, "_find", lambda reference: row)
    with pytest.raises(InputError, match=r"its record results/mini/whisper_wer/gone.json is not there"):
        book.value(REFERENCE, "")


def test_a_cell_without_a_value_is_refused(monkeypatch):
    row = all_tables.find(REFERENCE) | {"value": None, "status": "missing", "reason": "seed 0 missing", "records": []}
    monkeypatch.setattr(book, "_find", lambda reference: row)
    with pytest.raises(InputError, match=r"the cell has no value \(missing: seed 0 missing\)"):
        book.value(REFERENCE, "")


def test_a_figure_of_the_paper_says_how_well_it_is_known():
    assert BeautifulSoup(book.paper("whisper_wer size=large precision=int8 method=none", ""), "html.parser").text == "11.3 % (secondary source)"


@pytest.mark.parametrize("reference", ["whisper_wer size=tiny precision=int8 method=none", "whisper_wer size=huge precision=int8 method=none"])
def test_an_unknown_figure_of_the_paper_is_refused(reference):
    with pytest.raises(InputError, match="has no such figure"):
        book.paper(reference, "")


def test_a_verdict_is_the_ledgers():
    from asum_lib.study import claims

    [judged] = claims.judge(only="A5")
    assert BeautifulSoup(book.verdict("A5", ""), "html.parser").text == judged["verdict"]
    with pytest.raises(InputError, match="no such claim: choose from A1, A2"):
        book.verdict("Z9", "")


def test_a_table_that_there_is_not_cannot_be_downloaded():
    with pytest.raises(InputError, match="no such table: choose from whisper_wer"):
        book.download_table("whisper_were", "")


def test_every_reference_on_a_page_can_be_resolved():
    """What the build would warn of, without the build."""
    said = {"value": book.value, "paper": book.paper, "verdict": book.verdict, "download-table": book.download_table}
    found = 0
    for page in sorted((REPOSITORY / "book").rglob("*.md")):
        for role, reference in re.findall(r"\{(value|paper|verdict|download-table)\}`([^`]+)`", page.read_text(encoding="utf-8")):
            said[role](reference, "../")
            found += 1
    assert found > 10


def test_a_docstring_is_given_to_sphinx_as_restructured_text():
    lines = ["Use `name`.", "", "    with x:", "        y", "", "It is 2 * 3, and *args stay."]
    book._docstring(None, "module", "m", None, None, lines)
    assert lines == ["Use ``name``.", "", "::", "", "    with x:", "        y", "", "It is 2 * 3, and \\*args stay."]


def test_a_formula_is_mathml_and_needs_no_script():
    from docutils.nodes import SkipNode, math_block

    translator = SimpleNamespace(body=[])
    with pytest.raises(SkipNode):
        book._display_math(translator, math_block("", r"\frac{1}{2}"))
    formula = BeautifulSoup(translator.body[0], "html.parser").math
    assert [number.text for number in formula.mfrac.find_all("mn")] == ["1", "2"]


def test_an_executed_page_can_be_had_as_a_notebook(tmp_path):
    executed = tmp_path / "jupyter_execute" / "book" / "a.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text("{}")
    app, menu = SimpleNamespace(outdir=tmp_path / "html"), {"label": "download-buttons", "buttons": []}
    for page in ("book/a", "book/not_executed"):
        book._notebook_button(app, page, "page.html", {"header_buttons": [menu]}, None)
    assert [button["url"] for button in menu["buttons"]] == ["../downloads/book-a.ipynb"]
