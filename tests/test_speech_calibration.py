"""How2's calibration: a released model's summaries against its published ROUGE, by the rule that was written before any run."""

import struct

import numpy as np
import pytest

from asum_lib import papers
from asum_lib.corpora.talks import load_talks
from asum_lib.errors import InputError
from asum_lib.study import records, remeasure, speech_calibration, text_calibration, text_tables
from asum_lib.study.speech_calibration import CELL, calibration, measure

PUBLISHED = {"rouge1": 60.72, "rouge2": 44.7, "rougeL": 56.1}


@pytest.fixture
def add(tmp_path):
    """Writes a record whose metrics are `values`, give or take `half`, over `n` summaries."""

    def write(values=PUBLISHED, half=0.1, n=2_127):
        metrics = {kind: records.Metric(value, value - half, value + half, "ROUGE x 100", "higher", f"{kind}|x", n) for kind, value in values.items()}
        parts = records.failure(ValueError("x")) | {"status": "ok", "reason": None, "metrics": metrics}
        fixed = {"schema": records.SCHEMA, "fingerprint": "0", "table": CELL.table, "scale": "paper", "cell": CELL.as_dict(), "config": {}}
        record = records.Record(**fixed, **parts, samples=None, provenance=dict.fromkeys(records.PROVENANCE))
        records.write(record, CELL.path(tmp_path), [])

    return write


def test_without_a_record_nothing_counts(tmp_path):
    assert calibration(tmp_path).state == "not measured"
    assert calibration(tmp_path).values["rouge1"] == (60.72, None, None, None)
    assert text_calibration.caveat("how2-text", tmp_path).startswith("not calibrated (not measured: no record of espnet/roshansh_how2")


def test_within_half_a_point_how2_is_calibrated(add, tmp_path):
    add({kind: value - 0.49 for kind, value in PUBLISHED.items()})
    assert calibration(tmp_path).state == "calibrated"
    assert text_calibration.caveat("how2-summaries", tmp_path) is None


@pytest.mark.parametrize("metric", PUBLISHED)
def test_each_of_the_three_decides(add, tmp_path, metric):
    add(PUBLISHED | {metric: PUBLISHED[metric] + 0.7})
    assert calibration(tmp_path).state == "off"
    assert calibration(tmp_path).reason == f"{metric} {PUBLISHED[metric] + 0.7:.1f} instead of {PUBLISHED[metric]:g}"


def test_an_interval_that_holds_the_published_value_is_enough(add, tmp_path):
    add({kind: value + 0.7 for kind, value in PUBLISHED.items()}, half=0.8)
    assert calibration(tmp_path).state == "calibrated"


def test_a_part_of_the_test_set_cannot_calibrate(add, tmp_path):
    add(n=2_000)
    assert calibration(tmp_path).state == "not measured"
    assert calibration(tmp_path).reason == "measured on 2,000 summaries, the test set has 2,127"


def test_the_published_figures_are_the_recipes():
    cells = papers.load("summarisation")["tables"]["how2_summaries"]["cells"]
    known = {cell["cell"]["metric"]: cell["value"] for cell in cells if cell["cell"]["system"] == "end-to-end"}
    assert known == PUBLISHED | {"meteor": 29.36, "bertscore": 91.53, "summaries": 2_127}
    assert {cell["status"] for cell in cells} == {"primary"}


# From a folder of How2 to the record --------------------------------------------------------------------------------------

SUMMARIES = {"vid1": "learn to boil water .", "vid2": "fold a sheet of paper .", "vid3": "grow tomatoes ."}


@pytest.fixture
def how2(tmp_path, monkeypatch):
    """How2 as it is released, of three videos."""
    root = tmp_path / "how2"
    archive, lines = b"", ""
    for identity in SUMMARIES:
        archive += f"{identity} ".encode()
        lines += f"{identity} feats.ark:{len(archive)}\n"
        archive += b"\0BFM " + struct.pack("<bibi", 4, 100, 4, 43) + np.ones((100, 43), "<f4").tobytes()
    (root / "audio" / "fbank_pitch").mkdir(parents=True)
    (root / "audio" / "fbank_pitch" / "feats.ark").write_bytes(archive)
    (root / "audio" / "fbank_pitch" / "dev5_test_sum.scp").write_text(lines)
    (root / "data" / "dev5_test_sum").mkdir(parents=True)
    (root / "data" / "dev5_test_sum" / "text").write_text("".join(f"{key} {text}\n" for key, text in SUMMARIES.items()))
    monkeypatch.setenv("ASUM_HOW2_SUMMARIES", str(root))
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    load_talks.cache_clear()
    yield tmp_path
    load_talks.cache_clear()


def written(folder, rows):
    path = folder / "text"
    path.write_text("".join(f"{key} {text}\n" for key, text in rows.items()))
    return path


def test_a_file_of_summaries_becomes_a_record(how2):
    said = dict(reversed((SUMMARIES | {"vid3": "grow cress ."}).items()))  # 1 of 2 words: ROUGE-1 of 1/2, no bigram
    path, record = measure(written(how2, said), how2 / "results")
    assert record.metrics["rouge1"].value == pytest.approx(100 * (1 + 1 + 1 / 2) / 3)
    assert record.metrics["rouge2"].value == pytest.approx(100 * 2 / 3)
    assert (record.metrics["rouge1"].n, record.metrics["rouge1"].signature[:33]) == (3, "rouge1|tok:default|stem:no|lsum:n")
    assert calibration(how2 / "results").reason == "measured on 3 summaries, the test set has 2,127"
    assert remeasure.rescore(path, record) is None


def test_the_record_keeps_no_text_of_how2(how2):
    path, _ = measure(written(how2, SUMMARIES), how2 / "results")
    assert {(row["reference"], row["summary"]) for row in records.read_samples(path)} == {(None, None)}
    assert "tomatoes" not in path.read_text()


def test_the_record_is_a_row_of_a_table(how2):
    measure(written(how2, SUMMARIES), how2 / "results")
    (row,) = text_tables.rows("rouge_how2", "paper", how2 / "results", metrics=["rouge1"])
    assert (row["value"], row["n"], row["cell"]["model"]) == (100.0, 3, "espnet-conformer")


def test_faults_of_the_file_are_listed(how2):
    with pytest.raises(InputError) as caught:
        measure(written(how2, {"vid1": "x", "vid9": "y"}), how2 / "results")
    assert "3 faults: vid2 has no summary there; vid3 has no summary there; line 2: vid9 is not in the test set" in str(caught.value)


def test_the_command_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("ASUM_HOW2_SUMMARIES", raising=False)
    load_talks.cache_clear()
    assert speech_calibration.main([str(tmp_path / "text")]) == 2
    assert "how2-summaries is not on this machine" in capsys.readouterr().err
