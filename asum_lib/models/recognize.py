"""What is heard in the windows of a recording that somebody brings, and how far it can be believed.

A Whisper answers every sound with words: of noise it makes a sentence, and now and then it repeats itself to the end of its window.
Both show in what decoding knows anyway. Invented words are improbable, so the mean log-probability of a window's tokens tells them from
speech; a loop compresses well, so its text does. A loop is decoded again at rising temperatures, as OpenAI's `whisper` does, drawn
with a fixed seed; what no attempt mends is marked. The tables of the study do none of this (`transcribe`).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from asum_lib.errors import InputError
from asum_lib.models import ladder
from asum_lib.models.loading import Speech, unpacked
from asum_lib.models.transcribe import Written, decode, encode

MOST_COMPRESSION = 2.4  # OpenAI's sign of a loop: bytes of the text by bytes once compressed
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # tried in turn where the greedy text is a loop
SEED = 0
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")  # the token's name in later and in earlier checkpoints
START = "<|startoftranscript|>"


@dataclass(frozen=True)
class Bounds:
    """Mean log-probabilities above which a text is believed.

    Set on dev data (`runs/hearing_bounds.py`). `PAPER` with Whisper tiny.en: 69 utterances of VoxPopuli's dev split lay at -0.47
    to -0.05, with no_speech up to 0.16; 168 windows of noise, hum, clicks and tones at -3.5 to -0.49, with no_speech from 0.69.
    The short ones among these become a confident "you", hence the second bound; -1 is OpenAI's. `MINI` on the dev talks of the
    generated corpora, heard by the shipped model: 0.3 % of the phrases that it hears rightly are below `least`, 45 % of the
    others; of 55 talks 2 have most phrases below `usual`, of 59 recordings of other English 56.
    """

    least: float
    least_if_silent: float  # where the model itself thinks that nobody speaks
    usual: float | None = None  # of the speech that the model was trained on: where most phrases are below it, this is another


PAPER = Bounds(least=-1.0, least_if_silent=-0.4)
MINI = Bounds(least=-0.08, least_if_silent=-0.08, usual=-0.03)
MOST_NO_SPEECH = 0.6  # OpenAI's


@dataclass(frozen=True)
class Heard:
    """The text of one window. `avg_logprob` is the mean natural log-probability of its tokens, the end included."""

    text: str
    avg_logprob: float
    compression_ratio: float
    no_speech: float | None  # Whisper's own probability that nobody speaks; None where the model has no token for it
    temperature: float  # at which it was decoded, 0 for greedy


def recognize(speech: Speech, samples: Sequence, batch_size: int) -> list[Heard]:
    """What is heard in each of `samples` (arrays of 16 kHz mono, none longer than the window), in order."""
    import torch

    whisper = base_model(speech)
    features = _features(speech, samples)
    device = whisper.device
    heard: list[Heard] = []
    with torch.inference_mode(), unpacked(whisper):
        for start in range(0, len(samples), batch_size):
            states = encode(whisper, features, range(start, min(start + batch_size, len(samples))))
            batch = _decoded(speech, whisper, states, 0.0, None)
            generator = torch.Generator(device).manual_seed(SEED)
            for temperature in TEMPERATURES:
                loops = [row for row, one in enumerate(batch) if one.compression_ratio > MOST_COMPRESSION]
                if not loops:
                    break
                again = _decoded(speech, whisper, states[loops], temperature, generator)
                for row, one in zip(loops, again, strict=True):
                    if one.compression_ratio <= MOST_COMPRESSION:
                        batch[row] = one
            heard += batch
    return heard


def language_probabilities(speech: Speech, samples: Sequence) -> dict[str, float]:
    """{language code: its mean probability over the windows}, the likeliest first; `InputError` for a model that knows one alone."""
    import torch

    whisper = base_model(speech)
    table = getattr(whisper.generation_config, "lang_to_id", None) or {}
    if not table:
        raise InputError("the language of a recording cannot be told by a model that knows one language: leave it out, or choose a multilingual one")
    start = speech.tokenizer.convert_tokens_to_ids(START)
    with torch.inference_mode(), unpacked(whisper):
        states = encode(whisper, _features(speech, samples), range(len(samples)))
        prompt = torch.full((len(states), 1), start, device=states.device)
        last = whisper.model.decoder(input_ids=prompt, encoder_hidden_states=states).last_hidden_state[:, -1]
        ids = torch.tensor(list(table.values()), device=states.device)
        mean = whisper.proj_out(last).float()[:, ids].softmax(dim=-1).mean(dim=0).tolist()
    found = {token.strip("<|>"): value for token, value in zip(table, mean, strict=True)}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def bounds_of(speech: Speech) -> Bounds:
    """The bounds of a loaded model: those of the mini ladder, or those of the published sizes."""
    return MINI if is_mini(speech) else PAPER


def is_mini(speech: Speech) -> bool:
    """Whether a loaded model is one of the mini ladder, whose windows are far shorter than Whisper's."""
    return speech.model.config.max_target_positions <= ladder.MAX_TOKENS


def compression_ratio(text: str) -> float:
    """Bytes of a text by the bytes that zlib makes of them: about 1.5 for speech, far more for a loop; 0 for no text."""
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain)) if plain else 0.0


def base_model(speech: Speech):
    """The Whisper under an adapter, or the Whisper itself, in evaluation mode."""
    speech.model.eval()
    return speech.model.get_base_model() if hasattr(speech.model, "get_base_model") else speech.model


def _features(speech: Speech, samples: Sequence):
    return speech.extractor(list(samples), sampling_rate=speech.extractor.sampling_rate, return_tensors="np").input_features


def _decoded(speech: Speech, whisper, states, temperature: float, generator) -> list[Heard]:
    tokenizer = speech.tokenizer
    options = {"temperature": temperature, "generator": generator, "stop_loops": True, "no_speech_id": _no_speech_id(tokenizer)}
    written = decode(whisper, tokenizer.prefix_tokens, states, **options)
    texts = tokenizer.batch_decode([one.tokens for one in written], skip_special_tokens=True)
    return [_heard(one, text.strip(), temperature) for one, text in zip(written, texts, strict=True)]


def _heard(written: Written, text: str, temperature: float) -> Heard:
    return Heard(text, written.avg_logprob, compression_ratio(text), written.no_speech, temperature)


def _no_speech_id(tokenizer) -> int | None:
    known = tokenizer.get_added_vocab()
    return next((known[name] for name in NO_SPEECH if name in known), None)
