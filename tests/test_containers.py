"""What files of several streams, open ends and false headers hold: all of it is read, or it is refused."""

import os
import shutil
import socket
import struct

import numpy as np
import pytest
import soundfile

from asum_lib import recordings
from asum_lib.corpora import containers, ffmpeg, mpeg
from asum_lib.corpora.audio import AudioError, duration_s, is_audio, read_audio

RATE = 16_000
ID3 = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
RECORDED = ["wav", "aiff", "au", "caf", "w64", "rf64", "flac", "ogg", "mp3"]


def noise(seconds, rate_hz=RATE):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate_hz)).astype(np.float32)


def encoded(path, seconds=1.0, rate_hz=RATE, channels=1, **more) -> bytes:
    samples = np.stack([noise(seconds, rate_hz)] * channels, axis=1)
    soundfile.write(path, samples, rate_hz, **more)
    return path.read_bytes()


def put(path, data):
    path.write_bytes(data)
    return path


def refusal(path):
    with pytest.raises(AudioError) as error:
        duration_s(path)
    with pytest.raises(AudioError, match=r".") as again:
        read_audio(path)
    assert again.value.reason == error.value.reason and "\n" not in error.value.reason
    return error.value.reason


def variable_mp3(path, *parts):
    """An MP3 of variable bit rate, and the length in bytes of its first frame, which counts the others."""
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="MPEG_LAYER_III", compression_level=0.5, bitrate_mode="VARIABLE") as file:
        file.write(np.concatenate(parts))
    data = path.read_bytes()
    return data, mpeg.frame_of(data[:4]).size_bytes


@pytest.mark.parametrize("first", ["speech", "silence"])
def test_vbr_mp3_without_a_xing_frame_is_whole(tmp_path, first):
    silence = np.zeros(3 * RATE, np.float32)
    parts = (noise(3), silence) if first == "speech" else (silence, noise(3))
    data, header = variable_mp3(tmp_path / "a.mp3", *parts)
    path = put(tmp_path / "b.mp3", data[header:])
    assert duration_s(path) == pytest.approx(6.0, abs=0.15)
    heard = read_audio(path).reshape(-1)
    assert np.abs(heard[:RATE]).max() > 0.1 if first == "speech" else np.abs(heard[-RATE:]).max() > 0.1


@pytest.mark.parametrize("suffix", RECORDED)
def test_joined_files_are_read_to_the_last(tmp_path, suffix):
    data = encoded(tmp_path / f"a.{suffix}")
    said = []
    assert duration_s(put(tmp_path / f"b.{suffix}", data * 3), said.append) == pytest.approx(3.0, abs=0.01)
    assert said == [f"{tmp_path / f'b.{suffix}'}: holds 3 recordings one after the other: all are read"]


@pytest.mark.parametrize("suffix", RECORDED)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, suffix):
    data = encoded(tmp_path / f"a.{suffix}", 3)
    for share in (0.3, 0.6, 0.9):
        assert refusal(put(tmp_path / f"b.{suffix}", data[: int(share * len(data))])).startswith("is broken")


@pytest.mark.parametrize("suffix", RECORDED)
def test_joined_to_a_file_that_is_cut_off_is_refused(tmp_path, suffix):
    data = encoded(tmp_path / f"a.{suffix}")
    assert refusal(put(tmp_path / f"b.{suffix}", data + data[: len(data) // 2])).startswith("is broken")


def test_opus_chains_are_read_to_the_last_link(tmp_path):
    data = encoded(tmp_path / "a.ogg", subtype="OPUS")
    assert duration_s(put(tmp_path / "b.opus", data + data)) == pytest.approx(2.0, abs=0.02)


def test_an_ogg_page_that_is_gone_is_missed(tmp_path):
    data = encoded(tmp_path / "a.ogg", 20, subtype="OPUS")
    pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]
    assert len(pages) > 8
    assert refusal(put(tmp_path / "b.ogg", b"".join(pages[:5] + pages[6:]))).startswith("is broken")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_page_that_is_damaged_is_missed(tmp_path, subtype):
    data = bytearray(encoded(tmp_path / "a.ogg", 10, subtype=subtype))
    assert duration_s(put(tmp_path / "b.ogg", data)) == pytest.approx(10, abs=0.001)
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(range(200))
    assert refusal(put(tmp_path / "b.ogg", data)).startswith("is broken off: it should hold 10.0 s")


def test_an_mp3_of_two_rates_keeps_both(tmp_path):
    low, high = encoded(tmp_path / "a.mp3"), encoded(tmp_path / "b.mp3", 2, 44_100, 2)
    path = put(tmp_path / "c.mp3", low + ID3 + high)
    assert duration_s(path) == pytest.approx(3.0, abs=0.01)
    assert len(read_audio(path)) == pytest.approx(3 * RATE, abs=2)


@pytest.mark.parametrize("end", [b"TAG" + bytes(125), ID3, b"APETAGEX" + struct.pack("<4I8x", 2_000, 64, 1, 0) + bytes(64)])
def test_tags_of_an_mp3_are_no_sound(tmp_path, end):
    path = put(tmp_path / "b.mp3", ID3 + ID3 + encoded(tmp_path / "a.mp3") + end)
    assert duration_s(path) == pytest.approx(1.0, abs=0.001)


def test_a_last_mp3_frame_that_is_cut_is_said(tmp_path):
    data, header = variable_mp3(tmp_path / "a.mp3", noise(3))
    said = []
    assert duration_s(put(tmp_path / "b.mp3", data[header:-20]), said.append) == pytest.approx(3.0, abs=0.15)
    assert said[0].endswith("ends within a frame of MP3: what came after it, if anything did, is missing")


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
@pytest.mark.parametrize("suffix", ["wav", "rf64"])
def test_a_streamed_wav_is_read_to_its_end(tmp_path, size, suffix):
    data = bytearray(encoded(tmp_path / f"a.{suffix}"))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = struct.pack("<I", size)
    if suffix == "rf64":  # nor does its table of long sizes say one
        data[20:36] = bytes(16)
    assert duration_s(put(tmp_path / f"b.{suffix}", data)) == 1.0


def test_a_wav_longer_than_its_header_says_is_refused(tmp_path):
    data = bytearray(encoded(tmp_path / "a.wav"))
    data[40:44] = struct.pack("<I", 1_000)
    reason = refusal(put(tmp_path / "b.wav", data))
    assert reason == "goes on for 31000 bytes after the end that its header states, which may be audio: write it anew"


def test_chunks_and_padding_after_samples_are_no_sound(tmp_path):
    data = encoded(tmp_path / "a.wav")
    path = put(tmp_path / "b.wav", data + b"LIST" + struct.pack("<I", 2_000) + b"x" * 2_000 + bytes(5_000))
    assert duration_s(path) == 1.0


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    data = bytearray(encoded(tmp_path / "a.flac"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert duration_s(put(tmp_path / "b.flac", data)) == 1.0
    assert refusal(put(tmp_path / "c.flac", data[:20_000])).startswith("is broken")


@pytest.mark.parametrize(("suffix", "name"), [("wav", "a.mp3"), ("flac", "a.wav"), ("ogg", "a.flac"), ("mp3", "a.wav")])
def test_a_file_is_what_it_begins_with(tmp_path, suffix, name):
    data = encoded(tmp_path / f"whole.{suffix}")
    assert duration_s(put(tmp_path / name, data)) == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_samples_of_any_width_are_read(tmp_path, subtype):
    path = tmp_path / "a.wav"
    encoded(path, channels=6, subtype=subtype)
    np.testing.assert_allclose(read_audio(path), noise(1), atol=0.02)


@pytest.mark.parametrize("name", ["a.vox", "a.gsm", "a.raw", "a.mp3", "a.wav"])
def test_text_is_no_audio_whatever_its_name(tmp_path, name):
    path = put(tmp_path / name, b"the free world, in a text " * 100)
    assert not is_audio(path)
    assert refusal(path) == "is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed"


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.wav"))
        for path in (tmp_path / "pipe.wav", tmp_path / "s.wav", "/dev/zero"):
            assert refusal(path).startswith("is no regular file (a pipe, a socket or a device)")


def test_more_streams_than_anyone_joins_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_MOST_PARTS", 3)
    data = encoded(tmp_path / "a.flac", 0.1)
    assert refusal(put(tmp_path / "b.flac", data * 4)) == "is more than 3 files in one: take it apart"


@pytest.mark.parametrize("value", [32_000, -11])
def test_samples_on_another_scale_are_refused(tmp_path, value):
    samples = noise(1)
    samples[8_000] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    reason = refusal(tmp_path / "a.wav")
    assert reason.startswith(f"has a sample of {abs(value)} at 0.500 s, and full scale is 1")


def test_float_a_little_over_full_scale_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", 6 * noise(1), RATE, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")).max() == pytest.approx(3.0, abs=0.01)


def channels(path, *tracks):
    soundfile.write(path, np.stack(tracks, axis=1), RATE, subtype="FLOAT")
    return path


def test_channels_of_opposite_phase_are_not_silence(tmp_path):
    path, said = channels(tmp_path / "a.wav", noise(2), -0.9 * noise(2)), []
    assert duration_s(path, said.append) == 2.0
    np.testing.assert_array_equal(read_audio(path), noise(2))
    assert said == [f"{path}: its channels cancel each other out (opposite phase): channel 1 of 2, the loudest, is taken"]


def test_opposite_phase_in_half_a_file_is_not_silence(tmp_path):
    left = noise(8)
    right = np.concatenate([left[: 4 * RATE], -left[4 * RATE :]])
    np.testing.assert_array_equal(read_audio(channels(tmp_path / "a.wav", left, right)), left)


def test_two_opposite_channels_of_four_are_not_silence(tmp_path):
    quiet = 0.01 * noise(2)[::-1]
    found = read_audio(channels(tmp_path / "a.wav", quiet, noise(2), quiet, -noise(2)))
    np.testing.assert_array_equal(found, noise(2))


def test_channels_that_are_unlike_are_averaged(tmp_path):
    left, right = noise(4)[: 2 * RATE], noise(4)[2 * RATE :]
    for other in (right, -0.2 * left, np.zeros(2 * RATE, np.float32)):
        found = read_audio(channels(tmp_path / "a.wav", left, other))
        np.testing.assert_allclose(found, (left + other) / 2, atol=1e-7)


needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg on the PATH")


def compressed(folder, name, seconds=2, *options):
    import subprocess

    soundfile.write(folder / "source.wav", noise(seconds), RATE)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", folder / "source.wav", *options]
    subprocess.run([*command, folder / name], check=True)
    return folder / name


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.webm", "a.mkv", "a.aac", "a.wma"])
def test_containers_are_decoded_by_ffmpeg(tmp_path, name):
    path = compressed(tmp_path, name)
    assert is_audio(path)
    assert duration_s(path) == pytest.approx(2.0, abs=0.15)
    assert len(read_audio(path)) == pytest.approx(2 * RATE, abs=0.15 * RATE)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.mkv"])
def test_what_ffmpeg_reads_in_part_is_refused(tmp_path, name):
    more = ("-movflags", "+faststart") if name == "a.m4a" else ()
    data = compressed(tmp_path, name, 10, *more).read_bytes()
    assert refusal(put(tmp_path / f"cut-{name}", data[: len(data) * 6 // 10])).startswith("is broken, says ffmpeg (")


FAKE = """#!/bin/sh
printf '.snd\\0\\0\\0\\030\\377\\377\\377\\377\\0\\0\\0\\006\\0\\0\\076\\200\\0\\0\\0\\001'
head -c 64000 /dev/zero
"""


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """A program of that name which gives a second of silence, and then what it is told to do."""

    def make(then=""):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        put(folder / "ffmpeg", (FAKE + then).encode()).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return put(tmp_path / "a.m4a", b"\0\0\0\x20ftypM4A " + bytes(100))

    return make


def test_ffmpeg_is_read_in_blocks(fake_ffmpeg):
    assert duration_s(fake_ffmpeg()) == 1.0


def test_what_ffmpeg_says_of_errors_refuses_the_file(fake_ffmpeg):
    said = "echo '[mov @ 0x1] moov atom not found' >&2"
    assert refusal(fake_ffmpeg(said)) == "is broken, says ffmpeg (moov atom not found): copy it anew"
    assert refusal(fake_ffmpeg("exit 3")) == "is broken, says ffmpeg (3): copy it anew"


def test_ffmpeg_that_hangs_is_ended(fake_ffmpeg, monkeypatch):
    monkeypatch.setattr(ffmpeg, "_SILENT_FOR_S", 0.5)
    assert refusal(fake_ffmpeg("exec sleep 60")) == "ffmpeg gave nothing for 0.5 s: convert it to WAV"


def test_without_ffmpeg_its_name_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for head in (b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1f", b"\xff\xf1\x60\x40"):
        reason = refusal(put(tmp_path / "a.bin", head + bytes(100)))
        assert reason.endswith("not on the PATH: install ffmpeg, or convert it to WAV or FLAC")


def test_the_length_that_progress_says_is_counted(tmp_path):
    data, header = variable_mp3(tmp_path / "a.mp3", np.zeros(3 * RATE, np.float32), noise(60))
    path = put(tmp_path / "b.mp3", data[header:] * 2)
    assert recordings._length(path) == " of 2.1"
