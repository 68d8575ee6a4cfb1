"""The parameters of the notebooks: what papermill hands over is of the right kind, or refused in one line."""

import ast
import importlib

import pytest
from papermill import inspect_notebook

from asum_lib.errors import InputError
from asum_lib.paths import NOTEBOOKS
from asum_lib.study import parameters

ENTRIES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
MODULE = {"corpora": "corpora_table"}  # of the notebooks that are not named after their module
LISTS = [("whisper_quant", "seeds"), ("peft_rouge", "ranks"), ("e2e_summarization", "sizes"), ("video_frames", "corpora")]


def entry(name: str):
    return importlib.import_module(f"asum_lib.study.{MODULE.get(name, name)}")


def refused(name: str, **given) -> str:
    with pytest.raises(InputError) as error:
        entry(name).run(**given)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_notebook_declares_what_its_function_takes(name):
    declared = {key: ast.literal_eval(found["default"]) for key, found in inspect_notebook(NOTEBOOKS / f"{name}.ipynb").items()}
    wanted = {key: found.default for key, found in parameters.declared(entry(name).run).items()}
    assert declared == {key: list(value) if isinstance(value, tuple) else value for key, value in wanted.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": 2024}, "parameter corpus is 2024, and should be text: with papermill -r corpus 2024"),
        ({"model": 1000}, "parameter model is 1000, and should be text: with papermill -r model 1000"),
        ({"corpus": None}, "parameter corpus is None, and should be text: with papermill -r corpus ''"),
        (
            {"precisions": "int8"},
            "parameter precisions is 'int8', and should be a list of one or more texts: with papermill -y 'precisions: [int8]'",
        ),
        (
            {"rates": "1/4, 1"},
            "parameter rates is '1/4, 1', and should be a list of one or more texts: with papermill -y 'rates: [\"1/4\", \"1\"]'",
        ),
        (
            {"seeds": 1},
            "parameter seeds is 1, and should be a list of one or more whole numbers from 0 to 4294967295: with papermill -y 'seeds: [1]'",
        ),
        (
            {"seeds": [True]},
            "parameter seeds is [True], and should be a list of one or more whole numbers from 0 to 4294967295: with papermill -y 'seeds: [0]'",
        ),
        ({"epochs": "two"}, "parameter epochs is 'two', and should be a whole number from 0 to 4294967295: with papermill -p epochs 6"),
    ],
)
def test_a_wrong_kind_is_one_line_with_the_right_one(given, message):
    assert refused("whisper_quant", **given) == message


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("peft_rouge", {"search": "true"}, "parameter search is 'true', and should be True or False: with papermill -p search True"),
        (
            "peft_rouge",
            {"learning_rates": [True]},
            "learning_rates is [True], and should be a list of numbers: with papermill -y 'learning_rates: [0.001]'",
        ),
        ("memory_footprint", {"audio_s": "long"}, "parameter audio_s is 'long', and should be a number: with papermill -p audio_s 30.0"),
        ("memory_footprint", {"batch_size": -1}, "parameter batch_size is -1, and should be a whole number"),
        ("corpora", {"limit": 1.5}, "parameter limit is 1.5, and should be a whole number"),
    ],
)
def test_other_kinds_have_their_line_too(name, given, message):
    assert message in refused(name, **given)


def test_a_whole_number_is_the_rate_of_its_text():
    assert parameters.KINDS[str | int].read(1) == parameters.KINDS[str | int].read("1") == "1"


def test_what_stands_twice_in_a_list_counts_once():
    @parameters.checked
    def run(seeds: list[int] = (0,), rates: list[str | int] = ("1",)):
        return seeds, rates

    assert run(seeds=[1, 1, 0], rates=[1, "1"]) == ([1, 0], ["1"])


def test_an_unknown_name_is_refused_by_the_function_too():
    assert refused("whisper_quant", sise="tiny").startswith("unknown parameter 'sise': choose from size, scale")
