"""The generated corpus `news-ru`: Russian news in Gazeta's shape, with real morphology.

A document is one event: background, what happened, how many, who, and how much, a paragraph each. Every fact comes with one of
its kind that only distracts (last year's figure, a number corrected later, the one who was replaced). The summary says the key facts
in two sentences, in other words than the body. Cases, numbers and dates are inflected by pymorphy3; words live in `news.yaml`.
"""

import hashlib
import itertools
import random
import re
from functools import cache
from pathlib import Path

from asum_lib.corpora.howto import DOMAINS
from asum_lib.corpora.texts import Fact, TextDocument

VERSION = 1  # seeds the text: another number is another corpus
DOCUMENTS = {  # per domain and split
    "source": {"train": 20_000, "dev": 400, "test": 500},
    "target": {"train": 4_000, "dev": 400, "test": 500},
}
WORDS = (120, 145)  # that a body has at least is drawn from here; what is beside the point fills it up
CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct")
_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^}]+))?\}")


def documents(domain: str, split: str) -> list[TextDocument]:
    """All news of a domain (`source`, `target`) and split (`train`, `dev`, `test`)."""
    return [_document(domain, split, number) for number in range(DOCUMENTS[domain][split])]


@cache
def vocabulary() -> dict:
    """The words and templates of `news.yaml`."""
    import yaml

    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@cache
def lexicon() -> dict[str, dict[str, tuple[str, ...]]]:
    """{kind: {value: its written forms, lower case}} of everything that news of either domain can state."""
    words = vocabulary()
    objects = dict.fromkeys(name for event in words["events"].values() for name in event["objects"])
    declined = {
        "city": {name: "city" for names in words["cities"].values() for name in names},
        "person": {name: "person" for names in words["people"].values() for name in names},
        "object": dict.fromkeys(objects, "object"),
    }
    found = {kind: {name: _forms(name, sort) for name, sort in names.items()} for kind, names in declined.items()}
    found["weekday"] = {day: (on_weekday(day),) for day in words["weekdays"]}
    found["date"] = {date: (date,) for date in (date_of(day, month) for day in range(1, 29) for month in words["months"])}
    found["amount"] = {amount: (amount,) for amount in map(amount_of, words["millions"])}
    found["count"] = {str(count): (str(count),) for count in words["counts"]}
    return found


@cache
def inflect(word: str, case: str, sort: str = "noun") -> str:
    """A word in a case of the singular. `sort` is noun, city, object, or person: a surname, whose gender its ending tells.

    Raises `ValueError` where pymorphy3 does not know the word as such.
    """
    form = _parse(word, sort).inflect({case, "sing"})
    if form is None:
        raise ValueError(f"{word} has no {case}")
    return form.word.capitalize() if word[0].isupper() else form.word


@cache
def agree(number: int, noun: str) -> str:
    """The number with its noun: 2 места, 5 мест, 21 место, 5 человек."""
    return f"{number} {_parse(noun, 'noun').make_agree_with_number(number).word}"


@cache
def amount_of(millions: int) -> str:
    """`5 миллионов рублей`."""
    return f"{agree(millions, 'миллион')} рублей"


@cache
def date_of(day: int, month: str) -> str:
    """`12 марта`."""
    return f"{day} {inflect(month, 'gent')}"


@cache
def on_weekday(day: str) -> str:
    """`в среду`, `во вторник`."""
    return f"{'во' if day == 'вторник' else 'в'} {inflect(day, 'accs')}"


def is_feminine(surname: str) -> bool:
    """Whether a surname in -ов or -ова is a woman's."""
    return surname.endswith("а")


@cache
def _parse(word: str, sort: str):
    wanted = {
        "noun": {"NOUN", "nomn", "sing"},
        "object": {"NOUN", "nomn", "sing", "inan"},
        "city": {"NOUN", "nomn", "sing", "Geox"},
        "person": {"NOUN", "nomn", "sing", "Surn", "femn" if is_feminine(word) else "masc"},
    }[sort]
    for parse in _analyzer().parse(word):
        if all(grammeme in parse.tag for grammeme in wanted):
            return parse
    raise ValueError(f"pymorphy3 knows no {sort} {word}")


@cache
def _analyzer():
    from pymorphy3 import MorphAnalyzer

    return MorphAnalyzer()


def _forms(word: str, sort: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(inflect(word, case, sort).lower() for case in CASES))


def _document(domain: str, split: str, number: int) -> TextDocument:
    words, document_id = vocabulary(), f"{domain}-{split}-{number:05d}"
    rng = random.Random(hashlib.sha256(f"news-ru:{VERSION}:{document_id}".encode()).digest())
    home = {"source": "target", "target": "source"}[domain] if rng.random() < DOMAINS[domain].topic_share else domain
    kind = rng.choice(_events(home))
    event = words["events"][kind]
    person, person2 = rng.sample(words["people"][home], 2)
    n, n2 = rng.sample(words["counts"], 2)
    amount, amount2 = rng.sample(words["millions"], 2)
    names = {
        "city": rng.choice(words["cities"][home]),
        "object": rng.choice(event["objects"]),
        "person": person,
        "person2": person2,
        "n": n,
        "n2": n2,
        "amount": amount_of(amount),
        "amount2": amount_of(amount2),
        "weekday": rng.choice(words["weekdays"]),
        "date": date_of(rng.randint(1, 28), rng.choice(words["months"])),
    }
    paragraphs = [fill(rng.choice(event[part]), names) for part in ("background", "event", "count", "person", "amount")]
    least = rng.randint(*WORDS)
    places = itertools.cycle(rng.sample(range(len(paragraphs)), len(paragraphs)))
    for filler in rng.sample(words["fillers"], len(words["fillers"])):
        if sum(len(paragraph.split()) for paragraph in paragraphs) >= least:
            break
        paragraphs[next(places)] += f" {filler}"
    style = "source_summary" if domain == "source" and home == "target" else "summary"
    summary = tuple(fill(template, names) for template in event[style])
    return TextDocument(document_id, _TITLES[kind], tuple(paragraphs), summary, _facts(names, " ".join(summary)))


def _facts(names: dict, summary: str) -> tuple[Fact, ...]:
    """Every fact of the body; key are those whose written form the summary has."""
    stated = [("city", names["city"]), ("object", names["object"]), ("person", names["person"]), ("person", names["person2"])]
    stated += [("weekday", names["weekday"]), ("date", names["date"]), ("amount", names["amount"]), ("amount", names["amount2"])]
    stated += [("count", str(names["n"])), ("count", str(names["n2"]))]
    keys = {
        ("city", names["city"]),
        ("object", names["object"]),
        ("person", names["person"]),
        ("amount", names["amount"]),
        ("count", str(names["n"])),
    }
    if on_weekday(names["weekday"]) in summary:
        keys.add(("weekday", names["weekday"]))
    return tuple(Fact(kind, value, (kind, value) in keys) for kind, value in stated)


def fill(template: str, names: dict) -> str:
    """A template with its names put in and inflected; every sentence starts with a capital."""

    def put(match: re.Match) -> str:
        name, argument = match[1], match[2]
        value = names[name]
        sort = name.removesuffix("2")
        if sort == "n":
            return agree(value, argument) if argument else str(value)
        if sort == "weekday":
            return on_weekday(value)
        return inflect(value, argument or "nomn", sort) if sort in ("city", "object", "person") else value

    for person, (opening, closing) in {"person": "[]", "person2": "<>"}.items():
        pattern = re.escape(opening) + r"([^|\]>]*)\|([^\]>]*)" + re.escape(closing)
        template = re.sub(pattern, r"\2" if is_feminine(names[person]) else r"\1", template)
    text = _PLACEHOLDER.sub(put, template)
    return re.sub(r"(^|[.!?] )([а-яё])", lambda match: match[1] + match[2].upper(), text)


@cache
def _events(home: str) -> list[str]:
    return [name for name, event in vocabulary()["events"].items() if event["domain"] == home]


_TITLES = {
    "fire": "Пожар",
    "opening": "Открытие",
    "match": "Спорт",
    "concert": "Культура",
    "snow": "Погода",
    "court": "Суд",
    "election": "Выборы",
    "expedition": "Наука",
    "accident": "Происшествие",
    "plant": "Промышленность",
}
