"""The one exception that stands for a user's mistake: its message is one line, shown without a traceback."""

import reprlib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a person: names the thing, its value, and what would be right.

    The message is one line: what ends a line in it, or cannot be printed, is written as its escape.
    """

    def __init__(self, message: object = ""):
        text = str(message)
        shown_letters = (letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
        super().__init__(text if text.isprintable() else "".join(shown_letters))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: in a notebook too, the message is all that is shown."""
        return [f"InputError: {self}"]


def choose(what: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; raise `InputError` listing them otherwise."""
    choices = list(choices)
    if value in choices:
        return value
    raise InputError(f"unknown {what} {shown(value)}: choose from {', '.join(choices)}")


def shown(value, most: int = 80) -> str:
    """`value` as it stands in a message: like `repr`, but short, whatever its size or depth."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = most
    short.maxlong = 40
    try:
        text = short.repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= most else f"{text[: most - 3]}..."
