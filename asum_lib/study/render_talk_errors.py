"""How it is shown what errors of hearing cost a summary: by WER, by where the errors are, by kind of fact, and in examples.

What is counted in transcripts and summaries is for `talk_errors`; HTML as in `render`.
"""

import html
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.measure import stats, summaries
from asum_lib.measure.stats import Difference
from asum_lib.measure.wer import normalizer
from asum_lib.paths import RESULTS
from asum_lib.study import records, talk_errors, text_tables
from asum_lib.study.render import _marked, _nothing_yet
from asum_lib.study.render_paper import _html
from asum_lib.study.render_rates import _interval, _table
from asum_lib.study.render_rouge import _MARKUP
from asum_lib.study.render_talks import (
    BOTH,
    COLOURS,
    MAIN,
    MARKERS,
    METRIC_NAMES,
    SYSTEM_NAMES,
    _absent,
    _count,
    _judged,
    _list,
    _main,
    _planned,
    _short,
    _talks,
    name_of,
)
from asum_lib.study.tables import Row
from asum_lib.study.talk_cells import E2E, SIZE
from asum_lib.study.talk_scores import NORMALIZER

CORPUS = "howto-talks"
SETS = {"all transcripts": ("ladder", "cascade"), "those of the WER table": ("ladder",), "those of the cascade": ("cascade",)}
GROUP_NAMES = {"none": "no error", "beside": "errors, none on a fact", "on": "an error on a fact"}


def _transcribed(results: Path) -> tuple[list[Row], list[Row]]:
    """(the upper bound, then every measured row with transcripts and its seeds and talks; the planned ones that are left out)."""
    found = _planned(E2E, results)
    reference = _main(found, "reference")
    heard = [row for row in found if row.cell["system"] in ("ladder", "cascade")]
    if not reference.measured:
        return [], heard
    alike = [_seed_numbers(row) == _seed_numbers(reference) for row in heard]
    whole = [row for row, same in zip(heard, alike, strict=True) if same]
    return [reference, *whole], [row for row, same in zip(heard, alike, strict=True) if not same]


def _seed_numbers(row: Row) -> list[int]:
    return [record.cell["seed"] for _, record in row.measured]


def _arrays(rows: Sequence[Row], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(numerators [cells, seeds, talks], denominators [talks]) of a metric; refuses rows of unlike talks."""
    read = [text_tables.values(row, metric) for row in rows]
    if any(ids != read[0][0] or not np.array_equal(over, read[0][2]) for ids, _, over in read):
        raise InputError(f"{metric}: the systems were not scored on the same talks")
    return np.stack([of for _, of, _ in read]), read[0][2]


def _wer_arrays(reference: Row, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """(word errors [cells, seeds, talks], words [talks]); the upper bound, which comes first, has none."""
    errors, words = _arrays(rows, "wer_pct")
    return np.concatenate([np.zeros_like(errors[:1]), errors]), words


def _lines(results: Path) -> dict[tuple[str, str], tuple[talk_errors.Line, list[Row]]]:
    """{(set of `SETS`, metric): (the line through its cells and the upper bound, its cells)}."""
    rows, _ = _transcribed(results)
    lines = {}
    for name, systems in SETS.items():
        chosen = [row for row in rows[1:] if row.cell["system"] in systems]
        if len(chosen) < 2:
            continue
        errors, words = _wer_arrays(rows[0], chosen)
        for metric in BOTH:
            lines[name, metric] = talk_errors.line(errors, words, *_arrays([rows[0], *chosen], metric), text_tables.clusters(rows[0])), chosen
    return lines


def plot_wer(results: Path = RESULTS) -> object:
    """ROUGE-1 and facts stated against the WER of the transcript, a point a cell, with the line through all of them."""
    rows, _ = _transcribed(results)
    if len(rows) < 3:
        return _nothing_yet()
    lines, end_to_end = _lines(results), _main(_planned(E2E, results), "e2e")
    figure, axes = figures.subplots(columns=2, width_in=7.5)
    said = []
    for axis, metric in zip(axes, BOTH, strict=True):
        for system in ("reference", "ladder", "cascade"):
            group = [row for row in rows if row.cell["system"] == system]
            if not group:
                continue
            y = np.array([text_tables.interval(row, metric) for row in group])
            x = np.array([(0.0, 0.0, 0.0) if system == "reference" else text_tables.interval(row, "wer_pct") for row in group])
            spread = [np.stack([of[:, 0] - of[:, 1], of[:, 2] - of[:, 0]]) for of in (x, y)]
            style = {"color": COLOURS[system], "marker": MARKERS[system], "markersize": 9 if system == "reference" else 4}
            axis.errorbar(x[:, 0], y[:, 0], xerr=spread[0], yerr=spread[1], linestyle="none", elinewidth=0.7, label=SYSTEM_NAMES[system], **style)
            points = ", ".join(f"{a:.1f} % {b:.1f}" for a, b in zip(x[:, 0], y[:, 0], strict=True))
            said.append(f"{METRIC_NAMES[metric]}, {SYSTEM_NAMES[system]}: {points}")
        line = lines["all transcripts", metric][0]
        reach = np.array([0, max(text_tables.interval(row, "wer_pct")[0] for row in rows[1:])])
        axis.plot(reach, line.at_zero.value + line.slope.value * reach, color=figures.GREY, linewidth=1.2, zorder=0, label="least squares")
        if end_to_end.measured:
            level = text_tables.interval(end_to_end, metric)[0]
            axis.axhline(level, color=COLOURS["e2e"], linestyle="--", linewidth=1, label="end-to-end, without a transcript")
            said.append(f"{METRIC_NAMES[metric]}, end-to-end: {level:.1f}")
        axis.set(xlabel="WER of the transcript, %", ylabel=METRIC_NAMES[metric])
        axis.set_ylim(bottom=0)
    figures.legend(figure, axes)
    return figures.show(figure, "Scores of summaries against the word error rate of what was read. " + "; ".join(said) + ".")


def wer_table(results: Path = RESULTS) -> object:
    """The lines of `plot_wer`: what a point of WER adds to each score, over all transcripts and over either kind."""
    rows, left_out = _transcribed(results)
    lines = []
    for (name, metric), (line, chosen) in _lines(results).items():
        rates = [text_tables.interval(row, "wer_pct")[0] for row in chosen]
        zero = line.at_zero
        fields = [name, METRIC_NAMES[metric], _precise(line.slope), _values((zero.value, zero.lo, zero.hi))]
        lines.append([*fields, f"{min(rates):.1f} to {max(rates):.1f}", len(chosen) + 1, _talks(chosen[0], "wer_pct"), _count(rows[0])])
    if not lines:
        return _nothing_yet()
    titles = ["transcripts", "score", "points for a point of WER", "at WER 0", "WER, %", "cells", "talks", "seeds"]
    caption = (
        "Straight lines by least squares through the cells, the upper bound at WER 0 among them. 95 % intervals by leaving out "
        "each voice, and each seed, of all cells at once."
    )
    if left_out:
        caption += (
            f" Not in them, since not every seed is measured: {html.escape('; '.join(f'{name_of(row.cell)} ({row.status})' for row in left_out))}."
        )
    return _table(titles, lines, caption)


def _wer_said(results: Path) -> str:
    """What a point of WER costs, in a sentence."""
    parts = []
    for metric, unit in (("rouge1", "points of ROUGE-1"), ("fact_recall", "points of facts stated")):
        line, chosen = _lines(results)["all transcripts", metric]
        slope = line.slope
        small, large = sorted((abs(slope.lo), abs(slope.hi)))
        if slope.tie:
            parts.append(f"an amount of {unit} that is not told from none ({_precise(slope)})")
        else:
            parts.append(f"{abs(slope.value):.2f} {unit} ({small:.2f} to {large:.2f}{'' if slope.value < 0 else '; it gains them'})")
    return f"A point of WER costs {' and '.join(parts)}, over {len(chosen)} cells of transcripts and the upper bound."


# Which errors matter ---------------------------------------------------------------------------------------------------------


@cache
def _scripts(corpus: str) -> dict[str, talks.Script]:
    return {script.id: script for script in talks.scripts(corpus, "test")}


@cache
def _phrases(corpus: str) -> dict[str, dict[tuple[str, str], tuple[str, ...]]]:
    return {identity: talk_errors.fact_phrases(script) for identity, script in _scripts(corpus).items()}


def _samples(path: Path, record: records.Record) -> list[dict]:
    """The samples of a record, in the order of their ids, as `text_tables.values` has them."""
    return sorted(records.samples_of(record, path), key=lambda sample: sample["id"])


def _placed(rows: Sequence[Row]) -> np.ndarray:
    """[2, cells, seeds, talks]: errors on facts, and beside them."""
    phrases = _phrases(CORPUS)
    found = [
        [
            [_placed_once(sample["transcript"], sample["heard"], tuple(phrases[sample["id"]].values())) for sample in _samples(path, record)]
            for path, record in row.measured
        ]
        for row in rows
    ]
    return np.moveaxis(np.array([[[(one.on, one.beside) for one in seed] for seed in cell] for cell in found], dtype=float), -1, 0)


@cache
def _placed_once(transcript: str, heard: str, phrases: tuple) -> talk_errors.Placed:
    """Remembered: a Whisper that is not adapted writes the same for every seed."""
    return talk_errors.placed(transcript, heard, phrases)


def groups_table(results: Path = RESULTS) -> object:
    """Talks without an error, with errors beside the facts only, and with an error on a fact: how good their summaries are."""
    rows, _ = _transcribed(results)
    if len(rows) < 2:
        return _nothing_yet()
    lines = []
    chosen = {name: [row for row in rows[1:] if row.cell["system"] in systems] for name, systems in SETS.items()}
    main = [row for row in rows[1:] if row.cell["system"] == "cascade" and all(row.cell[key] == value for key, value in MAIN.items())]
    for name, group in {**chosen, f"the cascade with {SIZE} int8 + AdaLoRA": main}.items():
        if not group:
            continue
        on, beside = _placed(group)
        masks = {"none": (on + beside) == 0, "beside": (on == 0) & (beside > 0), "on": on > 0}
        scores = [_arrays([rows[0], *group], metric) for metric in BOTH]
        for kind, mask in masks.items():
            fields = []
            for of, over in scores:
                weights = np.broadcast_to(over, mask.shape)
                for values in (of[1:], of[1:] - of[:1]):
                    fields.append(_values(talk_errors.grouped(values, weights, mask, text_tables.clusters(rows[0]))) if mask.any() else "none")
            lines.append([name, GROUP_NAMES[kind], f"{int(mask.sum()):,}", *fields, len(group), _count(rows[0])])
    titles = [part for metric in BOTH for part in (METRIC_NAMES[metric], "minus the upper bound's on the same talks, points")]
    caption = (
        "95 % intervals over voices and seeds. A talk counts once a cell and seed. The groups are not the same talks: one that is heard "
        "without an error may be easier to summarise too, so look at the differences."
    )
    return _table(["transcripts", "the talk has", "summaries", *titles, "cells", "seeds"], lines, caption)


def costs_table(results: Path = RESULTS) -> object:
    """What one more error on a fact, and one more beside them, costs a talk's summary against the same model's on what was really said."""
    lines = [
        [name, METRIC_NAMES[metric] if metric == "rouge1" else "facts stated in 100 summaries", *map(_interval, pair), len(group), seeds]
        for (name, metric), (pair, group, seeds) in _costs(results).items()
    ]
    if not lines:
        return _nothing_yet()
    titles = ["transcripts", "change of", "an error on a fact", "an error beside the facts", "cells", "seeds"]
    caption = (
        "Least squares over the talks within each cell: summary of the transcript minus summary of what was said, by the same text model. "
        "95 % intervals over voices and seeds. Below 0 the error costs."
    )
    return _table(titles, lines, caption)


def _costs(results: Path) -> dict[tuple[str, str], tuple[list[Difference], list[Row], int]]:
    """{(set of `SETS`, metric): (change for an error on a fact and beside the facts, its cells, seeds)}."""
    rows, _ = _transcribed(results)
    found = {}
    for name, systems in SETS.items():
        group = [row for row in rows[1:] if row.cell["system"] in systems]
        if not group:
            continue
        causes = _placed(group)
        for metric in BOTH:
            of, _ = _arrays([rows[0], *group], metric)
            change = 100 * (of[1:] - of[:1])
            try:
                found[name, metric] = talk_errors.slopes(causes, change, text_tables.clusters(rows[0])), group, _count(rows[0])
            except InputError:  # no talk has an error, or all have as many
                continue
    return found


def survival_table(results: Path = RESULTS) -> object:
    """By kind of fact: is it still in the transcript, and is it in the summary of each system?"""
    found = _planned(E2E, results)
    main = {system: _main(found, system) for system in ("reference", "cascade", "e2e")}
    there = {system: row for system, row in main.items() if row.measured}
    if not there:
        return _nothing_yet()
    kept, ids = {}, None
    for system, row in there.items():
        samples = [_samples(path, record) for path, record in row.measured]
        ids = ids or [sample["id"] for sample in samples[0]]
        if any([sample["id"] for sample in of_seed] != ids for of_seed in samples):
            raise InputError(f"{row.measured[0][0]} was not scored on the same talks as the others")
        kept[system] = [[summaries.find_facts(sample["summary"], _lexicon()) for sample in of_seed] for of_seed in samples]
        if system == "cascade":
            phrases = _phrases(CORPUS)
            kept["heard"] = [[talk_errors.heard_facts(sample["heard"], phrases[sample["id"]]) for sample in of_seed] for of_seed in samples]
    wanted = [{(fact.kind, fact.value) for fact in _scripts(CORPUS)[identity].facts if fact.key} for identity in ids]
    voices = text_tables.clusters(next(iter(there.values())))
    lines = []
    for kind in talk_errors.KINDS:
        shown = {system: talk_errors.survival(written, wanted, kind) for system, written in kept.items()}
        fields = [
            _values(stats.ratio_interval(*shown[system], voices, 100.0))
            if system in shown
            else _absent(main["cascade" if system == "heard" else system])
            for system in ("reference", "heard", "cascade", "e2e")
        ]
        if "cascade" in shown and "e2e" in shown:
            one = stats.contrast([(1, shown["e2e"][0]), (-1, shown["cascade"][0])], shown["e2e"][1], voices)
            fields.append(f"{_interval(one)}{' =' if one.tie else ''}")
        else:
            fields.append("")
        lines.append([kind, int(next(iter(shown.values()))[1].sum()), *fields])
    titles = ["fact", "there are", "stated by the upper bound, %", "heard by the cascade, %", "stated by the cascade, %", "stated end-to-end, %"]
    seeds = ", ".join(f"{_short(system)} {_count(row)}" for system, row in there.items())
    caption = (
        f"Facts of the reference summaries of {len(ids)} talks; 95 % intervals over voices and seeds ({seeds}). Heard: the transcript has the whole "
        "phrase once at least, of a sentiment the whole last sentence. = the interval holds 0; not corrected."
    )
    return _table([*titles, "end-to-end minus cascade"], lines, caption)


@cache
def _lexicon() -> dict:
    return talks.lexicon(CORPUS)


def examples(results: Path = RESULTS, first: int = 2) -> object:
    """The first talks by id, then the two on which cascade and end-to-end model differ most, either way: heard, written, facts marked."""
    found = _planned(E2E, results)
    there = {system: _main(found, system) for system in ("reference", "cascade", "e2e")}
    by_system = {system: {sample["id"]: sample for sample in _samples(*row.measured[0])} for system, row in there.items() if row.measured}
    if not by_system:
        return _nothing_yet()
    ids = sorted(next(iter(by_system.values())))
    chosen = dict.fromkeys(ids[:first], "one of the first by id")
    if {"cascade", "e2e"} <= by_system.keys():
        lead = {identity: _worth(by_system["e2e"][identity]) - _worth(by_system["cascade"][identity]) for identity in ids}
        if lead[best := max(ids, key=lead.get)] > 0:
            chosen.setdefault(best, "the end-to-end model is furthest ahead of the cascade, in facts right less facts made up")
        if lead[worst := min(ids, key=lead.get)] < 0:
            chosen.setdefault(worst, "the cascade is furthest ahead of the end-to-end model, in facts right less facts made up")
    parts = [_example(identity, why, {system: rows[identity] for system, rows in by_system.items()}) for identity, why in chosen.items()]
    legend = '<span class="asum-right">right</span>, <span class="asum-beside">true, but not in the reference</span>, <mark>made up</mark>'
    seeds = ", ".join(f"{_short(system)} {there[system].measured[0][1].cell['seed']}" for system in by_system)
    said = f"Facts in a summary: {legend}. In what was heard, <mark>wrong words</mark> and <del>missing words</del>. Training seed: {seeds}."
    return _html(f"<p>{said}</p>{''.join(parts)}")


def _worth(sample: dict) -> float:
    return sample["right"] - sample["made_up"]


def _example(identity: str, why: str, samples: dict[str, dict]) -> str:
    script, normalize = _scripts(CORPUS)[identity], normalizer(NORMALIZER)
    lines = [("said", html.escape(script.transcript), "")]
    if "cascade" in samples:
        lines.append(("heard by the cascade", _marked(normalize(script.transcript), normalize(samples["cascade"]["heard"])), ""))
    for name, summary in {"reference": script.summary, **{_short(system): sample["summary"] for system, sample in samples.items()}}.items():
        pieces, missed = summaries.marked(summary, script.facts, _lexicon())
        text = "".join(_MARKUP[mark].format(html.escape(piece)) for piece, mark in pieces)
        lines.append((name, text, html.escape(", ".join(f"{kind}: {value}" for kind, value in missed))))
    body = "".join(f'<tr><th>{html.escape(name)}</th><td class="text">{text}</td><td class="text">{missed}</td></tr>' for name, text, missed in lines)
    caption = f"{html.escape(identity)}: {why}."
    return (
        f'<div class="asum-scroll" tabindex="0"><table class="table"><caption>{caption}</caption>'
        f"<tr><th></th><th></th><th>missed</th></tr>{body}</table></div>"
    )


def findings(results: Path = RESULTS) -> object:
    """What the tables on errors say, in sentences made from the records."""
    items = [_wer_said(results)] if _lines(results) else []
    for metric, what in (("rouge1", "ROUGE-1 of a talk"), ("fact_recall", "facts stated in 100 summaries")):
        if cost := _costs(results).get(("all transcripts", metric)):
            (on, beside), _, _ = cost
            told = [f"{_interval(one)} ({'not told from 0' if one.tie else _judged(one) + ' 0'})" for one in (on, beside)]
            items.append(f"One more wrong word of a fact changes {what} by {told[0]}, one more wrong word elsewhere by {told[1]}.")
    return _list(items) if items else _nothing_yet()


def _values(interval: tuple[float, float, float]) -> str:
    value, lo, hi = interval
    return f"{value:.1f}<br><small>{lo:.1f} to {hi:.1f}</small>"


def _precise(one: Difference) -> str:
    return f"{one.value:+.2f} ({one.lo:+.2f} to {one.hi:+.2f})"
