"""A text cell: its name, what is refused, and the grid of the ROUGE tables."""

from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.study.text_cells import COMBINATIONS, SEEDS, make_text_cell, make_text_row, planned_search, planned_text


def test_a_name_says_what_the_cell_is():
    cell = make_text_cell("howto-text", "t5", method="lora", seed=2)
    assert cell.name == "t5-mini-fp32-lora-r16-s2"
    assert cell.path(Path("results")) == Path("results/mini/rouge_wikihow/t5-mini-fp32-lora-r16-s2.json")


def test_what_differs_from_the_studys_choice_is_in_the_name():
    cell = make_text_cell("news-ru", "mbart", "int4", "adalora", rank=8, targets="all-linear", learning_rate=0.003, epochs=2)
    assert cell.name == "mbart-mini-int4-adalora-r8-alllinear-lr0.003-e2-s0"


def test_the_search_for_rates_has_a_folder_a_corpus():
    cell = make_text_cell("news-ru", "mbart", method="full", learning_rate=0.001, split="dev", search=True)
    assert cell.path(Path("r")) == Path("r/mini/rouge_rates/news-ru/mbart-mini-fp32-full-lr0.001-dev-s0.json")


def test_what_trains_nothing_has_neither_rank_nor_seed():
    cell = make_text_cell("howto-text", "t5", method="none", rank=32, learning_rate=0.1, seed=5)
    assert (cell.rank, cell.targets, cell.learning_rate, cell.epochs, cell.seed) == (None, None, None, None, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": "news-ru", "model": "t5"}, "model 't5' does not read ru, the language of news-ru: choose from mbart"),
        ({"corpus": "howto-text", "model": "bart"}, "unknown text model 'bart'"),
        ({"corpus": "howto-text", "model": "t5", "method": "prefix"}, "unknown method 'prefix'"),
        ({"corpus": "howto-text", "model": "t5", "method": "full", "precision": "int4"}, "'full' cannot train int4"),
        ({"corpus": "howto-text", "model": "t5", "method": "lora", "rank": 0}, "rank 0 is not a whole number of 1 or more"),
        ({"corpus": "howto-text", "model": "t5", "method": "lora", "learning_rate": 3.0}, "learning_rate 3.0 is not a number between"),
        ({"corpus": "wikihow", "model": "t5"}, "corpus 'wikihow' is not one of scale mini"),
        ({"corpus": "notes.jsonl", "model": "t5"}, "say its language"),
        ({"corpus": "rates.jsonl", "model": "t5", "language": "en"}, "a file of this name would write into the study's own table"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        make_text_cell(**given)


def test_a_row_has_full_fine_tuning_once_whatever_the_ranks_and_precisions():
    cells = make_text_row("howto-text", "t5", methods=["none", "full", "lora"], ranks=[4, 8], precisions=["fp32", "int4"], seeds=[0, 1])
    assert [cell.name for cell in cells if cell.method == "full"] == ["t5-mini-fp32-full-s0", "t5-mini-fp32-full-s1"]
    assert len([cell for cell in cells if cell.method == "lora"]) == 8
    assert [cell.precision for cell in cells if cell.method == "none"] == ["fp32", "int4"]


@pytest.mark.parametrize("table", ["rouge_wikihow", "rouge_gazeta"])
def test_the_grid_compares_lora_and_adalora_at_every_rank_with_three_seeds(table):
    kept = {
        method: {(cell.model, cell.rank, cell.seed) for cell in planned_text(table) if cell.method == method and cell.targets == "qkv"}
        for method in ("lora", "adalora")
    }
    assert kept["lora"] == kept["adalora"]
    assert {rank for _, rank, _ in kept["lora"]} == {4, 8, 16, 32, 64}
    assert {seed for _, _, seed in kept["lora"]} == set(SEEDS) == {0, 1, 2}


def test_every_method_searches_among_the_same_rates():
    rates = {}
    for cell in planned_search():
        rates.setdefault((cell.corpus, cell.model, cell.method), []).append(cell.learning_rate)
    assert set(rates) == {(*pair, method) for pair in COMBINATIONS for method in ("full", "lora", "adalora")}
    assert len({tuple(found) for found in rates.values()}) == 1
