"""The printed book: its parts in the order of the table of contents, and a whole PDF where there is a browser."""

import shutil
import sys

import pytest
import yaml

from asum_lib.paths import REPOSITORY

sys.path.insert(0, str(REPOSITORY / ".ci"))
import book_pdf
import check_book

TOC = {"root": "book/index", "parts": [{"caption": "One", "chapters": [{"file": "book/a"}, {"file": "notebooks/b"}]}]}


def test_the_parts_have_every_page_once_in_order():
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    printed = [name for _, names in book_pdf.parts(toc) for name in names]
    assert printed == check_book.pages(toc)


@pytest.mark.skipif(not any(map(shutil.which, book_pdf.BROWSERS)), reason="no Chromium here to print with")
def test_pages_are_printed_with_an_outline_and_links_to_where_the_book_is_published(tmp_path, monkeypatch):
    from pypdf import PdfReader

    for name, title in (("book/index", "The book"), ("book/a", "First"), ("notebooks/b", "Second")):
        page = tmp_path / "html" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        head = f"<meta charset='utf-8'><title>{title} — asum</title>"
        page.write_text(f"{head}<h1>{title}</h1><p>Text of it <a href='../book/a.html'>there</a></p>", encoding="utf-8")
    monkeypatch.setattr(book_pdf.yaml, "safe_load", lambda text: TOC | {"title": "x", "html": {"baseurl": "https://example.org/asum/"}})
    assert book_pdf.main([str(tmp_path / "html"), str(tmp_path / "pdf" / "book.pdf")]) == 0
    printed = PdfReader(tmp_path / "pdf" / "book.pdf")
    assert [page.extract_text().split()[-1] for page in printed.pages] == ["there"] * 3
    assert [item.title for item in printed.outline if not isinstance(item, list)] == ["The book", "One"]
    assert [item.title for item in printed.outline[-1]] == ["First", "Second"]
    links = [annotation.get_object()["/A"]["/URI"] for annotation in printed.pages[0]["/Annots"]]
    assert links == ["https://example.org/asum/book/a.html"]


def test_without_a_browser_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book_pdf.shutil, "which", lambda name: None)
    assert book_pdf.main([str(tmp_path), str(tmp_path / "book.pdf")]) == 3
    assert "no browser to print the pages with" in capsys.readouterr().err
