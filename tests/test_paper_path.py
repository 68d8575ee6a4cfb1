"""Scale `paper` on real formats: the real tiny architecture and tokenizer, random weights, real speech."""

import json
import shutil

import pytest

from asum_lib.study import records, whisper_quant


@pytest.fixture(scope="module")
def checkpoint(real_data, tmp_path_factory):
    """A local checkpoint folder as the Hub lays it out, with random weights."""
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("checkpoints") / "whisper-tiny-random"
    shutil.copytree(real_data / "tokenizers" / "whisper", folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=51865, d_model=384, encoder_layers=4, decoder_layers=4))
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": 50259},
        task_to_id={"transcribe": 50359, "translate": 50358},
        no_timestamps_token_id=50363,
        decoder_start_token_id=50258,
        eos_token_id=50257,
        pad_token_id=50257,
        max_length=20,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_real_checkpoint_folder_hears_real_speech(checkpoint, real_data, tmp_path):
    source = real_data / "librispeech-84-121123"
    lines = [json.loads(line) for line in (source / "manifest.jsonl").read_text().splitlines()][:3]
    corpus = tmp_path / "few-real"
    (corpus / "audio").mkdir(parents=True)
    for line in lines:
        shutil.copy(source / line["audio"], corpus / line["audio"])
    (corpus / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = whisper_quant.run(
        size="tiny",
        scale="paper",
        precisions=["fp32", "int8"],
        methods=["none"],
        corpus=str(corpus),
        model=str(checkpoint),
        results_dir=str(tmp_path / "results"),
    )
    assert [record.status for record in row.records] == ["ok", "ok"]
    assert row.paths[0] == tmp_path / "results" / "paper" / "whisper_few-real" / "whisper-tiny-random-tiny-fp32-none-s0.json"
    assert row.records[0].metrics["wer_pct"].signature.startswith("wer|norm:whisper-en")
    assert [sample["reference"] for sample in records.read_samples(row.paths[0])] == [line["text"] for line in lines]
