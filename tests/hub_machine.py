"""A machine with an empty cache for tests of `asum fetch`, and what the small Hub of `fake_hub` has for it.

huggingface_hub reads its settings at import, so the command runs in a process of its own, as for a user.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

COMMIT, NEXT_COMMIT = "1" * 40, "2" * 40
MODEL = {
    "config.json": b'{"model_type": "whisper"}',
    "generation_config.json": b"{}",
    "model.safetensors": b"the weights" * 100,
    "model.fp32-00001-of-00002.safetensors": b"more weights than wanted",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"a card",
}
WANTED = ["config.json", "generation_config.json", "model.safetensors"]
PINS = """
pinned:
  kind: model
  repo_id: our/model
  revision: "{commit}"
  required: [config.json, generation_config.json, model.safetensors]
  pinned: {{model.safetensors: {{size_bytes: {size}, sha256: {sha256}}}}}
  source: a test
"""
PARTS = f"""
_speech: &speech {{kind: dataset, repo_id: our/speech, revision: "{COMMIT}", source: a test}}
speech: {{<<: *speech, required: [data/test.parquet]}}
speech-train: {{<<: *speech, required: [data/train-*.parquet]}}
"""
# The command, with the pins of a test in place of the shipped ones.
COMMAND = (
    "import sys; from pathlib import Path; from asum_lib import cli, hub; hub.PINS = Path(sys.argv[1]); {before}; sys.exit(cli.main(sys.argv[2:]))"
)


class Machine:
    """A machine with an empty cache, and one model that is pinned to what `the_hub` holds."""

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.pins = folder / "pins.yaml"
        self.pin(MODEL["model.safetensors"])

    def pin(self, weights: bytes, sha256: str | None = None):
        sha256 = sha256 or hashlib.sha256(weights).hexdigest()
        self.pins.write_text(PINS.format(commit=COMMIT, size=len(weights), sha256=sha256))

    def environment(self, **more) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        own = {"HF_HOME": str(self.folder / "hf"), "ASUM_CACHE": str(self.folder / "asum"), "HF_ENDPOINT": self.url, "NO_PROXY": "127.0.0.1"}
        return kept | own | {"HF_HUB_DISABLE_TELEMETRY": "1"} | more

    def start(self, *arguments: str, before="pass", **environment) -> subprocess.Popen:
        command = [sys.executable, "-c", COMMAND.format(before=before), str(self.pins), *arguments]
        return subprocess.Popen(
            command, env=self.environment(**environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def asum(self, *arguments: str, **options) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def snapshot(self, commit=COMMIT) -> Path:
        return self.folder / "hf/hub/models--our--model/snapshots" / commit

    def wait_for_part(self, process: subprocess.Popen):
        """Until 10 MiB of a file lie on the disk: huggingface_hub writes in steps of that size."""
        deadline = time.monotonic() + 30
        while not any(size >= 10 * 2**20 for size in map(_size, self.blobs())):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)

    def blobs(self) -> list[Path]:
        return [path for path in (self.folder / "hf").rglob("blobs/*") if path.is_file()]


def _size(path: Path) -> int:
    """0 where the file was renamed since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
