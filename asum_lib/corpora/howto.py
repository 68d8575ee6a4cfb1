"""The generated corpus `howto`: spoken English how-to instruction, the mini counterpart of How2.

A document is a title, 4 to 8 spoken sentences, the facts they were made from (slots), and an abstractive summary.
Text and audio are pure functions of (domain, split, document number): the same call gives the same bytes.
Words live in `howto.yaml`; `asum_lib.corpora.load_corpus` makes and caches the audio.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from asum_lib.corpora.speech import add_room, synthesize

VERSION = 1  # seeds the text and the takes: another number is another corpus
AUDIO_VERSION = 2  # raise it when the same take sounds different: every record made on the corpus becomes stale


@dataclass(frozen=True)
class Domain:
    """Who speaks, where. Ranges are (low, high), drawn uniformly for each utterance."""

    voices: tuple[str, ...]
    snr_db: tuple[float, float]
    echo: tuple[float, float]
    rate_wpm: tuple[int, int]
    topic_share: float  # share of documents on the other domain's topics and names


@dataclass(frozen=True)
class Document:
    """One how-to talk. `sentences` are spoken one utterance each, lower case, numbers spelled out."""

    id: str
    domain: str
    split: str
    topic: str
    title: str
    sentences: tuple[str, ...]
    summary: str
    slots: dict = field(default_factory=dict)  # task, tools, parts, quantities, person, places, dates, code, sentiment


@dataclass(frozen=True)
class Take:
    """How one sentence is spoken and recorded."""

    id: str
    text: str
    voice: str
    rate_wpm: int
    pitch: int
    snr_db: float
    echo: float
    seed: int


_SOURCE_VOICES = ("en-us", "en-us+f1", "en-us+f2", "en-us+f3", "en-us+f4", "en-us+f5", "en-us+m1", "en-us+m2", "en-us+m3")
_SOURCE_VOICES += ("en-us+m4", "en-us+m5", "en-us+m6", "en-gb-x-rp", "en-gb-x-rp+f2", "en-gb-x-rp+m3", "en-gb-x-rp+f4")
_TARGET_VOICES = ("en-gb-scotland+f3", "en-gb-scotland+m7", "en-gb-x-gbclan+f5", "en-gb-x-gbcwmd+m1", "en-gb-x-gbclan+m2", "en-us-nyc+m4")

DOMAINS = {
    "source": Domain(_SOURCE_VOICES, snr_db=(15, 40), echo=(0.0, 0.1), rate_wpm=(170, 200), topic_share=0.12),
    "target": Domain(_TARGET_VOICES, snr_db=(12, 30), echo=(0.05, 0.2), rate_wpm=(165, 200), topic_share=0.0),
}
DOCUMENTS = {  # per domain and split; a document has six sentences on average
    "source": {"train": 2_000, "dev": 30, "test": 100},
    "target": {"train": 72, "dev": 25, "test": 100},
}


@cache
def vocabulary() -> dict:
    """The word lists and sentence templates of `howto.yaml`."""
    import yaml

    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def documents(domain: str, split: str) -> list[Document]:
    """All documents of a domain (`source`, `target`) and split (`train`, `dev`, `test`)."""
    return [_document(domain, split, number) for number in range(DOCUMENTS[domain][split])]


def takes(domain: str, split: str) -> list[Take]:
    """One take a sentence, in document order. Every take is one utterance of the corpus."""
    room, result = DOMAINS[domain], []
    for document in documents(domain, split):
        rng = _rng("take", document.id)
        voice = str(rng.choice(room.voices))  # one speaker a document
        for position, text in enumerate(document.sentences):
            result.append(
                Take(
                    id=f"{document.id}-{position}",
                    text=text,
                    voice=voice,
                    rate_wpm=int(rng.integers(*room.rate_wpm)),
                    pitch=int(rng.integers(40, 61)),
                    snr_db=round(float(rng.uniform(*room.snr_db)), 2),
                    echo=round(float(rng.uniform(*room.echo)), 3),
                    seed=int(rng.integers(2**32)),
                )
            )
    return result


def speak(take: Take) -> np.ndarray:
    """The audio of a take: 16 kHz float32, shape (n,)."""
    clean = synthesize(take.text, take.voice, take.rate_wpm, take.pitch)
    return add_room(clean, np.random.default_rng(take.seed), take.snr_db, take.echo)


def fingerprint(domain: str, split: str) -> str:
    """SHA-256 of the recipe of a split: every take's text, voice and acoustics. Independent of the machine."""
    lines = [json.dumps([VERSION, AUDIO_VERSION, *asdict(take).values()]) for take in takes(domain, split)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _rng(*key) -> np.random.Generator:
    """A generator seeded by the key's text, so that documents do not depend on each other."""
    digest = hashlib.sha256(":".join(map(str, ("howto", VERSION, *key))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _document(domain: str, split: str, number: int) -> Document:
    words, document_id = vocabulary(), f"{domain}-{split}-{number:04d}"
    rng = _rng(document_id)

    def pick(options):
        return options[rng.integers(len(options))]

    other = {"source": "target", "target": "source"}[domain]
    home = other if rng.random() < DOMAINS[domain].topic_share else domain
    topic = pick([name for name, entry in words["topics"].items() if entry["domain"] == home])
    entry, templates = words["topics"][topic], words["templates"]
    tools = [str(tool) for tool in rng.permutation(entry["tools"])[:2]]
    counts = [str(count) for count in rng.permutation(words["counts"])[:3]]
    places = words["places"]["source"] + words["places"]["target"] * (home == "target")
    slots = {
        "task": pick(entry["tasks"]),
        "tools": tools,
        "parts": pick(entry["parts"]),
        "quantities": counts[:2],
        "person": pick(words["people"][home]),
        "place": pick(places),
        "weekday": pick(words["weekdays"]),
        "month": pick(words["months"]),
        "code": " ".join(pick(words["digits"]) for _ in range(rng.integers(3, 8))),
        "sentiment": pick(list(words["verdicts"])),
    }
    names = {key: slots[key] for key in ("task", "parts", "person", "place", "weekday", "month", "code")}
    names |= {"tool1": tools[0], "tool2": tools[1], "n": counts[0]}

    sentences = [pick(templates["intro"]), pick(templates["tools"])]
    steps = [str(step) for step in rng.permutation(entry["steps"])[: rng.integers(2, 4)]]
    sentences += [pick(templates["step_openers"]).format(step=step) for step in steps]
    optional = {"wait": 0.4, "code": 0.35, "place": 0.4}
    for kind, share in optional.items():
        if rng.random() < share:
            sentence = pick(templates[kind])
            sentences.append(sentence.format(**names | {"n": counts[1]}) if kind == "wait" else sentence)
    sentences.append(pick(templates["closing"][slots["sentiment"]]))
    spoken = tuple(sentence.format(**names) for sentence in sentences[:8])
    stated = {key: _stated(value, spoken) for key, value in slots.items()} | {"task": slots["task"]}
    units = (slots["parts"], "minutes", "hours")  # a number may also be a digit of the code, or belong to a step
    stated["quantities"] = [count for count in slots["quantities"] if any(_stated(f"{count} {unit}", spoken) for unit in units)]
    stated["sentiment"] = slots["sentiment"] if spoken[-1] == sentences[-1] else None  # a ninth sentence is cut: the verdict is not said
    stated = {key: value for key, value in stated.items() if value}
    return Document(document_id, domain, split, topic, f"how to {slots['task']}", spoken, _summary(stated, words["verdicts"]), stated)


def _stated(value, sentences):
    """The slot's value if the talk says it (of a list, the part that it says), else nothing."""
    if isinstance(value, list):
        return [part for part in value if _stated(part, sentences)]
    return value if any(f" {value} " in f" {sentence} " for sentence in sentences) else None


def _summary(slots: dict, verdicts: dict) -> str:
    """One or two sentences in the third person, from the facts that the talk states."""
    person = slots.get("person", "the speaker")
    first = f"{person} explains how to {slots['task']} with {slots['tools'][0]}"
    where = f" in {slots['place']}" if "place" in slots else ""
    second = f" {person} {verdicts[slots['sentiment']]}." if "sentiment" in slots else ""
    return f"{first}{where}.{second}"
