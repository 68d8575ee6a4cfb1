"""Audio of every kind: what is read, how, and in which pieces; and what is refused, in one line that names the file."""

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile

from asum_lib.corpora.audio import AudioError, duration_s, read_audio, samples_of, windows
from asum_lib.corpora.phrases import phrases
from asum_lib.errors import InputError


def tone(seconds, rate_hz=16_000, hz=200):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def write(path, samples, rate_hz=16_000, subtype=None):
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def write_sparse(path, hours, rate_hz, channels, tones=()):
    """A WAV of 16-bit silence that takes no room on the disk, with a second of tone where `tones` (in seconds) say."""
    frame, second = 2 * channels, 2 * channels * rate_hz
    size = round(hours * 3_600) * second
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", size + 36, b"WAVEfmt ", 16, 1, channels, rate_hz, second, frame, 16, b"data", size)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + size)
        for start_s in tones:
            file.seek(44 + start_s * second)
            file.write(np.repeat((tone(1, rate_hz) * 32_767).astype("<i2"), channels).tobytes())
    return path


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (16_000, 1), (16_000, 2), (44_100, 2), (48_000, 1), (48_000, 6)])
def test_any_rate_and_number_of_channels_is_read_as_16_khz_mono(tmp_path, rate_hz, channels):
    samples = read_audio(write(tmp_path / "a.wav", np.stack([tone(1, rate_hz)] * channels, axis=1), rate_hz))
    assert samples.shape == (16_000,) and samples.dtype == np.float32
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 200  # bins of 1 Hz: the tone is still at 200 Hz
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", None), ("wav", "FLOAT")])
def test_compressed_and_float_audio_is_read(tmp_path, suffix, subtype):
    samples = read_audio(write(tmp_path / f"a.{suffix}", tone(1), subtype=subtype))
    assert samples.shape == (16_000,) and np.argmax(np.abs(np.fft.rfft(samples))) == 200


def test_channels_are_averaged(tmp_path):
    np.testing.assert_allclose(read_audio(write(tmp_path / "a.wav", np.array([[0.5, 0.0], [0.25, -0.25]]))), [0.25, 0.0])


def test_silence_is_audio(tmp_path):
    path = write(tmp_path / "silent.wav", np.zeros(8_000))
    np.testing.assert_array_equal(read_audio(path), np.zeros(8_000, np.float32))
    assert duration_s(path) == 0.5


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_resampling_block_by_block_gives_the_samples_of_resampling_at_once(tmp_path, rate_hz):
    import soxr

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * (1 << 18) + 12_345).astype(np.float32)  # more than three blocks
    path = write(tmp_path / "a.wav", noise, rate_hz, "FLOAT")
    np.testing.assert_array_equal(read_audio(path), soxr.resample(noise, rate_hz, 16_000))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_a_file_that_fits_the_window_is_one_piece(tmp_path, rate_hz):
    path = write(tmp_path / "a.wav", tone(3, rate_hz), rate_hz)
    (piece,) = windows(path, 3)
    np.testing.assert_array_equal(piece, read_audio(path))


@pytest.mark.parametrize(("rate_hz", "seconds"), [(16_000, 3.05), (16_000, 31.7), (44_100, 31.7), (16_000, 6.0)])
def test_pieces_fit_the_window_and_together_are_the_whole_audio(tmp_path, rate_hz, seconds):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate_hz))
    path = write(tmp_path / "a.wav", noise, rate_hz)
    pieces = list(windows(path, 3))
    np.testing.assert_array_equal(np.concatenate(pieces), read_audio(path))
    assert min(map(len, pieces)) >= 1_600 and max(map(len, pieces)) <= 3 * 16_000
    assert all(len(piece) >= 2.25 * 16_000 for piece in pieces[:-2])
    assert [len(piece) for piece in pieces] == [len(piece) for piece in windows(path, 3)]


def test_audio_is_cut_in_the_pause(tmp_path):
    speech = tone(5)
    speech[36_500:37_500] = 0  # from 2.281 s
    first, second = windows(write(tmp_path / "a.wav", speech), 3)
    assert 36_500 < len(first) < 37_500
    assert len(first) + len(second) == 80_000


def test_silence_is_cut_as_late_as_possible(tmp_path):
    pieces = list(windows(write(tmp_path / "a.wav", np.zeros(160_000)), 3))
    assert [len(piece) / 16_000 for piece in pieces] == [2.975, 2.975, 2.975, 1.075]  # the middle of the window's last 50 ms


def test_a_moment_over_the_window_leaves_no_piece_of_some_milliseconds(tmp_path):
    first, second = windows(write(tmp_path / "a.wav", np.zeros(48_010)), 3)
    assert len(second) >= 1_600 and len(first) + len(second) == 48_010


def test_a_window_shorter_than_the_shortest_piece_allows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a window of 0\.1 s is too short: 0\.4 s is the least"):
        list(windows(write(tmp_path / "a.wav", tone(1)), 0.1))


def test_three_hours_pass_through_in_bounded_memory(tmp_path):
    path = write_sparse(tmp_path / "long.wav", 3, 16_000, 1, tones=(29, 10_799))
    tracemalloc.start()
    total = loud = 0
    for piece in windows(path, 30):
        total += len(piece)
        loud += np.count_nonzero(np.abs(piece) > 0.49)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 3 * 3_600 * 16_000 and loud > 2_000
    assert peak_bytes < 20e6  # the whole is 691 MB of float32


@pytest.mark.slow
def test_three_hours_of_48_khz_stereo_need_less_than_200_mb_in_all(tmp_path):
    path = write_sparse(tmp_path / "long.wav", 3, 48_000, 2, tones=(29, 10_799))
    code = (
        "import sys; from asum_lib.corpora.audio import windows\n"
        "print(sum(len(piece) for piece in windows(sys.argv[1], 30)))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    samples, peak_kib = map(int, done.stdout.split())
    assert samples == 3 * 3_600 * 16_000
    assert peak_kib < 200 * 1_024


def refusal(path):
    """The one line, without the file's name that it begins with."""
    with pytest.raises(AudioError) as error:
        read_audio(path)
    with pytest.raises(InputError) as again:
        duration_s(path)
    assert str(error.value) == str(again.value) == f"{path}: {error.value.reason}" and "\n" not in str(error.value)
    return error.value.reason


def test_files_without_audio_are_refused(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "letter.wav").write_text("not audio at all")
    (tmp_path / "headerless.raw").write_bytes(bytes(1_000))
    write(tmp_path / "zero.wav", np.zeros(0))
    assert refusal(tmp_path / "gone.wav") == "no such audio file"
    assert refusal(tmp_path) == "is a folder, not an audio file"
    assert refusal(tmp_path / "empty.wav") == "is empty (0 bytes): copy the audio file anew"
    assert refusal(tmp_path / "letter.wav") == "is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed"
    assert refusal(tmp_path / "headerless.raw") == "is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed"
    assert refusal(tmp_path / "zero.wav").startswith("has no samples (zero-length, or broken off)")


def test_audio_too_short_for_a_sample_at_16_khz_is_refused(tmp_path):
    with pytest.raises(AudioError, match="no samples at 16 kHz: audio of at least some milliseconds is needed"):
        read_audio(write(tmp_path / "one.wav", np.zeros(1), 48_000))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_finite_numbers_are_refused_where_they_are(tmp_path, value):
    samples = np.stack([tone(2)] * 2, axis=1)
    samples[24_000, 1] = value
    reason = refusal(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert reason == "has a sample at 1.500 s that is no finite number (NaN or infinite): write it anew without"


@pytest.mark.parametrize(
    ("suffix", "subtype", "reason"),
    [
        ("wav", "PCM_16", "is broken off: 40% of the audio that its header promises is missing: copy it anew"),
        ("wav", "FLOAT", "is broken off: 40% of the audio that its header promises is missing: copy it anew"),
        ("aiff", "PCM_16", "is broken off: 40% of the audio that its header promises is missing: copy it anew"),
        ("flac", "PCM_16", "is broken somewhere after 0 s: copy it anew"),
        ("ogg", "VORBIS", "is broken off: its end is missing: copy it anew"),
        ("ogg", "OPUS", "is broken off: its end is missing: copy it anew"),
        ("mp3", None, "is broken off: it should hold 10.1 s, 5.9 s can be read: copy it anew"),
    ],
)
def test_a_file_that_was_cut_off_is_refused(tmp_path, suffix, subtype, reason):
    path = write(tmp_path / f"a.{suffix}", tone(10), subtype=subtype)
    os.truncate(path, path.stat().st_size * 6 // 10)
    assert refusal(path) == reason


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", None)])
def test_a_file_with_a_hole_is_refused(tmp_path, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", tone(10), subtype=subtype)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(range(200))
    path.write_bytes(data)
    assert refusal(path).startswith("is broken")


def test_a_wav_whose_writer_left_the_length_open_is_read(tmp_path):
    path = write(tmp_path / "piped.wav", tone(1))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFF_FFFF)
    path.write_bytes(data)
    assert len(read_audio(path)) == 16_000


def test_a_wav_whose_header_counts_itself_is_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(1))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 32_044)
    path.write_bytes(data)
    assert len(read_audio(path)) == 16_000


def test_an_impossible_rate_is_refused_before_it_fills_the_memory(tmp_path):
    path = write(tmp_path / "a.wav", tone(1))
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 1)
    path.write_bytes(data)
    assert refusal(path) == "has a sample rate of 1 Hz: from 4000 to 768000 is needed"


def test_real_speech_is_cut_in_pauses(real_data):
    """Debates in pieces of 15 s: nearly every cut lies in 20 ms that are 20 dB below the ten seconds around them."""
    cuts = []
    for path in sorted((real_data / "voxpopuli-dev" / "audio").iterdir())[::3]:
        pieces = list(windows(path, 15))
        whole = np.concatenate(pieces)
        np.testing.assert_array_equal(whole, read_audio(path))
        for end in np.cumsum([len(piece) for piece in pieces])[:-1]:
            around, near = whole[end - 160 : end + 160], whole[max(0, end - 80_000) : end + 80_000]
            cuts.append(10 * np.log10(np.mean(near**2) / (np.mean(around**2) + 1e-12)))
    assert len(cuts) > 15 and np.median(cuts) > 30 and np.mean(np.array(cuts) > 20) > 0.9


def speech_like():
    """Two seconds of a tone, with a pause in the middle."""
    samples = 0.2 * tone(2, 16_000)
    samples[12_000:20_000] = 0
    return samples


def test_a_constant_offset_is_taken_off_and_said(tmp_path):
    said, plain = [], speech_like()
    path = write(tmp_path / "a.wav", plain + np.float32(0.5), 16_000)
    samples = np.concatenate(list(samples_of(path, said.append)))
    assert np.abs(samples[13_000:19_000]).max() < 0.01
    np.testing.assert_allclose(samples, plain, atol=0.02)
    assert said == [f"{path}: has a constant offset of 0.50 of full scale, which is taken off"]


def test_an_offset_alone_is_silence(tmp_path):
    assert not list(phrases(write(tmp_path / "a.wav", np.full((160_000, 2), 0.5, np.float32), 16_000), 4.0))


def test_an_offset_that_corpora_have_is_left(tmp_path):
    plain = speech_like() + np.float32(0.01)
    path = write(tmp_path / "a.wav", plain, 16_000)
    np.testing.assert_allclose(read_audio(path), plain, atol=1e-4)


def test_a_very_quiet_recording_is_said(tmp_path):
    said, path = [], tmp_path / "a.wav"
    list(phrases(write(path, 2e-3 * speech_like(), 16_000), 4.0, say=said.append))
    assert len(said) == 1 and "is very quiet, no sample is above 0.00021 of full scale" in said[0]


def test_digital_silence_is_not_called_quiet(tmp_path):
    said = []
    duration_s(write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000), said.append)
    assert said == []


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not on the PATH")
@pytest.mark.parametrize("tracks", [1, 2])
def test_a_second_sound_track_is_said(tmp_path, tracks):
    wav, film = write(tmp_path / "a.wav", tone(1, 16_000), 16_000), tmp_path / "a.mka"
    inputs, maps = ["-i", wav] * tracks, [part for number in range(tracks) for part in ("-map", f"{number}:a")]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *inputs, *maps, film], check=True)
    said = []
    assert duration_s(film, said.append) == pytest.approx(1, abs=0.1)
    assert ["holds several sound tracks" in line for line in said] == [True] * (tracks - 1)
