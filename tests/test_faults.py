"""Faults of the machine, tried on the real programs: kills, full and read-only disks, two runs at once, damaged files, no network, odd locales."""

# fault                     | tried here                                             | tried elsewhere
# kill -9, a record written | at every step of it                                    | test_records (between samples and record, by an exception)
# kill -9, other work       |                                                        | test_training, test_paper_path, test_distributed, test_fetch,
#                           |                                                        | test_features, test_manifest
# kill -9, `make study`     |                                                        | runs/survive.py; a small one in test_survival
# disk full                 | while a record is written; a real small disk           | test_fetch, test_parquet, test_catalogue (said at the start)
# read-only results         | said before anything is measured; reading goes on      | test_manifest (a cache)
# two runs at once          | two writers of a record, two real runs of a cell       | test_manifest, test_fetch; test_survival (two studies)
# Ctrl-C                    |                                                        | test_cli, test_fetch; test_survival (`make study`)
# a notebook that raises    |                                                        | test_cli (alone); test_survival (in the study)
# damaged cache             | features, made corpora, audio, state of pre-training   | test_training (state), test_manifest (list of decoded audio)
# damaged checkpoint        | text models                                            | test_checkpoints, test_paper_path (Whisper), test_text_models
# damaged record            | any value anywhere, cut and binary files, cut samples  | test_records (keys, hashes), test_verify
# damaged manifest          |                                                        | test_manifest; test_text_files, test_parquet
# no network                | a proxy that is closed                                 | test_fetch, test_paper_path; test_survival (no device at all)
# spaces, other letters     |                                                        | test_survival
# locale without UTF-8      | tables, records, arguments                             | test_survival (a whole run)

import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from asum_lib.corpora import howto, materialize, read_manifest
from asum_lib.corpora.features import log_mel
from asum_lib.errors import InputError
from asum_lib.models import checkpoint, ladder
from asum_lib.paths import CHECKPOINTS, REPOSITORY, RESULTS
from asum_lib.study import peft_rouge, records
from asum_lib.training.pretrain import restore_state, save_state

QUICK = {"corpus": "howto-text", "model": "lead3", "limit": 3}  # a cell that needs no model
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def asum(*arguments, within: str = "true", **environment):
    """`asum` in a process of its own, after the shell commands `within` in a mount namespace of its own: (status, stdout, stderr)."""
    command = [sys.executable, "-m", "asum_lib", *map(str, arguments)]
    if within != "true":
        command = ["unshare", "--mount", "sh", "-c", f'{within} && exec "$@"', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def measuring(folder) -> list[str]:
    return ["measure", "peft_rouge", *(word for name, value in QUICK.items() for word in ("-p", f"{name}={value}")), "-p", f"results_dir={folder}"]


def only_line(err: str) -> str:
    """The one line that `asum` said on stderr."""
    assert err.startswith("asum: ") and err.count("\n") == 1, err
    return err.removeprefix("asum: ").strip()


@pytest.fixture(scope="session")
def mounting():
    """Skips where this user cannot mount: only root can, and not in every container."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True) if shutil.which("unshare") else None
    if done is None or done.returncode:
        pytest.skip("mounting is not allowed here (it takes root)")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A results folder with the record of one quick cell."""
    folder = tmp_path_factory.mktemp("results")
    peft_rouge.run(**QUICK | {"results_dir": str(folder)})
    return folder


def record_of(folder):
    """The record of `QUICK`, whose few documents are in its name."""
    return next((folder / "mini" / "rouge_wikihow").glob("lead3-*-s0.json"))


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Kill -9

KILLED = """
import os, signal, sys
from asum_lib.study import records

path, left = sys.argv[1], int(sys.argv[2])

def dying(call):
    def counted(*arguments, **options):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments, **options)
    return counted

for name in ("fsync", "unlink", "replace"):
    setattr(os, name, dying(getattr(os, name)))
records.write(records.read(path), path, [{"id": "the new run's"}])
print("written")
"""


def test_a_kill_at_any_step_of_writing_leaves_a_whole_record_or_none_and_the_next_run_tidies_up(add_record):
    outcomes = []
    for step in range(8):
        path = add_record(errors=[1, 0])
        old = records.read_samples(path)
        done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(step)], capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        found = records.read_samples(path) if path.exists() else None
        outcomes.append("old" if found == old else "new" if found == [{"id": "the new run's"}] else "none" if found is None else "mixed")
        add_record(errors=[1, 0])
        assert files(path.parent) == [path.name, f"{path.stem}.samples.jsonl.gz"]
    # Two temporary files, the old record away, two renamings, two temporary files that are no longer there.
    assert outcomes == ["old", "old", "old", "none", "none", "new", "new", "new"]


# A disk that is full, and one that cannot be written


@pytest.mark.parametrize("written", [0, 1])
def test_a_disk_that_is_full_while_a_record_is_written_loses_nothing(add_record, monkeypatch, written):
    path = add_record(errors=[1, 0])
    before, synced = records.read_samples(path), []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) > written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        records.write(records.read(path), path, [{"id": "new"}])
    assert records.read_samples(path) == before
    assert len(files(path.parent)) == 2


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path, mounting):
    within = f"mount -t tmpfs -o size=4k,nr_inodes=20 tmpfs {tmp_path} && trap 'find {tmp_path} -type f >&2' EXIT"
    command = ["unshare", "--mount", "sh", "-c", f'{within} && "$@"', "sh", sys.executable, "-m", "asum_lib", *measuring(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"asum: {tmp_path}/mini/rouge_wikihow/lead3-") and last.endswith(": No space left on device")


def read_only(folder) -> str:
    return f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"


def test_results_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path, mounting):
    status, out, err = asum(*measuring(tmp_path), within=read_only(tmp_path))
    assert (status, out) == (2, "")
    folder = tmp_path / "mini" / "rouge_wikihow"
    assert (
        only_line(err) == f"no record can be written into {folder} (Read-only file system): make it writable, or name another folder with results_dir"
    )


def test_records_that_are_there_are_read_from_a_disk_that_cannot_be_written(measured, mounting):
    status, out, err = asum(*measuring(measured), within=read_only(measured))
    assert (status, out) == (0, f"{record_of(measured)}\n")
    assert "already measured" in err


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user takes root and setpriv")
def test_a_folder_of_another_user_is_refused_by_its_name(tmp_path):
    program = f"from asum_lib.study import records; records.check_writable({str(tmp_path / 'results')!r})"
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", program]
    if subprocess.run([*command[:-1], "import asum_lib.study.records"], capture_output=True, cwd=REPOSITORY).returncode:
        pytest.skip("another user cannot read this repository")
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert f"no record can be written into {tmp_path / 'results'} (Permission denied)" in done.stderr


# Two runs at once

SLOW_WRITER = """
import os, sys, time
from asum_lib.study import records

path, half_done = sys.argv[1:]
record, rename = records.read(path), os.replace

def slow(aside, target):
    if str(target) == path:
        open(half_done, "w").close()
        time.sleep(1)
    rename(aside, target)

os.replace = slow
records.write(record, path, [{"id": "the slow one's"}])
"""


def test_who_writes_a_record_that_another_is_writing_waits(add_record, tmp_path):
    path, half_done = add_record(errors=[1, 0]), tmp_path / "half-done"
    record = records.read(path)
    slow = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(path), str(half_done)], cwd=REPOSITORY)
    while not half_done.exists() and slow.poll() is None:
        time.sleep(0.01)
    records.write(record, path, [{"id": "the quick one's"}])
    assert slow.wait(60) == 0
    assert records.read_samples(path) == [{"id": "the quick one's"}]
    assert len(files(path.parent)) == 2


def test_two_runs_of_one_cell_both_end_well_and_leave_its_record(measured, tmp_path):
    command = [sys.executable, "-m", "asum_lib", *measuring(tmp_path)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].strip() for process in pair]
    path = record_of(tmp_path)
    assert ([process.returncode for process in pair], said) == ([0, 0], [str(path)] * 2)
    alone = record_of(measured)
    assert records.read(path).metrics == records.read(alone).metrics
    assert records.read_samples(path) == records.read_samples(alone)
    assert files(tmp_path) == files(measured)


# Damaged records


@pytest.fixture(scope="module")
def content() -> dict:
    return json.loads((RESULTS / "mini" / "whisper_wer" / "whisper-tiny-int8-adalora-r8-s0.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("value", [None, [], {}, "words", 5, [5], {"key": None}])
def test_a_record_with_any_value_in_any_place_is_read_or_refused_in_one_line(content, tmp_path, value):
    path, refused = tmp_path / "record.json", 0
    for key in content:
        path.write_text(json.dumps(content | {key: value}), encoding="utf-8")
        try:
            records.read(path)
        except InputError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused >= 8


def test_a_record_that_is_cut_anywhere_or_binary_is_refused_with_the_way_out(content, tmp_path):
    path, whole = tmp_path / "record.json", json.dumps(content).encode()
    for damaged in (b"", *(whole[:cut] for cut in range(1, len(whole), len(whole) // 20)), b"\0" * 512, gzip.compress(whole)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"not (JSON|UTF-8) .*: take it from git again, or remove it so that its cell is measured anew$"):
            records.read(path)


def test_a_run_stops_at_a_damaged_record_and_measures_it_once_it_is_removed(measured, tmp_path):
    shutil.copytree(measured, tmp_path / "results")
    path = record_of(tmp_path / "results")
    path.write_text(path.read_text(encoding="utf-8")[:300], encoding="utf-8")
    with pytest.raises(InputError, match=r"lead3-\w{10}-s0\.json: not JSON"):
        peft_rouge.run(**QUICK | {"results_dir": str(tmp_path / "results")})
    path.unlink()
    assert peft_rouge.run(**QUICK | {"results_dir": str(tmp_path / "results")}).records[0].status == "ok"


def test_samples_that_are_cut_are_refused_by_their_hash(add_record):
    path = add_record()
    samples = path.with_name(records.read(path).samples["path"])
    samples.write_bytes(samples.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{samples.name}: sha256 .*, but {path.name} says"):
        records.read_samples(path)


# Damaged caches


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """One bit of one byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(bytes(content))


def emptied(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Two takes of `howto`, as a function that makes them anew, and how often it was asked."""
    takes = [(take.id, take.text, howto.speak(take)) for take in howto.takes("target", "dev")[:2]]
    asked = []

    def make(folder):
        def counted():
            asked.append(folder)
            yield from takes

        return materialize(folder, "howto", "dev", "f" * 64, counted())

    return make, asked


@pytest.mark.parametrize(
    ("name", "damage"), [("values.f32", cut), ("values.f32", flip), ("values.f32", gone), ("index.npz", cut), ("index.npz", emptied)]
)
def test_features_that_were_damaged_on_disk_are_computed_anew(spoken, tmp_path, monkeypatch, name, damage):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    corpus, said = spoken[0](tmp_path / "corpus"), []
    right = log_mel(corpus, ladder.extractor()).batch([0, 1])
    (folder,) = (tmp_path / "cache" / "features").iterdir()
    damage(folder / name)
    assert np.array_equal(log_mel(corpus, ladder.extractor(), said.append).batch([0, 1]), right)
    assert said[-1] == f"howto dev: the log-mel features in {folder} were damaged and are computed anew"
    assert np.array_equal(log_mel(corpus, ladder.extractor(), pytest.fail).batch([0, 1]), right)


@pytest.mark.parametrize(("pattern", "damage"), [("manifest.jsonl", cut), ("manifest.jsonl", emptied), ("manifest.jsonl", gone), ("*.flac", emptied)])
def test_a_made_corpus_that_was_damaged_on_disk_is_made_anew(spoken, tmp_path, pattern, damage):
    make, asked = spoken
    corpus = make(tmp_path / "corpus")
    damage(next((tmp_path / "corpus").rglob(pattern)))
    before = len(asked)
    assert make(tmp_path / "corpus") == corpus and len(asked) == before + 1
    assert make(tmp_path / "corpus") == corpus and len(asked) == before + 1


def test_what_killed_runs_left_in_the_cache_is_removed_a_day_later(spoken, tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path))
    corpus = spoken[0](tmp_path / "corpora" / "few")
    log_mel(corpus, ladder.extractor())
    (features,) = (tmp_path / "features").iterdir()
    left = [tmp_path / "corpora" / ".few-abc", tmp_path / "features" / f".{features.name}-abc"]
    for folder, age_s in zip(left * 2, (90_000, 90_000, 60, 60), strict=True):
        (folder / "part").mkdir(parents=True, exist_ok=True)
        os.utime(folder, (time.time() - age_s,) * 2)
        shutil.rmtree(tmp_path / "corpora" / "few", ignore_errors=True)
        shutil.rmtree(features, ignore_errors=True)
        log_mel(spoken[0](tmp_path / "corpora" / "few"), ladder.extractor())
        assert folder.exists() == (age_s == 60)


@pytest.mark.parametrize("damage", [cut, emptied, gone])
def test_a_damaged_state_of_pretraining_begins_anew(tmp_path, damage):
    import torch

    model, path = torch.nn.Linear(2, 2), tmp_path / "state.pt"
    save_state(path, {"model": model}, step=500)
    assert restore_state(path, {"model": model}) == 500
    damage(path)
    assert restore_state(path, {"model": model}) == 0


def test_audio_that_was_damaged_is_named(spoken, tmp_path, monkeypatch):
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    corpus = spoken[0](tmp_path / "corpus")
    cut(corpus.utterances[1].audio)
    with pytest.raises(InputError, match=corpus.utterances[1].audio.name):
        log_mel(corpus, ladder.extractor())
    with pytest.raises(InputError, match=rf"1 fault: line 2: .*{corpus.utterances[1].audio.name}"):
        read_manifest(tmp_path / "corpus" / "manifest.jsonl", "test")


# Damaged checkpoints of text models


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("config.json", cut, "config.json: not JSON"),
        ("config.json", gone, "no config.json"),
        ("config.json", lambda path: path.write_text("null"), "config.json is not a JSON object"),
        ("generation_config.json", lambda path: path.write_text("null"), "generation_config.json is not a JSON object"),
        ("model.safetensors", cut, r"model.safetensors: cut off or damaged \(\d+ bytes; incomplete metadata"),
        ("model.safetensors", emptied, r"model.safetensors: cut off or damaged \(0 bytes; header too small\)"),
        ("model.safetensors", gone, "no .*safetensors file: model.safetensors, or model.safetensors.index.json"),
        ("tokenizer.json", cut, "tokenizer.json: not JSON"),
        (
            "tokenizer.json",
            gone,
            "no tokenizer: tokenizer.json, spiece.model, sentencepiece.bpe.model, sentencepiece.model or merges.txt must be there",
        ),
    ],
)
def test_a_damaged_text_checkpoint_is_named_before_it_is_loaded(tmp_path, name, damage, said):
    folder = tmp_path / "mbart"
    shutil.copytree(CHECKPOINTS / "mbart-mini", folder)
    checkpoint.check_text(folder)
    damage(folder / name)
    with pytest.raises(InputError, match=said) as error:
        peft_rouge.run("howto-text", "mbart", limit=1, checkpoint=str(folder), results_dir=str(tmp_path / "results"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


# No network


def test_without_any_network_a_fetch_says_so_in_one_line(tmp_path):
    environment = {"HF_HOME": str(tmp_path), "ASUM_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "https://huggingface.co"}
    closed = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"), "http://127.0.0.1:9")
    status, out, err = asum("fetch", "whisper-tiny", **environment, **closed)
    assert (status, out) == (1, "")
    assert only_line(err).startswith("openai/whisper-tiny: cannot reach https://huggingface.co (")
    assert not list(tmp_path.rglob("*.safetensors"))


# A locale without UTF-8


@pytest.mark.parametrize("locale", [NO_UTF8, {"LC_ALL": "", "LANG": "POSIX", "PYTHONUTF8": "0"}])
def test_a_table_is_printed_in_any_locale(locale):
    as_usual = asum("table", "rouge_gazeta", LC_ALL="C.UTF-8")
    assert asum("table", "rouge_gazeta", **locale) == as_usual
    assert as_usual[0] == 0 and as_usual[1].startswith("| ")


def test_a_record_in_russian_is_written_and_read_in_any_locale(measured, tmp_path):
    program = (
        "import sys; from asum_lib.study import records; path, copy = sys.argv[1:]; rows = records.read_samples(path); "
        "records.write(records.read(path), copy, rows); print(ascii(rows[0]['reference']))"
    )
    path, copy = RESULTS / "mini" / "rouge_gazeta" / "lead3-s0.json", tmp_path / "lead3-s0.json"
    command = [sys.executable, "-c", program, str(path), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | NO_UTF8, check=True)
    (reference, *_) = (row["reference"] for row in records.read_samples(path))
    assert any("а" <= letter <= "я" for letter in reference)
    assert done.stdout.strip() == ascii(reference)
    assert records.read_samples(copy) == records.read_samples(path)


def test_an_argument_that_is_no_text_in_this_locale_is_refused_before_anything_is_measured(tmp_path):
    status, out, err = asum(*measuring(tmp_path / "итог"), **NO_UTF8)
    assert (status, out) == (2, "")
    assert only_line(err).endswith("is not text in this locale: set PYTHONUTF8=1, or a locale with UTF-8")
    assert not list(tmp_path.iterdir())
