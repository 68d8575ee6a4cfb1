"""Synthetic speech: eSpeak NG through `ctypes`, then a room and noise. The wheel `espeakng-loader` brings library and voices.

All audio leaves this module as 16 kHz mono float32 in [-1, 1] and is a pure function of its arguments.
"""

import ctypes

import numpy as np

SAMPLE_RATE_HZ = 16_000
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: give the samples to the callback before returning, play nothing
_UTF8 = 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_chunks: list[np.ndarray] = []


@_CALLBACK
def _collect(samples, count, _events):
    if count > 0:
        _chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
    return 0


_loaded = None


def _espeak():
    """A freshly loaded, initialised and seeded library, and its sample rate in Hz.

    eSpeak NG carries state from one utterance into the next (the phase of its pitch flutter, a random generator for breath),
    and starts with a random seed: without a fresh library for each utterance the same words never sound the same twice.
    """
    import _ctypes

    import espeakng_loader

    global _loaded
    if _loaded is not None:
        _loaded.espeak_Terminate()
        _ctypes.dlclose(_loaded._handle)
    _loaded = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = _loaded.espeak_Initialize(_SYNCHRONOUS, 500, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate_hz <= 0:
        raise RuntimeError(f"eSpeak NG did not start from {espeakng_loader.get_data_path()} (code {rate_hz})")
    _loaded.espeak_ng_SetRandSeed(ctypes.c_long(1))
    _loaded.espeak_SetSynthCallback(_collect)
    return _loaded, rate_hz


def synthesize(text: str, voice: str, rate_wpm: int = 175, pitch: int = 50) -> np.ndarray:
    """Speak `text` with an eSpeak NG voice such as `en-us+f2`; returns 16 kHz float32 samples of shape (n,)."""
    import soxr

    library, rate_hz = _espeak()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice!r}")
    library.espeak_SetParameter(_RATE, rate_wpm, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    _chunks.clear()
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
    samples = np.concatenate(_chunks).astype(np.float32) / 32768
    return soxr.resample(trim(samples), rate_hz, SAMPLE_RATE_HZ)


def trim(samples: np.ndarray, threshold: float = 0.005) -> np.ndarray:
    """Cut leading and trailing samples whose magnitude stays under `threshold` (full scale 1)."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def add_room(samples: np.ndarray, rng: np.random.Generator, snr_db: float, echo: float = 0.0) -> np.ndarray:
    """Put speech in a room: an echo of relative amplitude `echo`, then coloured noise at `snr_db` below the speech's power.

    The noise is a first-order low-passed white noise, its colour drawn from `rng`. The result peaks at 0.7 at most.
    """
    from scipy.signal import lfilter

    if echo:
        delayed = samples.copy()
        for reflection in range(1, 4):
            delay = int(SAMPLE_RATE_HZ * reflection * rng.uniform(0.03, 0.06))
            if delay < len(samples):
                delayed[delay:] += echo**reflection * samples[:-delay]
        samples = delayed
    noise = lfilter([1.0], [1.0, -rng.uniform(0.3, 0.95)], rng.standard_normal(len(samples)))
    gain = np.sqrt(np.mean(samples**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    mixed = samples + gain * noise
    return (mixed * (0.7 / max(0.7, np.abs(mixed).max()))).astype(np.float32)
