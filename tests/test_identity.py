"""Which record belongs where: a user's own corpora and models, copies, and files that are none."""

import json
import shutil

import pytest
from talk_records import write_system

from asum_lib.corpora import howto, materialize
from asum_lib.errors import InputError
from asum_lib.models import ladder
from asum_lib.models.loading import sizes_of
from asum_lib.study import all_tables, corpora_table, peft_rouge, placing, render_status, tables, talk_tables, text_tables, verify, whisper_quant
from asum_lib.study.cells import make_cell
from asum_lib.study.text_cells import make_text_cell


def edit(path, **changes):
    data = json.loads(path.read_text())
    for key, value in changes.items():
        data["cell" if key in data["cell"] else key] |= {key: value} if key in data["cell"] else value
    path.write_text(json.dumps(data))


@pytest.fixture
def seeds(add_record, tmp_path):
    """Records of three seeds, and the folder that they lie in."""
    for seed in (0, 1, 2):
        path = add_record("tiny", "int8", "adalora", seed=seed, errors=[seed, 1])
        edit(path, config={"seed": seed})
    return path.parent


def pooled(folder) -> list[int]:
    rows = tables.rows("whisper_wer", "mini", folder.parents[1])
    return [seed for row in rows if row["cell"]["method"] == "adalora" for seed in row["seeds"]]


def test_a_copy_of_a_record_is_no_seed(seeds, capsys):
    for seed in range(3, 24):
        shutil.copy(seeds / "whisper-tiny-int8-adalora-r8-s0.json", seeds / f"whisper-tiny-int8-adalora-r8-s{seed}.json")
    assert pooled(seeds) == [0, 1, 2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 21
    assert said[0].endswith("r8-s10.json: left out: its cell is that of mini/whisper_wer/whisper-tiny-int8-adalora-r8-s0.json")


def test_a_copy_whose_cell_was_changed_is_no_seed(seeds, capsys):
    copy = seeds / "whisper-tiny-int8-adalora-r8-s3.json"
    shutil.copy(seeds / "whisper-tiny-int8-adalora-r8-s0.json", copy)
    edit(copy, seed=3)
    assert pooled(seeds) == [0, 1, 2]
    assert "its cell has seed 3, its configuration 0" in capsys.readouterr().err
    edit(copy, config={"seed": 3})
    assert pooled(seeds) == [0, 1, 2]
    assert "it has the fingerprint of whisper-tiny-int8-adalora-r8-s0.json, and so is a copy of it" in capsys.readouterr().err


def test_a_record_that_contradicts_its_name_is_not_pooled(seeds):
    edit(seeds / "whisper-tiny-int8-adalora-r8-s1.json", precision="int4")
    assert pooled(seeds) == [0, 2]


def test_a_copied_record_does_not_verify(seeds):
    shutil.copy(seeds / "whisper-tiny-int8-adalora-r8-s0.json", seeds / "whisper-tiny-int8-adalora-r8-s3.json")
    found = verify.verify("whisper_wer", results=seeds.parents[1], cells=1, dry_run=True)
    assert [mismatch.record for mismatch in found.mismatches if "left out of its table: its cell" in mismatch.reason] == [
        "results/mini/whisper_wer/whisper-tiny-int8-adalora-r8-s3.json"
    ]
    assert not found.holds


def test_a_seed_beside_the_plan_must_be_what_its_cell_asks_for(seeds, add_record):
    edit(add_record("tiny", "int8", "adalora", seed=3), config={"seed": 3})
    found = verify.verify("whisper_wer", results=seeds.parents[1], cells=1, dry_run=True)
    assert [mismatch.record[-8:] for mismatch in found.mismatches if "it is stale, or a copy" in mismatch.reason] == ["-s3.json"]


def test_the_status_page_names_what_is_left_out(seeds):
    shutil.copy(seeds / "whisper-tiny-int8-adalora-r8-s0.json", seeds / "whisper-tiny-int8-adalora-r8-s3.json")
    shown = render_status.status("mini", seeds.parents[1]).data
    assert "whisper-tiny-int8-adalora-r8-s3.json is left out: its cell is that of" in shown and "3 records in 1 tables" in shown


def test_a_seed_that_is_a_text_is_left_out(seeds):
    edit(seeds / "whisper-tiny-int8-adalora-r8-s1.json", seed="1")
    assert pooled(seeds) == [0, 2]


def test_no_table_pools_a_copy(tmp_path, add_record):
    """Of summaries, talks, corpora and memory too."""
    results = tmp_path / "results"
    [talk] = write_system(results, "reference", seeds=(0,))
    shutil.copy(talk, talk.with_name("reference-s9.json"))
    assert [len(row.found) for row in talk_tables.gather("e2e", "mini", results) if row.found] == [1]
    text = make_text_cell("howto-text", "t5", method="full").path(results)
    text.parent.mkdir(parents=True)
    data = json.loads(talk.read_text()) | {"table": "rouge_wikihow", "cell": make_text_cell("howto-text", "t5", method="full").as_dict()}
    for seed in (0, 9):
        text.with_name(text.name.replace("s0", f"s{seed}")).write_text(json.dumps(data))
    assert [len(row.found) for row in text_tables.gather("rouge_wikihow", "mini", results) if row.found] == [1]
    corpora_table.run(**{"corpus": "howto-text", "limit": 2, "results_dir": str(results)})
    record = results / "mini" / "corpora" / "howto-text-test-first2.json"
    shutil.copy(record, record.with_name("howto-text-test.json"))
    rows = corpora_table.rows("corpora", "mini", results)
    assert {row["status"] for row in rows if row["cell"]["split"] == "test" and not row["cell"]["limit"]} == {"missing"}
    cell = make_cell("tiny", "int8", "adalora", seed=1)
    path = add_record("tiny", "int8", "adalora")
    shutil.copy(path, cell.path(results))
    assert placing.of_cell(cell, results) is None


def test_files_that_a_system_leaves_are_passed_over(seeds):
    (seeds / "._whisper-tiny-int8-adalora-r8-s0.json").write_bytes(b"\0\5\26\7")
    (seeds / ".ipynb_checkpoints").mkdir()
    (seeds / ".ipynb_checkpoints" / "x-checkpoint.json").write_text("{")
    assert pooled(seeds) == [0, 1, 2]
    found = verify.verify("whisper_wer", results=seeds.parents[1], cells=1, dry_run=True)
    assert not [mismatch for mismatch in found.mismatches if "._" in mismatch.record or "checkpoint" in mismatch.record]


# A user's own


@pytest.fixture
def meetings(tmp_path):
    """Two folders of one name with a manifest each, and two checkpoints of one name."""
    for place, take in zip(("monday", "friday"), howto.takes("target", "test")[:2], strict=True):
        materialize(tmp_path / place / "meeting", "meeting", "test", "", [(take.id, take.text, howto.speak(take))])
    for place, size in (("one", "tiny"), ("two", "base")):
        shutil.copytree(ladder.checkpoint(size), tmp_path / place / "checkpoint-500")
    return tmp_path


def test_records_of_ones_own_never_share_a_file(meetings, monkeypatch):
    monkeypatch.chdir(meetings)
    asked = {"size": "tiny", "precisions": ["fp32"], "methods": ["none"], "results_dir": "results"}
    for place in ("monday", "friday"):
        for model in ("", "one/checkpoint-500", "two/checkpoint-500"):
            whisper_quant.run(**asked | {"corpus": f"{place}/meeting/manifest.jsonl", "model": model})
    paths = sorted((meetings / "results" / "mini" / "whisper_meeting").glob("*.json"))
    assert len(paths) == 6
    rows = tables.rows("whisper_meeting", "mini", meetings / "results")
    assert len(rows) == 6 and {row["status"] for row in rows} == {"ok"}
    assert {row["paper"] for row in rows} == {None}
    shown = tables.as_markdown(rows).splitlines()
    assert shown[0].startswith("| model | corpus | digest | size |")
    assert sum("| two/checkpoint-500 | friday/meeting/manifest.jsonl |" in line for line in shown) == 1


def test_the_same_content_in_another_place_is_the_same_record(meetings, monkeypatch, capsys):
    monkeypatch.chdir(meetings)
    shutil.copytree("monday/meeting", "copy/meeting")
    asked = {"size": "tiny", "precisions": ["fp32"], "methods": ["none"], "results_dir": "results"}
    first = whisper_quant.run(**asked | {"corpus": "monday/meeting/manifest.jsonl"})
    again = whisper_quant.run(**asked | {"corpus": "copy/meeting/manifest.jsonl"})
    assert again.paths == first.paths
    assert "already measured" in capsys.readouterr().err


def test_the_size_of_a_model_is_that_of_its_configuration(meetings, monkeypatch, capsys):
    monkeypatch.chdir(meetings)
    asked = {"size": "large", "precisions": ["fp32"], "methods": ["none"], "results_dir": "results"}
    row = whisper_quant.run(**asked | {"corpus": "monday/meeting/manifest.jsonl", "model": "two/checkpoint-500"})
    assert (row.size, row.records[0].cell["size"]) == ("base", "base")
    assert "size large: by its config.json two/checkpoint-500 is a base, and is recorded as that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((384, 4, 4, 80, 51_864), ["tiny.en", "tiny"]),
        ((1280, 32, 32, 80, 51_865), ["large", "large-v2"]),
        ((1280, 32, 4, 128, 51_866), ["turbo"]),
        ((384, 4, 2, 80, 51_865), []),
    ],
)
def test_a_published_shape_tells_its_size(tmp_path, shape, sizes):
    keys = ("d_model", "encoder_layers", "decoder_layers", "num_mel_bins", "vocab_size")
    (tmp_path / "config.json").write_text(json.dumps(dict(zip(keys, shape, strict=True))))
    assert sizes_of(str(tmp_path), "paper") == sizes


def test_texts_of_ones_own_never_share_a_file(tmp_path):
    asked = {"model": "lead3", "scale": "paper", "language": "en", "results_dir": str(tmp_path / "results")}
    for place, summary in (("a", "we paint"), ("b", "a wall"), ("a", "we paint")):
        (tmp_path / place).mkdir(exist_ok=True)
        file = tmp_path / place / "letters.jsonl"
        file.write_text(json.dumps({"text": "We paint the wall. It is red.", "summary": summary}) + "\n")
        row = peft_rouge.run(**asked | {"corpus": str(file)})
        corpora_table.run(**{"corpus": str(file), "results_dir": str(tmp_path / "results")})
    assert len(list((tmp_path / "results" / "paper" / "rouge_letters").glob("*.json"))) == 2
    assert len(list((tmp_path / "results" / "paper" / "corpora").glob("*.json"))) == 2
    shown = all_tables.as_text("rouge_letters", text_tables.rows("rouge_letters", "paper", tmp_path / "results"), "md", "paper")
    assert f"| lead3 | {file.parent.parent / 'b' / 'letters.jsonl'} |" in shown and row.records[0].cell["own"] in shown


def test_fewer_documents_do_not_replace_the_studys_record(tmp_path):
    asked = {"model": "lead3", "results_dir": str(tmp_path)}
    paths = [peft_rouge.run(**asked | {"limit": limit}).paths[0] for limit in (2, 3)]
    study = make_text_cell("howto-text", "lead3").path(tmp_path)
    assert len({*paths, study}) == 3


def test_a_name_that_a_table_does_not_know_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown table"):
        tables.gather(".hidden", "mini", tmp_path)
