"""Pins of Hub repositories, and finding what was fetched, without network."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib import hub
from asum_lib.errors import InputError

TINY = "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"
SIZES = "tiny tiny.en base base.en small small.en medium medium.en large large-v2 large-v3 turbo".split()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty Hugging Face cache and an empty cache of the study."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "asum"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def small_pins(tmp_path, monkeypatch) -> None:
    """In place of hub.yaml: one model whose weights are five bytes."""
    pins = tmp_path / "pins.yaml"
    weights = hashlib.sha256(b"12345").hexdigest()
    pins.write_text(
        f"ours: {{kind: model, repo_id: our/model, revision: '{'1' * 40}', required: [config.json, model.safetensors],"
        f" pinned: {{model.safetensors: {{size_bytes: 5, sha256: {weights}}}}}, source: a test}}"
    )
    monkeypatch.setattr(hub, "PINS", pins)


@pytest.fixture
def pins_in_parts(tmp_path, monkeypatch) -> None:
    """In place of hub.yaml: one data set in two parts, the first of which has a file of four bytes."""
    pins = tmp_path / "pins.yaml"
    shared = f"kind: dataset, repo_id: our/speech, revision: '{'1' * 40}', source: a test"
    pins.write_text(
        f"speech: {{{shared}, required: [test/0000.parquet], pinned: {{test/0000.parquet: {{size_bytes: 4}}}}}}\n"
        f"speech-train: {{{shared}, required: [train/0000.parquet, train/0001.parquet]}}\n"
    )
    monkeypatch.setattr(hub, "PINS", pins)


def put(cache: Path, repo: str, commit: str, path: str, content: bytes) -> Path:
    """A file as the Hugging Face cache keeps it: a blob named by its hash, and a link to it."""
    large = path.endswith((".safetensors", ".parquet"))
    name = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    blob, link = cache / repo / "blobs" / name, cache / repo / "snapshots" / commit / path
    for file in (blob, link):
        file.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return cache / repo / "snapshots" / commit


def test_every_size_both_speech_corpora_t5_and_bart_are_pinned_to_a_commit():
    pins = [pin for pin in hub.repositories() if re.fullmatch("[0-9a-f]{40}", pin.asked)]
    corpora = ["librispeech", "librispeech-train", "slue-voxpopuli", "slue-voxpopuli-train"]
    assert [pin.name for pin in pins] == [*(f"whisper-{size}" for size in SIZES), *corpora, "t5-base", "bart-large-cnn"]
    assert len({(pin.repo_id, pin.revision) for pin in pins}) == len({pin.revision for pin in pins}) == 16
    assert all(pin.source for pin in hub.repositories())


def test_what_no_two_sources_pin_is_a_branch_or_tag_whose_commit_the_first_fetch_keeps():
    gazeta = {"gazeta-v1": "v1.0", "gazeta-v1-train": "v1.0", "gazeta-v2": "v2.0", "gazeta-v2-train": "v2.0"}
    unpinned = {pin.name: pin for pin in hub.repositories() if not re.fullmatch("[0-9a-f]{40}", pin.asked)}
    assert {name: pin.asked for name, pin in unpinned.items()} == gazeta | {"mbart-large-50": "refs/pr/7", "mbart-ru-sum-gazeta": "main"}
    assert not any(pin.pinned for pin in unpinned.values())


def test_the_text_models_are_found_by_the_names_that_the_study_loads_them_by():
    from asum_lib.study import text_calibration, text_run

    assert [hub.find(name).name for name in text_run.REPOSITORIES.values()] == ["t5-base", "mbart-large-50"]
    assert hub.find(text_calibration.CHECKPOINT).name == "mbart-ru-sum-gazeta"


def test_a_branch_is_listed_in_full(cache):
    assert {row["name"]: row["revision"] for row in hub.listing()}["mbart-large-50"] == "refs/pr/7"


def test_the_weights_of_every_size_have_a_size_and_a_sha256():
    weights = {pin.name: pin.pinned[0] for pin in hub.repositories() if pin.name.startswith("whisper")}
    assert all(file.path == "model.safetensors" and re.fullmatch("[0-9a-f]{64}", file.sha256) for file in weights.values())
    assert len({file.sha256 for file in weights.values()}) == 12
    # An English checkpoint has one token less: a row of the embedding, width × 4 bytes.
    rows = {size: weights[f"whisper-{size}"].size_bytes - weights[f"whisper-{size}.en"].size_bytes for size in ("tiny", "base", "small", "medium")}
    assert rows == {"tiny": 384 * 4, "base": 512 * 4, "small": 768 * 4, "medium": 1024 * 4}


@pytest.mark.parametrize("path", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.fp32-00001-of-00002.safetensors"])
def test_no_pickle_no_other_framework_and_no_second_copy_of_the_weights_is_wanted(path):
    assert not any(repository.wants(path) for repository in (*hub.repositories(), hub.find("someone/else")))


def test_a_sharded_checkpoint_of_another_repository_is_wanted_with_its_index():
    other = hub.find("someone/else")
    assert other.wants("model-00001-of-00002.safetensors") and other.wants("model.safetensors.index.json") and other.wants("merges.txt")


def test_librispeech_is_the_clean_test_shard_of_350_mb():
    librispeech = hub.find("librispeech")
    assert (librispeech.kind, librispeech.repo_id) == ("dataset", "openslr/librispeech_asr")
    assert (librispeech.required, librispeech.optional) == (("clean/test/0000.parquet",), ())
    assert [(file.path, file.size_bytes) for file in librispeech.pinned] == [("clean/test/0000.parquet", 350_452_636)]


def test_training_on_librispeech_adds_validation_and_the_14_shards_of_train_100_of_the_same_revision():
    rest = hub.find("librispeech-train")
    assert (rest.repo_id, rest.revision) == ("openslr/librispeech_asr", hub.find("librispeech").revision)
    assert rest.required == ("clean/validation/0000.parquet", *(f"clean/train.100/{shard:04d}.parquet" for shard in range(14)))
    assert not any(rest.wants(f"{split}/0000.parquet") for split in ("clean/test", "clean/train.360", "other/validation"))


def test_the_splits_of_slue_voxpopuli_are_in_its_two_parts():
    test, rest = hub.find("slue-voxpopuli"), hub.find("slue-voxpopuli-train")
    assert (test.gated, rest.gated, test.key) == (True, True, rest.key)
    shards = [f"voxpopuli/{split}-00000-of-00002.parquet" for split in ("train", "validation", "test")]
    assert [test.wants(shard) for shard in shards] == [False, False, True]
    assert [rest.wants(shard) for shard in shards] == [True, True, False]


@pytest.mark.parametrize("name", ["openslr/librispeech_asr", "datasets/openslr/librispeech_asr", "openslr/librispeech_asr@refs/pr/7"])
def test_the_name_of_a_repository_in_parts_means_the_first(name):
    assert hub.find(name).required == hub.find("librispeech").required


@pytest.mark.parametrize(
    "name", ["whisper-turbo", "openai/whisper-large-v3-turbo", "openai/whisper-large-v3-turbo@41f01f3fe87f28c78e2fbf8b568835947dd65ed9"]
)
def test_a_pinned_repository_is_found_by_either_name(name):
    assert hub.find(name).name == "whisper-turbo" and hub.find(name).pinned


def test_another_revision_of_a_pinned_repository_has_the_same_files_but_no_known_sizes():
    asked = hub.find("openai/whisper-tiny@refs/pr/7")
    assert (asked.asked, asked.pinned, asked.required) == ("refs/pr/7", (), hub.find("whisper-tiny").required)


def test_other_repositories_are_models_unless_they_are_said_to_be_data_sets():
    assert (hub.find("a/b").kind, hub.find("a/b").asked) == ("model", "main")
    assert (hub.find("datasets/a/b@v1.0").kind, hub.find("datasets/a/b@v1.0").asked) == ("dataset", "v1.0")


@pytest.mark.parametrize("name", ["whisper", "a/b/c", "../secret", "a/..", "a b/c", "", "a/b@", "./checkpoints", "a/b@/etc/hostname"])
def test_what_is_no_name_is_refused_with_the_choices(name):
    with pytest.raises(InputError, match=r"unknown repository .*: choose from whisper-tiny, .*, t5-base, .*, all, or give owner/name"):
        hub.find(name)


def test_a_snapshot_that_is_not_there_says_which_command_fetches_it(cache):
    with pytest.raises(InputError, match=r"^openai/whisper-tiny at revision 169d4a43 is not fetched: run `asum fetch whisper-tiny`$"):
        hub.snapshot("openai/whisper-tiny")
    with pytest.raises(InputError, match=r"^a/b is not fetched: run `asum fetch a/b`$"):
        hub.snapshot("a/b")


def test_a_pinned_snapshot_is_found_in_the_cache(cache, small_pins):
    put(cache, "models--our--model", "1" * 40, "config.json", b"{}")
    folder = put(cache, "models--our--model", "1" * 40, "model.safetensors", b"12345")
    assert hub.snapshot("our/model") == hub.snapshot("ours") == folder
    assert hub.revision(folder) == "1" * 40


def test_another_revision_in_the_cache_is_not_taken_for_the_pinned_one(cache, small_pins):
    put(cache, "models--our--model", "2" * 40, "model.safetensors", b"12345")
    with pytest.raises(InputError, match="at revision 11111111 is not fetched"):
        hub.snapshot("our/model")


@pytest.mark.parametrize("weights", [None, b"123"], ids=["absent", "too short"])
def test_a_snapshot_without_its_weights_as_pinned_is_not_whole(cache, small_pins, weights):
    put(cache, "models--our--model", "1" * 40, "config.json", b"{}")
    if weights:
        put(cache, "models--our--model", "1" * 40, "model.safetensors", weights)
    with pytest.raises(InputError, match=r"^our/model is not fetched as a whole \(model.safetensors missing\): run `asum fetch ours`$"):
        hub.snapshot("our/model")


def test_an_unpinned_snapshot_is_the_one_that_the_cache_calls_main(cache):
    for commit in ("1" * 40, "2" * 40):
        put(cache, "models--a--b", commit, "config.json", b"{}")
        folder = put(cache, "models--a--b", commit, "model.safetensors", commit.encode())
    (cache / "models--a--b" / "refs").mkdir()
    (cache / "models--a--b" / "refs" / "main").write_text("2" * 40)
    assert hub.snapshot("a/b") == folder


def test_a_snapshot_is_found_without_loading_the_library_that_could_download(cache, small_pins):
    code = "import sys; from asum_lib import hub, cli\ntry: hub.snapshot('whisper-tiny')\nexcept ValueError: print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_only_a_snapshot_folder_of_the_cache_has_a_revision(tmp_path):
    assert hub.revision(tmp_path / "models--a--b" / "snapshots" / TINY) == TINY
    assert hub.revision(tmp_path / "datasets--a--b" / "snapshots" / TINY) == TINY
    assert hub.revision(tmp_path / "models--a--b" / "snapshots" / "main") is None
    assert hub.revision(tmp_path / "checkpoints" / "whisper-tiny") is None


def test_check_finds_a_changed_byte_by_the_name_of_the_blob_and_changes_nothing(cache, small_pins):
    folder = put(cache, "models--our--model", "1" * 40, "config.json", b"{}")
    put(cache, "models--our--model", "1" * 40, "model.safetensors", b"12345")
    assert hub.check(["ours"])[0].faults == ()
    (folder / "config.json").resolve().write_bytes(b"[]")
    (folder / "model.safetensors").resolve().write_bytes(b"12346")
    first, second = hub.check(["ours"])[0].faults
    assert first.startswith("our/model: config.json has git sha1 0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc, should have 9e26dfeeb6e641a3")
    assert second.startswith("our/model: model.safetensors has sha256 ") and second.endswith("; run `asum fetch ours` to repair")
    assert (folder / "model.safetensors").read_bytes() == b"12346"


def test_check_of_all_leaves_out_what_is_not_fetched_and_of_a_name_does_not(cache):
    assert hub.check(["all"]) == []
    assert hub.check(["whisper-tiny"])[0].faults == ("openai/whisper-tiny is not fetched: run `asum fetch whisper-tiny`",)


def test_a_part_is_found_without_the_others(cache, pins_in_parts):
    folder = put(cache, "datasets--our--speech", "1" * 40, "test/0000.parquet", b"rows")
    assert hub.snapshot("speech") == hub.snapshot("our/speech") == folder
    with pytest.raises(
        InputError,
        match=r"^our/speech is not fetched as a whole \(train/0000.parquet, train/0001.parquet missing\): run `asum fetch speech-train`$",
    ):
        hub.snapshot("speech-train")
    for shard in ("0000", "0001"):
        put(cache, "datasets--our--speech", "1" * 40, f"train/{shard}.parquet", shard.encode())
    assert hub.snapshot("speech-train") == folder


def test_a_part_that_is_there_says_nothing_of_the_other(cache, pins_in_parts):
    put(cache, "datasets--our--speech", "1" * 40, "test/0000.parquet", b"rows")
    assert [(row["name"], row["size"], row["here"]) for row in hub.listing()] == [
        ("speech", "4 bytes", "fetched"),
        ("speech-train", "not known before the fetch", "no"),
    ]
    assert [(outcome.repository.name, outcome.faults) for outcome in hub.check(["all"])] == [("speech", ())]
    assert hub.check(["speech-train"])[0].faults == ("our/speech is not fetched: run `asum fetch speech-train`",)
    put(cache, "datasets--our--speech", "1" * 40, "train/0001.parquet", b"rows")
    assert [row["here"] for row in hub.listing()] == ["fetched", "in part"]
    assert hub.check(["all"])[1].faults == ("our/speech: train/0000.parquet is missing; run `asum fetch speech-train` to repair",)


def test_a_file_whose_content_was_removed_from_the_cache_is_missed(cache, pins_in_parts):
    folder = put(cache, "datasets--our--speech", "1" * 40, "test/0000.parquet", b"rows")
    (folder / "test" / "0000.parquet").resolve().unlink()
    assert hub.check(["all"])[0].faults == ("our/speech: test/0000.parquet is missing; run `asum fetch speech` to repair",)
    with pytest.raises(InputError, match=r"\(test/0000.parquet missing\): run `asum fetch speech`$"):
        hub.snapshot("speech")


def test_a_damaged_lock_is_named(cache, tmp_path):
    (tmp_path / "asum").mkdir()
    (tmp_path / "asum" / "hub.lock.yaml").write_text("a/b@main: 3")
    with pytest.raises(InputError, match=r"hub\.lock\.yaml is damaged: remove it, and run `asum fetch` again"):
        hub.snapshot("a/b")


@pytest.mark.parametrize(
    "environment", [{}, {"HF_HOME": "/a"}, {"HF_HUB_CACHE": "/b", "HF_HOME": "/a"}, {"HUGGINGFACE_HUB_CACHE": "~/c"}, {"XDG_CACHE_HOME": "/d"}]
)
def test_the_cache_folder_is_the_one_that_huggingface_hub_uses(environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_", "XDG_"))}
    code = "from asum_lib import hub; from huggingface_hub import constants; print(hub.cache_folder(), constants.HF_HUB_CACHE)"
    ours, theirs = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True).stdout.split()
    assert ours == theirs


def test_sizes_are_said_in_powers_of_ten():
    assert [hub.megabytes(n) for n in (17, 1983, 151_061_672, 6_173_370_152)] == ["17 bytes", "1.98 kB", "151 MB", "6.17 GB"]
