"""Chance lines and the split by seen sentences, worked by hand and on the committed records."""

import numpy as np
import pytest

from asum_lib.corpora import spoken_texts, texts
from asum_lib.corpora.seen import seen_utterances
from asum_lib.corpora.sentences import split_sentences
from asum_lib.measure import wer
from asum_lib.paths import RESULTS
from asum_lib.study import all_tables, chance, records, render_chance, tables

DIGITS = RESULTS / "mini" / "whisper_digits" / "whisper-tiny-fp32-none-s0.json"


def test_chance_on_digits():
    found = chance.speech(DIGITS, records.read(DIGITS))
    assert {name: round(metric.value, 1) for name, metric in found.items()} == {
        "nothing": 100.0,
        "constant": 83.0,
        "random": pytest.approx(88.1, abs=0.3),
    }
    assert all(metric.lo <= metric.value <= metric.hi for metric in found.values())


def test_no_constant_is_better_by_the_scorer():
    rows = [row for row in records.read_samples(DIGITS) if row["split"] == "test"]
    said = [row["reference"] for row in rows]
    least = chance.speech(DIGITS, records.read(DIGITS))["constant"].value
    for constant in said[:10]:
        assert wer.wer_pct(wer.count_errors(said, [constant] * len(said), "whisper-basic")) >= least


def test_chance_lines_are_rows_of_the_table():
    rows = [row for row in all_tables.rows("whisper_digits") if row["cell"]["model"] == chance.CHANCE]
    assert [row["cell"]["method"] for row in rows] == ["nothing", "constant", "random"]
    assert "| chance |  | constant |" in all_tables.as_text("whisper_digits", rows, "md")
    assert all_tables.find("whisper_digits model=chance method=nothing")["value"] == 100.0


def test_the_next_summary_is_the_chance_line_of_e2e():
    """Its record wrote what `next` computes, so both give one value."""
    path = RESULTS / "mini" / "e2e" / "lead3-s0.json"
    record = records.read(path)
    rows = chance._talk_rows(path, record, RESULTS)
    known = records.read(path.with_name("chance-s0.json")).metrics["rouge1"].value
    assert next(row for row in rows if row["metric"] == "rouge1")["value"] == pytest.approx(known)
    assert "chance" in {row["cell"]["system"] for row in all_tables.rows("e2e")}
    assert chance.rows("e2e") == []


def test_tables_without_an_answer_have_no_chance():
    assert [chance.rows(name) for name in ("memory", "corpora", "e2e_cost", "rouge_ranks")] == [[]] * 4


def test_seen_sentences_are_those_of_the_source():
    known, said = seen_utterances("howto", "test"), spoken_texts("howto", "test")
    source = set(spoken_texts("howto-source", "train").values())
    assert {name for name, text in said.items() if text in source} == known
    assert (len(known), len(said)) == (517, 656)
    assert seen_utterances("digits", "test") is None


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["howto-text", "news-ru"])
def test_no_text_or_summary_of_test_is_in_training_but_its_sentences_are(corpus):
    """What the page on the corpora says; whole texts are new, most sentences are not."""
    test = texts.load_texts(corpus, "test")
    known = [one for name in (corpus, f"{corpus}-source") for one in texts.load_texts(name, "train").documents]
    for of in (lambda one: one.text, lambda one: one.reference):
        whole = {of(one) for one in known}
        assert not [one.id for one in test.documents if of(one) in whole]
        parts = {part for text in whole for part in split_sentences(text, test.language)}
        own = [part for one in test.documents for part in split_sentences(of(one), test.language)]
        assert sum(part in parts for part in own) > len(own) / 2


def test_wer_is_told_by_seen_and_unseen_sentences():
    row = next(row for row in tables.planned_rows("whisper_wer") if row.cell["size"] == "large")
    found = tables.by_seen(row.measured)
    assert (round(found["seen_value"], 1), found["seen_n"]) == (4.3, 517)
    assert (round(found["unseen_value"], 1), found["unseen_n"]) == (17.5, 139)
    assert found["seen_hi"] < found["unseen_lo"]
    whole = tables.interval(row.measured)[0]
    _, _, words = tables.pooled_counts(row.measured)
    mask = np.array([name in seen_utterances("howto", "test") for name in tables.pooled_counts(row.measured)[0]])
    parts = found["seen_value"] * words[mask].sum() + found["unseen_value"] * words[~mask].sum()
    assert parts / words.sum() == pytest.approx(whole)


def test_a_row_that_cannot_tell_has_null():
    row = next(iter(tables.planned_rows("whisper_digits")))
    assert set(tables.by_seen(row.measured).values()) == {None}


def test_the_page_shows_both_parts_and_the_chance_lines():
    shown = render_chance.seen_table("whisper_wer").data
    assert "on the 517 test utterances (79 %)" in shown and "on the 139 others" in shown
    assert "the best constant answer: 83.0 %" in render_chance.chance_lines("whisper_digits").data
