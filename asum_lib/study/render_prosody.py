"""How the controlled test of prosody is shown: how a step is stressed, to hear and to see, and who names it. HTML as in `render`."""

import base64
import html
import io
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.measure import stats
from asum_lib.paths import RESULTS
from asum_lib.study import talk_tables, text_tables
from asum_lib.study.render import _nothing_yet
from asum_lib.study.render_paper import _html
from asum_lib.study.render_rates import _interval, _table
from asum_lib.study.render_talks import COLOURS, MARKERS, METRIC_NAMES, _judged, _list, _planned, _seeds, _talks, _value
from asum_lib.study.talk_cells import PROSODY

CHANCE_PCT = 100 / talks.STEPS
CORPUS_NAMES = {"howto-stress": "with stress", "howto-flat": "without stress"}
SYSTEM_NAMES = {"reference": "reads what was said", "cascade": "cascade", "e2e": "end-to-end"}


def main_table(results: Path = RESULTS) -> object:
    """How often each system names the stressed step, with the stress and without, against chance."""
    found = _planned(PROSODY, results)
    lines = []
    for row in found:
        cell = row.cell
        fields = [_value(row, "step_right", results)]
        if row.measured:
            of, over = text_tables.values(row, "step_right")[1:]
            one = stats.contrast([(1, of), (-1, np.full((1, len(over)), CHANCE_PCT / 100))], over, text_tables.clusters(row))
            fields.append(f"{_interval(one)}{' =' if one.tie else ''}")
        else:
            fields.append("")
        fields += [_value(row, metric, results) if row.measured else "" for metric in ("rouge1", "wer_pct")]
        lines.append([SYSTEM_NAMES[cell["system"]], CORPUS_NAMES[cell["corpus"]], *fields, _talks(row, "step_right"), _seeds(row)])
    if not any(row.measured for row in found):
        return _nothing_yet()
    titles = ["system", "the talks", METRIC_NAMES["step_right"], f"minus chance ({CHANCE_PCT:.1f})"]
    titles += [METRIC_NAMES["rouge1"], METRIC_NAMES["wer_pct"], "talks", "seeds"]
    caption = "95 % intervals over talks and seeds. = the interval holds 0; the claim's own comparisons, Holm-corrected, stand below."
    return _table(titles, lines, caption)


def plot(results: Path = RESULTS) -> object:
    """Who names the stressed step: a point a system with its interval, and chance as a line."""
    found = [row for row in _planned(PROSODY, results) if row.measured]
    if not found:
        return _nothing_yet()
    figure, axes = figures.subplots(columns=len(CORPUS_NAMES), width_in=7, height_in=2.2, sharey=True)
    said = []
    for axis, (corpus, title) in zip(axes, CORPUS_NAMES.items(), strict=True):
        axis.axvline(CHANCE_PCT, color=figures.GREY, linestyle="--", linewidth=1.2)
        for row in found:
            if row.cell["corpus"] != corpus:
                continue
            system = row.cell["system"]
            value, lo, hi = text_tables.interval(row, "step_right")
            place = list(SYSTEM_NAMES).index(system)
            axis.errorbar([value], [place], xerr=[[value - lo], [hi - value]], capsize=3, color=COLOURS[system], marker=MARKERS[system], markersize=7)
            said.append(f"{title}, {SYSTEM_NAMES[system]} {value:.1f} ({lo:.1f} to {hi:.1f})")
        axis.set_yticks(range(len(SYSTEM_NAMES)), SYSTEM_NAMES.values())
        axis.set(title=title, xlabel="names the stressed step, %", xlim=(0, 100))
        axis.set_ylim(len(SYSTEM_NAMES) - 0.5, -0.5)
    return figures.show(figure, f"Summaries that name the stressed step in per cent; chance is {CHANCE_PCT:.1f}. " + "; ".join(said) + ".")


def findings(results: Path = RESULTS) -> object:
    """What the test says, in sentences that its intervals choose."""
    found = _planned(PROSODY, results)
    items = []
    for corpus, told in (("howto-stress", "With the stress"), ("howto-flat", "Without it")):
        said = []
        for system, name in SYSTEM_NAMES.items():
            row = talk_tables.find(found, system=system, corpus=corpus)
            if not row.measured:
                said.append(f"{name} is not measured")
                continue
            value, lo, hi = text_tables.interval(row, "step_right")
            where = "above" if lo > CHANCE_PCT else "below" if hi < CHANCE_PCT else "not told from"
            said.append(f"{name} {value:.1f} % ({lo:.1f} to {hi:.1f}), {where} chance")
        items.append(f"{told}, the stressed step is named by: {'; '.join(said)}.")
    a, b = (talk_tables.find(found, system=system, corpus="howto-stress") for system in ("e2e", "cascade"))
    if a.measured and b.measured:
        one = text_tables.difference(a, b, "step_right")
        items.append(f"End-to-end minus cascade, with the stress: {_interval(one)} percentage points, {_judged(one)}.")
    return _list(items) if any(row.measured for row in found) else _nothing_yet()


def stress_note() -> object:
    """How a step is stressed, from the generator's own numbers."""
    of = talks.STRESS
    return _html(
        f"<p>The stressed step is said {of['pitch']} of eSpeak NG's 100 steps of pitch higher, {of['gain']:g} times as loud, at "
        f"{100 * of['rate']:.0f} % of the speaker's rate and after {of['pause_s']:g} s more of pause. Of {talks.STEPS} steps one is stressed, "
        f"so a guess is right {CHANCE_PCT:.1f} times in a hundred.</p>"
    )


def stress_player() -> object:
    """The first test talk with and without the stress: to hear, and as waveforms with the stressed step in colour."""
    scripts = {corpus: talks.scripts(corpus, "test")[0] for corpus in CORPUS_NAMES}
    step = next(fact.value for fact in scripts["howto-stress"].facts if fact.kind == "step" and fact.key)
    figure, axes = figures.subplots(rows=2, width_in=6.5, height_in=3.2)
    heard, reach_s, spans = [], 0.0, []
    for axis, (corpus, script) in zip(axes, scripts.items(), strict=True):
        samples = talks.speak(script)
        start_s, end_s = _span_s(script, step)
        stretches = np.array_split(samples, 320)
        times_s = (np.arange(len(stretches)) + 0.5) * len(samples) / talks.SAMPLE_RATE_HZ / len(stretches)
        low, high = (np.array([pick(stretch) for stretch in stretches]) for pick in (np.min, np.max))
        inside = (times_s >= start_s) & (times_s <= end_s)
        axis.fill_between(times_s, low, high, color=figures.GREY, linewidth=0)
        axis.fill_between(times_s, low, high, where=inside, color=COLOURS["e2e"], linewidth=0)
        axis.set(title=CORPUS_NAMES[corpus], ylabel="amplitude")
        reach_s = max(reach_s, len(samples) / talks.SAMPLE_RATE_HZ)
        spans.append(f"{CORPUS_NAMES[corpus]} from {start_s:.1f} to {end_s:.1f} s")
        data = base64.b64encode(_mp3(samples)).decode()
        heard.append(
            f'<p>{CORPUS_NAMES[corpus]}: <audio controls preload="metadata" aria-label="The talk {CORPUS_NAMES[corpus]}" '
            f'src="data:audio/mpeg;base64,{data}"></audio></p>'
        )
    for axis in axes:
        axis.set_xlim(0, reach_s)
    axes[-1].set_xlabel("time, s")
    shown = figures.show(figure, f"Waveforms of one talk; the step {step!r} is said {', '.join(spans)}.").data
    script = scripts["howto-stress"]
    said = html.escape(script.transcript).replace(html.escape(step), f"<strong>{html.escape(step)}</strong>")
    return _html(f"<p>{said}</p>{''.join(heard)}{shown}<p>Its summary: <em>{html.escape(script.summary)}</em></p>")


def _span_s(script: talks.Script, text: str) -> tuple[float, float]:
    """When the sentence with `text` is said, in seconds, as `talks.speak` joins the sentences."""
    from asum_lib.corpora.speech import synthesize

    at_s = 0.0
    for take, pause_s in zip(script.takes, script.pauses_s, strict=False):
        start_s = at_s + pause_s
        at_s = start_s + len(synthesize(take.text, take.voice, take.rate_wpm, take.pitch)) / talks.SAMPLE_RATE_HZ
        if text in take.text:
            return start_s, at_s
    raise InputError(f"the talk {script.id} does not say {text!r}")


def _mp3(samples: np.ndarray) -> bytes:
    """A lossy file of some 30 kbit/s, to keep the page small; the systems are given the samples without loss."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, talks.SAMPLE_RATE_HZ, format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
    return buffer.getvalue()
