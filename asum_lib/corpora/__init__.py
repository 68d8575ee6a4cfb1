"""Speech corpora. Every corpus, generated or given, is a manifest: a folder with `manifest.jsonl` and its audio files.

A line of the manifest is an object with `id`, `audio` (path beside the manifest), `text`, and optionally `duration_s`
and `split`. `howto` and `digits` are made on demand under the cache folder; a path to a manifest is a corpus as it is.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError, choose
from asum_lib.paths import cache

DOMAIN_OF = {"howto": "target", "howto-source": "source"}  # corpus name: domain of the generator
GENERATED = (*DOMAIN_OF, "digits")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Utterance:
    id: str
    audio: Path
    text: str
    duration_s: float


@dataclass(frozen=True)
class Corpus:
    """A split of a corpus; `fingerprint` is the SHA-256 of what it was made from (or of the files' bytes)."""

    name: str
    split: str
    fingerprint: str
    utterances: tuple[Utterance, ...]

    @property
    def audio_s(self) -> float:
        return sum(utterance.duration_s for utterance in self.utterances)

    @property
    def texts(self) -> list[str]:
        return [utterance.text for utterance in self.utterances]


def load_corpus(name: str, split: str, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """Load a split of `howto` (the target domain), `howto-source`, `digits`, or of the manifest at path `name`.

    Generated audio is made on first use (a few seconds for the target domain) and cached. A manifest without a
    `split` field is all test. Raises `InputError` for an unknown name or split and for a faulty manifest.
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
    path = Path(name)
    if path.suffix == ".jsonl" or path.is_dir():
        return read_manifest(path / "manifest.jsonl" if path.is_dir() else path, split)
    raise InputError(f"unknown corpus {name!r}: choose from {', '.join(GENERATED)}, or give the path of a manifest.jsonl")


def generated_fingerprint(name: str, split: str) -> str | None:
    """The fingerprint of a generated corpus by its recipe, without making its audio; None for a manifest."""
    if name in DOMAIN_OF:
        from asum_lib.corpora import howto

        return howto.fingerprint(DOMAIN_OF[name], split)
    if name == "digits":
        from asum_lib.corpora import digits

        return digits.fingerprint(split)
    return None


def read_audio(path: Path) -> np.ndarray:
    """Any file that libsndfile reads, as 16 kHz mono float32, shape (n,)."""
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        import soxr

        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    return samples


def read_manifest(path: Path, split: str) -> Corpus:
    """A corpus from JSON lines; lists every fault of the manifest at once."""
    import soundfile

    if not path.is_file():
        raise InputError(f"manifest not found: {path} (a JSON-lines file with id, audio and text on each line)")
    root, seen, faults, utterances, digest = path.parent.resolve(), set(), [], [], hashlib.sha256()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            identity, text, audio = str(entry["id"]), str(entry["text"]), (root / entry["audio"]).resolve()
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            faults.append(f"line {number}: needs a JSON object with id, audio and text ({error!r})")
            continue
        if identity in seen:
            faults.append(f"line {number}: id {identity!r} occurs twice")
        seen.add(identity)
        if entry.get("split", "test") != split:
            continue
        if not audio.is_relative_to(root):
            faults.append(f"line {number}: {entry['audio']!r} leaves the manifest's folder")
            continue
        try:
            info = soundfile.info(audio)
        except (soundfile.LibsndfileError, OSError):
            faults.append(f"line {number}: no readable audio at {entry['audio']!r}")
            continue
        digest.update(f"{identity}\0{text}\0".encode() + hashlib.sha256(audio.read_bytes()).digest())
        utterances.append(Utterance(identity, audio, text, info.frames / info.samplerate))
    if faults:
        raise InputError(f"{path}: {len(faults)} faults: " + "; ".join(faults[:20]) + ("; ..." if len(faults) > 20 else ""))
    if not utterances:
        raise InputError(f"{path}: no utterance has split {split!r}")
    return Corpus(path.parent.name, split, digest.hexdigest(), tuple(utterances))


def materialize(
    folder: Path, name: str, split: str, fingerprint: str, takes: Iterable[tuple[str, str, np.ndarray]], progress=lambda line: None
) -> Corpus:
    """Write `(id, text, samples)` takes as a manifest folder, whole or not at all, and read it back; a no-op where it exists."""
    import soundfile

    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            work = Path(temporary) / folder.name
            (work / "audio").mkdir(parents=True)
            lines = []
            for number, (identity, text, samples) in enumerate(takes, start=1):
                soundfile.write(work / "audio" / f"{identity}.flac", samples, SAMPLE_RATE_HZ, subtype="PCM_16")
                lines.append({"id": identity, "audio": f"audio/{identity}.flac", "text": text, "duration_s": len(samples) / SAMPLE_RATE_HZ})
                if number % 500 == 0:
                    progress(f"{name} {split}: {number} utterances made")
            (work / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
            try:
                os.rename(work, folder)
            except OSError:  # another process made the same corpus meanwhile
                if not manifest.is_file():
                    raise
    entries = map(json.loads, manifest.read_text(encoding="utf-8").splitlines())
    utterances = (Utterance(entry["id"], folder / entry["audio"], entry["text"], entry["duration_s"]) for entry in entries)
    return Corpus(name, split, fingerprint, tuple(utterances))


def log_mel(corpus: Corpus, extractor) -> np.ndarray:
    """Log-mel features of a corpus by a `WhisperFeatureExtractor`, float32, shape (utterances, mel bins, frames), cached on disk.

    Raises `InputError` where an utterance is longer than the extractor's window: nothing is cut silently.
    """
    window_s = extractor.n_samples / extractor.sampling_rate
    long = [utterance for utterance in corpus.utterances if utterance.duration_s > window_s]
    if long:
        worst = max(long, key=lambda utterance: utterance.duration_s)
        raise InputError(
            f"{len(long)} of {len(corpus.utterances)} utterances of {corpus.name} are longer than the model's {window_s:g} s window "
            f"(longest: {worst.id}, {worst.duration_s:.1f} s): split them, or take a model with a longer window"
        )
    recipe = json.dumps([corpus.fingerprint, extractor.to_dict()], sort_keys=True, default=str)
    path = cache() / "features" / f"{corpus.name}-{corpus.split}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = extractor.n_samples // extractor.hop_length
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            shape = (len(corpus.utterances), extractor.feature_size, frames)
            features = np.lib.format.open_memmap(file.name, "w+", np.float32, shape)
            for start in range(0, len(corpus.utterances), 256):
                audio = [read_audio(utterance.audio) for utterance in corpus.utterances[start : start + 256]]
                batch = extractor(audio, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features
                features[start : start + len(audio)] = batch
            features.flush()
        os.replace(file.name, path)
    return np.load(path, mmap_mode="r")
