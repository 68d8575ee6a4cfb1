"""Every table by its name, as text in three forms, and one value of it by a reference."""

import csv
import io
import json

import pytest

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.study import all_tables

ROWS = [
    {"cell": {"size": "tiny", "rank": None}, "metric": "wer_pct", "value": 12.5, "seeds": [0, 1], "records": ["a.json", "b.json"]},
    {"cell": {"size": "base", "rank": 8}, "metric": "wer_pct", "value": float("nan"), "seeds": [], "records": [], "caveat": "x,y"},
]


def test_csv_has_the_cell_first_and_every_key_of_any_row():
    lines = list(csv.DictReader(io.StringIO(all_tables.as_csv(ROWS))))
    assert list(lines[0]) == ["size", "rank", "metric", "value", "seeds", "records", "caveat"]
    assert (lines[0]["rank"], lines[0]["value"], lines[0]["seeds"], lines[0]["records"]) == ("", "12.5", "0 1", "a.json b.json")
    assert (lines[1]["value"], lines[1]["caveat"]) == ("", "x,y")


def test_json_has_null_for_what_it_cannot_say():
    assert json.loads(all_tables.as_json(ROWS))[1]["value"] is None


def test_the_names_of_the_tables():
    shipped = {"whisper_wer", "whisper_digits", "learning_rates", "corpora", "rouge_wikihow", "rouge_gazeta", "rouge_ranks", "memory"}
    assert shipped < set(all_tables.names())
    assert "learning_rates" not in all_tables.names("paper")
    with pytest.raises(InputError, match="unknown scale 'huge'"):
        all_tables.names("huge")


@pytest.mark.parametrize("name", ["whisper_wer", "rouge_gazeta", "learning_rates", "corpora", "memory"])
def test_a_table_as_csv_has_as_many_lines_as_rows(name, capsys):
    assert cli.main(["table", name, "--format", "csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == len(all_tables.rows(name))


def test_export_writes_every_table_and_the_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(all_tables, "rows", lambda name, scale, results: ROWS)
    monkeypatch.setattr("asum_lib.study.claims.judge", lambda scale, results: [])
    names = {path.name for path in all_tables.export(tmp_path / "new" / "folder")}
    assert {"whisper_wer-mini.csv", "whisper_wer-mini.json", "memory-paper.csv", "claims-mini.json", "claims-paper.json"} <= names
    assert "memory-mini.csv" not in names
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == names


def test_a_reference_leaves_one_row():
    row = all_tables.find("whisper_wer size=tiny precision=int8 method=none")
    assert (row["cell"]["size"], row["cell"]["precision"], row["cell"]["method"]) == ("tiny", "int8", "none")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("whisper_wer size=tiny precision=int8 method=adalora", r"leaves 2 cells, told apart by rate"),
        ("whisper_wer size=huge", r"no such cell in the table"),
        ("whisper_wer size", r"'size' is not NAME=VALUE"),
        ("whisper_wer colour=red", r"unknown name in reference .*'colour': choose from model, size"),
        ("whisper_were size=tiny", r"unknown table 'whisper_were'"),
    ],
)
def test_a_reference_that_does_not_name_one_row_is_refused(reference, message):
    with pytest.raises(InputError, match=message):
        all_tables.find(reference)
