"""`asum fetch` against a Hub that means harm, and beside files that are a user's own: nothing is written or lost outside its cache."""

import hashlib
from pathlib import Path

import pytest
import yaml
from hub_machine import COMMIT, MODEL, WANTED

OUTSIDE = "../../../../../outside/evil.pth"


def everything(folder: Path) -> set[str]:
    """Files under `folder`, those in the two caches left out."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return {name for name in names if not name.startswith(("hf/hub/", "asum/"))}


def change(name: str, **values):
    """Changes what the Hub says of the file `name`."""

    def tamper(answer: dict) -> None:
        for sibling in answer["siblings"]:
            if sibling["rfilename"] == name:
                sibling.update(values)

    return tamper


def add(name: str):
    """Adds a file that the Hub says to have."""
    return lambda answer: answer["siblings"].append({"rfilename": name, "size": 3, "blobId": "a" * 40})


def says(**values):
    return lambda answer: answer.update(values)


@pytest.mark.parametrize(
    "tamper",
    [
        change("config.json", blobId=OUTSIDE),
        change("config.json", blobId="A" * 40),
        change("config.json", blobId=None),
        change("config.json", size=-1),
        change("config.json", size="7"),
        change("model.safetensors", lfs={"sha256": OUTSIDE, "size": 1100, "pointerSize": 134}),
        says(sha=OUTSIDE),
        says(sha=f"{COMMIT}/../x"),
        says(sha=None),
        says(siblings=[None]),
        add("../../outside.json"),
        add("/outside.json"),
        add("a//b.json"),
        add("./b.json"),
        add("..\\..\\outside.json"),
        add("C:outside.json"),
        add("two\nlines.json"),
    ],
)
def test_a_false_answer_is_refused_before_a_download(machine, the_hub, tamper):
    machine.pins.write_text("{}")
    the_hub.tamper = tamper
    before = everything(machine.folder)
    status, stdout, stderr = machine.asum("fetch", "our/model")
    assert (status, stdout, len(stderr.splitlines())) == (1, "", 1), stderr
    assert stderr.startswith("asum: our/model: ")
    assert everything(machine.folder) == before
    assert the_hub.downloads() == [] and machine.blobs() == []


def test_an_etag_is_no_path(machine, the_hub):
    the_hub.etag = OUTSIDE
    before = everything(machine.folder)
    assert machine.asum("fetch", "pinned")[0] == 0
    assert sorted(path.name for path in machine.snapshot().iterdir()) == WANTED
    assert everything(machine.folder) == before


@pytest.mark.parametrize(
    "entry",
    [
        {"revision": OUTSIDE, "files": {"config.json": {"size_bytes": 2, "git_sha1": "a" * 40}}},
        {"revision": COMMIT, "files": {"config.json": {"size_bytes": 2, "git_sha1": OUTSIDE}}},
        {"revision": COMMIT, "files": {"config.json": {"size_bytes": 2, "sha256": "a" * 40}}},
        {"revision": COMMIT, "files": {"../x/config.json": {"size_bytes": 2, "git_sha1": "a" * 40}}},
        {"revision": COMMIT, "files": {"config.json": {"size_bytes": "2", "git_sha1": "a" * 40}}},
    ],
)
def test_a_lock_with_a_path_in_it_is_damaged(machine, the_hub, entry):
    machine.pins.write_text("{}")
    (machine.folder / "asum").mkdir()
    (machine.folder / "asum/hub.lock.yaml").write_text(yaml.safe_dump({"our/model@main": entry}))
    status, stdout, stderr = machine.asum("fetch", "our/model")
    assert (status, stdout) == (2, "")
    assert stderr.endswith("hub.lock.yaml is damaged: remove it, and run `asum fetch` again\n")
    assert the_hub.log == [] and not (machine.folder / "hf/hub").exists()


@pytest.mark.parametrize(
    "inner",
    [
        ".locks",
        "models--our--model",
        "models--our--model/blobs",
        "models--our--model/snapshots",
        f"models--our--model/snapshots/{COMMIT}",
    ],
)
def test_nothing_is_written_through_a_link_that_leaves(machine, inner):
    outside, link = machine.folder / "outside", machine.folder / "hf/hub" / inner
    for folder in (outside, link.parent):
        folder.mkdir(parents=True)
    link.symlink_to(outside)
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (1, "")
    assert "is led out of the cache by a link: nothing is written there" in stderr
    assert list(outside.iterdir()) == []


def test_an_unfinished_file_that_is_a_link_is_not_written_through(machine):
    blobs = machine.folder / "hf/hub/models--our--model/blobs"
    blobs.mkdir(parents=True)
    mine = machine.folder / "mine"
    mine.write_bytes(b"mine")
    (blobs / f"{hashlib.sha256(MODEL['model.safetensors']).hexdigest()}.incomplete").symlink_to(mine)
    assert machine.asum("fetch", "pinned")[0] == 0
    assert mine.read_bytes() == b"mine"


@pytest.fixture
def own_weights(machine) -> Path:
    """A user's weights, which the fetched snapshot links to."""
    assert machine.asum("fetch", "pinned")[0] == 0
    mine = machine.folder / "mine.safetensors"
    mine.write_bytes(b"weights that took a week")
    link = machine.snapshot() / "model.safetensors"
    link.unlink()
    link.symlink_to(mine)
    return mine


def test_a_users_own_weights_are_named_and_left(machine, own_weights):
    status, stdout, stderr = machine.asum("fetch", "pinned")
    assert (status, stdout) == (1, "")
    assert f"it is a link to {own_weights}, which no fetch made: move it away, and fetch again" in stderr
    assert own_weights.read_bytes() == b"weights that took a week"
    assert (machine.snapshot() / "model.safetensors").resolve() == own_weights.resolve()


def test_a_link_to_the_same_content_elsewhere_is_kept(machine, own_weights):
    own_weights.write_bytes(MODEL["model.safetensors"])
    assert machine.asum("fetch", "pinned")[0] == 0
    assert (machine.snapshot() / "model.safetensors").resolve() == own_weights.resolve()


def test_a_users_own_file_in_a_snapshot_is_left(machine, own_weights):
    link = machine.snapshot() / "model.safetensors"
    link.unlink()
    own_weights.rename(link)
    status, _, stderr = machine.asum("fetch", "pinned")
    assert status == 1 and "no fetch made it: move it away, and fetch again" in stderr
    assert link.read_bytes() == b"weights that took a week"


def test_a_damaged_file_stays_until_the_new_one_is_whole(machine, the_hub):
    machine.asum("fetch", "pinned")
    damaged = machine.snapshot() / "model.safetensors"
    damaged.resolve().write_bytes(b"damaged")
    the_hub.sent_instead = {"model.safetensors": MODEL["model.safetensors"].swapcase()}
    assert machine.asum("fetch", "pinned")[0] == 1
    assert damaged.read_bytes() == b"damaged"
    the_hub.sent_instead = {}
    assert machine.asum("fetch", "pinned")[0] == 0
    assert damaged.read_bytes() == MODEL["model.safetensors"]


def test_a_file_without_end_is_cut(machine, the_hub):
    the_hub.sent_instead = {"model.safetensors": bytes(10**6)}
    status, _, stderr = machine.asum("fetch", "pinned", before="from asum_lib import hub_cache; hub_cache.SPARE_BYTES = 8")
    assert status == 1 and "model.safetensors: the Hub sends more than 1,108 bytes" in stderr
    assert len(machine.blobs()) == 2


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "nonsense", "socks5://127.0.0.1:9", "ftp://host:1", "http://[::1"])
def test_a_proxy_that_is_not_there_is_one_line(machine, proxy):
    given = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy) | {"NO_PROXY": ""}
    status, stdout, stderr = machine.asum("fetch", "pinned", **given)
    assert (status, stdout, len(stderr.splitlines())) == (1, "", 1), stderr
    assert machine.url in stderr and "the proxy that HTTPS_PROXY" in stderr
