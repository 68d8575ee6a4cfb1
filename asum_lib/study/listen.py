"""The page "Listen to the errors": a few test utterances to hear, to see, and as each precision of each size wrote them.

All of it is there already: the audio is the corpus's own file, the picture shows what the models are given, the
hypotheses are the committed samples of the table. Without JavaScript everything is on the page, one below the other.
`book/_static/listen.js` adds the choice of utterance and size, the playhead, and the light on the spoken word.
"""

import base64
import hashlib
import html
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asum_lib import figures
from asum_lib.corpora import SAMPLE_RATE_HZ, Utterance
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records, render
from asum_lib.study.cells import PAPER_RATE, SIZES, make_cell
from asum_lib.study.word_times import SpokenWord, spoken_words

PRECISIONS = ("fp32", "bf16", "int8", "int4", "fp4")
SHOWN = (*((precision, "none", PAPER_RATE) for precision in PRECISIONS), ("int8", "adalora", PAPER_RATE), ("int8", "adalora", "1"))
CORPUS = "howto"
COUNT = 4  # utterances on the page
_STRETCHES = 440  # of the waveform: about one a pixel
_TICKS_HZ = (500, 1_000, 2_000, 4_000)


@dataclass(frozen=True)
class Line:
    """What one cell wrote for an utterance, and its word errors as they were scored."""

    name: str
    hypothesis: str
    substitutions: int
    insertions: int
    deletions: int
    record: str  # path from the folder that holds `results`
    trained: bool

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True)
class Example:
    """One utterance as every shown cell wrote it."""

    id: str
    reference: str
    lines: dict[str, list[Line]]  # by size

    @property
    def spread(self) -> int:
        """Word errors of the worst minus those of the best precision, nothing trained, summed over the sizes."""
        errors = [[line.errors for line in lines if not line.trained] for lines in self.lines.values()]
        return sum(max(of_size) - min(of_size) for of_size in errors if of_size)


@dataclass(frozen=True)
class Signal:
    """What is to be seen of an utterance, between 0 s and `duration_s`."""

    id: str
    duration_s: float
    times_s: np.ndarray  # (stretches,) the middle of each stretch of the waveform
    low: np.ndarray  # (stretches,) its lowest sample, full scale 1
    high: np.ndarray  # (stretches,) its highest
    log_mel: np.ndarray  # (mel bands, frames) as the models are given it, up to the end of the audio
    hop_s: float  # frame k is centred at k * hop_s
    band_of_hz: dict[int, int]  # the mel band whose filter peaks nearest to a frequency
    words: tuple[SpokenWord, ...]


def examples(count: int = COUNT, results: Path = RESULTS) -> list[Example]:
    """The `count` test utterances with the widest spread (`Example.spread`) that every shown cell with a record has written.

    Of each talk and of each sentence only the first is taken. Left out is an utterance on which the score's normaliser
    changes a count, as where it joins spoken digits into one number: its marked words would not be the counted errors.
    """
    lines, references, cells = {}, {}, 0
    for size in SIZES:
        for precision, method, rate in SHOWN:
            cell = make_cell(size, precision, method, rate=rate, corpus=CORPUS)
            path = cell.path(results)
            record = placing.of_cell(cell, results)
            if record is None or record.status != "ok":
                continue
            cells += 1
            name, shown_path = render.configuration_name(record.cell), os.path.relpath(path, Path(results).parent)
            for row in records.samples_of(record, path):
                if row["split"] == "test":
                    references[row["id"]] = row["reference"]
                    counts = (row[kind] for kind in ("substitutions", "insertions", "deletions"))
                    line = Line(name, row["hypothesis"], *counts, shown_path, method != "none")
                    lines.setdefault(row["id"], {}).setdefault(size, []).append(line)
    whole = [Example(key, references[key], found) for key, found in lines.items() if sum(map(len, found.values())) == cells]
    chosen: list[Example] = []
    for example in sorted(whole, key=lambda example: (-example.spread, example.id)):
        if len(chosen) == count:
            break
        met = any(_talk(example.id) == _talk(other.id) or example.reference == other.reference for other in chosen)
        if not met and _counted_as_marked(example):
            chosen.append(example)
    return chosen


def _talk(identity: str) -> str:
    return identity.rsplit("-", 1)[0]


def _counted_as_marked(example: Example) -> bool:
    """Whether the words as they are written give the counts of the score."""
    from asum_lib.measure import wer

    lines = [line for of_size in example.lines.values() for line in of_size]
    plain = wer.count_errors([example.reference] * len(lines), [line.hypothesis for line in lines], "none")
    scored = [(line.substitutions, line.insertions, line.deletions) for line in lines]
    return [(count.substitutions, count.insertions, count.deletions) for count in plain] == scored


def signals(identities: Sequence[str]) -> list[tuple[Utterance, Signal]]:
    """The utterances of the test set with these ids, each with what is to be seen of it."""
    from asum_lib.corpora import howto, load_corpus, read_audio
    from asum_lib.corpora.features import log_mel
    from asum_lib.models import ladder

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # of the import of transformers: nothing here shows progress
        extractor = ladder.extractor()
    corpus = load_corpus(CORPUS, "test")
    by_id = {utterance.id: utterance for utterance in corpus.utterances}
    takes = {take.id: take for take in howto.takes("target", "test")}
    few = replace(corpus, utterances=tuple(by_id[identity] for identity in identities))
    key = hashlib.sha256("\n".join([corpus.fingerprint, *identities]).encode()).hexdigest()
    features = log_mel(replace(few, name=f"{CORPUS}-heard", fingerprint=key), extractor)
    peaks_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(extractor.mel_filters))[extractor.mel_filters.argmax(axis=0)]
    found = []
    for utterance, window in zip(few.utterances, features.batch(range(len(features))), strict=True):  # each fits the ladder's window
        samples = read_audio(utterance.audio)
        stretches = np.array_split(samples, min(_STRETCHES, len(samples)))
        duration_s, hop_s = len(samples) / SAMPLE_RATE_HZ, extractor.hop_length / extractor.sampling_rate
        signal = Signal(
            id=utterance.id,
            duration_s=duration_s,
            times_s=(np.arange(len(stretches)) + 0.5) * duration_s / len(stretches),
            low=np.array([stretch.min() for stretch in stretches]),
            high=np.array([stretch.max() for stretch in stretches]),
            log_mel=window[:, : int(duration_s / hop_s) + 1],
            hop_s=hop_s,
            band_of_hz={hz: int(np.abs(peaks_hz - hz).argmin()) for hz in _TICKS_HZ},
            words=tuple(spoken_words(takes[utterance.id])),
        )
        found.append((utterance, signal))
    return found


def plot_signal(signal: Signal) -> str:
    """Waveform and log-mel over one axis of seconds, as HTML. The box says where in it the axes lie, in shares of its width and height."""
    figure, (wave, mel) = figures.subplots(rows=2, width_in=4.6, height_in=3.3)
    wave.fill_between(signal.times_s, signal.low, signal.high, color=figures.COLOURS[0], linewidth=0)
    wave.set(ylabel="amplitude", xticklabels=[])
    frames = signal.log_mel.shape[1]
    extent = (-0.5 * signal.hop_s, (frames - 0.5) * signal.hop_s, -0.5, len(signal.log_mel) - 0.5)
    mel.imshow(signal.log_mel, cmap="Greys", origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    mel.grid(False)
    mel.set(xlabel="time, s", ylabel="mel band at, kHz")
    mel.set_yticks(list(signal.band_of_hz.values()), [f"{hz / 1000:g}" for hz in signal.band_of_hz])
    for axis in (wave, mel):
        axis.set_xlim(0, signal.duration_s)
    spoken = wave.secondary_xaxis("top")
    spoken.set_xticks([word.start_s for word in signal.words], [word.text for word in signal.words], rotation=40, ha="left", rotation_mode="anchor")
    for label in spoken.get_xticklabels():
        label.set_parse_math(False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the axes stay where they are now
    above, below = wave.get_position(), mel.get_position()
    loudest = signal.times_s[int(np.argmax(signal.high - signal.low))]
    said = ", ".join(f"{word.text} {word.start_s:.2f}" for word in signal.words)
    text = (
        f"Waveform and log-mel of {signal.id} from 0 to {signal.duration_s:.2f} s, loudest at {loudest:.2f} s; "
        f"{len(signal.log_mel)} mel bands in {frames} frames of {1000 * signal.hop_s:g} ms. Words and their starts in seconds: {said}."
    )
    box = {"left": above.x0, "right": above.x1, "top": 1 - above.y1, "bottom": 1 - below.y0, "duration": signal.duration_s}
    where = " ".join(f'data-{name}="{value:.5f}"' for name, value in box.items())
    return f'<div class="asum-listen-picture" {where}>{figures.show(figure, text).data}</div>'


def player(count: int = COUNT, results: Path = RESULTS) -> object:
    """The whole player: `count` utterances with audio, picture, reference, and the hypotheses of every size."""
    from IPython.display import HTML

    chosen = examples(count, results)
    if not chosen:
        return render._nothing_yet()
    shown = signals([example.id for example in chosen])
    parts = [_section(example, *pair) for example, pair in zip(chosen, shown, strict=True)]
    sizes = list(chosen[0].lines)
    return HTML(f'<div class="asum-listen">{_choice(chosen, sizes)}{"".join(parts)}</div>')


def _choice(chosen: list[Example], sizes: list[str]) -> str:
    """The two selectors, hidden until the script that serves them is there."""
    of_utterances = "".join(f'<option value="{html.escape(example.id)}">{html.escape(example.reference)}</option>' for example in chosen)
    of_sizes = "".join(f'<option value="{size}">{size}</option>' for size in sizes)
    return (
        '<form class="asum-listen-choice" autocomplete="off" hidden>'
        f'<label>Utterance <select name="utterance">{of_utterances}</select></label>'
        f'<label>Size of Whisper <select name="size">{of_sizes}</select></label></form>'
    )


def _section(example: Example, utterance: Utterance, signal: Signal) -> str:
    """One utterance. The audio is the file that the models were given, bit for bit."""
    data = base64.b64encode(utterance.audio.read_bytes()).decode()
    name = html.escape(example.id)
    words = " ".join(f'<span data-start="{word.start_s:.3f}" data-end="{word.end_s:.3f}">{html.escape(word.text)}</span>' for word in signal.words)
    of_sizes = "".join(f'<div data-size="{size}"><h4>Whisper {size}</h4><dl>{_lines(example, size)}</dl></div>' for size in example.lines)
    return (
        f'<section data-utterance="{name}"><h3>{name}</h3>'
        f'<audio controls preload="metadata" aria-label="Utterance {name}" src="data:audio/flac;base64,{data}"></audio>'
        f"{plot_signal(signal)}"
        f'<p class="asum-listen-spoken"><strong>spoken</strong> {words}</p>'
        f"{of_sizes}<p><small>Spread between the precisions, summed over the sizes: {example.spread} words.</small></p></section>"
    )


def _lines(example: Example, size: str) -> str:
    return "".join(
        f"<dt>{html.escape(line.name)} <small>{render._link(line.record, _counts(line))}</small></dt>"
        f"<dd>{render._marked(example.reference, line.hypothesis)}</dd>"
        for line in example.lines[size]
    )


def _counts(line: Line) -> str:
    """`2 substituted, 1 deleted`"""
    counts = {"substituted": line.substitutions, "inserted": line.insertions, "deleted": line.deletions}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no error"
