"""A checkpoint folder before it is loaded: what is wrong with it, what its note says, and the digest of what is read.

Everything here reads files and builds no model with weights. Loading is `asum_lib.models.loading`; fetching is `asum_lib.hub`.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from asum_lib import reading
from asum_lib.errors import InputError, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
# What decides, beside the weights, what a model hears and writes.
SETTINGS = (
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
TEXT_TOKENIZERS = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "merges.txt")  # one of them holds the tokens
FLOATS = ("F64", "F32", "F16", "BF16")
CHUNK_BYTES = 1 << 20
MOST_LAYERS = 1_000  # of one stack: building more of them, even without weights, takes minutes
MOST_NUMBER = 10**8  # of anything that a configuration counts: vocabularies and widths are far below
LETTERS = 256  # bytes, of which Whisper's tokenizer spells what it has no word for


def check(folder: Path) -> None:
    """Refuse a folder that is not a whole Whisper checkpoint, in one line that names every fault found.

    Reads the JSON files, the headers of the weight files and each weight once (for values that are not numbers), as long as
    the folder has not changed since the last time; the headers alone take milliseconds at any size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"checkpoint {folder}: no such folder")
    _refuse(folder, faults(folder))


def check_text(folder: Path) -> None:
    """Refuse a folder that is not a whole checkpoint of a text model (T5, mBART, BART), in one line that names every fault found.

    Without the file of its tokens transformers would make an empty tokenizer and say nothing. Each weight is read once, for values
    that are not numbers, as long as the folder has not changed since the last time.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"checkpoint {folder}: no such folder")
    _refuse(folder, _text_faults(folder.resolve(), _stamp(folder)))


@lru_cache(maxsize=16)
def _text_faults(folder: Path, stamp: tuple) -> tuple[str, ...]:
    found: list[str] = []
    values = _json(folder, "config.json", found, "a checkpoint folder as the Hub lays it out has one")
    if values is not None and (fault := out_of_bounds(values)):
        found.append(fault)
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            _json(folder, name, found, "")
    if not any((folder / name).is_file() for name in TEXT_TOKENIZERS):
        found.append(f"no tokenizer: {', '.join(TEXT_TOKENIZERS[:-1])} or {TEXT_TOKENIZERS[-1]} must be there")
    files = weight_files(folder)
    if not files:
        found.append(_no_weights(folder, {path.name for path in folder.iterdir()}))
    for path in files:
        if not path.is_file():
            found.append(f"{path.name} is missing: fetch the rest")
        elif (fault := _read_weights(path, {}, quantised=True)) is not None:
            found.append(f"{path.name}: {fault}")
    return tuple(found)


def out_of_bounds(values: dict) -> str | None:
    """The number of a configuration by which building the model would take for ever or fail, and what would be right."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if key.endswith("layers") and not (isinstance(value, int) and 1 <= value <= MOST_LAYERS):
            return f"config.json: {key} is {shown(value)}, and should be a whole number from 1 to {MOST_LAYERS}"
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            return f"config.json: {key} is {shown(value)}, and should be at most {MOST_NUMBER:,}"
    return None


def faults(folder: Path) -> tuple[str, ...]:
    """What keeps `folder` from being loaded as a Whisper checkpoint, each fault with its file and what would be right."""
    return _faults(Path(folder).resolve(), _stamp(folder))


def note(folder: Path) -> str | None:
    """What the checkpoint says of itself under `asum_note` in its config.json, e.g. that its weights are random."""
    try:
        config = reading.read_json(Path(folder) / "config.json")
    except InputError:
        return None
    return config.get("asum_note") if isinstance(config, dict) else None


def multilingual(folder: Path) -> bool:
    """Whether the checkpoint is to be told a language; an English-only one (`.en`) refuses to be told.

    generation_config.json says so. Older fine-tuned checkpoints leave it out: then the vocabulary does, whose multilingual
    form has 51,865 tokens or more.
    """
    folder = Path(folder)
    said = reading.read_json(folder / "generation_config.json").get("is_multilingual")
    return bool(said) if said is not None else reading.read_json(folder / "config.json").get("vocab_size", 0) >= 51_865


def languages(folder: Path) -> tuple[str, ...]:
    """The codes of the languages that a Whisper checkpoint can be told to write, e.g. `("en", "ru")`; English alone where it has no choice."""
    if not multilingual(folder):
        return ("en",)
    table = reading.read_json(Path(folder) / "generation_config.json").get("lang_to_id")
    return tuple(sorted(token.strip("<|>") for token in table)) if isinstance(table, dict) else ("en",)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a model is loaded from, in name order: the single file, or the shards that the index names."""
    folder = Path(folder)
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    try:
        names = set(reading.read_json(folder / INDEX)["weight_map"].values())
    except (InputError, KeyError, TypeError, AttributeError):
        return []
    return [folder / name for name in sorted(names) if isinstance(name, str) and Path(name).name == name]


def checksum(folder: Path, everything: bool = False) -> str:
    """SHA-256 over the weight files in name order; with `everything` also over the tokenizer's and the other `SETTINGS` files.

    The files are read in pieces, whether they lie in a plain folder or are links into the Hub's cache: the same content has the
    same digest everywhere, and a damaged file in the cache does not pass under the name of the sound one.
    """
    files = weight_files(folder)
    if not files:
        check(folder)
        raise InputError(f"checkpoint {folder}: no {WEIGHTS} and no {INDEX} to take a checksum of")
    digest = hashlib.sha256()
    for path in files:
        _update(digest, path)
    for name in SETTINGS if everything else ():
        path = Path(folder) / name
        if path.is_file():
            digest.update(f"\n{name} {path.stat().st_size}\n".encode())  # so that no content passes for another file's
            _update(digest, path)
    return digest.hexdigest()


def layout(config) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """({weight name: shape}, names that are another weight and may be absent) of a `WhisperConfig`, built without memory."""
    import torch
    from transformers import WhisperForConditionalGeneration

    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, set(getattr(model, "all_tied_weights_keys", {}))


def _stamp(folder: Path) -> tuple:
    """What changes when a file of the folder does."""
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _refuse(folder: Path, found: Sequence[str]) -> None:
    if found:
        count = f"{len(found)} faults: " if len(found) > 1 else ""
        raise InputError(f"checkpoint {folder}: {count}{'; '.join(found)}")


def _update(digest, path: Path) -> None:
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): fetch the checkpoint again") from error


@lru_cache(maxsize=16)
def _faults(folder: Path, stamp: tuple) -> tuple[str, ...]:
    names = {name for name, _, _ in stamp}
    found: list[str] = []
    config = _config(folder, found)
    _generation(folder, found)
    _preprocessor(folder, config, found)
    _tokenizer(folder, names, config, found)
    _weights(folder, names, config, found)
    return tuple(found)


def _json(folder: Path, name: str, found: list[str], missing: str) -> dict | None:
    """The object in a JSON file; where there is none, a fault that says `missing`."""
    path = folder / name
    if not path.exists():
        found.append(f"no {name}: {missing}")
        return None
    try:
        value = reading.read_json(path)
    except InputError as error:
        found.append(f"{name}: {str(error).removeprefix(f'{path}: ')}: fetch it again")
        return None
    if not isinstance(value, dict):
        found.append(f"{name} is not a JSON object: fetch it again")
        return None
    return value


def _config(folder: Path, found: list[str]):
    """The folder's `WhisperConfig`, or None with the reason in `found`."""
    if not (folder / "config.json").exists() and (folder / "adapter_config.json").exists():
        found.append("an adapter alone (adapter_config.json, no config.json): merge it into its base model and save that")
        return None
    values = _json(folder, "config.json", found, "a checkpoint folder as the Hub lays it out has one")
    if values is None:
        return None
    kind = values.get("model_type")
    if kind != "whisper":
        found.append(f"config.json: model_type is {kind!r}, not 'whisper'")
        return None
    if values.get("quantization_config"):
        found.append("config.json: the weights are quantised already: give the unquantised checkpoint, which is quantised when it is loaded")
        return None

    if fault := out_of_bounds(values):
        found.append(fault)
        return None

    from transformers import WhisperConfig

    try:
        config = WhisperConfig.from_dict(values)
        layout(config)
    except Exception as error:  # a wrong value shows as whatever its use raises
        reason = " ".join(str(error).split())
        found.append(f"config.json: not the configuration of a Whisper model ({reason[:200] or type(error).__name__})")
        return None
    return config


def _generation(folder: Path, found: list[str]) -> None:
    values = _json(folder, "generation_config.json", found, "it holds the token ids that decoding starts with; save_pretrained writes it")
    if values is None or not values.get("is_multilingual"):
        return
    lacking = [
        f"{table}[{key!r}]"
        for table, key in (("lang_to_id", "<|en|>"), ("task_to_id", "transcribe"))
        if not isinstance(values.get(table), dict) or key not in values[table]
    ]
    if lacking:
        found.append(f"generation_config.json: multilingual, but without {' and '.join(lacking)}: take the one of the original checkpoint")


def _preprocessor(folder: Path, config, found: list[str]) -> None:
    name = "preprocessor_config.json"
    nested = _json(folder, "processor_config.json", [], "") or {}
    if isinstance(nested.get("feature_extractor"), dict):  # where newer versions of transformers save it
        name, values = "processor_config.json", nested["feature_extractor"]
    else:
        values = _json(folder, name, found, "it says how audio becomes log-mel features")
    if values is None:
        return
    rate, mels = values.get("sampling_rate", 16_000), values.get("feature_size", 80)
    if rate != 16_000:
        found.append(f"{name}: sampling_rate is {rate}, not 16000")
    if config is None:
        return
    if mels != config.num_mel_bins:
        found.append(f"{name}: feature_size is {mels}, but config.json's num_mel_bins is {config.num_mel_bins}: take both from one checkpoint")
    try:
        frames = int(values.get("chunk_length", 30) * rate // values.get("hop_length", 160))
    except (TypeError, ZeroDivisionError):
        found.append(f"{name}: chunk_length, hop_length and sampling_rate are not the numbers of a log-mel spectrogram")
        return
    if frames != 2 * config.max_source_positions:
        expected = 2 * config.max_source_positions
        found.append(f"{name}: its window has {frames} frames, but config.json's max_source_positions asks for {expected}")


def _tokenizer(folder: Path, names: set[str], config, found: list[str]) -> None:
    try:
        if "tokenizer.json" in names:
            name = "tokenizer.json"
            values = _json(folder, name, found, "")
            if values is None:
                return
            plain = values["model"]["vocab"].values()
            ids = [*plain, *(token["id"] for token in values.get("added_tokens", []))]
        elif {"vocab.json", "merges.txt"} <= names:
            name = "vocab.json"
            added = (_json(folder, "added_tokens.json", found, "") or {}) if "added_tokens.json" in names else {}
            values = _json(folder, name, found, "")
            if values is None:
                return
            plain = values.values()
            ids = [*plain, *added.values()]
        else:
            found.append("no tokenizer: tokenizer.json, or vocab.json with merges.txt, must be there")
            return
        highest = max(ids)
    except (KeyError, TypeError, ValueError, AttributeError):
        found.append(f"{name} is not a Whisper tokenizer: fetch it again")
        return
    if len(plain) < LETTERS:
        found.append(
            f"{name}: {len(plain)} tokens beside the special ones, and a Whisper tokenizer has a token for each of {LETTERS} bytes: fetch it again"
        )
    if config is not None and highest >= config.vocab_size:
        found.append(f"{name}: {highest + 1} tokens, but config.json's vocab_size is {config.vocab_size}: take both from one checkpoint")


def _weights(folder: Path, names: set[str], config, found: list[str]) -> None:
    indexed: dict[str, str] = {}
    if WEIGHTS not in names:
        if INDEX not in names:
            found.append(_no_weights(folder, names))
            return
        index = _json(folder, INDEX, found, "")
        if index is None:
            return
        indexed = index.get("weight_map")
        if not isinstance(indexed, dict) or not indexed or not all(isinstance(name, str) and Path(name).name == name for name in indexed.values()):
            found.append(f"{INDEX}: no weight_map of weight names to files of this folder: fetch it again")
            return
    files = weight_files(folder)
    missing = [path.name for path in files if not path.exists()]
    if missing:
        found.append(f"{INDEX} names {len(set(indexed.values()))} files, {', '.join(missing)} missing: fetch the rest")
    shapes: dict[str, tuple[int, ...]] = {}
    damaged = False
    for path in files:
        if path.name in missing:
            continue
        if (fault := _read_weights(path, shapes)) is not None:
            damaged = True
            found.append(f"{path.name}: {fault}")
    if missing or damaged or config is None:
        return
    promised = sorted(set(indexed) - set(shapes))
    if promised:
        found.append(f"{INDEX} promises {few(promised)}, which no file holds")
        return
    # A checkpoint of the bare model is read too; its names lack the prefix.
    shapes = {name if name.startswith(("model.", "proj_out.")) else f"model.{name}": shape for name, shape in shapes.items()}
    expected, tied = layout(config)
    where = INDEX if indexed else WEIGHTS
    if absent := [name for name in expected if name not in shapes and name not in tied]:
        found.append(f"{where}: {few(absent)} missing; config.json describes a model of {len(expected) - len(tied)} weights")
    if unlike := [
        f"{name} is {_by(shapes[name])}, not {_by(expected[name])}" for name in expected if shapes.get(name, expected[name]) != expected[name]
    ]:
        found.append(f"{where}: {few(unlike)}; config.json and weights are not of one model")
    if foreign := sorted(set(shapes) - set(expected)):
        found.append(f"{where}: {few(foreign)} not in the model that config.json describes")


def _no_weights(folder: Path, names: set[str]) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if pickles:
        return (
            f"no *.safetensors file: pickled weights ({', '.join(pickles[:3])}) are not read, since loading them can run code; "
            f"take a revision that has {WEIGHTS}, or convert a file that you trust with from_pretrained and save_pretrained of transformers"
        )
    if others:
        return f"no {WEIGHTS} and no {INDEX} (found {', '.join(others[:3])}): fetch the whole folder"
    return f"no *.safetensors file: {WEIGHTS}, or {INDEX} with its shards, must be there"


def _read_weights(path: Path, shapes: dict[str, tuple[int, ...]], quantised: bool = False) -> str | None:
    """Add the file's weights to `shapes`; returns what is wrong with the file. Others than floats are passed over if `quantised`."""
    import torch
    from safetensors import SafetensorError, safe_open

    if (fault := _broken_header(path)) is not None:
        return fault
    bad = []
    try:
        with safe_open(str(path), framework="pt", backend="pread") as file:  # mapped pages count until it is closed
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                piece = file.get_slice(name)
                shapes[name] = tuple(piece.get_shape())
                if piece.get_dtype() not in FLOATS and quantised:
                    continue
                if piece.get_dtype() not in FLOATS:
                    return f"{name} is {piece.get_dtype()}: weights must be floating point ({', '.join(FLOATS)}), unquantised"
                low, high = torch.aminmax(file.get_tensor(name)) if 0 not in shapes[name] else (torch.zeros(()), torch.zeros(()))
                if not (low.isfinite() and high.isfinite()):  # both are NaN where any value is
                    bad.append(name)
    except (SafetensorError, OSError) as error:
        return _damaged(path, error)
    return f"{few(bad)} with values that are NaN or infinite: such a model writes nothing of use; take another checkpoint" if bad else None


def _broken_header(path: Path) -> str | None:
    """What is wrong with a weight file by its header, which says how long the file must be; takes milliseconds at any size."""
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                return "a Git LFS pointer, not the weights: fetch the file itself (git lfs pull)"
        with safe_open(str(path), framework="pt", backend="pread"):
            return None
    except (SafetensorError, OSError) as error:
        return _damaged(path, error)


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).removeprefix("Error while deserializing header: ").splitlines()[0]
    return f"cut off or damaged ({path.stat().st_size} bytes; {reason}): fetch it again"


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first of many names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
