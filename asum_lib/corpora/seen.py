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


@cache
def seen_summaries(corpus: str) -> tuple[int, int]:
    """(test summaries of a corpus of talks that stand whole in its training splits, all of them)."""
    from asum_lib.corpora import talks

    known = {script.summary for name in (corpus, f"{corpus}-source") for script in talks.scripts(name, "train")}
    test = talks.scripts(corpus, "test")
    return sum(script.summary in known for script in test), len(test)
