"""Our decoding against `model.generate`: the same tokens, alone or in a batch, whatever the precision and the adapter."""

from types import SimpleNamespace

import numpy as np
import pytest

from asum_lib.corpora import load_corpus, read_manifest
from asum_lib.corpora.features import log_mel
from asum_lib.models import ladder, loading
from asum_lib.models.transcribe import transcribe, transcribe_tokens
from asum_lib.training.adapters import adapter_of, attach


def generated(speech, model, window) -> list[int]:
    """What transformers writes for one window alone, without prompt and end."""
    import torch

    with torch.inference_mode():
        dtype = speech.model.model.encoder.conv1.weight.dtype
        tokens = model.generate(input_features=torch.from_numpy(window[None]).to(dtype), do_sample=False, num_beams=1, **speech.generate)[0].tolist()
    prompt, end = speech.tokenizer.prefix_tokens, speech.model.generation_config.eos_token_id
    tokens = tokens[len(prompt) :] if tokens[: len(prompt)] == prompt else tokens
    return tokens[: tokens.index(end)] if end in tokens else tokens


@pytest.fixture(scope="module")
def howto():
    corpus = load_corpus("howto", "test")
    return log_mel(corpus, ladder.extractor())


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_same_tokens_as_generate_alone(howto, precision):
    speech = loading.load(str(ladder.checkpoint("medium")), precision)
    first = howto.of(range(24))
    ours = transcribe_tokens(speech.model, speech.tokenizer.prefix_tokens, first, batch_size=16)
    assert ours == [generated(speech, speech.model, first[item]) for item in range(24)]
    assert len({len(tokens) for tokens in ours}) > 3  # texts of several lengths: rows left the batches


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_the_batch_does_not_move_the_tokens(howto, batch_size):
    speech = loading.load(str(ladder.checkpoint("small")), "fp32")
    first = howto.of(range(24))
    whole = transcribe_tokens(speech.model, speech.tokenizer.prefix_tokens, first, batch_size=64)
    assert transcribe_tokens(speech.model, speech.tokenizer.prefix_tokens, first, batch_size) == whole


@pytest.fixture
def adapted():
    """A function from precision to (speech, adapted model): an adapter that changes what is written."""
    import torch

    def make(precision: str):
        torch.manual_seed(0)
        speech = loading.load(str(ladder.checkpoint("tiny")), precision)
        model = attach(speech.model, adapter_of("adalora", 8), total_steps=100).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_E" in name:
                    parameter.fill_(100)
        return speech, model

    return make


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_an_adapted_model_writes_what_generate_writes(howto, adapted, precision):
    speech, model = adapted(precision)
    first = howto.of(range(8))
    ours = transcribe_tokens(model, speech.tokenizer.prefix_tokens, first)
    assert ours == [generated(speech, model, first[item]) for item in range(8)]
    plain = loading.load(str(ladder.checkpoint("tiny")), precision)
    assert ours != transcribe_tokens(plain.model, speech.tokenizer.prefix_tokens, first)


@pytest.mark.parametrize("method", ["lora", "adalora"])
@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_an_adapted_model_that_computes_in_bf16_is_heard(howto, monkeypatch, precision, method):
    """As on a GPU: PEFT's AdaLoRA would turn activations into float32 there, which the next layer refuses."""
    monkeypatch.setattr(loading, "compute_dtype", lambda precision, scale="paper": "bfloat16")
    speech = loading.load(str(ladder.checkpoint("tiny")), precision)
    model = attach(speech.model, adapter_of(method, 8), total_steps=100)
    assert len(transcribe(model, speech.tokenizer, howto.of(range(2)))) == 2


def test_batches_dealt_to_processes_are_the_batches_of_one(howto):
    """Three processes, one after the other here: each hears its share, and together they give what one alone gives."""
    speech = loading.load(str(ladder.checkpoint("tiny")), "int8")
    prompt, first = speech.tokenizer.prefix_tokens, howto.of(range(20))

    def deal(count, hear):
        return [pair for numbers in (range(0), range(0, 2), range(2, count)) for pair in hear(numbers)]

    assert transcribe_tokens(speech.model, prompt, first, 4, share=deal) == transcribe_tokens(speech.model, prompt, first, 4)


def test_int8_is_the_same_as_generate_one_by_one_and_nearly_so_in_batches(howto):
    """LLM.int8() keeps a column in full precision where any row of the batch exceeds 6: there the batch is part of the arithmetic."""
    speech = loading.load(str(ladder.checkpoint("tiny")), "int8")
    prompt, first = speech.tokenizer.prefix_tokens, howto.of(range(64))
    expected = [generated(speech, speech.model, first[item]) for item in range(64)]
    assert transcribe_tokens(speech.model, prompt, first, batch_size=1) == expected
    in_batches = transcribe_tokens(speech.model, prompt, first)
    assert sum(ours != theirs for ours, theirs in zip(in_batches, expected, strict=True)) <= 6


def test_four_bit_layers_are_as_before_once_transcribed(howto):
    speech = loading.load(str(ladder.checkpoint("base")), "int4")
    forwards = [module.__dict__.get("forward") for module in speech.model.modules()]
    transcribe_tokens(speech.model, speech.tokenizer.prefix_tokens, howto.of(range(2)))
    assert [module.__dict__.get("forward") for module in speech.model.modules()] == forwards


def test_windows_of_one_utterance_are_joined_in_order_and_silence_adds_no_space():
    """A stand-in for model and tokenizer: what matters is who owns which text."""
    import asum_lib.models.transcribe as module

    tokenizer = SimpleNamespace(prefix_tokens=[0], batch_decode=lambda tokens, skip_special_tokens: [f" {t} " if t else "" for t in tokens])

    class Windows(SimpleNamespace):
        def __len__(self):
            return len(self.utterances)

    features = Windows(utterances=np.array([0, 1, 1, 1, 2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "transcribe_tokens", lambda *arguments: ["take", "two", "", "eggs", ""])
        assert transcribe(None, tokenizer, features) == ["take", "two eggs", ""]


@pytest.mark.slow
def test_real_architecture_and_speech_give_the_tokens_of_generate(real_tiny, real_data, tmp_path, monkeypatch):
    """Real generation settings: a prompt of four, suppressed tokens, a limit that random weights always reach."""
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    speech = loading.load(str(real_tiny), "fp32")
    assert len(speech.tokenizer.prefix_tokens) == 4
    assert len(speech.model.generation_config.suppress_tokens) > 80
    first = log_mel(read_manifest(real_data / "librispeech-84-121123" / "manifest.jsonl", "test"), speech.extractor).of(range(4))
    ours = transcribe_tokens(speech.model, speech.tokenizer.prefix_tokens, first)
    assert ours == [generated(speech, speech.model, first[item]) for item in range(4)]
    assert {len(tokens) for tokens in ours} == {20}
