"""The end-to-end summariser: what the bridge leaves, how the text model reads it, how it is kept."""

import pytest
import torch

from asum_lib.errors import InputError
from asum_lib.models import loading, speech_summary, summarize, text_ladder
from asum_lib.models.ladder import checkpoint
from asum_lib.models.speech_summary import compress
from asum_lib.paths import CHECKPOINTS

NOTHING = 0
EMBEDDINGS = torch.eye(4)[:, :3] * 10  # of four tokens; the last is zeros


def logits_of(tokens: list[int], sure: float = 50.0):
    """A window whose states say these tokens, all but certainly."""
    return sure * torch.nn.functional.one_hot(torch.tensor([tokens]), 4).float()


def test_states_of_one_token_become_one_vector_and_those_of_nothing_none():
    (vectors,) = compress(logits_of([0, 1, 1, 1, 0, 0, 2, 2]), torch.zeros(1, 8, 3), EMBEDDINGS, NOTHING)
    assert torch.allclose(vectors, EMBEDDINGS[[1, 2]])


def test_a_token_said_twice_with_nothing_between_stays_two():
    (vectors,) = compress(logits_of([1, 0, 1]), torch.zeros(1, 3, 3), EMBEDDINGS, NOTHING)
    assert len(vectors) == 2


def test_a_window_in_which_nothing_is_heard_gives_no_vector():
    first, second = compress(torch.cat([logits_of([0, 0]), logits_of([0, 1])]), torch.zeros(2, 2, 3), EMBEDDINGS, NOTHING)
    assert (len(first), len(second)) == (0, 1)


def test_what_is_beside_the_words_is_added_as_the_mean_over_a_run():
    beside = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0], [9.0, 0, 0]]])
    (vectors,) = compress(logits_of([3, 3, 0]), beside, EMBEDDINGS, NOTHING)
    assert torch.allclose(vectors, torch.tensor([[2.0, 0, 0]]))


def test_where_the_bridge_is_unsure_the_vector_lies_between_the_tokens():
    window = torch.log(torch.tensor([[[1e-9, 0.6, 0.4, 1e-9]]]))
    (vectors,) = compress(window, torch.zeros(1, 1, 3), EMBEDDINGS, NOTHING)
    assert torch.allclose(vectors, 0.6 * EMBEDDINGS[1] + 0.4 * EMBEDDINGS[2], atol=1e-4)


@pytest.fixture(scope="module")
def ear():
    speech = loading.load(str(checkpoint("tiny")), "int8", "mini")
    return speech_summary.join(speech, summarize.load(str(text_ladder.checkpoint("t5")), "fp32", "en", "mini"), seed=0, inner=32)


def test_the_text_model_reads_a_perfect_bridge_as_it_reads_a_transcript(ear):
    """The frame around what is heard is that of `summarize.encode`."""
    texts = ["melt the wax", "stir it"]
    tokens = speech_summary.phrase_tokens(ear.text.tokenizer, texts)
    table = ear.model.embeddings()
    stop, prefix, end = (table[ids] for ids in ear.model.frame.tensors("cpu"))
    read = torch.cat([prefix, *(part for row in tokens for part in (table[row], stop)), end])
    (written,) = summarize.encode(ear.text.tokenizer, "t5", ["melt the wax.\nstir it."], 50)
    assert torch.equal(read, table[written])


def test_talks_of_a_batch_do_not_see_each_other(ear):
    states = torch.randn(5, 100, 48, generator=torch.Generator().manual_seed(0))
    ear.model.eval()
    together, mask = ear.model.read(states, [2, 3])
    alone, _ = ear.model.read(states[2:], [3])
    assert torch.allclose(together[1][: int(mask[1].sum())], alone[0], atol=1e-5)


def test_the_encoder_is_not_trained_and_the_bridge_is(ear):
    states = torch.randn(3, 100, 48)
    loss = speech_summary.alignment_loss(ear.model.train(), states, [[5, 6], [7], [8, 9, 10]])
    loss.backward()
    assert ear.model.bridge.words.weight.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in ear.encoder.parameters())


def test_silence_is_one_window(ear):
    assert speech_summary.hear_phrases(ear, []).shape == (1, 100, 48)


def test_a_long_talk_is_read_in_parts_and_no_phrase_is_lost(ear):
    heard = [torch.randn(7, 100, 48).half(), torch.randn(2, 100, 48).half()]
    parts = list(speech_summary.parts_of(ear, heard, most=60))
    assert torch.equal(torch.cat(parts), torch.cat(heard))
    assert len(parts) > 1


def test_a_folder_without_its_note_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no asum_speech_summary\.json"):
        speech_summary.load(tmp_path, "int8", "mini")


def test_an_end_to_end_model_on_another_adapter_is_refused(tmp_path):
    import json
    import shutil

    shipped = CHECKPOINTS / "adapters"
    for name in ("e2e-talks", "whisper-medium-int8-adalora", "t5-talks-adalora"):
        shutil.copytree(shipped / name, tmp_path / name)
    note = json.loads((tmp_path / "e2e-talks" / speech_summary.NOTE).read_text())
    note["sha256"]["t5-talks-adalora"] = "0" * 64
    (tmp_path / "e2e-talks" / speech_summary.NOTE).write_text(json.dumps(note))
    with pytest.raises(InputError, match="another t5-talks-adalora"):
        speech_summary.load(tmp_path / "e2e-talks", "int8", "mini")


def test_what_is_saved_and_loaded_writes_the_same(tmp_path):
    """The shipped model, written anew and loaded from there."""
    import shutil

    shipped = CHECKPOINTS / "adapters"
    ear = speech_summary.load(shipped / "e2e-talks", "int8", "mini")
    for name in ("whisper-medium-int8-adalora", "t5-talks-adalora"):
        shutil.copytree(shipped / name, tmp_path / name)
    heard, read = "whisper-medium-int8-adalora", "t5-talks-adalora"
    speech_summary.save(ear, tmp_path / "again", hearer=heard, summarizer=read, precision="int8", what="", training={})
    again = speech_summary.load(tmp_path / "again", "int8", "mini")
    states = [torch.randn(4, 100, 128, generator=torch.Generator().manual_seed(0))]
    inputs = [one.model_as_trained.read(states[0], [4])[0] for one in (ear, again)]
    assert torch.equal(*inputs)
    assert len({speech_summary.write(one.model, one.text, states, summarize.Decoding())[0] for one in (ear, again)}) == 1


def test_a_real_encoder_and_a_real_tokenizer_go_together(real_tiny, real_data):
    """The real sizes' shapes, with random weights: windows of 30 s, 1,500 positions, T5's own 32,100 tokens."""
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(str(real_data / "tokenizers" / "t5"))
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0)
    )
    ear = speech_summary.join(loading.load(str(real_tiny), "int8"), summarize.Summarizer(model, tokenizer, "t5", "en"), seed=0, stride=2)
    audio = sorted((real_data / "librispeech-84-121123").rglob("*.flac"))[0]
    from asum_lib.corpora.audio import read_audio

    states = speech_summary.hear_phrases(ear, [read_audio(audio)])
    assert states.shape == (1, 1500, 384)
    (loss,) = [speech_summary.alignment_loss(ear.model, states.float(), [tokenizer("go on", add_special_tokens=False).input_ids])]
    assert torch.isfinite(loss)
    assert len(speech_summary.write(ear.model, ear.text, [states], summarize.Decoding(max_new_tokens=5))) == 1
