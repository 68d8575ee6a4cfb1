"""What this machine can run, and why not: `asum doctor`. Each check tries the thing itself where it can, and changes nothing."""

import hashlib
import importlib.metadata
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asum_lib.paths import CHECKPOINTS, REPOSITORY, cache

_MINI = ("python", "torch", "int8", "int4", "int4-dq", "fp4", "speech", "memory", "disk", "checkpoints")  # what the mini scale needs
_MEMORY_BYTES = 2 * 2**30  # free, for a mini cell and the notebook around it
_DISK_BYTES = 3 * 2**30  # corpora, features and executed notebooks
_GPU_BYTES = 8 * 10**9  # AdaLoRA on 8-bit Whisper large takes 7.9 GB
HUB_URL = "https://huggingface.co/openai/whisper-tiny/resolve/main/config.json"


@dataclass(frozen=True)
class Check:
    """`ok` is None for what was not tried. `detail` says what was found, or what is wrong and what to do."""

    name: str
    ok: bool | None
    detail: str


def examine(network: bool = False, progress: Callable[[str], None] = lambda line: None) -> list[Check]:
    """Run every check, cheap ones first; a check that raises has failed for that reason. The last two are the conclusions."""
    trials = {"python": _python, "torch": _torch, "accelerator": _accelerator}
    trials |= {precision: _quantised(precision) for precision in ("int8", "int4", "int4-dq", "fp4")}
    trials |= {"speech": _speech, "spoken digits": _digits, "memory": _memory, "disk": _disk, "checkpoints": _checkpoints}
    trials |= {"hub": _hub if network else lambda: (None, "not tried (--network does)")}
    checks = []
    for name, trial in trials.items():
        progress(f"doctor: {name}")
        try:
            checks.append(Check(name, *trial()))
        except Exception as error:  # whatever is wrong with a machine is a finding
            checks.append(Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return [*checks, _mini(checks), _paper(checks)]


def can_run_mini(checks: list[Check]) -> bool:
    return all(check.ok for check in checks if check.name in _MINI)


def as_text(checks: list[Check]) -> str:
    """One line a check: `yes`, `no`, or `-` for what was not tried."""
    words = {True: "yes", False: "no", None: "-"}
    return "\n".join(f"{words[check.ok]:<4}{check.name:<14}{check.detail}" for check in checks)


def _python():
    version = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info[:2] == (3, 11), version + ("" if sys.version_info[:2] == (3, 11) else ": the pinned packages are for Python 3.11")


def _torch():
    import torch

    total = torch.ones(8, 8) @ torch.ones(8, 8)
    return bool(total.sum() == 512), f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"


def _accelerator():
    import torch

    if not torch.cuda.is_available():
        return False, f"none that torch {torch.__version__} sees: the mini scale runs on the CPU"
    device = torch.cuda.get_device_properties(0)
    total = torch.ones(8, 8, device="cuda").sum().item()
    return total == 64, f"{device.name}, {device.total_memory / 1e9:.0f} GB, bfloat16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"


def _quantised(precision: str):
    """A trial that runs a 64 x 64 layer forward and backward, and holds output and input gradient against full precision."""

    def trial():
        import torch
        from bitsandbytes.nn import Linear4bit, Linear8bitLt

        from asum_lib.models.loading import QUANTISATION

        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(0)
        device, settings = "cuda" if torch.cuda.is_available() else "cpu", QUANTISATION[precision]
        full = torch.nn.Linear(64, 64, bias=False)
        inputs = torch.randn(4, 64).to(device)
        torch.random.set_rng_state(torch_state)
        if "load_in_8bit" in settings:
            layer = Linear8bitLt(64, 64, bias=False, has_fp16_weights=False, threshold=6.0)
        else:
            kind, double = settings["bnb_4bit_quant_type"], settings.get("bnb_4bit_use_double_quant", False)
            layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, compress_statistics=double, quant_type=kind)
        layer.load_state_dict(full.state_dict())
        pairs = zip(_forward_backward(full.to(device), inputs), _forward_backward(layer.to(device), inputs), strict=True)
        worst = max(float((got - expected).norm() / expected.norm()) for expected, got in pairs)
        version = importlib.metadata.version("bitsandbytes")
        detail = f"bitsandbytes {version} on {device}: a 64 x 64 layer forward and backward is {100 * worst:.1f} % off full precision"
        return worst < 0.2, detail + ("" if worst < 0.2 else ", 20 % would be the limit")

    return trial


def _forward_backward(layer, inputs):
    inputs = inputs.clone().requires_grad_()
    output = layer(inputs)
    output.sum().backward()
    return output.detach().float(), inputs.grad.float()


def _speech():
    from asum_lib.corpora.howto import DOMAINS
    from asum_lib.corpora.speech import SAMPLE_RATE_HZ, synthesize

    voices = [voice for domain in DOMAINS.values() for voice in domain.voices]
    lengths_s = [len(synthesize("one two three", voice)) / SAMPLE_RATE_HZ for voice in voices]
    fine = all(0.5 < length_s < 4 for length_s in lengths_s)
    return fine, f"eSpeak NG spoke `one two three` in {len(voices)} voices, {min(lengths_s):.1f} to {max(lengths_s):.1f} s each"


def _digits():
    from asum_lib.corpora import digits

    folder = digits.source()
    return True, f"{len(digits.take_files(folder))} takes in {folder}"


def _memory():
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return free >= _MEMORY_BYTES, f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {_MEMORY_BYTES / 2**30:.0f} needed"


def _disk():
    places = {"repository": REPOSITORY, "cache": cache()}
    free = {name: shutil.disk_usage(_existing(path)).free for name, path in places.items()}
    words = ", ".join(f"{size / 2**30:.1f} GiB free for the {name} ({places[name]})" for name, size in free.items())
    return min(free.values()) >= _DISK_BYTES, f"{words}; {_DISK_BYTES / 2**30:.0f} needed"


def _existing(path):
    return path if path.exists() else _existing(path.parent)


def _checkpoints():
    """Every file of `checkpoints/SHA256SUMS` (lines of `sha256sum`), and every size of the ladder among them."""
    from asum_lib.models.ladder import SIZES

    sums = CHECKPOINTS / "SHA256SUMS"
    if not sums.is_file():
        return False, f"{sums} is missing: take the repository's own checkpoints, or make them with `asum pretrain`"
    expected = {}
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        expected[name.removeprefix("*").removeprefix("./").removeprefix("checkpoints/")] = digest
    faults = [f"whisper-{size} is not listed" for size in SIZES if f"whisper-{size}/model.safetensors" not in expected]
    for name, digest in expected.items():
        path = CHECKPOINTS / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            faults.append(f"{name} is not the shipped file")
    return not faults, "; ".join(faults) or f"{len(expected)} files, all as in {sums.name}"


def _hub():
    import urllib.request

    with urllib.request.urlopen(HUB_URL, timeout=10) as answer:
        return answer.status == 200, "the Hugging Face Hub answers"


def _mini(checks: list[Check]) -> Check:
    faults = [check.name for check in checks if check.name in _MINI and not check.ok]
    real = next(check.ok for check in checks if check.name == "spoken digits")
    tables = "every table" if real else "every table but whisper_digits (its records can be read, not made anew)"
    return Check("scale mini", not faults, f"fails on: {', '.join(faults)}" if faults else f"can run {tables}")


def _paper(checks: list[Check]) -> Check:
    import importlib.util

    faults = [check.name for check in checks if check.name in _MINI[:6] and not check.ok]
    if importlib.util.find_spec("torch"):
        import torch

        if not torch.cuda.is_available():
            faults.append("no GPU")
        elif torch.cuda.get_device_properties(0).total_memory < _GPU_BYTES:
            faults.append(f"a GPU of less than {_GPU_BYTES / 1e9:.0f} GB, what Whisper large needs with int8 and AdaLoRA")
    hub = next(check.ok for check in checks if check.name == "hub")
    where = {True: "from the Hub", False: "from local folders only (the Hub does not answer)", None: "from the Hub or local folders"}[hub]
    return Check("scale paper", not faults, f"fails on: {', '.join(faults)}" if faults else f"can run with checkpoints and corpora {where}")
