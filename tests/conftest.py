"""Shared fixtures: real data where it is at hand, and records made up from literal error counts."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from asum_lib.paths import REPOSITORY
from asum_lib.study import records
from asum_lib.study.cells import make_cell

SIGNATURE = "wer|norm:none|pool:corpus|scorer:made-up"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings: `$ASUM_REAL_DATA`, else `../shared/real` beside the repository."""
    folder = Path(os.environ.get("ASUM_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ASUM_REAL_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def real_tiny(real_data, tmp_path_factory) -> Path:
    """A checkpoint folder as the Hub lays it out: the real tiny architecture and tokenizer, random weights, texts of up to 20 tokens."""
    from asum_lib.models.real import random_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "whisper-tiny-random"
    return random_checkpoint(folder, "tiny", real_data / "tokenizers" / "whisper", max_length=20)


@pytest.fixture(scope="session")
def whisper_tiny_en() -> Path:
    """The published Whisper tiny.en, in the folder that `$ASUM_WHISPER_TINY_EN` names."""
    return _weights("ASUM_WHISPER_TINY_EN")


@pytest.fixture(scope="session")
def whisper_base() -> Path:
    """The published multilingual Whisper base, in the folder that `$ASUM_WHISPER_BASE` names."""
    return _weights("ASUM_WHISPER_BASE")


def _weights(variable: str) -> Path:
    folder = Path(os.environ.get(variable, ""))
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no published weights: {variable} names no folder with them")
    return folder


@pytest.fixture
def the_hub():
    """A Hub on this machine with one model and one data set."""
    from fake_hub import FakeHub, serve
    from hub_machine import COMMIT, MODEL

    content = {"our/model": {COMMIT: MODEL}, "datasets/our/speech": {COMMIT: {"data/test.parquet": b"rows"}}}
    with serve(FakeHub(content, dict.fromkeys(content, COMMIT))) as hub:
        yield hub


@pytest.fixture
def machine(tmp_path, the_hub):
    """A machine with an empty cache, and one model that is pinned to what `the_hub` holds."""
    from hub_machine import Machine

    return Machine(tmp_path, the_hub.url)


@pytest.fixture
def add_record(tmp_path) -> Callable[..., Path]:
    """Writes a made-up record under `tmp_path / "results"` from word errors an utterance, each of `words` words; returns its path.

    `dev` is {epoch: errors an utterance}. A `reason` makes a failed record.
    """

    def add(
        size="tiny",
        precision="fp32",
        method="none",
        *,
        rate="1/40",
        seed=0,
        errors: Sequence[int] = (1, 0),
        words=10,
        dev: dict[int, Sequence[int]] | None = None,
        corpus="howto",
        signature=SIGNATURE,
        reason=None,
        first_id=0,
    ) -> Path:
        cell = make_cell(size, precision, method, rate=rate, seed=seed, corpus=corpus)
        path = cell.path(tmp_path / "results")
        samples = [_test_row(first_id + i, count, words) for i, count in enumerate(errors)]
        for epoch, counts in (dev or {}).items():
            samples += [_dev_row(epoch, i, count, words) for i, count in enumerate(counts)]
        value = 100 * sum(errors) / (words * len(errors))
        records.write(
            records.Record(
                schema=records.SCHEMA,
                fingerprint=records.fingerprint(cell.as_dict(), {"corpus": corpus}, "no checkpoint", signature),
                table=cell.table,
                scale=cell.scale,
                status="failed" if reason else "ok",
                reason=reason,
                cell=cell.as_dict(),
                config={},
                metrics={} if reason else {"wer_pct": records.Metric(value, value, value, "%", "lower", signature, len(errors))},
                memory_bytes=records.unmeasured(records.MEMORY_BYTES, weights=4_000),
                params=records.unmeasured(records.PARAMS, total=1_000, trainable=0 if method == "none" else 100),
                time_s=records.unmeasured(records.TIME_S),
                audio_s=2.0 * len(errors),
                rtfx=None,
                history=[],
                samples=None,
                provenance=dict.fromkeys(records.PROVENANCE),
            ),
            path,
            [] if reason else samples,
        )
        return path

    return add


def _test_row(number: int, errors: int, words: int) -> dict:
    said = [f"w{i}" for i in range(words)]
    heard = ["x"] * errors + said[errors:]
    return {
        "split": "test",
        "id": f"u{number:04d}",
        "reference": " ".join(said),
        "hypothesis": " ".join(heard),
        "substitutions": errors,
        "insertions": 0,
        "deletions": 0,
        "words": words,
        "duration_s": 2.0,
    }


def _dev_row(epoch: int, number: int, errors: int, words: int) -> dict:
    return {"split": "dev", "epoch": epoch, "id": f"d{number:04d}", "hypothesis": "", "errors": errors, "words": words}
