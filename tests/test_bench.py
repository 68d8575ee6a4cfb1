"""The benchmark's arithmetic and its page: ratios as they are said, and nothing where nothing was measured."""

import json
import sys

import pytest

from asum_lib.paths import REPOSITORY
from asum_lib.study import render_paper

sys.path.insert(0, str(REPOSITORY / "bench"))

REPORT = {
    "transcription": [
        {
            "what": "mini large",
            "utterances": 2,
            "audio_s": 10.0,
            "rounds": 3,
            "systems": [
                {"name": "ours", "audio_s_per_s": 10.0, "times_s": [1, 1, 1], "ratio": None, "ratio_lo": None, "ratio_hi": None, "texts_differ": 0},
                {"name": "<other>", "audio_s_per_s": 5.0, "times_s": [2, 2, 3], "ratio": 2.0, "ratio_lo": 2.0, "ratio_hi": 3.0, "texts_differ": 1},
            ],
        }
    ],
    "encoder": [{"what": "mini large", "windows": 8, "gflop_per_window": 0.5, "encoder_gflop_s": 50.0, "peak_gflop_s": 100.0}],
    "profile": [{"what": "mini large", "windows": 64, "encoder_share": 0.6, "operators": {"addmm": 0.5}}],
    "row": [{"size": "tiny", "ours_s": 10.0, "plain_s": 35.0, "cells": [{"cell": "a", "ours_wer_pct": 1.0, "plain_wer_pct": 1.25}]}],
    "threads": 1,
    "left_out": ["real tiny: no real speech"],
    "provenance": {
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "packages": dict.fromkeys(("torch", "transformers", "bitsandbytes", "ctranslate2"), "1.0"),
        "python": "3.11",
        "cpu": "a processor",
        "threads": 1,
        "accelerator": None,
        "finished_at": "2025-01-31T12:00:00+00:00",
    },
}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(REPORT))
    return tmp_path


def test_the_page_shows_each_ratio_with_its_rounds(results):
    shown = render_paper.bench_transcription(results).data
    assert "2.00 (2.00 to 3.00)" in shown
    assert "&lt;other&gt;" in shown
    assert "50 %" in render_paper.bench_encoder(results).data
    assert "3.50 times as fast" in render_paper.bench_row(results).data
    assert "addmm 50 %" in render_paper.bench_profile(results).data
    assert "Left out: real tiny: no real speech." in render_paper.bench_machine(results).data


@pytest.mark.parametrize("name", ["bench_machine", "bench_transcription", "bench_encoder", "bench_profile", "bench_row"])
def test_the_page_says_where_nothing_was_measured(tmp_path, name):
    assert "Not measured yet" in getattr(render_paper, name)(tmp_path).data


def test_the_terminal_gets_the_same_figures():
    import bench_whisper

    text = bench_whisper.as_text(REPORT)
    assert "ours is 2.00x (2.00 to 3.00), 1 texts differ" in text
    assert "50 of 100 GFLOP/s, 50 % of a large matrix product" in text
    assert "row tiny: 10 s, plain script 35 s: 3.50x" in text
    assert "left out: real tiny" in text


@pytest.mark.slow
def test_three_utterances_run_through_every_system_to_the_same_texts():
    import bench_whisper

    from asum_lib.corpora import load_corpus

    corpus = bench_whisper._first(load_corpus("howto", "test"), 3)
    section = bench_whisper.transcription("mini large", str(REPOSITORY / "checkpoints" / "whisper-tiny"), corpus, rounds=1)
    assert [system["name"] for system in section["systems"]][:2] == ["ours", "transformers pipeline"]
    assert len(section["systems"]) == 2 + len(bench_whisper.CTRANSLATE2_BATCHES) + 1
    assert [system["texts_differ"] for system in section["systems"]] == [0, 0, 0, 0, 0]
    assert all(system["ratio"] > 0 for system in section["systems"][1:])
