"""Word error rate: texts in, error counts an utterance out, pooled over the corpus. Knows no model and no corpus.

Raw hypotheses are kept and normalised only here, so that another normaliser costs no inference. The counts are jiwer's
minimum edit distance over words; WER in per cent = 100 (substitutions + insertions + deletions) / reference words, errors
and words each summed over the corpus before the division.

    >>> counts = count_errors(["Take two eggs.", ""], ["take 2 legs", "well"])
    >>> counts
    [ErrorCounts(substitutions=1, insertions=0, deletions=0, words=3), ErrorCounts(substitutions=0, insertions=1, deletions=0, words=0)]
    >>> round(wer_pct(counts), 1)
    66.7

Normalisers: `whisper-en` is OpenAI's English one (transformers' EnglishTextNormalizer with Whisper's own spelling map,
`english_spelling.json`, MIT licence, copyright OpenAI 2022): lower case, no punctuation or fillers, British to American
spelling, numbers as digits. It joins digits spoken one by one into one number ("three seven two" -> "372", one word), so
for strings of digits it would score whole strings: use `whisper-basic` there, which only lowers case and drops
punctuation. `unicode` is for other languages than English: it lowers case and drops punctuation too, and keeps the combining marks
that Whisper's drop, without which words of Hindi or Thai become one another. `none` compares the words as they are;
any white space parts them, tabs, line ends and no-break spaces too.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.measure.pairs import metric_class, pairs_of

NORMALIZERS = ("whisper-en", "whisper-basic", "unicode", "none")
DEFAULT_NORMALIZER = "whisper-en"
MOST_MARKS = 0.02  # of the letters that a normaliser may drop
UNSPACED = {("CJK", "HIRAGANA", "KATAKANA"): 3, ("THAI", "LAO", "KHMER", "MYANMAR"): 10}  # scripts, and the most letters of a mean word
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")


@dataclass(frozen=True)
class ErrorCounts:
    """Word errors of one utterance after normalising; `words` counts the reference's, 0 where it is empty."""

    substitutions: int
    insertions: int
    deletions: int
    words: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions


def check_normalizer(name: str, texts: Iterable[str]) -> None:
    """Refuse a normaliser that would hide errors in these texts; `InputError` says which would not.

    The English one is for English: of another script it leaves out what tells words apart (the breve of "й", the dots of "ё"). Both of
    Whisper's drop combining marks, which are vowels in Hindi, Tamil or Thai. Where no spaces part the words, as in Chinese,
    there are none to count, and each sentence would be one.
    """
    texts = list(texts)
    text = unicodedata.normalize("NFC", "".join(texts))
    letters = [one for one in text if one.isalpha()]
    latin = sum(unicodedata.name(one, "").startswith("LATIN") for one in letters)
    if name == "whisper-en" and 2 * latin < len(letters):
        share = f"{100 * latin / len(letters):.0f} % of the letters are Latin"
        raise InputError(f"normalizer {name!r} is for English, and {share}: choose unicode, or give the language")
    marks = sum(unicodedata.category(one).startswith("M") for one in text)
    if name in ("whisper-en", "whisper-basic") and marks > MOST_MARKS * (len(letters) + marks):
        share = f"{100 * marks / (len(letters) + marks):.0f} % of this text"
        raise InputError(f"normalizer {name!r} drops the marks over and beside letters, {share}: choose unicode")
    words = sum(len(one.split()) for one in texts)
    for scripts, most in UNSPACED.items():
        found = sum(unicodedata.name(one, "").startswith(scripts) for one in letters)
        if 2 * found > len(letters) > most * words:
            share = f"{len(letters) / words:.0f} letters stand between two spaces on average"
            raise InputError(f"{share}, so that a sentence would count as one word: no word error rate of such a script is measured here")


def normalizer_for(language: str) -> str:
    """The usual normaliser of a language: OpenAI's for English, and for any other the one that keeps all its letters."""
    return "whisper-en" if language == "en" else "unicode"


def _letters(text: str) -> str:
    """Lower case, letters with their marks and digits; everything else is a space, an apostrophe within a word nothing."""
    plain = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).lower())
    return " ".join("".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in plain).split())


@cache
def normalizer(name: str = DEFAULT_NORMALIZER) -> Callable[[str], str]:
    """The function from raw to normalised text; it remembers texts, since references recur in every epoch and seed."""
    choose("normalizer", name, NORMALIZERS)
    if name == "none":
        return lambda text: " ".join(text.split())
    if name == "unicode":
        return lru_cache(maxsize=100_000)(_letters)
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if name == "whisper-basic":
        normalize = BasicTextNormalizer()
    else:
        normalize = EnglishTextNormalizer(json.loads(Path(__file__).with_name("english_spelling.json").read_text(encoding="utf-8")))
    return lru_cache(maxsize=100_000)(lambda text: normalize(text).strip())


def count_errors(references: Sequence[str], hypotheses: Sequence[str], normalizer: str = DEFAULT_NORMALIZER) -> list[ErrorCounts]:
    """Error counts, one an utterance, in the order given.

    An empty reference has 0 words and every hypothesis word is an insertion; an empty hypothesis is all deletions; both
    empty is no error. Raises `InputError` where the lists differ in length, or are no lists of texts.
    """
    references, hypotheses = pairs_of(references, hypotheses, "hypothesis")
    import jiwer

    normalize = _normalizer(normalizer)
    output = jiwer.process_words([normalize(text) for text in references], [normalize(text) for text in hypotheses]) if references else None
    return [_count(chunks, len(words)) for chunks, words in zip(output.alignments, output.references, strict=True)] if output else []


def wer_pct(counts: Iterable[ErrorCounts]) -> float | None:
    """Corpus WER in per cent; it can pass 100. None where there is not one reference word: a rate of nothing has no value."""
    counts = list(counts)
    words = sum(count.words for count in counts)
    return 100 * sum(count.errors for count in counts) / words if words else None


def signature(normalizer: str = DEFAULT_NORMALIZER) -> str:
    """How a WER was computed, e.g. `wer|norm:whisper-en.transformers-5.23.0|pool:corpus|scorer:jiwer-4.0.0`."""
    choose("normalizer", normalizer, NORMALIZERS)
    ours = {"none": "", "unicode": f".unicodedata-{unicodedata.unidata_version}"}
    source = ours.get(normalizer, f".transformers-{version('transformers')}")
    return f"wer|norm:{normalizer}{source}|pool:corpus|scorer:jiwer-{version('jiwer')}"


def compare_signatures(*signatures: str) -> str | None:
    """The one signature that all share (None if none is given); raises `InputError` where two differ, for then no value may be compared."""
    different = sorted(set(signatures))
    if len(different) > 1:
        raise InputError(f"values with unlike signatures cannot be compared: {' and '.join(different)}")
    return different[0] if different else None


def wer_metric(normalizer: str = DEFAULT_NORMALIZER):
    """An `evaluate.Metric` over the functions above, made without any download.

    `wer_metric().compute(references=[...], predictions=[...])` gives `wer_pct`, the summed counts and the `signature`.
    """
    import datasets
    import evaluate

    choose("normalizer", normalizer, NORMALIZERS)

    class Wer(metric_class("WER")):
        def _info(self):
            return evaluate.MetricInfo(
                description="Word error rate in per cent, pooled over the corpus",
                citation="",
                inputs_description="references, predictions: one string an utterance",
                features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
            )

        def _compute(self, predictions, references):
            counts = count_errors(references, predictions, normalizer)
            return {
                "wer_pct": wer_pct(counts),
                "substitutions": sum(count.substitutions for count in counts),
                "insertions": sum(count.insertions for count in counts),
                "deletions": sum(count.deletions for count in counts),
                "words": sum(count.words for count in counts),
                "signature": signature(normalizer),
            }

    return Wer(keep_in_memory=True)


_normalizer = normalizer  # `normalizer` is also the name of an argument above


def _count(chunks, words: int) -> ErrorCounts:
    totals = {"substitute": 0, "insert": 0, "delete": 0, "equal": 0}
    for chunk in chunks:
        totals[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return ErrorCounts(totals["substitute"], totals["insert"], totals["delete"], words)
