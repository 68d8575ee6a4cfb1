"""How sure a model is of what it heard: figures worked out by hand on a stand-in, and real Whispers where they are at hand."""

import numpy as np
import pytest
import torch

from asum_lib import listening, systems
from asum_lib.corpora.phrases import Phrase
from asum_lib.corpora.say import say
from asum_lib.errors import InputError
from asum_lib.listening import IMPROBABLE, LOOP, Segment, doubt_of, judge
from asum_lib.models import ladder, loading, recognize, summarize, text_ladder
from asum_lib.models.recognize import MINI, PAPER, Heard, compression_ratio
from asum_lib.models.transcribe import decode, encode, is_loop

RUSSIAN = (
    "сегодня утром в москве выпал первый снег. правительство приняло новый закон о железных дорогах. "
    "учёные нашли ещё один древний город на юге страны"
)


def heard(avg_logprob=-0.2, compression_ratio=1.3, no_speech=0.01, text="so it is"):
    return Heard(text, avg_logprob, compression_ratio, no_speech, 0.0)


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (heard(), None),
        (heard(-0.9), None),
        (heard(-1.1), IMPROBABLE),
        (heard(-0.6, no_speech=0.9), IMPROBABLE),  # the "you" that Whisper hears in two seconds of noise
        (heard(-0.2, no_speech=0.9), None),
        (heard(-0.1, compression_ratio=8.0), LOOP),
        (heard(-0.6, no_speech=None), None),
    ],
)
def test_what_is_doubted(found, doubt):
    assert doubt_of(found, PAPER) == doubt


def test_compression_is_bytes_over_their_zlib():
    assert compression_ratio("") == 0.0
    assert compression_ratio("the quick brown fox jumps over the lazy dog") < 1.1
    assert compression_ratio("no " * 60) > 2.4


def test_a_loop_needs_forty_eight_tokens():
    assert is_loop([1, 2, 3] * 16) and is_loop([9] + [4] * 48)
    assert not is_loop([4] * 47) and not is_loop(list(range(100)))


def test_a_recording_unlike_the_training_is_told_as_a_whole():
    sure, unsure = (Segment(0.0, 1.0, "now cut it", avg_logprob=value) for value in (-0.001, -0.05))
    assert judge([sure, unsure, unsure], MINI).notes[0].startswith("2 of 3 phrases do not look like")
    assert judge([sure, sure, unsure], MINI).usable and judge([unsure], MINI).usable
    assert judge([unsure] * 9, PAPER) == listening.Judged((unsure,) * 9, (), True)


@pytest.fixture(scope="module")
def mini():
    speech = loading.load(str(ladder.checkpoint("tiny")), "fp32", "mini")
    samples = say("all you need is a glass jar", "en-us")[:64_000]
    features = speech.extractor([samples], sampling_rate=16_000, return_tensors="np").input_features
    with torch.inference_mode():
        states = encode(speech.model, features, range(1))
    return speech, samples, features, states


def test_the_mean_log_probability_is_that_of_the_tokens(mini):
    speech, samples, features, states = mini
    with torch.inference_mode():
        (written,) = decode(speech.model, speech.tokenizer.prefix_tokens, states)
        prompt, end = speech.tokenizer.prefix_tokens, speech.model.generation_config.eos_token_id
        ids = torch.tensor([[*prompt, *written.tokens, end]])
        logits = speech.model(input_features=torch.from_numpy(features), decoder_input_ids=ids[:, :-1]).logits
    logprobs = logits.log_softmax(-1)[0, len(prompt) - 1 :].gather(1, ids[0, len(prompt) :, None])
    assert written.avg_logprob == pytest.approx(logprobs.mean().item(), abs=1e-4)
    assert written.no_speech is None
    (found,) = recognize.recognize(speech, [samples], 4)
    assert found.avg_logprob == pytest.approx(written.avg_logprob, abs=1e-5) and found.temperature == 0


def test_drawn_text_is_the_same_with_the_same_seed(mini):
    speech, _, _, states = mini
    with torch.inference_mode():
        first, again, other = (
            decode(
                speech.model,
                speech.tokenizer.prefix_tokens,
                states,
                temperature=1.0,
                generator=torch.Generator().manual_seed(seed),
            )
            for seed in (0, 0, 5)
        )
    assert first == again and first != other


def test_a_loop_is_decoded_again_at_rising_temperatures(mini, monkeypatch):
    speech, samples, *_ = mini
    asked = []

    def decoded(speech, whisper, states, temperature, generator):
        asked.append((temperature, len(states)))
        looping = [temperature < 0.4] + [False] * (len(states) - 1)
        return [heard(compression_ratio=9.0 if loop else 1.0, text=f"{temperature}") for loop in looping]

    monkeypatch.setattr(recognize, "_decoded", decoded)
    first, second = recognize.recognize(speech, [samples, samples], 2)
    assert asked == [(0.0, 2), (0.2, 1), (0.4, 1)] and (first.text, second.text) == ("0.4", "0.0")


def test_a_model_of_one_language_cannot_tell_which_is_spoken(mini):
    with pytest.raises(InputError, match="cannot be told by a model that knows one language"):
        recognize.language_probabilities(mini[0], [mini[1]])


def noises():
    """Room noise, mains hum and traffic, and two seconds of quiet noise."""
    rng, time_s = np.random.default_rng(0), np.arange(30 * 16_000) / 16_000
    noise = rng.normal(0, 0.01, len(time_s))
    hum = 0.05 * np.sin(2 * np.pi * 50 * time_s) + noise / 10
    traffic = noise * 10 ** (np.sin(2 * np.pi * time_s / 3) * 8 / 20)
    return [noise, hum, traffic, noise[:32_000] / 10]


def test_real_whisper_hears_nothing_in_noise(whisper_tiny_en):
    speech = loading.load(str(whisper_tiny_en), "fp32")
    for samples in noises():
        (found,) = listening.listen(speech, [Phrase(0.0, samples.astype(np.float32))], 1, recognize.bounds_of(speech))
        assert found.doubt == IMPROBABLE and found.no_speech > 0.6


def test_real_whisper_believes_real_speech(whisper_tiny_en, real_data):
    from asum_lib.corpora.audio import read_audio

    speech = loading.load(str(whisper_tiny_en), "fp32")
    for path in sorted((real_data / "librispeech-84-121123" / "audio").iterdir())[:3]:
        (found,) = listening.listen(speech, [Phrase(0.0, read_audio(path))], 1, recognize.bounds_of(speech))
        assert found.doubt is None and found.avg_logprob > -0.6 and found.no_speech < 0.3


def test_the_language_of_real_speech_is_told(whisper_base, real_data):
    from asum_lib.corpora.audio import read_audio

    speech = loading.load(str(whisper_base), "fp32")
    path = sorted((real_data / "librispeech-84-121123" / "audio").iterdir())[1]
    language, said = listening.tell_language(speech, [Phrase(0.0, read_audio(path)[: 30 * 16_000])])
    assert (language, said) == ("en", "language en, told from the sound with probability 1.00")


def test_russian_is_written_in_cyrillic(whisper_base, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "ru.wav", say(RUSSIAN, "ru", 140, 40.0), 16_000)
    mbart = str(text_ladder.checkpoint("mbart"))
    given = {"scale": "paper", "precision": "fp32", "asr": str(whisper_base), "summarizer": mbart}
    answer = systems.load(**given, language="ru")(tmp_path / "ru.wav")
    text = answer.segments[0].text
    letters = [letter for letter in text.lower() if letter.isalpha()]
    assert answer.language == "ru" and sum("а" <= letter <= "ё" for letter in letters) > 0.9 * len(letters)


def test_a_text_that_cannot_be_spelled_gets_no_summary(real_data):
    tokenizer = summarize.load_tokenizer(real_data / "tokenizers" / "t5", "en")
    t5 = summarize.Summarizer(None, tokenizer, "t5", "en")
    assert "has no letters for" in summarize.unspelled(t5, [RUSSIAN])
    assert summarize.unspelled(t5, ["The old library closed its doors.", ""]) is None


def test_real_speech_is_not_read_by_the_mini_text_model(whisper_tiny_en, real_data):
    path = sorted((real_data / "librispeech-84-121123" / "audio").iterdir())[0]
    given = {"scale": "paper", "precision": "fp32", "asr": str(whisper_tiny_en)}
    answer = systems.load(**given, summarizer=systems.SUMMARIZER["mini"])(path)
    assert answer.summary == "" and answer.segments[0].doubt is None
    assert "cannot be read by the text model, which was never taught their words" in answer.notes[-1]


def test_a_language_that_whisper_has_no_token_for_is_refused(whisper_base, whisper_tiny_en):
    with pytest.raises(InputError, match=r"unknown language 'xx': checkpoint .* knows af, am, ar"):
        systems.load(scale="paper", asr=str(whisper_base), language="xx")
    with pytest.raises(InputError, match="knows English alone"):
        systems.load(scale="paper", asr=str(whisper_tiny_en), language="ru")
