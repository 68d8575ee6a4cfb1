"""Log-mel features of a corpus: computed once, kept on disk without the padding, read in batches.

A row is a window: an utterance that fits the model's window is one row, a longer one several, cut at quiet places by
`audio.cut_to`, so that nothing is lost. Whisper pads every window with silence, whose log-mel value is one number: only
the frames before that tail are kept, which is lossless and a third of the bytes for utterances of ten seconds.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from asum_lib.corpora import Corpus
from asum_lib.corpora.audio import cut_to, samples_of
from asum_lib.corpora.manifest import remove_left
from asum_lib.corpora.phrases import from_first_sound
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.files import named
from asum_lib.paths import cache

_BATCH = 64
_PIECE = 1 << 24  # values
_VERSION = 1  # of what is kept: raised when the cutting of windows, or this module, changes a value
_LIBRARIES = ("numpy", "soundfile", "soxr", "torch", "transformers")  # that a value passes through


@dataclass(frozen=True)
class Features:
    """Windows in the order of their utterances; `features[i]` is float32 of shape (mel bins, frames), padded to the model's window."""

    values: np.ndarray  # the kept frames of all windows, one after the other, each (mel bins, kept frames) in row order
    starts: np.ndarray  # (windows,) where a window begins in `values`
    kept: np.ndarray  # (windows,) frames kept
    tails: np.ndarray  # (windows,) the value of every frame after them
    utterances: np.ndarray  # (windows,) index of the utterance
    shape: tuple[int, int]  # (mel bins, frames) of a padded window

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, window: int) -> np.ndarray:
        return self.batch([window])[0]

    def batch(self, items: Sequence[int]) -> np.ndarray:
        """Float32 of shape (items, mel bins, frames)."""
        bins, _ = self.shape
        result = np.empty((len(items), *self.shape), dtype=np.float32)
        for row, item in zip(result, items, strict=True):
            kept, start = self.kept[item], self.starts[item]
            row[:, :kept] = self.values[start : start + bins * kept].reshape(bins, kept)
            row[:, kept:] = self.tails[item]
        return result

    def of(self, utterances: range) -> "Features":
        """The windows of consecutive utterances; their `utterances` keep the numbers that they have here."""
        return self._only((self.utterances >= utterances.start) & (self.utterances < utterances.stop))

    def whole_utterances(self) -> "Features":
        """The windows that are a whole utterance: those whose transcript is known, which training needs."""
        counts = np.bincount(self.utterances)
        return self._only(counts[self.utterances] == 1)

    def _only(self, chosen: np.ndarray) -> "Features":
        return replace(self, **{name: getattr(self, name)[chosen] for name in ("starts", "kept", "tails", "utterances")})


def log_mel(corpus: Corpus, extractor, progress: Callable[[str], None] = lambda line: None) -> Features:
    """The features of `corpus` by a `WhisperFeatureExtractor`, from the cache or computed and cached, whole or not at all.

    What was damaged on disk since it was computed is found by its checksum, and computed anew.
    """
    source = f"{corpus.fingerprint} from the first sound" if corpus.from_first_sound else corpus.fingerprint
    recipe = json.dumps([source, extractor.to_dict(), _VERSION, [version(name) for name in _LIBRARIES]], sort_keys=True, default=str)
    folder = cache() / "features" / f"{corpus.name}-{corpus.split}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    features = _read(folder)
    if features is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left(folder)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            work = Path(temporary) / folder.name
            work.mkdir()
            with named(folder):
                _compute(corpus, extractor, work, progress)
            if folder.exists() and _read(folder) is None:
                progress(f"{corpus.name} {corpus.split}: the log-mel features in {folder} were damaged and are computed anew")
                shutil.rmtree(folder)
            try:
                os.rename(work, folder)
            except OSError:  # another process made the same features meanwhile
                if not (folder / "index.npz").is_file():
                    raise
        features = _read(folder)
    return features


def _read(folder: Path) -> Features | None:
    """The features in `folder`; None where there are none, or not those that were written."""
    try:
        with np.load(folder / "index.npz") as index:
            parts = {name: index[name] for name in ("starts", "kept", "tails", "utterances")}
            shape, checksum = tuple(index["shape"].tolist()), int(index["crc32"])
        values = np.memmap(folder / "values.f32", dtype=np.float32, mode="r")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Features(values, **parts, shape=shape) if _crc32(values) == checksum else None


def _crc32(values: np.ndarray) -> int:
    """Of all bytes, read in pieces of 64 MB."""
    found = 0
    for start in range(0, len(values), _PIECE):
        found = zlib.crc32(values[start : start + _PIECE], found)
    return found


def _compute(corpus: Corpus, extractor, folder: Path, progress: Callable[[str], None]) -> None:
    kept, tails, owners = [], [], []
    with open(folder / "values.f32", "wb") as file:
        for batch in _batches(corpus, extractor):
            padded = extractor([piece for _, piece in batch], sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features
            for (owner, _), window in zip(batch, padded, strict=True):
                tail = window[-1, -1]
                frames = int(np.flatnonzero((window != tail).any(axis=0))[-1]) + 1 if (window != tail).any() else 0
                file.write(np.ascontiguousarray(window[:, :frames]).tobytes())
                kept.append(frames)
                tails.append(tail)
                owners.append(owner)
            if len(kept) % 2_048 < len(batch):
                progress(f"{corpus.name} {corpus.split}: log-mel features of {owners[-1] + 1} of {len(corpus.utterances)} utterances")
        file.write(np.zeros(1, dtype=np.float32).tobytes())  # an empty file cannot be mapped, and all of the audio may be silent
    bins = extractor.feature_size
    starts = np.concatenate([[0], np.cumsum(np.array(kept, dtype=np.int64) * bins)[:-1]]).astype(np.int64)
    shape = np.array([bins, extractor.n_samples // extractor.hop_length])
    np.savez(
        folder / "index.npz",
        starts=starts,
        kept=np.array(kept, dtype=np.int64),
        tails=np.array(tails, dtype=np.float32),
        utterances=np.array(owners, dtype=np.int64),
        shape=shape,
        crc32=np.int64(_crc32(np.memmap(folder / "values.f32", dtype=np.float32, mode="r"))),
    )


def _batches(corpus: Corpus, extractor) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Lists of (index of the utterance, samples of one window)."""
    window_s, batch = extractor.n_samples / extractor.sampling_rate, []
    for owner, utterance in enumerate(corpus.utterances):
        samples = samples_of(utterance.audio)
        for piece in cut_to(from_first_sound(samples) if corpus.from_first_sound else samples, window_s):
            batch.append((owner, piece))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch
