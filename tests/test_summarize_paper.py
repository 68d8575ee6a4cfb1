"""`asum summarize` at scale paper: real formats, tokenizers and recordings through the real architectures, with random weights."""

import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile

from asum_lib import cli, systems
from asum_lib.models import catalogue, checkpoint, recognize, summarize
from asum_lib.models.summarize import Decoding


@pytest.fixture(scope="session")
def random_t5(real_data, tmp_path_factory):
    """A T5 of few layers with the real tokenizer and its 32,128 pieces."""
    folder = catalogue.write_random(tmp_path_factory.mktemp("t5") / "t5", catalogue.shallow(catalogue.config("t5-small"), 1))
    for path in (real_data / "tokenizers" / "t5").iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def random_bart(tmp_path_factory):
    """A small BART as its repository is laid out: vocab.json and merges.txt, no settings of a tokenizer."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BartConfig

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["the lecture is about the taste of tea and of toast"] * 3, vocab_size=300, special_tokens=special, show_progress=False)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(vocab_size=bpe.get_vocab_size(), d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, **sizes)
    folder = catalogue.write_random(tmp_path_factory.mktemp("bart") / "bart", config)
    bpe.save_model(str(folder))
    return folder


@pytest.fixture(scope="session")
def chapter(real_data, tmp_path_factory):
    """Eight utterances of a LibriSpeech chapter in one FLAC file, a second of silence between two."""
    folder = real_data / "librispeech-84-121123"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()][:8]
    parts = [part for line in lines for part in (soundfile.read(folder / line["audio"])[0], np.zeros(16_000))]
    path = tmp_path_factory.mktemp("chapter") / "chapter.flac"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


@pytest.fixture
def believing(monkeypatch):
    """Random weights write nothing that is probable: here it is taken for speech all the same."""
    monkeypatch.setattr(recognize, "PAPER", recognize.Bounds(-np.inf, -np.inf))
    monkeypatch.setattr(recognize, "MOST_COMPRESSION", np.inf)


def test_a_chapter_of_librispeech_is_heard_in_full_windows(real_tiny, random_t5, chapter, capsys, believing):
    given = ["--scale", "paper", "--asr", str(real_tiny), "--summarizer", str(random_t5), "--precision", "fp32", "--format", "json"]
    assert cli.main(["summarize", str(chapter), *given]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["audio_s"] == pytest.approx(soundfile.info(chapter).duration, abs=0.01) and found["summary"]
    segments = found["segments"]
    assert 2 <= len(segments) < 8  # fewer than utterances: neighbours share a window of 30 s
    assert all(segment["end_s"] - segment["start_s"] <= 30 for segment in segments)
    assert all(a["end_s"] <= b["start_s"] for a, b in itertools.pairwise(segments))


def test_a_recording_of_parliament_is_heard_at_int8(real_tiny, random_t5, real_data, believing):
    folder = real_data / "voxpopuli-dev"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    longest = max(lines, key=lambda line: line["duration_s"])
    answer = systems.load(scale="paper", asr=str(real_tiny), summarizer=str(random_t5))(folder / longest["audio"])
    assert answer.audio_s == pytest.approx(longest["duration_s"], abs=0.1) and answer.audio_s > 30
    assert len(answer.segments) >= 2 and answer.summary


def test_bart_summarises_and_a_text_longer_than_it_reads_is_cut(random_bart):
    from asum_lib.models.long_text import summarize_long

    checkpoint.check_text(random_bart)
    loaded = summarize.load(str(random_bart), "fp32", "en")
    assert loaded.family == "bart" and summarize.encode(loaded.tokenizer, "bart", ["the tea"], 64)[0][0] == loaded.tokenizer.bos_token_id
    text = " ".join(["The lecture is about tea."] * 60)
    (found,) = summarize_long(loaded, [text], Decoding(max_source_tokens=1024, max_new_tokens=8))
    assert len(found.parts) > 1 and "".join(text[start:stop] for start, stop, _ in found.parts) == text


def test_without_fetched_models_it_is_said_how_to_get_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert cli.main(["summarize", str(tmp_path / "a.wav"), "--scale", "paper"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is not fetched: run `asum fetch whisper-small`" in err and err.count("\n") == 1
