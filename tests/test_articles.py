"""The generated corpus `howto-text`: the same on every machine, of the length asked for, abstractive, its facts where they are said to be."""

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


def test_the_domains_differ_in_topics_and_in_how_headlines_are_written():
    def topics(domain):
        return {fact.value for document in articles.documents(domain, "test") for fact in document.facts if fact.kind == "task"}

    target, source = topics("target"), topics("source")
    assert len(target - source) + len(source - target) > 0
    shared = np.mean([f.value in target for d in articles.documents("source", "train")[:2_000] for f in d.facts if f.kind == "task"])
    assert 0.05 < shared < 0.2  # the source meets the target's topics in a small, set share of its articles
