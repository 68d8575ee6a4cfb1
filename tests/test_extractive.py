import doctest
import json
import time
from itertools import combinations

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.measure import extractive, rouge
from asum_lib.measure.extractive import lead, oracle, oracle_positions, textrank, textrank_scores


@pytest.fixture(scope="module")
def scitldr(real_data) -> tuple[list[list[str]], list[str]]:
    rows = [json.loads(line) for line in (real_data / "scitldr" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    return [rouge.split_sentences(row["document"], "en") for row in rows], [row["summaries"][0] for row in rows]


def rouge_1_and_2(prediction: str, reference: str) -> float:
    scores = rouge.score([reference], [prediction], "en", types=("rouge1", "rouge2"))
    return float(scores["rouge1"][0] + scores["rouge2"][0]) / 2


def test_lead_takes_the_first():
    assert lead(["a", "b", "c"], 2) == ["a", "b"]


@pytest.mark.parametrize("method", [lead, textrank])
def test_a_short_document_is_taken_whole(method):
    assert method(["a b", "b c"], 3) == ["a b", "b c"]
    assert method([], 3) == []


def test_the_middle_of_a_star_ranks_highest():
    """Two leaves, one centre c, equal weights: c = 0.15/3 + 0.85 (1 - c), so c = 0.9 / 1.85."""
    scores = textrank_scores(["red dog", "red dog blue cat", "blue cat"])
    assert scores == pytest.approx([(1 - 0.9 / 1.85) / 2, 0.9 / 1.85, (1 - 0.9 / 1.85) / 2], abs=1e-6)
    assert textrank(["red dog", "red dog blue cat", "blue cat"], 1) == ["red dog blue cat"]


def test_weights_are_shared_words():
    """The middle shares 1 word with the first and 3 with the last, all of 5 words: they get 1/4 and 3/4 of what it hands on."""
    scores = textrank_scores(["one k l m n", "one two three four five", "two three four o p"])
    middle = 0.9 / 1.85
    assert scores == pytest.approx([0.05 + 0.85 * middle / 4, middle, 0.05 + 0.85 * middle * 3 / 4], abs=1e-6)


def test_long_sentences_weigh_less_for_the_same_words():
    """1 shared word each: weights 1 / (ln 2 + ln 2) and 1 / (ln 2 + ln 8), which stand as 4 to 2."""
    scores = textrank_scores(["x a", "x y", "y b c d e f g h"])
    middle = 0.9 / 1.85
    assert scores == pytest.approx([0.05 + 0.85 * middle * 2 / 3, middle, 0.05 + 0.85 * middle / 3], abs=1e-6)


def test_textrank_keeps_the_order_of_the_document():
    """The last two rank highest (they share 3 words, and one each with the first)."""
    assert textrank(["sun", "a b c d", "a b c e"], 2) == ["a b c d", "a b c e"]


def test_equal_ranks_go_to_the_earlier_sentence():
    assert textrank(["a b", "c d", "e f"], 2) == ["a b", "c d"]
    assert textrank(["go", "go", "go"], 1) == ["go"]


def test_textrank_sees_russian_words():
    assert textrank(["Шёл дождь.", "Суд вынес приговор мэру.", "Мэру дали срок, решил суд.", "Снег."], 2) == [
        "Суд вынес приговор мэру.",
        "Мэру дали срок, решил суд.",
    ]


def test_the_oracle_finds_the_sentences_of_the_reference():
    sentences = ["It rained.", "Beat the eggs.", "Nothing here.", "Bake for one hour."]
    assert oracle(sentences, "Beat the eggs. Bake for one hour.", 3, "en") == ["Beat the eggs.", "Bake for one hour."]


def test_the_oracle_stops_where_no_sentence_raises_the_mean():
    """The second sentence alone is the reference; a further one only lowers precision."""
    assert oracle(["Beat well.", "Beat the eggs."], "Beat the eggs.", 2, "en") == ["Beat the eggs."]


def test_the_oracle_obeys_the_limit():
    assert oracle(["a b", "c d", "e f"], "a b c d e f", 2, "en") == ["a b", "c d"]


def test_without_a_shared_word_the_oracle_is_empty():
    assert oracle(["a b", "c"], "x y", 2, "en") == []
    assert oracle([], "x y", 2, "en") == []
    assert oracle(["a"], "", 2, "en") == []


def test_the_oracle_sees_russian_words():
    assert oracle(["Шёл дождь.", "Суд вынес приговор."], "Приговор вынес суд.", 1, "ru") == ["Суд вынес приговор."]


def test_a_step_of_the_oracle_is_the_best_by_rouge_score(scitldr):
    """On 40 real abstracts, its one sentence is the best of all sentences as rouge_score has it."""
    for sentences, reference in list(zip(*scitldr, strict=True))[:40]:
        (chosen,) = oracle_positions(sentences, reference, 1, "en")
        scores = [rouge_1_and_2(sentence, reference) for sentence in sentences]
        assert scores[chosen] == pytest.approx(max(scores))


def test_the_greedy_oracle_is_near_the_best_pair(scitldr):
    """On 40 real abstracts: never above the best of all single sentences and pairs, equal to it on most."""
    greedy, best = [], []
    for sentences, reference in list(zip(*scitldr, strict=True))[:40]:
        greedy.append(rouge_1_and_2(" ".join(oracle(sentences, reference, 2, "en")), reference))
        choices = [*combinations(sentences, 1), *combinations(sentences, 2)]
        best.append(max(rouge_1_and_2(" ".join(choice), reference) for choice in choices))
    assert all(own <= top + 1e-9 for own, top in zip(greedy, best, strict=True))
    assert np.mean(greedy) > 0.97 * np.mean(best)


def test_the_oracle_beats_lead_and_textrank_on_real_abstracts(scitldr):
    sentences, references = scitldr
    started = time.perf_counter()
    systems = {
        "lead": [" ".join(lead(document, 1)) for document in sentences],
        "textrank": [" ".join(textrank(document, 1)) for document in sentences],
        "oracle": [" ".join(oracle(document, reference, 3, "en")) for document, reference in zip(sentences, references, strict=True)],
    }
    assert time.perf_counter() - started < 20
    rouge_1 = {name: rouge.score(references, texts, "en", types=("rouge1",))["rouge1"].mean() for name, texts in systems.items()}
    assert rouge_1["oracle"] > 1.3 * max(rouge_1["lead"], rouge_1["textrank"])


@pytest.mark.parametrize("call", [lambda: lead(["a"], 0), lambda: textrank(["a"], 0), lambda: oracle(["a"], "a", 0, "en")])
def test_no_sentence_is_no_summary(call):
    with pytest.raises(InputError, match="a summary of 0 sentences: the number must be at least 1"):
        call()


@pytest.mark.parametrize("call", [lambda: lead("abc", 1), lambda: textrank("abc", 1), lambda: oracle("abc", "a", 1, "en")])
def test_a_text_is_no_list_of_sentences(call):
    with pytest.raises(InputError, match="sentences 'abc': not a list"):
        call()


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(extractive).failed == 0


def test_to_a_length_whole_sentences_are_taken_until_the_words_are_there():
    sentences = ["a b c", "d e", "f", "g h i"]
    assert extractive.to_length(sentences, range(4), 4) == ["a b c", "d e"]
    assert extractive.to_length(sentences, [3, 2, 0, 1], 4) == ["f", "g h i"]
    assert extractive.to_length(sentences, range(4), 100) == sentences
    assert extractive.to_length(sentences, range(4), 0) == []


def test_the_order_of_textrank_is_that_of_its_scores():
    assert extractive.textrank_order(["red dog", "red dog blue cat", "blue cat"]) == [1, 0, 2]
