"""A cell of the tables on speech summarisation: a system, what it hears with, and the talks it is tried on. As `cells` is for speech.

- `e2e`: systems on `howto-talks`: the upper bound that reads what was really said, what needs no model, the cascade by size and
  precision of its Whisper, the end-to-end model; and `ladder`, which hears nothing itself: the text model reads what a Whisper of the
  WER table has written of the same sentences, so that error rates from 5 to 50 % are read by one reader.
- `prosody`: the controlled test on `howto-stress` and, without the stress, `howto-flat`.
- `e2e_cost`: cascade and end-to-end model in one process, in turn: time, weights, memory.
- `video`: the end-to-end model with frames of the talk, with those of another talk, and without, on the same talks in three rooms; all of
  them trained on talks in such rooms. One cascade, trained on quiet talks alone, shows how hard each room is.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from asum_lib.corpora.talks import CORPORA, ROOMS_DB
from asum_lib.errors import InputError, choose
from asum_lib.study.cells import SIZES

E2E, PROSODY, COST, VIDEO = "e2e", "prosody", "e2e_cost", "video"
TABLES = (E2E, PROSODY, COST, VIDEO)
UNTRAINED = ("chance", "lead3", "textrank", "oracle")  # take a summary of another talk, or sentences of what was really said
SYSTEMS = (*UNTRAINED, "reference", "ladder", "cascade", "e2e")
IN_ROOMS = ("e2e", "e2e-frames", "e2e-other-frames")  # of the table `video`: without frames, with the talk's own, with those of the next talk
ROOMS = ("howto-talks", "howto-talks-8db", "howto-talks-5db")  # quiet to loud
TRAINED_IN_ROOMS = "howto-talks-rooms"  # the target's few talks in each of the rooms, and the source's each in one of them
SEEDS = (0, 1, 2)
SIZE = "medium"  # of the Whisper that both systems hear with where one size is enough: the paper's best for its memory
# Precision and method of the cascade's Whisper. It has to be adapted to phrases as recordings are cut into them (see `training.systems`);
# its adapter is trained at int8, and put on weights of other precisions to hear with.
HEARERS = (("fp32", "adalora"), ("int8", "adalora"), ("int4", "adalora"), ("fp4", "adalora"))
# Of the WER table: AdaLoRA at the full rate, full fine-tuning at the paper's.
LADDER = (("fp32", "none"), ("int8", "none"), ("int4", "none"), ("fp4", "none"), ("int8", "adalora"), ("fp32", "full"))


@dataclass(frozen=True)
class TalkCell:
    table: str
    scale: str
    system: str
    asr: str | None  # size of the Whisper that hears; None where the words are given
    precision: str | None
    method: str | None  # how that Whisper was adapted
    corpus: str
    trained_on: str | None  # corpus of talks that the summariser learnt from, its source domain included; None where nothing is trained
    split: str
    seed: int

    @property
    def name(self) -> str:
        """File name without suffix, e.g. `cascade-medium-int8-adalora-s0`; the corpus is named where a table has several."""
        parts = [self.system, self.asr, self.precision, self.method, None if self.table == E2E else self.corpus]
        return "-".join([*filter(None, parts), f"s{self.seed}"])

    def path(self, results: Path) -> Path:
        """`results/<scale>/<table>/<name>.json`."""
        return Path(results) / self.scale / self.table / f"{self.name}.json"

    def as_dict(self) -> dict:
        return asdict(self)


IDENTITY = tuple(field.name for field in fields(TalkCell) if field.name not in ("table", "scale", "seed"))


def make_talk_cell(
    system: str,
    asr: str = SIZE,
    precision: str = "int8",
    method: str = "adalora",
    *,
    table: str = E2E,
    corpus: str = "howto-talks",
    seed: int = 0,
    split: str = "test",
) -> TalkCell:
    """Validate and resolve one cell of scale mini; raises `InputError`. What hears nothing has no size, what trains nothing no seed."""
    choose("table", table, TABLES)
    choose("system", system, {COST: (*SYSTEMS, "both"), VIDEO: ("cascade", *IN_ROOMS)}.get(table, SYSTEMS))
    choose("corpus of talks", corpus, ROOMS if table == VIDEO else [name for name in CORPORA if name not in ROOMS_DB])
    choose("asr", asr, SIZES)
    able = LADDER if system == "ladder" else HEARERS
    if (precision, method) not in able:
        raise InputError(f"precision {precision!r} with method {method!r}: choose from {', '.join(' '.join(pair) for pair in able)}")
    if system in ("both", *IN_ROOMS) and (asr, precision, method) != (SIZE, "int8", "adalora"):
        raise InputError(
            f"system {system!r} with a Whisper {asr} at {precision} with method {method}: the end-to-end model hears with {SIZE} int8 adalora"
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed {seed!r} is not a whole number of 0 or more")
    hears, trained = system in ("ladder", "cascade", "both", *IN_ROOMS), system not in UNTRAINED
    heard = (asr, precision, method) if hears else (None, None, None)
    trained_on = {"howto-flat": "howto-stress"}.get(corpus, corpus)
    if table == VIDEO:
        trained_on = ROOMS[0] if system == "cascade" else TRAINED_IN_ROOMS
    return TalkCell(table, "mini", system, *heard, corpus, trained_on if trained else None, split, seed if trained else 0)


def planned_talks(table: str) -> list[TalkCell]:
    """Every cell of the grid of a table, seeds included."""
    choose("table", table, TABLES)
    if table == COST:
        return [make_talk_cell("both", table=COST, seed=seed) for seed in SEEDS]
    if table == PROSODY:
        corpora, systems = ("howto-stress", "howto-flat"), ("reference", "cascade", "e2e")
        return [make_talk_cell(system, table=PROSODY, corpus=corpus, seed=seed) for corpus in corpora for system in systems for seed in SEEDS]
    if table == VIDEO:
        cells = [make_talk_cell("cascade", table=VIDEO, corpus=corpus) for corpus in ROOMS]
        return cells + [make_talk_cell(system, table=VIDEO, corpus=corpus, seed=seed) for seed in SEEDS for system in IN_ROOMS for corpus in ROOMS]
    cells = [make_talk_cell(system) for system in UNTRAINED]
    cells += [make_talk_cell("reference", seed=seed) for seed in SEEDS]
    cells += [make_talk_cell("cascade", size, *hearer, seed=seed) for size in SIZES for hearer in HEARERS for seed in SEEDS]
    cells += [make_talk_cell("ladder", size, *written, seed=seed) for size in SIZES for written in LADDER for seed in SEEDS]
    return cells + [make_talk_cell("e2e", seed=seed) for seed in SEEDS]
