"""Files from outside are read within bounds of size and depth, and refused in one line."""

import gzip
import os
import time

import pytest
import yaml

from asum_lib import reading
from asum_lib.errors import InputError

ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "m0: &m0 {k: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(read, *arguments) -> str:
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        read(*arguments)
    assert time.monotonic() - start < 5 and "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(reading.read_json, tmp_path / "pipe").endswith("pipe: a device or a pipe, where a file should be")
    assert refused(reading.read_json, "/dev/zero") == "/dev/zero: a device or a pipe, where a file should be"
    assert refused(reading.read_json, tmp_path).endswith(": a folder, where a file should be")
    assert refused(reading.read_json, tmp_path / "none").endswith("none: no such file")
    assert refused(reading.read_json, tmp_path / ("x" * 300)).endswith("(File name too long)")
    assert refused(reading.read_json, "a\0b") == "'a\\x00b' is no path of a file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "more than 64 objects and lists in each other"),
        ("[" * 65 + "]" * 65, "more than 64 objects and lists in each other"),
        ('{"a":' * 70 + "1" + "}" * 70, "more than 64 objects and lists in each other"),
        ("9" * 5_000, "not JSON (Exceeds the limit (4300 digits) for integer string conversion"),
        ("{", "not JSON (Expecting property name"),
        (b"\xff\xfe", "not UTF-8 at byte 0: save it as UTF-8"),
        ("", "not JSON (Expecting value: line 1 column 1 (char 0))"),
    ],
)
def test_json_out_of_bounds_is_one_line(file, content, message):
    assert message in refused(reading.read_json, file(content))


def test_json_within_bounds_is_read(file):
    assert reading.read_json(file("[" * 64 + "]" * 64))
    assert reading.read_json(file(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')) == {"a": "é"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ALIASES, "its aliases stand for more than 200,000 values"),
        (MERGES, "its aliases stand for more than 200,000 values"),
        ("a: &a [*a]", "its aliases stand for more than 200,000 values"),
        ("a: " + "[" * 10_000, "more than 64 mappings and lists in each other"),
        ("a: " + "[" * 80 + "]" * 80, "more than 64 mappings and lists in each other"),
        ("a: 2024-13-45", "a value is not what YAML takes it for (month must be in 1..12)"),
        ("a: " + "9" * 5_000, "a value is not what YAML takes it for (Exceeds the limit (4300 digits)"),
        ("a: !!timestamp x", "a value is not what YAML takes it for"),
        ("a: !!int ''", "a value is not what YAML takes it for"),
        ("x" * 2**21, "larger than 1 MB"),
    ],
)
def test_yaml_out_of_bounds_is_one_line(file, content, message):
    assert message in refused(reading.read_yaml, file(content))


def test_yaml_makes_no_objects(file):
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        reading.read_yaml(file("a: !!python/object/apply:os.getcwd []"))


def test_yaml_within_bounds_is_read(file):
    assert reading.read_yaml(file("a: &a [1, x]\nb: *a\n")) == {"a": [1, "x"], "b": [1, "x"]}
    assert reading.read_yaml(file("")) is None


def test_a_packed_file_is_read_to_its_limit_and_no_further(tmp_path):
    bomb = gzip.compress(bytes(10**7))
    assert refused(reading.unpack, bomb, "x.gz", 10**6) == "x.gz: unpacked it is larger than 1 MB, more than is read of it"
    assert reading.unpack(bomb, "x.gz", 10**7) == bytes(10**7)
    assert reading.unpack(gzip.compress(b"a") + gzip.compress(b"b"), "x.gz") == b"ab"
    assert "cut off" in refused(reading.unpack, bomb[:-9], "x.gz")
    assert "not a whole gzip file" in refused(reading.unpack, b"text", "x.gz")


def test_a_folder_with_more_files_than_a_corpus_is_refused(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"{number}.txt").touch()
    assert [path.name for path in reading.files_below(tmp_path)] == ["0.txt", "1.txt", "2.txt"]
    monkeypatch.setattr(reading, "MOST_FILES", 2)
    assert refused(reading.files_below, tmp_path).endswith("more than 2 files lie in it: name the folder of the corpus alone")


def test_a_message_is_one_line_whatever_it_names():
    assert str(InputError("corpus a\nb\u202e: no such é")) == r"corpus a\nb\u202e: no such é"
