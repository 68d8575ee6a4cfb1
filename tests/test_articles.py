"""The generated corpus `howto-text`: the same on every machine, of the length asked for, abstractive, its facts where they are said to be."""

import re

import numpy as np
import pytest

from asum_lib.corpora import articles, howto, texts
from asum_lib.measure import extractive, rouge, summaries


@pytest.fixture(scope="module", params=["target", "source"])
def test_split(request):
    return articles.documents(request.param, "test")


def test_the_text_is_fixed():
    assert texts.load_texts("howto-text", "test").fingerprint[:12] == "3e9357f227d4"


def test_the_speech_corpus_keeps_its_words():
    assert howto.fingerprint("target", "test")[:8] == "aa67340d"


def test_sizes_are_as_stated():
    counts = {(domain, split): number for domain, splits in articles.DOCUMENTS.items() for split, number in splits.items()}
    assert min(counts[domain, "train"] for domain in ("source", "target")) >= 4_000
    assert len(articles.documents("target", "dev")) == counts["target", "dev"] == 400


def test_an_article_has_120_to_250_words_and_a_headline_a_step(test_split):
    for document in test_split:
        assert 120 <= len(document.text.split()) <= 250
        assert len(document.summary) == len(document.paragraphs) - 1  # the first paragraph is the introduction


def test_facts_are_where_they_are_said_to_be(test_split):
    lexicon = articles.lexicon()
    for document in test_split:
        assert summaries.find_facts(document.reference, lexicon) == {(fact.kind, fact.value) for fact in document.facts if fact.key}
        assert summaries.find_facts(document.text, lexicon) == {(fact.kind, fact.value) for fact in document.facts}


def test_a_key_fact_is_never_also_what_distracts(test_split):
    for document in test_split:
        assert len({(fact.kind, fact.value) for fact in document.facts}) == len(document.facts)
        assert any(fact.key for fact in document.facts) and any(not fact.key for fact in document.facts)


def test_the_summary_is_abstractive(test_split):
    assert np.mean([summaries.novelty(document.text, document.reference, 2) for document in test_split]) > 0.5
    leads = [" ".join(extractive.lead(rouge.split_sentences(document.text, "en"), 3)) for document in test_split]
    assert rouge.score([document.reference for document in test_split], leads, "en")["rouge1"].mean() < 0.25


def test_no_article_or_summary_of_the_test_set_was_seen_in_training():
    seen = articles.documents("target", "train") + articles.documents("target", "dev")
    read, written = {document.text for document in seen}, {document.reference for document in seen}
    test = articles.documents("target", "test")
    assert not any(document.text in read for document in test)
    assert np.mean([document.reference in written for document in test]) < 0.01


ALL = [(domain, split) for domain, splits in articles.DOCUMENTS.items() for split in splits]


def test_the_source_text_is_fixed_too():
    assert texts.load_texts("howto-text-source", "test").fingerprint[:12] == "cfb77c96e854"


def test_no_article_is_in_two_splits_of_either_domain():
    read = [document.text for where in ALL for document in articles.documents(*where)]
    assert len(set(read)) == len(read) == 25_800


def test_the_same_facts_are_headed_differently_in_each_domain():
    openings = {"target": "(Allow|Reach for|Prepare|Trust|Copy) ", "source": "(?!(Allow (?!cooling)|Reach for|Prepare|Trust|Copy) )"}
    for domain, opening in openings.items():
        for document in articles.documents(domain, "test"):
            assert all(re.match(opening, headline) for headline in document.summary), document.summary


def test_every_sentence_starts_with_a_capital_and_ends_in_a_mark():
    for document in articles.documents("target", "test"):
        for paragraph in (*document.paragraphs, *document.summary):
            assert all(re.fullmatch(r"[A-Z][a-z ,A-Z]*", s) for s in re.split(r"[.?] ?", paragraph) if s), paragraph
            assert paragraph[-1] == "."


def test_all_articles_together_use_fewer_than_900_words():
    words = set()
    for domain in articles.DOCUMENTS:
        for document in articles.documents(domain, "train"):
            words |= set(re.findall("[a-z]+", f"{document.title} {document.text} {document.reference}".lower()))
    assert 500 < len(words) < 900


def test_copying_the_later_of_two_facts_is_not_enough():
    """Each kind has cues with the key fact first and cues with it last, so that the place in the sentence does not tell."""
    for kind, cues in articles.templates()["cues"].items():
        first = [re.search(r"\{(n|tool|person|place)\}", cue).start() < re.search(r"\{(n|tool|person|place)2\}", cue).start() for cue in cues]
        assert 0 < sum(first) < len(first), kind
