"""Strings of real spoken digits: a recipe that needs no audio, made from takes that keep to their split."""

import io
import json
import re
import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest
import soundfile

from asum_lib.corpora import digits, load_corpus, read_audio
from asum_lib.errors import InputError

# Frozen with the corpus: a change makes every record of `whisper_digits` stale.
FINGERPRINT = {
    "train": "efda602b0650f1105df9882fcef747263e22b694dc3fe87bbfda469fbb9b6a69",
    "dev": "f23b2486e3585758bd24c4a5c0220b15fa2ade9a393243944bbb46ac854ce6d6",
    "test": "d8c96da69b41074be634808c4b2a6a4b257a72e1a7d355bd638f0e6f877b77a4",
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A made-up FSDD in the original layout: take n of digit d is 0.1 s of silence, 0.2 s of a tone, 0.1 s of silence."""
    folder = tmp_path_factory.mktemp("fsdd") / "recordings"
    folder.mkdir()
    quiet, time_s = np.zeros(800), np.arange(1_600) / 8_000
    for digit in range(10):
        tone = np.concatenate([quiet, 0.1 * np.sin(2 * np.pi * (200 + 50 * digit) * time_s), quiet])
        content = io.BytesIO()
        soundfile.write(content, tone, 8_000, format="WAV")
        for speaker in digits.SPEAKERS:
            for take in range(50):
                (folder / f"{digit}_{speaker}_{take}.wav").write_bytes(content.getvalue())
    return folder


@pytest.fixture
def accepted(recordings, monkeypatch):
    """The made-up FSDD passes for the real one."""
    monkeypatch.setattr(digits, "SAMPLES_SHA256", digits.samples_sha256(digits.take_files(recordings)))


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No FSDD anywhere, and an empty cache."""
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASUM_FSDD", raising=False)
    monkeypatch.delenv("ASUM_REAL_DATA", raising=False)
    monkeypatch.setattr(digits, "REPOSITORY", tmp_path / "repository")
    return tmp_path


@pytest.mark.parametrize("split", digits.STRINGS)
def test_the_recipe_is_the_frozen_one_and_needs_no_audio(split, nowhere):
    assert digits.fingerprint(split) == FINGERPRINT[split]


def test_a_string_is_3_to_7_takes_of_one_speaker_with_pauses_of_50_to_150_ms():
    for split, count in {"train": 400, "dev": 120, "test": 500}.items():
        strings = digits.strings(split)
        assert len(strings) == len({string.id for string in strings}) == count
        for string in strings:
            assert 3 <= len(string.takes) <= 7 and len(set(string.takes)) == len(string.takes)
            assert len({take.split("_")[1] for take in string.takes}) == 1
            assert len(string.gaps_ms) == len(string.takes) - 1 and all(50 <= gap <= 150 for gap in string.gaps_ms)


def test_no_take_is_in_two_splits_and_test_is_the_sets_own():
    takes = {split: {take for string in digits.strings(split) for take in string.takes} for split in digits.STRINGS}
    assert not takes["train"] & takes["dev"] and not takes["train"] & takes["test"] and not takes["dev"] & takes["test"]
    numbers = {split: {int(take.split("_")[2]) for take in names} for split, names in takes.items()}
    assert numbers["test"] == {0, 1, 2, 3, 4} and min(numbers["train"] | numbers["dev"]) == 5
    assert len(takes["test"]) == 300  # all of them are heard


def test_speakers_and_digits_are_about_balanced():
    names = [take.split("_") for string in digits.strings("test") for take in string.takes]
    by_digit, by_speaker = Counter(name[0] for name in names), Counter(string.takes[0].split("_")[1] for string in digits.strings("test"))
    assert max(by_digit.values()) < 1.3 * min(by_digit.values())
    assert set(by_speaker.values()) == {83, 84}  # 500 strings in turn


def test_a_string_is_its_trimmed_takes_joined(recordings):
    """Two tones of 0.2 s, each with up to 20 ms of margin on either side and frames of 10 ms, and 100 ms between."""
    string = digits.String("s", ("7_theo_12", "3_theo_40"), (100,))
    text, samples = digits.speak(string, digits.take_files(recordings.parent))
    assert text == "seven three"
    assert samples.dtype == np.float32 and np.abs(samples).max() == pytest.approx(0.7)
    assert 0.58 <= len(samples) / 16_000 <= 0.60
    silent = np.flatnonzero(samples == 0)
    assert len(silent) >= 1_600


def test_a_string_that_is_too_long_loses_its_last_digits_and_says_so(tmp_path):
    tone = np.sin(2 * np.pi * 300 * np.arange(12_000) / 8_000)  # 1.5 s
    soundfile.write(tmp_path / "tone.wav", tone, 8_000)
    takes = ("1_theo_5", "2_theo_6", "3_theo_7", "4_theo_8")
    text, samples = digits.speak(digits.String("s", takes, (50, 50, 50)), dict.fromkeys(takes, tmp_path / "tone.wav"))
    assert text == "one two"
    assert len(samples) / 16_000 == pytest.approx(3.05)


def test_quiet_takes_are_brought_up_to_loud_ones(tmp_path):
    tone = np.sin(2 * np.pi * 300 * np.arange(4_000) / 8_000)
    soundfile.write(tmp_path / "loud.wav", 0.9 * tone, 8_000)
    soundfile.write(tmp_path / "quiet.wav", 0.01 * tone, 8_000, subtype="FLOAT")
    files = {"1_theo_5": tmp_path / "loud.wav", "2_theo_6": tmp_path / "quiet.wav"}
    _, samples = digits.speak(digits.String("s", tuple(files), (100,)), files)
    first, second = np.abs(samples[:8_000]).max(), np.abs(samples[-8_000:]).max()
    assert second == pytest.approx(first, rel=0.05)


def test_trim_keeps_20_ms_around_what_is_within_30_db_of_the_loudest():
    """50 ms of nothing, 50 ms at -40 dB, 100 ms at full level, 50 ms at -20 dB, 50 ms at -40 dB: kept are 20 + 150 + 20 ms."""
    level = np.repeat([0, 0.01, 1, 0.1, 0.01], [800, 800, 1_600, 800, 800]).astype(np.float32)
    kept = digits.trim(level)
    assert len(kept) == 16 * (20 + 150 + 20)
    assert kept[0] == 0 and kept[-1] == 0  # faded
    np.testing.assert_array_equal(kept[320:1_920], 1)


@pytest.mark.parametrize("make", ["env", "real data", "neighbour", "download"])
def test_fsdd_is_found_in_each_of_its_places(make, recordings, nowhere, monkeypatch):
    places = {
        "env": nowhere / "anywhere",
        "real data": nowhere / "real" / "spoken-digits",
        "neighbour": nowhere / "shared" / "real" / "spoken-digits",
        "download": nowhere / "cache" / "fsdd",
    }
    places[make].parent.mkdir(parents=True, exist_ok=True)
    places[make].symlink_to(recordings.parent)
    if make == "env":
        monkeypatch.setenv("ASUM_FSDD", str(places[make]))
    if make == "real data":
        monkeypatch.setenv("ASUM_REAL_DATA", str(nowhere / "real"))
    assert digits.source() == places[make]
    assert len(digits.take_files(digits.source())) == 3_000


def test_without_fsdd_both_ways_to_it_are_told(nowhere):
    with pytest.raises(InputError, match=r"`asum data digits` downloads them, or set ASUM_FSDD") as error:
        load_corpus("digits", "test")
    assert "\n" not in str(error.value)
    assert not list(nowhere.glob("cache/corpora/*"))


def test_an_incomplete_folder_is_refused_by_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "0_george_0.wav").touch()
    monkeypatch.setenv("ASUM_FSDD", str(tmp_path))
    with pytest.raises(InputError, match="lacks 2999 of the 3000 FSDD takes"):
        digits.take_files(digits.source())


def test_a_split_is_made_once_and_then_needs_no_fsdd(recordings, accepted, nowhere, monkeypatch):
    monkeypatch.setenv("ASUM_FSDD", str(recordings))
    corpus = load_corpus("digits", "dev")
    assert (corpus.name, corpus.split, corpus.fingerprint) == ("digits", "dev", digits.fingerprint("dev"))
    assert len(corpus.utterances) == 120
    monkeypatch.setenv("ASUM_FSDD", "/nowhere")
    assert load_corpus("digits", "dev") == corpus


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="unknown split 'validation'"):
        digits.strings("validation")


def pack(archive, *members):
    """A gzip'd tar of (name, content) files and (name, None, target) links."""
    with tarfile.open(archive, "w:gz") as tar:
        for name, content, *target in members:
            info = tarfile.TarInfo(name)
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target[0]
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return archive.as_uri()


def test_the_download_takes_the_recordings_and_nothing_else(recordings, accepted, nowhere):
    files = [(f"set-1.0.10/recordings/{path.name}", path.read_bytes()) for path in recordings.iterdir()]
    strange = [
        ("set-1.0.10/README.md", b"hello"),
        ("../../escaped.wav", b"x"),
        ("/absolute/recordings/0_theo_1.wav", b"x"),
        ("set-1.0.10/recordings/../../../0_evil_0.wav", b"x"),
        ("set-1.0.10/recordings/1_link_1.wav", None, "/etc/passwd"),
        ("set-1.0.10/recordings/script.py", b"x"),
    ]
    lines = []
    folder = digits.download(pack(nowhere / "set.tar.gz", *strange, *files), lines.append)
    assert folder == nowhere / "cache" / "fsdd" == digits.source()
    assert {path.name for path in (folder / "recordings").iterdir()} == {path.name for path in recordings.iterdir()}
    assert sorted(path.name for path in nowhere.rglob("*") if path.name in ("escaped.wav", "0_evil_0.wav")) == []
    assert lines[-1] == "digits: 3000 takes of 6 speakers are there"
    assert digits.download("file:///not-asked-again") == folder


def test_a_download_of_other_audio_leaves_nothing_behind(recordings, nowhere):
    files = [(f"set-1.0.10/recordings/{path.name}", path.read_bytes()) for path in recordings.iterdir()]
    with pytest.raises(InputError, match=r"does not hold the recordings of FSDD v1\.0\.10: its samples have sha256 .*, should have cca99fe2"):
        digits.download(pack(nowhere / "set.tar.gz", *files))
    assert list((nowhere / "cache").iterdir()) == []


def test_no_split_is_made_of_one_changed_sample(recordings, accepted, nowhere, monkeypatch):
    changed = shutil.copytree(recordings, nowhere / "changed")
    samples, rate_hz = soundfile.read(changed / "7_theo_12.wav", dtype="int16")
    samples[1_000] += 1
    soundfile.write(changed / "7_theo_12.wav", samples, rate_hz)
    monkeypatch.setenv("ASUM_FSDD", str(changed))
    with pytest.raises(InputError, match="does not hold the recordings"):
        load_corpus("digits", "dev")


def test_the_same_samples_in_another_format_are_the_same_audio(recordings, accepted, nowhere):
    other = nowhere / "flac"
    other.mkdir()
    files = digits.take_files(recordings)
    for name in files:
        soundfile.write(other / f"{name}.flac", *soundfile.read(files[name], dtype="int16"))
    assert digits.samples_sha256({name: other / f"{name}.flac" for name in files}) == digits.SAMPLES_SHA256


def test_a_download_that_fails_is_one_line(nowhere):
    with pytest.raises(OSError, match=r"cannot reach http://127\.0\.0\.1:9/x \(.*\): check the network, and the proxy"):
        digits.download("http://127.0.0.1:9/x")


def test_a_download_without_all_takes_leaves_nothing_behind(nowhere):
    url = pack(nowhere / "set.tar.gz", ("set/recordings/0_theo_1.wav", b"x"))
    with pytest.raises(InputError, match="lacks 2999 of the 3000"):
        digits.download(url)
    assert list((nowhere / "cache").iterdir()) == []


def test_a_broken_download_leaves_nothing_behind(nowhere):
    whole = pack(nowhere / "set.tar.gz", ("set/recordings/0_theo_1.wav", bytes(50_000) + b"x"))
    (nowhere / "half.tar.gz").write_bytes((nowhere / "set.tar.gz").read_bytes()[:60])
    with pytest.raises(OSError, match="cannot be unpacked"):
        digits.download(whole.replace("set.tar", "half.tar"))
    assert list((nowhere / "cache").iterdir()) == []


def test_the_download_is_of_a_named_version():
    assert re.fullmatch(r"https://github\.com/Jakobovski/free-spoken-digit-dataset/archive/.*v1\.0\.10\.tar\.gz", digits.URL)


def test_real_takes_are_those_of_the_records(real_data):
    assert len(digits.check(real_data / "spoken-digits")) == 3_000


def test_real_takes_have_the_words_and_the_split_that_the_set_says(real_data):
    folder = real_data / "spoken-digits"
    takes = {}
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        takes[entry["id"]] = entry
    assert set(digits.take_files(folder)) == set(takes)
    for name, entry in takes.items():
        digit, speaker, number = name.split("_")
        assert (entry["text"], entry["speaker_id"]) == (digits.WORDS[int(digit)], speaker)
        assert (entry["split"] == "test") == (int(number) in digits.TAKES["test"])


def test_real_strings_fit_the_mini_window_and_keep_three_digits(real_data, nowhere, monkeypatch):
    monkeypatch.setenv("ASUM_FSDD", str(real_data / "spoken-digits"))
    planned = {string.id: string for string in digits.strings("test")}
    corpus = load_corpus("digits", "test")
    assert len(corpus.utterances) == 500
    shortened = 0
    for utterance in corpus.utterances:
        said = utterance.text.split()
        plan = [digits.WORDS[int(take[0])] for take in planned[utterance.id].takes]
        assert 3 <= len(said) <= 7 and said == plan[: len(said)]
        assert 0.5 < utterance.duration_s <= 3.9
        shortened += len(said) < len(plan)
    assert shortened < 25
    assert np.abs(read_audio(corpus.utterances[0].audio)).max() == pytest.approx(0.7, abs=0.001)
