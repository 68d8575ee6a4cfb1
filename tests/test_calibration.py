"""The rule of the calibration, on made-up records: every state, and every way in which a record does not count."""

import json
import re

import pytest

from asum_lib import papers
from asum_lib.errors import InputError
from asum_lib.study import calibration, records, render_paper
from asum_lib.study.cells import Cell

MODEL, DATA = "a" * 40, "b" * 40
SIGNATURE = "wer|norm:whisper-en.transformers-5.23.0|pool:corpus|scorer:jiwer-4.0.0"


REAL_PIN = calibration._pin


@pytest.fixture(autouse=True)
def pins(monkeypatch):
    """Revisions that count, in place of the real pins."""
    monkeypatch.setattr(calibration, "_pin", lambda repository: DATA if repository == "openslr/librispeech_asr" else MODEL)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def measure(results):
    """Writes the zero-shot record of a size at scale paper."""

    def write(size="large", value=2.8, lo=2.6, hi=3.0, *, n=2_620, signature=SIGNATURE, model=MODEL, data=DATA, reason=None, **options):
        table, corpus = options.get("table", "whisper_librispeech"), options.get("corpus", "librispeech")
        cell = Cell(table, "paper", "whisper", size, "fp32", "none", None, None, None, corpus, "test", 0)
        path = cell.path(results)
        record = records.Record(
            schema=records.SCHEMA,
            fingerprint=f"made up of {size} in {table}",
            table=table,
            scale="paper",
            status="failed" if reason else "ok",
            reason=reason,
            cell=cell.as_dict(),
            config={"execution": {"windows": 3}},
            metrics={} if reason else {"wer_pct": records.Metric(value, lo, hi, "%", "lower", signature, n)},
            memory_bytes=records.unmeasured(records.MEMORY_BYTES, weights=6_000_000_000),
            params=records.unmeasured(records.PARAMS),
            time_s=records.unmeasured(records.TIME_S, evaluate=100.0),
            audio_s=19_453.0,
            rtfx=194.5,
            history=[],
            samples=None,
            provenance=dict.fromkeys(records.PROVENANCE) | {"model_revision": model, "dataset_revision": data},
        )
        row = {"split": "test", "id": "u", "reference": "a b", "hypothesis": "<b>a", "substitutions": 0, "insertions": 0, "deletions": 1, "words": 2}
        records.write(record, path, [] if reason else [row])
        return path

    return write


def test_an_interval_that_holds_the_published_value_is_calibrated(measure, results):
    measure("large", 2.8, 2.6, 3.0)
    found = calibration.calibration("large", results)
    assert (found.state, found.published, found.published_status) == ("calibrated", 2.7, "secondary")
    assert (found.measured, found.lo, found.hi, found.n) == (2.8, 2.6, 3.0, 2_620)
    assert found.record == "results/paper/whisper_librispeech/whisper-large-fp32-none-s0.json"
    assert calibration.caveat("large", results) is None


@pytest.mark.parametrize(
    ("lo", "hi", "state"),
    [(2.74, 3.0, "calibrated"), (2.76, 3.0, "off"), (2.4, 2.66, "calibrated"), (2.4, 2.64, "off")],
)
def test_the_published_value_is_known_to_half_a_unit_of_its_last_digit(measure, results, lo, hi, state):
    """2.7 stands for 2.65 to 2.75."""
    measure("large", (lo + hi) / 2, lo, hi)
    assert calibration.calibration("large", results).state == state


@pytest.mark.parametrize(("value", "half"), [(2.7, 0.05), (3.43, 0.005), (7.5471, 0.00005), (3.0, 0.05), (11, 0.5)])
def test_half_a_unit_of_the_last_digit(value, half):
    assert calibration.half_unit(value) == pytest.approx(half)


def test_without_a_record_nothing_is_calibrated(results):
    found = calibration.calibration("tiny", results)
    assert (found.state, found.measured, found.record, found.reason) == ("not measured", None, None, "no record of it yet")
    assert calibration.caveat("tiny", results) == "not calibrated (not measured: no record of it yet)"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"n": 2_619}, "measured on 2619 utterances of 2620"),
        ({"signature": SIGNATURE.replace("whisper-en", "none")}, "scored with another normaliser than whisper-en"),
        ({"model": None}, "the revision of the checkpoint is not recorded"),
        ({"model": "main"}, "the revision of the checkpoint is not recorded"),
        ({"model": "c" * 40}, "the checkpoint is revision cccccccc, the pinned one is aaaaaaaa"),
        ({"data": "c" * 40}, "the corpus is revision cccccccc, the pinned one is bbbbbbbb"),
        ({"reason": "out of memory"}, "the run failed: out of memory"),
    ],
)
def test_a_record_that_does_not_count_leaves_its_size_not_measured(measure, results, changed, reason):
    measure("large", **changed)
    found = calibration.calibration("large", results)
    assert found.state == "not measured"
    assert found.reason.startswith(reason)


def test_a_record_under_the_wrong_name_does_not_count(measure, results):
    path = measure("large")
    data = json.loads(path.read_text())
    data["cell"]["precision"] = "int8"
    path.write_text(json.dumps(data))
    assert calibration.calibration("large", results).reason == "the record is of another cell"


@pytest.mark.parametrize("size", ["large-v2", "large-v3", "turbo"])
def test_a_size_without_a_known_figure_is_never_calibrated(measure, results, size):
    measure(size, 3.0, 2.8, 3.2)
    found = calibration.calibration(size, results)
    assert (found.state, found.published, found.measured) == ("no published figure", None, 3.0)
    assert calibration.caveat(size, results).startswith("not calibrated (no published figure: ")


def test_an_unknown_size_is_refused_with_the_choices(results):
    with pytest.raises(InputError, match="unknown size 'huge': choose from tiny, base, small"):
        calibration.calibration("huge", results)
    assert calibration.caveat("huge", results) == "not calibrated: no published figure is listed for it"


def test_the_published_figures_are_those_of_the_sources():
    cells = papers.load("whisper2022")["tables"]["librispeech_test_clean"]["cells"]
    assert {entry["cell"]["size"]: entry["value"] for entry in cells if entry["status"] == "secondary"} == {
        "tiny": 7.5471,
        "base": 5.0088,
        "small": 3.4322,
        "medium": 2.9004,
        "large": 2.7,
        "tiny.en": 5.6,
        "base.en": 4.2,
        "small.en": 3.1,
        "medium.en": 3.1,
    }
    assert {entry["status"] for entry in cells} == {"secondary", "unverified", "unknown"}


def test_the_page_shows_every_checkpoint_and_no_unverified_figure(measure, results):
    measure("large", 3.5, 3.3, 3.7)
    shown = render_paper.calibration_table(results).data
    for size in calibration.sizes():
        assert f"<td>{size}</td>" in shown
    assert "published 2.7, measured 3.50 (3.30 to 3.70)" in shown
    line = next(part for part in shown.split("<tr>") if "<td>large-v2</td>" in part)
    assert "unverified" in line
    assert not re.search(r">[^<]*3\.0\b", line)


def test_a_row_of_an_uncalibrated_checkpoint_says_so_beside_its_numbers(measure, results):
    assert "Not measured yet" in render_paper.measured_tables(results).data
    measure("large", 2.8, 2.6, 3.0)
    measure("tiny", 9.0, 8.7, 9.3)
    shown = render_paper.measured_tables(results).data
    large, tiny = (next(part for part in shown.split("<tr>") if f"<td>{size}</td>" in part) for size in ("large", "tiny"))
    assert "not calibrated (off: published 7.5471, measured 9.00 (8.70 to 9.30))" in tiny
    assert "not calibrated" not in large


def test_the_format_check_shows_no_error_rate(measure, results):
    assert "No record of this yet" in render_paper.format_check(results).data
    measure("tiny", 98.7, 97.0, 99.9, n=1, table="format_check_voxpopuli-dev", corpus="voxpopuli-dev/manifest.jsonl")
    shown = render_paper.format_check(results).data
    assert "Random weights, format check only" in shown
    assert "<td>3</td>" in shown and "<td>194.5</td>" in shown and "voxpopuli-dev" in shown
    assert "98.7" not in shown and "50.0" not in shown
    assert "Not measured yet" in render_paper.measured_tables(results).data


def test_the_hyper_parameters_are_the_papers_where_the_paper_gives_them():
    shown = render_paper.hyper_parameters().data
    line = next(part for part in shown.split("<tr>") if "<td>medium</td>" in part)
    assert "<td>6.25e-06</td><td>Table 5 (secondary)</td>" in line
    line = next(part for part in shown.split("<tr>") if "<td>tiny</td>" in part)
    assert "<td>3.75e-05</td><td>Table 5 (derived)</td><td>8</td><td>ours</td>" in line
    line = next(part for part in shown.split("<tr>") if "<td>large</td>" in part)
    assert "<td>4.375e-06</td><td>Table 5 (secondary)</td><td>1</td><td>the paper's (secondary)</td>" in line


def test_the_pins_are_those_of_the_hubs_list():
    from asum_lib import hub

    assert REAL_PIN("openai/whisper-tiny") == hub.find("whisper-tiny").revision
    assert REAL_PIN("openslr/librispeech_asr") == hub.find("librispeech").revision
    assert REAL_PIN("nobody/nothing") is None


def test_what_must_be_fetched_is_listed_with_its_command():
    shown = render_paper.requirements().data
    for name in ("whisper-tiny", "whisper-large-v2", "librispeech", "librispeech-train", "slue-voxpopuli"):
        assert f"<code>{name}</code>" in shown
