import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest

from asum_lib.errors import InputError
from asum_lib.measure import wer
from asum_lib.measure.wer import ErrorCounts, count_errors, wer_pct


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("take two eggs", "take two eggs", ErrorCounts(0, 0, 0, 3)),
        ("take two eggs", "take ten eggs", ErrorCounts(1, 0, 0, 3)),
        ("take two eggs", "take eggs", ErrorCounts(0, 0, 1, 3)),
        ("take two eggs", "now take two eggs", ErrorCounts(0, 1, 0, 3)),
        ("a b c d", "b c x d e", ErrorCounts(0, 2, 1, 4)),
        ("", "well yes", ErrorCounts(0, 2, 0, 0)),
        ("take two eggs", "", ErrorCounts(0, 0, 3, 3)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
        ("  take   two ", "take two", ErrorCounts(0, 0, 0, 2)),
    ],
)
def test_counts_worked_by_hand(reference, hypothesis, expected):
    assert count_errors([reference], [hypothesis], "none") == [expected]


def test_wer_pools_over_the_corpus():
    """1 error in 2 words and 1 in 8: 2 / 10, not the mean of 50 % and 12.5 %."""
    assert wer_pct([ErrorCounts(1, 0, 0, 2), ErrorCounts(0, 0, 1, 8)]) == 20.0


def test_wer_can_pass_100():
    assert wer_pct(count_errors(["no"], ["yes it is so"], "none")) == 400.0


def test_insertions_against_an_empty_reference_count_in_the_pool():
    assert wer_pct([ErrorCounts(0, 2, 0, 0), ErrorCounts(0, 0, 0, 8)]) == 25.0


def test_no_reference_word_has_no_rate():
    assert wer_pct([ErrorCounts(0, 2, 0, 0)]) is None
    assert wer_pct([]) is None
    assert count_errors([], []) == []


def random_pairs(number: int) -> list[tuple[str, str]]:
    """Word strings of 0 to 12 words over a vocabulary of 6, so that matches, empty references and empty hypotheses are common."""
    rng = random.Random(7)

    def text():
        return " ".join(rng.choices("abcdef", k=rng.randint(0, 12)))

    return [(text(), text()) for _ in range(number)]


def test_agrees_with_jiwer_on_1000_random_pairs():
    pairs = random_pairs(1_000)
    references, hypotheses = zip(*pairs, strict=True)
    assert "" in references
    assert "" in hypotheses
    counts = count_errors(references, hypotheses, "none")
    for (reference, hypothesis), count in zip(pairs, counts, strict=True):
        expected = jiwer.process_words(reference, hypothesis)
        assert (count.substitutions, count.insertions, count.deletions) == (expected.substitutions, expected.insertions, expected.deletions)
        assert count.words == len(reference.split())
        if reference:
            assert wer_pct([count]) == pytest.approx(100 * jiwer.wer(reference, hypothesis))
    assert wer_pct(counts) == pytest.approx(100 * jiwer.wer(list(references), list(hypotheses)))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("whisper-en", "Mr. Smith's colour isn't GREY, it cost $20 million!", "mister smith is color is not gray it cost $20000000"),
        ("whisper-en", "uh, take twenty-five eggs", "take 25 eggs"),
        ("whisper-en", "three seven two", "372"),
        ("whisper-basic", "Three, seven -- TWO!", "three seven two"),
        ("none", " Three, seven ", "Three, seven"),
    ],
)
def test_normalizers(name, text, expected):
    assert wer.normalizer(name)(text) == expected


def test_digit_strings_need_the_basic_normalizer():
    """One wrong digit of three: a third of the words, or, joined to one number, all of them."""
    said, heard = ["three seven two"], ["three seven nine"]
    assert wer_pct(count_errors(said, heard, "whisper-basic")) == pytest.approx(100 / 3)
    assert wer_pct(count_errors(said, heard, "whisper-en")) == 100.0


def test_scoring_real_transcripts_against_themselves_in_other_dress_is_perfect(real_data):
    """LibriSpeech's upper-case text and the same in lower case with punctuation."""
    lines = (real_data / "librispeech-84-121123" / "manifest.jsonl").read_text().splitlines()
    references = [json.loads(line)["text"] for line in lines]
    hypotheses = [text.capitalize() + "." for text in references]
    assert wer_pct(count_errors(references, hypotheses)) == 0.0
    assert wer_pct(count_errors(references, hypotheses, "none")) > 50


def test_the_spelling_map_is_whispers_own():
    """The file whisper/normalizers/english.json of openai-whisper 20250625, byte for byte."""
    content = Path(wer.__file__).with_name("english_spelling.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "6607f948be9824d2e1b2fa2223cd94c06c45afa4e05ea0e3d5e1f2bdffde2465"


def test_unknown_normalizer_is_refused_with_the_choices():
    with pytest.raises(InputError, match="unknown normalizer 'whisper': choose from whisper-en, whisper-basic, unicode, none"):
        wer.normalizer("whisper")


def test_unlike_lengths_are_refused():
    with pytest.raises(InputError, match="2 references but 1 hypotheses"):
        count_errors(["a", "b"], ["a"], "none")


@pytest.mark.parametrize("space", ["\t", "\n", "\r\n", "\u00a0", "\u2009", "  "])
@pytest.mark.parametrize("normalizer", wer.NORMALIZERS)
def test_any_white_space_parts_words(space, normalizer):
    assert wer_pct(count_errors([f"one{space}more day"], ["one more day"], normalizer)) == 0
    assert wer_pct(count_errors(["one more day"], [f" one more{space}day{space}"], normalizer)) == 0


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ("abc", "abd", "references 'abc': not a list, give one reference for each item"),
        (["abc"], "a", "hypotheses 'a': not a list"),
        (["abc"], [None], "hypothesis 0 is None: not a text"),
        (["abc", 1.5], ["a", "b"], "reference 1 is 1.5: not a text"),
        (None, ["a"], "references None: not a list"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(references, hypotheses, message):
    with pytest.raises(InputError, match=message):
        count_errors(references, hypotheses, "none")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"references": [], "predictions": []}, "no predictions: WER of nothing has no value"),
        ({"references": "abc", "predictions": "abd"}, "references 'abc': not a list"),
        ({"references": ["a"]}, "WER needs predictions: a list of texts"),
    ],
)
def test_the_evaluate_metric_refuses_in_one_line(given, message):
    with pytest.raises(InputError, match=message):
        wer.wer_metric("none").compute(**given)


def test_signature_names_what_was_used():
    assert wer.signature("none") == "wer|norm:none|pool:corpus|scorer:jiwer-4.0.0"
    assert wer.signature("whisper-en").startswith("wer|norm:whisper-en.transformers-")


def test_unlike_signatures_are_never_compared():
    assert wer.compare_signatures("wer|a", "wer|a") == "wer|a"
    with pytest.raises(InputError, match=r"unlike signatures cannot be compared: wer\|a and wer\|b"):
        wer.compare_signatures("wer|a", "wer|b")


def test_the_evaluate_metric_gives_the_same_as_the_functions():
    import evaluate

    metric = wer.wer_metric("none")
    assert isinstance(metric, evaluate.Metric)
    result = metric.compute(references=["take two eggs", "wait"], predictions=["take ten eggs", ""])
    assert result == {"wer_pct": 50.0, "substitutions": 1, "insertions": 0, "deletions": 1, "words": 4, "signature": wer.signature("none")}


def test_importing_the_module_is_light():
    code = "import sys, asum_lib.measure.wer; print({'torch', 'transformers', 'evaluate', 'jiwer'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
