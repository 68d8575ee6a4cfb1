"""Who speaks each recording of a generated corpus: recordings of one voice vary together.

A manifest of real recordings names its speakers itself (`speaker_id`, see `manifest`).
"""

from functools import cache

from asum_lib.corpora import DOMAIN_OF


@cache
def speakers(corpus: str, split: str) -> dict[str, str]:
    """{id: voice or speaker} of a split of a corpus of the study; empty where nobody is named."""
    if corpus in DOMAIN_OF:
        from asum_lib.corpora import howto

        return {take.id: take.voice for take in howto.takes(DOMAIN_OF[corpus], split)}
    if corpus == "digits":
        from asum_lib.corpora import digits

        return {string.id: string.takes[0].split("_")[1] for string in digits.strings(split)}
    from asum_lib.corpora import talks

    if corpus in talks.NAMES:
        return {script.id: script.takes[0].voice for script in talks.scripts(corpus, split)}
    return {}
