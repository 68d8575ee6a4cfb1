"""Records are scored again from their samples: what changes is said, and written only when asked."""

import json
import shutil
from dataclasses import replace

import pytest

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.measure import rouge, wer
from asum_lib.paths import RESULTS
from asum_lib.study import records, rescoring, talk_run

ONE_OF_A_TABLE = (  # a record of every kind, trained ones where their epochs keep samples
    "mini/whisper_wer/whisper-tiny-int8-adalora-r8-rate1-s0.json",
    "mini/whisper_source/whisper-tiny-fp32-none-s0.json",
    "mini/whisper_digits/whisper-tiny-fp32-full-s0.json",
    "mini/learning_rates/whisper-tiny-fp32-full-rate1-s0.json",
    "mini/rouge_wikihow/lead3-s0.json",
    "mini/rouge_gazeta/lead3-s0.json",
    "mini/rouge_rates/news-ru/mbart-mini-fp32-full-lr0.001-dev-s0.json",
    "mini/e2e/cascade-tiny-int8-adalora-s0.json",
    "mini/prosody/e2e-medium-int8-adalora-howto-flat-s0.json",
    "mini/video/e2e-medium-int8-adalora-howto-talks-s0.json",
    "mini/e2e_cost/both-medium-int8-adalora-howto-talks-s0.json",
    "mini/corpora/howto-text-test.json",
    "paper/rouge_ami/lead3-s0.json",
    "paper/format_check_voxpopuli-dev/whisper-tiny-random-tiny-bf16-none-s0.json",
)
SPOKEN, SUMMARISED = ONE_OF_A_TABLE[1], ONE_OF_A_TABLE[4]


@pytest.fixture
def copied(tmp_path):
    """Copies records of the study, with their samples, into a folder of results."""

    def copy(*names: str):
        for name in names:
            target = tmp_path / "results" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            for path in (RESULTS / name).parent.glob(f"{target.stem}.*"):
                shutil.copy(path, target.parent)
        return tmp_path / "results"

    return copy


def files(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("name", ONE_OF_A_TABLE)
def test_a_record_of_every_table_is_as_it_was(copied, name):
    results = copied(name)
    before = files(results)
    assert rescoring.rescore(results=results, write=True) == ([], [])
    assert files(results) == before


def test_what_changes_is_said_and_not_written(copied, monkeypatch):
    results = copied(SPOKEN)
    before, count = files(results), wer.count_errors
    monkeypatch.setattr(wer, "count_errors", lambda *texts: [one_more(found) for found in count(*texts)])
    changes, faults = rescoring.rescore(results=results)
    samples, metric = rescoring.as_rows(changes)
    name = f"results/{SPOKEN}"
    assert samples == {"record": name, "what": "samples", "before": {}, "after": {"differing": 664}}
    assert (metric["record"], metric["what"], faults) == (name, "wer_pct", [])
    assert metric["after"]["value"] > metric["before"]["value"]
    assert files(results) == before


def one_more(counts):
    return replace(counts, insertions=counts.insertions + 1)


def test_written_records_keep_their_provenance(copied, monkeypatch):
    results = copied(SPOKEN)
    path, count = results / SPOKEN, wer.count_errors
    old, (first, *_) = records.read(path), records.read_samples(path)
    monkeypatch.setattr(wer, "count_errors", lambda *texts: [one_more(found) for found in count(*texts)])
    rescoring.rescore(results=results, write=True)
    new = records.read(path)
    assert records.read_samples(path)[0] == first | {"insertions": first["insertions"] + 1}
    assert new.metrics["wer_pct"].value > old.metrics["wer_pct"].value
    assert (new.provenance, new.fingerprint) == (old.provenance, old.fingerprint)
    assert rescoring.rescore(results=results) == ([], [])


def test_a_curve_is_counted_again_by_the_generators_text(copied):
    name = ONE_OF_A_TABLE[3]
    path = copied(name) / name
    rows = records.read_samples(path)
    rows[0]["errors"] += 3
    records.write(records.read(path), path, rows)
    (change,) = rescoring.score_again(path, records.read(path)).changes
    assert (change.name, change.of) == ("dev epoch 0 target-dev-0000-0", "sample")
    assert change.before["errors"] == change.after["errors"] + 3


@pytest.mark.parametrize(("module", "name"), [(wer, SPOKEN), (rouge, SUMMARISED), (rouge, ONE_OF_A_TABLE[11])])
def test_a_new_signature_leaves_no_cell_stale(copied, monkeypatch, module, name):
    path = copied(name) / name
    old, of = records.read(path), module.signature
    assert rescoring.fingerprint_of(old) == old.fingerprint
    monkeypatch.setattr(module, "signature", lambda *a, **b: f"{of(*a, **b)}|by another rule")
    changes, _ = rescoring.rescore(results=path.parents[2], write=True)
    new = records.read(path)
    assert "fingerprint" in {change.of for change in changes}
    assert any("|by another rule" in metric.signature for metric in new.metrics.values())
    assert new.fingerprint == rescoring.fingerprint_of(new) != old.fingerprint


def test_a_stale_record_stays_stale(copied, monkeypatch):
    path = copied(SPOKEN) / SPOKEN
    records.rewrite(replace(records.read(path), fingerprint="of another corpus"), path)
    of = wer.signature
    monkeypatch.setattr(wer, "signature", lambda *given: f"{of(*given)}|by another rule")
    rescoring.rescore(results=path.parents[2], write=True)
    new = records.read(path)
    assert "|by another rule" in new.metrics["wer_pct"].signature
    assert new.fingerprint == "of another corpus"


def test_who_reads_rewritten_transcripts_is_not_stale(copied, monkeypatch):
    reader, heard = "mini/e2e/ladder-tiny-fp32-none-s0.json", "mini/whisper_wer/whisper-tiny-fp32-none-s0.json"
    results, count = copied(reader, heard), wer.count_errors
    monkeypatch.setattr(talk_run, "RESULTS", results)
    old = records.read(results / reader)
    assert rescoring.fingerprint_of(old) == old.fingerprint
    monkeypatch.setattr(wer, "count_errors", lambda *texts: [one_more(found) for found in count(*texts)])
    rescoring.rescore(["whisper_wer"], results=results, write=True)
    new = records.read(results / reader)
    assert new.fingerprint == rescoring.fingerprint_of(new) != old.fingerprint


def test_one_broken_record_does_not_stop_the_rest(copied):
    results = copied(SPOKEN, SUMMARISED)
    next((results / SUMMARISED).parent.glob("*.gz")).write_bytes(b"no gzip")
    changes, (fault,) = rescoring.rescore(results=results)
    assert changes == [] and fault.startswith(f"results/{SUMMARISED}: ") and "sha256" in fault


def test_an_unknown_table_is_refused_with_the_choices(copied):
    with pytest.raises(InputError, match="unknown table 'whisper': choose from whisper_source"):
        rescoring.rescore(["whisper"], results=copied(SPOKEN))


def test_the_command_says_that_nothing_changed(copied, monkeypatch, capsys):
    monkeypatch.setattr(rescoring.rescore, "__defaults__", ((), None, False, copied(SPOKEN), print))
    assert cli.main(["rescore", "whisper_source", "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == []
    assert "nothing changed" in shown.err
