"""From cells to records, on a manifest of a few generated utterances and the tiny rung."""

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile

from asum_lib.corpora import howto, materialize
from asum_lib.corpora.say import say
from asum_lib.errors import InputError
from asum_lib.paths import RESULTS
from asum_lib.study import records, render, run, whisper_quant
from asum_lib.study.cells import make_cell
from asum_lib.study.run import run_cells


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> str:
    """A corpus of 12 / 6 / 8 utterances in the form that anyone would bring."""
    folder = tmp_path_factory.mktemp("corpora") / "few"
    takes = {split: howto.takes("target", split)[:count] for split, count in {"train": 12, "dev": 6, "test": 8}.items()}
    materialize(folder, "few", "all", "", ((take.id, take.text, howto.speak(take)) for split in takes.values() for take in split))
    path = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(line | {"split": line["id"].split("-")[1]}) for line in lines))
    return str(path)


def cells(manifest, method="none", precision="int8", epochs=1):
    return [make_cell("tiny", precision, method, corpus=manifest, epochs=epochs)]


def test_a_record_holds_everything_and_its_samples_give_its_value_again(manifest, tmp_path):
    [(path, record)] = run_cells(cells(manifest, "adalora", epochs=3), results=tmp_path)
    assert path == tmp_path / "mini" / "whisper_few" / f"whisper-tiny-int8-adalora-r8-e3-{record.cell['own']}-s0.json"
    assert record.status == "ok"
    assert record.config["adapter"]["target_r"] == 8
    assert record.config["training"]["learning_rate"] == 2e-3 / 40
    assert [entry["epoch"] for entry in record.history] == [0, 1, 2, 3]
    rows = [row for row in records.read_samples(path) if row["split"] == "test"]
    errors = sum(row["substitutions"] + row["insertions"] + row["deletions"] for row in rows)
    assert record.metrics["wer_pct"].value == pytest.approx(100 * errors / sum(row["words"] for row in rows))
    assert record.metrics["wer_pct"].n == len(rows) == 8


def test_a_fresh_record_is_read_and_a_stale_one_measured_again(manifest, tmp_path):
    said = []
    [(path, first)] = run_cells(cells(manifest), results=tmp_path)
    run_cells(cells(manifest), results=tmp_path, progress=said.append)
    assert "already measured" in said[-1]
    stale = json.loads(path.read_text()) | {"fingerprint": "0" * 64}
    path.write_text(json.dumps(stale))
    [(_, again)] = run_cells(cells(manifest), results=tmp_path, progress=said.append)
    assert again.fingerprint == first.fingerprint
    assert again.metrics["wer_pct"].value == pytest.approx(first.metrics["wer_pct"].value)


SENTENCES = (
    "hello i am ingrid and today we replace a leaky faucet",
    "all you need is a glass jar",
    "first unscrew the faucet handle",
    "this is the best one i ever made",
)


def test_own_recordings_begin_with_their_first_sound(tmp_path):
    """Speech with a third of a second of quiet before it: heard with that quiet, 87 % of the words were wrong."""
    for number, text in enumerate(SENTENCES):
        soundfile.write(tmp_path / f"{number}.wav", say(text, "en-us", 175, 25.0), 16_000)
    lines = [{"id": str(number), "audio": f"{number}.wav", "text": text} for number, text in enumerate(SENTENCES)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said, cell = [], make_cell("medium", "int8", "none", corpus=str(tmp_path / "manifest.jsonl"))
    [(_, record)] = run_cells([cell], results=tmp_path / "results", progress=said.append)
    assert record.metrics["wer_pct"].value < 40
    assert record.config["leading_quiet"] == "left out but for 0.02 s"
    assert sum(line.endswith(run.TRIMMED) for line in said) == 1


def test_study_corpora_and_real_models_hear_all_of_it(manifest):
    for corpus, scale in (("howto", "mini"), ("librispeech", "paper"), (manifest, "paper")):
        assert not run._Row("", scale, corpus, None, print).from_first_sound


def test_a_failing_cell_becomes_a_record_and_the_rest_goes_on(manifest, tmp_path, monkeypatch):
    from asum_lib.models import loading

    load = loading.load

    def fails_on_int4(where, precision, scale, language):
        if precision == "int4":
            raise MemoryError("no room for this")
        return load(where, precision, scale, language)

    monkeypatch.setattr(loading, "load", fails_on_int4)
    both = cells(manifest, precision="int4") + cells(manifest, precision="fp32")
    (_, failed), (_, fine) = run_cells(both, results=tmp_path)
    assert (failed.status, failed.reason) == ("failed", "MemoryError: no room for this")
    assert fine.status == "ok"


def test_a_cell_that_cannot_fit_is_a_record_with_what_would_and_the_rest_goes_on(manifest, tmp_path, monkeypatch):
    from asum_lib.study import fit

    checked = fit.check_memory

    def small(work):
        return checked(work, free=0) if work.precision == "fp32" else None

    monkeypatch.setattr(fit, "check_memory", small)
    both = cells(manifest, precision="fp32") + cells(manifest, precision="int8")
    (path, refused), (_, fine) = run_cells(both, results=tmp_path)
    assert (refused.status, fine.status) == ("failed", "ok")
    assert "of memory and 0.0 GB is free on this machine: what would fit is" in records.read(path).reason
    with pytest.raises(InputError, match=r"none of 1 cells to measure fits \(whisper-tiny-fp32-none-\w{10}-s0\): .* of memory and 0.0 GB is free"):
        run_cells(both[:1], results=tmp_path)


def test_scale_mini_is_float32_on_the_cpu_on_any_machine(monkeypatch):
    import torch

    from asum_lib.models import loading

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    assert (loading.compute_dtype("int8", "mini"), loading.device("mini")) == ("float32", "cpu")
    assert loading.compute_dtype("int8", "paper") == "bfloat16"
    record = records.read(RESULTS / "mini" / "whisper_wer" / "whisper-tiny-int8-none-s0.json")
    assert run.fingerprint_of(make_cell("tiny", "int8", "none")) == record.fingerprint


def test_a_model_folder_cannot_take_the_studys_own_name(tmp_path):
    with pytest.raises(InputError, match="its name 'whisper' would be taken for the study's own"):
        whisper_quant.run(model=str(tmp_path / "whisper"))


@pytest.mark.parametrize("text", ["[MUSIC]", "..."])
def test_a_corpus_without_a_word_is_refused_before_it_is_measured(manifest, tmp_path, text):
    folder = tmp_path / "music"
    shutil.copytree(Path(manifest).parent, folder)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(line | {"text": text}) for line in lines))
    with pytest.raises(
        InputError, match=f"music.*: the normaliser whisper-en leaves no word of the references of split test \\('{re.escape(text)}'\\)"
    ):
        run_cells(cells(str(folder / "manifest.jsonl")), results=tmp_path / "results")
    assert not list(tmp_path.glob("results/**/*.json"))


def test_text_in_capitals_is_learnt_in_small_letters():
    assert run.all_capitals(["GO DO YOU HEAR", "NUMBER 9"])
    assert not run.all_capitals(["GO DO YOU HEAR", "Number 9"])


def test_the_command_of_a_record_measures_that_cell(manifest, tmp_path):
    [(_, record)] = run_cells(cells(manifest), results=tmp_path)
    assert record.provenance["command"].startswith("asum run whisper_quant -p 'size=tiny'")
    assert "-p 'precisions=[\"int8\"]' -p 'methods=[\"none\"]'" in record.provenance["command"]


def test_an_utterance_longer_than_the_window_is_heard_in_windows_and_nothing_is_cut(real_data, tmp_path):
    manifest = str(real_data / "librispeech-84-121123" / "manifest.jsonl")
    [(path, record)] = run_cells([make_cell("tiny", "fp32", "none", corpus=manifest)], results=tmp_path)
    assert record.metrics["wer_pct"].n == 29
    assert record.config["execution"]["windows"] > record.audio_s / 4
    assert record.config["decoding"]["long_form"] == "windows cut at the quietest 50 ms of their last quarter"
    assert len(records.read_samples(path)) == 29


def test_the_transcripts_score_to_the_recorded_value_again(manifest, tmp_path):
    row = whisper_quant.run(size="tiny", precisions=["fp32"], methods=["none"], corpus=manifest, results_dir=str(tmp_path))
    again = whisper_quant.rescore(row)
    assert again["wer_pct"] == pytest.approx(again["recorded wer_pct"])


def test_a_misspelt_notebook_parameter_is_refused_with_the_choices():
    with pytest.raises(InputError, match="unknown parameter 'sise': choose from size, scale"):
        whisper_quant.parameters({"size": "tiny", "sise": "base", "In": [], "_hidden": 1})


def test_text_from_a_model_is_escaped_on_a_page(manifest, tmp_path):
    path = tmp_path / "evil"
    path.mkdir()
    row = whisper_quant.run(size="tiny", precisions=["fp32"], methods=["none"], corpus=manifest, results_dir=str(tmp_path))
    samples = [sample | {"hypothesis": "<script>alert(1)</script>"} for sample in records.read_samples(row.paths[0])]
    changed = records.write(row.records[0], row.paths[0], samples)
    shown = render.example(whisper_quant.Row(row.size, row.scale, row.corpus, row.paths, (changed,))).data
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_manifest_cannot_write_into_the_studys_own_tables(tmp_path):
    with pytest.raises(InputError, match="would write into the study's own table whisper_digits: rename the folder"):
        make_cell("tiny", "fp32", "none", corpus=str(tmp_path / "digits" / "manifest.jsonl"))
