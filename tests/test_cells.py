from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.study.cells import make_cell, make_row


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (make_cell("medium", "int8", "adalora", seed=1), "whisper-medium-int8-adalora-r8-s1"),
        (make_cell("medium", "int8", "adalora", rate="1", seed=1), "whisper-medium-int8-adalora-r8-rate1-s1"),
        (make_cell("large", "fp32", "full", seed=2), "whisper-large-fp32-full-s2"),
        (make_cell("tiny", "int4-dq", "none"), "whisper-tiny-int4-dq-none-s0"),
        (make_cell("tiny", "int8", "adalora", epochs=1), "whisper-tiny-int8-adalora-r8-e1-s0"),
        (make_cell("base", "int4", "lora", rank=16), "whisper-base-int4-lora-r16-s0"),
    ],
)
def test_the_name_is_readable_and_names_rate_and_epochs_only_if_not_the_papers(cell, name):
    assert cell.name == name


def test_the_path_is_the_identity():
    cell = make_cell("tiny", "int8", "none", corpus="digits")
    assert cell.path(Path("results")) == Path("results/mini/whisper_digits/whisper-tiny-int8-none-s0.json")


def test_different_cells_have_different_paths():
    cells = [
        make_cell(size, precision, method, rate=rate, seed=seed)
        for size in ("tiny", "large")
        for precision, method in (("fp32", "full"), ("int8", "adalora"), ("int8", "adalora-inactive"), ("int8", "lora"))
        for rate in ("1/40", "1")
        for seed in (0, 1)
    ]
    assert len({cell.path(Path("results")) for cell in cells}) == len(cells) == 32


def test_what_trains_nothing_has_no_rank_rate_epochs_or_seed():
    cell = make_cell("tiny", "int8", "none", rate="1", seed=2)
    assert (cell.rank, cell.rate, cell.epochs, cell.seed) == (None, None, None, 0)
    assert cell == make_cell("tiny", "int8", "none")


def test_full_fine_tuning_has_a_rate_but_no_rank():
    cell = make_cell("tiny", "fp32", "full", seed=2)
    assert (cell.rank, cell.rate, cell.seed) == (None, "1/40", 2)


def test_a_local_manifest_has_a_table_of_its_own():
    assert make_cell("tiny", "fp32", "none", corpus="/data/talks/manifest.jsonl").table == "whisper_talks"
    assert make_cell("tiny", "fp32", "none").table == "whisper_wer"


def names(cells):
    return [cell.name.removeprefix("whisper-tiny-") for cell in cells]


def test_a_row_is_every_precision_with_every_method_but_for_what_cannot_be():
    row = make_row("tiny", ["fp32", "int8"], ["none", "full"], seeds=[0, 1])
    assert names(row) == ["fp32-none-s0", "int8-none-s0", "fp32-full-s0", "fp32-full-s1"]


def test_a_row_that_asks_for_nothing_possible_is_refused():
    with pytest.raises(InputError, match="method 'full' cannot train int8 weights"):
        make_row("tiny", ["int8"], ["full"])


@pytest.mark.parametrize("precisions", ["int8", []])
def test_a_row_takes_lists(precisions):
    with pytest.raises(InputError, match="is not a list with at least one entry"):
        make_row("tiny", precisions, ["none"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("huge", "int8", "none"), {}, "unknown size 'huge': choose from tiny, base, small, medium, large"),
        (("tiny", "int2", "none"), {}, "unknown precision 'int2': choose from fp32, bf16, int8, int4, int4-dq, fp4"),
        (("tiny", "int8", "dora"), {}, "unknown method 'dora': choose from none, lora, adalora, adalora-inactive, full"),
        (("tiny", "int8", "lora"), {"rate": "2"}, "unknown rate '2': choose from 1, 1/4, 1/10, 1/40, 1/100"),
        (("tiny", "int8", "lora"), {"scale": "midi"}, "unknown scale 'midi': choose from mini, paper"),
        (("tiny", "int8", "full"), {}, "method 'full' cannot train int8 weights"),
        (("tiny", "int8", "lora"), {"seed": -1}, "seed -1 is not a whole number of 0 or more"),
        (("tiny", "int8", "lora"), {"epochs": 0}, "epochs 0 is not a whole number of 1 or more"),
    ],
)
def test_what_is_unknown_is_refused_with_the_choices(arguments, options, message):
    with pytest.raises(InputError, match=message):
        make_cell(*arguments, **options)
