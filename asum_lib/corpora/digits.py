"""Real human speech: strings of 3 to 7 spoken digits, joined from takes of the Free Spoken Digit Dataset (FSDD).

FSDD v1.0.10 (Jackson et al., CC BY-SA 4.0) is a grid: 10 digits x 6 speakers x 50 takes of one word at 8 kHz. Its own
split holds: takes 0 to 4 of each digit and speaker are test, and of the others 5 to 11 are dev here and 12 to 49 train.
No take is in two splits. Within a split a take recurs in several strings (a test take in about eight), and the six
speakers are in every split, so intervals over strings are somewhat too narrow for new takes, and say nothing of new people.

The recipe, which takes with which pauses, follows from the grid and a seed alone, so `fingerprint` needs no audio: whatever
does not sound as `SAMPLES_SHA256` says is no source of this corpus, so a fingerprint stands for its audio too. A
string that would not fit `LONGEST_S` loses its last digits: `text` is what was spoken, and nothing is cut inside a word.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from asum_lib.corpora import Corpus, materialize, read_audio
from asum_lib.corpora.manifest import beside, made, refuse
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError, choose
from asum_lib.paths import REPOSITORY, cache

VERSION = 1  # raise it when the text or audio of any string changes: every record made on the corpus becomes stale
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = {"test": range(0, 5), "dev": range(5, 12), "train": range(12, 50)}
STRINGS = {"train": 400, "dev": 120, "test": 500}
LONGEST_S = 3.9  # the mini ladder hears 4 s
SAMPLES_SHA256 = "cca99fe2b30f2d4d69fcb357e99c4d8e439555fd5fa05ca908eb8b7c554e5023"  # of the takes that the records were measured on
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
_LARGEST_ARCHIVE_BYTES = 500_000_000
_LARGEST_TAKE_BYTES = 2_000_000


@dataclass(frozen=True)
class String:
    """The plan of one utterance: `takes` such as `7_theo_12`, and the silence in ms between neighbours (one fewer)."""

    id: str
    takes: tuple[str, ...]
    gaps_ms: tuple[int, ...]


def strings(split: str) -> list[String]:
    """The plan of every string of a split, speakers in turn; 3 to 7 different takes of one speaker, digits may recur."""
    choose("split", split, TAKES)
    return [_string(split, number) for number in range(STRINGS[split])]


def fingerprint(split: str) -> str:
    """SHA-256 of the plan of a split: take names and gaps. Needs no audio, and is the same on every machine."""
    lines = [json.dumps([VERSION, *astuple(string)]) for string in strings(split)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load(split: str, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """The strings of a split as a corpus, made on first use and cached; `InputError` where FSDD is nowhere to be found."""
    digest = fingerprint(split)
    folder = cache() / "corpora" / f"digits-{split}-{digest[:12]}"
    audio = {} if made(folder) else check(source())
    spoken = ((string.id, *speak(string, audio)) for string in strings(split))
    return materialize(folder, "digits", split, digest, spoken, progress)


def speak(string: String, audio: dict[str, Path]) -> tuple[str, np.ndarray]:
    """Text and 16 kHz float32 samples of a string; `audio` maps take names to files, as `take_files` finds them.

    Takes are trimmed, brought to one loudness (a speaker's own differ by up to 40 dB), and joined; the string peaks at 0.7.
    """
    parts, length_s = [], 0.0
    for take, gap_ms in zip(string.takes, (0, *string.gaps_ms), strict=True):
        samples = trim(read_audio(audio[take]))
        length_s += (len(samples) + gap_ms * SAMPLE_RATE_HZ // 1_000) / SAMPLE_RATE_HZ
        if length_s > LONGEST_S:
            break
        parts += [np.zeros(gap_ms * SAMPLE_RATE_HZ // 1_000, np.float32), samples / _loudness(samples).max()]
    joined = np.concatenate(parts)
    text = " ".join(WORDS[int(take[0])] for take in string.takes[: len(parts) // 2])
    return text, joined * np.float32(0.7 / np.abs(joined).max())


def trim(samples: np.ndarray, below_peak_db: float = 30, margin_ms: int = 20) -> np.ndarray:
    """Cut silence and faint noise from both ends: what is before the first and after the last 10 ms frame whose RMS comes
    within `below_peak_db` of the loudest frame's, but for `margin_ms` on either side. The ends fade over 5 ms, against clicks.

    The threshold follows the take, because the quietest takes peak at 0.01 and the noisiest have a floor of 0.01.
    """
    loudness = _loudness(samples)
    frame, margin = SAMPLE_RATE_HZ // 100, margin_ms * SAMPLE_RATE_HZ // 1_000
    loud = np.flatnonzero(loudness >= loudness.max() * 10 ** (-below_peak_db / 20))
    kept = samples[max(0, loud[0] * frame - margin) : (loud[-1] + 1) * frame + margin].copy()
    fade = np.linspace(0, 1, SAMPLE_RATE_HZ // 200, dtype=np.float32)
    kept[: len(fade)] *= fade
    kept[-len(fade) :] *= fade[::-1]
    return kept


def source() -> Path:
    """The FSDD folder: `$ASUM_FSDD`, `$ASUM_REAL_DATA/spoken-digits`, `../shared/real/spoken-digits` beside the repository, or the download."""
    if "ASUM_FSDD" in os.environ:
        return Path(os.environ["ASUM_FSDD"])
    candidates = [REPOSITORY.parent / "shared" / "real" / "spoken-digits", cache() / "fsdd"]
    if "ASUM_REAL_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["ASUM_REAL_DATA"]) / "spoken-digits")
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise InputError("the spoken digits (FSDD) are not on this machine: `asum data digits` downloads them, or set ASUM_FSDD to their folder")


def take_files(folder: Path) -> dict[str, Path]:
    """All 3,000 takes by name, from a folder with `manifest.jsonl` or from the original `recordings/{digit}_{speaker}_{take}.wav`."""
    manifest = folder / "manifest.jsonl"
    recordings = (*folder.glob("*.wav"), *folder.glob("recordings/*.wav"))
    files = _listed(manifest) if manifest.is_file() else {path.stem: path for path in recordings}
    missing = [name for name in _grid() if name not in files or not files[name].is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of the 3000 FSDD takes, e.g. {missing[0]}: "
            "it needs manifest.jsonl or recordings/{digit}_{speaker}_{take}.wav of FSDD v1.0.10 (`asum data digits` downloads it)"
        )
    return {name: files[name] for name in _grid()}


def check(folder: Path) -> dict[str, Path]:
    """`take_files`, where every sample of every take is that of the recordings that the study was measured on, in any lossless format.

    Raises InputError.
    """
    files = take_files(folder)
    if (found := samples_sha256(files)) != SAMPLES_SHA256:
        raise InputError(f"{folder} does not hold the recordings of FSDD v1.0.10: its samples have sha256 {found}, should have {SAMPLES_SHA256}")
    return files


def samples_sha256(files: dict[str, Path]) -> str:
    """SHA-256 over name, sample rate, length and 16-bit samples of each take, in the order given."""
    import soundfile

    digest = hashlib.sha256()
    for name, path in files.items():
        try:
            samples, rate_hz = soundfile.read(path, dtype="int16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        digest.update(f"{name} {rate_hz} {len(samples)}\n".encode())
        digest.update(samples.astype("<i2").tobytes())
    return digest.hexdigest()


def download(url: str = URL, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Fetch FSDD v1.0.10 (about 16 MB) into the cache folder, whole or not at all; returns its folder, at once where it exists."""
    folder = cache() / "fsdd"
    if folder.is_dir():
        check(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fsdd", dir=folder.parent) as work:
        archive = Path(work) / "archive.tar.gz"
        _fetch(url, archive, progress)
        _unpack(archive, Path(work) / "fsdd" / "recordings")
        check(Path(work) / "fsdd")
        progress("digits: 3000 takes of 6 speakers are there")
        os.rename(Path(work) / "fsdd", folder)
    return folder


def _string(split: str, number: int) -> String:
    digest = hashlib.sha256(f"digits:{VERSION}:{split}:{number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    speaker = SPEAKERS[number % len(SPEAKERS)]
    own = [f"{digit}_{speaker}_{take}" for digit in range(10) for take in TAKES[split]]
    takes = tuple(own[index] for index in rng.choice(len(own), rng.integers(3, 8), replace=False))
    return String(f"digits-{split}-{number:04d}", takes, tuple(int(gap) for gap in rng.integers(50, 151, len(takes) - 1)))


def _grid() -> list[str]:
    return [f"{digit}_{speaker}_{take}" for digit in range(10) for speaker in SPEAKERS for take in range(50)]


def _loudness(samples: np.ndarray) -> np.ndarray:
    """RMS of each 10 ms frame, the last one padded with zeros."""
    frame = SAMPLE_RATE_HZ // 100
    frames = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    return np.sqrt(np.mean(frames**2, axis=1))


def _listed(manifest: Path) -> dict[str, Path]:
    """The takes of a manifest by name, each a file beside it."""
    files, faults, root = {}, [], manifest.parent.resolve()
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            name, shown = entry["id"], entry["audio"]
        except (ValueError, KeyError, TypeError):
            name = shown = None
        if not isinstance(name, str) or not isinstance(shown, str):
            faults.append(f"line {number}: an object with id and audio is needed")
            continue
        files[name], fault = beside(shown, root)
        if fault:
            faults.append(f"line {number}: {fault}")
    refuse(manifest, faults)
    return files


def _fetch(url: str, path: Path, progress: Callable[[str], None]) -> None:
    try:
        answer = urllib.request.urlopen(url, timeout=60)
    except (urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"cannot reach {url} ({reason}): check the network, and the proxy that HTTPS_PROXY names if there is one") from None
    with answer, path.open("wb") as file:
        expected, done = int(answer.headers.get("Content-Length") or 0), 0
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            progress(f"digits: {done / 1e6:.0f} MB" + (f" of {expected / 1e6:.0f}" if expected else "") + f" from {url}")
            if done > _LARGEST_ARCHIVE_BYTES:
                raise OSError(f"{url} is larger than {_LARGEST_ARCHIVE_BYTES / 1e6:.0f} MB: not the FSDD archive")
    if expected and done != expected:
        raise OSError(f"{url} broke off after {done} of {expected} bytes: try again")


def _unpack(archive: Path, folder: Path) -> None:
    """Take `*/recordings/{digit}_{speaker}_{take}.wav` out of the archive, plain files under their own names, and nothing else."""
    folder.mkdir(parents=True)
    wanted = re.compile(r"[^/]+/recordings/([0-9]_[a-z]+_[0-9]{1,2}\.wav)")
    try:
        with tarfile.open(archive) as members:
            for member in members:
                match = wanted.fullmatch(member.name)
                if match and member.isfile() and member.size <= _LARGEST_TAKE_BYTES:
                    with members.extractfile(member) as take, (folder / match[1]).open("wb") as file:
                        shutil.copyfileobj(take, file)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise OSError(f"the downloaded FSDD archive cannot be unpacked: {error}") from error
