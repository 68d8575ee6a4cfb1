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


def add(tmp_path, rate="1/4", source=((0, 0), (2, 1)), dev=((3, 3), (1, 1)), seed=0, size="tiny", method="full", test=(1, 1), cell=None, loss=None):
    """A made-up record: word errors of two utterances of ten words, before and after one epoch."""
    cell = cell or learning_rates.make_rates(size, [rate], [method], [seed])[0]
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
        for i, e in enumerate(test)
    ]
    for split, epochs in {"dev": dev, "source": source}.items():
        samples += [
            {"split": split, "epoch": epoch, "id": f"{split}{i}", "hypothesis": "", "errors": e, "words": 10}
            for epoch, errors in enumerate(epochs)
            for i, e in enumerate(errors)
        ]
    history = [
        dict.fromkeys(records.FORGETTING_EPOCH)
        | {
            "epoch": epoch,
            "step": 5 * epoch,
            "train_loss": loss if epoch else None,
            "dev_wer_pct": 5.0 * sum(dev[epoch]),
            "source_wer_pct": 5.0 * sum(source[epoch]),
        }
        for epoch in (0, 1)
    ]
    record = records.Record(
        schema=records.SCHEMA,
        fingerprint=records.fingerprint(cell.as_dict(), {}, "none", "0"),
        table=cell.table,
        scale="mini",
        status="ok",
        reason=None,
        cell=cell.as_dict(),
        config={"training": {"learning_rate": 5e-4}},
        metrics={"wer_pct": records.Metric(*[5.0 * sum(test)] * 3, "%", "lower", "wer|made-up", 2)},
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
    assert rows["source_change_points"]["lo"] < 15 < rows["source_change_points"]["hi"]
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


def add_family(tmp_path, method="full", size="tiny", sources=(8, 4, 2, 0, 0), tests=(6, 2, 2, 4, 8), seed=0):
    """Five rates, highest first: errors on each of the two source utterances after training, and on each of the test's."""
    for rate, after, heard in zip(RATES, sources, tests, strict=True):
        add(tmp_path, rate, source=((0, 0), (after, after)), seed=seed, size=size, method=method, test=(heard, heard))
    return tmp_path / "results"


def test_a_family_needs_all_five_rates(tmp_path):
    results = add_family(tmp_path)
    assert list(learning_rates.family("tiny", "full", results)) == list(RATES)
    next((results / "mini/learning_rates").glob("*rate1over10-s0.json")).unlink()
    assert learning_rates.family("tiny", "full", results) == {}
    assert len(learning_rates.measured("tiny", "full", results)) == 4


def test_a_family_pools_the_seeds_that_all_rates_have(tmp_path):
    results = add_family(tmp_path)
    add(tmp_path, "1", seed=1)
    pooled = learning_rates.family("tiny", "full", results)
    assert {rate: [record.cell["seed"] for _, record in row.measured] for rate, row in pooled.items()} == {rate: [0] for rate in RATES}
    assert len(learning_rates.measured("tiny", "full", results)["1"].measured) == 2


def test_the_lowest_rate_is_best_and_an_equal_one_a_tie(tmp_path):
    whole = learning_rates.family("tiny", "full", add_family(tmp_path))
    assert learning_rates.marks(whole) == {"1": "worse", "1/4": "best", "1/10": "tie", "1/40": "worse", "1/100": "worse"}


def test_a_rate_harms_where_it_is_above_the_untrained_model(tmp_path):
    results = add_family(tmp_path)  # 60, 20, 20, 40 and 80 % on the target
    assert learning_rates.harms(learning_rates.family("tiny", "full", results), learning_rates.untrained("tiny", "full", results)) == {}
    add(tmp_path, cell=make_cell("tiny", "fp32", "none"), test=(4, 4))
    found = learning_rates.harms(learning_rates.family("tiny", "full", results), learning_rates.untrained("tiny", "full", results))
    assert {rate: round(one.value) for rate, (one, _) in found.items()} == {"1": 20, "1/4": -20, "1/10": -20, "1/40": 0, "1/100": 40}
    assert {rate: learning_rates.significant(*one) for rate, one in found.items()} == {"1": 1, "1/4": -1, "1/10": -1, "1/40": 0, "1/100": 1}
    assert "harm: tiny at 1 (+20.0), tiny at 1/100 (+40.0)." in render_rates.findings(results).data


def test_forgetting_is_significant_where_every_utterance_is_worse_and_a_tie_where_none_is(tmp_path):
    found = learning_rates.forgets(learning_rates.family("tiny", "full", add_family(tmp_path)))
    assert {rate: round(one.value) for rate, (one, _) in found.items()} == {"1": 80, "1/4": 40, "1/10": 20, "1/40": 0, "1/100": 0}
    assert {rate: learning_rates.significant(*one) for rate, one in found.items()} == {"1": 1, "1/4": 1, "1/10": 1, "1/40": 0, "1/100": 0}


def test_what_moved_is_counted_over_all_seeds(tmp_path):
    add(tmp_path, source=((1, 3), (2, 3)))
    add(tmp_path, source=((1, 3), (4, 0)), seed=1)
    row = learning_rates.measured("tiny", "full", tmp_path / "results")["1/4"]
    assert learning_rates.moved(row) == (2, 1)
    assert "2 worse, 1 better" in render_rates.forgetting_table("full", tmp_path / "results").data


def test_findings_say_where_the_best_rate_is_at_an_end_of_the_five(tmp_path):
    add_family(tmp_path, size="tiny", tests=(1, 3, 4, 5, 6))
    said = render_rates.findings(add_family(tmp_path, size="base", tests=(6, 2, 4, 5, 6))).data
    assert "so that a rate beyond may be better: tiny." in said


def test_findings_say_which_seeds_are_not_there_yet(tmp_path):
    said = render_rates.findings(add_family(tmp_path)).data
    assert "Not all planned seeds are there for tiny (3)." in said


def test_what_the_largest_loses_more_than_the_smallest(tmp_path):
    add_family(tmp_path, size="tiny", sources=(8, 4, 2, 0, 0))
    results = add_family(tmp_path, size="large", sources=(9, 1, 2, 0, 0))
    found = learning_rates.larger_minus_smaller("full", results=results)
    assert {rate: round(one.value) for rate, one in found.items()} == {"1": 10, "1/4": -30, "1/10": 0, "1/40": 0, "1/100": 0}
    assert learning_rates.larger_minus_smaller("adalora", results=results) == {}


def test_the_trade_holds_adalora_against_the_mildest_full_fine_tuning_that_is_as_good(tmp_path):
    add_family(tmp_path, sources=(8, 4, 2, 0, 0), tests=(6, 2, 2, 4, 8))
    results = add_family(tmp_path, "adalora", sources=(3, 0, 0, 0, 0), tests=(5, 6, 7, 8, 8))
    found = learning_rates.trade("tiny", results)
    assert (found.adalora_rate, found.full_rate) == ("1", "1/40")  # 50 % on the target against 40 %: 1/4 and 1/10 are as good, but cost the source
    assert (found.target.value, found.source.value) == (pytest.approx(10), pytest.approx(30))


def test_no_full_fine_tuning_may_be_as_good_as_adalora(tmp_path):
    add_family(tmp_path, tests=(6, 5, 5, 6, 8))
    results = add_family(tmp_path, "adalora", tests=(2, 6, 7, 8, 8))
    assert learning_rates.trade("tiny", results) == learning_rates.Trade("1", None, None, None)


def test_trainings_of_the_main_table_are_compared_by_losses_and_wer(tmp_path):
    add(tmp_path, "1/40", loss=0.25)
    add(tmp_path, "1", loss=0.5)
    add(tmp_path, cell=make_cell("tiny", "fp32", "full", rate="1/40"), loss=0.25, test=(2, 1))
    assert learning_rates.twins(tmp_path / "results") == [learning_rates.Twin("full", -5.0, True)]


def test_findings_say_nothing_of_a_size_with_a_missing_rate(tmp_path):
    add(tmp_path, "1", size="large")
    said = render_rates.findings(tmp_path / "results").data
    assert "1 of 90 planned trainings are measured" in said
    assert "large full fine-tuning" in said and "lowest WER" not in said


def test_a_size_with_a_missing_rate_has_no_marks(tmp_path):
    add(tmp_path, "1", source=((0, 0), (9, 9)))
    shown = render_rates.forgetting_table("full", tmp_path / "results").data
    assert "+90.0" in shown and "nan" not in shown
    assert "+90.0</a> ▲" not in shown
    whole = render_rates.forgetting_table("full", add_family(tmp_path)).data
    assert "+80.0</a> ▲" in whole


def test_the_figure_of_the_trade_says_both_word_error_rates(tmp_path):
    shown = render_rates.plot_trade(add_family(tmp_path)).data
    assert "tiny, full fine-tuning: 1 60.0 and 80.0, 1/4 20.0 and 40.0" in shown


@pytest.mark.slow
def test_a_run_hears_the_source_after_every_epoch(tmp_path):
    row = learning_rates.run("tiny", ["1"], ["full"], epochs=1, results_dir=str(tmp_path))
    before, after = row.records[0].history
    assert after["source_wer_pct"] > before["source_wer_pct"]  # the full rate overwrites it at once
    assert after["dev_wer_pct"] < before["dev_wer_pct"]
    assert before["source_words"] == after["source_words"] > 1_000
