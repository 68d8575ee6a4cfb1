"""ROUGE: texts in, F1 a document out, over Google's `rouge_score`. Knows no model and no corpus.

What varies is an argument and stands in the signature: the tokenizer, the stemmer, and for ROUGE-Lsum the rule that cuts a
text into sentences. Values are in [0, 1], one a document, so that an interval can be drawn over documents.

    >>> score(["The cat sat."], ["The cat slept."], "en", types=("rouge1", "rouge2"))
    {'rouge1': array([0.66666667]), 'rouge2': array([0.5])}

Tokenizers: `default` is rouge_score's own, which keeps runs of [a-z0-9] of the lower-cased text and nothing else; `unicode`
keeps runs of letters, digits and underscores of any script, combining marks included, so that no letter falls out of a
Russian word. English is scored with `default`, as published figures are, Russian with `unicode`. `default` on Russian is
possible, since it shows a trap: it sees Latin letters and digits only, so two identical sentences without any score 0, and
two unlike sentences that share a year score 1.

    >>> float(score(["Москва растёт."], ["Москва растёт."], "ru", tokenizer="default")["rouge1"][0])
    0.0
    >>> float(score(["Москва растёт."], ["Москва растёт."], "ru")["rouge1"][0])
    1.0

Edge cases: an empty prediction scores 0; an empty reference scores 0; both empty score 0 too, for nothing was said; identical
texts score 1, except that a text of fewer than n words has no n-grams and scores ROUGE-n 0 even against itself.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version

import numpy as np

from asum_lib.corpora.sentences import WITH_CAPITALS, rule_of, split_sentences
from asum_lib.errors import InputError, choose
from asum_lib.measure.pairs import metric_class, pairs_of

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
TOKENIZERS = ("default", "unicode")
DEFAULT_TOKENIZER = {"en": "default", "ru": "unicode"}
WORD = re.compile(r"(?:\w[\u0300-\u036f\u0483-\u0487]*)+")  # of NFC text: letters, digits, underscores, with combining marks


def score(
    references: Sequence[str | Sequence[str]],
    predictions: Sequence[str],
    language: str,
    *,
    tokenizer: str | None = None,
    stemmer: bool = False,
    types: Sequence[str] = TYPES,
) -> dict[str, np.ndarray]:
    """{type: F1 in [0, 1] of every document, in the order given}.

    A reference is one text, or a list of texts, of which the one with the highest F1 counts, for each type by itself (as
    rouge_score's `score_multi`). `language` (en or ru) chooses the tokenizer, where none is named, and the abbreviations that
    end no sentence. `stemmer` is Porter's, of English. Raises `InputError` where the lists differ in length or a name is unknown.
    """
    references, predictions = pairs_of(references, predictions, several=True)
    for kind in types:
        choose("ROUGE type", kind, TYPES)
    scorer = _scorer(_tokenizer_name(language, tokenizer), language, stemmer, tuple(types))
    rows = np.zeros((len(types), len(predictions)))
    for i, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        several = [reference] if isinstance(reference, str) else reference
        if "rougeLsum" in types:  # the only type that sees the ends of lines; no tokenizer makes a word across them
            several, prediction = [_lines(text, language) for text in several], _lines(prediction, language)
        best = scorer.score_multi(several, prediction)
        rows[:, i] = [best[kind].fmeasure for kind in types]
    return dict(zip(types, rows, strict=True))


def tokenize(text: str, language: str, *, tokenizer: str | None = None, stemmer: bool = False) -> list[str]:
    """The words that ROUGE sees of a text."""
    return _tokenizer(_tokenizer_name(language, tokenizer), language, stemmer).tokenize(text)


def check_corpus(name: str, language: str, texts: Iterable[str]) -> None:
    """Refuse references of which the language's words leave most out: of Arabic, English ROUGE sees no word, and every score is 0."""
    text = "".join(texts)
    letters = [letter for letter in text if letter.isalpha()]
    scripts = {"en": ("LATIN",), "ru": ("LATIN", "CYRILLIC")}[choose("language", language, DEFAULT_TOKENIZER)]
    found = sum(unicodedata.name(letter, "").startswith(scripts) for letter in letters)
    if 2 * found < len(letters):
        share = f"{100 * found / len(letters):.0f} % of the letters are {' or '.join(scripts).title()}"
        raise InputError(f"corpus {name}: language {language!r}: {share}, and ROUGE finds no words in others: English or Russian is needed")
    if not any(letter.isalnum() for letter in text):
        raise InputError(f"corpus {name}: no reference has a letter or digit: a ROUGE of nothing has no value")


def signature(
    metric: str,
    language: str,
    *,
    tokenizer: str | None = None,
    stemmer: bool = False,
    references: str = "one",
    sentences: str | None = None,
) -> str:
    """How a value was computed, e.g. `rouge1|tok:unicode|stem:no|lsum:no|scorer:rouge_score-0.1.2`.

    `lsum` names the rule for sentences, for ROUGE-Lsum alone: `sentences`, as `rule_of` gives it for the references, or that of
    text with capitals. `references` is `one`, or `max` where each document has several.
    """
    choose("ROUGE type", metric, TYPES)
    choose("use of references", references, ("one", "max"))
    tokenizer = _tokenizer_name(language, tokenizer)
    _check_stemmer(tokenizer, language, stemmer)
    stem = "porter" if stemmer else "no"
    sentences = (sentences or f"{WITH_CAPITALS}.{language}") if metric == "rougeLsum" else "no"
    several = "|refs:max" if references == "max" else ""
    return f"{metric}|tok:{tokenizer}|stem:{stem}|lsum:{sentences}{several}|scorer:rouge_score-{version('rouge_score')}"


def rouge_metric(language: str, *, tokenizer: str | None = None, stemmer: bool = False, types: Sequence[str] = TYPES):
    """An `evaluate.Metric` over the functions above, made without any download.

    `rouge_metric("ru").compute(references=[...], predictions=[...])` gives, for each type, the mean F1 over documents times
    100, and `signatures`. A reference is a text or a list of texts, all of the same sort in one call.
    """
    import datasets
    import evaluate

    tokenizer = _tokenizer_name(language, tokenizer)
    text = datasets.Value("string")

    class Rouge(metric_class("ROUGE", several=True)):
        def _info(self):
            return evaluate.MetricInfo(
                description="ROUGE F1 times 100, mean over documents",
                citation="",
                inputs_description="predictions: a text a document; references: a text or a list of texts a document",
                features=[
                    datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                    datasets.Features({"predictions": text, "references": text}),
                ],
            )

        def _compute(self, predictions, references):
            scores = score(references, predictions, language, tokenizer=tokenizer, stemmer=stemmer, types=types)
            several = "one" if all(isinstance(reference, str) for reference in references) else "max"
            every = [text for reference in references for text in ([reference] if isinstance(reference, str) else reference)]
            how = {"tokenizer": tokenizer, "stemmer": stemmer, "references": several, "sentences": rule_of(every, language)}
            signatures = {kind: signature(kind, language, **how) for kind in types}
            return {kind: float(100 * values.mean()) for kind, values in scores.items()} | {"signatures": signatures}

    return Rouge(keep_in_memory=True)


class _UnicodeTokenizer:
    def __init__(self, stem):
        self.stem = stem

    def tokenize(self, text: str) -> list[str]:
        words = WORD.findall(unicodedata.normalize("NFC", text).lower())
        return [self.stem(word) for word in words] if self.stem else words


def _tokenizer_name(language: str, tokenizer: str | None) -> str:
    choose("language", language, DEFAULT_TOKENIZER)
    return DEFAULT_TOKENIZER[language] if tokenizer is None else choose("ROUGE tokenizer", tokenizer, TOKENIZERS)


def _check_stemmer(tokenizer: str, language: str, stemmer: bool) -> None:
    if stemmer and tokenizer == "unicode" and language != "en":
        raise InputError(f"stemmer with tokenizer 'unicode' in language {language!r}: there is one of English alone, leave it out")


@cache
def _tokenizer(name: str, language: str, stemmer: bool):
    from rouge_score.tokenizers import DefaultTokenizer

    _check_stemmer(name, language, stemmer)
    own = DefaultTokenizer(use_stemmer=stemmer)
    return own if name == "default" else _UnicodeTokenizer(own._stemmer.stem if stemmer else None)


@cache
def _scorer(name: str, language: str, stemmer: bool, types: tuple[str, ...]):
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(types), tokenizer=_tokenizer(name, language, stemmer))


def _lines(text: str, language: str) -> str:
    return "\n".join(split_sentences(text, language))
