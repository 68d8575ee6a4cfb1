"""Texts longer than the model reads: cut into parts that lose nothing and fit, each summarised, and joined."""

import json
import random

import pytest
import torch

from asum_lib.errors import InputError
from asum_lib.models import long_text, summarize, text_ladder
from asum_lib.models.long_text import cut, summarize_long
from asum_lib.models.summarize import Decoding, Summarizer, encode

ENGLISH = "The cat sat on the mat. It looked at the dog! We mix three eggs with flour. Did it rain?"
RUSSIAN = "Кошка сидела на ковре. Она смотрела на собаку! Мы смешали три яйца с мукой. Шёл ли дождь?"
SHORT = Decoding(batch_size=4, max_source_tokens=48, max_new_tokens=6)


@pytest.fixture(scope="module")
def models():
    """{(family, language): a mini model of random weights whose words are those of the two texts}."""
    torch.manual_seed(0)
    found = {}
    for family, language in (("t5", "en"), ("mbart", "en"), ("mbart", "ru")):
        tokens = text_ladder.tokenizer(family, [ENGLISH, RUSSIAN] * 20)
        if family == "mbart":
            tokens.src_lang = tokens.tgt_lang = text_ladder.LANGUAGE_CODES[language]
        found[family, language] = Summarizer(text_ladder.untrained(family, tokens).eval(), tokens, family, language)
    return found


@pytest.fixture(params=[("t5", "en"), ("mbart", "en"), ("mbart", "ru")], ids="-".join)
def loaded(request, models):
    return models[request.param]


def long(loaded, sentences=40):
    """A text of `sentences` sentences in the language of the model, of three paragraphs, with untidy space."""
    words = (RUSSIAN if loaded.language == "ru" else ENGLISH).split()
    rng = random.Random(1)
    parts = [" ".join(rng.choices(words, k=rng.randint(3, 9))).rstrip(".!?").capitalize() + "." for _ in range(sentences)]
    return "  ".join(parts[:10]) + "\n\n" + " ".join(parts[10:25]) + "\r\n" + "\n".join(parts[25:]) + "\n"


def pieces(loaded, text, limit):
    return [text[start:stop] for start, stop in cut(loaded, text, limit)]


def tokens(loaded, texts):
    return [len(ids) for ids in encode(loaded.tokenizer, loaded.family, texts, 100_000)]


def test_the_parts_put_together_are_the_text(loaded):
    text = long(loaded)
    assert "".join(pieces(loaded, text, 48)) == text


def test_no_part_is_more_than_the_model_reads(loaded):
    found = pieces(loaded, long(loaded), 48)
    assert max(tokens(loaded, found)) <= 48 and len(found) > 3


def test_a_part_ends_where_a_sentence_does(loaded):
    assert {part.rstrip()[-1] for part in pieces(loaded, long(loaded), 48)} == {"."}


def test_a_part_of_a_transcript_ends_where_a_sentence_does(models):
    loaded = models["t5", "en"]
    text = " ".join(f"now we mix cup {number} . then we bake it ." for number in range(30))
    parts = pieces(loaded, text, 60)
    assert len(parts) > 2
    assert all(part.rstrip().endswith(".") for part in parts)


def test_parts_are_of_like_length(loaded):
    """The last one too: what is left over would else be a part of its own, however short."""
    sizes = tokens(loaded, pieces(loaded, long(loaded), 200))
    assert min(sizes) > 0.6 * max(sizes)


def test_as_few_parts_as_fit(loaded):
    text, limit = long(loaded), 100
    (whole,) = tokens(loaded, [text])
    (added,) = tokens(loaded, [""])
    assert len(pieces(loaded, text, limit)) <= -(-(whole - added) // (limit - added - 30))  # no sentence is longer than 30 tokens


def test_a_text_without_sentences_is_cut_at_words(loaded):
    text = " ".join(["кошка" if loaded.language == "ru" else "cat"] * 300)
    found = pieces(loaded, text, 48)
    assert "".join(found) == text and max(tokens(loaded, found)) <= 48
    assert {word for part in found for word in part.split()} == set(text.split())


def test_a_word_that_is_too_long_is_cut_between_letters(loaded):
    text = "abcdefgh" * 60
    found = pieces(loaded, text, 48)
    assert "".join(found) == text and max(tokens(loaded, found)) <= 48


@pytest.mark.parametrize("text", ["", " \n ", "One.", ENGLISH])
def test_a_text_that_fits_is_one_part(models, text):
    assert cut(models["t5", "en"], text, 100) == [(0, len(text))]


def test_any_text_survives_the_cut(models):
    rng = random.Random(0)
    for _ in range(60):
        text = "".join(rng.choice("cat sat. Mr 3.\n\t«—)ы Ёж!?\u2028\u00a0") for _ in range(rng.randint(0, 400)))
        for loaded in models.values():
            found = pieces(loaded, text, 24)
            assert "".join(found) == text and max(tokens(loaded, found)) <= 24


def test_short_texts_get_exactly_what_summarize_gives(loaded):
    texts = [ENGLISH[:40], RUSSIAN[:40], ""]
    sources = encode(loaded.tokenizer, loaded.family, texts, SHORT.max_source_tokens)
    assert max(map(len, sources)) < SHORT.max_source_tokens
    expected = summarize.summarize(loaded.model, loaded.tokenizer, sources, loaded.language, SHORT)
    found = summarize_long(loaded, texts, SHORT, rounds=3)
    assert [one.text for one in found] == expected
    assert [one.parts for one in found] == [((0, len(text), summary),) for text, summary in zip(texts, expected, strict=True)]
    assert [one.rounds for one in found] == [1, 1, 1]


@pytest.fixture
def echo(monkeypatch):
    """`summarize` that gives the last word of what it reads, and the token ids of every call."""
    calls = []

    def last_words(model, tokenizer, sources, language, decoding, progress=lambda done: None):
        calls.append(sources)
        progress(len(sources))
        return [(tokenizer.decode(source, skip_special_tokens=True).split() or [""])[-1] for source in sources]

    monkeypatch.setattr(long_text, "summarize", last_words)
    return calls


def test_the_parts_are_summarised_in_order_and_joined(loaded, echo):
    text = long(loaded)
    (found,) = summarize_long(loaded, [text], SHORT)
    assert found.text == " ".join(text[start:stop].split()[-1] for start, stop, _ in found.parts)
    assert found.text == " ".join(summary for _, _, summary in found.parts)


def test_all_texts_share_the_batches(loaded, echo):
    texts = [long(loaded), ENGLISH[:20], long(loaded, 12)]
    found = summarize_long(loaded, texts, SHORT)
    assert len(echo) == 1 and len(echo[0]) == sum(len(one.parts) for one in found)
    assert max(map(len, echo[0])) <= SHORT.max_source_tokens


def test_rounds_go_on_until_one_part_fits(loaded, echo):
    found = summarize_long(loaded, [long(loaded, 120), ENGLISH[:20]], SHORT, rounds=5)
    assert [one.rounds for one in found] == [len(echo), 1] and 1 < len(echo) < 5
    assert len(echo[-1]) == 1 and len(found[0].text.split()) == 1
    assert found[0].parts[-1][1] == len(long(loaded, 120))  # the parts stay those of the text


def test_rounds_are_used_up(loaded, echo):
    (one,) = summarize_long(loaded, [long(loaded, 120)], SHORT, rounds=1)
    assert one.rounds == 1 and len(one.text.split()) == len(one.parts) > 1


def test_a_part_without_a_summary_leaves_no_gap(loaded, monkeypatch):
    def alternate(model, tokenizer, sources, *rest):
        return ["" if number % 2 else "word" for number in range(len(sources))]

    monkeypatch.setattr(long_text, "summarize", alternate)
    (one,) = summarize_long(loaded, [long(loaded)], SHORT)
    assert one.text == " ".join(["word"] * (-(-len(one.parts) // 2)))


def test_what_goes_into_the_model_is_bounded_by_the_part_and_not_by_the_text(loaded, monkeypatch):
    shapes, pad = [], summarize.pad
    monkeypatch.setattr(summarize, "pad", lambda rows, pad_id: shapes.append((len(rows), max(map(len, rows)))) or pad(rows, pad_id))
    for sentences in (40, 400):
        summarize_long(loaded, [long(loaded, sentences)], Decoding(batch_size=4, max_source_tokens=48, max_new_tokens=2))
        assert max(rows for rows, _ in shapes) == 4 and 24 < max(width for _, width in shapes) <= 48


def test_progress_counts_the_parts(loaded, echo):
    lines = []
    (one,) = summarize_long(loaded, [long(loaded)], SHORT, progress=lines.append)
    assert lines == [f"{len(one.parts)} of {len(one.parts)} parts summarised"]


def test_a_model_with_fewer_positions_reads_fewer_tokens(models):
    decoding = Decoding(max_source_tokens=10_000)
    assert long_text.reads_tokens(models["mbart", "en"], decoding) == text_ladder.MAX_POSITIONS
    assert long_text.reads_tokens(models["t5", "en"], decoding) == 10_000  # its positions are relative


@pytest.mark.parametrize(("rounds", "limit", "message"), [(0, 48, "rounds 0 is not"), (1.5, 48, "rounds 1.5"), (1, 5, "max_source_tokens 5: a part")])
def test_what_cannot_be_is_said(models, rounds, limit, message):
    with pytest.raises(InputError, match=message):
        summarize_long(models["t5", "en"], ["Text."], Decoding(max_source_tokens=limit), rounds=rounds)


def test_a_meeting_is_cut_without_loss_by_the_real_tokenizer(real_data):
    from transformers import AutoTokenizer

    class Nothing:
        config = None

    loaded = Summarizer(Nothing(), AutoTokenizer.from_pretrained(str(real_data / "tokenizers" / "t5")), "t5", "en")
    with (real_data / "ami-meetings" / "meetings.jsonl").open(encoding="utf-8") as file:
        meetings = [json.loads(next(file))["document"] for _ in range(4)]
    for text in meetings:
        found = pieces(loaded, text, 512)
        sizes = tokens(loaded, found)
        assert "".join(found) == text and max(sizes) <= 512 and min(sizes) > 350
