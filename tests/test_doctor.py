"""`asum doctor`: each check tries the thing, and says what is wrong and what to do."""

import hashlib
import json

import pytest

from asum_lib import cli
from asum_lib.models.ladder import SIZES
from asum_lib.study import doctor


@pytest.fixture(scope="module")
def examined():
    return {check.name: check for check in doctor.examine()}


def test_every_part_is_examined(examined):
    assert list(examined) == [
        "python",
        "torch",
        "accelerator",
        "int8",
        "int4",
        "int4-dq",
        "fp4",
        "speech",
        "spoken digits",
        "memory",
        "disk",
        "checkpoints",
        "hub",
        "scale mini",
        "scale paper",
    ]


def test_the_hub_is_not_tried_unasked(examined):
    assert examined["hub"].ok is None


@pytest.mark.parametrize("precision", ["int8", "int4", "int4-dq", "fp4"])
def test_a_quantised_layer_is_run_forward_and_backward(examined, precision):
    assert examined[precision].ok, examined[precision].detail
    off_pct = float(examined[precision].detail.split(" % off")[0].split()[-1])
    assert 0.05 < off_pct < 20  # it is quantised, and not broken


def test_every_voice_of_the_corpus_is_heard(examined):
    assert examined["speech"].ok and "in 22 voices" in examined["speech"].detail


def test_a_broken_part_is_a_finding_and_stops_the_mini_scale(monkeypatch):
    def broken():
        raise OSError("libespeak-ng.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor, "_speech", broken)
    checks = {check.name: check for check in doctor.examine()}
    assert checks["speech"] == doctor.Check("speech", False, "OSError: libespeak-ng.so: cannot open shared object file")
    assert not checks["scale mini"].ok and "speech" in checks["scale mini"].detail
    assert not doctor.can_run_mini(list(checks.values()))


def shipped(folder):
    """A checkpoints folder with one small file a size, and their sums as `sha256sum` prints them."""
    lines = []
    for size in SIZES:
        (folder / f"whisper-{size}").mkdir()
        (folder / f"whisper-{size}" / "model.safetensors").write_bytes(size.encode())
        lines.append(f"{hashlib.sha256(size.encode()).hexdigest()}  whisper-{size}/model.safetensors")
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKPOINTS", tmp_path)
    return shipped(tmp_path)


def test_shipped_checkpoints_are_told_by_their_sums(checkpoints):
    assert doctor._checkpoints() == (True, "5 files, all as in SHA256SUMS")


def test_changed_missing_and_unlisted_checkpoints_are_all_named(checkpoints):
    (checkpoints / "whisper-tiny" / "model.safetensors").write_bytes(b"other")
    (checkpoints / "whisper-base" / "model.safetensors").unlink()
    sums = (checkpoints / "SHA256SUMS").read_text().splitlines()
    (checkpoints / "SHA256SUMS").write_text("\n".join(sums[:-1]))
    assert doctor._checkpoints() == (
        False,
        "whisper-large is not listed; whisper-tiny/model.safetensors is not the shipped file; whisper-base/model.safetensors is missing",
    )


def test_without_sums_the_way_to_checkpoints_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKPOINTS", tmp_path)
    ok, detail = doctor._checkpoints()
    assert not ok and "SHA256SUMS is missing" in detail and "asum pretrain" in detail


def test_too_little_memory_is_said_with_what_is_needed(monkeypatch):
    monkeypatch.setattr(doctor, "_MEMORY_BYTES", 2**60)
    ok, detail = doctor._memory()
    assert not ok and detail.endswith(f"{2**30} needed")


def test_the_text_has_one_line_a_check():
    checks = [doctor.Check("python", True, "3.11.7"), doctor.Check("hub", None, "not tried"), doctor.Check("disk", False, "full")]
    assert doctor.as_text(checks).splitlines() == ["yes python        3.11.7", "-   hub           not tried", "no  disk          full"]


@pytest.mark.parametrize("fine", [True, False])
def test_the_status_says_whether_the_mini_scale_can_run(monkeypatch, capsys, fine):
    checks = [doctor.Check("python", True, "3.11.7"), doctor.Check("torch", fine, "?")]
    monkeypatch.setattr(doctor, "examine", lambda network, progress: checks)
    assert cli.main(["doctor", "--format", "json"]) == (0 if fine else 1)
    assert json.loads(capsys.readouterr().out)[1] == {"name": "torch", "ok": fine, "detail": "?"}
