"""The cache folder where a home folder is, where none is known, and where the user names one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib import hub, paths
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY

# A container whose user id has no entry, as with `docker run --user 12345`.
UNNAMED = "import os, pwd, sys\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\nos.environ.pop('HOME', None)\n"


@pytest.fixture
def homeless(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "ASUM_CACHE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_home_the_line_says_what_to_set(homeless):
    with pytest.raises(InputError, match=r"^~/\.cache: no home folder is known for it: set ASUM_CACHE to a folder$"):
        paths.cache()
    with pytest.raises(InputError, match=r"no home folder is known for it: set HF_HOME to a folder$"):
        hub.cache_folder()


def test_without_a_home_the_named_cache_is_taken(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert (paths.cache(), hub.cache_folder()) == (tmp_path, tmp_path / "hf" / "hub")


@pytest.mark.parametrize(("given", "expected"), [("~/mine", "mine"), ("", ".cache/asum")])
def test_the_cache_starts_at_home(monkeypatch, tmp_path, given, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("ASUM_CACHE", given)
    assert paths.cache() == tmp_path / expected


def test_a_user_that_is_unknown_is_named():
    with pytest.raises(InputError, match=r"^~nobody-of-that-name/x: no home folder is known for it"):
        paths.expanded("~nobody-of-that-name/x")


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "whisper-tiny"], ["data", "digits"]])
def test_a_command_without_a_home_ends_in_one_line(tmp_path, arguments):
    code = UNNAMED + f"from asum_lib import cli\nsys.exit(cli.main({arguments!r}))"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "XDG_", "ASUM_CACHE"))}
    done = subprocess.run([sys.executable, "-c", code], env=kept | {"PYTHONPATH": str(REPOSITORY)}, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert "no home folder is known for it: set " in done.stderr
    assert list(Path(tmp_path).iterdir()) == []
