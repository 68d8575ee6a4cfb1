"""The calibration at scale paper: a released model against its published ROUGE, by the rule that was written before any run."""

import json

import pytest

from asum_lib.study import records, text_calibration
from asum_lib.study.text_calibration import authors_rouge, authors_sentences

PUBLISHED = {"rouge1": 32.4, "rouge2": 14.3, "rougeL": 28.0}
CELL = {"precision": "fp32", "method": "none"}
CONFIG = {
    "checkpoint": text_calibration.CHECKPOINT,
    "decoding": {"beams": 5, "max_source_tokens": 600, "max_new_tokens": 200, "no_repeat_ngram": 4, "batch_size": 8},
}


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Writes a record of the released model on Gazeta v1 whose summaries score `values` in each way of counting, give or take `half`."""

    def write(values=PUBLISHED, half=0.1, n=5_770, cell=CELL, revision="1" * 40, samples=True, every=None, **config):
        metrics = {kind: records.Metric(1.0, 0.5, 1.5, "ROUGE x 100", "higher", f"{kind}|tok:unicode", n) for kind in PUBLISHED}
        parts = records.failure(ValueError("x")) | {"status": "ok", "reason": None, "metrics": metrics}
        fixed = {"schema": records.SCHEMA, "fingerprint": "0", "table": "rouge_gazeta", "scale": "paper", "cell": cell, "config": CONFIG | config}
        provenance = dict.fromkeys(records.PROVENANCE) | {"model_revision": revision}
        record = records.Record(**fixed, **parts, samples=None, provenance=provenance)
        rows = [{"split": "test", "id": "a", "reference": "Да.", "summary": "Да."}] if samples else []
        records.write(record, text_calibration.record_path("gazeta-v1", tmp_path), rows)

        def scores(ways):
            return {kind: (value, value - half, value + half) for kind, value in ways.items()}

        found = {"distinct n-grams": scores(values), "every n-gram": scores(every or values)}
        monkeypatch.setattr(text_calibration, "_scores", lambda path, sha256: found)

    return write


def found(tmp_path):
    return text_calibration.calibration("gazeta-v1", tmp_path)


def test_without_a_record_nothing_counts(tmp_path):
    assert found(tmp_path).state == "not measured"
    assert text_calibration.caveat("gazeta-v1", tmp_path).startswith("not calibrated (not measured: no record of IlyaGusev/mbart_ru_sum_gazeta")


def test_within_half_a_point_it_is_calibrated(add, tmp_path):
    add({kind: value + 0.4 for kind, value in PUBLISHED.items()})
    assert found(tmp_path).state == "calibrated"
    assert text_calibration.caveat("gazeta-v1", tmp_path) is None


def test_one_value_off_is_off(add, tmp_path):
    add(PUBLISHED | {"rouge2": 13.0})
    assert (found(tmp_path).state, found(tmp_path).reason) == ("off", "rouge2 13.0 instead of 14.3, distinct n-grams counted")


def test_rouge_l_is_shown_and_does_not_decide(add, tmp_path):
    add(PUBLISHED | {"rougeL": 20.0})
    assert found(tmp_path).state == "calibrated"
    assert found(tmp_path).values["rougeL"][:2] == (28.0, 20.0)


def test_an_interval_that_holds_the_published_value_is_enough(add, tmp_path):
    add({kind: value + 1 for kind, value in PUBLISHED.items()}, half=1.2)
    assert found(tmp_path).state == "calibrated"


def test_one_way_of_counting_has_to_do_for_both_values(add, tmp_path):
    add(PUBLISHED | {"rouge1": 30.0}, every=PUBLISHED)
    assert found(tmp_path).state == "calibrated" and found(tmp_path).reason.endswith("every n-gram counted")
    add(PUBLISHED | {"rouge1": 30.0}, every=PUBLISHED | {"rouge2": 16.0})
    assert found(tmp_path).state == "off"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "facebook/mbart-large-50"}, "the record is of checkpoint facebook/mbart-large-50"),
        ({"decoding": CONFIG["decoding"] | {"beams": 1}}, "decoded otherwise than its authors do: {'beams': 1}"),
        ({"cell": {"precision": "int8", "method": "none"}}, "the record is of int8 and method none"),
        ({"n": 6_793}, "measured on 6,793 documents, the test set has 5,770"),
        ({"revision": None}, "the revision of the checkpoint is not recorded"),
        ({"samples": False}, "the summaries are not kept"),
    ],
)
def test_another_run_cannot_calibrate(add, tmp_path, change, message):
    add(**change)
    assert found(tmp_path).state == "not measured"
    assert message in found(tmp_path).reason


def test_wikihow_has_no_model_to_hold_against(tmp_path):
    assert "no published figure" in text_calibration.caveat("wikihow", tmp_path)


def test_the_summaries_of_the_record_are_what_is_scored(add, tmp_path, monkeypatch):
    scores = text_calibration._scores
    add()
    monkeypatch.setattr(text_calibration, "_scores", scores)  # the real one: the one summary is its reference
    assert found(tmp_path).values["rouge1"] == (32.4, 100.0, 0.0, 100.0)  # one summary says nothing of others


def score(reference, summary, metric, way="every n-gram"):
    return authors_rouge([reference], [summary])[way][metric][0]


def test_the_authors_count_signs_as_words():
    assert authors_sentences("«Да», — сказал он?!") == [["«", "да", "»", ",", "—", "сказал", "он", "?!"]]
    assert score("Кот, да", "Пёс, нет", "rouge1") == pytest.approx(1 / 3)  # the comma of three tokens


def test_hyphens_and_ranges_hold_together_and_a_full_stop_ends_a_sentence_anywhere():
    assert authors_sentences("Из-за 2–3 дней... 3,5 и 2.5") == [["из-за", "2–3", "дней"], ["3,5", "и", "2"], ["5"]]


def test_a_word_said_twice_counts_twice_or_once():
    # of "да да нет" and "да да да": two of three each way; distinct: one of {да, нет} and {да}
    assert score("да да нет", "да да да", "rouge1") == pytest.approx(2 / 3)
    assert score("да да нет", "да да да", "rouge1", "distinct n-grams") == pytest.approx(2 / 3)
    # of "да да" and "да нет": one of two; distinct: one of {да} and {да, нет}
    assert score("да да", "да нет", "rouge1") == pytest.approx(1 / 2)
    assert score("да да", "да нет", "rouge1", "distinct n-grams") == pytest.approx(2 / 3)


def test_bigrams_go_over_the_ends_of_sentences():
    assert score("один. два", "один два", "rouge2") == 1.0


def test_rouge_l_takes_sentences_in_any_order():
    assert score("один два. три четыре", "три четыре. один два", "rougeL") == 1.0


def test_an_empty_summary_scores_nothing():
    assert [score("да", "", metric) for metric in text_calibration.METRICS] == [0, 0, 0]


def test_the_authors_scores_are_far_from_ours():
    from asum_lib.measure import rouge

    reference, summary = "«Кот, — сказал он, — спит».", "«Пёс, — сказал он, — ест»."
    ours = rouge.score([reference], [summary], "ru", types=("rouge1",))["rouge1"][0]
    assert ours == pytest.approx(2 / 4)
    assert score(reference, summary, "rouge1") == pytest.approx(8 / 10)  # of « кот , — сказал он , — спит » all but two


def test_the_released_tokenizer_is_read_in_its_layout_and_names_its_source_code(tmp_path):
    pytest.importorskip("google.protobuf", reason="transformers reads a SentencePiece file with it alone")
    import sentencepiece
    from transformers import AutoTokenizer

    (tmp_path / "text.txt").write_text("Подсчёт завершили в пятницу.\nИзбиратели голосуют неохотно.\n" * 50)
    options = {"vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "sentencepiece.bpe"), **options)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"src_lang": "en_XX", "tgt_lang": "ru_RU"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mbart"}))
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Подсчёт завершили.").input_ids)
    assert tokens[-2:] == ["</s>", "en_XX"]
