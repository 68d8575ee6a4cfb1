"""A cell: one fully resolved configuration of a table. Its path is its identity and is readable.

Parameters that people give (size, precisions, methods, ...) are validated here, so that the notebook, the command line
and the workflow refuse the same things in the same words.
"""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.measure.wer import NORMALIZERS
from asum_lib.study.placing import as_cell

SCALES = ("mini", "paper")
SIZES = ("tiny", "base", "small", "medium", "large")  # the paper's, and the mini ladder's
PAPER_SIZES = (*SIZES, "large-v2", "large-v3", "turbo", "tiny.en", "base.en", "small.en", "medium.en")  # what scale `paper` can run
PRECISIONS = ("fp32", "bf16", "int8", "int4", "int4-dq", "fp4", "nf2")  # nf2 is simulated: its quality counts, its memory does not
METHODS = ("none", "lora", "adalora", "adalora-inactive", "full", "loftq", "loftq-5")  # loftq-5: five rounds instead of one
ADAPTERS = ("lora", "adalora", "adalora-inactive", "loftq", "loftq-5")
LOFTQ = ("loftq", "loftq-5")
LOFTQ_PRECISIONS = ("int4", "int4-dq", "fp4", "nf2")  # what loses enough for a start to make up for
RATES = ("1", "1/4", "1/10", "1/40", "1/100")  # fine-tuning rate as a fraction of the pre-training rate; 1/40 is the paper's rule
PAPER_RATE = "1/40"
RANK = 8
EPOCHS = 6  # the paper's
# The paper's six configurations of its WER table.
PAPER_CONFIGURATIONS = (("fp32", "none"), ("int8", "none"), ("int4", "none"), ("int8", "adalora"), ("int4", "adalora"), ("fp32", "full"))
# The table of a corpus; the paper's own corpus is How2, whose mini counterpart is howto.
TABLE_OF = {
    "mini": {"howto": "whisper_wer", "howto-source": "whisper_source", "digits": "whisper_digits"},
    "paper": {"how2": "whisper_wer", "librispeech": "whisper_librispeech", "slue-voxpopuli": "whisper_slue-voxpopuli"},
}
LEARNING_RATES = "learning_rates"  # the table whose cells are also tried on the source at every epoch: what is forgotten
SOURCE_OF = {"howto": "howto-source"}  # corpus to adapt to: corpus that the model was pre-trained on
DEFAULT_CORPUS = {"mini": "howto", "paper": "librispeech"}
MEMORY = "memory"  # the table whose cells are not of speech: `memory_table`
FORMAT_CHECK = "format_check"  # tables of checkpoints with random weights: their records show that a path runs, and nothing else
LONG_TEXT = f"{FORMAT_CHECK}_long_text"  # what whole meetings take in time and memory, see `long_text_check`


@dataclass(frozen=True)
class Cell:
    table: str
    scale: str
    model: str
    size: str
    precision: str
    method: str
    rank: int | None  # rank kept by each adapted module; None without an adapter
    rate: str | None  # fraction of the pre-training rate; None where nothing is trained
    epochs: int | None
    corpus: str
    split: str
    seed: int
    own: str | None = None  # digest of corpus and model where one of them is a user's own
    language: str | None = None  # told to Whisper, where it is not English
    normalizer: str | None = None  # of the WER, where one was asked for

    @property
    def name(self) -> str:
        """File name without suffix, e.g. `whisper-medium-int8-adalora-r8-s0`.

        Rate and epochs are named where not the paper's, a user's own corpus and model by their digest.
        """
        rank = f"-r{self.rank}" if self.rank else ""
        rate = f"-rate{self.rate.replace('/', 'over')}" if self.rate not in (None, PAPER_RATE) else ""
        epochs = f"-e{self.epochs}" if self.epochs not in (None, EPOCHS) else ""
        own = f"-{self.own}" if self.own else ""
        asked = "".join(f"-{value}" for value in (self.language, self.normalizer) if value)
        model = Path(self.model).name  # a user's own stands as it was given
        return f"{model}-{self.size}-{self.precision}-{self.method}{rank}{rate}{epochs}{asked}{own}-s{self.seed}"

    def path(self, results: Path) -> Path:
        """`results/<scale>/<table>/<name>.json`."""
        return Path(results) / self.scale / self.table / f"{self.name}.json"

    def as_dict(self) -> dict:
        return as_cell(self)


def make_cell(
    size: str,
    precision: str,
    method: str,
    *,
    scale: str = "mini",
    corpus: str = "",
    rate: str = PAPER_RATE,
    epochs: int = EPOCHS,
    seed: int = 0,
    rank: int = RANK,
    model: str = "whisper",
    split: str = "test",
    format_check: bool = False,
    forgetting: bool = False,
    language: str = "",
    normalizer: str = "",
) -> Cell:
    """Validate and resolve one cell; raises `InputError` with the choices. What trains nothing has neither rank, rate nor seed.

    `corpus` is the scale's own by default. With `format_check` the cell belongs to no table of the study, with
    `forgetting` to the table of learning rates, whose cells are tried on the source too after every epoch.
    """
    choose("scale", scale, SCALES)
    choose("size", size, SIZES if scale == "mini" else PAPER_SIZES)
    corpus = corpus or DEFAULT_CORPUS[scale]
    choose("precision", precision, PRECISIONS)
    choose("method", method, METHODS)
    choose("rate", rate, RATES)
    if normalizer:
        choose("normalizer", normalizer, NORMALIZERS)
    check_pair(precision, method)
    if forgetting and corpus not in SOURCE_OF:
        raise InputError(f"corpus {corpus!r}: what is forgotten is known for {', '.join(SOURCE_OF)} alone, whose source is generated")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed {seed!r} is not a whole number of 0 or more")
    if not isinstance(epochs, int) or epochs < 1:
        raise InputError(f"epochs {epochs!r} is not a whole number of 1 or more")
    adapter = method in ADAPTERS
    trained = method != "none"
    return Cell(
        table=LEARNING_RATES if forgetting else _table(corpus, scale, format_check),
        scale=scale,
        model=model,
        size=size,
        precision=precision,
        method=method,
        rank=rank if adapter else None,
        rate=rate if trained else None,
        epochs=epochs if trained else None,
        corpus=corpus,
        split=split,
        seed=seed if trained else 0,
        language=None if language in ("", "en") else language,
        normalizer=normalizer or None,
    )


def as_given(where: str) -> str:
    """A checkpoint as it was given, but for a path whose last part is not its folder's name: that is written out."""
    real = str(Path(where).resolve())
    return where if Path(where).name == Path(real).name else real


def check_pair(precision: str, method: str) -> None:
    """Refuse a method that cannot be on weights of this precision."""
    if can_be(precision, method):
        return
    if method == "full":
        raise InputError(f"method 'full' cannot train {precision} weights: choose precision fp32 or bf16, or method lora or adalora")
    choices = ", ".join(LOFTQ_PRECISIONS)
    raise InputError(
        f"method {method!r} makes up for what weights of 4 or 2 bits lose, not for {precision}: choose precision {choices}, or method lora"
    )


def can_be(precision: str, method: str) -> bool:
    """Whether a method can be on weights of this precision."""
    if method == "full":
        return precision in ("fp32", "bf16")
    return method not in LOFTQ or precision in LOFTQ_PRECISIONS


def _table(corpus: str, scale: str, format_check: bool) -> str:
    folder = Path(corpus).parent if corpus.endswith(".jsonl") else Path(corpus)
    if format_check:
        return f"{FORMAT_CHECK}_{folder.resolve().name}"
    own = TABLE_OF[scale]
    table = own.get(corpus, f"whisper_{folder.resolve().name}")
    if corpus not in own and table in {name for tables in TABLE_OF.values() for name in tables.values()}:
        raise InputError(f"corpus {corpus!r}: a folder of this name would write into the study's own table {table}: rename the folder")
    return table


def make_row(size: str, precisions, methods, *, rates=(PAPER_RATE,), seeds=(0,), **fixed) -> list[Cell]:
    """The cells of one size: every precision with every method, rate and seed, but for two kinds of pair.

    What cannot be (full fine-tuning of quantised weights, LoftQ on others than those of 4 or 2 bits), and an adapter on unquantised
    weights, which is not in the paper: both are left out unless nothing else was asked for. What trains nothing comes once,
    whatever the rates and seeds.
    """
    for name, values in {"precisions": precisions, "methods": methods, "rates": rates, "seeds": seeds}.items():
        if isinstance(values, str) or not list(values):
            raise InputError(f"{name} {values!r} is not a list with at least one entry")
    pairs = [(precision, method) for method in methods for precision in precisions]
    possible = [pair for pair in pairs if can_be(*pair)]
    usual = [pair for pair in possible if pair[1] == "none" or (pair[0] in ("fp32", "bf16")) == (pair[1] == "full")] or possible or pairs
    cells = (make_cell(size, precision, method, rate=rate, seed=seed, **fixed) for precision, method in usual for rate in rates for seed in seeds)
    return list(dict.fromkeys(cells))
