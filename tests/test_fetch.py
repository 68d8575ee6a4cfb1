"""`asum fetch` against a small Hub on this machine: what it downloads, what it finds wrong, and how it goes on after a kill.

huggingface_hub reads its settings at import, so the command runs in a process of its own, as for a user.
"""

import hashlib
import os
import re
import signal

import pytest
from hub_machine import COMMIT, MODEL, NEXT_COMMIT, PARTS, WANTED


def test_a_fetch_prints_the_folder_and_brings_the_wanted_files_and_no_pickle(machine, the_hub):
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (0, f"{machine.snapshot()}\n")
    assert sorted(path.name for path in machine.snapshot().iterdir()) == WANTED
    assert sorted(name for name, _ in the_hub.downloads()) == WANTED
    assert "our/model: model.safetensors, 1.1 kB" in stderr


def test_what_was_fetched_is_found_when_the_hub_is_gone(machine, the_hub):
    machine.asum("fetch", "pinned")
    machine.url = "http://127.0.0.1:9"
    asked = len(the_hub.log)
    find = "print(hub.snapshot('our/model'))"
    assert machine.asum("fetch", "pinned", before=find, HF_HUB_OFFLINE="1")[:2] == (0, f"{machine.snapshot()}\n" * 2)
    assert machine.asum("fetch", "pinned")[0] == 0
    assert len(the_hub.log) == asked


def test_a_cache_that_was_copied_without_the_lock_needs_no_network(machine):
    machine.asum("fetch", "pinned")
    (machine.folder / "asum/hub.lock.yaml").unlink()
    assert machine.asum("fetch", "pinned", HF_HUB_OFFLINE="1")[:2] == (0, f"{machine.snapshot()}\n")


def test_without_network_a_fetch_says_so_in_one_line(machine):
    assert machine.asum("fetch", "pinned", HF_HUB_OFFLINE="1")[::2] == (
        1,
        "asum: our/model: HF_HUB_OFFLINE is set, and not all of it is there: unset it to download\n",
    )
    machine.url = "http://127.0.0.1:9"
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (1, "")
    assert stderr == "asum: our/model: cannot reach http://127.0.0.1:9 (ConnectError): check the network, or HF_ENDPOINT\n"


def test_a_killed_fetch_goes_on_where_it_was(machine, the_hub):
    weights = bytes(range(256)) * 100_000  # 25.6 MB
    the_hub.repositories["our/model"][COMMIT] = MODEL | {"model.safetensors": weights}
    machine.pin(weights)
    the_hub.hang_after_bytes = {"model.safetensors": 15_000_000}
    process = machine.start("fetch", "pinned")
    try:
        machine.wait_for_part(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    the_hub.hang_after_bytes, the_hub.log[:] = {}, []

    assert machine.asum("fetch", "pinned")[0] == 0
    assert the_hub.downloads() == [("model.safetensors", f"bytes={10 * 2**20}-")]  # the small files are not asked for again
    assert (machine.snapshot() / "model.safetensors").read_bytes() == weights
    assert not [path for path in machine.blobs() if path.name.endswith(".incomplete")]


def test_a_changed_byte_is_found_by_check_and_repaired_by_the_next_fetch(machine, the_hub):
    machine.asum("fetch", "pinned")
    damaged = machine.snapshot() / "config.json"
    damaged.resolve().write_bytes(b'{"model_type": "whimper"}')
    the_hub.log.clear()

    status, stdout, stderr = machine.asum("fetch", "--check", "pinned", HF_HUB_OFFLINE="1")
    assert (status, stdout) == (1, "")
    assert "asum: our/model: config.json has git sha1 " in stderr and "run `asum fetch pinned` to repair" in stderr
    assert the_hub.log == []

    assert machine.asum("fetch", "pinned")[0] == 0
    assert the_hub.downloads() == [("config.json", None)]
    assert damaged.read_bytes() == MODEL["config.json"]
    assert machine.asum("fetch", "--check")[0] == 0


def test_check_works_without_the_lock_by_the_names_of_the_blobs(machine):
    machine.asum("fetch", "pinned")
    (machine.folder / "asum/hub.lock.yaml").unlink()
    assert machine.asum("fetch", "--check", "pinned")[:2] == (0, f"{machine.snapshot()}\n")
    (machine.snapshot() / "generation_config.json").resolve().write_bytes(b"[]")
    assert "generation_config.json has git sha1" in machine.asum("fetch", "--check", "pinned")[2]


def test_bytes_other_than_announced_are_removed_and_the_next_fetch_repairs(machine, the_hub):
    the_hub.sent_instead = {"model.safetensors": MODEL["model.safetensors"].swapcase()}
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (1, "")
    assert "asum: our/model: model.safetensors has sha256" in stderr and "removed; run `asum fetch pinned` again" in stderr
    assert not (machine.snapshot() / "model.safetensors").exists() and len(machine.blobs()) == 2

    the_hub.sent_instead = {}
    assert machine.asum("fetch", "pinned")[0] == 0


@pytest.mark.parametrize("sent", [b"short", MODEL["model.safetensors"] + b"and more"], ids=["too short", "too long"])
def test_a_file_of_another_size_than_announced_is_refused(machine, the_hub, sent):
    the_hub.sent_instead = {"model.safetensors": sent}
    status, _, stderr = machine.asum("fetch", "pinned")
    assert status == 1
    assert f"should be of size {len(MODEL['model.safetensors'])} but has size {len(sent)}" in stderr
    assert len(stderr.splitlines()[-1]) < 300 and len(machine.blobs()) == 2
    the_hub.sent_instead = {}
    assert machine.asum("fetch", "pinned")[0] == 0


def test_a_hub_that_differs_from_the_pin_is_refused_before_anything_is_downloaded(machine, the_hub):
    machine.pin(MODEL["model.safetensors"], sha256="a" * 64)
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (1, "")
    assert f"{'a' * 64} in pins.yaml: nothing is downloaded" in stderr
    assert the_hub.downloads() == [] and machine.blobs() == []


def test_a_pin_that_is_added_later_is_held_against_what_is_there(machine):
    machine.asum("fetch", "pinned")
    machine.pin(MODEL["model.safetensors"], sha256="a" * 64)
    assert f"should have {'a' * 64}" in machine.asum("fetch", "--check", "pinned")[2]


def test_a_disk_that_is_too_small_is_said_before_anything_is_downloaded(machine, the_hub):
    full = "import shutil; shutil.disk_usage = lambda place: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)"
    status, stdout, stderr = machine.asum("fetch", "pinned", "datasets/our/speech", before=full)
    assert (status, stdout) == (1, "")
    assert "asum: 1.13 kB to download and 1 kB free at" in stderr and "free 131 bytes there" in stderr
    assert the_hub.downloads() == []


def test_an_unpinned_repository_stays_at_the_revision_of_its_first_fetch(machine, the_hub):
    machine.pins.write_text("{}")
    assert machine.asum("fetch", "our/model")[1] == f"{machine.snapshot()}\n"
    lock = (machine.folder / "asum/hub.lock.yaml").read_text()
    assert f"our/model@main:\n  revision: '{COMMIT}'\n" in lock
    assert hashlib.sha256(MODEL["model.safetensors"]).hexdigest() in lock

    the_hub.repositories["our/model"][NEXT_COMMIT] = MODEL
    the_hub.main["our/model"] = NEXT_COMMIT
    assert machine.asum("fetch", "our/model")[1] == f"{machine.snapshot()}\n"
    assert machine.asum("fetch", f"our/model@{NEXT_COMMIT}")[1] == f"{machine.snapshot(NEXT_COMMIT)}\n"

    (machine.folder / "asum/hub.lock.yaml").unlink()  # the cache alone, as it was copied to another machine
    find = "print(hub.snapshot('our/model'))"
    assert machine.asum("fetch", "--check", "our/model", before=find)[1] == f"{machine.snapshot()}\n" * 2


@pytest.fixture
def in_parts(machine, the_hub):
    """The machine, with a data set pinned in two parts; and the snapshot folder that they share."""
    machine.pins.write_text(PARTS)
    shards = {f"data/train-{number}.parquet": b"%d" % number for number in range(2)}
    the_hub.repositories["datasets/our/speech"] = {COMMIT: {"data/test.parquet": b"rows", "data/other.parquet": b"not wanted"} | shards}
    return machine, machine.folder / "hf/hub/datasets--our--speech/snapshots" / COMMIT


@pytest.mark.parametrize(("first", "then"), [("speech", "speech-train"), ("speech-train", "speech")])
def test_parts_of_a_repository_are_fetched_one_by_one_into_one_folder(in_parts, the_hub, first, then):
    machine, folder = in_parts
    wanted = {"speech": ["test.parquet"], "speech-train": ["train-0.parquet", "train-1.parquet"]}
    for name in (first, then):
        the_hub.log.clear()
        assert machine.asum("fetch", name)[:2] == (0, f"{folder}\n")
        assert [path for path, _ in the_hub.downloads()] == wanted[name]
    machine.url = "http://127.0.0.1:9"
    assert machine.asum("fetch", "speech", "speech-train")[:2] == (0, f"{folder}\n" * 2)
    assert machine.asum("fetch", "--check")[:2] == (0, f"{folder}\n" * 2)
    lock = (machine.folder / "asum/hub.lock.yaml").read_text()
    assert re.findall(r"datasets/our/speech@1{40}|data/\S+\.parquet", lock) == [
        f"datasets/our/speech@{COMMIT}",
        *(f"data/{name}.parquet" for name in ("test", "train-0", "train-1")),
    ]


def test_all_is_every_part(in_parts, the_hub):
    machine, folder = in_parts
    assert machine.asum("fetch", "all")[:2] == (0, f"{folder}\n" * 2)
    assert [path for path, _ in the_hub.downloads()] == ["test.parquet", "train-0.parquet", "train-1.parquet"]


def test_one_part_in_a_cache_without_the_lock_needs_no_network_and_the_other_does(in_parts):
    machine, folder = in_parts
    machine.asum("fetch", "speech")
    (machine.folder / "asum/hub.lock.yaml").unlink()
    status, stdout, stderr = machine.asum("fetch", "speech", "speech-train", HF_HUB_OFFLINE="1")
    assert (status, stdout) == (1, f"{folder}\n")
    assert stderr.splitlines()[-1] == "asum: our/speech: HF_HUB_OFFLINE is set, and not all of it is there: unset it to download"


def test_damage_to_one_part_is_repaired_by_fetching_that_part(in_parts, the_hub):
    machine, folder = in_parts
    machine.asum("fetch", "all")
    (folder / "data/train-1.parquet").resolve().write_bytes(b"x")
    assert machine.asum("fetch", "--check", "speech")[0] == 0
    assert "data/train-1.parquet has sha256" in machine.asum("fetch", "--check", "speech-train")[2]
    the_hub.log.clear()
    assert machine.asum("fetch", "speech-train")[0] == 0
    assert the_hub.downloads() == [("train-1.parquet", None)]


def test_a_model_and_a_data_set_of_one_name_are_two_repositories(machine, the_hub):
    machine.pins.write_text("{}")
    the_hub.repositories["datasets/our/model"] = {NEXT_COMMIT: {"test.parquet": b"rows"}}
    the_hub.main["datasets/our/model"] = NEXT_COMMIT
    folders = [machine.snapshot(), machine.folder / "hf/hub/datasets--our--model/snapshots" / NEXT_COMMIT]
    assert machine.asum("fetch", "our/model", "datasets/our/model")[:2] == (0, "".join(f"{folder}\n" for folder in folders))
    lock = (machine.folder / "asum/hub.lock.yaml").read_text()
    assert f"\nour/model@main:\n  revision: '{COMMIT}'" in lock and f"\ndatasets/our/model@main:\n  revision: '{NEXT_COMMIT}'" in lock


def test_one_repository_that_fails_does_not_hold_up_the_others(machine, the_hub):
    the_hub.gated = {"datasets/our/speech"}
    status, stdout, stderr = machine.asum("fetch", "datasets/our/speech", "pinned")
    assert (status, stdout) == (1, f"{machine.snapshot()}\n")
    failed = [line for line in stderr.splitlines() if line.startswith("asum:")]
    assert failed == [
        f"asum: our/speech: data/test.parquet: it is gated: accept its conditions at {the_hub.url}/datasets/our/speech, "
        "then log in with `hf auth login` or set HF_TOKEN"
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("our/other", "asum: our/other: not found as a model at {url}/our/other, or private"),
        ("our/model@v9", "asum: our/model: the Hub has no revision v9 of it"),
        ("datasets/our/model", "asum: our/model: not found as a dataset at {url}/datasets/our/model, or private"),
    ],
)
def test_what_is_not_on_the_hub_is_one_line(machine, the_hub, name, said):
    machine.pins.write_text("{}")
    status, stdout, stderr = machine.asum("fetch", name)
    assert (status, stdout, len(stderr.splitlines())) == (1, "", 1)
    assert stderr.startswith(said.format(url=the_hub.url))


def test_a_model_with_nothing_but_pickled_weights_is_refused(machine, the_hub):
    the_hub.repositories["our/model"][COMMIT] = {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    status, _, stderr = machine.asum("fetch", f"our/model@{COMMIT}", before="hub.repositories = lambda: ()")
    assert status == 1
    assert stderr == "asum: our/model: revision 11111111 has no model.safetensors (pickled weights are not fetched)\n"


def test_an_unknown_name_is_wrong_use_and_lists_the_choices(machine):
    assert machine.asum("fetch", "whisper-giant")[::2] == (
        2,
        "asum: unknown repository 'whisper-giant': choose from pinned, all, or give owner/name[@revision]\n",
    )


def test_without_a_name_the_choices_are_listed_with_size_and_whereabouts(machine):
    assert "| pinned | our/model | 11111111 | 1.1 kB | no |" in machine.asum("fetch")[1]
    machine.asum("fetch", "all")
    assert "| pinned | our/model | 11111111 | 1.13 kB | fetched |" in machine.asum("fetch")[1]
    (machine.snapshot() / "config.json").unlink()
    assert "| in part |" in machine.asum("fetch")[1]


def test_an_interrupted_fetch_keeps_what_came_and_ends_with_status_130(machine, the_hub):
    weights = bytes(range(256)) * 100_000
    the_hub.repositories["our/model"][COMMIT] = MODEL | {"model.safetensors": weights}
    machine.pin(weights)
    the_hub.hang_after_bytes = {"model.safetensors": 15_000_000}
    process = machine.start("fetch", "pinned")
    machine.wait_for_part(process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].splitlines()[-1] == "asum: interrupted"
    assert process.returncode == 130
    assert [path.stat().st_size for path in machine.blobs() if path.name.endswith(".incomplete")] == [10 * 2**20]


def test_two_fetches_at_once_download_each_file_once(machine, the_hub):
    both = [machine.start("fetch", "pinned") for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == [f"{machine.snapshot()}\n"] * 2
    assert sorted(name for name, _ in the_hub.downloads()) == WANTED
