"""The checker of the built pages catches what an exit code does not say."""

import importlib.util
import sys

import pytest

from asum_lib.paths import REPOSITORY

TOC = {"root": "book/index", "parts": [{"caption": "Tables", "chapters": [{"file": "book/whisper_wer"}]}]}
ROWS = [{"status": "ok", "value": 32.14}, {"status": "ok", "value": 9.0}, {"status": "missing", "value": None}]
INDEX = '<article><h1 id="top-of-it">A study</h1><p>What was found, at which scale, and how to run it.</p>{}</article>'
TABLE = "<article><h1>Word error rate at mini scale</h1><table><tr><td>{}</td><td>{}</td></tr></table></article>"
SOUND_INDEX, SOUND_TABLE = INDEX.format(""), TABLE.format("32.1 [30.2, 34.0]", "9.0")


@pytest.fixture(scope="module")
def checker():
    spec = importlib.util.spec_from_file_location("check_book", REPOSITORY / ".ci" / "check_book.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_book"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def faults(checker, tmp_path):
    """Builds a book of two pages, an index and a table, and returns what the checker finds."""

    def build(index=SOUND_INDEX, table=SOUND_TABLE, toc=TOC):
        (tmp_path / "book").mkdir()
        (tmp_path / "book" / "plot.png").write_bytes(b"")
        (tmp_path / "book" / "index.html").write_text(index)
        (tmp_path / "book" / "whisper_wer.html").write_text(table)
        (tmp_path / "index.html").write_text("to book/index.html")
        return checker.check(tmp_path, toc, {"book/whisper_wer": ROWS})

    return build


def test_a_sound_book_has_no_fault(faults):
    links = '<a href="whisper_wer.html">Table</a> <a href="#top-of-it">up</a> <a href="https://arxiv.org">paper</a> <img src="plot.png">'
    assert faults(index=INDEX.format(links)) == []


def test_pages_of_every_part_are_found(checker):
    toc = {"root": "book/index", "chapters": [{"file": "a.md", "sections": [{"file": "b/c"}]}, {"url": "https://arxiv.org"}]}
    assert checker.pages(toc) == ["book/index", "a", "b/c"]


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        ('<a href="whisper_bleu.html">x</a>', "whisper_bleu.html does not exist"),
        ('<a href="whisper_wer.html#row-9">x</a>', "whisper_wer.html#row-9 has no such anchor"),
        ('<a href="#nowhere">x</a>', "#nowhere has no such anchor"),
        ('<img src="lost.png">', "lost.png does not exist"),
        ('<script src="../_static/lost.js"></script>', "../_static/lost.js does not exist"),
        ('<a href="../../secret.txt">x</a>', "../../secret.txt leaves the book"),
        ("<pre>Traceback (most recent call last):</pre>", "says 'Traceback (most recent call last)'"),
        ('<div class="output stderr"><pre>UserWarning: old</pre></div>', "error output: UserWarning: old"),
        ("<p>WARNING: unknown document</p>", "says 'WARNING'"),
    ],
)
def test_a_fault_on_a_page_is_one_line(faults, element, fault):
    assert faults(index=INDEX.format(element)) == [f"book/index: {fault}"]


def test_a_missing_number_is_a_fault(faults):
    assert faults(table=TABLE.format("132.1", "9.0")) == ["book/whisper_wer: shows 32.1 0 times, its table holds it 1 times"]


def test_a_page_of_numbers_says_its_scale(faults):
    page = TABLE.format("32.1", "9.0").replace("mini", "some")
    assert faults(table=page) == ["book/whisper_wer: does not say its scale, 'mini'"]


def test_a_missing_page_is_a_fault(faults):
    toc = {**TOC, "chapters": [{"file": "book/claims"}]}
    assert faults(toc=toc) == ["book/claims: the page is missing"]


def test_a_table_without_a_measured_value_is_a_fault(checker):
    assert checker.number_faults("mini", [{"status": "missing", "value": None}]) == ["its table holds no measured value"]
