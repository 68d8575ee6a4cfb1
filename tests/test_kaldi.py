"""Kaldi's tables, places and matrices, from bytes written here as its format has them."""

import os
import struct

import numpy as np
import pytest

from asum_lib.corpora.kaldi import FeatureError, file_and_offset, place, read_header, read_matrix, read_table


def plain(values, kind=b"FM"):
    """A matrix as Kaldi writes it, without compression."""
    values = np.asarray(values, "<f4" if kind == b"FM" else "<f8")
    return b"\0B" + kind + b" " + struct.pack("<bibi", 4, values.shape[0], 4, values.shape[1]) + values.tobytes()


def compressed(kind, least, spread, rows, columns, data):
    return b"\0B" + kind + b" " + struct.pack("<ffii", least, spread, rows, columns) + data


def written(tmp_path, data):
    path = tmp_path / "feats.ark"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", [b"FM", b"DM"])
def test_a_matrix_lies_row_by_row(tmp_path, kind):
    found = read_matrix(written(tmp_path, plain([[1, 2, 3], [4, 5, 6.5]], kind)))
    assert found.tolist() == [[1, 2, 3], [4, 5, 6.5]] and found.dtype == np.float32


def test_the_bytes_of_the_smallest_matrix(tmp_path):
    assert read_matrix(written(tmp_path, bytes.fromhex("00 42 46 4d 20 04 01000000 04 01000000 0000803f"))).tolist() == [[1.0]]


def test_a_place_is_a_file_and_where_in_it(tmp_path):
    first, second = b"a " + plain([[1.0]]), b"b " + plain([[2.0], [3.0]])
    path = written(tmp_path, first + second)
    assert read_matrix(f"{path}:{len(first) + 2}").tolist() == [[2.0], [3.0]]
    assert read_matrix(place(path, 2)).tolist() == [[1.0]]
    assert file_and_offset("x/feats.1.ark:17") == (file_and_offset("x/feats.1.ark")[0], 17)


def test_two_bytes_a_value_are_steps_of_the_range(tmp_path):
    data = struct.pack("<4H", 0, 65_535, 13_107, 52_428)  # 0, 1, 0.2 and 0.8 of the range
    found = read_matrix(written(tmp_path, compressed(b"CM2", -1.0, 10.0, 2, 2, data)))
    assert found == pytest.approx(np.array([[-1, 9], [1, 7]]), abs=1e-5)


def test_one_byte_a_value_is_a_step_of_the_range(tmp_path):
    found = read_matrix(written(tmp_path, compressed(b"CM3", 2.0, 255.0, 2, 3, bytes([0, 255, 51, 1, 2, 3]))))
    assert found == pytest.approx(np.array([[2, 257, 53], [3, 4, 5]]), abs=1e-4)


def test_one_byte_a_value_between_percentiles_lies_column_by_column(tmp_path):
    """Range 65,535 from 0, so a percentile is its own number. Column 1: 0, 64, 192, 255; column 2: 100, 164, 420, 546."""
    percentiles = struct.pack("<8H", 0, 64, 192, 255, 100, 164, 420, 546)
    data = percentiles + bytes([0, 64, 192, 255, 32]) + bytes([0, 64, 192, 255, 128])
    found = read_matrix(written(tmp_path, compressed(b"CM", 0.0, 65_535.0, 5, 2, data)))
    assert found == pytest.approx(np.array([[0, 100], [64, 164], [192, 420], [255, 546], [32, 292]]), rel=1e-5)


def test_the_header_tells_the_shape_without_the_values(tmp_path):
    header = read_header(written(tmp_path, plain(np.zeros((200, 43)))))
    assert (header.kind, header.rows, header.columns, header.size_bytes) == ("FM", 200, 43, 200 * 43 * 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (plain([[1.0, 2.0]])[:-3], r"broken off: 3 of 8 bytes are missing"),
        (b"", r"the file ends before it"),
        (b"a [ 1 2 ]\n", r"is no binary matrix of Kaldi"),
        (b"\0BFV \4\1\0\0\0\0\0\0\0", r"holds 'FV', and a matrix is FM, DM, CM, CM2, CM3"),
        (b"\0BFM \4\0\0\0\0\4\0\0\0\0", r"has 0 rows and 0 columns"),
        (b"\0BFM \4\1\0", r"has a header that is none of Kaldi's"),
        (b"\0BFM \4\xff\xff\xff\x7f\4\1\0\0\0", r"has 2147483647 rows"),
        (plain([[1.0], [np.nan]]), r"a value in frame 1 that is no finite number"),
        (compressed(b"CM", 0.0, 1.0, 2, 1, b"\0" * 9), r"broken off: 1 of 10 bytes"),
    ],
)
def test_what_is_no_matrix_is_refused_in_a_line(tmp_path, data, message):
    with pytest.raises(FeatureError, match=message):
        read_matrix(written(tmp_path, data))


@pytest.mark.parametrize(
    ("where", "message"),
    [("gunzip -c x.ark.gz |", "none is run"), ("x.ark:5[0:9]", "whole matrices are read alone"), ("absent.ark:5", "cannot be read")],
)
def test_a_place_that_is_not_read_is_said(where, message):
    with pytest.raises(FeatureError, match=message):
        read_header(where)


def test_a_table_is_an_id_a_space_and_the_rest(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("\ufeffa one  two\r\nb\r\n\r\nc трёх".encode())
    assert read_table(path) == ({"a": (1, "one  two"), "b": (2, ""), "c": (4, "трёх")}, [])


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a x\nb y\na z", "line 3: id 'a' is that of line 1 too: ids must differ"),
        (b"a x\nb \xff", "line 2: not UTF-8: save the file in UTF-8"),
        (b"\n", ": is empty: lines of an id, a space and a text are needed"),
    ],
)
def test_a_faulty_table_names_its_line(tmp_path, data, fault):
    path = tmp_path / "text"
    path.write_bytes(data)
    (found,) = read_table(path)[1]
    assert found.startswith(str(path)) and found.endswith(fault)


def test_a_pipe_in_the_place_of_a_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.ark")
    with pytest.raises(FeatureError, match="is no regular file: an archive of Kaldi is needed"):
        read_header(tmp_path / "pipe.ark")
    assert read_table(tmp_path / "pipe.ark")[1] == [f"{tmp_path / 'pipe.ark'}: a device or a pipe, where a file should be"]
