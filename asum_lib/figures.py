"""The one style of the book's figures: colours, fonts, size, and how a figure gets onto a page.

A figure of the book is two functions: one that computes or loads its data, and one that plots them:

    figure, (axis,) = figures.subplots()
    axis.plot(...)
    return figures.show(figure, "what is to be seen, with its numbers")

The data's functions know no figure, and a plot computes nothing. matplotlib is imported when the first figure is drawn.
"""

import base64
import html
import io

# Okabe and Ito's palette, told apart by the colour-blind: Color Universal Design (2008)
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000"]
GREY = "#999999"
WIDTH_IN, HEIGHT_IN, PANEL_IN = 6.5, 3.4, 2.6  # of a figure, and of a panel in a row of several


def subplots(columns: int = 1, rows: int = 1, width_in: float | None = None, height_in: float | None = None, sharey: bool = False):
    """(figure, axes row by row) in the book's style; sizes are the whole figure's."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import seaborn

    seaborn.set_theme(style="whitegrid", context="paper", palette=COLOURS, rc={"svg.hashsalt": "asum", "font.family": "DejaVu Sans"})
    size = (width_in or WIDTH_IN, height_in or (HEIGHT_IN if rows == 1 else PANEL_IN * rows))
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=sharey, squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def panels(count: int, width_in: float = PANEL_IN, sharey: bool = True):
    """(figure, `count` axes) for as many panels of one kind, three in a row at the most; `width_in` is a panel's."""
    columns = min(count, 3)
    rows = -(-count // 3)
    figure, axes = subplots(columns, rows, max(width_in * columns, 6), sharey=sharey)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def legend(figure, axes) -> None:
    """One legend below the panels for everything that is named in any of them."""
    named = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False)


def show(figure, alternative: str) -> object:
    """The figure as an SVG image with `alternative` as its text; closes it. The book's style sheet makes it dark with the page."""
    from IPython.display import HTML

    return HTML(f'<div class="asum-figure" tabindex="0"><img alt="{html.escape(alternative.strip())}" src="{svg(figure)}"></div>')


def svg(figure) -> str:
    """The figure as a data URI of an SVG without a ground; closes it. The same figure gives the same bytes."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    plt.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
