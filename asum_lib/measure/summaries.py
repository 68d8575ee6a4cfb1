"""What ROUGE does not say of a summary: chrF and BLEU, novelty, length, and the facts it states. Knows no model and no corpus.

chrF and BLEU are sacrebleu's, pooled over the corpus; their interval is a bootstrap over documents, from each document's
own counts. Novelty, compression and slot counts are of one document each: pool them with `stats.ratio_interval`.

Words are those of `rouge.tokenize(text, language, tokenizer="unicode")`: lower case, letters and digits of any script.

A slot is a fact that can be named, such as a tool or a place. `lexicon` is {kind: {value: its written forms}}, `facts` are
the (kind, value, key) that a document states, `key` where the reference summary states it too. ROUGE cannot tell a wrong
name from a right one, the slot counts can:

    >>> lexicon = {"tool": {"whisk": ("whisk", "whisks"), "hand mixer": ("hand mixer",)}, "food": {"egg": ("egg", "eggs")}}
    >>> facts = [("tool", "whisk", True), ("food", "egg", False)]
    >>> slot_counts("Beat the eggs with a hand mixer.", facts, lexicon)
    SlotCounts(right=0, missed=1, beside=1, made_up=1)
    >>> marked("Beat the eggs with a hand mixer.", facts, lexicon)[0]
    [('Beat the ', 'plain'), ('eggs', 'beside'), (' with a ', 'plain'), ('hand mixer', 'made-up'), ('.', 'plain')]
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from asum_lib.errors import InputError, choose
from asum_lib.measure.pairs import metric_class, pairs_of
from asum_lib.measure.rouge import WORD, tokenize
from asum_lib.measure.stats import DRAWS, LEVEL, RANDOM_SEED

CORPUS_SCORES = ("chrf", "bleu")
MARKS = ("plain", "right", "beside", "made-up")
SHARES = ("novelty1", "novelty2", "novelty3", "novelty4", "compression", "words", "slot_recall", "slot_precision")


@dataclass(frozen=True)
class CorpusScore:
    """chrF or BLEU of a corpus, 0 to 100, with its 95 % interval by bootstrap over the `n` documents."""

    value: float
    lo: float
    hi: float
    n: int
    signature: str


@dataclass(frozen=True)
class SlotCounts:
    """Facts of one summary, each counted once however often it is stated."""

    right: int  # key facts of the document that the summary states
    missed: int  # key facts that it does not state
    beside: int  # other facts of the document that it states
    made_up: int  # values of the lexicon that it states and the document does not

    @property
    def recall(self) -> float | None:
        """Share of the key facts that are stated; None where the document has none."""
        return _share(self.right, self.right + self.missed)

    @property
    def precision(self) -> float | None:
        """Share of the stated facts that are the document's; None where the summary states none."""
        return _share(self.right + self.beside, self.right + self.beside + self.made_up)

    def __add__(self, other: "SlotCounts") -> "SlotCounts":
        return SlotCounts(self.right + other.right, self.missed + other.missed, self.beside + other.beside, self.made_up + other.made_up)


def corpus_score(
    metric: str, references: Sequence[str | Sequence[str]], predictions: Sequence[str], *, draws: int = DRAWS, seed: int = RANDOM_SEED
) -> CorpusScore:
    """`chrf` (Popović 2015: character 1- to 6-grams, beta 2) or `bleu` (13a tokens, exponential smoothing) with sacrebleu's defaults.

    A reference is one text or a list of texts. An empty prediction matches nothing; where no n-gram of the corpus matches,
    the score is 0. Raises `InputError` where the lists are empty or differ in length.
    """
    choose("corpus score", metric, CORPUS_SCORES)
    references, predictions = pairs_of(references, predictions, several=True)
    if not predictions:
        raise InputError(f"no predictions: {metric} of nothing has no value")
    several = [[reference] if isinstance(reference, str) else reference for reference in references]
    scorer = _sacrebleu(metric)
    most = max(map(len, several))
    streams = [[texts[i] if i < len(texts) else None for texts in several] for i in range(most)]
    counts = np.array(scorer._extract_corpus_statistics(list(predictions), streams), dtype=np.int64)  # [documents, statistics]
    drawn = np.random.default_rng([seed, 0]).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws) @ counts
    value, *scores = (scorer._compute_score_from_stats(row).score for row in [counts.sum(axis=0).tolist(), *drawn.tolist()])
    lo, hi = np.percentile(scores, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return CorpusScore(float(value), float(lo), float(hi), len(counts), f"{metric}|{scorer.get_signature()}|pool:corpus|scorer:sacrebleu")


def corpus_metric(metric: str):
    """An `evaluate.Metric` over `corpus_score`, made without any download: value, interval and signature."""
    import datasets
    import evaluate

    choose("corpus score", metric, CORPUS_SCORES)
    text = datasets.Value("string")

    class CorpusMetric(metric_class(metric, several=True)):
        def _info(self):
            return evaluate.MetricInfo(
                description=f"{metric} by sacrebleu, 0 to 100, pooled over the corpus",
                citation="",
                inputs_description="predictions: a text a document; references: a text or a list of texts a document",
                features=[
                    datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                    datasets.Features({"predictions": text, "references": text}),
                ],
            )

        def _compute(self, predictions, references):
            score = corpus_score(metric, references, predictions)
            return {metric: score.value, "lo": score.lo, "hi": score.hi, "signature": score.signature}

    return CorpusMetric(keep_in_memory=True)


def words(text: str) -> list[str]:
    """The words that the measures below count."""
    return tokenize(text, "en", tokenizer="unicode")  # the same for every language


def novelty(document_text: str, summary: str, n: int) -> float | None:
    """Share in [0, 1] of the summary's n-grams that are not in the document; None where it has fewer than n words.

    An n-gram that is repeated counts each time. N-grams run over the ends of sentences, as in ROUGE.

        >>> novelty("Mix the flour and the eggs.", "Mix the eggs. Bake!", 2)
        0.3333333333333333
    """
    return _share(*novelty_counts(document_text, summary, n))


def novelty_counts(document_text: str, summary: str, n: int) -> tuple[int, int]:
    """(n-grams of the summary that are not in the document, all n-grams of the summary), to be pooled over documents."""
    if n < 1:
        raise InputError(f"n-grams of {n} words: n must be at least 1")
    known, stated = set(_ngrams(words(document_text), n)), _ngrams(words(summary), n)
    return sum(ngram not in known for ngram in stated), len(stated)


def compression(document_text: str, summary: str) -> float | None:
    """Words of the document for each word of the summary (Grusky et al. 2018); None where the summary has no word."""
    return _share(len(words(document_text)), len(words(summary)))


def find_facts(text: str, lexicon: Mapping[str, Mapping[str, Iterable[str]]]) -> set[tuple[str, str]]:
    """The (kind, value) of every value of the lexicon that a text states, in any of its forms.

    Whole words, upper and lower case alike; from left to right, of the forms that start at a word the longest, and its words
    are used up: "hand mixer" is no "mixer". A form that several values share states all of them. The lexicon is prepared at
    its first use and remembered by identity, so pass the same object each time, and do not change it.
    """
    return {value for _, _, values in _mentions(unicodedata.normalize("NFC", text), lexicon) for value in values}


def slot_counts(summary: str, facts: Iterable, lexicon: Mapping[str, Mapping[str, Iterable[str]]]) -> SlotCounts:
    """How the facts of a summary stand to those of its document: (kind, value, key) tuples, or objects with these fields.

    A form that several values share is read in the summary's favour: as a key fact if it can be one, else as another fact
    of the document, and only else as one made-up value. Raises `InputError` for a fact that is not in the lexicon, for it
    could never be found.
    """
    key, beside = _split_facts(facts, lexicon)
    stated: dict[str, set] = {mark: set() for mark in MARKS}
    for _, _, values in _mentions(unicodedata.normalize("NFC", summary), lexicon):
        mark, meant = _judge(values, key, beside)
        stated[mark] |= meant
    right = len(stated["right"])
    return SlotCounts(right, len(key) - right, len(stated["beside"]), len(stated["made-up"]))


def marked(summary: str, facts: Iterable, lexicon: Mapping[str, Mapping[str, Iterable[str]]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(pieces, missed): the summary cut into (text, mark of `MARKS`), which join to the whole, and the key facts it does not state."""
    key, beside = _split_facts(facts, lexicon)
    summary = unicodedata.normalize("NFC", summary)
    pieces, missed, end = [], dict.fromkeys(key), 0
    for start, stop, values in _mentions(summary, lexicon):
        mark, meant = _judge(values, key, beside)
        pieces += [(summary[end:start], "plain"), (summary[start:stop], mark)]
        end = stop
        for fact in meant:
            missed.pop(fact, None)
    pieces.append((summary[end:], "plain"))
    return [piece for piece in pieces if piece[0]], list(missed)


def signature(metric: str) -> str:
    """How a share or a length was computed, one of `SHARES`; chrF and BLEU bring theirs with them."""
    choose("measure of summaries", metric, SHARES)
    if metric.startswith("slot"):
        return f"{metric}|match:whole-word.longest-form|ambiguous:best|pool:corpus|scorer:asum-1"
    return f"{metric}|tok:unicode|pool:corpus|scorer:asum-1"


_prepared: dict[int, tuple] = {}  # id of a lexicon: (the lexicon itself, so that its id stays its own, what `_prepare` made of it)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _ngrams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


@cache
def _sacrebleu(metric: str):
    from sacrebleu.metrics import BLEU, CHRF

    return CHRF() if metric == "chrf" else BLEU()


def _split_facts(facts: Iterable, lexicon) -> tuple[dict, set]:
    """({key facts} in the order given, {other facts})."""
    key, beside = {}, set()
    for fact in facts:
        kind, value, is_key = (fact.kind, fact.value, fact.key) if hasattr(fact, "kind") else fact
        if value not in lexicon.get(kind, ()):
            raise InputError(f"the fact {kind} {value!r} is not in the lexicon, so no summary could state it")
        if is_key:
            key[kind, value] = None
        else:
            beside.add((kind, value))
    return key, beside - key.keys()


def _judge(values: frozenset, key: Mapping, beside: set) -> tuple[str, set]:
    """The mark of one mention, and the values that it then counts for."""
    if meant := values & key.keys():
        return "right", meant
    if meant := values & beside:
        return "beside", meant
    return "made-up", {min(values)}


def _mentions(text: str, lexicon) -> list[tuple[int, int, frozenset]]:
    """(start, end, {(kind, value)}) of every stated form, from left to right, none overlapping."""
    forms, longest = _prepare(lexicon)
    found, i = [], 0
    spans = [(match.group().lower(), match.start(), match.end()) for match in WORD.finditer(text)]
    while i < len(spans):
        first = spans[i]
        for length in range(min(longest.get(first[0], 0), len(spans) - i), 0, -1):
            start, end = first[1], spans[i + length - 1][2]
            values = forms.get(_spaced(text[start:end]))
            if values:
                found.append((start, end, values))
                i += length
                break
        else:
            i += 1
    return found


def _prepare(lexicon) -> tuple[dict[str, frozenset], dict[str, int]]:
    """({form: its (kind, value)s}, {first word of a form: the most words of a form that starts with it})."""
    if id(lexicon) not in _prepared:
        forms: dict[str, set] = {}
        longest: dict[str, int] = {}
        for kind, values in lexicon.items():
            for value, written in values.items():
                for form in written:
                    form = _spaced(unicodedata.normalize("NFC", form))
                    in_words = WORD.findall(form)
                    if not in_words:
                        raise InputError(f"the form {form!r} of {kind} {value!r} has no word in it")
                    forms.setdefault(form, set()).add((kind, value))
                    longest[in_words[0]] = max(longest.get(in_words[0], 0), len(in_words))
        while len(_prepared) >= 8:
            _prepared.pop(next(iter(_prepared)))
        _prepared[id(lexicon)] = lexicon, ({form: frozenset(values) for form, values in forms.items()}, longest)
    return _prepared[id(lexicon)][1]


def _spaced(text: str) -> str:
    return " ".join(text.lower().split())
