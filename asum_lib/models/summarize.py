"""A text model that summarises: its checkpoint in a precision, texts to token ids, and summaries by `generate`.

T5 reads `summarize: ` before the text, as it was published; mBART reads and writes the language's own token; BART reads the text
alone. How a model is loaded and quantised is `asum_lib.models.loading`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asum_lib.errors import InputError
from asum_lib.models import pretrained
from asum_lib.models.text_ladder import LANGUAGE_CODES
from asum_lib.paths import CHECKPOINTS

WRITES = {"t5": ("en",), "mbart": ("en", "ru")}  # the shipped ones
ENGLISH_ALONE = ("bart-large-cnn", "bart-large-xsum", "models--google-t5--", "models--facebook--bart-")  # in the names of published checkpoints
_CODE = re.compile(r"[a-z]{2,3}_[A-Z]{2}")
MOST_UNSPELLED = 0.1  # of a text's tokens that a tokenizer has no piece for
PROBE = "a tea, чай, 茶, 1"  # something of which every tokenizer can spell
PREFIX = {"t5": "summarize: ", "mbart": "", "bart": ""}


@dataclass(frozen=True)
class Decoding:
    """How summaries are written; a part of the configuration, since each of these moves the output."""

    batch_size: int = 64
    beams: int = 1
    max_source_tokens: int = 400
    max_new_tokens: int = 100
    no_repeat_ngram: int = 0


@dataclass(frozen=True)
class Summarizer:
    """A loaded model with its tokenizer; `family` is t5, mbart or bart, `language` a code such as en or ru."""

    model: object
    tokenizer: object
    family: str
    language: str


def load(where: str, precision: str, language: str, scale: str = "paper") -> Summarizer:
    """Load and quantise the checkpoint `where`: a folder, or the name of a fetched Hub repository."""
    from asum_lib.models.loading import compute_dtype, device, folder_of, load_model

    folder = folder_of(where)
    model, tokenizer = load_model(folder, precision, compute_dtype(precision, scale), device(scale)), load_tokenizer(folder, language)
    if len(tokenizer) > model.config.vocab_size:
        stated = f"its tokenizer has {len(tokenizer)} tokens, but config.json's vocab_size is {model.config.vocab_size}"
        raise InputError(f"checkpoint {folder}: {stated}: take both from one checkpoint")
    return Summarizer(model, tokenizer, family_of(model.config), language)


def family_of(config) -> str:
    """`t5`, `mbart` or `bart`; `InputError` for another family."""
    if config.model_type not in PREFIX:
        raise InputError(f"model type {config.model_type!r} does not summarise here: choose from {', '.join(PREFIX)}")
    return config.model_type


def load_tokenizer(folder: Path, language: str):
    """The tokenizer of a checkpoint folder, told the language where it has one; `InputError` where it cannot be read."""
    tokenizer = pretrained.tokenizer(folder)
    if not set(tokenizer(PROBE, add_special_tokens=False).input_ids) - {tokenizer.unk_token_id}:
        raise InputError(f"checkpoint {folder}: its tokenizer knows no letter of {PROBE!r}: fetch it again")
    if hasattr(tokenizer, "src_lang"):
        code = language_code(tokenizer, language)
        if tokenizer.tgt_lang != code:  # a model that was fine-tuned to write it keeps what it was trained to read, be it another code
            tokenizer.src_lang = tokenizer.tgt_lang = code
    return tokenizer


def language_code(tokenizer, language: str) -> str:
    """mBART's token of a language, e.g. `ru_RU`; `InputError` where the model has none."""
    codes = {token.partition("_")[0]: token for token in tokenizer.all_special_tokens if _CODE.fullmatch(token)}
    codes |= LANGUAGE_CODES
    if language not in codes:
        raise InputError(f"language {language!r}: this mBART knows {', '.join(sorted(codes))}")
    return codes[language]


def told(loaded: Summarizer, language: str) -> Summarizer:
    """The same model, told to read and write a language; `InputError` where it is known not to know it, see `languages`."""
    known = languages(loaded)
    if known is not None and language not in known:
        where = loaded.model.config.name_or_path
        raise InputError(f"language {language!r}: the text model {where} knows {', '.join(known)}: choose another with --summarizer")
    if hasattr(loaded.tokenizer, "src_lang"):
        loaded.tokenizer.src_lang = loaded.tokenizer.tgt_lang = language_code(loaded.tokenizer, language)
    return replace(loaded, language=language)


def languages(loaded: Summarizer) -> tuple[str, ...] | None:
    """The languages that a text model is known to write: a shipped one, a published English one, an mBART. None where nothing says."""
    name = loaded.model.config.name_or_path
    if is_mini(loaded):
        return WRITES[loaded.family]
    if loaded.family == "mbart":
        codes = {token.partition("_")[0] for token in loaded.tokenizer.all_special_tokens if _CODE.fullmatch(token)}
        return tuple(sorted(codes | set(LANGUAGE_CODES)))
    return ("en",) if any(published in name for published in ENGLISH_ALONE) else None


def unspelled(loaded: Summarizer, texts: Sequence[str]) -> str | None:
    """Why texts cannot be read: the tokenizer has no pieces for much of them, as T5's has none for Cyrillic. None where it has."""
    ids = [one for row in loaded.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids for one in row]
    share = ids.count(loaded.tokenizer.unk_token_id) / len(ids) if ids else 0.0
    if share <= MOST_UNSPELLED:
        return None
    return f"the text model has no letters for {100 * share:.0f} % of what was heard: no summary is made, choose another with --summarizer"


def is_mini(loaded: Summarizer) -> bool:
    """Whether a loaded model is a shipped one, which knows the words of the generated corpora alone."""
    return Path(loaded.model.config.name_or_path).resolve().parent == CHECKPOINTS.resolve()


def encode(tokenizer, family: str, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of texts to read, cut at `max_tokens`, end token included. White space of any kind is one space."""
    plain = [PREFIX[family] + " ".join(text.split()) for text in texts]
    return tokenizer(plain, truncation=True, max_length=max_tokens).input_ids


def encode_summaries(tokenizer, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
    """Token ids of texts to write, end token included."""
    plain = [" ".join(text.split()) for text in texts]
    return tokenizer(text_target=plain, truncation=max_tokens is not None, max_length=max_tokens).input_ids


def summarize(
    model,
    tokenizer,
    sources: Sequence[list[int]],
    language: str,
    decoding: Decoding = Decoding(),
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """One summary a source (token ids), in order. Batches hold texts of like length; the model is left in evaluation mode."""
    import torch

    from asum_lib.models.loading import unpacked

    model.eval()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    order = sorted(range(len(sources)), key=lambda item: -len(sources[item]))
    written: dict[int, str] = {}
    with torch.inference_mode(), unpacked(base):
        for start in range(0, len(order), decoding.batch_size):
            items = order[start : start + decoding.batch_size]
            inputs, mask = pad([sources[item] for item in items], tokenizer.pad_token_id)
            tokens = base.generate(
                input_ids=inputs.to(base.device), attention_mask=mask.to(base.device), **generation(base.config, tokenizer, language, decoding)
            )
            for item, text in zip(items, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                written[item] = text.strip()
            progress(len(written))
    return [written[item] for item in range(len(sources))]


def generation(config, tokenizer, language: str, decoding: Decoding) -> dict:
    """The arguments of `generate`. mBART is told the language to write in."""
    arguments = {"num_beams": decoding.beams, "do_sample": False, "max_new_tokens": decoding.max_new_tokens, "max_length": None}
    arguments["no_repeat_ngram_size"] = decoding.no_repeat_ngram
    if family_of(config) == "mbart":
        code = tokenizer.convert_tokens_to_ids(language_code(tokenizer, language))
        starts_with_code = config.decoder_start_token_id != config.eos_token_id  # mBART-cc25 starts with it, mBART-50 has it second
        arguments |= {"decoder_start_token_id": code, "forced_bos_token_id": None} if starts_with_code else {"forced_bos_token_id": code}
    return arguments


def pad(rows: Sequence[list[int]], pad_id: int):
    """(ids, mask), each (rows, longest), as tensors."""
    import torch

    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask
