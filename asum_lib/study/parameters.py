"""A notebook's parameters, checked: what kind each is of, and how papermill writes the right one.

The kinds are the annotations of the function that the notebook calls, which is marked `@checked`. papermill makes
a number of `-p corpus 2024` and a text of `-p grid true`, and only warns of a misspelt name: what it hands over is
looked at here, before anything is measured. What a value means (which sizes there are) is for the cells.
"""

import inspect
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import get_args

from asum_lib.errors import InputError, shown
from asum_lib.paths import check_home

MOST = 2**32 - 1  # of a whole number: what every random generator takes for its seed
LONGEST_NAME = 255  # bytes of a file's name on the usual systems: many parameters are names or paths


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name, that of several, and how it is read; `read` raises `ValueError` for another."""

    one: str
    many: str
    read: Callable[[object], object]


def _text(value) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ValueError
    text = os.fspath(value)
    parts = text.encode().split(b"/")  # an error of encoding is a ValueError
    if "\0" in text or max(map(len, parts)) > LONGEST_NAME:
        raise ValueError
    return text


def _text_or_whole_number(value) -> str:
    return str(_whole_number(value)) if isinstance(value, int) else _text(value)


def _whole_number(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError
    return value


def _number(value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)  # YAML reads 1e-3 as a text
    if not abs(number) < float("inf"):
        raise ValueError
    return number


def _truth(value) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


KINDS = {
    str: Kind("text", "texts", _text),
    str | int: Kind("text", "texts", _text_or_whole_number),
    int: Kind(f"a whole number from 0 to {MOST}", f"whole numbers from 0 to {MOST}", _whole_number),
    float: Kind("a number", "numbers", _number),
    bool: Kind("True or False", "truth values", _truth),
}


def declared(function) -> dict[str, inspect.Parameter]:
    """The parameters of a notebook: those of its function but for the keyword-only ones, which are its callers'."""
    found = inspect.signature(function).parameters.items()
    return {name: parameter for name, parameter in found if parameter.kind is not parameter.KEYWORD_ONLY}


def checked(function):
    """`function`, called with values of the annotated kinds: lists as lists without what stands twice, the rest refused."""
    signature, known = inspect.signature(function), declared(function)

    @wraps(function)
    def call(*values, **given):
        refuse_unknown(function, [name for name in given if name not in signature.parameters])
        bound = signature.bind(*values, **given)
        for name in known.keys() & bound.arguments.keys():
            bound.arguments[name] = _read(known[name], bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return call


def of_notebook(function, namespace: dict) -> dict:
    """A notebook's parameters out of its `globals()`: the arguments of `function`; refuses a name that it does not know."""
    check_home()
    known = declared(function)
    plain = (str, int, float, list, tuple, dict, type(None))
    given = [name for name, value in namespace.items() if isinstance(value, plain) and not name.startswith("_")]
    refuse_unknown(function, sorted(set(given) - set(known) - {"In", "Out"}))
    return {name: namespace[name] for name in known if name in namespace}


def refuse_unknown(function, names: list[str]) -> None:
    """Raise `InputError` with the choices for the first of `names`, which `function` has not."""
    if names:
        raise InputError(f"unknown parameter {shown(names[0])}: choose from {', '.join(declared(function))}")


def _read(parameter: inspect.Parameter, value):
    items = get_args(parameter.annotation) if getattr(parameter.annotation, "__origin__", None) is list else ()
    kind = KINDS[items[0] if items else parameter.annotation]
    try:
        if not items:
            return kind.read(value)
        if not isinstance(value, list | tuple | range) or (not value and parameter.default):
            raise ValueError
        return list(dict.fromkeys(kind.read(item) for item in value))
    except (ValueError, OverflowError):
        pass
    wanted = f"a list of {'one or more ' if parameter.default else ''}{kind.many}" if items else kind.one
    how = _list_for_papermill(parameter, kind, value) if items else _for_papermill(parameter, kind, value)
    raise InputError(f"parameter {parameter.name} is {shown(value)}, and should be {wanted}: with papermill {how}")


def _for_papermill(parameter: inspect.Parameter, kind: Kind, value) -> str:
    """`-r corpus 2024`: the value as text where text is due, else the default."""
    if kind is KINDS[str]:
        written = str(value) if isinstance(value, bool | int | float) and len(shown(value)) < 40 else parameter.default
        return f"-r {parameter.name} {shlex.quote(written)}"
    meant = kind is KINDS[bool] and str(value).lower() in ("true", "yes", "on", "1")
    return f"-p {parameter.name} {True if meant else parameter.default}"


def _list_for_papermill(parameter: inspect.Parameter, kind: Kind, value) -> str:
    """`-y 'precisions: [int8]'`: the value's own entries where they are of the kind, else the default's."""
    entries = value.strip("[]() ").split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    found = []
    for entry in entries[:4]:
        text = entry.strip(" \"'") if isinstance(entry, str) else entry
        try:
            whole = kind is KINDS[int] and isinstance(text, str) and text.isdecimal()
            found.append(kind.read(int(text) if whole else text))
        except (ValueError, OverflowError):
            continue
    return f"-y '{parameter.name}: [{', '.join(map(_yaml, found or parameter.default or (0.001,)))}]'"


def _yaml(value) -> str:
    """A list's entry in YAML: 1/40 and int8 need no quotes, what reads as a number does."""
    if not isinstance(value, str):
        return str(value)
    return value if value[:1].isalpha() and value.replace("-", "").isalnum() else f'"{value}"'
