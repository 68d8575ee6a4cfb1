"""What cells of the table `video` need beside those of the other talk tables: models trained in three rooms, frames, and facts by kind.

Both arms start from the two shipped adapters and one bridge that has learnt to hear on these talks, and learn from the same talks for as
many steps. Frames of another talk are those of the next one, given to the model that learnt with frames.
How a cell's record is made is for `talk_run`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache

from asum_lib.corpora import talks
from asum_lib.corpora.texts import Fact
from asum_lib.measure import summaries
from asum_lib.paths import CHECKPOINTS

SHOWN = ("task", "tool")  # kinds of facts that a frame can show
KINDS = talks.KINDS["plain"]


def recipe(sees: bool) -> dict:
    """What resolves a cell beside the end-to-end model's own recipe, as its record keeps it."""
    from asum_lib.corpora import frames
    from asum_lib.training.seeing import ROOMS

    found = asdict(ROOMS) | {"frames": frames.VERSION}
    return found if sees else {name: value for name, value in found.items() if name not in ("looking", "frames")}


def train_fingerprints() -> dict[str, str]:
    """Of the talks that both arms learn from."""
    from asum_lib.training.seeing import ROOMS

    return {name: talks.fingerprint(name, "train") for name in dict.fromkeys((ROOMS.source, *ROOMS.target, *dict(ROOMS.looking.drawings)))}


@cache
def adapters() -> dict[str, str]:
    """{name: SHA-256 of its weights} of the two shipped adapters."""
    from asum_lib.models import adapted
    from asum_lib.training import systems

    return {name: adapted.file_sha256(CHECKPOINTS / "adapters" / name / adapted.WEIGHTS) for name in systems.SHIPPED}


def shipped(once) -> tuple:
    """(Whisper, text model) of the shipped cascade, for the mini scale."""
    from asum_lib.models import adapted
    from asum_lib.training import systems

    def make():
        hearer, reader = systems.SHIPPED
        folder = CHECKPOINTS / "adapters"
        return (
            adapted.speech(str(folder / hearer), systems.HEARER.precision, "mini"),
            adapted.summarizer(str(folder / reader), systems.SUMMARIZER.precision, "en", "mini"),
        )

    return once(("shipped",), make)


def trained(seed: int, sees: bool, once, progress) -> tuple[object, list[dict]]:
    """(`Ear` of an arm, its trainings' rows); `once` keeps what both arms need."""
    from asum_lib.models import adapted
    from asum_lib.training import seeing

    def make():
        begin = once(("in rooms",), lambda: seeing.in_rooms(progress=progress))
        ear, rows = seeing.together(begin, sees, seed, progress=progress)
        adapted.prune(ear.model)
        return ear, rows

    return once(("arm", seed, sees), make)


def written(system: str, ear, corpus: talks.Talks, once, progress) -> list[str]:
    """One summary a talk; the encoder hears the same in all arms of all seeds."""
    from asum_lib.models.speech_summary import write
    from asum_lib.models.summarize import Decoding
    from asum_lib.training import seeing

    of = once(("heard and seen", corpus.name, corpus.split), lambda: seeing.heard_and_seen(ear, corpus, progress))
    shown = {"e2e": None, "e2e-frames": of.frames, "e2e-other-frames": [*of.frames[1:], of.frames[0]]}[system]
    return write(ear.model, ear.text, of.states, Decoding(), frames=shown)


def by_kind(facts: Sequence[Fact], summary: str) -> dict[str, int]:
    """{KIND_right, KIND_wanted} of the reference's facts in a summary, for each kind, and for those that frames show and do not show."""
    lexicon, counts = talks.lexicon(), {}
    for kind in KINDS:
        found = summaries.slot_counts(summary, [fact for fact in facts if fact.kind == kind], {kind: lexicon[kind]})
        counts |= {f"{kind}_right": found.right, f"{kind}_wanted": found.right + found.missed}
    for name, kinds in (("shown", SHOWN), ("unshown", [kind for kind in KINDS if kind not in SHOWN])):
        counts |= {f"{name}_{what}": sum(counts[f"{kind}_{what}"] for kind in kinds) for what in ("right", "wanted")}
    return counts
