"""The generated corpus `howto-text`: written English how-to articles in WikiHow's shape, made of the words of `howto`.

An article has an introduction and a paragraph a step; its summary is a headline a step, as WikiHow's summaries are. A headline
names the step in other words than the paragraph and copies the paragraph's key fact, which a cue tells from a fact of the same
kind that only distracts. The target domain has other topics, people and places, and turns its headlines round.
"""

import hashlib
import random
from functools import cache
from pathlib import Path

from asum_lib.corpora.howto import DOMAINS, vocabulary
from asum_lib.corpora.texts import Fact, TextDocument

VERSION = 1  # seeds the text: another number is another corpus
DOCUMENTS = {  # per domain and split
    "source": {"train": 20_000, "dev": 400, "test": 500},
    "target": {"train": 4_000, "dev": 400, "test": 500},
}
STEPS = (4, 5)
FILLED_SHARE = 0.45  # of the paragraphs that end in something beside the point
WORDS = (120, 250)  # of an article, at least and at most
KINDS = ("duration", "tool", "parts", "person", "place")


def documents(domain: str, split: str) -> list[TextDocument]:
    """All articles of a domain (`source`, `target`) and split (`train`, `dev`, `test`)."""
    return [_document(domain, split, number) for number in range(DOCUMENTS[domain][split])]


@cache
def templates() -> dict:
    """The sentence templates of `articles.yaml`."""
    import yaml

    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@cache
def lexicon() -> dict[str, dict[str, tuple[str, ...]]]:
    """{kind: {value: its written forms, lower case}} of everything that an article of either domain can state."""
    words = vocabulary()
    topics = words["topics"].values()
    forms = {
        "person": [name for names in words["people"].values() for name in names],
        "place": [name for names in words["places"].values() for name in names],
        "tool": [tool for topic in topics for tool in topic["tools"]],
        "parts": [f"{count} {parts}" for topic in topics for parts in topic["parts"] for count in words["counts"]],
        "duration": [f"{count} {unit}" for unit in templates()["units"] for count in words["counts"]],
        "task": [task for topic in topics for task in topic["tasks"]],
    }
    return {kind: {value: (value,) for value in values} for kind, values in forms.items()}


def _document(domain: str, split: str, number: int) -> TextDocument:
    """Drawn anew, with the same key and the number of the try, until it has a length within bounds."""
    for attempt in range(100):
        document = _draft(domain, f"{domain}-{split}-{number:05d}", attempt)
        if WORDS[0] <= len(document.text.split()) <= WORDS[1]:
            return document
    raise RuntimeError(f"no article {domain} {split} {number} of {WORDS[0]} to {WORDS[1]} words in 100 tries")


def _draft(domain: str, document_id: str, attempt: int) -> TextDocument:
    words, articles = vocabulary(), templates()
    rng = random.Random(hashlib.sha256(f"howto-text:{VERSION}:{document_id}:{attempt}".encode()).digest())
    home = domain
    if rng.random() < DOMAINS[domain].topic_share:
        home = {"source": "target", "target": "source"}[domain]
    topic = rng.choice(_topics(home))
    entry = words["topics"][topic]
    task = rng.choice(entry["tasks"])
    people, places = list(words["people"][home]), list(words["places"][home])
    person, person2 = rng.sample(people, 2)
    place = rng.choice(places)
    intro = rng.choice(articles["intro"]).format(task=task, person2=_name(person2), place=_named(place), Person=_name(person), person=_name(person))
    facts = {("task", task): False, ("person", person): False, ("person", person2): False, ("place", place): False}
    paragraphs, summary, used = [intro], [], set()
    steps = rng.sample(entry["steps"], rng.choice(STEPS))
    for position, step in enumerate(steps):
        names, key, beside = _fill(rng.choice(KINDS), rng, words, entry, people, places, used)
        kind = key[0]
        sentences = [rng.choice(articles["openers" if position else "first"]).format(step=step), rng.choice(articles["cues"][kind]).format(**names)]
        if rng.random() < FILLED_SHARE:
            sentences.append(rng.choice(articles["fillers"]))
        paragraphs.append(" ".join(sentences))
        do = articles["do"][step]
        summary.append(articles["headlines"][domain][kind].format(do=do, Do=do[0].upper() + do[1:], **names))
        facts[key] = True
        facts.setdefault(beside, False)
        used |= {key, beside}
    found = tuple(Fact(kind, value, key) for (kind, value), key in facts.items())
    return TextDocument(document_id, f"How to {task}", tuple(paragraphs), tuple(summary), found)


def _fill(kind: str, rng: random.Random, words: dict, entry: dict, people: list, places: list, used: set) -> tuple[dict, tuple, tuple]:
    """(names for the templates, the key fact, the fact that distracts), neither of them among those that steps before have used.

    Where too few are left of a kind, it is a duration.
    """
    if kind in ("duration", "parts"):
        unit = rng.choice(templates()["units"] if kind == "duration" else entry["parts"])
        free = [count for count in words["counts"] if (kind, f"{count} {unit}") not in used]
        n, n2 = rng.sample(free, 2)
        return {"n": n, "n2": n2, "unit": unit, "parts": unit}, (kind, f"{n} {unit}"), (kind, f"{n2} {unit}")
    choices = {"tool": entry["tools"], "person": people, "place": places}[kind]
    free = [choice for choice in choices if (kind, choice) not in used]
    if len(free) < 2:
        return _fill("duration", rng, words, entry, people, places, used)
    chosen, other = rng.sample(free, 2)
    show = {"tool": str, "person": _name, "place": _named}[kind]
    return {kind: show(chosen), f"{kind}2": show(other)}, (kind, chosen), (kind, other)


@cache
def _topics(home: str) -> list[str]:
    return [name for name, entry in vocabulary()["topics"].items() if entry["domain"] == home]


def _name(person: str) -> str:
    return person.capitalize()


def _named(place: str) -> str:
    return place if place.startswith("the ") else place.capitalize()
