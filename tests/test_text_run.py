"""From a text cell to its record, on the shipped mini models cut short, and the path of scale paper on real formats with random weights."""

import json
from dataclasses import replace

import pytest

from asum_lib.errors import InputError
from asum_lib.measure import rouge
from asum_lib.models import text_ladder
from asum_lib.study import peft_rouge, records, render_rouge, text_run, verify
from asum_lib.study.text_cells import make_text_cell
from asum_lib.training.adapters import MODULES

SHORT = {"limit": 96, "epochs": 3, "learning_rates": [0.01]}


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return peft_rouge.run(**{"methods": ["none", "lora", "adalora", "adalora-inactive"], "ranks": [4], "results_dir": str(folder), **SHORT})


def by_method(row) -> dict:
    return {record.cell["method"] if record.cell["size"] else record.cell["model"]: record for record in row.records}


def test_every_cell_is_measured(row):
    assert [record.status for record in row.records] == ["ok"] * 7
    assert list(by_method(row)) == ["lead3", "textrank", "oracle", "none", "lora", "adalora", "adalora-inactive"]


def test_active_adalora_reaches_its_target_and_inactive_stays_at_its_start(row):
    found = by_method(row)
    assert found["lora"].params["kept_rank_mean"] == found["adalora"].params["kept_rank_mean"] == 4
    assert found["adalora-inactive"].params["kept_rank_mean"] == 6


def test_lora_and_adalora_keep_the_same_numbers_but_for_the_singular_values(row):
    found = by_method(row)
    modules = len(found["lora"].params["kept_ranks"])
    assert found["adalora"].params["kept"] - found["lora"].params["kept"] == 4 * modules
    assert found["lora"].params["kept"] == found["lora"].params["trainable"]
    assert found["adalora"].params["trainable"] > found["adalora"].params["kept"]  # it trains what it prunes later


def test_the_curve_has_every_epoch_and_training_helps(row):
    history = by_method(row)["lora"].history
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3]
    assert history[-1]["dev_loss"] < history[0]["dev_loss"]


def test_the_summaries_score_to_the_recorded_values(row):
    for path, record in zip(row.paths, row.records, strict=True):
        samples = records.samples_of(record, path)
        again = rouge.score([sample["reference"] for sample in samples], [sample["summary"] for sample in samples], "en")
        for kind, values in again.items():
            assert 100 * values.mean() == pytest.approx(record.metrics[kind].value, abs=1e-3)


def test_verify_scores_the_summaries_again(row):
    assert [verify.rescore(path, record) for path, record in zip(row.paths, row.records, strict=True)] == [None] * 7


def test_verify_finds_a_value_that_its_summaries_do_not_give(row):
    record = row.records[3]
    wrong = replace(record.metrics["rouge2"], value=record.metrics["rouge2"].value + 1)
    found = verify.rescore(row.paths[3], replace(record, metrics=record.metrics | {"rouge2": wrong}))
    assert found.startswith("rouge2: value ") and found.endswith("when scored again")


def test_a_second_run_reads_what_the_first_wrote(row, monkeypatch):
    monkeypatch.setattr(text_run, "_run", lambda *arguments: pytest.fail("measured again"))
    folder = row.paths[0].parents[2]
    again = peft_rouge.run(**{"methods": ["none", "lora"], "ranks": [4], "results_dir": str(folder), **SHORT})
    assert [record.status for record in again.records] == ["ok"] * 5


def test_the_row_can_be_shown(row):
    for shown in (render_rouge.row_table(row), render_rouge.plot_losses(row), render_rouge.plot_kept_ranks_of(row)):
        assert "No record" not in shown.data
    pairs = list(zip(row.paths, row.records, strict=True))
    assert 'class="asum-right"' in render_rouge.samples(pairs).data


def test_a_search_shows_a_document_of_dev(tmp_path):
    row = peft_rouge.run(methods=["none"], search=True, limit=2, results_dir=str(tmp_path))
    shown = render_rouge.samples(list(zip(row.paths, row.records, strict=True))).data
    assert "not fine-tuned" in shown and "The document" in shown


def test_a_failing_cell_is_a_record_with_its_reason(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no room\nat all")

    monkeypatch.setattr(text_run, "_run", fail)
    (record,) = peft_rouge.run(**{"model": "lead3", "results_dir": str(tmp_path)}).records
    assert (record.status, record.reason) == ("failed", "RuntimeError: no room")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modl": "t5"}, "unknown parameter 'modl': choose from corpus, model"),
        ({"model": "bart"}, "unknown text model 'bart'"),
        ({"corpus": "news-ru"}, "model 't5' does not read ru"),
        ({"methods": "lora"}, "parameter methods is 'lora', and should be a list of one or more texts"),
        ({"methods": ["lora"], "learning_rates": ["quick"]}, r"learning_rates is \['quick'\], and should be a list of numbers"),
        ({"methods": ["none"], "limit": -1}, "parameter limit is -1, and should be a whole number"),
        ({"methods": ["none"], "checkpoint": "nowhere/at/all"}, "no such folder"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_measured(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        peft_rouge.run(**{"results_dir": str(tmp_path), **given})
    assert not list(tmp_path.rglob("*.json"))


def test_without_a_search_the_rate_has_to_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(text_run, "RESULTS", tmp_path)
    with pytest.raises(InputError, match="no learning rate is chosen yet for lora of t5 on howto-text: give learning_rates, or run the search first"):
        text_run.chosen_rate("howto-text", "t5", "lora", tmp_path)


def test_the_rate_with_the_best_dev_rouge_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(text_run, "RESULTS", tmp_path)
    for rate, value in zip(text_run.CANDIDATES, (30.0, 50.0, 40.0, 10.0, 9.0, 8.0), strict=True):
        cell = make_text_cell("howto-text", "t5", method="adalora", learning_rate=rate, split="dev", search=True)
        metric = records.Metric(value, value, value, "ROUGE x 100", "higher", "rouge1|x", 1)
        parts = records.failure(ValueError("x")) | {"status": "ok", "reason": None, "metrics": {"rouge1": metric}}
        fixed = {"schema": records.SCHEMA, "fingerprint": "0", "table": cell.table, "scale": cell.scale, "cell": cell.as_dict(), "config": {}}
        record = records.Record(**fixed, **parts, samples=None, provenance=dict.fromkeys(records.PROVENANCE))
        records.write(record, cell.path(tmp_path), [])
    assert text_run.chosen_rate("howto-text", "t5", "adalora", tmp_path) == text_run.CANDIDATES[1]
    assert text_run.chosen_rate("howto-text", "t5", "adalora-inactive", tmp_path) == text_run.CANDIDATES[1]


@pytest.fixture(scope="module")
def real_t5(real_data, tmp_path_factory):
    """T5's real tokenizer and class, one narrow layer of random weights: what is proved is the path, not the summaries."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("checkpoints") / "t5-random"
    tokens = AutoTokenizer.from_pretrained(str(real_data / "tokenizers" / "t5"))
    torch.manual_seed(0)
    config = T5Config(vocab_size=32_128, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0)
    config.asum_note = "random weights"
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def test_the_path_of_scale_paper_runs_from_a_real_file_to_a_record(real_data, real_t5, tmp_path):
    given = {"scale": "paper", "corpus": str(real_data / "scitldr" / "test.jsonl"), "language": "en", "checkpoint": str(real_t5), "limit": 3}
    row = peft_rouge.run(**given | {"methods": ["none"], "precisions": ["fp32", "int8"], "results_dir": str(tmp_path)})
    assert [record.status for record in row.records] == ["ok"] * 5
    last = row.records[-1]
    assert last.table == "format_check_test"  # with random weights it belongs to no table of the study
    assert last.config["checkpoint_note"] == "random weights"
    assert (last.config["decoding"]["beams"], last.config["decoding"]["max_source_tokens"]) == (5, 600)
    assert row.paths[-1].name == f"t5-t5-random-int8-none-{last.cell['own']}-s0.json"


def test_scale_paper_trains_an_adapter_on_a_folder_in_gazetas_layout(real_t5, tmp_path):
    for split in ("train", "val", "test"):
        rows = [{"text": f"Text {n} of {split} is here.", "summary": f"Text {n}.", "title": "t", "date": "d", "url": "u"} for n in range(24)]
        (tmp_path / f"gazeta_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"scale": "paper", "corpus": str(tmp_path), "language": "en", "checkpoint": str(real_t5), "methods": ["adalora"], "ranks": [2]}
    row = peft_rouge.run(**given | {"epochs": 5, "results_dir": str(tmp_path / "results"), "targets": ["all-linear"]})
    record = row.records[-1]
    assert record.status == "ok", record.reason
    assert record.params["kept_rank_mean"] == 2
    assert {name.rsplit(".", 1)[1] for name in record.params["kept_ranks"]} == set(MODULES["t5"]["all-linear"])
    assert record.config["execution"]["gradient_checkpointing"] is True


def test_the_shipped_text_models_are_small_and_complete():
    total = 0
    for model in text_ladder.RUNGS:
        files = {path.name: path.stat().st_size for path in text_ladder.checkpoint(model).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
        total += sum(files.values())
    assert total < 20e6


SIX_SENTENCES = "Good morning. We paint the wall red. Yes. The wall is red and dry. Fine. We paint it."


def extracted(tmp_path, system, text=SIX_SENTENCES):
    """What a system takes of one document, whose reference has five words."""
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "a", "document": text, "summary": "The wall is painted red."}) + "\n")
    row = peft_rouge.run(**{"corpus": str(path), "language": "en", "model": system, "scale": "paper", "results_dir": str(tmp_path / system)})
    return records.read_samples(row.paths[0])[0]["summary"], row


@pytest.mark.parametrize(
    ("system", "summary"),
    [
        ("lead3", "Good morning. We paint the wall red. Yes."),
        ("lead-length", "Good morning. We paint the wall red."),  # 2 words are too few, 7 are enough
        ("textrank-length", "We paint the wall red."),
        ("oracle-length", "The wall is red and dry."),
    ],
)
def test_systems_to_the_references_length_take_sentences_until_they_have_its_words(tmp_path, system, summary):
    found, row = extracted(tmp_path, system)
    assert found == summary
    assert row.paths[0].name == f"{system}-{row.records[0].cell['own']}-s0.json" and row.records[0].table == "rouge_own"
    assert row.records[0].config["sentences"] == (3 if system == "lead3" else None)


@pytest.mark.parametrize(("system", "summary"), [("lead3", "good morning . we paint the wall red . yes ."), ("oracle", "the wall is red and dry .")])
def test_sentences_of_tokenised_transcripts_are_taken(tmp_path, system, summary):
    found, row = extracted(tmp_path, system, SIX_SENTENCES.lower().replace(".", " ."))
    assert found == summary
    assert row.records[0].config["sentence_rule"] == "asum-2.en"


def test_a_record_without_its_texts_is_held_by_its_scores(tmp_path):
    row = extracted(tmp_path, "lead3")[1]
    path, record = row.paths[0], row.records[0]
    record = records.write(record, path, [sample | {"reference": None, "summary": None} for sample in records.samples_of(record, path)])
    assert verify.rescore(path, record) is None
    wrong = replace(record.metrics["rouge1"], value=record.metrics["rouge1"].value + 1)
    assert "when scored again" in verify.rescore(path, replace(record, metrics=record.metrics | {"rouge1": wrong}))


def test_meetings_are_read_to_their_end_at_scale_paper(real_data, real_t5, tmp_path, monkeypatch):
    """Three parts are read, and five tokens are written of each."""
    from asum_lib.corpora import texts

    meeting = json.loads((real_data / "ami-meetings" / "meetings.jsonl").read_text(encoding="utf-8").splitlines()[0])
    path = tmp_path / "meetings.jsonl"
    path.write_text(json.dumps(meeting | {"document": meeting["document"][:6_000]}) + "\n")
    monkeypatch.setenv("ASUM_AMI", str(path))
    monkeypatch.setitem(text_run.DECODING, "paper", replace(text_run.DECODING["paper"], beams=1, max_new_tokens=5))
    said = []
    cell = make_text_cell("ami", "t5", scale="paper", size=real_t5.name, format_check=True)
    texts.load_texts.cache_clear()
    ((_, record),) = text_run.run_text_cells([cell], checkpoint=str(real_t5), results=tmp_path / "r", progress=said.append)
    texts.load_texts.cache_clear()
    assert (record.status, record.table, record.config["in_parts"]) == ("ok", "format_check_ami", {"rounds": 1})
    assert "3 of 3 parts summarised" in said
    assert record.metrics["length"].value > 5  # words of three parts, where one writes five tokens


def test_how2s_text_goes_through_and_waits_for_its_calibration(tmp_path, monkeypatch):
    from asum_lib.corpora import texts
    from asum_lib.study import text_calibration

    folder = tmp_path / "sum_devtest"
    folder.mkdir()
    (folder / "tran.tok.txt").write_text("vid1 hi . today we boil water .\n")
    (folder / "desc.tok.txt").write_text("vid1 learn to boil water .\n")
    monkeypatch.setenv("ASUM_HOW2_SUMMARIES", str(tmp_path))
    texts.load_texts.cache_clear()
    row = peft_rouge.run(**{"corpus": "how2-text", "model": "lead3", "scale": "paper", "results_dir": str(tmp_path / "r")})
    texts.load_texts.cache_clear()
    assert (row.records[0].table, row.records[0].metrics["rouge1"].n) == ("rouge_how2-text", 1)
    assert text_calibration.caveat("how2-text", tmp_path / "r").startswith("not calibrated (not measured")
