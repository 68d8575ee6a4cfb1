"""What training changed, as a folder of its own: an adapter's weights without the model under it, and a note of what it belongs to.

The weights are PEFT's own format, so other programs read them too. Beside them lies `asum_adapter.json`, a `Note`: the checkpoint that
was adapted, by name and by a digest of its weights, since an adapter on another model makes nonsense without a complaint, and a digest
of the adapter itself. An adapter that PEFT saved has no note: its base is the one that `adapter_config.json` names, and nothing says
whether that is what it was trained on (`unchecked`). One way for Whisper and the text models, for LoRA and AdaLoRA. Of AdaLoRA the
pruned directions are left out, so a module may have rank 0.
"""

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from asum_lib import files, reading
from asum_lib.errors import InputError
from asum_lib.models import checkpoint, loading, pretrained
from asum_lib.models.loading import Speech, folder_of
from asum_lib.models.summarize import Summarizer
from asum_lib.models.summarize import load as load_summarizer
from asum_lib.paths import CHECKPOINTS, expanded

NOTE = "asum_adapter.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KINDS = ("LORA", "ADALORA")
RANK_OF_ZERO = ".*have invalid shape"  # what PEFT warns of, since it takes one for a shard that was not gathered
MODEL_CARD = "README.md"  # PEFT writes an empty form


@dataclass(frozen=True)
class Note:
    """What an adapter was trained on. `base` is a shipped checkpoint's name, a Hub repository or a folder."""

    base: str
    base_sha256: str | None  # over the weight files, `checkpoint.checksum`; None where PEFT saved the adapter
    precision: str | None  # of the base while it was trained
    what: str  # for people, one line
    training: dict  # the resolved hyper-parameters
    sha256: str | None = None  # of the adapter's own weights; None where nobody wrote it down


def save(model, folder: Path, *, base: str, precision: str, what: str, training: dict, replace: bool = False) -> Path:
    """Write the adapter of a PEFT model into `folder` and return it; `base` is what it was loaded from.

    `InputError` where the folder has anything in it; with `replace` the files of the same names are replaced.

    `model` is pruned (`prune`), so that it and what is loaded again compute the same, to the bit.
    """
    prune(model)
    base_sha256 = checkpoint.checksum(folder_of(base))
    with files.folder_aside(folder, replace) as made:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=RANK_OF_ZERO)
            model.save_pretrained(made, save_embedding_layers=False)
        (made / MODEL_CARD).unlink(missing_ok=True)
        note = Note(_name(base), base_sha256, precision, what, training, file_sha256(made / WEIGHTS))
        config = json.loads((made / CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = note.base  # and not the path on the machine that it was trained on
        config["target_modules"] = sorted(config["target_modules"])  # a set: another order each time
        _write(made / CONFIG, config)
        _write(made / NOTE, asdict(note))
    return Path(folder)


def is_adapter(where: str) -> bool:
    """Whether `where` is a folder with an adapter in it, and not a whole checkpoint."""
    folder = expanded(where)
    return folder.is_dir() and any((folder / name).exists() for name in (NOTE, CONFIG, WEIGHTS)) and not (folder / "config.json").exists()


def read(folder: Path) -> Note:
    """The note of an adapter that can be loaded; `InputError` in one line for what keeps it from it."""
    folder = expanded(folder)
    if not folder.is_dir():
        raise InputError(f"adapter {folder}: no such folder")
    pickles = sorted(path.name for pattern in checkpoint.PICKLES for path in folder.glob(pattern))
    if pickles:
        raise InputError(f"adapter {folder}: {', '.join(pickles)} is a pickle, and loading it can run code: only {WEIGHTS} is read, remove the other")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"adapter {folder}: no {name}: {CONFIG} and {WEIGHTS} must be there, as PEFT and asum save them")
    config = _read(folder / CONFIG)
    if config.get("peft_type") not in KINDS:
        raise InputError(f"adapter {folder}: {CONFIG} says peft_type {config.get('peft_type')!r}: only {' and '.join(KINDS)} are loaded")
    pretrained.refuse_code(folder, config)
    return _note(folder) if (folder / NOTE).is_file() else _foreign(folder, config)


def checksum(where: str, base_sha256: str) -> str:
    """One SHA-256 over an adapter and the checkpoint under it, whose own is given."""
    own = [file_sha256(Path(where).expanduser() / name) for name in (CONFIG, WEIGHTS)]
    return hashlib.sha256(" ".join([base_sha256, *own]).encode()).hexdigest()


def unchecked(where: str) -> str | None:
    """A line on an adapter that may be on other weights than its own, since no digest says which those are; None for any other model."""
    if not is_adapter(where) or read(Path(where)).base_sha256 is not None:
        return None
    base = read(Path(where)).base
    return f"adapter {where}: saved by PEFT, without a digest of the weights that it was trained on: it is taken for one of {base}"


def _note(folder: Path) -> Note:
    """The note that asum wrote, checked against the weights beside it."""
    note = _read(folder / NOTE)
    expected = {field.name for field in fields(Note)}
    if set(note) | {"sha256"} != expected:  # the adapters of earlier versions have no digest of their own
        raise InputError(f"adapter {folder}: {NOTE} has {', '.join(sorted(note)) or 'nothing'}, not {', '.join(sorted(expected))}")
    found = Note(**note)
    if found.sha256 is not None and file_sha256(folder / WEIGHTS) != found.sha256:
        raise InputError(f"adapter {folder}: {WEIGHTS} is not the file that {NOTE} has the SHA-256 of: copy both anew")
    return found


def _foreign(folder: Path, config: dict) -> Note:
    """What an adapter that PEFT saved says of its base."""
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise InputError(f"adapter {folder}: {CONFIG} names no base_model_name_or_path: write there the checkpoint that was adapted")
    return Note(base, None, None, "saved by PEFT", {})


def put_on(model, folder: Path, trainable: bool = False):
    """The PEFT model of a loaded `model` (as `loading.load_model` gives it, in any precision) and the adapter in `folder`.

    Raises `InputError` where the adapter belongs to other weights, or does not fit. The base model is changed in place.
    """
    from safetensors import SafetensorError

    folder, note = expanded(folder), read(folder)
    if note.base_sha256 is not None and checkpoint.checksum(Path(model.name_or_path)) != note.base_sha256:
        raise InputError(f"adapter {folder}: it was trained on other weights of {note.base} than those in {model.name_or_path}")
    try:
        with warnings.catch_warnings():  # PEFT takes AdaLoRA's pattern of ranks for LoRA's, finds that odd, and goes on to use it rightly
            warnings.filterwarnings("ignore", message="The following rank_pattern keys")
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # which `check_weights` refuses
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # PEFT asks transformers the old way
            adapted = pretrained.adapter(model, folder, is_trainable=trainable)
    except InputError:
        raise
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:  # damage shows as any of these
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"adapter {folder}: cannot be read ({reason}): copy it anew") from error
    check_weights(adapted, folder)
    fix_divisors(adapted)
    return adapted.train(trainable)


def check_weights(model, folder: Path) -> None:
    """Refuse an adapter whose file lacks weights of the PEFT model that was made of it, has others, or values that are no numbers.

    PEFT itself goes on with random or untrained weights in the place of what it does not find.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        there = set(file.keys())
        unreal = [name for name in there if not file.get_tensor(name).isfinite().all()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=RANK_OF_ZERO)
        wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    faults = {
        "has values that are NaN or infinite in": unreal,
        "lacks": wanted - there,
        "has weights that the model has no place for:": there - wanted,
    }
    for fault, names in faults.items():
        if names:
            raise InputError(f"adapter {folder}: {WEIGHTS} {fault} {checkpoint.few(sorted(names))}: copy it anew, or save it again")


def prune(model) -> None:
    """Take the directions that AdaLoRA has set to zero out of a trained model, in place: fewer numbers, and sums in another order."""
    config = model.peft_config["default"]
    masks = getattr(config, "rank_pattern", None) or {}
    modules = dict(model.base_model.model.named_modules())
    # PEFT's mask is of the first rank: a module that is pruned already would be cut twice
    whole = {name: mask for name, mask in masks.items() if len(modules[name.split(".lora_E")[0]].lora_E["default"]) == len(mask)}
    if whole:
        model.base_model.resize_modules_by_rank_pattern(whole, "default")
        fix_divisors(model)


def fix_divisors(model) -> None:
    """Make AdaLoRA's divisor, a layer's first rank, a frozen number without a dimension."""
    for name, parameter in model.named_parameters():
        if "ranknum" in name:  # what PEFT divides by: as a vector of one float32 it would turn bfloat16 activations into float32, and
            parameter.data = parameter.data.squeeze()
            parameter.requires_grad_(False)  # on its way to a GPU PEFT makes it trainable: it would learn, and keep each layer's output


def speech(where: str, precision: str, scale: str = "paper", language: str | None = None) -> Speech:
    """A Whisper: a checkpoint (folder or Hub name), or the folder of an adapter with the checkpoint that it names."""
    loaded = loading.load(base_of(where), precision, scale, language)
    if not is_adapter(where):
        return loaded
    return Speech(put_on(loaded.model, Path(where)), loaded.tokenizer, loaded.extractor, loaded.generate)


def summarizer(where: str, precision: str, language: str, scale: str = "paper") -> Summarizer:
    """The same for a text model."""
    base = base_of(where)
    checkpoint.check_text(folder_of(base))
    loaded = load_summarizer(base, precision, language, scale)
    if not is_adapter(where):
        return loaded
    return Summarizer(put_on(loaded.model, Path(where)), loaded.tokenizer, loaded.family, loaded.language)


def base_of(where: str) -> str:
    """The checkpoint under an adapter, as `loading.folder_of` takes it; any other model itself."""
    if not is_adapter(where):
        return where
    note = read(Path(where))
    shipped = CHECKPOINTS / note.base
    if Path(note.base).name == note.base and shipped.is_dir():
        return str(shipped)
    try:
        folder_of(note.base)
    except InputError as error:
        raise InputError(f"adapter {where}: its base is not here: {error}") from None
    return note.base


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; `InputError` where there is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(base: str) -> str:
    """A shipped checkpoint by its name, so that the note holds on every machine."""
    folder = Path(base)
    return folder.name if folder.is_dir() and folder.resolve().parent == CHECKPOINTS.resolve() else base


def _read(path: Path) -> dict:
    try:
        value = reading.read_json(path)
    except InputError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise InputError(f"adapter {path.parent}: {path.name}: {said}: copy it anew") from None
    if not isinstance(value, dict):
        raise InputError(f"adapter {path.parent}: {path.name} is not a JSON object: copy it anew")
    return value


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
