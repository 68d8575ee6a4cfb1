"""How the corpora are shown: the table of `study.corpora_table` as HTML and figures, and one document with what is known of it.

Functions for tables take `rows`, the objects of `corpora_table.rows()` (None reads them), and say so where there is nothing
yet. They measure no corpus and type no figure. All text from data is escaped.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from asum_lib import figures
from asum_lib.corpora import texts
from asum_lib.errors import InputError
from asum_lib.measure import extractive, rouge, summaries
from asum_lib.paths import RESULTS
from asum_lib.study import corpora_table, render_paper
from asum_lib.study.render import _link, _nothing_yet, in_language
from asum_lib.study.render_paper import _html

SYSTEM_NAMES = {"lead3": "Lead-3", "textrank": "TextRank", "oracle": "extractive oracle"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's palette
LINES = ("-", "--", "-.", ":")
MARK_STYLES = {  # a letter beside the colour, for those who see no colour
    "right": ("#009E73", "✓"),
    "beside": ("#0072B2", "·"),
    "made-up": ("#D55E00", "✗"),
}
BINS = 10


def scale_note() -> object:
    """The banner of the page on the corpora."""
    text = (
        "<strong>Scale: mini.</strong> The corpora that this project generates, in the shape of WikiHow and Gazeta. "
        "What is said here of them is exact; of the real corpora it says nothing."
    )
    return _html(f'<div class="admonition note asum-scale"><p>{text}</p></div>')


def rows(scale: str = "mini", results: Path = RESULTS) -> list[dict]:
    """The objects of the table."""
    return corpora_table.rows(scale=scale, results=results)


# The table -------------------------------------------------------------------------------------------------------------


def statistics_table(rows: list[dict] | None = None) -> object:
    """Corpora and splits by size, length of text and summary, compression and vocabulary."""
    columns = ("documents", "text_words", "text_sentences", "summary_words", "summary_sentences", "compression", *corpora_table.VOCABULARY)
    titles = ("documents", "words<br>of a text", "sentences<br>of a text", "words of<br>a summary", "sentences of<br>a summary", "compression")
    caption = "Means over documents; small: 95 % intervals. Compression: words of text a word of summary, pooled."
    return _by_split(_read(rows), columns, (*titles, "vocabulary<br>of texts", "of summaries"), caption)


def novelty_table(rows: list[dict] | None = None) -> object:
    """Corpora and splits by the share of the summaries' n-grams that their text does not have."""
    caption = "Per cent of the summaries' n-grams that are not in the text, pooled; small: 95 % intervals."
    return _by_split(_read(rows), [f"novelty{n}" for n in range(1, 5)], ("1-grams", "2-grams", "3-grams", "4-grams"), caption)


def facts_table(rows: list[dict] | None = None) -> object:
    """How many facts a document of the generated corpora states, and how many of them its summary."""
    return _by_split(
        _read(rows), ("facts", "key_facts"), ("facts of a text", "of them in the summary"), "Means over documents; small: 95 % intervals."
    )


def extractive_table(rows: list[dict] | None = None, split: str = "test") -> object:
    """Corpora and extractive systems by ROUGE, facts and length, on one split."""
    metrics = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "fact_recall": "facts stated, %", "words": "words"}
    found = [row for row in _read(rows) if row["cell"]["split"] == split and row["cell"]["system"]]
    present = {metric: title for metric, title in metrics.items() if any(row["metric"] == metric for row in found)}
    lines = []
    for corpus in dict.fromkeys(row["cell"]["corpus"] for row in found):
        for system, name in SYSTEM_NAMES.items():
            cells = [_value(_find(found, metric, corpus=corpus, system=system)) for metric in present]
            if any(cells):
                lines.append([html.escape(corpus), name, *cells])
    if not lines:
        return _nothing_yet()
    caption = f"ROUGE F1 x 100 on {html.escape(split)}, mean over documents; small: 95 % intervals over documents."
    return _html(_table(("corpus", "system", *present.values()), lines, caption))


def tokenizer_table(rows: list[dict] | None = None, split: str = "test") -> object:
    """Russian corpora under the tokenizer that sees Russian letters, and under rouge_score's own, which does not."""
    found = [row for row in _read(rows) if row["cell"]["split"] == split and row["cell"]["system"]]
    lines = []
    for row in (row for row in found if row["metric"] == "rouge1_default"):
        corpus, system = row["cell"]["corpus"], row["cell"]["system"]
        lines.append([html.escape(corpus), SYSTEM_NAMES[system], _value(_find(found, "rouge1", corpus=corpus, system=system)), _value(row)])
    if not lines:
        return _nothing_yet()
    titles = ("corpus", "system", "ROUGE-1, <code>unicode</code>", "ROUGE-1, <code>default</code>")
    return _html(_table(titles, lines, "The same summaries, scored by two tokenizers; small: 95 % intervals."))


def plot_novelty(rows: list[dict] | None = None, split: str = "test") -> object:
    """Novelty against n, a line a corpus."""
    found = [row for row in _read(rows) if row["cell"]["split"] == split and row["metric"].startswith("novelty")]
    if not found:
        return _nothing_yet()
    figure, (axis,) = figures.subplots(width_in=6)
    said = []
    for number, corpus in enumerate(dict.fromkeys(row["cell"]["corpus"] for row in found)):
        own = [row for n in range(1, 5) if (row := _find(found, f"novelty{n}", corpus=corpus))]
        values = [row["value"] for row in own]
        bars = [[row["value"] - row["lo"] for row in own], [row["hi"] - row["value"] for row in own]]
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)], "marker": "o", "capsize": 2}
        axis.errorbar([int(row["metric"][-1]) for row in own], values, yerr=bars, label=corpus, **style)
        said.append(f"{corpus}: " + ", ".join(f"{value:.0f}" for value in values))
    axis.set(xlabel="n", ylabel="novel n-grams, %", xticks=range(1, 5), ylim=(0, 100))
    figures.legend(figure, [axis])
    return figures.show(figure, f"Novelty of the summaries for n from 1 to 4, in per cent. {'; '.join(said)}.")


def plot_positions(corpora: Sequence[str] = texts.NAMES, split: str = "test", scale: str = "mini", results: Path = RESULTS) -> object:
    """Where in a text the sentences lie that the oracle takes: a histogram a corpus, from the samples beside its record."""
    import numpy as np

    from asum_lib.study import records

    shares = {}
    for corpus in corpora:
        path = corpora_table.Cell(corpora_table.TABLE, scale, corpus, split, None).path(results)
        if path.is_file() and (positions := [p for row in records.read_samples(path) for p in row.get("oracle_positions", [])]):
            shares[corpus] = 100 * np.histogram(positions, bins=BINS, range=(0, 1))[0] / len(positions)
    if not shares:
        return _nothing_yet()
    figure, axes = figures.panels(len(shares))
    said = []
    for axis, (corpus, values) in zip(axes, shares.items(), strict=True):
        axis.bar((np.arange(BINS) + 0.5) / BINS, values, width=0.9 / BINS, color=COLOURS[0])
        axis.set(title=corpus, xlabel="place in the text", xlim=(0, 1))
        said.append(f"{corpus}: {values[0]:.0f} % in the first tenth, {values[-1]:.0f} % in the last")
    axes[0].set_ylabel("of the oracle's sentences, %")
    return figures.show(figure, f"Histograms of where the oracle's sentences lie, from the first sentence (0) to the last (1). {'; '.join(said)}.")


def findings(rows: list[dict] | None = None, split: str = "test") -> object:
    """Sentences on what the table says of each corpus, written from its values."""
    found = [row for row in _read(rows) if row["cell"]["split"] == split]
    lines = []
    for corpus in dict.fromkeys(row["cell"]["corpus"] for row in found):
        novelty, compression = (_find(found, metric, corpus=corpus, system=None) for metric in ("novelty2", "compression"))
        lead, oracle = (_find(found, "rouge1", corpus=corpus, system=system) for system in ("lead3", "oracle"))
        if None in (novelty, compression, lead, oracle):
            continue
        lines.append(
            f"<li><strong>{html.escape(corpus)}</strong>: a summary is {100 / compression['value']:.0f} % of its text in words, and "
            f"{novelty['value']:.0f} % of its word pairs are not in it. The first three sentences reach ROUGE-1 {lead['value']:.1f}, "
            f"chosen sentences at least {oracle['value']:.1f}.</li>"
        )
    return _html(f"<ul>{''.join(lines)}</ul>") if lines else _nothing_yet()


# One document ----------------------------------------------------------------------------------------------------------


def row_statistics(row: corpora_table.Row) -> object:
    """The statistics of the one split that a notebook looks at, a line a metric."""
    lines = [[_metric_name(entry["metric"]), _value(entry), html.escape(entry["unit"])] for entry in row.rows if not entry["cell"]["system"]]
    caption = f"{html.escape(row.corpus.name)}, {html.escape(row.corpus.split)}. Small: 95 % interval over documents."
    return _html(_table(("", "value", "unit"), lines, caption))


def document(row: corpora_table.Row, number: int = 0) -> object:
    """One document with its reference: the sentences that Lead-3 (L), TextRank (T) and the oracle (O) take are marked in the text."""
    found = _document(row, number)
    language = row.corpus.language
    sentences, most = corpora_table.sentences_of(found, language), corpora_table.sentences_taken(language)
    taken = {
        "L": extractive.lead(sentences, most["lead3"]),
        "T": extractive.textrank(sentences, most["textrank"]),
        "O": extractive.oracle(sentences, found.reference, most["oracle"], language),
    }
    lines = []
    for position, sentence in enumerate(sentences, start=1):
        letters = "".join(letter for letter, chosen in taken.items() if sentence in chosen)
        lines.append([str(position), letters, in_language(sentence, language, "strong" if "O" in letters else "span")])
    caption = f"{in_language(found.title or found.id, language)}. L: Lead-3, T: TextRank, O and bold: the oracle."
    summary = "".join(in_language(sentence, language, "li") for sentence in found.summary)
    return _html(f'<div class="wrap">{_table(("", "taken by", "sentence"), lines, caption)}<p>Reference:</p><ul>{summary}</ul></div>')


def facts(row: corpora_table.Row, number: int = 0, summary: str | None = None) -> object:
    """The facts of one document marked in a summary (the reference by default): right, beside or made up, and those that it misses."""
    found = _document(row, number)
    lexicon = _lexicon(row)
    summary = found.reference if summary is None else summary
    counts = summaries.slot_counts(summary, found.facts, lexicon)
    rouge_1 = 100 * rouge.score([found.reference], [summary], row.corpus.language, types=("rouge1",))["rouge1"][0]
    recall = "no key fact" if counts.recall is None else f"{counts.right} of {counts.right + counts.missed} key facts"
    said = f"ROUGE-1 {rouge_1:.1f}; {recall}, {counts.beside} beside them, {counts.made_up} made up."
    return _html(f'<p lang="{html.escape(row.corpus.language)}">{marked(summary, found.facts, lexicon)}</p><p>{said}</p>')


def marked(summary: str, document_facts, lexicon) -> str:
    """A summary as HTML with its facts in colour and with a sign: ✓ right, · beside, ✗ made up; then what it misses."""
    pieces, missed = summaries.marked(summary, document_facts, lexicon)
    shown = []
    for text, mark in pieces:
        if mark == "plain":
            shown.append(html.escape(text))
        else:
            colour, sign = MARK_STYLES[mark]
            style = f"border-bottom: 2px solid {colour}"
            shown.append(f'<span style="{style}" title="{mark}">{html.escape(text)}<sup>{sign}</sup></span>')
    absent = f"<br>Missed: {html.escape(', '.join(value for _, value in missed))}." if missed else ""
    return "".join(shown) + absent


def wrong_fact(row: corpora_table.Row, number: int = 0) -> object:
    """The reference of one document with one fact swapped for another of its kind: what ROUGE says of it, and what the facts do.

    Of a corpus whose facts are not known, that is said.
    """
    if row.corpus.name not in texts.NAMES:
        return _html("<p>The facts of this corpus are not known.</p>")
    found = _document(row, number)
    return _html(f"<p>The reference:</p>{facts(row, number).data}<p>With one wrong fact:</p>{facts(row, number, swapped(found, _lexicon(row))).data}")


def swapped(found: texts.TextDocument, lexicon) -> str:
    """The reference with the first key fact that it states replaced by the first value of that kind that the document does not state."""
    stated = {(fact.kind, fact.value) for fact in found.facts}
    by_kind = {(fact.kind, fact.value): fact.kind for fact in found.facts if fact.key}
    pieces, _ = summaries.marked(found.reference, found.facts, lexicon)
    for position, (text, mark) in enumerate(pieces):
        kinds = [by_kind[fact] for fact in sorted(summaries.find_facts(text, lexicon)) if fact in by_kind] if mark == "right" else []
        for kind in kinds:
            others = [forms for value, forms in lexicon[kind].items() if (kind, value) not in stated]
            if others:
                other = next(iter(others[0]))
                other = other[:1].upper() + other[1:] if text[:1].isupper() else other
                return "".join([*(piece for piece, _ in pieces[:position]), other, *(piece for piece, _ in pieces[position + 1 :])])
    raise InputError(f"document {found.id} states no fact that could be swapped")


# Helpers ---------------------------------------------------------------------------------------------------------------


def _read(rows: list[dict] | None) -> list[dict]:
    return corpora_table.rows() if rows is None else rows


def _find(rows: list[dict], metric: str, **cell) -> dict | None:
    return next((row for row in rows if row["metric"] == metric and all(row["cell"][key] == value for key, value in cell.items())), None)


def _by_split(rows: list[dict], metrics: Sequence[str], titles: Sequence[str], caption: str) -> object:
    """A table with a line a corpus and split; splits of which nothing is known are left out."""
    found = [row for row in rows if row["cell"]["system"] is None and row["value"] is not None]
    lines = []
    for corpus, split, limit in dict.fromkeys(tuple(row["cell"][key] for key in ("corpus", "split", "limit")) for row in found):
        cells = [_find(found, metric, corpus=corpus, split=split, limit=limit) for metric in metrics]
        if any(cells):
            first = next(cell for cell in cells if cell)
            name = _link(first["records"][0], split + (f", first {limit}" if limit else ""))
            lines.append([html.escape(corpus), name, *map(_value, cells)])
    return _html(_table(("corpus", "split", *titles), lines, caption)) if lines else _nothing_yet()


def _value(row: dict | None) -> str:
    if row is None or row["value"] is None:
        return ""
    digits = 0 if row["metric"] in ("documents", *corpora_table.VOCABULARY) else 2 if row["metric"] == corpora_table.POSITION else 1
    shown = f"{row['value']:,.{digits}f}"
    if row["lo"] is None or row["lo"] == row["hi"] == row["value"]:
        return shown
    return f"{shown}<br><small>{row['lo']:,.{digits}f} to {row['hi']:,.{digits}f}</small>"


def _metric_name(metric: str) -> str:
    if metric.startswith("novelty"):
        return f"{metric[-1]}-grams of the summary that are not in the text"
    names = {
        "text_words": "words of a text",
        "text_sentences": "sentences of a text",
        "summary_words": "words of a summary",
        "summary_sentences": "sentences of a summary",
        "facts": "facts of a text",
        "key_facts": "facts of a summary",
        "text_vocabulary": "vocabulary of the texts",
        "summary_vocabulary": "vocabulary of the summaries",
        "oracle_position": "place of the oracle's sentences",
    }
    return html.escape(names.get(metric, metric))


def _document(row: corpora_table.Row, number: int) -> texts.TextDocument:
    if not 0 <= number < len(row.corpus.documents):
        raise InputError(f"document {number} of {row.corpus.name} {row.corpus.split}: choose from 0 to {len(row.corpus.documents) - 1}")
    return row.corpus.documents[number]


def _lexicon(row: corpora_table.Row):
    if row.corpus.name not in texts.NAMES:
        raise InputError(f"the facts of {row.corpus.name} are not known: they are only of the generated corpora, {', '.join(texts.NAMES)}")
    return texts.lexicon(row.corpus.name)


def _table(titles: Sequence[str], lines: list[list[str]], caption: str) -> str:
    return f'<div class="asum-main">{render_paper._table(titles, lines, caption)}</div>'
