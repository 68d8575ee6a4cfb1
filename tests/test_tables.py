import json
import time

import pytest

from asum_lib.errors import InputError
from asum_lib.study import tables
from asum_lib.study.cells import TABLE_OF

KEYS = "cell metric value lo hi unit n seeds paper paper_status paper_source signature status reason weights_bytes kept_rank_mean trainable"
KEYS += " records seen_value seen_lo seen_hi seen_n unseen_value unseen_lo unseen_hi unseen_n caveat"


def row_of(table_rows, size, precision, method, rate="1/40"):
    rate = None if method == "none" else rate
    [row] = [r for r in table_rows if [r["cell"][k] for k in ("size", "precision", "method", "rate")] == [size, precision, method, rate]]
    return row


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def test_every_corpus_has_its_grid():
    assert {scale: set(names.values()) for scale, names in TABLE_OF.items()} == {scale: set(grid) for scale, grid in tables.GRIDS.items()}


def test_the_planned_grid():
    """5 sizes x (5 untrained + 7 trained x 3 seeds), 4 x (1 + 4 x 3) for LoftQ, 2 x 3 with five rounds; digits: 3 x (3 + 5 of 1 seed)."""
    assert len(tables.planned("whisper_wer")) == 5 * (5 + 7 * 3) + 4 * (1 + 4 * 3) + 2 * 3 == 188
    assert len(tables.planned("whisper_digits")) == 3 * (3 + 5) == 24
    names = [cell.name for cell in tables.planned("whisper_wer")]
    assert len(set(names)) == len(names)
    assert names[0] == "whisper-tiny-fp32-none-s0"


def test_without_records_every_cell_is_missing_and_the_papers_values_are_there(results):
    table_rows = tables.rows("whisper_wer", results=results)
    assert len(table_rows) == 5 * 12 + 4 * 5 + 2
    assert {row["status"] for row in table_rows} == {"missing"}
    row = row_of(table_rows, "medium", "int8", "adalora")
    assert list(row) == KEYS.split()
    assert row["cell"] == {
        "model": "whisper",
        "size": "medium",
        "precision": "int8",
        "method": "adalora",
        "rank": 8,
        "rate": "1/40",
        "epochs": 6,
        "corpus": "howto",
        "split": "test",
    }
    assert (row["value"], row["seeds"], row["records"]) == (None, [], [])
    assert (row["paper"], row["paper_status"]) == (11.3, "secondary")
    assert row["reason"] == "seed 0 missing; seed 1 missing; seed 2 missing"
    json.dumps(table_rows, allow_nan=False)


def test_seeds_are_pooled(add_record, results):
    """3, 1 and 2 errors of 20 words: 15, 5 and 10 %, whose mean is 10."""
    for seed, errors in enumerate([[2, 1], [1, 0], [1, 1]]):
        add_record("tiny", "int8", "adalora", seed=seed, errors=errors, words=10)
    row = row_of(tables.rows("whisper_wer", results=results), "tiny", "int8", "adalora")
    assert row["value"] == pytest.approx(10)
    assert 0 <= row["lo"] < 10 < row["hi"]
    assert (row["n"], row["seeds"], row["status"], row["reason"]) == (2, [0, 1, 2], "ok", None)
    assert (row["weights_bytes"], row["trainable"]) == (4_000, 100)
    assert row["records"] == [f"results/mini/whisper_wer/whisper-tiny-int8-adalora-r8-s{seed}.json" for seed in (0, 1, 2)]


def test_a_cell_with_some_seeds_is_partial_and_says_what_lacks(add_record, results):
    add_record("tiny", "int8", "adalora", seed=0, errors=[1, 1], words=10)
    add_record("tiny", "int8", "adalora", seed=1, reason="out of memory")
    row = row_of(tables.rows("whisper_wer", results=results), "tiny", "int8", "adalora")
    assert (row["status"], row["value"], row["seeds"]) == ("partial", 10.0, [0])
    assert row["reason"] == "seed 1 failed: out of memory; seed 2 missing"


def test_a_failed_cell_shows_its_reason(add_record, results):
    add_record("large", "int4", reason="bitsandbytes: no kernel for this device")
    row = row_of(tables.rows("whisper_wer", results=results), "large", "int4", "none")
    assert (row["status"], row["value"], row["seeds"]) == ("failed", None, [])
    assert row["reason"] == "seed 0 failed: bitsandbytes: no kernel for this device"


def test_the_papers_value_stands_only_beside_its_own_configuration(results):
    table_rows = tables.rows("whisper_wer", results=results)
    assert (row_of(table_rows, "medium", "int8", "adalora", "1")["paper"], row_of(table_rows, "medium", "int8", "adalora", "1")["paper_status"]) == (
        None,
        None,
    )
    assert row_of(table_rows, "medium", "int8", "adalora-inactive")["paper_status"] is None
    assert row_of(table_rows, "large", "int8", "none")["paper"] == 11.3
    assert (row_of(table_rows, "large", "fp32", "none")["paper"], row_of(table_rows, "large", "fp32", "none")["paper_status"]) == (None, "unknown")
    assert {row["paper"] for row in tables.rows("whisper_digits", results=results)} == {None}


def test_a_record_beside_the_grid_is_shown_after_it(add_record, results):
    add_record("tiny", "int4-dq", "none", errors=[1, 0], words=10)
    table_rows = tables.rows("whisper_wer", results=results)
    assert len(table_rows) == 5 * 12 + 4 * 5 + 2 + 1
    assert (table_rows[-1]["cell"]["precision"], table_rows[-1]["status"], table_rows[-1]["value"]) == ("int4-dq", "ok", 5.0)


def test_a_local_manifests_table_is_known_by_its_records(add_record, results):
    add_record("tiny", corpus="/data/talks/manifest.jsonl", errors=[1], words=10)
    [row] = tables.rows("whisper_talks", results=results)
    assert (row["value"], row["cell"]["corpus"]) == (10.0, "/data/talks/manifest.jsonl")


def test_an_unknown_table_is_refused_with_the_choices(results):
    with pytest.raises(InputError, match="unknown table 'wer': choose from whisper_wer, whisper_source, whisper_digits"):
        tables.rows("wer", results=results)
    with pytest.raises(InputError, match="unknown scale 'midi'"):
        tables.rows("whisper_wer", scale="midi", results=results)


def test_seeds_with_unlike_signatures_are_refused(add_record, results):
    add_record("tiny", "int8", "adalora", seed=0)
    add_record("tiny", "int8", "adalora", seed=1, signature="wer|norm:other")
    with pytest.raises(InputError, match="unlike signatures"):
        tables.rows("whisper_wer", results=results)


def test_seeds_on_other_utterances_are_refused(add_record, results):
    add_record("tiny", "int8", "adalora", seed=0)
    add_record("tiny", "int8", "adalora", seed=1, first_id=1)
    with pytest.raises(InputError, match="not scored on the same utterances"):
        tables.rows("whisper_wer", results=results)


def test_cells_with_unlike_signatures_or_utterances_are_never_compared(add_record, results):
    add_record("tiny", "fp32")
    add_record("tiny", "int8", signature="wer|norm:other")
    add_record("tiny", "int4", first_id=1)
    fp32, int8, int4 = (row for row in tables.gather("whisper_wer", results=results) if row.found)
    with pytest.raises(InputError, match="unlike signatures"):
        tables.difference(fp32, int8)
    with pytest.raises(InputError, match="not scored on the same utterances"):
        tables.difference(fp32, int4)


def test_counts_of_one_record_by_split_and_epoch(add_record):
    path = add_record("tiny", "fp32", "full", errors=[2, 0], words=10, dev={0: [5, 5, 5], 1: [4, 4, 6]})
    ids, errors, words = tables.counts(path)
    assert (ids, errors.tolist(), words.tolist()) == (("u0000", "u0001"), [2, 0], [10, 10])
    assert tables.counts(path, "dev", 1)[1].tolist() == [4, 4, 6]
    with pytest.raises(InputError, match=r"no samples of dev epoch 2: there are test, dev epoch 0, dev epoch 1"):
        tables.counts(path, "dev", 2)


def test_ties_with_the_best_of_a_size(add_record, results):
    """fp32 and int8 differ by one error in 40 utterances; int4 has two errors more in each."""
    add_record("tiny", "fp32", errors=[1, 2] * 20)
    add_record("tiny", "int8", errors=[1, 2] * 19 + [1, 3])
    add_record("tiny", "int4", errors=[3, 4] * 20)
    marked = tables.mark_ties("whisper_wer", results=results)
    best, tie, apart = (row_of(marked, "tiny", precision, "none") for precision in ("fp32", "int8", "int4"))
    assert (best["best_of_size"], best["tie_with_best"]) == (True, False)
    assert (tie["best_of_size"], tie["tie_with_best"]) == (False, True)
    assert (apart["best_of_size"], apart["tie_with_best"]) == (False, False)
    assert row_of(marked, "base", "fp32", "none")["best_of_size"] is None


def test_markdown(add_record, results):
    add_record("large", "int8", errors=[1, 1], words=10)
    lines = tables.as_markdown(tables.rows("whisper_wer", results=results)).splitlines()
    assert len(lines) == 2 + 5 * 12 + 4 * 5 + 2
    assert "| large | int8 | none |  | 10.0 (10.0 to 10.0) | 1 | 11.3 (secondary) | 0.00 | ok |" in lines
    assert len({line.count("|") for line in lines}) == 1


def test_a_full_table_is_read_in_seconds(add_record, results):
    """39 records (a quarter of the grid) of 656 test rows and 7 x 50 dev rows in less than a quarter of 10 s."""
    errors, dev = [1, 0, 2, 0] * 164, {epoch: [1, 0] * 25 for epoch in range(7)}
    for seed in range(3):
        for precision, method, rate in tables.GRIDS["mini"]["whisper_wer"]["configurations"]:
            add_record("tiny", precision, method, rate=rate, seed=seed, errors=errors, dev=dev)
    started = time.process_time()
    tables.rows("whisper_wer", results=results)
    assert time.process_time() - started < 2.5


def test_at_scale_paper_a_value_says_whether_its_checkpoint_is_calibrated(results):
    caveats = {row["cell"]["size"]: row["caveat"] for row in tables.rows("whisper_librispeech", "paper", results)}
    assert caveats["small"] == "not calibrated (not measured: no record of it yet)"
    assert {row["caveat"] for row in tables.rows("whisper_wer", "mini", results)} == {None}
