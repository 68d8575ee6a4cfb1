"""The ROUGE tables and claims from made-up records: seeds pooled, paired differences, what is missing, and the rules."""

import json

import pytest

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.study import claims, records, text_tables
from asum_lib.study.text_cells import COMBINATIONS, RANKS, make_text_cell

SIGNATURE = "rouge|made-up"


@pytest.fixture
def add(tmp_path):
    """Writes a made-up record from the ROUGE F1 of each document; returns its path."""

    def write(corpus, model, method="none", scores=(0.4, 0.6), *, signature=SIGNATURE, first_id=0, kept=None, **cell):
        cell = make_text_cell(corpus, model, method=method, **cell)
        kinds = ("rouge1", "rouge2", "rougeL")
        samples = [
            {"split": "test", "id": f"d{first_id + i}", "reference": "a", "summary": "a", **dict.fromkeys(kinds, score)}
            for i, score in enumerate(scores)
        ]
        value = 100 * sum(scores) / len(scores)
        params = records.unmeasured(records.PARAMS, total=1_000, trainable=100, kept_rank_mean=kept)
        record = records.Record(
            schema=records.SCHEMA,
            fingerprint=records.fingerprint(cell.as_dict(), {}, "none", "0"),
            table=cell.table,
            scale="mini",
            status="ok",
            reason=None,
            cell=cell.as_dict(),
            config={"training": {"learning_rate": 0.01}},
            metrics={kind: records.Metric(value, value, value, "ROUGE x 100", "higher", signature, len(scores)) for kind in kinds},
            memory_bytes=records.unmeasured(records.MEMORY_BYTES),
            params=params | {"kept": 50, "kept_ranks": {}},
            time_s=records.unmeasured(records.TIME_S),
            audio_s=None,
            rtfx=None,
            history=[],
            samples=None,
            provenance=dict.fromkeys(records.PROVENANCE),
        )
        path = cell.path(tmp_path / "results")
        records.write(record, path, samples)
        return path

    return write


def row_of(tmp_path, table, metric="rouge1", **cell):
    (found,) = [
        row
        for row in text_tables.rows(table, results=tmp_path / "results", metrics=[metric])
        if all(row["cell"][key] == value for key, value in cell.items())
    ]
    return found


LORA = {"model": "mbart", "method": "lora", "rank": 16, "targets": "qkv", "precision": "fp32"}


def test_seeds_are_pooled_and_a_missing_one_is_said(add, tmp_path):
    for seed, scores in enumerate([(0.2, 0.4), (0.4, 0.6)]):
        add("news-ru", "mbart", "lora", scores, seed=seed)
    row = row_of(tmp_path, "rouge_gazeta", **LORA)
    assert row["value"] == pytest.approx(40)  # of 30 and 50
    assert row["lo"] < 40 < row["hi"]
    assert (row["seeds"], row["status"], row["reason"], row["n"]) == ([0, 1], "partial", "seed 2 missing", 2)
    assert (row["trainable"], row["kept"]) == (100, 50)


def test_the_papers_value_stands_beside_rank_16_only(add, tmp_path):
    assert (row_of(tmp_path, "rouge_gazeta", **LORA)["paper"], row_of(tmp_path, "rouge_gazeta", **LORA)["paper_status"]) == (24.1, "secondary")
    assert row_of(tmp_path, "rouge_gazeta", **LORA | {"rank": 8})["paper_status"] is None
    unknown = row_of(tmp_path, "rouge_gazeta", metric="rouge2", **LORA)
    assert (unknown["paper"], unknown["paper_status"]) == (None, "unknown")


def test_the_table_by_rank_is_a_view_of_both_corpora(add, tmp_path):
    rows = text_tables.rows("rouge_ranks", results=tmp_path / "results", metrics=["rouge1"])
    kept = {(row["cell"]["corpus"], row["cell"]["model"], row["cell"]["rank"]) for row in rows if row["cell"]["method"] == "adalora"}
    assert kept == {(corpus, model, rank) for corpus, model in COMBINATIONS for rank in RANKS}


def test_values_scored_in_two_ways_are_not_compared(add, tmp_path):
    add("news-ru", "mbart", "none", signature="rouge|a")
    add("news-ru", "mbart", "full", signature="rouge|b")
    found = text_tables.gather("rouge_gazeta", results=tmp_path / "results")
    a, b = (text_tables.find(found, "news-ru", "mbart", method=method) for method in ("none", "full"))
    with pytest.raises(InputError, match="unlike signatures cannot be compared"):
        text_tables.difference(a, b, "rouge1")


def test_other_documents_are_not_compared(add, tmp_path):
    add("news-ru", "mbart", "none")
    add("news-ru", "mbart", "full", first_id=5)
    found = text_tables.gather("rouge_gazeta", results=tmp_path / "results")
    a, b = (text_tables.find(found, "news-ru", "mbart", method=method) for method in ("none", "full"))
    with pytest.raises(InputError, match="not scored on the same documents"):
        text_tables.difference(a, b, "rouge1")


def test_an_unknown_table_is_refused_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="choose from rouge_wikihow, rouge_gazeta, rouge_rates, rouge_ranks"):
        text_tables.rows("rouge_cnn", results=tmp_path / "results")


def judged(tmp_path, identity):
    return next(claim for claim in claims.judge(results=tmp_path / "results") if claim["claim"] == identity)


def fill(add, level):
    """Every cell that A1, A2 and A3 compare, three seeds of forty documents; `level(method, rank)` is the mean F1."""
    for corpus, model in COMBINATIONS:
        for seed in range(3):
            add(corpus, model, "full", [level("full", None) + 0.01 * (i % 5) for i in range(40)], seed=seed)
            for method in ("lora", "adalora"):
                for rank in RANKS:
                    add(corpus, model, method, [level(method, rank) + 0.01 * (i % 5) for i in range(40)], seed=seed, rank=rank)


def test_the_claims_hold_where_adalora_leads_reaches_full_and_ranks_stop_helping(add, tmp_path):
    fill(add, lambda method, rank: {"full": 0.50, "lora": 0.40, "adalora": 0.498}[method] + (0 if rank is None else 0.02 * (min(rank, 16) / 16 - 1)))
    assert [judged(tmp_path, claim)["verdict"] for claim in ("A1", "A2", "A3")] == ["reproduced"] * 3


def test_the_claims_fail_where_lora_leads_adalora_is_far_from_full_and_more_rank_always_helps(add, tmp_path):
    fill(add, lambda method, rank: {"full": 0.60, "lora": 0.40, "adalora": 0.38}[method] + (0 if rank is None else 0.002 * rank))
    assert [judged(tmp_path, claim)["verdict"] for claim in ("A1", "A2", "A3")] == ["not reproduced"] * 3


def test_a_missing_seed_leaves_a_claim_inconclusive(add, tmp_path):
    fill(add, lambda method, rank: {"full": 0.50, "lora": 0.40, "adalora": 0.498}[method])
    make_text_cell("news-ru", "mbart", method="adalora", seed=1).path(tmp_path / "results").unlink()
    assert judged(tmp_path, "A1")["verdict"] == "inconclusive"


def test_equal_methods_are_a_failed_claim_of_order_and_a_held_one_of_equality(add, tmp_path):
    fill(add, lambda method, rank: 0.5)
    assert [judged(tmp_path, claim)["verdict"] for claim in ("A1", "A2")] == ["not reproduced", "reproduced"]


@pytest.mark.parametrize("table", ["rouge_wikihow", "rouge_gazeta", "rouge_ranks", "learning_rates", "corpora"])
def test_the_command_prints_every_cell_of_the_shipped_tables(table, capsys):
    assert cli.main(["table", table, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"cell", "metric", "value", "lo", "hi", "unit", "n", "seeds", "paper", "paper_status", "signature", "status", "records"}
    assert all(keys <= set(row) for row in rows)
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["lo"] <= row["value"] <= row["hi"] for row in rows if row["lo"] is not None)


def test_every_shipped_active_adalora_reached_its_target_and_every_record_counts_its_parameters():
    found = [record for table in ("rouge_wikihow", "rouge_gazeta") for row in text_tables.gather(table) for _, record in row.measured]
    trained = [record for record in found if record.cell["method"] != "none"]
    assert all(record.params["trainable"] >= record.params["kept"] > 0 for record in trained)
    active = [record for record in trained if record.cell["method"] == "adalora"]
    assert len(active) == 3 * 6 * 3  # corpora and models, five ranks and all linear layers, seeds
    assert all(record.params["kept_rank_mean"] == record.cell["rank"] for record in active)
