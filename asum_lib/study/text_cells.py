"""A cell of the ROUGE tables: a text model, how it was adapted, and to which corpus. As `cells` is for speech.

Parameters that people give are validated here, so that notebook, command line and workflow refuse the same things in the
same words. The grid of the study is here too, so that a cell without a record shows as missing.
"""

from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import InputError, choose
from asum_lib.study.cells import ADAPTERS, FORMAT_CHECK, METHODS, PRECISIONS, SCALES, can_be, check_pair
from asum_lib.study.placing import as_cell

TABLE_OF = {  # by scale: {corpus: table}; the paper's corpora are WikiHow and Gazeta
    "mini": {"howto-text": "rouge_wikihow", "news-ru": "rouge_gazeta"},
    "paper": {"wikihow": "rouge_wikihow", "gazeta-v1": "rouge_gazeta", "gazeta-v2": "rouge_gazeta-v2"},
}
RATES_TABLE = "rouge_rates"  # the search for learning rates: a table of its own, so that its cells are not taken for results
LANGUAGE_OF = {"howto-text": "en", "wikihow": "en", "news-ru": "ru", "gazeta-v1": "ru", "gazeta-v2": "ru", "ami": "en", "how2-text": "en"}
MODELS = {"t5": ("en",), "mbart": ("en", "ru")}  # and the languages that each can read
SIZES = {"mini": {"t5": "mini", "mbart": "mini"}, "paper": {"t5": "base", "mbart": "large-50"}}
SYSTEMS = ("lead3", "textrank", "oracle")  # take sentences from the document: nothing is loaded or trained
# The same with as many sentences as the reference is long, which they are told: for long documents, whose summaries are of many lengths.
TO_LENGTH = ("lead-length", "textrank-length", "oracle-length")
EXTRACTIVE = (*SYSTEMS, *TO_LENGTH)
RANKS = (4, 8, 16, 32, 64)
RANK = 16  # the one that the paper's figure for LoRA is tied to
TARGETS = ("qkv", "all-linear")
EPOCHS = 5  # of the paper's 5 to 7
SEEDS = (0, 1, 2)
CANDIDATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # learning rates, the same for every method; the one with the best dev ROUGE-1 is taken
SEARCHED = ("full", "lora", "adalora")
COMBINATIONS = (("howto-text", "t5"), ("howto-text", "mbart"), ("news-ru", "mbart"))


@dataclass(frozen=True)
class TextCell:
    table: str
    scale: str
    model: str  # t5, mbart, or one of EXTRACTIVE
    size: str | None
    precision: str | None
    method: str
    rank: int | None  # kept by each adapted module; None without an adapter
    targets: str | None  # which modules are adapted; None without an adapter
    learning_rate: float | None  # None: the one chosen on dev for its method, or nothing is trained
    epochs: int | None
    corpus: str
    split: str
    seed: int
    own: str | None = None  # digest of corpus, documents and model where they are not the study's

    @property
    def name(self) -> str:
        """File name without suffix, e.g. `t5-mini-fp32-lora-r16-s0`; what differs from the study's own choice is named."""
        parts = [self.model] if self.size is None else [self.model, Path(self.size).name, self.precision, self.method]
        if self.rank:
            parts.append(f"r{self.rank}")
        if self.targets not in (None, TARGETS[0]):
            parts.append(self.targets.replace("-", ""))
        if self.learning_rate is not None:
            parts.append(f"lr{self.learning_rate:g}")
        if self.epochs not in (None, EPOCHS):
            parts.append(f"e{self.epochs}")
        if self.split != "test":
            parts.append(self.split)
        return "-".join([*parts, *filter(None, [self.own]), f"s{self.seed}"])

    def path(self, results: Path) -> Path:
        """`results/<scale>/<table>/<name>.json`; the search for learning rates has a folder a corpus."""
        folder = Path(results) / self.scale / self.table
        return (folder / Path(self.corpus).stem if self.table == RATES_TABLE else folder) / f"{self.name}.json"

    def as_dict(self) -> dict:
        return as_cell(self)


def make_text_cell(
    corpus: str,
    model: str,
    precision: str = "fp32",
    method: str = "none",
    *,
    rank: int = RANK,
    targets: str = TARGETS[0],
    learning_rate: float | None = None,
    epochs: int = EPOCHS,
    seed: int = 0,
    scale: str = "mini",
    split: str = "test",
    search: bool = False,
    language: str | None = None,
    size: str | None = None,
    format_check: bool = False,
) -> TextCell:
    """Validate and resolve one cell; raises `InputError` with the choices. With `search` it belongs to the search for learning rates.

    `language` is the corpus's own where the study knows it, and has to be given for a local file. `size` names a checkpoint that is
    not the study's own. With `format_check` the cell belongs to no table of the study.
    """
    choose("scale", scale, SCALES)
    table = f"{FORMAT_CHECK}_{Path(corpus).resolve().stem}" if format_check else RATES_TABLE if search else table_of(corpus, scale)
    if model in EXTRACTIVE:
        return TextCell(table, scale, model, None, None, "none", None, None, None, None, corpus, split, 0)
    choose("text model", model, (*MODELS, *EXTRACTIVE))
    choose("precision", precision, PRECISIONS)
    choose("method", method, METHODS)
    choose("targets", targets, TARGETS)
    language = language_of(corpus, language)
    if language not in MODELS[model]:
        able = ", ".join(name for name, languages in MODELS.items() if language in languages)
        raise InputError(f"model {model!r} does not read {language}, the language of {corpus}: choose from {able}")
    check_pair(precision, method)
    for what, value, least in (("seed", seed, 0), ("epochs", epochs, 1), ("rank", rank, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{what} {value!r} is not a whole number of {least} or more")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise InputError(f"learning_rate {learning_rate!r} is not a number between 0 and 1")
    adapted, trained = method in ADAPTERS, method != "none"
    return TextCell(
        table=table,
        scale=scale,
        model=model,
        size=size or SIZES[scale][model],
        precision=precision,
        method=method,
        rank=rank if adapted else None,
        targets=targets if adapted else None,
        learning_rate=learning_rate if trained else None,
        epochs=epochs if trained else None,
        corpus=corpus,
        split=split,
        seed=seed if trained else 0,
    )


def make_text_row(
    corpus: str, model: str, *, methods, ranks=(RANK,), precisions=("fp32",), targets=(TARGETS[0],), seeds=(0,), learning_rates=(None,), **fixed
) -> list[TextCell]:
    """The cells of one corpus and model: every method in every precision, rank and seed, but for pairs that cannot be.

    What cannot be (full fine-tuning of quantised weights, LoftQ on others than those of 4 or 2 bits) is left out unless nothing else was
    asked for. What has no rank comes
    once whatever the ranks, what trains nothing once whatever the seeds.
    """
    lists = {"methods": methods, "ranks": ranks, "precisions": precisions, "targets": targets, "seeds": seeds}
    for name, values in lists.items():
        if isinstance(values, str) or not list(values):
            raise InputError(f"{name} {values!r} is not a list with at least one entry")
    for method in methods:
        choose("method", method, METHODS)
    for precision in precisions:
        choose("precision", precision, PRECISIONS)
    pairs = [(method, precision) for method in methods for precision in precisions]
    pairs = [(method, precision) for method, precision in pairs if can_be(precision, method)] or pairs
    cells = [
        make_text_cell(corpus, model, precision, method, rank=rank, targets=target, learning_rate=rate, seed=seed, **fixed)
        for method, precision in pairs
        for target in targets
        for rank in ranks
        for rate in learning_rates
        for seed in seeds
    ]
    return list(dict.fromkeys(cells))


def table_of(corpus: str, scale: str) -> str:
    """The table of a corpus; of a local file it is named after the file's folder and stem."""
    own = TABLE_OF[scale]
    if corpus in own:
        return own[corpus]
    if any(corpus in tables for tables in TABLE_OF.values()):
        raise InputError(f"corpus {corpus!r} is not one of scale {scale}: choose from {', '.join(own)}, or give the path of a file")
    table = f"rouge_{Path(corpus).resolve().stem}"
    if table in (RATES_TABLE, "rouge_ranks", *(name for tables in TABLE_OF.values() for name in tables.values())):
        raise InputError(f"corpus {corpus!r}: a file of this name would write into the study's own table {table}: rename it")
    return table


def language_of(corpus: str, given: str | None = None) -> str:
    """en or ru; `InputError` for a local file whose language was not given."""
    if given:
        return choose("language", given, sorted(set(LANGUAGE_OF.values())))
    if corpus not in LANGUAGE_OF:
        raise InputError(f"corpus {corpus!r}: say its language (en or ru), a file does not tell")
    return LANGUAGE_OF[corpus]


def configurations(scale: str = "mini") -> list[tuple[str, str, int | None, str]]:
    """(precision, method, rank, targets) of every adapted or plain model of the grid; LoftQ, and the 2 bits beside it, at scale `mini` alone."""
    qkv, everything = TARGETS
    plain = [("fp32", "none", RANK, qkv), ("int8", "none", RANK, qkv), ("int4", "none", RANK, qkv), ("fp32", "full", RANK, qkv)]
    ranks = [("fp32", method, rank, qkv) for method in ("lora", "adalora") for rank in RANKS]
    more = [("fp32", "adalora-inactive", RANK, qkv), ("int8", "lora", RANK, qkv), ("int4", "lora", RANK, qkv)]
    more += [("fp32", "lora", RANK, everything), ("fp32", "adalora", RANK, everything)]
    loftq = [(precision, method, RANK, qkv) for precision, method in (("nf2", "none"), ("nf2", "lora"), ("int4", "loftq"), ("nf2", "loftq"))]
    return plain + ranks + more + (loftq if scale == "mini" else [])


def planned_text(table: str, scale: str = "mini") -> list[TextCell]:
    """Every cell of the grid of `table` (`rouge_wikihow`, `rouge_gazeta`, `rouge_rates`, ...), seeds included."""
    if table == RATES_TABLE:
        return planned_search(scale)
    corpora = [corpus for corpus, name in TABLE_OF[scale].items() if name == table]
    choose("table", table, TABLE_OF[scale].values())
    cells = []
    for corpus in corpora:
        models = [model for model, languages in MODELS.items() if LANGUAGE_OF[corpus] in languages]
        cells += [make_text_cell(corpus, system, scale=scale) for system in SYSTEMS]
        cells += [
            make_text_cell(corpus, model, precision, method, rank=rank, targets=targets, seed=seed, scale=scale)
            for model in models
            for precision, method, rank, targets in configurations(scale)
            for seed in (SEEDS if method != "none" else SEEDS[:1])
        ]
    return cells


def planned_search(scale: str = "mini") -> list[TextCell]:
    """The cells from which each method's learning rate is chosen; at scale `paper` there is no search."""
    if scale != "mini":
        return []
    return [
        make_text_cell(corpus, model, method=method, learning_rate=rate, split="dev", search=True)
        for corpus, model in COMBINATIONS
        for method in SEARCHED
        for rate in CANDIDATES
    ]
