"""Running a notebook with checked parameters, through papermill: `asum run`. What the notebook measures is its own matter."""

import ast
import json
import os
import re
import sys
from pathlib import Path

from asum_lib import files, reading
from asum_lib.errors import InputError, choose, shown
from asum_lib.paths import NOTEBOOKS, REPOSITORY


class NotebookError(Exception):
    """A notebook raised something that is no user's mistake; the message is the error's kind and last line."""


def find(name: str) -> Path:
    """The notebook of a bare name such as `whisper_quant`, or at a path; `InputError` where there is none that can be run."""
    if "/" in name or name.endswith(".ipynb"):
        _check(Path(name))
        return Path(name)
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    return NOTEBOOKS / f"{choose('notebook', name, known)}.ipynb"


def _check(notebook: Path) -> None:
    """Refuse a file that is no notebook, or whose kernel is not installed."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager

    if not os.path.lexists(notebook):
        raise InputError(f"notebook not found: {notebook}")
    content = reading.read_json(notebook)
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise InputError(f"{notebook}: no Jupyter notebook of format 4: save it anew in Jupyter")
    try:
        nbformat.validate(content)
    except (nbformat.ValidationError, KeyError, TypeError, AttributeError) as error:  # it looks into cells before their kind
        raise InputError(f"{notebook}: no whole notebook: {str(getattr(error, 'message', error))[:120]}") from None
    kernel = content["metadata"].get("kernelspec", {}).get("name")
    known = KernelSpecManager().find_kernel_specs()
    if kernel not in known:
        raise InputError(f"{notebook}: kernel {shown(kernel)} is not installed here: choose from {', '.join(sorted(known))}")


def resolve(notebook: Path, assignments: list[str]) -> dict:
    """`["size=tiny", "epochs=2"]` as values of the types that the notebook's parameters cell declares; refuses unknown names."""
    from papermill import inspect_notebook

    declared = inspect_notebook(notebook)
    values = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise InputError(f"parameter {assignment!r} has no value: write NAME=VALUE")
        choose(f"parameter of {notebook.stem}", name, declared)
        if name in values:
            raise InputError(f"parameter {name!r} is given twice")
        values[name] = _convert(name, text, declared[name])
    return values


def output_path(notebook: Path, parameters: dict, output: str | None = None) -> Path:
    """`output`, or `build/<notebook>-<values>.ipynb`: words stand for themselves, a number or truth value after its name."""
    if output:
        if not output.endswith(".ipynb"):
            raise InputError(f"output {output!r} is no notebook: its name should end in .ipynb")
        return Path(output)
    parts = [notebook.stem]
    for name, value in parameters.items():
        word = re.sub(r"[^A-Za-z0-9.+]+", "_", str(value)).strip("_")
        parts.append(word if isinstance(value, str) and re.search("[A-Za-z]", word) else name + word)
    return REPOSITORY / "build" / f"{'-'.join(parts)[:200]}.ipynb"


def check_output(output: Path, replace: bool = False) -> None:
    """`InputError` where `output` is there and is no notebook that papermill executed: only such a one is replaced."""
    try:
        executed = output.is_file() and "papermill" in json.loads(output.read_bytes())["metadata"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        executed = False
    files.refuse_taken([output], replace or executed)


def run(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute into `output`, with progress and the notebook's prints on stderr.

    Raises the notebook's own `InputError` as one, and `NotebookError` for anything else that it raises.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        execute_notebook(notebook, output, parameters, stdout_file=sys.stderr, stderr_file=sys.stderr)
    except PapermillExecutionError as error:
        lines = (error.evalue or "").strip().splitlines() or ["no message"]
        if error.ename == "InputError":
            raise InputError(lines[-1]) from error
        raise NotebookError(f"{error.ename}: {lines[-1]}") from error
    except (DeadKernelError, CellTimeoutError) as error:
        raise NotebookError(f"{type(error).__name__}: {error}") from error


def _convert(name: str, text: str, declared: dict):
    """`text` as the declared type, or as the default's where none is declared; a list is written `a,b,c`, its items typed as the default's."""
    try:
        default = ast.literal_eval(declared["default"])
    except (ValueError, SyntaxError):
        default = ""
    kind = declared["inferred_type_name"]
    kind = type(default).__name__ if kind in ("None", "") else kind.split("[")[0]
    if kind in ("list", "tuple"):
        items = [item.strip(" \"'") for item in text.strip("[]()").split(",")]
        return [_value(name, item, type(default[0]).__name__ if default else "str") for item in items if item]
    return _value(name, text, kind)


def _value(name: str, text: str, kind: str):
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (ValueError, KeyError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise InputError(f"parameter {name} is {text!r}, and should be {wanted}") from None
