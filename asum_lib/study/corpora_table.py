"""The table `corpora`: how long, how dense and how copied the texts and summaries of each corpus are, and what copying reaches.

One record a corpus and split, under `results/<scale>/corpora/`, with a sample a document (numbers only, never its text, so
that nothing of a corpus that may not be shared is kept). `asum table corpora` prints one object a metric; those of an
extractive system have its name in `cell`. What `notebooks/corpora.ipynb` calls is here too.

A corpus is one of `texts.NAMES` at scale `mini`; at scale `paper` one of `texts.GIVEN`, or a file or folder of texts and
summaries (`corpora.text_files`).
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from asum_lib.corpora import texts
from asum_lib.corpora.sentences import WITH_CAPITALS, rule_of
from asum_lib.errors import InputError, choose
from asum_lib.measure import extractive, rouge, summaries
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records, scores
from asum_lib.study.cells import SCALES
from asum_lib.study.parameters import checked, of_notebook
from asum_lib.study.text_cells import SYSTEMS

NOTEBOOK = "notebooks/corpora.ipynb"
TABLE = "corpora"
LEAD_SENTENCES = 3
SYSTEM_SPLITS = ("dev", "test")  # where the extractive systems are run: on train they take long and nobody is compared with them
SYSTEM_METRICS = ("rouge1", "rouge2", "rougeL", "rouge1_default", "fact_recall", "words")
# metric: (unit, what is summed over documents, what it is divided by: a sum too, or None for the number of documents)
STATISTICS = {
    "text_words": ("words", "text_words", None),
    "text_sentences": ("sentences", "text_sentences", None),
    "summary_words": ("words", "summary_words", None),
    "summary_sentences": ("sentences", "summary_sentences", None),
    "compression": ("words of text a word of summary", "text_words", "summary_words"),
    "novelty1": ("%", "new1", "ngrams1"),
    "novelty2": ("%", "new2", "ngrams2"),
    "novelty3": ("%", "new3", "ngrams3"),
    "novelty4": ("%", "new4", "ngrams4"),
    "facts": ("facts", "facts", None),
    "key_facts": ("facts", "key_facts", None),
}
VOCABULARY = ("text_vocabulary", "summary_vocabulary")
POSITION = "oracle_position"


@dataclass(frozen=True)
class Cell:
    """One split of one corpus, or its first `limit` documents."""

    table: str
    scale: str
    corpus: str
    split: str
    limit: int | None
    own: str | None = None  # digest of a user's own file

    @property
    def name(self) -> str:
        """File name without suffix, e.g. `howto-text-test`."""
        return f"{self.corpus}-{self.split}" + (f"-first{self.limit}" if self.limit else "") + (f"-{self.own}" if self.own else "")

    def path(self, results: Path) -> Path:
        return Path(results) / self.scale / self.table / f"{self.name}.json"

    def as_dict(self) -> dict:
        return placing.as_cell(self)


@dataclass(frozen=True)
class Row:
    """What the notebook looks at: one split of a corpus, its record and where that lies."""

    cell: Cell
    corpus: texts.TextCorpus
    path: Path
    record: records.Record

    @property
    def rows(self) -> list[dict]:
        return objects(self.cell, self.record, self.path)


@checked
def run(
    corpus: str = "howto-text",
    split: str = "test",
    scale: str = "",
    limit: int = 0,
    language: str = "",
    results_dir: str = "",
    *,
    notebook: str | None = NOTEBOOK,
) -> Row:
    """Measure (or read, where fresh) one split of a corpus and return it; progress goes to stderr.

    `corpus` is a name, or the path of a file or folder. An empty `scale` is the corpus's own. `language` (en or ru) is of a
    file, and told by its letters where it is empty. `limit` takes the first documents of the split (0: all of them).
    `notebook` is the one that asks, None without one.
    """
    choose("split", split, texts.SPLITS)
    given = {"corpus": corpus, "split": split, "scale": scale, "limit": limit, "language": language}
    command = " ".join(["asum run corpora", *(f"-p {name}={value}" for name, value in given.items() if value)])
    scale = scale_of(corpus, scale)
    documents = texts.head(load(corpus, split, language), limit or None)
    study = corpus in (*texts.NAMES, *texts.GIVEN)
    own = None if study else placing.own_digest({split: documents.fingerprint}, None, language=documents.language)
    cell = Cell(TABLE, scale, documents.name, split, limit or None, own)
    path = cell.path(Path(results_dir or RESULTS))
    return Row(cell, documents, path, read_or_measure(cell, documents, path, command, notebook))


def parameters(namespace: dict) -> dict:
    """The notebook's parameters out of its `globals()`, see `parameters.of_notebook`."""
    return of_notebook(run, namespace)


def scale_of(corpus: str, scale: str = "") -> str:
    """The scale of a corpus: `mini` for the generated ones, `paper` for the others; `InputError` where another is asked for."""
    own = "mini" if corpus in texts.NAMES else "paper"
    if scale and choose("scale", scale, SCALES) != own:
        if own == "mini":
            raise InputError(
                f"corpus {corpus!r} is a generated one, of scale mini: at scale paper give {', '.join(texts.GIVEN)}, or the path of a file"
            )
        raise InputError(f"corpus {corpus!r} is not one of scale mini: choose from {', '.join(texts.NAMES)}, or leave the scale out")
    return own


def load(corpus: str, split: str, language: str = "") -> texts.TextCorpus:
    """A split of a corpus by its name or path. A file gets the name of its stem, and without a `language` that of its letters."""
    if language:
        choose("language", language, rouge.DEFAULT_TOKENIZER)
    if corpus in texts.NAMES or corpus in texts.GIVEN:
        known = texts.load_texts(corpus, split)
        if language and language != known.language:
            raise InputError(f"language {language!r}: that of {corpus} is {known.language}, leave it out")
        return known
    found = texts.load_texts(corpus, split, language or "en")
    language = language or _language_of(found)
    rouge.check_corpus(corpus, language, (document.reference for document in found.documents))
    return replace(found, name=Path(corpus).resolve().stem, language=language)


def fill(names: Sequence[str] = texts.NAMES, results: Path = RESULTS) -> list[Row]:
    """Every split of the generated corpora: the records of scale `mini`."""
    return [run(name, split, results_dir=str(results), notebook=None) for name in names for split in texts.SPLITS]


def rows(table: str = TABLE, scale: str = "mini", results: Path = RESULTS) -> list[dict]:
    """The table as objects, one a metric (`asum table corpora --format json`): of the study's corpora, and of others that were measured.

    What is not measured has status `missing`. The paper's values are not in the sources at hand.
    """
    choose("table", table, (TABLE,))
    results = Path(results)
    names = {"mini": texts.NAMES, "paper": tuple(texts.DOCUMENTS)}[choose("scale", scale, SCALES)]
    planned = [Cell(TABLE, scale, name, split, None) for name in names for split in texts.SPLITS]
    found = {cell.path(results): (cell, None) for cell in planned}
    for path, record in placing.load(results, scale, TABLE, Cell):
        found[path] = Cell(**record.cell), record
    return [entry for path, (cell, record) in found.items() for entry in objects(cell, record, path)]


def objects(cell: Cell, record: records.Record | None, path: Path) -> list[dict]:
    """The objects of one split; without a record, its number of documents as missing."""
    shared = {"seeds": [], "paper": None, "paper_status": "unknown", "paper_source": None}
    if record is None:
        nothing = dict.fromkeys(("value", "lo", "hi")) | {"unit": "documents", "n": 0, "signature": None}
        about = {"cell": cell.as_dict() | {"system": None}, "metric": "documents"}
        return [about | nothing | shared | {"status": "missing", "reason": "no record yet", "records": []}]
    entries = []
    for name, metric in record.metrics.items():
        system, _, own = name.rpartition(".")
        values = {key: value for key, value in asdict(metric).items() if key != "better"}
        about = {"cell": cell.as_dict() | {"system": system or None}, "metric": own}
        where = [os.path.relpath(path, path.parents[3])]
        entries.append(about | values | shared | {"status": record.status, "reason": record.reason, "records": where})
    return entries


def as_markdown(table_rows: Sequence[dict]) -> str:
    """The objects as a Markdown table."""
    lines = ["| corpus | split | system | metric | value | 95 % interval | unit | documents |", "|---|---|---|---|---|---|---|---|"]
    for row in table_rows:
        cell, value = row["cell"], "" if row["value"] is None else f"{row['value']:,.1f}"
        interval = "" if row["lo"] is None or row["lo"] == row["hi"] else f"{row['lo']:,.1f} to {row['hi']:,.1f}"
        corpus = f"{cell['corpus']} ({cell['own']})" if cell.get("own") else cell["corpus"]
        shown = [corpus, cell["split"], cell["system"] or "", row["metric"], value or row["reason"], interval, row["unit"], str(row["n"])]
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in shown) + " |")
    return "\n".join(lines) + "\n"


def sentences_of(document: texts.TextDocument, language: str) -> list[str]:
    """The sentences of a document's text; no sentence runs over the end of a paragraph."""
    return [sentence for paragraph in document.paragraphs for sentence in rouge.split_sentences(paragraph, language)]


def counts(corpus: texts.TextCorpus) -> list[dict]:
    """One row a document: the counts that `STATISTICS` sums."""
    lines = []
    for document in corpus.documents:
        line = {"id": document.id, "text_words": len(summaries.words(document.text)), "summary_words": len(summaries.words(document.reference))}
        line |= {"text_sentences": len(sentences_of(document, corpus.language))}
        line |= {"summary_sentences": sum(len(rouge.split_sentences(part, corpus.language)) for part in document.summary)}
        for n in range(1, 5):
            line[f"new{n}"], line[f"ngrams{n}"] = summaries.novelty_counts(document.text, document.reference, n)
        if document.facts:
            line |= {"facts": len(document.facts), "key_facts": sum(fact.key for fact in document.facts)}
        lines.append(line)
    return lines


def system_texts(corpus: texts.TextCorpus) -> tuple[dict[str, list[str]], list[list[float]]]:
    """({system: what it writes of each document}, where in each text the oracle's sentences lie: 0 first, 1 last).

    A text of one sentence has no places.
    """
    most, written, places = sentences_taken(corpus.language), {system: [] for system in SYSTEMS}, []
    for document in corpus.documents:
        sentences = sentences_of(document, corpus.language)
        positions = extractive.oracle_positions(sentences, document.reference, most["oracle"], corpus.language)
        written["lead3"].append(" ".join(extractive.lead(sentences, most["lead3"])))
        written["textrank"].append(" ".join(extractive.textrank(sentences, most["textrank"])))
        written["oracle"].append(" ".join(sentences[i] for i in positions))
        places.append([i / (len(sentences) - 1) for i in positions] if len(sentences) > 1 else [])
    return written, places


def sentences_taken(language: str) -> dict[str, int]:
    """The most sentences that each system takes, as in the ROUGE tables."""
    from asum_lib.study.text_run import EXTRACTIVE_SENTENCES

    return {"lead3": LEAD_SENTENCES, "textrank": EXTRACTIVE_SENTENCES[language], "oracle": EXTRACTIVE_SENTENCES[language]}


def signature(metric: str, language: str, sentences: str | None = None) -> str:
    """How a metric was computed; the words are `summaries.words`, the sentences `rouge.split_sentences`.

    `sentences` is the rule that cuts the texts, that of text with capitals where none is given.
    """
    if metric in rouge.TYPES:
        return rouge.signature(metric, language)
    if metric == "rouge1_default":
        return rouge.signature("rouge1", language, tokenizer="default")
    if metric == "fact_recall":
        return summaries.signature("slot_recall")
    if metric.startswith(("novelty", "compression")):
        return summaries.signature(metric)
    how = "count" if metric in ("documents", *VOCABULARY) else "mean"
    if metric in ("text_sentences", "summary_sentences", POSITION):
        return f"{metric}|sentences:{sentences or f'{WITH_CAPITALS}.{language}'}|{how}"
    return f"{metric}|{how}" if metric in ("documents", "facts", "key_facts") else f"{metric}|tok:unicode|{how}"


def read_or_measure(cell: Cell, corpus: texts.TextCorpus, path: Path, command: str, notebook: str | None = None) -> records.Record:
    """The record at `path` if it was made of this very corpus in this way; else it is made and written there. An empty corpus is refused."""
    if not corpus.documents:
        raise InputError(f"{corpus.name} {corpus.split} has no documents")
    config, own = _resolve(cell, corpus)
    if path.is_file() and (record := records.read(path)).fingerprint == own:
        return record
    started_at, start = records.now(), time.perf_counter()
    lines = counts(corpus)
    metrics = _statistics(cell, corpus, lines, config.get("sentence_rule"))
    if cell.split in SYSTEM_SPLITS:
        metrics |= _systems(cell, corpus, lines, config.get("sentence_rule"))
    took_s = time.perf_counter() - start
    print(f"{cell.name}: {len(lines)} documents ({took_s:.0f} s)", file=sys.stderr, flush=True)
    record = records.Record(
        schema=records.SCHEMA,
        fingerprint=own,
        table=TABLE,
        scale=cell.scale,
        status="ok",
        reason=None,
        cell=cell.as_dict(),
        config=config,
        metrics=metrics,
        memory_bytes=records.unmeasured(records.MEMORY_BYTES),
        params=records.unmeasured(records.PARAMS),
        time_s=records.unmeasured(records.TIME_S, evaluate=round(took_s, 3)),
        audio_s=None,
        rtfx=None,
        history=[],
        samples=None,
        provenance=records.provenance(command, notebook, started_at, __name__) | {"dataset_fingerprint": corpus.fingerprint},
    )
    return records.write(record, path, lines if cell.split in SYSTEM_SPLITS else [])


def fingerprint_of(cell: Cell, known: Mapping[str, str] | None = None) -> str:
    """What the record of a cell of a generated corpus must carry to be fresh.

    `known` are signatures by metric, today's where it has none.
    """
    corpus = texts.head(texts.load_texts(cell.corpus, cell.split), cell.limit)
    return _resolve(cell, corpus, known)[1]


def _resolve(cell: Cell, corpus: texts.TextCorpus, known: Mapping[str, str] | None = None) -> tuple[dict, str]:
    every = ("documents", *STATISTICS, *VOCABULARY, POSITION, *SYSTEM_METRICS)
    language = corpus.language
    rule = rule_of([document.text for document in corpus.documents], language)
    signatures = " ".join((known or {}).get(metric) or signature(metric, language, rule) for metric in every)
    config = {"language": language, "sentences": sentences_taken(language)}
    if not rule.startswith(WITH_CAPITALS):
        config["sentence_rule"] = rule
    data = {"corpus": corpus.fingerprint, "lexicon": _lexicon(corpus)}
    return config, records.fingerprint(cell.as_dict() | config, data, "none", signatures)


def _lexicon(corpus: texts.TextCorpus) -> dict | None:
    return texts.lexicon(corpus.name) if corpus.name in texts.NAMES else None


def _language_of(corpus: texts.TextCorpus) -> str:
    """ru where Cyrillic letters outnumber Latin ones in the first documents."""
    text = "".join(document.text + document.reference for document in corpus.documents[:100]).lower()
    return "ru" if sum("а" <= letter <= "я" for letter in text) > sum("a" <= letter <= "z" for letter in text) else "en"


def _statistics(cell: Cell, corpus: texts.TextCorpus, lines: list[dict], rule: str | None) -> dict[str, records.Metric]:
    n = len(lines)
    of_all = signature("documents", corpus.language)
    found = {"documents": records.Metric(n, n, n, "documents", "higher", of_all, n)}
    found |= pooled_statistics(cell.as_dict(), lines, corpus.language, rule)
    written = ([d.text for d in corpus.documents], [d.reference for d in corpus.documents])
    for metric, of in zip(VOCABULARY, written, strict=True):
        types = len({word for text in of for word in summaries.words(text)})
        found[metric] = records.Metric(types, None, None, "distinct words", "higher", signature(metric, corpus.language), n)
    return found


def pooled_statistics(cell: dict, lines: list[dict], language: str, rule: str | None = None) -> dict[str, records.Metric]:
    """Every metric of `STATISTICS` that the rows of the documents give."""
    found = {}
    for metric, (unit, part, whole) in STATISTICS.items():
        if part not in lines[0] or (whole and not sum(line[whole] for line in lines)):
            continue
        scale = 1 if unit == "%" else 100  # ratios come in per cent
        over = [line[whole] for line in lines] if whole else np.ones(len(lines))
        found[metric] = _pooled(cell, lines, metric, part, over, (language, rule), unit, scale)
    return found


def pooled_systems(cell: dict, lines: list[dict], language: str, rule: str | None = None) -> dict[str, records.Metric]:
    """Every metric of the extractive systems that the rows of the documents give."""
    found = {}
    for system in SYSTEMS:
        for metric in SYSTEM_METRICS:
            name = f"{system}.{metric}"
            if metric == "fact_recall" and f"{system}.right" in lines[0]:
                over = [line["key_facts"] for line in lines]
                found[name] = _pooled(cell, lines, metric, f"{system}.right", over, (language, rule), "%")
            elif name in lines[0]:
                unit, scale = ("words", 100) if metric == "words" else ("ROUGE x 100", 1)
                found[name] = _pooled(cell, lines, metric, name, np.ones(len(lines)), (language, rule), unit, scale)
    places = [line.get("oracle_positions", []) for line in lines]
    if any(places):
        sums = [line | {POSITION: sum(own)} for line, own in zip(lines, places, strict=True)]
        over = [len(own) for own in places]
        unit = "0 first sentence, 1 last"
        found[POSITION] = _pooled(cell, sums, POSITION, POSITION, over, (language, rule), unit, 100)
    return found


def _pooled(cell, lines, metric, part, over, how, unit, scale=1) -> records.Metric:
    parts = [line[part] for line in lines]
    about = (unit, "higher", signature(metric, *how))
    most = 100.0 if unit.startswith("%") or unit == "ROUGE x 100" else None
    return scores.pooled(cell, lines, parts, over, *about, most=most, scale=scale)


def _systems(cell: Cell, corpus: texts.TextCorpus, lines: list[dict], rule: str | None) -> dict[str, records.Metric]:
    """The metrics of the extractive systems; adds their values to the rows of the documents."""
    references = [document.reference for document in corpus.documents]
    lexicon = _lexicon(corpus)
    by_system, places = system_texts(corpus)
    for system, written in by_system.items():
        found = rouge.score(references, written, corpus.language, types=("rouge1", "rouge2", "rougeL"))
        if corpus.language == "ru":
            of_trap = rouge.score(references, written, "ru", tokenizer="default", types=("rouge1",))
            found["rouge1_default"] = of_trap["rouge1"]
        for number, (line, document) in enumerate(zip(lines, corpus.documents, strict=True)):
            for metric, values in found.items():
                line[f"{system}.{metric}"] = round(float(values[number]), 6)
            line[f"{system}.words"] = len(summaries.words(written[number]))
            if lexicon:
                slots = summaries.slot_counts(written[number], document.facts, lexicon)
                line[f"{system}.right"] = slots.right
    for line, own in zip(lines, places, strict=True):
        line["oracle_positions"] = [round(place, 4) for place in own]
    return pooled_systems(cell.as_dict(), lines, corpus.language, rule)


def main(arguments: list[str] | None = None) -> int:
    """`python -m asum_lib.study.corpora_table [CORPUS ...]`: the records of the generated corpora."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        for name in given:
            choose("text corpus", name, texts.NAMES)
        fill(given or texts.NAMES)
    except InputError as error:
        print(f"corpora_table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
