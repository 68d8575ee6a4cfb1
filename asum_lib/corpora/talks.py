"""Talks: recordings of several sentences with a summary, what a speech summariser hears and is to write.

`howto-talks` are the documents of `howto` spoken in one go, with pauses between the sentences, in one room: no sentence is marked in the
audio. `howto-stress` is a controlled test of prosody: three steps are told, one of them higher, louder, slower and after a longer pause,
and the summary names that one, so that the words alone cannot tell which; `howto-flat` is the same talk without the stress. Each has a
source domain (`-source`) to train on and a target domain to test on, as `howto` has. `howto-talks-8db` and `howto-talks-5db` are the
talks of `howto-talks`, take for take, in noisier rooms. Text and audio are pure functions of (variant, domain, split, number). What a
real corpus looks like on disk is for `talk_files`.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from asum_lib.corpora import howto
from asum_lib.corpora.manifest import materialize
from asum_lib.corpora.speech import SAMPLE_RATE_HZ, add_room, synthesize
from asum_lib.corpora.texts import SPLITS, Fact
from asum_lib.errors import InputError, choose
from asum_lib.paths import cache

VERSION = 1  # of the texts, the takes and how they are joined: another number is another corpus
CORPORA = {  # name: (variant, domain)
    "howto-talks": ("plain", "target"),
    "howto-talks-source": ("plain", "source"),
    "howto-stress": ("stress", "target"),
    "howto-stress-source": ("stress", "source"),
    "howto-flat": ("flat", "target"),
    "howto-flat-source": ("flat", "source"),
    "howto-talks-8db": ("plain", "target"),
    "howto-talks-5db": ("plain", "target"),
    "howto-talks-rooms-source": ("plain", "source"),
}
# What the noise is: signal to noise in dB of the talks in turn, None for the room that a talk has anyway. On dev the mini cascade's word error
# rate of 11.6 % in their own rooms (12 to 30 dB) is 28.7 % at 8 dB and 49.3 % at 5 dB.
ROOMS_DB = {"howto-talks-8db": (8.0,), "howto-talks-5db": (5.0,), "howto-talks-rooms-source": (None, 8.0, 5.0)}
FIRST = {"howto-talks-rooms-source": 300}  # talks that a corpus is cut to
NAMES = tuple(CORPORA)
KINDS = {  # of facts that a summary states
    "plain": ("task", "person", "tool", "place", "sentiment"),
    "stress": ("task", "step"),
    "flat": ("task", "step"),
}
GIVEN = {"how2-summaries": "ASUM_HOW2_SUMMARIES"}  # name: the environment variable that names its manifest or folder
STRESS_DOCUMENTS = {  # per domain and split, of the two variants of the test of prosody
    "source": {"train": 2_000, "dev": 30, "test": 100},
    "target": {"train": 72, "dev": 30, "test": 200},
}
PAUSE_S = (0.7, 1.7)  # between two sentences
EDGE_S = (0.3, 0.8)  # before the first and after the last
STEPS = 3  # of a talk with a stressed one: naming any of them is right one time in three
OPENERS = ("first", "then", "after that")
STRESS = {"pitch": 30, "gain": 1.8, "rate": 0.85, "pause_s": 0.4}  # added to eSpeak NG's pitch (of 100), factors, seconds before it


@dataclass(frozen=True)
class Talk:
    """One recording and its summary. A real corpus may have features alone, an unknown transcript ("") and no facts."""

    id: str
    audio: Path | None
    features: Path | None  # where only features are given: their place, for `talk_files.read_features`
    duration_s: float
    transcript: str
    summary: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Talks:
    """A split of a corpus of talks. `fingerprint` is a hash of everything that a summariser or a metric sees of it."""

    name: str
    split: str
    language: str
    talks: tuple[Talk, ...]
    fingerprint: str

    @property
    def audio_s(self) -> float:
        return sum(talk.duration_s for talk in self.talks)


@dataclass(frozen=True)
class Script:
    """What is said in a talk and how: one take a sentence; the summary and facts are those of `Talk`."""

    id: str
    takes: tuple[howto.Take, ...]
    gains: tuple[float, ...]  # loudness of each sentence
    pauses_s: tuple[float, ...]  # before each sentence, and after the last
    snr_db: float
    echo: float
    seed: int  # of the room
    summary: str
    facts: tuple[Fact, ...]

    @property
    def transcript(self) -> str:
        return transcript(take.text for take in self.takes)


@lru_cache(maxsize=8)
def load_talks(name: str, split: str, progress: Callable[[str], None] = lambda line: None) -> Talks:
    """A split (`train`, `dev`, `test`) of a corpus by its name, or of a manifest or folder by its path.

    Generated audio is made on first use and cached. A corpus that is not there raises `InputError` with how to get it.
    """
    choose("split", split, SPLITS)
    if name in GIVEN or (name not in NAMES and ("/" in name or "." in name)):
        from asum_lib.corpora.talk_files import load_file

        if name not in GIVEN:
            return load_file(name, split, progress=progress)
        if where := os.environ.get(GIVEN[name]):
            return load_file(where, split, name, progress=progress)
        raise InputError(f"{name} is not on this machine: its authors give it out by a request form; then set {GIVEN[name]} to its folder")
    choose("corpus of talks", name, (*NAMES, *GIVEN))
    written = scripts(name, split)
    digest = fingerprint(name, split)
    spoken = ((script.id, script.transcript, speak(script)) for script in written)
    made = materialize(cache() / "corpora" / f"{name}-{split}-{digest[:12]}", name, split, digest, spoken, progress)
    talks = (
        Talk(script.id, utterance.audio, None, utterance.duration_s, script.transcript, script.summary, script.facts)
        for script, utterance in zip(written, made.utterances, strict=True)
    )
    return Talks(name, split, "en", tuple(talks), digest)


@lru_cache(maxsize=16)
def scripts(name: str, split: str) -> list[Script]:
    """Every talk of a split as it is to be spoken; makes no audio."""
    variant, domain = CORPORA[name]
    if variant == "plain":
        found = [_plain(document) for document in howto.documents(domain, split)[: FIRST.get(name)]]
        return [_in_room(script, room_db) for script, room_db in zip(found, itertools.cycle(ROOMS_DB.get(name, (None,))), strict=False)]
    return [_with_steps(variant, domain, split, number) for number in range(STRESS_DOCUMENTS[domain][split])]


@lru_cache(maxsize=16)
def fingerprint(name: str, split: str) -> str:
    """SHA-256 of the recipe of a split: words, takes, room. Independent of the machine."""
    lines = [json.dumps([VERSION, howto.AUDIO_VERSION, asdict(script)]) for script in scripts(name, split)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def speak(script: Script) -> np.ndarray:
    """The audio of a talk: 16 kHz float32, shape (n,)."""
    parts = []
    for take, gain, pause_s in zip(script.takes, script.gains, script.pauses_s, strict=False):
        parts.append(np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32))
        parts.append(gain * synthesize(take.text, take.voice, take.rate_wpm, take.pitch))
    parts.append(np.zeros(round(script.pauses_s[-1] * SAMPLE_RATE_HZ), np.float32))
    return add_room(np.concatenate(parts).astype(np.float32), np.random.default_rng(script.seed), script.snr_db, script.echo)


def transcript(sentences) -> str:
    """Spoken sentences, or what was heard of them, as one text to read: each ends with a stop and its line, which is white space to a model."""
    return "\n".join(f"{sentence.strip().rstrip('.')}." for sentence in sentences if sentence.strip())


def lexicon(name: str = "howto-talks") -> dict[str, dict[str, tuple[str, ...]]]:
    """{kind: {value: its written forms}} of every fact that a summary of a generated corpus can state; steps where summaries name one."""
    words = howto.vocabulary()
    topics = words["topics"].values()
    values = {
        "task": [task for topic in topics for task in topic["tasks"]],
        "person": [name for names in words["people"].values() for name in names],
        "tool": [tool for topic in topics for tool in topic["tools"]],
        "place": [place for places in words["places"].values() for place in places],
        "step": [step for topic in topics for step in topic["steps"]],
    }
    forms = {kind: {value: (value,) for value in found} for kind, found in values.items()}
    forms["sentiment"] = {sentiment: (said,) for sentiment, said in words["verdicts"].items()}
    variant, _ = CORPORA[choose("corpus of talks", name, CORPORA)]
    return {kind: forms[kind] for kind in KINDS[variant]}


def _plain(document: howto.Document) -> Script:
    rng = _rng("plain", document.id)
    takes = _takes(document.id, document.domain, document.sentences, rng)
    pauses_s = [*rng.uniform(*EDGE_S, 1), *rng.uniform(*PAUSE_S, len(takes) - 1), *rng.uniform(*EDGE_S, 1)]
    slots = document.slots
    facts = [Fact("task", slots["task"], True)]
    facts += [Fact("person", slots["person"], True)] if "person" in slots else []
    facts += [Fact("tool", tool, number == 0) for number, tool in enumerate(slots["tools"])]
    facts += [Fact("place", slots["place"], True)] if "place" in slots else []
    facts += [Fact("sentiment", slots["sentiment"], True)] if "sentiment" in slots else []
    return _script(document.id, document.domain, takes, (1.0,) * len(takes), pauses_s, rng, document.summary, tuple(facts))


def _in_room(script: Script, snr_db: float | None) -> Script:
    return script if snr_db is None else replace(script, snr_db=snr_db)


def _with_steps(variant: str, domain: str, split: str, number: int) -> Script:
    """Both variants are drawn alike, so that they tell the same and differ in nothing but how one step is said."""
    rng = _rng("steps", domain, split, number)
    words = howto.vocabulary()
    topics = [topic for topic in words["topics"].values() if topic["domain"] == _home(domain, rng)]
    topic = topics[rng.integers(len(topics))]
    task = str(rng.choice(topic["tasks"]))
    steps = [str(step) for step in rng.permutation(topic["steps"])[:STEPS]]
    named = int(rng.integers(STEPS))
    closing = str(rng.choice(words["templates"]["closing"]["neutral"]))
    sentences = [f"let me show you how to {task}", *(f"{opener} {step}" for opener, step in zip(OPENERS, steps, strict=True)), closing]
    takes = list(_takes(f"{domain}-{split}-{number:04d}", domain, sentences, rng))
    pauses_s = [*rng.uniform(*EDGE_S, 1), *rng.uniform(*PAUSE_S, len(takes) - 1), *rng.uniform(*EDGE_S, 1)]
    gains, at = [1.0] * len(takes), 1 + named
    if variant == "stress":
        take = takes[at]
        takes[at] = howto.Take(**asdict(take) | {"pitch": take.pitch + STRESS["pitch"], "rate_wpm": round(take.rate_wpm * STRESS["rate"])})
        gains[at] = STRESS["gain"]
        pauses_s[at] += STRESS["pause_s"]
    facts = (Fact("task", task, True), *(Fact("step", step, step == steps[named]) for step in steps))
    summary = f"the speaker explains how to {task}. above all {steps[named]}."
    return _script(f"{domain}-{split}-{number:04d}", domain, tuple(takes), tuple(gains), pauses_s, rng, summary, facts)


def _home(domain: str, rng: np.random.Generator) -> str:
    """The domain whose topic a talk has: now and then the other one, as in `howto`."""
    other = {"source": "target", "target": "source"}[domain]
    return other if rng.random() < howto.DOMAINS[domain].topic_share else domain


def _takes(identity: str, domain: str, sentences, rng: np.random.Generator) -> tuple[howto.Take, ...]:
    """One speaker a talk; the room is the talk's own, so a take has none."""
    of = howto.DOMAINS[domain]
    voice = str(rng.choice(of.voices))
    return tuple(
        howto.Take(f"{identity}-{position}", text, voice, int(rng.integers(*of.rate_wpm)), int(rng.integers(40, 61)), 0.0, 0.0, 0)
        for position, text in enumerate(sentences)
    )


def _script(identity, domain, takes, gains, pauses_s, rng, summary, facts) -> Script:
    of = howto.DOMAINS[domain]
    pauses_s = tuple(round(float(pause_s), 3) for pause_s in pauses_s)
    snr_db, echo, seed = round(float(rng.uniform(*of.snr_db)), 2), round(float(rng.uniform(*of.echo)), 3), int(rng.integers(2**32))
    return Script(identity, takes, gains, pauses_s, snr_db, echo, seed, summary, facts)


def _rng(*key) -> np.random.Generator:
    digest = hashlib.sha256(":".join(map(str, ("talks", VERSION, *key))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
