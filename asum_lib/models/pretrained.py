"""The one way from a folder to the objects of transformers and PEFT, by which no code and no pickle of the folder is ever run.

A checkpoint can name Python files of its own (`auto_map`), kernels to fetch (`attn_implementation`), and an adapter a module to
import (`megatron_core`). All of it is left alone or refused here, whatever standard input answers. What makes a checkpoint
or an adapter whole is `asum_lib.models.checkpoint` and `asum_lib.models.adapted`.
"""

import json
from pathlib import Path

from asum_lib.errors import InputError

ATTENTION = ("eager", "sdpa", "flash_attention_2", "flex_attention")  # transformers' own
QUANTISER = "bitsandbytes"
_FETCHED_DECODING = ("penalty_alpha", "dola_layers", "num_beam_groups", "constraints", "force_words_ids")
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def config(folder: Path):
    """transformers' configuration of a checkpoint folder. Raises InputError where it cannot be read, or asks for code."""
    from transformers import AutoConfig

    try:
        read = AutoConfig.from_pretrained(str(folder), **_LOCAL)
    except Exception as error:  # a wrong value shows as whatever its use raises
        raise InputError(f"checkpoint {folder}: config.json cannot be read ({_reason(error)})") from error
    attention = getattr(read, "_attn_implementation", None)
    if attention is not None and attention not in ATTENTION:
        raise InputError(
            f"checkpoint {folder}: config.json asks for the attention {attention!r}, which is code to fetch: {' or '.join(ATTENTION[:2])} is right"
        )
    quantised = getattr(read, "quantization_config", None)
    if quantised is not None and (not isinstance(quantised, dict) or quantised.get("quant_method") != QUANTISER):
        raise InputError(f"checkpoint {folder}: its weights are quantised, and not by {QUANTISER}: give the unquantised checkpoint")
    return read


def generation_config(folder: Path):
    """The decoding that a checkpoint folder asks for. Raises InputError where transformers would fetch code for it."""
    from transformers import GenerationConfig

    read = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    for name in _FETCHED_DECODING:
        if (value := getattr(read, name, None)) not in (None, 1, False):
            raise InputError(f"checkpoint {folder}: generation_config.json asks for {name} {value!r}, whose decoding is code to fetch: remove it")
    return read


def tokenizer(folder: Path, kind: str = "AutoTokenizer"):
    """A tokenizer of transformers' own; `kind` is the name of its class. Raises InputError."""
    return _part(folder, kind, "tokenizer")


def feature_extractor(folder: Path, kind: str = "WhisperFeatureExtractor"):
    """What turns audio into a model's input. Raises InputError."""
    return _part(folder, kind, "feature extractor")


def model(kind, described, weights, **options):
    """A model of the class `kind` by its configuration, and `weights` as {name: what is read when it is indexed}."""
    return kind.from_pretrained(None, config=described, state_dict=weights, trust_remote_code=False, use_safetensors=True, **options)


def adapter(base, folder: Path, **options):
    """The PEFT model of a loaded `base` and the adapter in `folder`. Raises InputError where it asks for code, else what PEFT raises."""
    from peft import PeftModel

    refuse_code(folder, json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8")))
    return PeftModel.from_pretrained(base, str(folder), torch_device=str(base.device), local_files_only=True, **options)


def refuse_code(folder: Path, said: dict) -> None:
    """Refuse the configuration `said` of an adapter by which PEFT would import a module that it names. Raises InputError."""
    if said.get("megatron_config"):
        raise InputError(f"adapter {folder}: adapter_config.json has a megatron_config, whose code would be run: save the adapter without it")


def _part(folder: Path, kind: str, what: str):
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(str(folder), **_LOCAL)
    except Exception as error:  # a damaged file shows as whatever its parser raises
        raise InputError(f"checkpoint {folder}: its {what} cannot be read ({_reason(error)}): fetch it again") from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
