"""The page on `asum summarize`: every figure from a file, and nothing where nothing was measured."""

import json

import pytest

from asum_lib.study import render_summarize

MADE = {
    "git_commit": "0123456789abcdef",
    "git_dirty": False,
    "packages": dict.fromkeys(("torch", "transformers", "bitsandbytes"), "1.0"),
    "cpu": "a <processor>",
    "finished_at": "2025-01-31T12:00:00+00:00",
}
TIME_S = {"load": 4.0, "read": 0.1, "transcribe": 1.0, "summarize": 0.5}


def row(recording, audio_s, wall_s, memory_mb):
    about = {
        "system": "cascade",
        "precision": "int8",
        "recording": recording,
        "audio_s": audio_s,
        "wall_s": wall_s,
        "processor_s": [5.0],
        "load_before": 0.25,
    }
    return about | {"time_s": TIME_S, "memory_bytes": round(memory_mb * 1e6), "segments": 3, "summary_words": 20}


@pytest.fixture
def results(tmp_path):
    rows = [row("a minute", 60.0, [6.0, 8.0, 7.0], 500), row("ten minutes", 600.0, [12.0], 510), row("three hours", 6_000.0, [120.0], 512.5)]
    (tmp_path / "summarize.json").write_text(json.dumps({"rows": rows, "cores": 2, "provenance": MADE}))
    score = {"value": 9.5, "lo": 7.0, "hi": 12.0, "n": 172, "signature": "wer"}
    hearer = {"part": "hearer", "method": "adalora", "rank": 8, "targets": "qkv", "learning_rate": 0.0015, "epochs": 6, "copies": 4, "seed": 0}
    (tmp_path / "adapter_choices.json").write_text(json.dumps({"rows": [hearer | {"before_wer_pct": 85.3, "wer_pct": score}]}))
    return tmp_path


def test_times_have_their_spread_their_runs_and_their_machine(results):
    shown = render_summarize.times(results).data
    assert "<td>7.0 (6.0 to 8.0)</td><td>5.0</td><td>0.2</td><td>3</td><td>9</td><td>500</td>" in shown
    assert "<td>120.0</td><td>5.0</td><td>0.2</td><td>1</td><td>50</td>" in shown and "imports and models 4.0" in shown
    assert "a &lt;processor&gt;, 2 cores" in shown and "summarize.json" in shown


def test_the_growth_of_memory_is_of_the_long_recordings(results):
    assert "10 times as long took +2 MB at the peak, 512 MB instead of 510 MB" in render_summarize.growth(results).data


def test_choices_show_what_was_tried_with_intervals(results):
    shown = render_summarize.choices("hearer", results).data
    assert "<td>adalora, rank 8, qkv</td><td>0.0015</td><td>6</td><td>4</td><td>9.5 (7.0 to 12.0)</td><td>172</td><td>0</td>" in shown
    assert "Before training: 85.3 %." in shown


def test_the_shipped_adapters_are_listed_by_their_notes():
    shown = render_summarize.adapters().data
    assert "whisper-medium-int8-adalora" in shown and "t5-talks-adalora" in shown and "WER" in shown and "ROUGE-1" in shown


def test_the_page_says_where_nothing_was_measured(tmp_path):
    for shown in (render_summarize.times, render_summarize.growth):
        assert "Not measured yet" in shown(tmp_path).data
    assert "Not measured yet" in render_summarize.choices("summarizer", tmp_path).data
