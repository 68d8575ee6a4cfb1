"""Sound in files that libsndfile does not know (m4a, mp4, webm, wma, ...), decoded by `ffmpeg` where it is installed.

It runs as a process of its own, is given one regular file of a known kind and no network, and what
it writes is read in blocks. Whatever it says of errors means that a file is not whole.
"""

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asum_lib.corpora.parts import AudioError

SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".aac", ".amr", ".wma", ".wmv", ".asf"),
    *(".webm", ".weba", ".mkv", ".mka", ".avi", ".flv", ".mpg", ".mpeg", ".ac3", ".ape"),
    *(".wv", ".tta", ".ra", ".rm"),
)
_MAGIC = (  # of the files that it is asked to read: place, bytes
    (4, b"ftyp"),
    *((0, kind) for kind in (b"\x1aE\xdf\xa3", b"#!AMR", b"0&\xb2u\x8ef\xcf\x11", b"FLV\1", b"ADIF")),
    *((0, kind) for kind in (b"\xff\xf1", b"\xff\xf9", b"\x0bw", b"MAC ", b"wvpk", b"TTA1", b".RMF")),
    *((0, kind) for kind in (b".ra\xfd", b"\0\0\1\xba", b"RIFF", b"OggS", b"FORM", b"caff")),
)
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,ac3,eac3,amr,amrnb,amrwb,asf,avi,flv,mpegts,mpeg,ape,wv,tta,rm,wav,ogg,aiff,caf"
_SAFE = ("-protocol_whitelist", "file,pipe", "-format_whitelist", _DEMUXERS)
_SILENT_FOR_S = 60  # without a byte of output it hangs
_HEADER_BYTES = 24  # of AU: magic, offset, size, encoding, rate, channels


def known(path: Path) -> bool:
    """Whether the file begins like one that ffmpeg may read."""
    with path.open("rb") as file:
        head = file.read(16)
        mpeg_ts = head[:1] == b"G" and file.seek(188) and file.read(1) == b"G"
    quicktime = head[:1] == b"\0" and head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip")
    return bool(mpeg_ts) or quicktime or any(head[at : at + len(kind)] == kind for at, kind in _MAGIC)


def found() -> str | None:
    """The program, if it is on the PATH."""
    return shutil.which("ffmpeg")


def blocks(path: Path, block_samples: int) -> Iterator[tuple[np.ndarray, int]]:
    """(float32 of shape (frames, channels), rate in Hz) of the first sound track. Raises `AudioError`."""
    command = [found(), "-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"]
    command += [*_SAFE, "-i", f"file:{os.fspath(path)}", "-map", "0:a:0", "-c:a", "pcm_f32be"]
    command += ["-f", "au", "pipe:1"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            head = _read(path, process, _HEADER_BYTES)
            if len(head) == _HEADER_BYTES and head[:4] == b".snd":
                offset, _, _, rate_hz, channels = np.frombuffer(head, ">u4", 5, 4).tolist()
                _read(path, process, offset - _HEADER_BYTES)
                size = 4 * channels * max(1, block_samples // channels)
                while data := _read(path, process, size):
                    whole = len(data) - len(data) % (4 * channels)
                    samples = np.frombuffer(data[:whole], ">f4").astype(np.float32)
                    yield samples.reshape(-1, channels), rate_hz
            status = process.wait(_SILENT_FOR_S)
        finally:
            process.kill()
        log.seek(0)
        said = log.read(4_096).decode("utf-8", "replace").strip().splitlines()
    if any("matches no streams" in line for line in said):
        raise AudioError(path, "holds no sound, says ffmpeg: a recording with speech is needed")
    if status or said:
        why = said[-1].rpartition("] ")[2].replace(f"file:{path}: ", "")[:120] if said else status
        raise AudioError(path, f"is broken, says ffmpeg ({why}): copy it anew")


def has_second_track(path: Path) -> bool:
    """Whether a file holds another sound track beside the first, such as a microphone beside a film's sound."""
    command = [found(), "-nostdin", "-hide_banner", "-loglevel", "quiet", *_SAFE, "-i", f"file:{os.fspath(path)}"]
    command += ["-map", "0:a:1", "-c", "copy", "-frames:a", "1", "-f", "null", "-"]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.run(command, **streams, timeout=_SILENT_FOR_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _read(path: Path, process, size: int) -> bytes:
    """So many bytes of what the process writes, fewer at its end."""
    parts = []
    while size > 0:
        if not select.select([process.stdout], [], [], _SILENT_FOR_S)[0]:
            raise AudioError(path, f"ffmpeg gave nothing for {_SILENT_FOR_S} s: convert it to WAV")
        data = os.read(process.stdout.fileno(), min(size, 1 << 20))
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
