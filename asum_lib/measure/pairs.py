"""References and what was written against them, as lists of texts: checked before anything is scored.

A text where a list is due would be scored letter by letter, so it is refused.
"""

from collections.abc import Iterable

from asum_lib.errors import InputError


def pairs_of(
    references: Iterable,
    written: Iterable[str],
    called: str = "prediction",
    several: bool = False,
) -> tuple[list, list[str]]:
    """Both as lists of equal length; raises `InputError` for anything else.

    `called` is what `written` is in the field. With `several` a reference may be a list of texts.
    """
    references, written = texts_of(references, "reference", several), texts_of(written, called)
    if len(references) != len(written):
        raise InputError(f"{len(references)} references but {len(written)} {_plural(called)}: give one {called} a reference")
    return references, written


def texts_of(texts: Iterable, called: str, several: bool = False, where: str = "") -> list:
    """The texts as a list; raises `InputError` where it is one text, or holds anything but texts."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise InputError(f"{_plural(called)} {_short(texts)}: not a list, give one {called} for each item: [...]")
    texts = list(texts)
    for number, text in enumerate(texts):
        if several and not isinstance(text, (str, bytes)) and isinstance(text, Iterable):
            if not (own := list(text)):
                raise InputError(f"document {number} has an empty list of references: give at least one text, which may be empty")
            texts[number] = texts_of(own, called, where=f"document {number}: ")
        elif not isinstance(text, str):
            raise InputError(f"{where}{called} {number} is {_short(text)}: not a text")
    return texts


def metric_class(name: str, called: str = "prediction", several: bool = False):
    """The class of an `evaluate.Metric` that refuses what `pairs_of` does, and nothing to score."""
    import evaluate

    class Checked(evaluate.Metric):
        def add_batch(self, *, predictions=None, references=None, **more):
            """Add a batch of texts."""
            given = {"predictions": predictions, "references": references}
            for what, texts in given.items():
                if texts is None:
                    raise InputError(f"{name} needs {what}: a list of texts")
            references, predictions = pairs_of(references, predictions, called, several)
            if not predictions:
                raise InputError(f"no predictions: {name} of nothing has no value")
            super().add_batch(predictions=predictions, references=references, **more)

    return Checked


def _plural(called: str) -> str:
    return "hypotheses" if called == "hypothesis" else f"{called}s"


def _short(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
