import pytest

from asum_lib import papers
from asum_lib.errors import InputError
from asum_lib.study.cells import PAPER_CONFIGURATIONS, SIZES
from asum_lib.study.tables import GRIDS


def test_table_8_of_the_paper():
    cells = {tuple(c["cell"][k] for k in ("precision", "method", "size")): c for c in papers.load("derkach2024")["tables"]["whisper_wer"]["cells"]}
    assert set(cells) == {(precision, method, size) for precision, method in PAPER_CONFIGURATIONS for size in SIZES}
    known = {key: (cell["value"], cell["status"]) for key, cell in cells.items() if cell["value"] is not None}
    assert known == {
        ("int8", "adalora", "tiny"): (32.1, "secondary"),
        ("int8", "adalora", "base"): (36.5, "secondary"),
        ("int8", "adalora", "small"): (25.1, "secondary"),
        ("int8", "adalora", "medium"): (11.3, "secondary"),
        ("int8", "adalora", "large"): (9.8, "secondary"),
        ("int8", "none", "large"): (11.3, "secondary"),
        ("int4", "adalora", "medium"): (15, "derived"),
    }


def test_the_derived_learning_rates_follow_from_their_arithmetic():
    rates = {cell["cell"]["size"]: cell["value"] for cell in papers.load("derkach2024")["tables"]["learning_rates"]["cells"]}
    assert rates == pytest.approx({"tiny": 1.5e-3 / 40, "base": 1e-3 / 40, "small": 5e-4 / 40, "medium": 2.5e-4 / 40, "large": 1.75e-4 / 40})


def test_only_table_numbers_that_are_known_are_there():
    numbers = {name: table["number"] for name, table in papers.load("derkach2024")["tables"].items()}
    assert numbers == {"whisper_wer": "8", "learning_rates": "5", "rouge_gazeta": "3-4", "rouge_wikihow": "3-4", "memory": None, "corpora": None}


def test_every_cell_says_how_well_it_is_known():
    for name in papers.names():
        for table in papers.load(name)["tables"].values():
            for cell in table["cells"]:
                assert cell["status"] in papers.STATUSES
                assert (cell["value"] is None) == (cell["status"] == "unknown")
                assert cell["source"]
                assert cell["unit"]


def test_a_secondary_figure_says_so_in_words():
    cell = papers.value("derkach2024", "whisper_wer", precision="int8", method="adalora", size="tiny")
    assert cell["source"].startswith("secondary source")


def test_a_cell_that_is_not_in_the_paper_is_none_and_an_unknown_one_is_not():
    assert papers.value("derkach2024", "whisper_wer", precision="fp4", method="none", size="tiny") is None
    assert papers.value("derkach2024", "whisper_digits", precision="fp32", method="none", size="tiny") is None
    unknown = papers.value("derkach2024", "whisper_wer", precision="fp32", method="none", size="tiny")
    assert (unknown["value"], unknown["status"], unknown["source"]) == (None, "unknown", "not in the sources at hand")


@pytest.mark.parametrize(("paper", "ids"), [("ling2025", ["B1", "B2"]), ("yoo2025", ["C1", "C2", "C3", "C4", "C5", "C6"])])
def test_the_claims_of_the_papers_that_follow_are_in_the_ledger_and_not_testable_yet(paper, ids):
    claims = papers.load(paper)["claims"]
    assert [claim["id"] for claim in claims] == ids
    assert all(claim["rule"]["until"] for claim in claims)


def test_the_ledger_is_whole():
    claims = papers.load("derkach2024")["claims"]
    assert [claim["id"] for claim in claims] == [*(f"A{n}" for n in range(1, 15)), "V1"]
    testable = {claim["id"]: claim["rule"].get("table") or claim["rule"]["tables"] for claim in claims if claim["rule"]["kind"] != "not_testable"}
    rouge = ["rouge_wikihow", "rouge_gazeta"]
    assert testable == {
        **dict.fromkeys(["A5", "A6", "A8", "A9", "A10"], "whisper_wer"),
        **dict.fromkeys(["A4", "A7", "A11"], "memory"),
        **dict.fromkeys(["A1", "A2", "A3"], rouge),
        "A12": ["e2e_cost"],
        "A13": ["prosody"],
        "A14": ["whisper_wer", *rouge],
        "V1": ["video"],
    }
    assert "whisper_wer" in GRIDS["mini"]
    assert all(claim["rule"]["until"] for claim in claims if claim["id"] not in testable)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"size": "tiny", "value": 1.0, "status": "certain", "source": "x"}, "unknown status in here 'certain'"),
        ({"size": "tiny", "value": 1.0, "status": "unknown"}, "null and unknown go together"),
        ({"size": "tiny", "value": None, "status": "secondary", "source": "x"}, "null and unknown go together"),
        ({"size": "tiny", "value": 1.0, "status": "secondary"}, "needs a unit and a source"),
    ],
)
def test_a_faulty_cell_is_refused(cell, message):
    with pytest.raises(InputError, match=message):
        papers._cell("here", cell, "%")


def test_an_unknown_paper_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"unknown paper 'derkach': choose from .*derkach2024"):
        papers.load("derkach")


@pytest.mark.parametrize("foreseen", ["arithmetic", {"parts": "all"}, {"parts": "most", "why": "widths"}, {"parts": "all", "why": " "}])
def test_a_faulty_note_of_what_was_foreseen_is_refused(foreseen):
    with pytest.raises(InputError, match="foreseen"):
        papers.check_foreseen("claim A4", {"foreseen": foreseen})
