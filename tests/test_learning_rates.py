"""The table of learning rates: its grid, what is refused, what a record holds of the source, and the changes read from it."""

import json
from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.study import learning_rates, records, render_rates
from asum_lib.study.cells import RATES, SIZES, make_cell


def test_every_size_is_planned_at_five_rates_with_and_without_adalora():
    planned = learning_rates.planned_rates()
    assert {(cell.size, cell.method, cell.rate) for cell in planned} == {(s, m, r) for s in SIZES for m in ("full", "adalora") for r in RATES}
    assert len({cell.path(Path("r")) for cell in planned}) == len(planned)
    assert all(cell.path(Path("r")).parent == Path("r/mini/learning_rates") for cell in planned)


def test_adalora_is_the_papers_on_int8():
    assert {(cell.method, cell.precision) for cell in learning_rates.planned_rates()} == {("full", "fp32"), ("adalora", "int8")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "huge"}, "unknown size 'huge': choose from tiny"),
        ({"rates": ["1/3"]}, "unknown rate '1/3': choose from 1, 1/4, 1/10, 1/40, 1/100"),
        ({"rates": "1/4"}, "rates '1/4' is not a list"),
        ({"methods": ["lora"]}, "unknown method 'lora' of the learning rates: choose from full, adalora"),
        ({"seeds": [-1]}, "seed -1 is not a whole number"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        learning_rates.make_rates(**{"size": "tiny"} | given)


def test_forgetting_is_known_for_the_generated_corpus_alone():
    with pytest.raises(InputError, match="what is forgotten is known for howto alone"):
        make_cell("tiny", "fp32", "full", corpus="digits", forgetting=True)


def add(tmp_path, rate="1/4", source=((0, 0), (2, 1)), dev=((3, 3), (1, 1)), seed=0):
    """A made-up record of tiny, full fine-tuning: word errors of two utterances of ten words, before and after one epoch."""
    (cell,) = learning_rates.make_rates("tiny", [rate], ["full"], [seed])
    samples = [
        {
            "split": "test",
            "id": f"t{i}",
            "reference": "",
            "hypothesis": "",
            "substitutions": e,
            "insertions": 0,
            "deletions": 0,
            "words": 10,
            "duration_s": 1,
        }
        for i, e in enumerate((1, 1))
    ]
    for split, epochs in {"dev": dev, "source": source}.items():
        samples += [
            {"split": split, "epoch": epoch, "id": f"{split}{i}", "hypothesis": "", "errors": e, "words": 10}
            for epoch, errors in enumerate(epochs)
            for i, e in enumerate(errors)
        ]
    history = [
        dict.fromkeys(records.FORGETTING_EPOCH)
        | {"epoch": epoch, "step": 5 * epoch, "dev_wer_pct": 5.0 * sum(dev[epoch]), "source_wer_pct": 5.0 * sum(source[epoch])}
        for epoch in (0, 1)
    ]
    record = records.Record(
        schema=records.SCHEMA,
        fingerprint="0",
        table=cell.table,
        scale="mini",
        status="ok",
        reason=None,
        cell=cell.as_dict(),
        config={"training": {"learning_rate": 5e-4}},
        metrics={"wer_pct": records.Metric(10.0, 10.0, 10.0, "%", "lower", "wer|made-up", 2)},
        memory_bytes=records.unmeasured(records.MEMORY_BYTES),
        params=records.unmeasured(records.PARAMS),
        time_s=records.unmeasured(records.TIME_S),
        audio_s=1.0,
        rtfx=None,
        history=history,
        samples=None,
        provenance=dict.fromkeys(records.PROVENANCE),
    )
    path = cell.path(tmp_path / "results")
    records.write(record, path, samples)
    return path


def rows_of(tmp_path, rate):
    found = learning_rates.rows(results=tmp_path / "results")
    return {row["metric"]: row for row in found if (row["cell"]["size"], row["cell"]["method"], row["cell"]["rate"]) == ("tiny", "full", rate)}


def test_what_is_forgotten_is_the_change_on_the_source(tmp_path):
    add(tmp_path)
    rows = rows_of(tmp_path, "1/4")
    assert rows["wer_pct"]["value"] == pytest.approx(10)
    assert rows["source_change_points"]["value"] == pytest.approx(15)  # 3 errors more in 20 words
    assert rows["source_change_points"]["lo"] > 0
    assert (rows["source_change_points"]["seeds"], rows["source_change_points"]["status"]) == ([0], "partial")


def test_the_papers_rate_stands_beside_ours_at_one_fortieth(tmp_path):
    add(tmp_path, rate="1/40")
    rate = rows_of(tmp_path, "1/40")["learning_rate"]
    assert (rate["value"], rate["paper"], rate["paper_status"]) == (5e-4, 3.75e-5, "derived")
    assert rows_of(tmp_path, "1/4")["learning_rate"]["paper"] is None


def test_a_cell_without_record_is_missing(tmp_path):
    rows = learning_rates.rows(results=tmp_path / "results")
    assert len(rows) == 3 * len(SIZES) * 2 * len(RATES)
    assert {row["status"] for row in rows} == {"missing"}
    assert {row["value"] for row in rows} == {None}


def test_a_record_whose_epochs_are_of_no_known_kind_is_refused(tmp_path):
    path = add(tmp_path)
    data = json.loads(path.read_text())
    data["history"][0]["sauce_wer_pct"] = data["history"][0].pop("source_wer_pct")
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="unknown key 'sauce_wer_pct'"):
        records.read(path)


def test_the_rates_of_the_paper_are_a_fortieth_of_pre_training():
    shown = render_rates.rates_table().data
    assert shown.count("<td>0.025</td>") == 5
    assert "4.375e-06 s" in shown and "3.75e-05 d" in shown


@pytest.mark.slow
def test_a_run_hears_the_source_after_every_epoch(tmp_path):
    row = learning_rates.run("tiny", ["1"], ["full"], epochs=1, results_dir=str(tmp_path))
    before, after = row.records[0].history
    assert after["source_wer_pct"] > before["source_wer_pct"]  # the full rate overwrites it at once
    assert after["dev_wer_pct"] < before["dev_wer_pct"]
    assert before["source_words"] == after["source_words"] > 1_000
