"""Which test utterances stand word for word in what the models were pre-trained on."""

from functools import cache

from asum_lib.corpora import DOMAIN_OF, spoken_texts

SOURCE = "howto-source"


@cache
def seen_utterances(corpus: str, split: str) -> frozenset[str] | None:
    """Ids of the utterances that somebody says in the source's training split; None of other corpora."""
    if corpus not in DOMAIN_OF:
        return None
    known = set(spoken_texts(SOURCE, "train").values())
    return frozenset(name for name, text in spoken_texts(corpus, split).items() if text in known)
