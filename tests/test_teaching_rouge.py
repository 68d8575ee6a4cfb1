"""The counts, subsequences and facts that the chapter on ROUGE works by hand."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.measure.rouge import score, tokenize
from asum_lib.teaching import rouge, worked

REFERENCE = "anna explains how to bake bread with yeast".split()
SUMMARY = "with yeast anna shows how to bake bread".split()


def cells(shown) -> list[list[str]]:
    lines = BeautifulSoup(shown.data, "html.parser").find_all("tr")
    return [[cell.get_text() for cell in line.find_all(["td", "th"])] for line in lines]


@pytest.mark.parametrize(("n", "common", "all_of_a_text"), [(1, 7, 8), (2, 4, 7), (3, 2, 6), (8, 0, 1), (9, 0, 0)])
def test_common_ngrams_of_the_page(n, common, all_of_a_text):
    found = rouge.common_ngrams(REFERENCE, SUMMARY, n)
    assert np.array([(0, 0, 0), *found.values()]).sum(axis=0).tolist() == [all_of_a_text, all_of_a_text, common]


def test_a_repeated_word_counts_as_often_as_both_texts_have_it():
    assert rouge.common_ngrams("stir and stir again".split(), "stir stir stir".split(), 1)["stir"] == (2, 3, 2)


def test_ngrams_of_no_word_are_refused():
    with pytest.raises(InputError, match="n must be at least 1"):
        rouge.common_ngrams(["a"], ["a"], 0)


def test_the_subsequence_of_the_page():
    assert rouge.longest_common_subsequence(REFERENCE, SUMMARY) == "anna how to bake bread".split()
    assert rouge.lcs_table(REFERENCE, SUMMARY)[-1].tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize(("reference", "summary", "common"), [("", "", ""), ("a", "", ""), ("a b", "b a", "a"), ("a b c", "a x c", "a c")])
def test_small_subsequences(reference, summary, common):
    assert rouge.longest_common_subsequence(reference.split(), summary.split()) == common.split()


def test_by_hand_is_what_the_library_counts():
    random = np.random.default_rng(7)
    words = np.array("mix warm milk and salt".split())
    texts = [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(200)]
    references, summaries = texts[:100], texts[100:]
    found = score(references, summaries, "en", types=("rouge1", "rouge2", "rougeL"))
    for i, (reference, summary) in enumerate(zip(references, summaries, strict=True)):
        pair = tokenize(reference, "en"), tokenize(summary, "en")
        for n in (1, 2):
            sums = np.array([(0, 0, 0), *rouge.common_ngrams(*pair, n).values()]).sum(axis=0)
            assert found[f"rouge{n}"][i] == pytest.approx(rouge.f1(sums[2], sums[0], sums[1]))
        assert found["rougeL"][i] == pytest.approx(rouge.f1(len(rouge.longest_common_subsequence(*pair)), len(pair[0]), len(pair[1])))


def test_f1_of_the_page():
    assert rouge.f1(7, 8, 8) == 0.875
    assert rouge.f1(5, 5, 20) == 0.4
    assert rouge.f1(0, 0, 0) == 0.0


def test_the_default_tokenizer_sees_nothing_of_a_russian_sentence():
    assert cells(rouge.show_tokens("Анна печёт хлеб", "В 2024 году"))[1:] == [
        ["Анна печёт хлеб", "(nothing)", "анна | печёт | хлеб"],
        ["В 2024 году", "2024", "в | 2024 | году"],
    ]


def test_the_marked_cells_are_the_common_words():
    soup = BeautifulSoup(rouge.show_lcs("mix warm milk", "warm the milk").data, "html.parser")
    assert [cell.get_text() for cell in soup.find_all("td", style=worked.MARK)] == ["1", "2"]


def test_ngrams_are_shown_with_their_sums():
    assert cells(rouge.show_ngrams("Stir and stir", "stir stir", 1))[1:] == [["stir", "2", "2", "2"], ["and", "1", "0", "0"], ["sum", "3", "2", "2"]]


def test_facts_of_a_record_are_those_of_its_values():
    from asum_lib.study import records

    path = rouge.RESULTS / "mini" / "rouge_gazeta" / "lead3-s0.json"
    found = rouge.facts("news-ru", "Lead-3")
    samples = [sample for sample in records.read_samples(path) if sample["split"] == "test"]
    assert len(found.rouge1) == len(samples) == 500
    assert found.rouge1.mean() == pytest.approx(100 * np.mean([sample["rouge1"] for sample in samples]))
    assert cells(rouge.facts_table(["Lead-3"]))[1][3] == f"{found.rouge1.mean():.1f}"


def test_the_made_up_fact_is_in_the_summary_and_not_in_the_reference():
    found = rouge.made_up_fact()
    assert found.made_up == ("thirty cotton wicks", "nine hours")
    assert found.rouge1 == score([found.reference], [found.summary], "en")["rouge1"][0] * 100 == 100
    assert all(fact in found.summary and fact not in found.reference for fact in found.made_up)


def test_the_picture_counts_the_misled():
    data = rouge.Facts("made up", np.array([90.0, 80.0, 79.0, 95.0]), np.array([25.0, 50.0, 0.0, 100.0]))
    assert "1 of 4 summaries have a ROUGE-1 of 80 or more and less than half of the facts" in rouge.plot_facts([data]).data
