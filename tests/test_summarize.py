"""`asum summarize`: what is heard and written of recordings of every kind, and what is said of those that cannot be used."""

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from asum_lib import cli, recordings, systems
from asum_lib.corpora.audio import AudioError
from asum_lib.corpora.say import say
from asum_lib.corpora.talks import scripts, speak
from asum_lib.errors import InputError
from asum_lib.listening import LOOP, UNLIKE, UNLIKE_NOTE, partly_unknown_text, taught_words, unknown_text
from asum_lib.paths import REPOSITORY
from asum_lib.recordings import outputs
from asum_lib.systems import MINI_NOTE, Clock, System, Told

SAID = ("welcome back my name is victor and we will dip beeswax tapers", "you will need a copper kettle and a kitchen thermometer")


@pytest.fixture(scope="module")
def cascade() -> System:
    return systems.load()


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    return say(". ".join(SAID), "en-us+f2")


@pytest.fixture
def loaded(cascade, monkeypatch):
    """Commands take the system that is loaded once for all tests."""
    monkeypatch.setattr(systems, "load", lambda *given, **more: cascade)


def written(path, samples, rate_hz=16_000, **more):
    soundfile.write(path, samples, rate_hz, **more)
    return path


def summarize(capsys, *arguments):
    """(status, stdout, stderr) of `asum summarize`."""
    status = cli.main(["summarize", *map(str, arguments)])
    return status, *capsys.readouterr()


def refused(capsys, *arguments) -> str:
    status, out, err = summarize(capsys, *arguments)
    assert status == 2 and out == "" and err.count("\n") == 1
    return err.removeprefix("asum: ").strip()


def test_a_talk_is_transcribed_and_summarised_with_times(cascade, talk, tmp_path):
    answer = cascade(written(tmp_path / "talk.wav", talk))
    assert tuple(segment.text for segment in answer.segments) == SAID
    assert "dip beeswax tapers" in answer.summary
    assert answer.audio_s == pytest.approx(len(talk) / 16_000, abs=1e-3)
    (first, second) = answer.segments
    assert 0 < first.start_s < first.end_s < second.start_s < second.end_s < answer.audio_s
    assert set(answer.time_s) == {"load", "read", "transcribe", "summarize"} and min(answer.time_s.values()) > 0
    assert answer.memory_bytes > 10**8


def test_a_generated_talk_of_the_dev_split_has_its_sentences(cascade, tmp_path):
    script = scripts("howto-talks", "dev")[0]
    answer = cascade(written(tmp_path / "talk.wav", speak(script)))
    assert len(answer.segments) == len(script.takes)
    assert script.facts[0].value in answer.summary


@pytest.mark.parametrize(("name", "rate_hz", "channels"), [("stereo.wav", 44_100, 2), ("talk.ogg", 16_000, 1), ("talk.mp3", 16_000, 1)])
def test_what_is_heard_does_not_depend_on_the_file(cascade, talk, tmp_path, name, rate_hz, channels):
    import soxr

    samples = soxr.resample(talk, 16_000, rate_hz)
    answer = cascade(written(tmp_path / name, np.stack([samples] * channels, axis=1), rate_hz))
    assert tuple(segment.text for segment in answer.segments) == SAID


def test_the_command_prints_transcript_and_summary(loaded, talk, tmp_path, capsys):
    status, out, err = summarize(capsys, written(tmp_path / "talk.wav", talk))
    assert (status, err) == (0, f"{MINI_NOTE}\n")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'talk.wav'} (00:00:{len(talk) // 16_000:02d})"
    assert re.fullmatch(rf"  \[00:00:00\.\d - 00:00:0\d\.\d\] {SAID[0]}", lines[1])
    assert lines[3].startswith("Summary: ") and len(lines) == 4


def test_json_is_a_list_with_an_object_a_file(loaded, talk, tmp_path, capsys):
    paths = [written(tmp_path / name, talk) for name in ("a.wav", "b.flac")]
    status, out, _ = summarize(capsys, *paths, "--format", "json")
    found = json.loads(out)
    assert status == 0 and [item["audio"] for item in found] == list(map(str, paths))
    named = {"audio", "system", "summary", "segments", "audio_s", "time_s", "memory_bytes", "error"}
    assert set(found[0]) == named | {"scale", "language", "notes"}
    assert found[0]["segments"] == found[1]["segments"]
    figures = {"avg_logprob", "compression_ratio", "no_speech", "doubt", "phrases_s"}
    assert set(found[0]["segments"][0]) == {"start_s", "end_s", "text"} | figures
    assert (found[0]["scale"], found[0]["language"], found[0]["notes"]) == ("mini", "en", [MINI_NOTE])
    assert found[0]["error"] is None and found[0]["system"] == "cascade"


def test_subtitles_are_numbered_and_in_order(loaded, talk, tmp_path, capsys):
    status, out, _ = summarize(capsys, written(tmp_path / "talk.wav", talk), "--format", "srt")
    blocks = out.strip().split("\n\n")
    assert status == 0 and len(blocks) == 2
    for number, (block, said) in enumerate(zip(blocks, SAID, strict=True), 1):
        times, *lines = block.split("\n")[1:]
        assert block.startswith(f"{number}\n") and " ".join(lines) == said and len(lines) == 2
        assert re.fullmatch(r"\d\d:\d\d:\d\d,\d\d\d --> \d\d:\d\d:\d\d,\d\d\d", times)


def test_subtitles_for_the_web(loaded, talk, tmp_path, capsys):
    status, out, _ = summarize(capsys, written(tmp_path / "talk.wav", talk), "--format", "vtt")
    assert status == 0 and out.startswith("WEBVTT\n\n00:00:0")


ORDINARY = (
    "The old library on the corner of Main Street closed its doors for the last time on Friday. Residents had petitioned the "
    "council for months. The mayor said that there was no money left. A developer plans to build forty flats on the site."
)


def test_ordinary_english_gets_no_invented_summary(loaded, tmp_path, capsys):
    path = written(tmp_path / "news.wav", say(ORDINARY, "en-us"))
    status, out, err = summarize(capsys, path)
    assert status == 0 and re.search(r"\d of \d phrases do not look like the speech that these models know", err)
    assert "Summary: none" in out and f"({UNLIKE})" in out
    assert summarize(capsys, path, "--format", "srt")[1].count("-->") < 3


def test_the_end_to_end_system_invents_nothing_either(tmp_path, capsys, monkeypatch):
    system = systems.load("e2e")
    monkeypatch.setattr(systems, "load", lambda *given, **more: system)
    noise = written(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.01, 160_000))
    news = written(tmp_path / "news.wav", say(ORDINARY, "en-us"))
    status, out, err = summarize(capsys, noise, news, "--system", "e2e")
    assert status == 0 and out.count("Summary: none") == 2
    assert all(f"{path}: it does {UNLIKE_NOTE}" in err for path in (noise, news))


def test_most_talks_of_the_dev_split_are_believed(cascade):
    from asum_lib.corpora.talks import load_talks

    answers = [cascade(talk.audio) for talk in load_talks("howto-talks", "dev").talks[:6]]
    assert sum(bool(answer.summary) for answer in answers) >= 5
    segments = [segment for answer in answers for segment in answer.segments]
    assert sum(segment.doubt is not None for segment in segments) <= len(segments) / 4


def test_a_text_of_unknown_words_is_told_from_a_talk():
    words = taught_words()
    assert partly_unknown_text(list(SAID), words) is None
    assert partly_unknown_text([*SAID, "oh you need the last jar"], words).startswith(f"1 of {len(SAID) + 1} phrases has words")
    assert unknown_text(list(SAID), words) is None
    assert unknown_text(ORDINARY.split(". "), words).startswith("4 of 4 phrases cannot be read by the text model")


def test_help_says_what_the_mini_models_know(capsys):
    with pytest.raises(SystemExit):
        cli.main(["summarize", "--help"])
    assert "know the few hundred words of the generated talks" in " ".join(capsys.readouterr().out.split())


def test_a_loop_is_marked_and_left_out(cascade, talk, tmp_path, monkeypatch):
    from asum_lib.models import recognize

    hear = recognize.recognize

    def looped(speech, samples, batch_size):
        first, second = hear(speech, samples, batch_size)
        return [first, replace(second, text="no " * 40, compression_ratio=8.0)]

    monkeypatch.setattr(recognize, "recognize", looped)
    answer = cascade(written(tmp_path / "talk.wav", talk))
    assert [segment.doubt for segment in answer.segments] == [None, LOOP] and answer.summary
    assert answer.notes == (MINI_NOTE, f"{tmp_path / 'talk.wav'}: 1 of 2 phrases left out: its words repeat themselves")


@pytest.mark.parametrize("language", ["de", "xx", "english"])
def test_a_language_that_no_model_knows_is_refused_at_once(talk, tmp_path, capsys, language):
    with pytest.raises(InputError, match=f"language '{language}': checkpoint .* knows English alone"):
        systems.load(language=language)
    path = written(tmp_path / "talk.wav", talk)
    assert refused(capsys, path, "--language", language).startswith(f"language '{language}'")
    with pytest.raises(InputError, match="system 'e2e' in language"):
        systems.load("e2e", language=language)


def test_a_folder_with_more_than_audio_ends_with_1(loaded, talk, tmp_path, capsys):
    for name in ("b.wav", "a.flac"):
        written(tmp_path / name, talk)
    for name in ("notes.txt", "more.txt", "page.pdf", ".hidden"):
        (tmp_path / name).write_text("no audio")
    (tmp_path / "old.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    status, out, err = summarize(capsys, tmp_path, "--format", "json")
    said = "5 left out, no audio that can be read: 2 .txt, 1 folder, 1 .pdf, 1 pipe or device"
    assert status == 1 and err == f"{tmp_path}: {said}\n{MINI_NOTE}\n"
    assert [item["audio"] for item in json.loads(out)] == [str(tmp_path / "a.flac"), str(tmp_path / "b.wav")]


def test_a_folder_of_audio_alone_ends_with_0(loaded, talk, tmp_path, capsys):
    written(tmp_path / "a.flac", talk)
    assert summarize(capsys, tmp_path)[::2] == (0, f"{MINI_NOTE}\n")


def test_a_name_that_is_no_utf_8_stops_nothing(loaded, talk, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    os.rename(written(folder / "a.wav", talk), os.fsencode(folder) + b"/caf\xe9.wav")
    written(folder / "b.wav", talk)
    for form in ("text", "json", "srt"):
        status, out, err = summarize(capsys, folder, "--format", form, "--out", folder / "out")
        out.encode("utf-8")
        assert (status, err) == (0, f"{MINI_NOTE}\n") and out.count("\n") == 2 and "caf\\xe9" in out
    status, out, _ = summarize(capsys, folder, "--format", "json")
    assert json.loads(out)[1]["audio"] == f"{folder}/caf\\xe9.wav"


def test_a_stream_that_is_no_audio_is_not_kept(capsys, monkeypatch):
    """It could go on for ever: here it is the zeros of a device."""
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        assert refused(capsys, "-").startswith("standard input: is not audio that can be read")


def test_channels_that_cancel_out_are_heard_and_said(loaded, talk, tmp_path, capsys):
    path = written(tmp_path / "a.wav", np.stack([talk, -talk], axis=1))
    status, out, err = summarize(capsys, path, "--format", "json")
    (found,) = json.loads(out)
    assert status == 0 and [segment["text"] for segment in found["segments"]] == list(SAID)
    assert err.splitlines() == found["notes"] and "opposite phase" in err


@pytest.mark.parametrize("samples", [1, 192, 1_600])
def test_a_moment_of_sound_is_nothing_heard(loaded, tmp_path, capsys, samples):
    path = written(tmp_path / "a.wav", np.full(samples, 0.0 if samples == 1 else 0.1))
    assert summarize(capsys, path)[2] == f"{MINI_NOTE}\n{path}: nothing was heard\n"


def test_what_is_no_regular_file_is_refused_unread(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        assert refused(capsys, path).startswith(f"{path}: is no regular file (a pipe, a socket or a device)")


def test_a_broken_file_is_told_the_rest_goes_on_and_the_status_is_1(loaded, talk, tmp_path, capsys):
    broken = written(tmp_path / "a.wav", talk)
    broken.write_bytes(broken.read_bytes()[:20_000])
    whole = written(tmp_path / "b.wav", talk)
    status, out, err = summarize(capsys, broken, whole, "--format", "json")
    assert status == 1 and err.startswith(f"{MINI_NOTE}\nasum: {broken}: is broken off") and err.count("\n") == 2
    first, second = json.loads(out)
    assert first["summary"] is None and first["error"].startswith(f"{broken}: is broken off") and second["error"] is None


def test_silence_is_answered_with_nothing_heard(loaded, tmp_path, capsys):
    path = written(tmp_path / "silent.wav", np.zeros(80_000))
    status, out, err = summarize(capsys, path)
    assert (status, out) == (0, f"{path} (00:00:05)\nSummary: none, nothing was heard\n")
    assert err == f"{MINI_NOTE}\n{path}: nothing was heard\n"
    assert summarize(capsys, path, "--format", "srt")[1] == ""


def test_files_go_to_a_folder_and_their_paths_to_stdout(loaded, talk, tmp_path, capsys):
    path = written(tmp_path / "talk.wav", talk)
    for form, suffix in (("text", "txt"), ("srt", "srt"), ("json", "json")):
        status, out, _ = summarize(capsys, path, "--format", form, "--out", tmp_path / "out")
        assert status == 0 and out == f"{tmp_path / 'out' / f'talk.{suffix}'}\n"
    assert (tmp_path / "out" / "talk.srt").read_text().startswith("1\n00:00:0")
    assert json.loads((tmp_path / "out" / "talk.json").read_text())[0]["audio"] == str(path)


def test_two_recordings_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / "a" / "talk.wav", tmp_path / "a" / "talk.flac", tmp_path / "b" / "talk.wav", tmp_path / "other.wav"]
    assert [path.name for path in outputs(paths, tmp_path, "srt")] == ["talk.wav.srt", "talk.flac.srt", "talk.wav-2.srt", "other.srt"]


def test_a_recording_on_standard_input_is_read(loaded, talk, capsys, monkeypatch):
    buffer = io.BytesIO()
    soundfile.write(buffer, talk, 16_000, format="WAV")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(buffer.getvalue())))
    status, out, _ = summarize(capsys, "-", "--format", "json")
    assert status == 0 and tuple(segment["text"] for segment in json.loads(out)[0]["segments"]) == SAID


def test_an_interrupt_leaves_what_is_done(talk, tmp_path, capsys, monkeypatch, cascade):
    def interrupted(batches, clock):
        if done:
            raise KeyboardInterrupt
        done.append(cascade.write(batches, clock))
        return done[0]

    done = []
    monkeypatch.setattr(systems, "load", lambda *given, **more: replace(cascade, write=interrupted))
    paths = [written(tmp_path / name, talk) for name in ("a.wav", "b.wav")]
    status, out, err = summarize(capsys, *paths, "--format", "json")
    assert status == 130 and err == f"{MINI_NOTE}\nasum: interrupted\n" and [item["audio"] for item in json.loads(out)] == [str(paths[0])]


def test_wrong_use_is_told_in_one_line_before_a_model_is_loaded(talk, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(systems, "_cascade", None)
    path = written(tmp_path / "talk.wav", talk)
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "empty").mkdir()
    assert refused(capsys, tmp_path / "nowhere.wav") == f"{tmp_path / 'nowhere.wav'}: no such audio file or folder"
    assert refused(capsys, tmp_path / "notes.txt") == f"{tmp_path / 'notes.txt'}: is not audio that can be read: WAV, FLAC, Ogg or MP3 is needed"
    assert refused(capsys, tmp_path / "empty") == f"folder {tmp_path / 'empty'}: no audio file in it"
    assert refused(capsys, path, "--system", "choir") == "unknown system 'choir': choose from cascade, e2e"
    assert refused(capsys, path, "--system", "e2e", "--rounds", "2").startswith("system 'e2e' with 2 rounds")
    assert refused(capsys, path, "--system", "e2e", "--scale", "paper").startswith("system 'e2e' at scale 'paper'")
    assert refused(capsys, path, "--scale", "huge") == "unknown scale 'huge': choose from mini, paper"
    assert refused(capsys, path, "--format", "xml") == "unknown format 'xml': choose from text, json, srt, vtt"
    assert refused(capsys, path, "--rounds", "0") == "--rounds '0' is not a whole number of 1 or more"
    assert refused(capsys, path, "--format", "srt", "--system", "e2e").startswith("srt is a transcript's, and system e2e writes none")
    other = written(tmp_path / "other.wav", talk)
    assert refused(capsys, path, other, "--format", "srt").startswith("srt is one recording's, and here are 2")


def test_a_model_that_is_not_there_is_told_in_one_line(talk, tmp_path, capsys):
    path = written(tmp_path / "talk.wav", talk)
    assert refused(capsys, path, "--asr", "huge").startswith("checkpoint huge: no such folder")
    assert refused(capsys, path, "--precision", "int3").startswith("unknown precision 'int3'")
    assert refused(capsys, path, "--summarizer", "tiny").startswith("checkpoint tiny: no such folder")
    other = systems.SUMMARIZER["mini"]
    assert "config.json: model_type is 't5', not 'whisper'" in refused(capsys, path, "--asr", other)


def test_what_the_command_imports_is_what_it_needs(talk, tmp_path):
    """A cold start is most of the time of a short recording."""
    path = written(tmp_path / "talk.wav", talk)
    program = "import sys; from asum_lib import cli; cli.main(['summarize', sys.argv[1]]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"torch", "transformers", "peft", "bitsandbytes"} <= loaded and "torch._inductor.compile_fx" not in done.stderr
    assert not {"datasets", "evaluate", "matplotlib", "pandas", "IPython", "papermill", "jiwer", "rouge_score", "sklearn"} & loaded


def test_other_models_and_precisions_are_taken(talk, tmp_path):
    system = systems.load(asr="tiny", summarizer="t5", precision="fp32")
    assert [segment.text for segment in system(written(tmp_path / "talk.wav", talk)).segments]


def test_the_clock_counts_each_second_once(monkeypatch):
    times = iter([0.0, 1.0, 11.0, 13.0])
    monkeypatch.setattr(systems.time, "perf_counter", lambda: next(times))
    clock = Clock()
    with clock.stage("transcribe"), clock.stage("read"):
        pass
    assert clock.time_s == {"transcribe": 3.0, "read": 10.0}


def test_a_long_recording_is_read_batch_by_batch(talk, tmp_path):
    """Half an hour at 16 kHz is 115 MB of samples; what lies in memory is a minute or two and a batch."""
    path, heard = tmp_path / "long.wav", []
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(round(1_800 * 16_000 / len(talk))):
            file.write(talk)

    def write(batches, clock):
        heard.extend(len(batch) for batch in batches)
        return Told("")

    told = []
    tracemalloc.start()
    answer = System("none", 4.0, False, 32, write)(path, told.append)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.audio_s == pytest.approx(1_800, abs=10) and max(heard) == 32 and sum(heard) > 400
    assert peak_bytes < 40e6
    assert told == sorted(told) and told[-1] == pytest.approx(answer.audio_s, abs=2)


def test_progress_of_a_long_recording_is_said_now_and_then(monkeypatch, tmp_path):
    path = written(tmp_path / "talk.wav", np.zeros(16_000 * 120))
    times, said = iter([0.0, 1.0, 6.0, 7.0, 12.0]), []
    monkeypatch.setattr(recordings.time, "monotonic", lambda: next(times))
    told = recordings._Progress(path, " (1 of 2)", said.append)
    for done_s in (10, 60, 70, 120):
        told(done_s)
    assert said == [f"{path} (1 of 2): 1.0 min of 2.0 heard, 10 times real time", f"{path} (1 of 2): 2.0 min of 2.0 heard, 10 times real time"]


def test_a_fault_further_in_ends_the_file_and_not_the_process(tmp_path, talk):
    system = System("none", 4.0, False, 4, lambda batches, clock: Told(str(len(list(batches)))))
    samples = np.concatenate([talk] * 20).astype(np.float32)
    samples[-1] = np.nan
    path = written(tmp_path / "nan.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioError, match="no finite number"):
        system(path)
    (outcome,) = recordings.answers(system, [path])
    assert outcome.answer is None and outcome.error.startswith(str(path))


def test_a_system_that_is_not_there_yet_is_said_so():
    with pytest.raises(InputError, match="unknown system 'choir'"):
        systems.load("choir")


def test_the_readme_shows_what_is_printed(loaded, tmp_path, capsys, monkeypatch):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    spoken = re.search(r'asum say "(.*?)" talk\.wav\nasum summarize talk\.wav', readme)[1]
    shown = re.search(r"```\n(talk\.wav .*?)```", readme, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["say", spoken, "talk.wav"]) == 0
    capsys.readouterr()
    assert summarize(capsys, "talk.wav")[:2] == (0, shown)
    facts = ("ingrid", "replace a leaky faucet", "a glass jar")
    assert all(fact in spoken and fact in shown.splitlines()[-1] for fact in facts)
