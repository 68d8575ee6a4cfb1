"""The calibration at scale paper: a released model against its published ROUGE, by the rule that was written before any run."""

import pytest

from asum_lib.study import records, text_calibration

PUBLISHED = {"rouge1": 32.4, "rouge2": 14.3, "rougeL": 28.0}


@pytest.fixture
def add(tmp_path):
    def write(values=PUBLISHED, half=0.1, **config):
        decoding = {"beams": 5, "max_source_tokens": 600, "max_new_tokens": 200, "no_repeat_ngram": 4, "batch_size": 8}
        found = {"checkpoint": text_calibration.CHECKPOINT, "decoding": decoding, "documents": {"limit": None}} | config
        metrics = {
            kind: records.Metric(value, value - half, value + half, "ROUGE x 100", "higher", f"{kind}|tok:unicode", 5_770)
            for kind, value in values.items()
        }
        parts = records.failure(ValueError("x")) | {"status": "ok", "reason": None, "metrics": metrics}
        fixed = {"schema": records.SCHEMA, "fingerprint": "0", "table": "rouge_gazeta", "scale": "paper", "cell": {}, "config": found}
        record = records.Record(**fixed, **parts, samples=None, provenance=dict.fromkeys(records.PROVENANCE))
        records.write(record, text_calibration.record_path("gazeta-v1", tmp_path), [])

    return write


def state(tmp_path):
    return text_calibration.calibration("gazeta-v1", tmp_path).state


def test_without_a_record_nothing_counts(tmp_path):
    assert state(tmp_path) == "not measured"
    assert text_calibration.caveat("gazeta-v1", tmp_path).startswith("not calibrated (not measured: no record of IlyaGusev/mbart_ru_sum_gazeta")


def test_within_half_a_point_it_is_calibrated(add, tmp_path):
    add({kind: value + 0.4 for kind, value in PUBLISHED.items()})
    assert state(tmp_path) == "calibrated"
    assert text_calibration.caveat("gazeta-v1", tmp_path) is None


def test_one_value_off_is_off(add, tmp_path):
    add(PUBLISHED | {"rougeL": 27.0})
    found = text_calibration.calibration("gazeta-v1", tmp_path)
    assert (found.state, found.reason) == ("off", "rougeL 27.0 instead of 28")


def test_an_interval_that_holds_the_published_value_is_enough(add, tmp_path):
    add({kind: value + 1 for kind, value in PUBLISHED.items()}, half=1.2)
    assert state(tmp_path) == "calibrated"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"checkpoint": "facebook/mbart-large-50"}, "the record is of checkpoint facebook/mbart-large-50"),
        ({"decoding": {"beams": 1}}, "decoded otherwise"),
        ({"documents": {"limit": 10}}, "the first 10 documents only"),
    ],
)
def test_another_run_cannot_calibrate(add, tmp_path, config, message):
    add(**config)
    found = text_calibration.calibration("gazeta-v1", tmp_path)
    assert found.state == "not measured"
    assert message in found.reason


def test_wikihow_has_no_model_to_hold_against(tmp_path):
    assert "no published figure" in text_calibration.caveat("wikihow", tmp_path)
