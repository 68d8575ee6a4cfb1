"""How the question of video frames is shown: the frames, and what a summary states with and without them. HTML as in `render`."""

import textwrap
from pathlib import Path

from asum_lib import figures
from asum_lib.corpora import frames, howto, talks
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import talk_tables, text_tables
from asum_lib.study.render import _nothing_yet
from asum_lib.study.render_rates import _interval, _table
from asum_lib.study.render_talks import COLOURS, METRIC_NAMES, _judged, _list, _planned, _seeds, _talks, _value
from asum_lib.study.tables import Row
from asum_lib.study.talk_cells import IN_ROOMS, ROOMS, VIDEO
from asum_lib.study.talk_video import KINDS
from asum_lib.study.verdicts import ALPHA

SYSTEM_NAMES = {
    "cascade": "cascade, trained on quiet talks alone",
    "e2e": "without frames",
    "e2e-frames": "with the talk's frames",
    "e2e-other-frames": "with another talk's frames",
}
ARM_COLOURS = {"e2e": COLOURS["e2e"], "e2e-frames": "#009E73", "e2e-other-frames": "#CC79A7"}
MARKERS = {"e2e": "D", "e2e-frames": "o", "e2e-other-frames": "x"}
SHOWN = ("rouge1", "rouge2", "rougeL", "shown_recall", "unshown_recall", "made_up", "wer_pct")
PANELS = {"shown_recall": "task and tool: frames show them", "unshown_recall": "person, place, opinion"}
COMPARED = ("shown_recall", "unshown_recall", "rouge1", "rouge2", "rougeL")
DRAWN_TALKS = 2
LINE_LETTERS = 20  # below a frame


def room_name(corpus: str) -> str:
    """`own room, 12 to 30 dB`, `8 dB`."""
    if corpus in talks.ROOMS_DB:
        return f"{talks.ROOMS_DB[corpus][0]:g} dB"
    return "own room, {:g} to {:g} dB".format(*howto.DOMAINS[talks.CORPORA[corpus][1]].snr_db)


def drawn_frames() -> object:
    """The frames of the dev split's first talks of unlike topics, a talk a row; below each what is said while it is seen."""
    by_topic = {frames.topic_of(script): script for script in reversed(talks.scripts("howto-talks", "dev"))}
    scripts = sorted(by_topic.values(), key=lambda script: script.id)[:DRAWN_TALKS]
    columns = max(len(script.takes) for script in scripts)
    figure, axes = figures.subplots(columns=columns, rows=DRAWN_TALKS, width_in=1.4 * columns, height_in=1.95 * DRAWN_TALKS)
    said = []
    for row, script in enumerate(scripts):
        drawn = frames.draw(script)
        for column in range(columns):
            axis = axes[row * columns + column]
            axis.axis("off")
            if column < len(drawn):
                axis.imshow(drawn[column], interpolation="nearest")
                text = textwrap.fill(script.takes[column].text, LINE_LETTERS)
                axis.text(0.5, -0.06, text, transform=axis.transAxes, ha="center", va="top", fontsize=6)
        topic = frames.topic_of(script)
        shown = [", ".join(frames.shown(topic, take.text)) or "nothing" for take in script.takes]
        said.append(f"a talk on {topic}, whose frames show in turn: {'; '.join(shown)}")
    return figures.show(figure, f"Drawn frames of {DRAWN_TALKS} talks. " + ". ".join(said) + ".")


def main_table(results: Path = RESULTS) -> object:
    """Every system in every room: ROUGE, and the facts that frames show and those that they do not."""
    found = _planned(VIDEO, results)
    if not any(row.measured for row in found):
        return _nothing_yet()
    lines = []
    for corpus in ROOMS:
        for row in (row for row in found if row.cell["corpus"] == corpus):
            fields = [_value(row, metric, results) if row.measured or metric == SHOWN[0] else "" for metric in SHOWN]
            lines.append([room_name(corpus), SYSTEM_NAMES[row.cell["system"]], *fields, _talks(row, "rouge1"), _seeds(row)])
    titles = ["the talks", "system", *(METRIC_NAMES[metric] for metric in SHOWN), "talks", "seeds"]
    return _table(titles, _text(lines), "Scale mini. 95 % intervals over talks and seeds; each value leads to its first record.")


def kinds_table(results: Path = RESULTS) -> object:
    """The facts that a summary states, kind by kind."""
    found = [row for row in _planned(VIDEO, results) if row.cell["system"] in IN_ROOMS]
    if not any(row.measured for row in found):
        return _nothing_yet()
    lines = [
        [room_name(row.cell["corpus"]), SYSTEM_NAMES[row.cell["system"]], *(_value(row, f"{kind}_recall", results) for kind in KINDS), _seeds(row)]
        for corpus in ROOMS
        for row in found
        if row.cell["corpus"] == corpus
    ]
    titles = ["the talks", "system", *(METRIC_NAMES[f"{kind}_recall"] for kind in KINDS), "seeds"]
    return _table(titles, _text(lines), "Frames show task and tool. 95 % intervals over talks and seeds.")


def differences_table(results: Path = RESULTS) -> object:
    """With frames minus without, of the talk and of another: paired by talk, with one Holm correction over the table."""
    found, lines, measured = _planned(VIDEO, results), [], []
    for corpus in ROOMS:
        without = _row(found, "e2e", corpus)
        for system in IN_ROOMS[1:]:
            row = _row(found, system, corpus)
            line = [room_name(corpus), f"{SYSTEM_NAMES[system]} minus without"]
            for metric in COMPARED:
                if row.complete and without.complete:
                    measured.append(text_tables.difference(row, without, metric))
                    line.append(len(measured) - 1)
                else:
                    line.append(row.status if not row.complete else without.status)
            lines.append(line)
    if not measured:
        return _nothing_yet()
    p_holm = stats.holm([one.p for one in measured])
    shown = [f"{_interval(one)}{'' if p < ALPHA else ' ='}" for one, p in zip(measured, p_holm, strict=True)]
    lines = [[shown[field] if isinstance(field, int) else field for field in line] for line in lines]
    titles = ["the talks", "", *(METRIC_NAMES[metric] for metric in COMPARED)]
    caption = f"Points, with 95 % intervals over talks and seeds. = not told from 0 after Holm's correction over all {len(measured)} differences."
    return _table(titles, lines, caption)


def plot(results: Path = RESULTS) -> object:
    """What is stated of the facts that frames show, and of the others, from quiet to loud."""
    found = [row for row in _planned(VIDEO, results) if row.measured and row.cell["system"] in IN_ROOMS]
    if not found:
        return _nothing_yet()
    figure, axes = figures.subplots(columns=2, width_in=7, height_in=2.8, sharey=True)
    said = []
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
        for number, system in enumerate(IN_ROOMS):
            rows = [row for row in found if row.cell["system"] == system]
            values = [text_tables.interval(row, metric) for row in rows]
            places = [ROOMS.index(row.cell["corpus"]) + 0.07 * (number - 1) for row in rows]
            errors = [[value - lo for value, lo, _ in values], [hi - value for value, _, hi in values]]
            style = {"color": ARM_COLOURS[system], "marker": MARKERS[system], "capsize": 3, "label": SYSTEM_NAMES[system]}
            axis.errorbar(places, [value for value, _, _ in values], yerr=errors, **style)
            said += [
                f"{title.split(':')[0]}, {SYSTEM_NAMES[system]}, {room_name(row.cell['corpus'])}: {value:.1f} ({lo:.1f} to {hi:.1f})"
                for row, (value, lo, hi) in zip(rows, values, strict=True)
            ]
        axis.set_xticks(range(len(ROOMS)), [room_name(corpus).replace(", ", "\n") for corpus in ROOMS])
        axis.set(title=title, ylim=(0, 100))
    axes[0].set_ylabel("stated, %")
    axes[1].legend(fontsize=7, loc="lower left")
    return figures.show(figure, f"Facts of the reference that summaries state, in per cent. {'; '.join(said)}.")


def findings(results: Path = RESULTS) -> object:
    """What the table says, in sentences that its intervals choose."""
    found = _planned(VIDEO, results)
    items = []
    for system, told in (("e2e-frames", "With the talk's frames"), ("e2e-other-frames", "With another talk's frames")):
        for metric, facts in (("shown_recall", "tasks and tools"), ("unshown_recall", "persons, places and opinions")):
            parts = []
            for corpus in ROOMS:
                row, without = (_row(found, name, corpus) for name in (system, "e2e"))
                if row.measured and without.measured:
                    one = text_tables.difference(row, without, metric)
                    parts.append(f"{room_name(corpus)} {_interval(one)} percentage points, {_judged(one)}")
            if parts:
                items.append(f"{told} minus without, {facts} stated: {'; '.join(parts)}.")
    return _list(items) if items else _nothing_yet()


def _row(found: list[Row], system: str, corpus: str) -> Row:
    return talk_tables.find(found, system=system, corpus=corpus)


def _text(lines: list[list]) -> list[list[str]]:
    return [[str(field) for field in line] for line in lines]
