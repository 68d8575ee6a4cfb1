"""The generated corpus `news-ru`: correct forms, the same on every machine, abstractive, its facts where they are said to be."""

import re

import numpy as np
import pytest

from asum_lib.corpora import news, texts
from asum_lib.measure import extractive, rouge, summaries


@pytest.fixture(scope="module", params=["target", "source"])
def test_split(request):
    return news.documents(request.param, "test")


@pytest.mark.parametrize(
    ("word", "sort", "forms"),
    [
        ("Самара", "city", "Самара Самары Самаре Самару Самарой Самаре"),
        ("Казань", "city", "Казань Казани Казани Казань Казанью Казани"),
        ("Псков", "city", "Псков Пскова Пскову Псков Псковом Пскове"),
        ("Чита", "city", "Чита Читы Чите Читу Читой Чите"),
        ("Иванов", "person", "Иванов Иванова Иванову Иванова Ивановым Иванове"),
        ("Зайцев", "person", "Зайцев Зайцева Зайцеву Зайцева Зайцевым Зайцеве"),
        ("Волкова", "person", "Волкова Волковой Волковой Волкову Волковой Волковой"),
        ("общежитие", "object", "общежитие общежития общежитию общежитие общежитием общежитии"),
        ("станция", "object", "станция станции станции станцию станцией станции"),
        ("верфь", "object", "верфь верфи верфи верфь верфью верфи"),
        ("поезд", "object", "поезд поезда поезду поезд поездом поезде"),
    ],
)
def test_words_decline(word, sort, forms):
    assert [news.inflect(word, case, sort) for case in ("nomn", "gent", "datv", "accs", "ablt", "loct")] == forms.split()


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (2, "зал", "2 зала"),
        (5, "зал", "5 залов"),
        (21, "зал", "21 зал"),
        (12, "зал", "12 залов"),
        (3, "житель", "3 жителя"),
        (5, "житель", "5 жителей"),
        (4, "очко", "4 очка"),
        (36, "очко", "36 очков"),
        (2, "машина", "2 машины"),
        (40, "машина", "40 машин"),
        (3, "день", "3 дня"),
        (50, "день", "50 дней"),
        (23, "процент", "23 процента"),
        (8, "площадка", "8 площадок"),
        (14, "свидетель", "14 свидетелей"),
    ],
)
def test_numbers_agree_with_their_nouns(number, noun, text):
    assert news.agree(number, noun) == text


def test_amounts_dates_and_weekdays():
    assert [news.amount_of(millions) for millions in (2, 5, 22)] == ["2 миллиона рублей", "5 миллионов рублей", "22 миллиона рублей"]
    assert [news.date_of(12, "март"), news.date_of(3, "май"), news.date_of(1, "август")] == ["12 марта", "3 мая", "1 августа"]
    assert [news.on_weekday(day) for day in ("вторник", "среда", "суббота")] == ["во вторник", "в среду", "в субботу"]


NAMES = {"city": "Пермь", "object": "школа", "n": 3, "n2": 12, "weekday": "пятница", "date": "1 мая", "amount": "5 миллионов рублей"}


def test_verbs_agree_with_each_person():
    template = "ключи принял[|а] {person}, хотя {person2} отказал<ся|ась>. {weekday} в {city:loct} открыли {object:accs}."
    woman_first = news.fill(template, NAMES | {"person": "Волкова", "person2": "Петров"})
    assert woman_first == "Ключи приняла Волкова, хотя Петров отказался. В пятницу в Перми открыли школу."
    man_first = news.fill(template, NAMES | {"person": "Петров", "person2": "Волкова"})
    assert man_first == "Ключи принял Петров, хотя Волкова отказалась. В пятницу в Перми открыли школу."


def test_an_unknown_word_is_refused_and_not_guessed():
    with pytest.raises(ValueError, match="pymorphy3 knows no city Окно"):
        news.inflect("Окно", "loct", "city")


def test_the_one_noun_that_pymorphy3_counts_wrongly_is_not_counted():
    assert news.agree(5, "человек") == "5 людей"  # wrong: it should be 5 человек
    assert ":человек}" not in str(news.vocabulary())


def test_the_text_is_fixed():
    assert texts.load_texts("news-ru", "test").fingerprint[:12] == "0fdbd7e7a9d3"


def test_every_template_can_be_filled_for_men_and_women():
    for event in news.vocabulary()["events"].values():
        for template in (
            text for part in ("background", "event", "count", "person", "amount", "summary", "source_summary") for text in event.get(part, [])
        ):
            for person, person2 in (("Волкова", "Петров"), ("Петров", "Волкова")):
                text = news.fill(template, NAMES | {"person": person, "person2": person2, "amount2": "2 миллиона рублей"})
                assert not re.search(r"[{}\[\]<>|]", text)
                assert text.endswith(".")


def test_a_body_has_120_to_250_words_and_the_summary_two_sentences(test_split):
    for document in test_split:
        assert 120 <= len(document.text.split()) <= 250
        assert len(document.summary) == 2


def test_facts_are_where_they_are_said_to_be(test_split):
    lexicon = news.lexicon()
    for document in test_split:
        assert summaries.find_facts(document.reference, lexicon) == {(fact.kind, fact.value) for fact in document.facts if fact.key}
        assert summaries.find_facts(document.text, lexicon) == {(fact.kind, fact.value) for fact in document.facts}


def test_the_summary_is_abstractive(test_split):
    assert np.mean([summaries.novelty(document.text, document.reference, 2) for document in test_split]) > 0.5
    leads = [" ".join(extractive.lead(rouge.split_sentences(document.text, "ru"), 3)) for document in test_split]
    assert rouge.score([document.reference for document in test_split], leads, "ru")["rouge1"].mean() < 0.15


def test_no_news_of_the_test_set_was_seen_in_training():
    seen = news.documents("target", "train") + news.documents("target", "dev")
    read, written = {document.text for document in seen}, {document.reference for document in seen}
    test = news.documents("target", "test")
    assert not any(document.text in read for document in test)
    assert np.mean([document.reference in written for document in test]) < 0.01
