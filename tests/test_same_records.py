"""Two folders of records: the same measurement, or what is not the same."""

import json
import shutil

import pytest

from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.study.same_records import compare, main

NAME = "whisper-tiny-fp32-none-s0"


@pytest.fixture
def twins(tmp_path):
    """Two folders with the same record of 1 cell, samples included."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for suffix in (".json", ".samples.jsonl.gz"):
            shutil.copy(RESULTS / "mini" / "whisper_source" / f"{NAME}{suffix}", tmp_path / folder)
    return tmp_path / "one", tmp_path / "other"


def change(folder, **fields):
    path = folder / f"{NAME}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | fields))


def test_times_and_provenance_may_differ(twins):
    one, other = twins
    record = records.read(one / f"{NAME}.json")
    change(other, time_s=record.time_s | {"evaluate": 999.0}, rtfx=1.0, provenance=record.provenance | {"cpu": "another"})
    found = compare(one, other)
    assert (found.records, found.differences) == (1, ())
    assert found.samples == record.metrics["wer_pct"].n


def test_another_value_is_named(twins):
    one, other = twins
    record = json.loads((one / f"{NAME}.json").read_text())
    record["metrics"]["wer_pct"]["value"] += 1
    change(other, metrics=record["metrics"])
    assert compare(one, other).differences == (f"{NAME}.json: metrics.wer_pct.value differs",)


def test_another_hypothesis_is_counted(twins):
    one, other = twins
    path = other / f"{NAME}.json"
    samples = records.read_samples(path)
    samples[3] = samples[3] | {"hypothesis": "something else"}
    records.write(records.read(path), path, samples)
    found = compare(one, other)
    assert found.differences == (f"{NAME}.json: what 1 of {len(samples)} samples say differs",)
    assert found.samples == len(samples) - 1


def test_a_record_that_is_not_there_is_a_difference(twins, capsys):
    one, other = twins
    (other / f"{NAME}.json").unlink()
    assert main([str(one), str(other)]) == 1
    assert "0 records and 0 samples are the same, 1 differences" in capsys.readouterr().out


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no record"):
        compare(tmp_path, tmp_path)
