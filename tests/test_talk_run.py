"""Cells of speech summarisation, what is scored of a summary, and the rules that judge them."""

from dataclasses import replace

import pytest
from talk_records import COUNT, cost_rows, few, right, without_tool, write_cell, write_system

from asum_lib.errors import InputError
from asum_lib.study import e2e_summarization, records, remeasure, talk_claims, talk_run, talk_scores, talk_tables, text_tables
from asum_lib.study.talk_cells import COST, E2E, PROSODY, TABLES, make_talk_cell, planned_talks

QUICK = {"table": E2E, "systems": ["chance", "lead3"], "sizes": ["medium"], "precisions": ["int8"], "seeds": [0], "grid": False}


def test_no_two_planned_cells_share_a_record(tmp_path):
    paths = [cell.path(tmp_path) for table in TABLES for cell in planned_talks(table)]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("table", TABLES)
def test_what_is_trained_is_planned_for_three_seeds(table):
    seeds = {}
    for cell in planned_talks(table):
        seeds.setdefault(replace(cell, seed=0), []).append(cell.seed)
    assert all(found == ([0, 1, 2] if cell.trained_on and cell.system != "cascade" else found) for cell, found in seeds.items())


@pytest.mark.parametrize(
    "given, message",
    [
        ({"system": "lead5"}, "lead5"),
        ({"system": "cascade", "asr": "huge"}, "huge"),
        ({"system": "cascade", "precision": "int8", "method": "lora"}, "int8 adalora"),
        ({"system": "e2e", "asr": "tiny"}, "hears with medium int8 adalora"),
        ({"system": "e2e", "seed": -1}, "seed -1"),
        ({"system": "e2e", "corpus": "howto"}, "howto-talks"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message):
        make_talk_cell(**given)


def test_systems_that_need_no_model_are_measured_and_read_again(tmp_path):
    first = e2e_summarization.run(**QUICK | {"results_dir": str(tmp_path)})
    again = e2e_summarization.run(**QUICK | {"results_dir": str(tmp_path)})
    assert [record.status for record in first.records] == ["ok", "ok"]
    assert [record.provenance["finished_at"] for record in again.records] == [record.provenance["finished_at"] for record in first.records]


def test_lead_takes_the_first_three_sentences_that_were_said(tmp_path):
    row = e2e_summarization.run(**QUICK | {"systems": ["lead3"], "results_dir": str(tmp_path)})
    sample = records.samples_of(row.records[0], row.paths[0])[0]
    assert sample["summary"] == " ".join(few().talks[0].transcript.splitlines()[:3])


def test_a_record_scored_again_is_as_it_was_and_a_changed_summary_is_found(tmp_path):
    (path,) = write_system(tmp_path, "reference", right, seeds=[0])
    assert remeasure.rescore(path, records.read(path)) is None
    rows = records.samples_of(records.read(path), path)
    rows[0]["summary"] = "something else"
    changed = records.write(records.read(path), path, rows)
    assert "when scored again" in remeasure.rescore(path, changed)


def test_a_wrong_tool_costs_a_fact_and_makes_one_up_where_it_is_a_tool_of_the_generator():
    talk = few().talks[0]
    wrong = talk.summary.replace("a copper kettle", "a glass jar")
    (row,) = talk_scores.sample_rows(replace(few(), talks=(talk,)), [wrong])
    assert (row["wanted"] - row["right"], row["beside"], row["made_up"]) == (1, 0, 1)


def test_a_step_is_right_when_it_is_the_stressed_one_and_no_other():
    corpus = few("howto-stress")
    talk = corpus.talks[0]
    stressed = next(fact.value for fact in talk.facts if fact.kind == "step" and fact.key)
    other = next(fact.value for fact in talk.facts if fact.kind == "step" and not fact.key)
    one = replace(corpus, talks=(talk,))
    summaries = [f"above all {stressed}.", f"above all {other}.", f"above all {stressed} and {other}.", "above all rest."]
    assert [talk_scores.sample_rows(one, [summary])[0]["step_right"] for summary in summaries] == [1.0, 0.0, 0.0, 0.0]


def test_the_ladder_is_read_from_the_records_of_the_wer_table():
    cell = make_talk_cell("ladder", "large", "fp32", "none")
    corpus = few()
    heard = talk_run._ladder_transcripts(cell, corpus)
    assert [len(text.splitlines()) for text in heard] == [len(talk.transcript.splitlines()) for talk in corpus.talks]


def test_the_hearer_has_the_cells_own_seed_at_the_size_of_the_end_to_end_model_alone():
    assert [talk_run.hearer_seed(make_talk_cell("cascade", size, seed=2)) for size in ("medium", "large")] == [2, 0]


def rule(*parts, table=COST):
    return {"kind": "talk_contrasts", "tables": [table], "equivalent_within_points": 0, "deciding": list(parts)}


def cost_part(metric, expect="below"):
    sides = [[1, {"table": COST, "metric": f"e2e_{metric}"}], [-1, {"table": COST, "metric": f"cascade_{metric}"}]]
    return {"what": metric, "unit": metric, "expect": expect, "sides": sides}


def test_less_time_and_less_weight_is_reproduced_and_more_of_one_is_not(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / "results", make_talk_cell("both", table=COST, seed=seed), cost_rows(seed))
    judge = lambda *parts: talk_claims.judge(rule(*parts), "mini", tmp_path / "results")  # noqa: E731
    verdict, _, evidence = judge(cost_part("ms"), cost_part("weights_kb"))
    assert verdict == "reproduced"
    assert [part["difference"] for part in evidence] == pytest.approx([-500 * (COUNT + 1) / 2, -500])
    assert judge(cost_part("ms"), cost_part("peak_kb"))[0] == "not reproduced"


def test_a_missing_seed_leaves_a_claim_inconclusive(tmp_path):
    write_cell(tmp_path / "results", make_talk_cell("both", table=COST, seed=0), cost_rows(0))
    assert talk_claims.judge(rule(cost_part("ms")), "mini", tmp_path / "results")[0] == "inconclusive"


def test_chance_is_taken_off_a_share(tmp_path):
    write_system(tmp_path / "results", "e2e", right, table=PROSODY, corpus="howto-stress")
    part = {
        "what": "x",
        "expect": "above",
        "minus": 33.3333,
        "sides": [[1, {"table": PROSODY, "system": "e2e", "corpus": "howto-stress", "metric": "step_right"}]],
    }
    (evidence,) = talk_claims.judge(rule(part, table=PROSODY), "mini", tmp_path / "results")[2]
    assert evidence["difference"] == pytest.approx(100 - 33.3333)


def test_rows_pool_the_seeds_and_name_their_records(tmp_path):
    paths = write_system(tmp_path / "results", "e2e", without_tool)
    row = talk_tables.find(talk_tables.gather(E2E, results=tmp_path / "results"), system="e2e")
    shown = talk_tables.as_object(row, "fact_recall", tmp_path / "results")
    assert shown["seeds"] == [0, 1, 2]
    assert len(shown["records"]) == len(paths)
    assert shown["value"] == pytest.approx(text_tables.interval(row, "fact_recall")[0])
