"""What an interval is taken over: single items, or voices and speakers whose items vary together.

Utterances of one voice are not independent: six voices say little about a seventh, however much they
say. So items are grouped by who speaks them wherever that is known and there are enough to compare;
a value's signature names the unit (`unit:voice`), so that unlike intervals are never compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asum_lib.corpora.speakers import speakers

FEWEST_CLUSTERS = 5  # with fewer voices or speakers, items are taken as independent, and a note says so
_REAL = ("digits",)  # people among the generated corpora, whose strings are joined from recordings


@dataclass(frozen=True)
class Units:
    """`name` is what varies; `clusters` names it for every item, None where each item is its own."""

    name: str  # voice, speaker, item
    clusters: tuple[str, ...] | None = None
    few: int | None = None  # so many speakers are known, too few to take as the unit

    def counted(self, items: int, item: str = "utterance") -> str:
        """`6 voices` or `500 utterances`: how many units the intervals of so many items are over."""
        number, name = (items, item) if self.clusters is None else (len(set(self.clusters)), self.name)
        return f"{number} {name}{'s' * (number != 1)}"

    @property
    def note(self) -> str | None:
        """What the interval cannot say, where speakers are too few to be its unit."""
        if self.few is None:
            return None
        known = "one speaker" if self.few == 1 else f"{self.few} speakers"
        return f"{known}: the interval is over utterances, and says nothing of other people"


def units(corpus: str, split: str, samples: Sequence[dict]) -> Units:
    """The units of these samples, in their order, by their `speaker` or by the corpus's own list.

    `split` is a sample's: `source` is the dev split of a corpus's source domain. An item whose speaker
    is not known is a unit of its own.
    """
    known = speakers(f"{corpus}-source", "dev") if split == "source" else speakers(corpus, split)
    named = [sample.get("speaker") or known.get(sample["id"]) for sample in samples]
    if not any(named):
        return Units("item")
    several = len(set(filter(None, named)))
    if several < FEWEST_CLUSTERS:
        return Units("item", few=several)
    alone = tuple(name or f"unknown: {sample['id']}" for name, sample in zip(named, samples, strict=True))
    return Units("voice" if known and corpus not in _REAL else "speaker", alone)


def unsigned(signature: str) -> str:
    """A signature without the unit of its interval, which no fingerprint holds."""
    return signature.partition("|unit:")[0]


def signed(signature: str, unit: Units) -> str:
    """A metric's signature with the unit of its interval."""
    return f"{signature}|unit:{unit.name}"
