"""The real Whisper sizes: their configurations in code, and checkpoint folders of them with random weights.

Such a folder has the Hub's layout and the real architecture, so it proves formats, loading and speed where the published
weights are out of reach. What it writes means nothing, and its config.json says so. Real weights come from `asum_lib.hub`.

    python -m asum_lib.models.real FOLDER --size tiny --tokenizer DIR [--shards N]
"""

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.models import checkpoint, pretrained

NOTE = "random weights, format check only"
DTYPES = ("float32", "float16", "bfloat16")
TOKENIZER_FILES = tuple(name for name in checkpoint.SETTINGS if name not in ("config.json", "generation_config.json", "preprocessor_config.json"))


@dataclass(frozen=True)
class Architecture:
    """Numbers of one real size, and the shape of its published checkpoint."""

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    vocabulary: int = 51_865
    mel_bins: int = 80


# Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", Table 1. The English-only models have one
# token fewer; large-v3 has 128 mel bins and one language more, and turbo is large-v3 with four decoder layers.
ARCHITECTURES = {
    "tiny": Architecture(384, 4, 4, 6),
    "base": Architecture(512, 6, 6, 8),
    "small": Architecture(768, 12, 12, 12),
    "medium": Architecture(1024, 24, 24, 16),
    "large": Architecture(1280, 32, 32, 20),
    "large-v2": Architecture(1280, 32, 32, 20),
    "large-v3": Architecture(1280, 32, 32, 20, vocabulary=51_866, mel_bins=128),
    "turbo": Architecture(1280, 32, 4, 20, vocabulary=51_866, mel_bins=128),
    "tiny.en": Architecture(384, 4, 4, 6, vocabulary=51_864),
    "base.en": Architecture(512, 6, 6, 8, vocabulary=51_864),
    "small.en": Architecture(768, 12, 12, 12, vocabulary=51_864),
    "medium.en": Architecture(1024, 24, 24, 16, vocabulary=51_864),
}


def repository(size: str) -> str:
    """The Hub's name of a size, e.g. `openai/whisper-tiny.en`; turbo is published as large-v3-turbo."""
    choose("size", size, ARCHITECTURES)
    return f"openai/whisper-{'large-v3-turbo' if size == 'turbo' else size}"


def config(size: str):
    """The `WhisperConfig` of a real size. Windows of 30 s (1,500 encoder positions), texts of up to 448 tokens."""
    from transformers import WhisperConfig

    numbers = ARCHITECTURES[choose("size", size, ARCHITECTURES)]
    end = 50_256 if size.endswith(".en") else 50_257
    return WhisperConfig(
        vocab_size=numbers.vocabulary,
        num_mel_bins=numbers.mel_bins,
        d_model=numbers.width,
        encoder_layers=numbers.encoder_layers,
        decoder_layers=numbers.decoder_layers,
        encoder_attention_heads=numbers.heads,
        decoder_attention_heads=numbers.heads,
        encoder_ffn_dim=4 * numbers.width,
        decoder_ffn_dim=4 * numbers.width,
        max_source_positions=1500,
        max_target_positions=448,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=end + 1,
        begin_suppress_tokens=[220, end],
        architectures=["WhisperForConditionalGeneration"],
    )


def random_checkpoint(
    folder: Path,
    size: str,
    tokenizer_folder: Path,
    seed: int = 0,
    shards: int | None = None,
    dtype: str = "float32",
    max_length: int = 448,
) -> Path:
    """Write a checkpoint of the real `size` with random weights into the new folder `folder`; returns it.

    The tokenizer is copied from `tokenizer_folder`, and all token ids follow from it. `shards` splits the weights into as many
    files and an index. `max_length` is the longest text that decoding writes, in tokens: random weights never end one.
    The same seed gives the same weights.
    """
    import torch
    from transformers import WhisperForConditionalGeneration

    folder, tokenizer_folder = Path(folder), Path(tokenizer_folder)
    resolved = config(size)
    choose("dtype", dtype, DTYPES)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder {folder} is there already: name a new or an empty one")
    if not any((tokenizer_folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise InputError(f"tokenizer {tokenizer_folder}: no tokenizer.json or vocab.json there")
    tokenizer = pretrained.tokenizer(tokenizer_folder, "WhisperTokenizer")
    if len(tokenizer) > resolved.vocab_size:
        raise InputError(f"tokenizer {tokenizer_folder}: {len(tokenizer)} tokens, but Whisper {size} has {resolved.vocab_size}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    described = write_settings(folder, size, tokenizer, max_length, dtype, {"asum_note": NOTE})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = WhisperForConditionalGeneration(described).to(getattr(torch, dtype)).state_dict()
    weights.pop("proj_out.weight")  # the same tensor as the embedding
    save_weights(folder, weights, shards)
    return folder


def write_settings(
    folder: Path,
    size: str,
    tokenizer,
    max_length: int = 448,
    dtype: str = "float32",
    notes: dict | None = None,
    generation: dict | None = None,
):
    """Write config.json, generation_config.json and preprocessor_config.json of a real size.

    All token ids follow from `tokenizer`. `notes` goes into config.json too, and `generation` into
    generation_config.json. Returns the `WhisperConfig`.
    """
    from transformers import WhisperFeatureExtractor

    described = config(size)
    decoding = _generation(tokenizer, size, max_length) | (generation or {})
    both = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    both += ("suppress_tokens", "begin_suppress_tokens")
    described.update({name: decoding[name] for name in both})
    WhisperFeatureExtractor(feature_size=described.num_mel_bins).save_pretrained(folder)
    # The published files name the forced ids, the length and the dtype in this older way; a reader must cope with them.
    older = {"forced_decoder_ids": decoding["forced_decoder_ids"], "max_length": max_length}
    older |= {"torch_dtype": dtype} | (notes or {})
    values = {name: value for name, value in described.to_dict().items() if name != "dtype"}
    _write_json(folder / "config.json", values | older)
    _write_json(folder / "generation_config.json", decoding)
    return described


def save_weights(folder: Path, weights: dict, shards: int | None = None) -> None:
    """Write a state dictionary as model.safetensors, or as `shards` numbered files with model.safetensors.index.json."""
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if shards is None:
        save_file(weights, folder / checkpoint.WEIGHTS, metadata={"format": "pt"})
        return
    if not 1 <= shards <= len(weights):
        raise InputError(f"shards {shards!r} is not between 1 and {len(weights)}, the number of weights")
    names, places = list(weights), {}
    for number in range(shards):
        held = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(held, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    _write_json(folder / checkpoint.INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _generation(tokenizer, size: str, max_length: int) -> dict:
    """generation_config.json as the published checkpoints have it, with the ids of this tokenizer."""
    from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    vocabulary = tokenizer.get_vocab()

    def identity(token: str) -> int:
        if token not in vocabulary:
            raise InputError(f"tokenizer of Whisper {size}: no token {token}: take the folder of the published {repository(size)}")
        return vocabulary[token]

    end, start, no_timestamps = map(identity, ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"))
    tasks = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|nocaptions|>")
    special = [vocabulary[token] for token in tasks if token in vocabulary]
    text = [token for token in (NON_SPEECH_TOKENS if size.endswith(".en") else NON_SPEECH_TOKENS_MULTI) if token < end]
    result = {
        "begin_suppress_tokens": [token for token in (vocabulary.get("Ġ"), end) if token is not None],
        "bos_token_id": end,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "forced_decoder_ids": [[1, no_timestamps]],
        "is_multilingual": not size.endswith(".en"),
        "max_initial_timestamp_index": 50,
        "max_length": max_length,
        "no_timestamps_token_id": no_timestamps,
        "pad_token_id": end,
        "return_timestamps": False,
        "suppress_tokens": sorted({*text, start, *special}),
    }
    if "<|startofprev|>" in vocabulary:
        result["prev_sot_token_id"] = vocabulary["<|startofprev|>"]
    if result["is_multilingual"]:
        transcribe = identity("<|transcribe|>")
        result["lang_to_id"] = {f"<|{code}|>": vocabulary[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in vocabulary}
        result["task_to_id"] = {"transcribe": transcribe, "translate": identity("<|translate|>")}
        result["forced_decoder_ids"] = [[1, None], [2, transcribe]]
        identity("<|en|>")
    return result


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command: writes the folder and prints its path."""
    parser = argparse.ArgumentParser(prog="python -m asum_lib.models.real", description="Write a Whisper checkpoint folder with random weights.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new folder of the checkpoint")
    parser.add_argument("--size", required=True, metavar="SIZE", help=", ".join(ARCHITECTURES))
    parser.add_argument("--tokenizer", required=True, type=Path, metavar="DIR", help="folder of a Whisper tokenizer")
    parser.add_argument("--shards", type=int, metavar="N", help="split the weights into N files (default: one file)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random weights (default: 0)")
    parser.add_argument("--dtype", default="float32", help="float32 (default), float16 or bfloat16")
    parser.add_argument("--max-length", type=int, default=448, metavar="N", help="longest text in tokens (default: 448)")
    given = parser.parse_args(arguments)
    try:
        folder = random_checkpoint(given.folder, given.size, given.tokenizer, given.seed, given.shards, given.dtype, given.max_length)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
