"""The command: quick to start, one line for a mistake, stdout for results alone."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from asum_lib import cli
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY
from asum_lib.study import all_tables, claims, execute, tables

PARAMETERS = """\
size: str = "tiny"  # which rung
epochs: int = 2  # passes over the data
rate: float = 0.5
strict: bool = False
precisions: list = ["fp32"]  # several
seeds: list = [0]
note = "none"
"""


def run(*arguments, **options):
    """`asum` in a process of its own: (status, stdout, stderr)."""
    command = [sys.executable, "-m", "asum_lib", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, **options)
    return done.returncode, done.stdout, done.stderr


ASUM = f"{sys.executable} -m asum_lib"


def shell(command: str):
    """A line of bash in the repository."""
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)


def refused(capsys, *arguments) -> str:
    """The one line that `asum` says on stderr when it is used wrongly."""
    assert cli.main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("asum: ") and err.count("\n") == 1
    return err.removeprefix("asum: ").strip()


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Writes a notebook with `PARAMETERS` and one more cell among the known notebooks; returns its path."""

    def write(source="print(size, epochs, rate, strict, precisions, seeds)", name="study"):
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
        cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells, metadata=metadata), tmp_path / f"{name}.ipynb")
        return tmp_path / f"{name}.ipynb"

    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    return write


def test_importing_the_command_imports_nothing_heavy():
    program = "import sys; before = set(sys.modules); import asum_lib.cli; print(*sorted(set(sys.modules) - before))"
    loaded = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.split())
    assert "argparse" in loaded
    assert not {"torch", "transformers", "numpy", "pandas", "papermill", "yaml", "json", "pathlib", "dataclasses"} & loaded
    assert len(loaded) < 40


def test_help_lists_the_commands_on_stdout():
    status, out, err = run("--help")
    assert status == 0 and err == ""
    for name in ("run", "table", "claims", "pretrain", "adapt", "summarize", "say", "data", "doctor"):
        assert re.search(rf"\n    {name}\s", out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see `asum --help`)"),
        (
            ["walk"],
            "argument COMMAND: invalid choice: 'walk' (choose from 'run', 'measure', 'table', 'claims', 'export', 'verify', "
            "'rescore', 'pretrain', 'adapt', 'summarize', 'say', 'data', 'fetch', 'doctor', 'fit') (see `asum --help`)",
        ),
        (["table"], "the following arguments are required: NAME (see `asum table --help`)"),
        (["table", "whisper_wer", "--format", "xml"], "unknown format 'xml': choose from md, json, csv"),
        (["table", "whisper_wer", "--scale", "huge"], "unknown scale 'huge': choose from mini, paper"),
        (["claims", "--scale", "huge"], "unknown scale 'huge': choose from mini, paper"),
        (["claims", "--format", "xml"], "unknown format 'xml': choose from md, json"),
        (["doctor", "--format", "xml"], "unknown format 'xml': choose from md, json"),
        (
            ["pretrain", "whisper-huge"],
            "unknown model 'whisper-huge': choose from whisper-tiny, whisper-base, whisper-small, whisper-medium, whisper-large, t5-mini, mbart-mini",
        ),
        (["pretrain", "whisper-tiny", "--steps", "few", "--out", "x"], "--steps 'few' is not a whole number of 1 or more"),
        (["pretrain", "whisper-tiny", "--steps", "9"], "--steps makes a weaker checkpoint than the shipped one: say with --out where it is to lie"),
        (["adapt", "bart"], "unknown adapter 'bart': choose from whisper-medium-int8-adalora, t5-talks-adalora, e2e-talks"),
        (["adapt", "t5-talks-adalora", "--seed", "1"], "--seed 1 makes another adapter than the shipped one: say with --out where it is to lie"),
        (["data", "how2"], "unknown data set 'how2': choose from digits"),
        (["run", "nowhere/study.ipynb"], "notebook not found: nowhere/study.ipynb"),
        (["summarize", ""], "an argument is empty: a variable of the shell may not be set"),
        (
            ["summarize", "http://host/a.mp3"],
            "http://host/a.mp3: is an address, and nothing is downloaded: save the recording, then name the file",
        ),
    ],
)
def test_wrong_use_is_told_in_one_line(capsys, arguments, message):
    assert refused(capsys, *arguments) == message


def test_an_unknown_table_is_refused_with_the_known_ones(capsys):
    message = refused(capsys, "table", "whisper_per")
    assert message.startswith("unknown table 'whisper_per': choose from ")
    assert all(name in message for name in tables.GRIDS["mini"])


def test_a_mistake_has_no_traceback_in_a_process_of_its_own():
    assert run("table", "whisper_wer", "--scale", "huge") == (2, "", "asum: unknown scale 'huge': choose from mini, paper\n")


def test_a_table_is_json_with_every_planned_cell(capsys):
    assert cli.main(["table", "whisper_wer", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert err == "" and rows == json.loads(json.dumps(all_tables.rows("whisper_wer")))
    cells = {tuple(row["cell"][key] for key in ("size", "precision", "method", "rate")) for row in rows}
    assert {(cell.size, cell.precision, cell.method, cell.rate) for cell in tables.planned("whisper_wer")} <= cells


def test_a_table_is_markdown_unless_told_otherwise(capsys):
    assert cli.main(["table", "whisper_digits"]) == 0
    assert capsys.readouterr().out.strip() == tables.as_markdown(all_tables.rows("whisper_digits")).strip()


def test_claims_are_printed_with_their_verdicts(capsys):
    assert cli.main(["claims", "--format", "json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert [claim["claim"] for claim in judged][:2] == ["A1", "A2"]
    assert {"claim", "paper", "scale", "rule", "rule_sha", "verdict", "evidence"} <= set(judged[0])
    assert cli.main(["claims"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| claim | verdict |") and len(lines) == len(judged) + 2


def test_what_json_cannot_say_is_null(monkeypatch, capsys):
    monkeypatch.setattr(claims, "judge", lambda scale, file, only: [{"value": math.nan, "interval": (-math.inf, 1.5), "n": 3, "who": "naïve"}])
    assert cli.main(["claims", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"value": None, "interval": [None, 1.5], "n": 3, "who": "naïve"}]


def test_a_cell_of_markdown_keeps_to_its_column():
    assert cli._markdown([{"a": "x|y\nz", "b": None}], ("a", "b")).splitlines()[2] == "| x\\|y z |  |"


def test_parameters_get_the_types_that_the_notebook_declares(notebook):
    given = ["size=small", "epochs=3", "rate=2", "strict=true", "precisions=fp32,int8", "seeds=[0, 1]", "note=5"]
    assert execute.resolve(notebook(), given) == {
        "size": "small",
        "epochs": 3,
        "rate": 2.0,
        "strict": True,
        "precisions": ["fp32", "int8"],
        "seeds": [0, 1],
        "note": "5",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["sizes=small"], "unknown parameter of study 'sizes': choose from size, epochs, rate, strict, precisions, seeds, note"),
        (["size"], "parameter 'size' has no value: write NAME=VALUE"),
        (["size=a", "size=b"], "parameter 'size' is given twice"),
        (["epochs=two"], "parameter epochs is 'two', and should be a whole number"),
        (["seeds=0,one"], "parameter seeds is 'one', and should be a whole number"),
        (["strict=maybe"], "parameter strict is 'maybe', and should be true or false"),
    ],
)
def test_a_faulty_parameter_is_refused_before_anything_runs(notebook, capsys, given, message):
    notebook()
    assert refused(capsys, "run", "study", *(part for text in given for part in ("-p", text))) == message


def test_an_unknown_notebook_is_refused_with_the_known_ones(notebook, capsys):
    notebook(name="one")
    notebook(name="two")
    assert refused(capsys, "run", "three") == "unknown notebook 'three': choose from one, two"


def test_the_executed_notebook_is_named_after_its_values(notebook):
    def name(**parameters):
        return execute.output_path(notebook(), parameters).relative_to(REPOSITORY).as_posix()

    assert name() == "build/study.ipynb"
    assert name(size="medium") == "build/study-medium.ipynb"
    assert name(size="tiny", epochs=2, seeds=[0, 1]) == "build/study-tiny-epochs2-seeds0_1.ipynb"
    assert name(corpus="../real/a b.jsonl") == "build/study-.._real_a_b.jsonl.ipynb"
    with pytest.raises(InputError, match=r"output 'x.txt' is no notebook: its name should end in .ipynb"):
        execute.output_path(notebook(), {}, "x.txt")


def test_a_notebook_runs_with_its_parameters(notebook, tmp_path):
    output = tmp_path / "out" / "study.ipynb"
    status, out, err = run("run", notebook(), "-p", "size=small", "-p", "precisions=fp32,int8", "-o", output)
    assert (status, out) == (0, f"{output}\n")
    assert "small 2 0.5 False ['fp32', 'int8'] [0]" in err
    assert nbformat.read(output, 4).cells[-1].outputs[0]["text"] == "small 2 0.5 False ['fp32', 'int8'] [0]\n"


def test_a_mistake_that_the_notebook_finds_is_one_of_the_user(notebook, tmp_path):
    source = notebook("from asum_lib.errors import choose\nchoose('size', size, ['base', 'small'])")
    status, out, err = run("run", source, "-o", tmp_path / "out.ipynb")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == "asum: unknown size 'tiny': choose from base, small" and "Traceback" not in err


def test_a_failure_of_the_notebook_names_the_error_and_the_executed_notebook(notebook, tmp_path):
    output = tmp_path / "out.ipynb"
    status, out, err = run("run", notebook("1 / 0"), "-o", output)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == f"asum: ZeroDivisionError: division by zero (executed notebook: {output})"
    assert output.is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON (Expecting property name"),
        ("[]", "no Jupyter notebook of format 4: save it anew in Jupyter"),
        ('{"nbformat": 3}', "no Jupyter notebook of format 4"),
        ('{"nbformat": 4}', "no whole notebook: "),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1]}', "no whole notebook: "),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}', "kernel None is not installed here: choose from "),
        ("[" * 100_000, "more than 64 objects and lists in each other"),
    ],
)
def test_what_is_no_notebook_is_refused_before_it_is_run(tmp_path, capsys, content, message):
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    assert message in refused(capsys, "run", path)


def test_a_pipe_is_no_notebook(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.ipynb")
    assert refused(capsys, "run", tmp_path / "pipe.ipynb").endswith("a device or a pipe, where a file should be")


def test_a_number_of_thousands_of_digits_is_one_line(capsys):
    assert refused(capsys, "verify", "--cells", "9" * 5_000).endswith("has more than 9 digits")


def test_an_interrupt_ends_with_one_line_and_130(notebook, tmp_path):
    started = tmp_path / "started"
    source = notebook(f"import time\nopen({str(started)!r}, 'w').close()\ntime.sleep(60)")
    command = [sys.executable, "-m", "asum_lib", "run", str(source), "-o", str(tmp_path / "out.ipynb")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    waiting = time.monotonic()
    while not started.exists() and time.monotonic() - waiting < 90:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "asum: interrupted"


def test_a_reader_who_leaves_is_no_error_to_speak_of():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "asum_lib", "claims", "--format", "json"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (1, "")


def test_what_the_machine_refuses_is_one_line_and_status_1(monkeypatch, capsys):
    from asum_lib.corpora import digits

    def offline(progress):
        raise OSError("no route\nto host")

    monkeypatch.setattr(digits, "download", offline)
    assert cli.main(["data", "digits"]) == 1
    assert capsys.readouterr().err == "asum: OSError: no route to host\n"


def test_a_short_pretraining_goes_where_it_is_told(monkeypatch, tmp_path, capsys):
    from asum_lib.training import pretrain

    called = []
    monkeypatch.setattr(pretrain, "pretrain", lambda *arguments, **_: called.append(arguments) or arguments[1])
    assert cli.main(["pretrain", "whisper-base", "--steps", "9", "--out", str(tmp_path)]) == 0
    assert called == [("base", tmp_path, 9)] and capsys.readouterr().out == f"{tmp_path}\n"


def test_a_parameter_without_its_option_is_named(capsys):
    assert refused(capsys, "run", "whisper_quant", "size=tiny") == "unrecognized arguments: size=tiny (a parameter is -p size=tiny)"


def test_an_error_of_the_system_has_its_words_and_no_number(monkeypatch, capsys):
    def full(folder, replace=False):
        raise OSError(28, "No space left on device", "out/x.csv")

    monkeypatch.setattr(all_tables, "export", full)
    assert cli.main(["export", "out"]) == 1
    assert capsys.readouterr().err == "asum: out/x.csv: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_closed_stream_that_is_not_needed_is_no_error(closed):
    done = shell(f"{ASUM} table rouge_rates {closed}")
    assert done.returncode == 0 and done.stdout.startswith("|") and not done.stderr


def test_a_closed_standard_output_is_one_line():
    done = shell(f"{ASUM} table whisper_wer >&-")
    assert (done.returncode, done.stderr) == (1, "asum: standard output: closed: send it to /dev/null where the results are not wanted\n")


@pytest.mark.parametrize("reader", ["| head -1", "2>&1 | head -1", ">/dev/full"])
def test_a_reader_who_leaves_early_gets_no_traceback(reader):
    done = shell(f"({ASUM} table whisper_wer --format json; echo $? >&2) {reader}")
    assert "Traceback" not in done.stdout + done.stderr and "Exception ignored" not in done.stdout + done.stderr


def test_a_table_of_ones_own_is_printed(add_record, tmp_path, capsys):
    corpus = tmp_path / "mine"
    corpus.mkdir()
    path = add_record("tiny", "int8", corpus=str(corpus / "manifest.jsonl"))
    assert path.parent.name.startswith("whisper_mine")
    assert cli.main(["table", path.parent.name, "--results", str(tmp_path / "results")]) == 0
    assert "| tiny | int8 |" in capsys.readouterr().out
    assert f", {path.parent.name}" in refused(capsys, "table", "whisper_other", "--results", tmp_path / "results")
    assert refused(capsys, "table", "whisper_wer", "--results", tmp_path / "none") == f"--results {str(tmp_path / 'none')!r}: no such folder"


def test_an_output_folder_that_is_a_file_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    cli.main(["say", "a glass jar", str(tmp_path / "a.wav")])
    capsys.readouterr()
    assert "is a file: name a folder" in refused(capsys, "summarize", tmp_path / "a.wav", "--out", tmp_path / "file")
