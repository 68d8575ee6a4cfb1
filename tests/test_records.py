import gzip
import json
import os
from dataclasses import replace

import pytest

from asum_lib.errors import InputError
from asum_lib.study import placing, records


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_record_is_read_as_it_was_written(add_record):
    path = add_record("medium", "int8", "adalora", seed=2, errors=[1, 3], words=10)
    record = records.read(path)
    assert path.name == "whisper-medium-int8-adalora-r8-s2.json"
    assert record.metrics["wer_pct"].value == 20.0
    assert record.cell["rank"] == 8
    assert record.samples["n"] == 2
    assert [row["substitutions"] for row in records.read_samples(path)] == [1, 3]


def test_unmeasured_is_null(add_record):
    record = records.read(add_record())
    assert record.memory_bytes == {"weights": 4_000, "footprint": None, "peak_allocated": None, "peak_reserved": None, "process_peak": None}


def test_unmeasured_refuses_a_key_that_is_not_a_field():
    with pytest.raises(InputError, match="unknown key 'weight'"):
        records.unmeasured(records.MEMORY_BYTES, weight=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(colour="red"), "unknown key 'colour'"),
        (lambda data: data.pop("rtfx"), "missing key 'rtfx'"),
        (lambda data: data["params"].pop("total"), "params: missing key 'total'"),
        (lambda data: data["metrics"]["wer_pct"].update(p=1), "wer_pct: unknown key 'p'"),
        (lambda data: data["history"].append({"epoch": 0}), "history: missing key 'step'"),
        (lambda data: data["provenance"].pop("cpu"), "provenance: missing key 'cpu'"),
        (lambda data: data.update(schema=2), "schema 2, this code reads 1"),
        (lambda data: data.update(status="done"), "status 'done', expected one of ok, failed, skipped"),
        (lambda data: data.update(status="failed"), "reason is empty"),
    ],
)
def test_reading_refuses_what_is_not_this_schema_and_names_file_and_key(add_record, change, message):
    path = add_record()
    edit(path, change)
    with pytest.raises(InputError, match=message) as error:
        records.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_reading_refuses_a_missing_and_a_broken_file(tmp_path):
    with pytest.raises(InputError, match="no such record"):
        records.read(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": 1,')
    with pytest.raises(InputError, match="not JSON"):
        records.read(tmp_path / "half.json")


def test_the_same_samples_give_the_same_bytes(add_record):
    path = add_record()
    samples_path = path.with_name(records.read(path).samples["path"])
    first = samples_path.read_bytes()
    records.write(records.read(path), path, records.read_samples(path))
    assert samples_path.read_bytes() == first


def test_changed_samples_are_refused(add_record):
    path = add_record()
    samples_path = path.with_name(records.read(path).samples["path"])
    samples_path.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(InputError, match="sha256"):
        records.read_samples(path)


def test_a_value_that_is_not_a_number_is_never_written(add_record):
    path = add_record()
    record = records.read(path)
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write(replace(record, rtfx=float("nan")), path.with_name("other.json"), [])
    assert not path.with_name("other.json").exists()


def test_a_kill_between_samples_and_record_leaves_no_record(add_record, monkeypatch):
    path = add_record(errors=[1, 0])
    record = records.read(path)
    rename = os.replace

    def killed_at_the_record(aside, target):
        if target == path:
            raise KeyboardInterrupt
        rename(aside, target)

    monkeypatch.setattr(os, "replace", killed_at_the_record)
    with pytest.raises(KeyboardInterrupt):
        records.write(record, path, [{"id": "another run's"}])
    assert not path.exists()


def test_writing_leaves_only_the_record_and_its_samples(add_record):
    path = add_record()
    assert sorted(file.name for file in path.parent.iterdir()) == ["whisper-tiny-fp32-none-s0.json", "whisper-tiny-fp32-none-s0.samples.jsonl.gz"]


def test_a_failure_is_a_record_with_its_reason_and_without_samples(add_record):
    path = add_record()
    path = add_record(reason="out of memory")
    record = records.read(path)
    assert (record.status, record.reason, record.samples) == ("failed", "out of memory", None)
    assert records.read_samples(path) == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_load_gives_records_in_order_and_nothing_for_no_table(add_record, tmp_path):
    add_record("tiny", "fp32")
    add_record("base", "int8")
    loaded = placing.load(tmp_path / "results", "mini", "whisper_wer")
    assert [path.name for path, _ in loaded] == ["whisper-base-int8-none-s0.json", "whisper-tiny-fp32-none-s0.json"]
    assert placing.load(tmp_path / "results", "paper", "whisper_wer") == []


def test_fingerprint_depends_on_everything_but_the_order_of_keys():
    same = records.fingerprint({"a": 1, "b": 2}, {"corpus": "howto"}, "abc", "wer")
    assert records.fingerprint({"b": 2, "a": 1}, {"corpus": "howto"}, "abc", "wer") == same
    others = [
        records.fingerprint({"a": 1, "b": 3}, {"corpus": "howto"}, "abc", "wer"),
        records.fingerprint({"a": 1, "b": 2}, {"corpus": "digits"}, "abc", "wer"),
        records.fingerprint({"a": 1, "b": 2}, {"corpus": "howto"}, "abd", "wer"),
        records.fingerprint({"a": 1, "b": 2}, {"corpus": "howto"}, "abc", "cer"),
    ]
    assert len({same, *others}) == 5


def test_provenance_has_every_key_and_says_what_it_was_told():
    found = records.provenance("asum run notebook.ipynb", "notebook.ipynb", "2025-01-31T12:00:00+00:00")
    assert list(found) == records.PROVENANCE
    assert found["command"] == "asum run notebook.ipynb"
    assert found["started_at"] == "2025-01-31T12:00:00+00:00" < found["finished_at"]
    assert found["packages"]["jiwer"] == "4.0.0"
    assert found["threads"] >= 1


def test_outside_a_repository_git_is_null(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "REPOSITORY", tmp_path)
    found = records.provenance("asum", None, records.now())
    assert (found["git_commit"], found["git_dirty"]) == (None, None)
