import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from asum_lib import files, recordings
from asum_lib.errors import InputError
from asum_lib.study import all_tables, execute, rules
from asum_lib.training import systems


def test_a_file_is_written_whole_and_nothing_lies_beside_it(tmp_path):
    files.write_whole(tmp_path / "a.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space.*a\.txt"):
        files.write_whole(tmp_path / "a.txt", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_is_asked_before_the_work_for_it(tmp_path, monkeypatch):
    def read_only(dir):
        raise OSError(30, "Read-only file system", f"{dir}/tmp123")

    files.check_writable(tmp_path / "new")
    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(OSError, match="Read-only") as error:
        files.check_writable(tmp_path / "new")
    assert error.value.filename == str(tmp_path / "new")


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(InputError, match=r"a.txt is there already and stays as it is: .*--force"):
        files.write_whole(tmp_path / "a.txt", b"new", replace=False)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_two_writers_have_two_names_aside(tmp_path):
    with files.aside(tmp_path / "a") as one, files.aside(tmp_path / "a") as other:
        assert one != other


def test_what_a_killed_run_left_aside_is_removed_a_day_later(tmp_path):
    old, young, foreign = (tmp_path / name for name in (".a.bin.0123.tmp", ".a.bin.4567.tmp", ".b.bin.89.tmp"))
    for path in (old, young, foreign):
        path.write_text("part")
    for path in (old, foreign):
        os.utime(path, (time.time() - 90_000, time.time() - 90_000))
    with files.aside(tmp_path / "a.bin"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, foreign.name]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty, it has notes.md: .*--force"), files.folder_aside(tmp_path):
        pass
    with files.folder_aside(tmp_path, replace=True) as made:
        (made / "config.json").write_text("{}")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"notes.md": "mine", "config.json": "{}"}


def test_a_folder_is_filled_when_all_of_it_is_there(tmp_path):
    with pytest.raises(RuntimeError), files.folder_aside(tmp_path / "new") as made:
        (made / "config.json").write_text("{}")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


# What the commands write


def test_adapt_and_pretrain_keep_what_is_there(tmp_path, asum):
    (tmp_path / "README.md").write_text("my notes")
    for command in (["adapt", "t5-talks-adalora"], ["pretrain", "whisper-tiny", "--steps", "1"], ["pretrain", "t5-mini", "--steps", "1"]):
        status, error = asum(*command, "--out", tmp_path)
        assert (status, (tmp_path / "README.md").read_text()) == (2, "my notes")
        assert f"folder {tmp_path} is not empty, it has README.md" in error


def test_the_end_to_end_adapter_needs_the_two_it_stands_on(tmp_path):
    with pytest.raises(InputError, match="stands on whisper-medium-int8-adalora, which is not in"):
        systems.adapt("e2e-talks", tmp_path / "mine")


def test_say_keeps_a_file_that_is_there(tmp_path, asum):
    (tmp_path / "a.wav").write_text("mine")
    assert asum("say", "hello", tmp_path / "a.wav")[0] == 2
    assert (tmp_path / "a.wav").read_text() == "mine"
    assert asum("say", "hello", tmp_path / "a.wav", "--force")[0] == 0
    assert (tmp_path / "a.wav").read_bytes().startswith(b"RIFF")


def test_export_keeps_a_file_that_is_there(tmp_path, asum):
    (tmp_path / "whisper_wer-mini.csv").write_text("mine")
    status, error = asum("export", tmp_path)
    assert (status, "whisper_wer-mini.csv is there already" in error) == (2, True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_killed_export_leaves_every_file_whole(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    written = []

    def some(path, content, replace=True):
        if len(written) == 2:
            raise Killed
        written.append(path)
        files.fill(path, content)

    folder = tmp_path / "tables"
    folder.mkdir()
    monkeypatch.setattr(all_tables, "SCALES", ("mini",))
    monkeypatch.setattr(all_tables, "names", lambda scale: ["corpora"])
    for path in all_tables.export(folder, tmp_path):
        path.write_text("[]")
    monkeypatch.setattr(files, "write_whole", some)
    with pytest.raises(Killed):
        all_tables.export(folder, tmp_path, replace=True)
    assert len(written) == 2 and json.loads((folder / "claims-mini.json").read_text()) == []


def test_only_an_executed_notebook_is_replaced(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"metadata": {}}))
    with pytest.raises(InputError, match="is there already"):
        execute.check_output(path)
    path.write_text(json.dumps({"metadata": {"papermill": {}}}))
    execute.check_output(path)


class System:
    """Answers with the recording's name."""

    notes = ()

    def __call__(self, path, progress):
        from asum_lib.systems import Answer

        fields = dict.fromkeys(Answer.__dataclass_fields__)
        return Answer(**fields | {"audio": str(path), "segments": (), "notes": (), "summary": path.stem, "audio_s": 1.0})


def test_summarize_keeps_a_file_that_came_meanwhile(tmp_path):
    (tmp_path / "talk.txt").write_text("my own minutes")
    with pytest.raises(InputError, match=r"talk.txt is there already"):
        recordings.check_outputs([tmp_path / "talk.wav"], tmp_path, "text")
    with pytest.raises(InputError, match=r"talk.txt is there already"):
        recordings.summarize(System(), [tmp_path / "talk.wav"], "text", tmp_path, print)
    assert (tmp_path / "talk.txt").read_text() == "my own minutes"


def test_no_recording_is_written_over(tmp_path):
    (tmp_path / "talk.txt").write_bytes(b"audio under an odd name")
    with pytest.raises(InputError, match=r"talk.txt is one of the recordings"):
        recordings.check_outputs([tmp_path / "talk.txt"], tmp_path, "text", replace=True)


def test_no_two_answers_have_one_name(tmp_path):
    names = ["a/x.wav", "b/x.wav", "b/x.wav-2.wav", "c/X.flac"]
    places = recordings.outputs([tmp_path / name for name in names], tmp_path, "text")
    assert len({str(place).casefold() for place in places}) == 4


def test_a_log_without_a_final_newline_stays_readable(tmp_path):
    log = tmp_path / "rules.jsonl"
    claim = {"id": "A", "rule_text": "a", "rule": {"kind": "comparisons", "n": 1}}
    rules.register([("own", claim)], log)
    log.write_text(log.read_text().rstrip("\n"))
    rules.register([("own", claim | {"rule": {"kind": "comparisons", "n": 2}})], log)
    assert [written.rule["n"] for written in rules.read(log)] == [1, 2]


def test_two_trainings_of_one_cell_save_side_by_side(tmp_path):
    import torch

    from asum_lib.training import state

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    faults = []

    def save():
        resume = state.Resume(tmp_path / "training", "key")
        try:
            for _ in range(20):
                state.save(resume, state.Position(), model, optimizer, schedule)
                state.discard(resume)
        except Exception as fault:
            faults.append(fault)

    runs = [threading.Thread(target=save) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert faults == []


def test_a_home_that_is_nowhere_is_said(tmp_path):
    command = [sys.executable, "-m", "asum_lib", "table", "whisper_wer"]
    environment = os.environ | {"ASUM_HOME": str(tmp_path / "nowhere")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    said = f"asum: ASUM_HOME {tmp_path}/nowhere: no such folder: give the study's own, or unset it\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


WAITING = """
import sys, time
from pathlib import Path
from asum_lib import cli, recordings
from tests.test_files import System

class Slow(System):
    def __call__(self, path, progress):
        if path.stem == "b":
            print("waiting", file=sys.stderr, flush=True)
            time.sleep(60)
        return super().__call__(path, progress)

def summarize(options):
    return recordings.summarize(Slow(), [Path("a.wav"), Path("b.wav")], "json", None, print)

cli._summarize = summarize
sys.exit(cli.main(["summarize", "a.wav"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_answers_that_are_there(number, status):
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert [answer["summary"] for answer in json.loads(out)] == ["a"]
    assert (process.returncode, "Traceback" in error) == (status, False)


@pytest.fixture
def asum(capsys):
    """Runs the command and gives (status, what it said)."""
    from asum_lib import cli

    def run(*arguments):
        status = cli.main([*map(str, arguments)])
        return status, capsys.readouterr().err

    return run
