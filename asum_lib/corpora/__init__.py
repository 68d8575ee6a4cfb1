"""Speech corpora. Every corpus, generated, fetched or given, is a manifest: a folder with `manifest.jsonl` and its audio files.

`howto` and `digits` are made on demand under the cache folder. `librispeech` and `slue-voxpopuli` are fetched from the
Hugging Face Hub by `asum fetch` and read from its cache, `how2` is a manifest that `$ASUM_HOW2` names, and the path of a
manifest or of what `datasets` keeps is a corpus as it is. `manifest` reads manifests and says what a line holds,
`parquet` unpacks Parquet into one, and `audio` reads the files.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from asum_lib.corpora.audio import read_audio, windows
from asum_lib.corpora.manifest import SPLITS, Corpus, Utterance, materialize, read_manifest
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError, choose
from asum_lib.paths import cache

__all__ = [
    "DOMAIN_OF",
    "GENERATED",
    "HUB",
    "NAMES",
    "SAMPLE_RATE_HZ",
    "SPLITS",
    "Corpus",
    "Utterance",
    "dataset_revision",
    "generated_fingerprint",
    "load_corpus",
    "materialize",
    "read_audio",
    "read_manifest",
    "spoken_texts",
    "windows",
]

DOMAIN_OF = {"howto": "target", "howto-source": "source"}  # corpus name: domain of the generator
GENERATED = (*DOMAIN_OF, "digits")
# Corpus name: repository. What `asum fetch` has under the corpus's name is the test split; train and dev are `<name>-train`.
HUB = {"librispeech": "openslr/librispeech_asr", "slue-voxpopuli": "asapp/slue"}
NAMES = (*GENERATED, *HUB, "how2")


def load_corpus(name: str, split: str, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """Load a split of a corpus by its name, one of `NAMES`, or or by the path of a manifest or of a data set as
    `datasets` keeps it: Parquet files, an AudioFolder, what `save_to_disk` wrote.

    Generated audio is made on first use (a few seconds for the target domain of `howto`) and cached, and so is what Parquet
    is unpacked to. Nothing is downloaded. A manifest without a `split` field is all test, and so is Parquet whose file names
    name no split. Raises `InputError` for an unknown name or split, for a corpus that is not there, and for a faulty one.
    """
    choose("split", split, SPLITS)
    if name in DOMAIN_OF:
        from asum_lib.corpora import howto

        domain, fingerprint = DOMAIN_OF[name], howto.fingerprint(DOMAIN_OF[name], split)
        spoken = ((take.id, take.text, howto.speak(take)) for take in howto.takes(domain, split))
        folder = cache() / "corpora" / f"howto-{domain}-{split}-{fingerprint[:12]}"
        return materialize(folder, name, split, fingerprint, spoken, progress)
    if name == "digits":
        from asum_lib.corpora import digits

        return digits.load(split, progress)
    if name in HUB:
        from asum_lib import hub
        from asum_lib.corpora import parquet

        snapshot = hub.snapshot(HUB[name] if split == "test" else f"{name}-train")
        return parquet.load_hub(name, snapshot, split, progress)
    if name == "how2":
        return _load_path(_how2(), split, progress, name)
    path = Path(name)
    if path.suffix in (".jsonl", ".parquet", ".csv") or path.is_dir():
        return _load_path(path, split, progress)
    raise InputError(
        f"unknown corpus {name!r}: choose from {', '.join(NAMES)}, or give the path of a manifest.jsonl, of Parquet files, of an "
        "AudioFolder or of what save_to_disk of datasets wrote"
    )


def generated_fingerprint(name: str, split: str) -> str | None:
    """The fingerprint of a generated corpus by its recipe, without making its audio; None for any other."""
    if name in DOMAIN_OF:
        from asum_lib.corpora import howto

        return howto.fingerprint(DOMAIN_OF[name], split)
    if name == "digits":
        from asum_lib.corpora import digits

        return digits.fingerprint(split)
    return None


def spoken_texts(name: str, split: str) -> dict[str, str]:
    """{id: text} of the utterances of a corpus of `howto`, without making their audio."""
    from asum_lib.corpora import howto

    takes = howto.takes(DOMAIN_OF[choose("generated corpus", name, DOMAIN_OF)], split)
    return {take.id: take.text for take in takes}


def dataset_revision(name: str) -> str | None:
    """The commit of the Hub's repository that the corpus is read from; None for what has none, or is not fetched."""
    from asum_lib import hub

    if name in HUB:
        for part in (HUB[name], f"{name}-train"):
            with suppress(InputError):
                return hub.revision(hub.snapshot(part))
    return hub.revision(Path(name)) if name not in NAMES and Path(name).is_dir() else None


def _load_path(path: Path, split: str, progress: Callable[[str], None], name: str | None = None) -> Corpus:
    """A manifest, its folder, or a data set as `datasets` keeps it."""
    from asum_lib.corpora import parquet, shards

    if not (path / "manifest.jsonl").exists() and shards.find(path):
        return parquet.load_folder(path, split, progress, name)
    return read_manifest(path / "manifest.jsonl" if path.is_dir() else path, split, progress, name)


def _how2() -> Path:
    if given := os.environ.get("ASUM_HOW2"):
        return Path(given)
    raise InputError(
        "how2 is not on this machine: its authors give it out by a request form; then write a manifest.jsonl with id, audio and text on "
        "each line, and set ASUM_HOW2 to its path"
    )
