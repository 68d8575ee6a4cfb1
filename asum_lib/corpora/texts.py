"""Text corpora for summarisation: documents with their summaries, and the facts that both state.

`howto-text` (English, WikiHow's shape) and `news-ru` (Russian, Gazeta's shape) are generated, each with a source domain to
pre-train on and a target domain to adapt to. The generator knows the facts of a document, so that a summary can be held
against them: ROUGE cannot tell a wrong name from a right one. What a real corpus looks like on disk is for its own module.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from asum_lib.errors import InputError, choose

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Fact:
    """Something that a document states: `value` is the dictionary form of a kind such as `person` or `tool`."""

    kind: str
    value: str
    key: bool  # True where the reference summary states it too


@dataclass(frozen=True)
class TextDocument:
    """One document: `paragraphs` to read, `summary` to write, a sentence each. Real corpora have no facts."""

    id: str
    title: str
    paragraphs: tuple[str, ...]
    summary: tuple[str, ...]
    facts: tuple[Fact, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(self.paragraphs)

    @property
    def reference(self) -> str:
        return " ".join(self.summary)


@dataclass(frozen=True)
class TextCorpus:
    """A split of a corpus. `fingerprint` is a hash of everything that a summariser or a metric sees of it."""

    name: str
    split: str
    language: str  # en or ru
    documents: tuple[TextDocument, ...]
    fingerprint: str


DOMAIN_OF = {  # corpus name: (generator, domain)
    "howto-text": ("articles", "target"),
    "howto-text-source": ("articles", "source"),
    "news-ru": ("news", "target"),
    "news-ru-source": ("news", "source"),
}
LANGUAGE_OF = {"articles": "en", "news": "ru"}
NAMES = tuple(DOMAIN_OF)
# Real corpora: language, and the environment variable that names the file or folder. The paper's first; then spoken ones, by their transcripts.
GIVEN = {"wikihow": ("en", "ASUM_WIKIHOW"), "gazeta-v1": ("ru", "ASUM_GAZETA_V1"), "gazeta-v2": ("ru", "ASUM_GAZETA_V2")}
GIVEN |= {"ami": ("en", "ASUM_AMI"), "how2-text": ("en", "ASUM_HOW2_SUMMARIES")}
FETCHED = ("gazeta-v1", "gazeta-v2")  # `asum fetch` brings these too: the test split under the corpus's name, the rest under NAME-train
DOCUMENTS = {  # of the published splits: WikiHow's as TensorFlow Datasets reads them, Gazeta's by its card
    "wikihow": {"train": 157_252, "dev": 5_599, "test": 5_577},
    "gazeta-v1": {"train": 52_400, "dev": 5_265, "test": 5_770},
    "gazeta-v2": {"train": 60_964, "dev": 6_369, "test": 6_793},
}


@lru_cache(maxsize=8)
def load_texts(name: str, split: str, language: str | None = None) -> TextCorpus:
    """A split (`train`, `dev`, `test`) of a corpus by its name, or of a file or folder by its path, whose `language` is to be said.

    Generated corpora (`NAMES`) are made in a few seconds, the same on every machine. Where the others lie, an environment variable says,
    or they were fetched.
    """
    choose("split", split, SPLITS)
    if name in GIVEN:
        from asum_lib.corpora.text_files import load_file

        return load_file(_folder(name, split), split, name, GIVEN[name][0])
    if name not in NAMES and ("/" in name or "." in name):
        from asum_lib.corpora.text_files import load_file

        if language is None:
            raise InputError(f"corpus {name!r}: say its language ({' or '.join(sorted(set(LANGUAGE_OF.values())))}), a file does not tell")
        return load_file(name, split, name, language)
    choose("text corpus", name, (*NAMES, *GIVEN))
    generator, domain = DOMAIN_OF[name]
    documents = tuple(_generator(generator).documents(domain, split))
    return TextCorpus(name, split, LANGUAGE_OF[generator], documents, fingerprint(documents))


def lexicon(name: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """{kind: {value: its written forms, lower case}} of every value that any document of the generator can state.

    A form is one or more words; in Russian all cases that occur. With it a summary's facts are found, made-up ones included.
    """
    choose("text corpus", name, NAMES)
    return _generator(DOMAIN_OF[name][0]).lexicon()


def fingerprint(documents) -> str:
    """SHA-256 over all documents."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(asdict(document), ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def head(corpus: TextCorpus, count: int | None) -> TextCorpus:
    """The first `count` documents of a split; all of them where `count` is None. Raises `InputError` where there are fewer."""
    if count is None or count == len(corpus.documents):
        return corpus
    if not 0 < count <= len(corpus.documents):
        raise InputError(f"{count} documents of {corpus.name} {corpus.split}: it has {len(corpus.documents)}")
    documents = corpus.documents[:count]
    return TextCorpus(corpus.name, corpus.split, corpus.language, documents, fingerprint(documents))


def not_whole(corpus: TextCorpus) -> str | None:
    """What is wrong with the number of documents of one of the paper's corpora; None where it is the published one, or none is known."""
    published = DOCUMENTS.get(corpus.name, {}).get(corpus.split)
    if published in (None, len(corpus.documents)):
        return None
    return f"{corpus.name} {corpus.split} has {len(corpus.documents):,} documents here, {published:,} published"


def dataset_revision(name: str, split: str = "test") -> str | None:
    """The commit of the Hub's repository that the corpus is read from; None for what has none, is given as a folder, or is not there."""
    from asum_lib import hub

    if name not in FETCHED or os.environ.get(GIVEN[name][1]):
        return None
    try:
        return hub.revision(_folder(name, split))
    except InputError:
        return None


def _folder(name: str, split: str) -> str | Path:
    """Where a real corpus lies; raises `InputError` that says how to get it."""
    variable = GIVEN[name][1]
    if given := os.environ.get(variable):
        return given
    if name not in FETCHED:
        raise InputError(f"corpus {name} is not on this machine: get it from its authors, and set {variable} to its folder")
    from asum_lib import hub

    try:
        return hub.snapshot(name if split == "test" else f"{name}-train")
    except InputError as error:
        raise InputError(f"corpus {name} {split}: {error}, or set {variable} to its folder") from None


def _generator(name: str):
    from importlib import import_module

    return import_module(f"asum_lib.corpora.{name}")
