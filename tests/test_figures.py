"""The style of the figures."""

from base64 import b64decode

import pytest
from bs4 import BeautifulSoup

from asum_lib import figures


def drawn():
    figure, (axis,) = figures.subplots()
    axis.plot([0, 1], [0, 1])
    axis.set(xlabel="time, s")
    return figure


def test_a_figure_is_an_image_with_its_text_escaped():
    image = BeautifulSoup(figures.show(drawn(), 'rises from 0 to 1 <b>"now"</b>').data, "html.parser").img
    assert image["alt"] == 'rises from 0 to 1 <b>"now"</b>'
    assert b"<svg" in b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))


def test_the_same_figure_gives_the_same_bytes():
    assert figures.svg(drawn()) == figures.svg(drawn())


def test_a_shown_figure_is_closed():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.show(drawn(), "a line")
    assert plt.get_fignums() == before


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (5, 2, 3)])
def test_panels_stand_three_in_a_row_and_spare_ones_are_hidden(count, rows, columns):
    figure, axes = figures.panels(count)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert sum(axis.get_visible() for axis in figure.axes) == len(axes) == count


def test_the_colours_are_all_different():
    assert len({colour.lower() for colour in figures.COLOURS}) == 8
