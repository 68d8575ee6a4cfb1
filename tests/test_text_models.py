"""The mini text models: tokenizers, what pre-training takes out of a text, and summaries by `generate`."""

import numpy as np
import pytest
import torch

from asum_lib.errors import InputError
from asum_lib.models import summarize, text_ladder
from asum_lib.training import pretrain_text
from asum_lib.training.adapters import MODULES, adapter_of, attach, kept_parameters, kept_rank_mean, kept_ranks

TEXTS = ["The cat sat on the mat and looked at the dog.", "Кошка сидела на ковре и смотрела на собаку.", "We mix three eggs with flour."] * 20


@pytest.fixture(scope="module", params=["t5", "mbart"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """A mini model of random weights, saved as a checkpoint is."""
    torch.manual_seed(0)
    tokens = text_ladder.tokenizer(family, TEXTS)
    path = tmp_path_factory.mktemp("text") / family
    text_ladder.untrained(family, tokens).save_pretrained(path)
    tokens.save_pretrained(path)
    return path


def test_a_text_survives_the_tokenizer_in_both_scripts(family, folder):
    tokens = summarize.load_tokenizer(folder, "ru" if family == "mbart" else "en")
    for text in TEXTS[:3]:
        assert tokens.decode(tokens(text).input_ids, skip_special_tokens=True).strip() == text


def test_what_is_written_starts_and_ends_as_the_family_wants_it(family, folder):
    tokens = summarize.load_tokenizer(folder, "en")
    ids = summarize.encode_summaries(tokens, ["The cat sat."])[0]
    assert tokens.convert_ids_to_tokens(ids)[-1] == "</s>"
    assert (tokens.convert_ids_to_tokens(ids)[0] == "en_XX") == (family == "mbart")


def test_t5_reads_its_task_and_mbart_its_language(family, folder):
    tokens = summarize.load_tokenizer(folder, "ru" if family == "mbart" else "en")
    text = tokens.decode(summarize.encode(tokens, family, ["three\neggs"], 50)[0])
    assert text.startswith("summarize: three eggs" if family == "t5" else "ru_RU")


def test_a_long_text_is_cut_with_its_end_token(family, folder):
    tokens = summarize.load_tokenizer(folder, "en")
    ids = summarize.encode(tokens, family, ["the cat " * 100], 20)[0]
    assert len(ids) == 20
    assert ids[-1] == tokens.eos_token_id


def test_a_tokenizer_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        summarize.load_tokenizer(tmp_path, "en")


def test_summaries_do_not_depend_on_what_else_is_in_the_batch(family, folder):
    loaded = summarize.load(str(folder), "fp32", "en", "mini")
    sources = summarize.encode(loaded.tokenizer, family, [TEXTS[0] * 3, TEXTS[2], TEXTS[0]], 100)
    decoding = summarize.Decoding(max_new_tokens=8)
    together = summarize.summarize(loaded.model, loaded.tokenizer, sources, "en", decoding)
    alone = [summarize.summarize(loaded.model, loaded.tokenizer, [source], "en", decoding)[0] for source in sources]
    assert together == alone


def test_sentinels_stand_for_spans_of_a_text_that_is_to_be_written_whole(folder, family):
    if family != "t5":
        pytest.skip("T5's objective")
    tokens = summarize.load_tokenizer(folder, "en")
    ids = tokens("The cat sat on the mat and looked at the dog.").input_ids
    source, target = pretrain_text.corrupt(ids, tokens, np.random.default_rng(0), 0.3)
    sentinels = [tokens.convert_tokens_to_ids(f"<extra_id_{number}>") for number in range(text_ladder.SENTINELS)]
    found = [token for token in source if token in sentinels]
    assert target == ids
    assert found == sentinels[: len(found)] != []


def test_masked_text_is_to_be_written_whole(folder, family):
    if family != "mbart":
        pytest.skip("mBART's objective")
    tokens = summarize.load_tokenizer(folder, "ru")
    ids = tokens("Кошка сидела на ковре и смотрела на собаку.").input_ids
    source, target = pretrain_text.mask_spans(ids, tokens, np.random.default_rng(0), 0.3)
    assert target == ids
    assert source[0] == ids[0] and source[-1] == ids[-1]
    assert tokens.mask_token_id in source
    left = [token for token in source if token != tokens.mask_token_id]
    assert len(left) < len(ids) and set(left) <= set(ids)


@pytest.mark.parametrize("method", ["lora", "adalora"])
@pytest.mark.parametrize(("targets", "modules"), [("qkv", 18), ("all-linear", 32)])
def test_adapters_sit_where_the_cell_says(family, folder, method, targets, modules):
    model = attach(summarize.load(str(folder), "fp32", "en", "mini").model, adapter_of(method, 4, MODULES[family][targets]), 100)
    ranks = kept_ranks(model)
    assert (
        len(ranks) == modules
    )  # two encoder layers of one attention, two decoder layers of two; with six linear layers an encoder layer, ten a decoder layer
    assert kept_rank_mean(model) == (4 if method == "lora" else 6)  # AdaLoRA starts half as high again


def test_kept_parameters_are_two_vectors_a_rank_and_adaloras_singular_value(family, folder):
    def kept(method):
        return kept_parameters(attach(summarize.load(str(folder), "fp32", "en", "mini").model, adapter_of(method, 4, MODULES[family]["qkv"]), 100))

    assert kept("lora") == 18 * 4 * (128 + 128)
    assert kept("adalora") == 18 * 6 * (128 + 128 + 1)
