import doctest
import json
import random
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from asum_lib.errors import InputError
from asum_lib.measure import rouge
from asum_lib.measure.rouge import score, signature, split_sentences, tokenize


def f1(reference, prediction, language="ru", kind="rouge1", **options) -> float:
    return float(score([reference], [prediction], language, types=(kind,), **options)[kind][0])


@pytest.mark.parametrize(
    ("kind", "reference", "prediction", "expected"),
    [
        # 2 of 3 words on both sides: P = R = 2/3
        ("rouge1", "суд вынес приговор", "суд отменил приговор", Fraction(2, 3)),
        # P = 2/2, R = 2/4: 2 * 1 * 1/2 / (3/2)
        ("rouge1", "в Туле открыли музей", "открыли музей", Fraction(2, 3)),
        # clipped: the reference has one "нет", the prediction three: P = 1/3, R = 1/2
        ("rouge1", "нет войне", "нет нет нет", Fraction(2, 5)),
        # bigrams of the reference: 3, of the prediction: 3, in both: "цены на"
        ("rouge2", "выросли цены на нефть", "упали цены на газ", Fraction(1, 3)),
        # "a c" in order: LCS 2 of 3 and of 3, though all 3 words are shared
        ("rougeL", "акции банка упали", "упали акции банка", Fraction(2, 3)),
        # figures are words too: 2 of 4 on one side, 2 of 2 on the other
        ("rouge1", "курс доллара 75 рублей", "75 рублей", Fraction(2, 3)),
        # an inflected form is another word: 1 of 2
        ("rouge1", "мэр Москвы", "мэр Москва", Fraction(1, 2)),
        # union LCS over sentences: reference "а б" + "в г", prediction "в г" + "а б": all 4 words
        ("rougeLsum", "Дождь идёт. Снег тает.", "Снег тает. Дождь идёт.", Fraction(1)),
        # the same as one sequence: 2 of 4
        ("rougeL", "Дождь идёт. Снег тает.", "Снег тает. Дождь идёт.", Fraction(1, 2)),
    ],
)
def test_russian_worked_by_hand(kind, reference, prediction, expected):
    assert f1(reference, prediction, kind=kind) == pytest.approx(float(expected), abs=1e-12)


def test_the_default_tokenizer_scores_identical_russian_sentences_0():
    text = "Центробанк снизил ключевую ставку."
    assert f1(text, text, tokenizer="default") == 0.0
    assert f1(text, text) == 1.0


def test_the_default_tokenizer_scores_unlike_russian_sentences_1_by_a_year_they_share():
    assert f1("В 2019 году завод закрыли.", "Чемпионат прошёл в 2019 году.", tokenizer="default") == 1.0
    assert f1("В 2019 году завод закрыли.", "Чемпионат прошёл в 2019 году.") == pytest.approx(3 / 5)


def test_a_mean_under_the_default_tokenizer_is_one_of_latin_letters_and_digits():
    """Two of four documents hold a number: the mean is 50 whatever the Russian words say."""
    references = ["дом 5", "дом", "дом 7", "дом"]
    predictions = ["лес 5", "дом", "лес 7", "дом"]
    assert score(references, predictions, "ru", tokenizer="default", types=("rouge1",))["rouge1"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert score(references, predictions, "ru", types=("rouge1",))["rouge1"].tolist() == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize(("reference", "prediction"), [("суд идёт", ""), ("", "суд идёт"), ("", ""), ("...", "!")])
@pytest.mark.parametrize("language", ["en", "ru"])
def test_nothing_on_one_side_scores_0(reference, prediction, language):
    assert [values.tolist() for values in score([reference], [prediction], language).values()] == [[0.0]] * 4


@pytest.mark.parametrize(("language", "text"), [("en", "Mix the flour. Add two eggs."), ("ru", "Суд идёт. Встать, суд идёт!")])
def test_identical_texts_score_1(language, text):
    assert [values.tolist() for values in score([text], [text], language).values()] == [[1.0]] * 4


def test_one_word_has_no_bigram_even_against_itself():
    assert f1("нефть", "нефть", kind="rouge2") == 0.0


def test_russian_scores_are_those_of_its_letters_written_in_latin():
    """Every Cyrillic letter as a Latin letter and a digit of its own: what rouge_score then gives by itself is what `unicode` gives of Russian."""
    letters = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
    code = {letter: "abcdefghijk"[i // 10] + str(i % 10) for i, letter in enumerate(letters)}
    rng = random.Random(5)
    words = ["".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(12)]
    pairs = [[" ".join(rng.choices(words, k=rng.randint(0, 14))) for _ in range(2)] for _ in range(200)]
    latin = [["".join(code.get(letter, letter) for letter in text) for text in pair] for pair in pairs]
    kinds = ("rouge1", "rouge2", "rougeL")
    ours = score([pair[0] for pair in pairs], [pair[1].upper() for pair in pairs], "ru", types=kinds)
    theirs = [RougeScorer(list(kinds)).score(*pair) for pair in latin]
    for kind in kinds:
        assert ours[kind].tolist() == [scores[kind].fmeasure for scores in theirs]
        assert 0 < ours[kind].mean() < 1


def test_the_best_of_several_references_counts_for_each_type_by_itself():
    """ROUGE-1 is best against the first (4 of 4 words), ROUGE-2 against the second (2 of 3 bigrams)."""
    scores = score([["d c b a", "a b c x"]], ["a b c d"], "en", types=("rouge1", "rouge2"))
    assert scores["rouge1"].tolist() == [1.0]
    assert scores["rouge2"].tolist() == pytest.approx([2 / 3])


def scitldr(real_data) -> tuple[list[list[str]], list[str]]:
    """References, and the first two sentences of each abstract as a hypothesis, one a line."""
    rows = [json.loads(line) for line in (real_data / "scitldr" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["summaries"] for row in rows], ["\n".join(split_sentences(row["document"], "en")[:2]) for row in rows]


@pytest.mark.parametrize("stemmer", [False, True])
def test_english_equals_rouge_score_to_the_last_digit(real_data, stemmer):
    references, predictions = scitldr(real_data)
    assert len(references) == 618
    ours = score([several[0] for several in references], predictions, "en", stemmer=stemmer)
    theirs = RougeScorer(list(rouge.TYPES), use_stemmer=stemmer)
    lines = ["\n".join(split_sentences(several[0], "en")) for several in references]
    for kind in rouge.TYPES:
        expected = [theirs.score(reference, prediction)[kind].fmeasure for reference, prediction in zip(lines, predictions, strict=True)]
        assert ours[kind].tolist() == expected, kind
    assert 0.1 < ours["rouge1"].mean() < 0.5


def test_several_references_equal_rouge_scores_score_multi(real_data):
    references, predictions = scitldr(real_data)
    kinds = ("rouge1", "rouge2", "rougeL")
    ours = score(references, predictions, "en", types=kinds)
    theirs = [RougeScorer(list(kinds)).score_multi(several, prediction) for several, prediction in zip(references, predictions, strict=True)]
    for kind in kinds:
        assert ours[kind].tolist() == [best[kind].fmeasure for best in theirs]
    assert ours["rouge1"].mean() > score([several[0] for several in references], predictions, "en")["rouge1"].mean()


def test_asking_for_one_type_gives_the_same_as_asking_for_all():
    references, predictions = ["Суд идёт. Дождь тоже.", ""], ["Дождь идёт. Суд тоже.", "да"]
    together = score(references, predictions, "ru")
    for kind in rouge.TYPES:
        assert np.array_equal(score(references, predictions, "ru", types=(kind,))[kind], together[kind])


@pytest.mark.parametrize(
    ("language", "tokenizer", "text", "words"),
    [
        ("en", None, "It's a 5-egg cake: café", ["it", "s", "a", "5", "egg", "cake", "caf"]),
        ("en", "unicode", "It's a café", ["it", "s", "a", "café"]),
        ("ru", None, "Ёлка – 12 руб.; COVID-19", ["ёлка", "12", "руб", "covid", "19"]),
        ("ru", None, "и\u0306од", ["\u0439од"]),  # two code points become one letter
        ("ru", None, "за\u0301мок", ["за\u0301мок"]),  # a stress mark has no letter of its own, and cuts no word
        ("ru", "default", "Ёлка 12 USD", ["12", "usd"]),
    ],
)
def test_tokenizers(language, tokenizer, text, words):
    assert tokenize(text, language, tokenizer=tokenizer) == words


@pytest.mark.parametrize("tokenizer", ["default", "unicode"])
def test_the_stemmer_is_porters_for_english(tokenizer):
    assert tokenize("Mixing bowls", "en", tokenizer=tokenizer, stemmer=True) == ["mix", "bowl"]


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("en", "Mix it. Bake it! Done?", ["Mix it.", "Bake it!", "Done?"]),
        ("en", "Dr. Smith saw Fig. 3. He said no. Then he left.", ["Dr. Smith saw Fig. 3.", "He said no.", "Then he left."]),
        ("en", "1. Mix the flour. 2. Add 3.5 oz. of milk.", ["1. Mix the flour.", "2. Add 3.5 oz. of milk."]),
        ("en", 'He said "Stop." Then he left. (Late.) A', ['He said "Stop."', "Then he left.", "(Late.)", "A"]),
        ("en", "no stop\nnext line\n\n", ["no stop", "next line"]),
        ("ru", "Роман А. С. Пушкина. Он известен.", ["Роман А. С. Пушкина.", "Он известен."]),
        ("ru", "Родился в г. Туле в 1980 г. Потом уехал.", ["Родился в г. Туле в 1980 г.", "Потом уехал."]),
        ("ru", "Цена 5 тыс. руб. 20 коп. Дорого.", ["Цена 5 тыс. руб. 20 коп.", "Дорого."]),
        ("ru", "Цена 5 руб. за штуку. Дёшево.", ["Цена 5 руб. за штуку.", "Дёшево."]),
        ("ru", "«Да!» — сказал он. — Пора. «Нет», и т. д. Всё…", ["«Да!» — сказал он.", "— Пора.", "«Нет», и т. д.", "Всё…"]),
        ("ru", "", []),
        ("en", "mix it. bake it! done? yes", ["mix it.", "bake it!", "done?", "yes"]),
        ("en", "mix it . bake it ! 'm done .", ["mix it .", "bake it !", "'m done ."]),
        ("en", "dr. smith saw fig. 3. he said no. then he left.", ["dr. smith saw fig. 3.", "he said no.", "then he left."]),
        ("en", "1. mix the flour. 2. add 3.5 oz. of milk. stir", ["1. mix the flour.", "2. add 3.5 oz. of milk.", "stir"]),
        ("en", "add 1 . 5 cups . made in 1990 . it ran .", ["add 1 . 5 cups .", "made in 1990 .", "it ran ."]),
        ("en", "so... we wait. so do i. j. k. rowling, e.g. at 5 p.m. there", ["so... we wait.", "so do i.", "j. k. rowling, e.g. at 5 p.m. there"]),
        ("en", "Hi there. how are you. fine.", ["Hi there. how are you. fine."]),
        ("en", "hi there. how are you. Fine.", ["hi there. how are you.", "Fine."]),
        ("ru", "он жил в г. туле. цена 5 тыс. руб. 20 коп. всё", ["он жил в г. туле.", "цена 5 тыс. руб. 20 коп. всё"]),
        ("ru", "роман а. с. пушкина. ну… и что? т. е. да", ["роман а. с. пушкина.", "ну… и что?", "т. е. да"]),
        ("ru", "«да!» — сказал он. пора.", ["«да!»", "— сказал он.", "пора."]),
    ],
)
def test_sentences(language, text, sentences):
    assert split_sentences(text, language) == sentences


def test_cutting_into_sentences_loses_no_character_but_space(real_data):
    for line in (real_data / "scitldr" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["document"]
        assert "".join("".join(split_sentences(text, "en")).split()) == "".join(text.split())


def test_lower_case_counts_in_lsum():
    """Both texts have both sentences, in another order: all six words match by sentence, three in a row."""
    one, other = "mix it now. bake it then.", "bake it then. mix it now."
    found = score([one], [other], "en", types=("rougeL", "rougeLsum"))
    assert (found["rougeL"][0], found["rougeLsum"][0]) == (0.5, 1.0)


def test_the_signature_names_the_rule_for_sentences():
    metric = rouge.rouge_metric("en", types=("rougeLsum",))
    for reference, rule in {"mix it. bake it.": "asum-2.en", "Mix it. Bake it.": "asum-1.en"}.items():
        found = metric.compute(references=[reference], predictions=["mix"])
        assert f"|lsum:{rule}|" in found["signatures"]["rougeLsum"]


def test_signatures():
    assert signature("rouge1", "ru") == "rouge1|tok:unicode|stem:no|lsum:no|scorer:rouge_score-0.1.2"
    assert signature("rougeLsum", "en", references="max") == "rougeLsum|tok:default|stem:no|lsum:asum-1.en|refs:max|scorer:rouge_score-0.1.2"
    assert signature("rouge2", "ru", tokenizer="default", stemmer=True) == "rouge2|tok:default|stem:porter|lsum:no|scorer:rouge_score-0.1.2"


def test_the_evaluate_metric_gives_means_times_100():
    import evaluate

    metric = rouge.rouge_metric("ru", types=("rouge1", "rouge2"))
    assert isinstance(metric, evaluate.Metric)
    result = metric.compute(references=["суд идёт", "мэр Москвы"], predictions=["суд идёт", "мэр Тулы"])
    assert result == {"rouge1": 75.0, "rouge2": 50.0, "signatures": {kind: signature(kind, "ru") for kind in ("rouge1", "rouge2")}}


def test_the_evaluate_metric_takes_several_references():
    result = rouge.rouge_metric("en", types=("rouge1",)).compute(references=[["x y", "a b"]], predictions=["a b"])
    assert result == {"rouge1": 100.0, "signatures": {"rouge1": signature("rouge1", "en", references="max")}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score(["a"], [], "en"), "1 references but 0 predictions"),
        (lambda: score([[]], ["a"], "en"), "document 0 has an empty list of references"),
        (lambda: score("abc", "abd", "en"), "references 'abc': not a list"),
        (lambda: score(["abc"], "a", "en"), "predictions 'a': not a list"),
        (lambda: score(["a"], [None], "en"), "prediction 0 is None: not a text"),
        (lambda: score([["a", None]], ["a"], "en"), "document 0: reference 1 is None: not a text"),
        (lambda: rouge.rouge_metric("en").compute(references=[], predictions=[]), "no predictions: ROUGE of nothing has no value"),
        (lambda: rouge.rouge_metric("en").compute(references="abc", predictions="abd"), "references 'abc': not a list"),
        (lambda: score(["a"], ["a"], "fr"), "unknown language 'fr': choose from en, ru"),
        (lambda: score(["a"], ["a"], "en", tokenizer="word"), "unknown ROUGE tokenizer 'word': choose from default, unicode"),
        (lambda: score(["a"], ["a"], "en", types=("rouge3",)), "unknown ROUGE type 'rouge3'"),
        (lambda: score(["a"], ["a"], "ru", stemmer=True), "stemmer with tokenizer 'unicode' in language 'ru': there is one of English alone"),
        (lambda: signature("rouge1", "ru", stemmer=True), "stemmer with tokenizer 'unicode' in language 'ru'"),
        (lambda: signature("rouge1", "en", references="mean"), "unknown use of references 'mean'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(rouge).failed == 0


def test_importing_the_module_is_light():
    code = "import sys, asum_lib.measure.rouge; print({'torch', 'evaluate', 'rouge_score', 'nltk'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize(("language", "text"), [("en", "هذا نص"), ("en", "Сегодня снег"), ("en", "今天天气很好"), ("ru", "هذا نص")])
def test_texts_of_another_script_are_refused(language, text):
    """English words are of Latin letters: of these none would be left, and every score would be 0."""
    with pytest.raises(InputError, match=f"corpus mine: language {language!r}: 0 % of the letters are"):
        rouge.check_corpus("mine", language, [text])
    rouge.check_corpus("mine", "en", ["A summary, 2024", "..."])
    rouge.check_corpus("mine", "ru", ["Сегодня снег в BBC"])


def test_references_without_a_word_are_refused():
    with pytest.raises(InputError, match="corpus mine: no reference has a letter or digit"):
        rouge.check_corpus("mine", "en", ["...", "?!"])
