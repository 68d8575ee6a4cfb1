"""The alignments, poolings and normalisers that the chapter on WER works by hand."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.measure.wer import count_errors, wer_pct
from asum_lib.teaching import wer, worked

SAID, HEARD = "beat eggs in warm milk".split(), "heat eggs warm milk now".split()


def cells(shown) -> list[list[str]]:
    lines = BeautifulSoup(shown.data, "html.parser").find_all("tr")
    return [[cell.get_text() for cell in line.find_all(["td", "th"])] for line in lines]


def test_the_table_of_costs_of_the_page():
    assert wer.cost_table(SAID, HEARD).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [1, 1, 2, 3, 4, 5],
        [2, 2, 1, 2, 3, 4],
        [3, 3, 2, 2, 3, 4],
        [4, 4, 3, 2, 3, 4],
        [5, 5, 4, 3, 2, 3],
    ]


def test_the_alignment_of_the_page_has_one_error_of_each_kind():
    steps = wer.alignment(SAID, HEARD)
    assert [step.kind for step in steps] == ["substitution", "equal", "deletion", "equal", "equal", "insertion"]
    assert [step.cell for step in steps] == [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (5, 5)]
    assert (steps[2].reference, steps[2].hypothesis) == ("in", None)
    assert (steps[5].reference, steps[5].hypothesis) == (None, "now")


def test_two_splits_of_the_same_number():
    assert wer.error_counts("beat the eggs well".split(), "heat eggs very well".split()) == {(3, 0, 0), (1, 1, 1)}
    assert wer.error_counts(SAID, HEARD) == {(1, 1, 1)}


@pytest.mark.parametrize(("reference", "hypothesis", "cost"), [("", "", 0), ("", "well", 1), ("take two", "", 2), ("stir", "so stir it up", 3)])
def test_empty_texts_and_only_insertions(reference, hypothesis, cost):
    spoken, heard = reference.split(), hypothesis.split()
    assert wer.cost_table(spoken, heard)[-1, -1] == cost
    assert sum(step.kind != "equal" for step in wer.alignment(spoken, heard)) == cost


def test_the_cost_is_jiwers_and_so_is_one_of_the_splits():
    random = np.random.default_rng(5)
    words = np.array("add salt stir soup".split())
    pairs = [tuple(" ".join(random.choice(words, random.integers(1, 7))) for _ in range(2)) for _ in range(200)]
    for (reference, hypothesis), count in zip(pairs, count_errors(*zip(*pairs, strict=True), normalizer="none"), strict=True):
        assert wer.cost_table(reference.split(), hypothesis.split())[-1, -1] == count.errors
        assert (count.substitutions, count.deletions, count.insertions) in wer.error_counts(reference.split(), hypothesis.split())


def test_two_poolings_of_the_page():
    assert wer.poolings([1, 1], [2, 8]) == (20.0, 31.25)
    assert wer.poolings([1, 1], [2, 10]) == (pytest.approx(16.667, abs=1e-3), 30.0)
    assert wer.poolings([0, 3], [2, 10]) == (25.0, 15.0)


def test_the_record_is_pooled_as_its_own_value_says():
    from asum_lib.study import records

    data = wer.pooling()
    assert data.corpus_pct == pytest.approx(records.read(wer.RECORD).metrics["wer_pct"].value)
    assert data.mean_pct == pytest.approx(data.utterances_pct.mean())
    assert (data.utterances_pct * data.words).sum() / data.words.sum() == pytest.approx(data.corpus_pct)


def test_every_normaliser_scores_the_same_raw_transcripts():
    found = wer.by_normalizer()
    references, hypotheses = wer._texts(wer.RECORDS / "whisper-tiny-fp32-none-s0.json")
    assert found["none"] == (wer_pct(count_errors(references, hypotheses, "none")), sum(len(text.split()) for text in references))
    assert [line[0] for line in cells(wer.normalizers_table())[1:]] == list(found)


def test_the_marked_way_is_the_alignments():
    soup = BeautifulSoup(wer.show_costs("beat eggs", "heat eggs").data, "html.parser")
    assert [cell.get_text() for cell in soup.find_all("td", style=worked.MARK)] == ["0", "1", "1"]


def test_an_alignment_shows_its_errors_by_letter():
    assert cells(wer.show_alignment("beat eggs in warm milk", "heat eggs warm milk now")) == [
        ["reference", "beat", "eggs", "in", "warm", "milk", "·"],
        ["hypothesis", "heat", "eggs", "·", "warm", "milk", "now"],
        ["error", "S", "", "D", "", "", "I"],
    ]


def test_the_picture_says_both_poolings():
    shown = wer.plot_pooling(wer.Pooling(np.array([50.0, 12.5]), np.array([2, 8]), 20.0, 31.25)).data
    assert "Pooled over the corpus it is 20.00 per cent, as a mean over utterances 31.25" in shown


def test_agreement_is_up_to_rounding():
    assert cells(worked.agree({"WER": (66.7, 200 / 3)})) == [["", "by hand", "by the library"], ["WER", "66.7", "66.7"]]
    assert cells(worked.agree({"nothing": (None, None)}))[1] == ["nothing", "none", "none"]
    assert cells(worked.agree({"errors": (3, np.int64(3))}))[1] == ["errors", "3", "3"]


@pytest.mark.parametrize("pair", [(66.6, 200 / 3), (66.7, None), (None, 0.0), (float("nan"), 1.0), (1.0, float("nan"))])
def test_a_page_whose_library_disagrees_fails_to_build(pair):
    with pytest.raises(InputError, match=r"WER: .* by hand, .* by the library"):
        worked.agree({"WER": pair})


def test_a_page_that_says_what_does_not_hold_fails_to_build():
    worked.check({"one is less than two": 1 < 2})
    with pytest.raises(InputError, match="the page says that two is less than one"):
        worked.check({"one is less than two": 1 < 2, "two is less than one": 2 < 1})


def test_words_that_do_not_fit_a_grid_are_refused():
    with pytest.raises(InputError, match="1 row and 2 column words"):
        worked.grid(["a"], ["b", "c"], [[1]])


def test_text_in_tables_is_no_markup():
    assert "<b>" not in worked.table(("<b>",), [["<b>"]]).data
    assert "<b>" not in worked.grid(["<b>"], ["<b>"], [[1]]).data
