import doctest
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import sacrebleu

from asum_lib.errors import InputError
from asum_lib.measure import summaries
from asum_lib.measure.summaries import SlotCounts, compression, corpus_metric, corpus_score, find_facts, marked, novelty, novelty_counts, slot_counts

LEXICON = {
    "tool": {"whisk": ("whisk", "whisks"), "mixer": ("mixer",), "hand mixer": ("hand mixer",)},
    "food": {"egg": ("egg", "eggs"), "flour": ("flour",)},
    "place": {"Тула": ("тула", "тулы", "туле"), "Нижний Новгород": ("нижний новгород", "нижнем новгороде"), "Новгород": ("новгород", "новгороде")},
    "person": {"Александр": ("александр", "александра"), "Александра": ("александра", "александры")},
}


@pytest.fixture(scope="module")
def scitldr(real_data) -> tuple[list[list[str]], list[str]]:
    rows = [json.loads(line) for line in (real_data / "scitldr" / "test.jsonl").read_text(encoding="utf-8").splitlines()][:500]
    return [row["summaries"] for row in rows], [row["document"][:200] for row in rows]


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_corpus_scores_equal_sacrebleus(scitldr, metric):
    references, predictions = scitldr
    first = [several[0] for several in references]
    theirs = {"chrf": sacrebleu.corpus_chrf, "bleu": sacrebleu.corpus_bleu}[metric](predictions, [first])
    assert corpus_score(metric, first, predictions).value == theirs.score


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_several_references_equal_sacrebleus(scitldr, metric):
    """Not all documents have as many references."""
    references, predictions = scitldr
    most = max(map(len, references))
    assert {len(several) for several in references} >= {2, 3}
    streams = [[several[i] if i < len(several) else None for several in references] for i in range(most)]
    theirs = {"chrf": sacrebleu.CHRF(), "bleu": sacrebleu.BLEU()}[metric].corpus_score(predictions, streams)
    assert corpus_score(metric, references, predictions, draws=10).value == theirs.score


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_the_interval_is_near_sacrebleus_own_bootstrap(scitldr, metric):
    """Its bootstrap gives the half-width of the 95 % interval; two bootstraps of 1,000 draws differ by a few per cent."""
    references, predictions = scitldr
    first = [several[0] for several in references]
    ours = corpus_score(metric, first, predictions)
    theirs = {"chrf": sacrebleu.CHRF(), "bleu": sacrebleu.BLEU()}[metric].corpus_score(predictions, [first], n_bootstrap=1_000)
    assert (ours.hi - ours.lo) / 2 == pytest.approx(theirs._ci, rel=0.15)
    assert ours.lo < ours.value < ours.hi


def test_500_documents_take_less_than_3_seconds(scitldr):
    references, predictions = scitldr
    started = time.perf_counter()
    assert corpus_score("chrf", references, predictions).n == 500
    assert corpus_score("bleu", references, predictions).n == 500
    assert time.perf_counter() - started < 6


def test_chrf_worked_by_hand():
    """ "abcd" against "abce": of 4 1-grams 3 match, of 3 2-grams 2, of 2 3-grams 1, of 1 4-gram 0; P = R, so F is the mean over orders."""
    assert corpus_score("chrf", ["abce"], ["abcd"]).value == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)


def test_bleu_worked_by_hand():
    """5 words of 6 right: precisions 5/6, 4/5, 3/4, 2/3, no brevity penalty."""
    assert corpus_score("bleu", ["a b c d e f"], ["a b c d e x"]).value == pytest.approx(100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_identical_texts_score_100_in_russian_too(metric):
    text = "Суд вынес приговор бывшему мэру города Тулы"
    score = corpus_score(metric, [text, text], [text, text])
    assert (score.value, score.lo, score.hi) == pytest.approx((100, 100, 100))


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
@pytest.mark.parametrize(("reference", "prediction"), [("суд идёт", ""), ("", "суд идёт"), ("", "")])
def test_nothing_on_one_side_scores_0(metric, reference, prediction):
    assert corpus_score(metric, [reference], [prediction]).value == 0.0


def test_signatures_hold_sacrebleus_own():
    assert (
        corpus_score("chrf", ["a"], ["a"]).signature
        == "chrf|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0|pool:corpus|scorer:sacrebleu"
    )
    assert corpus_score("bleu", [["a", "b"]], ["a"]).signature == (
        "bleu|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0|pool:corpus|scorer:sacrebleu"
    )
    assert summaries.signature("novelty2") == "novelty2|tok:unicode|pool:corpus|scorer:asum-1"
    assert summaries.signature("slot_recall") == "slot_recall|match:whole-word.longest-form|ambiguous:best|pool:corpus|scorer:asum-1"


def test_the_evaluate_metric_gives_the_same_as_the_function():
    import evaluate

    metric = summaries.corpus_metric("chrf")
    assert isinstance(metric, evaluate.Metric)
    score = corpus_score("chrf", ["abce", "x"], ["abcd", "x"])
    assert metric.compute(references=["abce", "x"], predictions=["abcd", "x"]) == {
        "chrf": score.value,
        "lo": score.lo,
        "hi": score.hi,
        "signature": score.signature,
    }


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 1 / 4),  # "bake" of mix, the, eggs, bake
        (2, 2 / 3),  # "the eggs", "eggs bake" of 3
        (3, 1.0),
        (4, 1.0),
        (5, None),
    ],
)
def test_novelty_worked_by_hand(n, expected):
    assert novelty("Mix the flour and eggs.", "Mix the eggs: BAKE", n) == expected


def test_copied_text_has_no_novelty_in_any_case_or_script():
    assert novelty("Сегодня суд вынес приговор. Мэр осуждён.", "СУД вынес приговор", 3) == 0.0


def test_repeated_new_words_count_each_time():
    assert novelty_counts("a b", "x x a", 1) == (2, 3)


def test_an_empty_summary_has_no_novelty_and_no_compression():
    assert novelty("a b", "", 1) is None
    assert compression("a b", "...") is None
    assert novelty("", "a b", 1) == 1.0
    assert compression("", "a b") == 0.0


def test_compression():
    assert compression("Раз два три, четыре.", "два три") == 2.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Whisk two EGGS.", {("tool", "whisk"), ("food", "egg")}),
        ("eggshell, whisker", set()),  # whole words only
        ("a hand mixer", {("tool", "hand mixer")}),  # the longest form uses its words up
        ("a hand-mixer or a mixer", {("tool", "mixer")}),  # a form is as it is written
        ("hand  \n mixer", {("tool", "hand mixer")}),  # any space is a space
        ("by hand. Mixer on", {("tool", "mixer")}),  # not over the end of a sentence
        ("в Нижнем Новгороде", {("place", "Нижний Новгород")}),
        ("в Новгороде, не в Туле", {("place", "Новгород"), ("place", "Тула")}),
        ("видел Александра", {("person", "Александр"), ("person", "Александра")}),  # ambiguous: all
        ("", set()),
    ],
)
def test_find_facts(text, expected):
    assert find_facts(text, LEXICON) == expected


FACTS = [("tool", "whisk", True), ("food", "egg", True), ("food", "flour", False)]


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("Whisk the eggs.", SlotCounts(right=2, missed=0, beside=0, made_up=0)),
        ("Whisk the flour.", SlotCounts(right=1, missed=1, beside=1, made_up=0)),
        ("Mixer, hand mixer, egg, egg.", SlotCounts(right=1, missed=1, beside=0, made_up=2)),
        ("", SlotCounts(right=0, missed=2, beside=0, made_up=0)),
    ],
)
def test_slot_counts_worked_by_hand(summary, expected):
    assert slot_counts(summary, FACTS, LEXICON) == expected


def test_shares_of_slots():
    counts = SlotCounts(right=1, missed=3, beside=2, made_up=1)
    assert (counts.recall, counts.precision) == (1 / 4, 3 / 4)


def test_shares_of_nothing_have_no_value():
    assert SlotCounts(0, 0, 0, 0).recall is None
    assert SlotCounts(0, 2, 0, 0).precision is None
    assert SlotCounts(0, 2, 0, 0).recall == 0.0


def test_slot_counts_add_up_over_documents():
    assert sum([SlotCounts(1, 2, 3, 4), SlotCounts(1, 0, 1, 0)], SlotCounts(0, 0, 0, 0)) == SlotCounts(2, 2, 4, 4)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([("person", "Александра", True)], SlotCounts(right=1, missed=0, beside=0, made_up=0)),
        ([("person", "Александр", False)], SlotCounts(right=0, missed=0, beside=1, made_up=0)),
        ([("person", "Александра", True), ("person", "Александр", False)], SlotCounts(right=1, missed=0, beside=0, made_up=0)),
        ([], SlotCounts(right=0, missed=0, beside=0, made_up=1)),
    ],
)
def test_an_ambiguous_form_is_read_in_the_summarys_favour(facts, expected):
    assert slot_counts("Суд оправдал Александра.", facts, LEXICON) == expected


def test_facts_may_be_objects():
    @dataclass
    class Fact:
        kind: str
        value: str
        key: bool

    assert slot_counts("Whisk it.", [Fact("tool", "whisk", True)], LEXICON) == SlotCounts(1, 0, 0, 0)


def test_a_fact_that_no_summary_could_state_is_refused():
    with pytest.raises(InputError, match="the fact tool 'spoon' is not in the lexicon"):
        slot_counts("a spoon", [("tool", "spoon", True)], LEXICON)


def test_marked_shows_every_fact_and_names_the_missed():
    pieces, missed = marked("Use a MIXER, not flour; whisk.", FACTS, LEXICON)
    assert pieces == [
        ("Use a ", "plain"),
        ("MIXER", "made-up"),
        (", not ", "plain"),
        ("flour", "beside"),
        ("; ", "plain"),
        ("whisk", "right"),
        (".", "plain"),
    ]
    assert missed == [("food", "egg")]


def test_marked_pieces_join_to_the_summary():
    summary = "  Whisk eggs,\nhand mixer. "
    assert "".join(piece for piece, _ in marked(summary, FACTS, LEXICON)[0]) == summary
    assert marked("", FACTS, LEXICON) == ([], [("tool", "whisk"), ("food", "egg")])


def test_another_lexicon_is_not_taken_for_the_first():
    """Twenty lexicons made and let go, more than are remembered: each finds its own value."""
    for i in range(20):
        assert find_facts(f"w{i} w0", {"kind": {f"v{i}": (f"w{i}",)}}) == {("kind", f"v{i}")}


def test_a_thousand_summaries_against_five_thousand_forms_take_less_than_2_seconds():
    lexicon = {"kind": {f"v{i}": (f"w{i}", f"w{i} x", f"y w{i}") for i in range(1_700)}}
    rng = random.Random(3)
    texts = [" ".join(f"w{rng.randrange(3_000)}" for _ in range(60)) for _ in range(1_000)]
    started = time.perf_counter()
    found = [find_facts(text, lexicon) for text in texts]
    assert time.perf_counter() - started < 2
    assert 25 < sum(map(len, found)) / len(found) < 40  # 1,700 of 3,000 words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: corpus_score("meteor", ["a"], ["a"]), "unknown corpus score 'meteor': choose from chrf, bleu"),
        (lambda: corpus_score("chrf", ["a"], []), "1 references but 0 predictions"),
        (lambda: corpus_score("chrf", "abc", "abd"), "references 'abc': not a list"),
        (lambda: corpus_metric("bleu").compute(references=[], predictions=[]), "no predictions: bleu of nothing has no value"),
        (lambda: corpus_score("chrf", [], []), "no predictions: chrf of nothing has no value"),
        (lambda: corpus_score("chrf", ["a", []], ["a", "b"]), "document 1 has an empty list of references"),
        (lambda: novelty("a", "a", 0), "n-grams of 0 words: n must be at least 1"),
        (lambda: find_facts("a", {"unit": {"percent": ("%",)}}), "the form '%' of unit 'percent' has no word in it"),
        (lambda: summaries.signature("bleu"), "unknown measure of summaries 'bleu'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(summaries).failed == 0


def test_importing_the_module_is_light():
    imports = "import sys, asum_lib.measure.summaries, asum_lib.measure.extractive"
    code = f"{imports}; print({{'torch', 'evaluate', 'sacrebleu', 'networkx'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
