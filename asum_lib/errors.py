"""The one exception that stands for a user's mistake: its message is one line, shown without a traceback."""

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a person: names the thing, its value, and what would be right."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: in a notebook too, the message is all that is shown."""
        return [f"InputError: {self}"]


def choose(what: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; raise `InputError` listing them otherwise."""
    choices = list(choices)
    if value in choices:
        return value
    raise InputError(f"unknown {what} {value!r}: choose from {', '.join(choices)}")
