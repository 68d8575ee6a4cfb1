"""The mini ladder: Whisper's five sizes with width and depth divided by eight, and what is known of the real ones.

A rung is a real `WhisperForConditionalGeneration`; only the numbers in its configuration are small. Its window is 4 s
instead of 30 s and its log-mel frames are 20 ms apart instead of 10 ms, which halves the encoder's work.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from asum_lib.paths import CHECKPOINTS

SIZES = ("tiny", "base", "small", "medium", "large")
WINDOW_S = 4
HOP_SAMPLES = 320
MAX_TOKENS = 64
VOCABULARY_SIZE = 600
SPECIAL_TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")


@dataclass(frozen=True)
class Rung:
    """Architecture and pre-training of one mini size. `peak_lr` is the highest rate of its one-cycle schedule."""

    width: int
    layers: int  # in the encoder, and as many in the decoder
    heads: int
    steps: int
    peak_lr: float
    real_peak_lr: float  # of the real size: Radford et al. 2022, table of training hyper-parameters


LADDER = {
    "tiny": Rung(width=48, layers=1, heads=3, steps=8_000, peak_lr=2e-3, real_peak_lr=1.5e-3),
    "base": Rung(width=64, layers=1, heads=4, steps=8_000, peak_lr=2e-3, real_peak_lr=1e-3),
    "small": Rung(width=96, layers=2, heads=6, steps=10_000, peak_lr=2e-3, real_peak_lr=5e-4),
    "medium": Rung(width=128, layers=3, heads=8, steps=10_000, peak_lr=1.5e-3, real_peak_lr=2.5e-4),
    "large": Rung(width=160, layers=4, heads=10, steps=12_000, peak_lr=1.5e-3, real_peak_lr=1.75e-4),
}


def checkpoint(size: str) -> Path:
    """Folder of a shipped mini checkpoint."""
    return CHECKPOINTS / f"whisper-{size}"


def extractor():
    """The ladder's `WhisperFeatureExtractor`."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=80, sampling_rate=16_000, hop_length=HOP_SAMPLES, chunk_length=WINDOW_S)


def tokenizer(texts):
    """A byte-level BPE `WhisperTokenizer` trained on `texts`; small, so that rare words are spelled from pieces."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import WhisperTokenizer

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS), special_tokens=[], show_progress=False)
    model = json.loads(bpe.to_str())["model"]
    result = WhisperTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])
    result.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    result.set_prefix_tokens()
    return result


def untrained(size: str, tokens):
    """A randomly initialised rung for the tokenizer `tokens`, ready to train and to `generate`."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    rung = LADDER[size]
    end, start, no_timestamps = tokens.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    config = WhisperConfig(
        vocab_size=len(tokens),
        d_model=rung.width,
        encoder_layers=rung.layers,
        decoder_layers=rung.layers,
        encoder_attention_heads=rung.heads,
        decoder_attention_heads=rung.heads,
        encoder_ffn_dim=4 * rung.width,
        decoder_ffn_dim=4 * rung.width,
        max_source_positions=WINDOW_S * 16_000 // HOP_SAMPLES // 2,
        max_target_positions=MAX_TOKENS,
        num_mel_bins=80,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=MAX_TOKENS, is_multilingual=False, no_timestamps_token_id=no_timestamps, return_timestamps=False, **special
    )
    return model
