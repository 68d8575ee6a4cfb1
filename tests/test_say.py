"""`asum say`: a text as a recording, the same each time, and one line for what cannot be spoken."""

import io
import sys

import numpy as np
import pytest
import soundfile

from asum_lib import cli
from asum_lib.corpora.phrases import phrases
from asum_lib.corpora.say import say, sentences
from asum_lib.errors import InputError


def refused(capsys, *arguments) -> str:
    assert cli.main(["say", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("asum: ") and err.count("\n") == 1
    return err.removeprefix("asum: ").strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello, I am Victor. Don't move!", ["hello i am victor", "don't move"]),
        ("One line\nanother line", ["one line", "another line"]),
        ("It takes 3.5 cups... really?", ["it takes 3.5 cups", "really"]),
        ("well-known «words»;", ["well-known words"]),
        (" . !? ", []),
    ],
)
def test_sentences_are_words_between_stops(text, said):
    assert sentences(text) == said


def test_a_pause_lies_between_two_sentences(tmp_path):
    path = tmp_path / "said.wav"
    soundfile.write(path, say("hello i am victor. you will need a copper kettle."), 16_000)
    first, second = phrases(path, 4.0)
    assert 0.4 < second.start_s - first.end_s < 1.8


def test_the_same_text_gives_the_same_samples_and_another_voice_others():
    one, again, other = say("hello there", "en-us"), say("hello there", "en-us"), say("hello there", "en-us+f2")
    np.testing.assert_array_equal(one, again)
    assert len(other) != len(one) or not np.array_equal(one, other)
    assert one.dtype == np.float32 and np.abs(one).max() <= 0.7


def test_faster_speech_is_shorter_and_less_noise_is_quieter():
    assert len(say("hello there my friend", rate_wpm=300)) < len(say("hello there my friend", rate_wpm=120))
    assert np.std(say("hello there", snr_db=60)[:3_000]) < 0.1 * np.std(say("hello there", snr_db=5)[:3_000])


@pytest.mark.parametrize(("name", "form"), [("said.wav", "WAV"), ("said.FLAC", "FLAC")])
def test_the_suffix_says_the_format(tmp_path, capsys, name, form):
    assert cli.main(["say", "hello there", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / name}\n"
    info = soundfile.info(tmp_path / name)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (form, "PCM_16", 16_000, 1)


def test_a_text_comes_from_standard_input(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello there"))
    assert cli.main(["say", "-", str(tmp_path / "a.wav")]) == 0
    assert soundfile.info(tmp_path / "a.wav").frames == len(say("hello there"))


def test_what_cannot_be_spoken_or_written_is_told_in_one_line(tmp_path, capsys):
    path = tmp_path / "a.wav"
    assert refused(capsys, "hello", path, "--voice", "xx-yy").startswith("eSpeak NG has no voice 'xx-yy': names are such as en-us")
    assert refused(capsys, "hello", path, "--voice", "en-us+q9").startswith("voice 'en-us+q9': eSpeak NG has no variant 'q9'")
    assert refused(capsys, "...", path) == "text '...': no words to say"
    assert refused(capsys, "hello", path, "--rate", "9") == "rate 9: from 80 to 450 words a minute can be spoken"
    assert refused(capsys, "hello", path, "--rate", "fast") == "--rate 'fast' is not a whole number of 1 or more"
    assert refused(capsys, "hello", path, "--snr-db", "nan") == "--snr-db 'nan' is not a number"
    assert refused(capsys, "hello", path, "--snr-db", "900") == "snr-db 900: a signal-to-noise ratio from -20 to 100 dB is needed"
    assert refused(capsys, "hello", tmp_path / "a.mp3") == f"output {str(tmp_path / 'a.mp3')!r}: its name should end in .wav or .flac"
    assert refused(capsys, "hello", tmp_path / "no" / "a.wav") == f"output {str(tmp_path / 'no' / 'a.wav')!r}: no folder {tmp_path / 'no'}"
    assert not path.exists()


def test_a_russian_voice_speaks_russian():
    assert len(say("привет как дела", "ru")) > 8_000


def test_a_voice_is_needed():
    with pytest.raises(InputError, match="no voice ''"):
        say("hello", "")
