"""Scale `paper` on real formats: the real tiny architecture and tokenizer, random weights, real speech."""

import json
import shutil

import pytest

from asum_lib.study import records, whisper_quant


@pytest.mark.slow
def test_a_real_checkpoint_folder_hears_real_speech(real_tiny, real_data, tmp_path):
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
        model=str(real_tiny),
        results_dir=str(tmp_path / "results"),
    )
    assert [record.status for record in row.records] == ["ok", "ok"]
    assert row.paths[0].parent.parent == tmp_path / "results" / "paper"
    assert row.paths[0].parent.name.startswith("format_check")  # random weights are kept out of the study's tables
    assert row.paths[0].name == "whisper-tiny-random-tiny-fp32-none-s0.json"
    assert row.records[0].metrics["wer_pct"].signature.startswith("wer|norm:whisper-en")
    assert [sample["reference"] for sample in records.read_samples(row.paths[0])] == [line["text"] for line in lines]
