"""From a recording to a summary: the system of the paper's title, as a thing to use.

    from asum_lib.systems import load

    system = load()
    answer = system("talk.wav")
    print(answer.summary)

`cascade` hears with a Whisper and summarises what it heard with a text model. `e2e` writes the summary from the sound. Recordings
of any length are read phrase by phrase (`corpora.phrases`), a batch of phrases at a time, so that memory depends on the batch and
not on the recording. What a model cannot well have heard is marked and left out of the summary (`listening`). The models that scale
`mini` takes are shipped, adapters included; at scale `paper` any Whisper and any T5, BART or mBART will do.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from asum_lib import listening
from asum_lib.corpora import talks
from asum_lib.corpora.phrases import Phrase, phrases
from asum_lib.errors import InputError, choose
from asum_lib.listening import Segment
from asum_lib.paths import CHECKPOINTS, readable

SCALES = ("mini", "paper")
SYSTEMS = ("cascade", "e2e")
STAGES = ("load", "read", "transcribe", "summarize")
ADAPTERS = CHECKPOINTS / "adapters"
ASR = {"mini": str(ADAPTERS / "whisper-medium-int8-adalora"), "paper": "openai/whisper-small"}
SUMMARIZER = {"mini": str(ADAPTERS / "t5-talks-adalora"), "paper": "facebook/bart-large-cnn"}
END_TO_END = ADAPTERS / "e2e-talks"
BATCH = {"mini": 32, "paper": 4}  # phrases heard at once: what a recording of any length takes in memory beside the models

MINI_NOTE = "scale mini: these models know the words of the generated talks alone; --scale paper takes real ones"
T5_READS_TOKENS = 512  # that it was trained on; its positions are relative and set no limit
PAPER_NEW_TOKENS = 142  # the most that bart-large-cnn was published to write; with its 4 beams and no repeated 3-gram


@dataclass(frozen=True)
class Told:
    """What a system writes of one recording; `notes` are lines for people on how far it can be trusted."""

    summary: str
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    notes: tuple[str, ...] = ()
    usable: bool = True  # whether there is something to make a summary of


@dataclass(frozen=True)
class Answer:
    """What a system makes of one recording. `summary` is empty where nothing was heard; `segments` too where the system writes none."""

    audio: str
    system: str
    summary: str
    segments: tuple[Segment, ...]
    audio_s: float
    time_s: dict[str, float]  # by stage, `STAGES`; load is paid once a system
    memory_bytes: int | None  # peak resident set of the process so far, models and libraries included; None where no kernel tells
    notes: tuple[str, ...] = ()  # what a person should know: channels that cancel each other out, phrases left out, ...
    scale: str = "mini"
    language: str | None = None  # in which it was heard and summarised

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Care:
    """What is known of the models of a cascade, so that what people bring is not believed blindly."""

    bounds: object  # `recognize.Bounds` of the Whisper
    language: str | None  # None: to be told from each recording
    words: frozenset[str] | None  # that the text model was taught, where they are few; None where nobody can list them


@dataclass
class Clock:
    """Seconds by stage; a stage within another is not counted twice."""

    time_s: dict[str, float] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def stage(self, name: str):
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.time_s[name] = self.time_s.get(name, 0.0) + now - self._since
        self._since = now


@dataclass(frozen=True)
class System:
    """A loaded system. `write(batches, clock)` reads phrases batch by batch and says what it made of them.

    `notes` are lines for people that hold for every recording.
    """

    name: str
    window_s: float  # the longest phrase that it hears at once
    fill: bool  # whether neighbouring phrases share a window
    batch_size: int
    write: Callable[[Iterator[list[Phrase]], Clock], Told]
    load_s: float = 0.0
    scale: str = "mini"
    notes: tuple[str, ...] = ()

    def __call__(self, audio: str | Path, progress: Callable[[float], None] = lambda seconds: None) -> Answer:
        """The answer for one audio file. `progress` is told how many seconds of it are done. Raises `audio.AudioError`."""
        clock, read_s, notes = Clock({"load": self.load_s}), 0.0, []

        def read(seconds: float) -> None:
            nonlocal read_s
            read_s = seconds

        def batches() -> Iterator[list[Phrase]]:
            pieces = phrases(Path(audio), self.window_s, self.fill, read, notes.append)
            while True:
                with clock.stage("read"):
                    batch = [piece for _, piece in zip(range(self.batch_size), pieces, strict=False)]
                if not batch:
                    return
                yield batch
                progress(batch[-1].end_s)

        told = self.write(batches(), clock)
        time_s = {stage: round(clock.time_s.get(stage, 0.0), 3) for stage in STAGES}
        measured = (round(read_s, 3), time_s, peak_bytes())
        said = (*self.notes, *notes, *(f"{readable(audio)}: {note}" for note in told.notes))
        return Answer(readable(audio), self.name, told.summary, told.segments, *measured, said, self.scale, told.language)


def load(
    system: str = "cascade",
    scale: str = "mini",
    precision: str = "int8",
    asr: str | None = None,
    summarizer: str | None = None,
    language: str | None = None,
    rounds: int = 1,
    batch_size: int | None = None,
) -> System:
    """A system, ready to be called with audio files; models are loaded and quantised here, once.

    `asr` is a size (`small`), the folder of a checkpoint or of an adapter, or the name of a fetched Hub repository; `summarizer` likewise,
    with `t5` and `mbart` for the shipped ones. Both are loaded in `precision`. `language` is a code such as `ru`; without it a multilingual
    Whisper tells each recording's from its beginning. A transcript that is longer than the text model reads is summarised in parts, and
    with `rounds` above 1 their summaries again. Raises `InputError`, also for a language that one of the models does not know.
    """
    choose("system", system, SYSTEMS)
    choose("scale", scale, SCALES)
    clock = Clock()
    with clock.stage("load"):
        build = {"cascade": _cascade, "e2e": _end_to_end}[system]
        loaded = build(scale, precision, asr, summarizer, language, rounds, batch_size or BATCH[scale])
    return replace(loaded, load_s=clock.time_s["load"])


def cascade_of(speech, writer, decoding, batch_size: int, scale: str = "mini", rounds: int = 1, care: Care | None = None) -> System:
    """The cascade of a loaded Whisper (`models.loading.Speech`) and a loaded text model (`models.summarize.Summarizer`).

    Without `care` it hears as the study's tables do: greedily, and believes everything.
    """
    from asum_lib.models.long_text import summarize_long

    join = talks.transcript if scale == "mini" else " ".join  # a mini Whisper writes sentences without a stop

    def write(batches: Iterator[list[Phrase]], clock: Clock) -> Told:
        heard = _heard(speech, batches, clock, batch_size) if care is None else _heard_with_care(speech, batches, clock, batch_size, care)
        loaded, notes = (writer, heard.notes) if care is None else _reader(writer, heard, care)
        believed = [segment.text for segment in heard.segments if segment.doubt is None]
        if loaded is None or not believed:
            return replace(heard, notes=notes)
        with clock.stage("summarize"):
            summary = summarize_long(loaded, [join(believed)], decoding, rounds)[0].text
        return replace(heard, summary=summary, notes=notes)

    return System("cascade", _window_s(speech.extractor), scale == "paper", batch_size, write, scale=scale)


def _heard(speech, batches: Iterator[list[Phrase]], clock: Clock, batch_size: int) -> Told:
    from asum_lib.models.transcribe import transcribe

    segments: list[Segment] = []
    for batch in batches:
        with clock.stage("transcribe"):
            samples, rate_hz = [piece.samples for piece in batch], speech.extractor.sampling_rate
            features = speech.extractor(samples, sampling_rate=rate_hz, return_tensors="np").input_features
            texts = transcribe(speech.model, speech.tokenizer, features, batch_size)
        segments += [Segment(round(p.start_s, 3), round(p.end_s, 3), text) for p, text in zip(batch, texts, strict=True) if text]
    return Told("", tuple(segments))


def _heard_with_care(speech, batches: Iterator[list[Phrase]], clock: Clock, batch_size: int, care: Care) -> Told:
    segments: list[Segment] = []
    language, notes = care.language, ()
    for batch in batches:
        with clock.stage("transcribe"):
            if language is None:
                language, said = listening.tell_language(speech, batch)
                speech, notes = listening.told(speech, language), (said,)
            segments += listening.listen(speech, batch, batch_size, care.bounds)
    judged = listening.judge(segments, care.bounds)
    return Told("", judged.segments, language, notes + judged.notes, judged.usable)


def _reader(writer, heard: Told, care: Care) -> tuple[object | None, tuple[str, ...]]:
    """(the text model, told the language, or None where it can make nothing of what was heard; all notes)."""
    from asum_lib.models import summarize

    if not heard.usable:
        return None, heard.notes
    try:
        loaded = summarize.told(writer, heard.language)
    except InputError as error:  # the language was told from the recording
        return None, (*heard.notes, f"no summary is made: {error}")
    texts = [segment.text for segment in heard.segments if segment.doubt is None]
    untaught = listening.unknown_text(texts, care.words) if care.words else None
    strange = untaught or summarize.unspelled(loaded, texts)
    if strange:
        return None, (*heard.notes, strange)
    unsure = summarize.languages(loaded) is None and heard.language != "en"
    doubt = (f"nothing says whether the text model knows the language {heard.language}: its summary may mean nothing",) if unsure else ()
    partly = listening.partly_unknown_text(texts, care.words) if care.words else None
    return loaded, heard.notes + doubt + ((partly,) if partly else ())


def end_to_end_of(ear, decoding, batch_size: int, scale: str = "mini", least_sure: float | None = None) -> System:
    """The end-to-end system of a loaded model (`models.speech_summary.Ear`).

    A talk of more phrases than it reads at once is summarised in parts. One whose sounds are heard with a mean log-probability below
    `least_sure` gets no summary.
    """
    from asum_lib.models.speech_summary import hear_phrases, parts_of, sureness, write

    def write_summary(batches: Iterator[list[Phrase]], clock: Clock) -> Told:
        sure: list[float] = []

        def heard() -> Iterator:
            for batch in batches:
                with clock.stage("transcribe"):
                    states = hear_phrases(ear, [piece.samples for piece in batch])
                if least_sure is not None:
                    sure.extend(sureness(ear.model_as_trained, states.float()))
                yield states

        with clock.stage("summarize"):  # the stages within it are not counted twice
            written = [write(ear.model, ear.text, [part], decoding)[0] for part in parts_of(ear, heard(), decoding.max_source_tokens)]
        if least_sure is not None and not sure:
            return Told("", (), ear.text.language)
        if least_sure is not None and sum(sure) / len(sure) < least_sure:
            return Told("", (), ear.text.language, (f"it does {listening.UNLIKE_NOTE}",))
        return Told(" ".join(written), (), ear.text.language)

    return System("e2e", _window_s(ear.extractor), scale == "paper", batch_size, write_summary, scale=scale)


def _window_s(extractor) -> float:
    return extractor.n_samples / extractor.sampling_rate


def _cascade(scale: str, precision: str, asr: str | None, summarizer: str | None, language: str | None, rounds: int, batch_size: int) -> System:
    from asum_lib.models import adapted, recognize, summarize
    from asum_lib.models.summarize import Decoding

    hears, reads = _asr(scale, asr), _summarizer(scale, summarizer)
    speech = adapted.speech(hears, precision, scale, language)
    one_language = None if speech.generate else "en"
    language = language or one_language
    writer = adapted.summarizer(reads, precision, language or "en", scale)
    if language is not None:
        writer = summarize.told(writer, language)
    most = getattr(writer.model.config, "max_position_embeddings", T5_READS_TOKENS)
    usual = Decoding(batch_size=4, beams=4, max_source_tokens=most, max_new_tokens=PAPER_NEW_TOKENS, no_repeat_ngram=3)
    decoding = Decoding(batch_size=8) if scale == "mini" else usual
    # a mini Whisper writes no other words than those that a mini text model knows: there the sound is asked, not the text
    words = listening.taught_words() if summarize.is_mini(writer) and not recognize.is_mini(speech) else None
    system = cascade_of(speech, writer, decoding, batch_size, scale, rounds, Care(recognize.bounds_of(speech), language, words))
    unchecked = [line for line in map(adapted.unchecked, (hears, reads)) if line]
    return replace(system, notes=(*([MINI_NOTE] if scale == "mini" else []), *unchecked))


def _end_to_end(scale: str, precision: str, asr: str | None, summarizer: str | None, language: str | None, rounds: int, batch_size: int) -> System:
    """One folder says what it hears and reads with, so nothing else can be chosen."""
    from asum_lib.models import speech_summary
    from asum_lib.models.summarize import Decoding

    if scale != "mini":
        raise InputError(f"system 'e2e' at scale {scale!r}: no end-to-end model is trained at it, choose scale mini or system cascade")
    if asr is not None or summarizer is not None:
        raise InputError("system 'e2e' with --asr or --summarizer: it hears and reads with what it was trained with, leave them out")
    if rounds != 1:
        raise InputError(f"system 'e2e' with {rounds} rounds: it reads sound and not its own summaries, leave --rounds out")
    if language not in (None, "en"):
        raise InputError(f"system 'e2e' in language {language!r}: it was trained on English alone, leave --language out")
    ear = speech_summary.load(END_TO_END, precision, scale)
    system = end_to_end_of(ear, Decoding(batch_size=8), batch_size, scale, speech_summary.LEAST_SURE)
    return replace(system, notes=(MINI_NOTE,))


def _asr(scale: str, given: str | None) -> str:
    from asum_lib.models import ladder, real

    if given is None:
        return ASR[scale]
    if scale == "mini" and given in ladder.SIZES:
        return str(ladder.checkpoint(given))
    if scale == "paper" and given in real.ARCHITECTURES:
        return real.repository(given)
    return given


def _summarizer(scale: str, given: str | None) -> str:
    from asum_lib.models import text_ladder

    if given is None:
        return SUMMARIZER[scale]
    return str(text_ladder.checkpoint(given)) if scale == "mini" and given in text_ladder.RUNGS else given


def peak_bytes() -> int | None:
    """The highest resident set of this process so far."""
    from asum_lib.measure.peak import status

    try:
        return status()["VmHWM"]
    except (InputError, OSError, KeyError):
        return None
