"""Score records again from their samples, without a model: `asum rescore`, and the first half of `asum verify`.

`score_again` gives a record as the code of today would write it of the same transcripts or summaries:
every score of a sample, and every metric with its interval, number of items and signature.
What the samples do not give stays as it was recorded: the scores of someone else's texts, which
are not kept, and the vocabulary of a corpus. Figures of memory have no samples.

A record keeps its provenance, which says when and where its transcripts were made; git shows what
scoring them again has changed. Its fingerprint is renewed only where it was made with the signature
that has changed: a record that is stale for another reason stays stale.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from asum_lib.corpora import DOMAIN_OF, generated_fingerprint, spoken_texts, talks, texts
from asum_lib.errors import InputError, choose
from asum_lib.paths import RESULTS
from asum_lib.study import (
    corpora_table,
    memory_footprint,
    placing,
    records,
    speech_scores,
    talk_scores,
    text_scores,
)
from asum_lib.study.cells import LONG_TEXT, MEMORY, SCALES, SOURCE_OF, Cell
from asum_lib.study.records import Metric, Record
from asum_lib.study.talk_cells import COST, E2E, VIDEO, TalkCell
from asum_lib.study.talk_cells import TABLES as TALK_TABLES
from asum_lib.study.text_cells import TextCell
from asum_lib.study.units import unsigned

EXACT = 1e-9  # two values from the same counts differ by rounding alone
ROUNDED = 1.5e-6  # scores of samples are kept to six digits
KINDS = dict.fromkeys(TALK_TABLES, "talks")
KINDS |= {COST: "talk costs", MEMORY: "memory"}
KINDS |= {corpora_table.TABLE: "corpora", LONG_TEXT: "long text"}


@dataclass(frozen=True)
class Change:
    """What is another one now: of a metric, a sample or an epoch the fields that differ."""

    record: str  # path relative to the folder that holds `results`
    of: str  # metric, sample, epoch or fingerprint
    name: str
    before: dict
    after: dict

    def __str__(self) -> str:
        """In one line, by the first field that differs."""
        key, value = next(iter(self.before.items()))
        return f"{self.name}: {key} {_shown(value)} recorded, {_shown(self.after[key])} when scored again"


@dataclass(frozen=True)
class Again:
    """A record scored again, with its samples and what differs."""

    record: Record
    rows: list[dict]
    changes: tuple[Change, ...]


def kind(record: Record) -> str:
    """The kind of a record, as in `KINDS`; those of other tables are known by their cells."""
    return KINDS.get(record.table) or ("speech" if "rate" in record.cell else "text")


def cells_of(table: str) -> tuple[type, ...]:
    """The classes of the cells that a table can have; none where its cells have no class."""
    classes = {"talks": TalkCell, "talk costs": TalkCell, "memory": memory_footprint.Cell, "corpora": corpora_table.Cell}
    if table in KINDS:
        return (classes[KINDS[table]],) if KINDS[table] in classes else ()
    return Cell, TextCell


def score_again(path: Path, record: Record, results: Path = RESULTS) -> Again:
    """A record as today's code scores its samples. Raises `InputError` where they cannot be read."""
    rows, score = records.samples_of(record, path), SCORERS.get(kind(record))
    if not score or not rows:
        return Again(record, rows, ())
    scored, metrics, history = score(record, rows)
    name = _name(path, results)
    rows, of_rows = _merged(name, "sample", rows, scored, _called)
    history, of_history = _merged(name, "epoch", record.history, history, lambda row: f"epoch {row['epoch']}")
    old = [asdict(metric) for metric in record.metrics.values()]
    new = [asdict(metrics.get(key, metric)) for key, metric in record.metrics.items()]
    names = iter(record.metrics)
    found, of_metrics = _merged(name, "metric", old, new, lambda row: next(names), EXACT)
    values = {key: Metric(**row) for key, row in zip(record.metrics, found, strict=True)}
    changes = (*of_rows, *of_metrics, *of_history)
    return Again(replace(record, metrics=values, history=history), rows, changes)


def rescore(
    tables: Sequence[str] = (),
    scale: str | None = None,
    write: bool = False,
    results: Path = RESULTS,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[list[Change], list[str]]:
    """(what differs in the records, one line for each record that could not be scored).

    `tables` are all by default, and so are the scales. With `write` each changed record is written
    whole or not at all, with its samples where they have changed. Raises `InputError` for a table
    that has no records.
    """
    results, changes, faults = Path(results), [], []
    for path in _paths(tables, scale, results):
        try:
            record = records.read(path)
            found = score_again(path, record, results)
        except (InputError, KeyError, OSError, ValueError, EOFError) as error:
            faults.append(f"{_name(path, results)}: {error_line(error)}")
            continue
        own = list(found.changes)
        new = replace(found.record, fingerprint=_fingerprint(record, found.record, progress))
        own += _renewed(path, record, new, results)
        if own and write:
            own += _write(path, record, new, found, results)
        changes += own
        if own:
            progress(f"{_name(path, results)}: {len(own)} changes")
    return changes, faults


def error_line(error: Exception) -> str:
    """Why a record could not be scored."""
    if isinstance(error, InputError):
        return str(error)
    return f"its samples cannot be read ({type(error).__name__}: {error})"


def as_rows(changes: Iterable[Change]) -> list[dict]:
    """One object a change of a metric, epoch or fingerprint; changed samples are counted."""
    found, counted = [], {}
    for change in changes:
        row = {"record": change.record, "what": change.name, "before": change.before, "after": change.after}
        if change.of != "sample":
            found.append(row)
        elif change.record in counted:
            counted[change.record]["after"]["differing"] += 1
        else:
            counted[change.record] = row | {"what": "samples", "before": {}, "after": {"differing": 1}}
            found.append(counted[change.record])
    return found


def as_markdown(changes: Iterable[Change]) -> str:
    """The changes as a Markdown table."""
    lines = ["| record | what | before | after |", "|---|---|---|---|"]
    for row in as_rows(changes):
        before, after = (_fields(row[key]) for key in ("before", "after"))
        shown = [row["record"], row["what"], before, after]
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in shown) + " |")
    return "\n".join(lines)


def _paths(tables: Sequence[str], scale: str | None, results: Path) -> list[Path]:
    """The records of the tables, those of one scale or of both."""
    scales = SCALES if scale is None else (choose("scale", scale, SCALES),)
    folders = [folder for name in scales for folder in sorted((results / name).glob("[!.]*")) if folder.is_dir()]
    for table in tables:
        choose("table", table, dict.fromkeys(folder.name for folder in folders))
    chosen = [folder for folder in folders if not tables or folder.name in tables]
    found = [path for folder in chosen for path in placing.paths(folder)]
    if not found:
        raise InputError(f"{results}: no records of scale {' or '.join(scales)}")
    return found


def _merged(
    record: str,
    of: str,
    old: Sequence[dict],
    new: Sequence[dict],
    called: Callable[[dict], str],
    tolerance: float = ROUNDED,
) -> tuple[list[dict], list[Change]]:
    """(`old` with what `new` has otherwise for its keys, what that is); rounding is no change."""
    merged, changes = [], []
    for before, after in zip(old, new, strict=True):
        name = called(before)
        keys = [key for key in before if not _same(before[key], after[key], tolerance)]
        merged.append(before | {key: after[key] for key in keys})
        if keys:
            pair = ({key: row[key] for key in keys} for row in (before, after))
            changes.append(Change(record, of, name, *pair))
    return merged, changes


def _same(before, after, tolerance: float) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in (before, after))
    return abs(before - after) <= tolerance if numbers else before == after


def _called(row: dict) -> str:
    epoch = f"{row['split']} epoch {row['epoch']} " if "epoch" in row else ""
    return f"{epoch}{row['id']}"


def _score_speech(record: Record, rows: list[dict]) -> tuple[list[dict], dict, list[dict]]:
    """Errors of every utterance, of every epoch too where the generator knows what was said."""
    normalizer = record.config["normalizer"]
    sets: dict[str | None, list[dict]] = {}
    for row in rows:
        sets.setdefault(row["split"] if "epoch" in row else None, []).append(row)
    scored = {None: speech_scores.count_test(sets.get(None, []), normalizer)}
    for split in sets.keys() - {None}:
        said = _said(record, split)
        scored[split] = speech_scores.count_epochs(sets[split], said, normalizer)
    turns = {split: iter(found) for split, found in scored.items()}
    found = [next(turns[row["split"] if "epoch" in row else None]) for row in rows]
    history = [_epoch(entry, scored) for entry in record.history]
    return found, speech_scores.metrics(record.cell, scored[None], normalizer), history


def _said(record: Record, split: str) -> Mapping[str, str]:
    """{id: text} of a split, where the generator says what it said when the cell was measured."""
    corpus = record.cell["corpus"]
    known = record.provenance["dataset_fingerprint"]
    if corpus not in DOMAIN_OF or known != _digest(corpus, record.cell["split"]):
        return {}
    return _spoken(SOURCE_OF[corpus] if split == "source" else corpus, "dev")


_digest = lru_cache(generated_fingerprint)
_spoken = lru_cache(spoken_texts)


def _epoch(entry: dict, scored: Mapping[str | None, list[dict]]) -> dict:
    for split in speech_scores.CURVES:
        rows = [row for row in scored.get(split, []) if row["epoch"] == entry["epoch"]]
        if rows or entry.get(f"{split}_errors"):
            entry = entry | speech_scores.totals(split, rows)
    return entry


def _score_text(record: Record, rows: list[dict]) -> tuple[list[dict], dict, list[dict]]:
    """ROUGE of every document; novelty and facts too where the generator has the document."""
    language, corpus = text_scores.language_of(record), record.cell["corpus"]
    if all(row["reference"] is not None for row in rows):  # someone else's texts are not kept
        documents, lexicon = {}, None
        if corpus in texts.NAMES:
            lexicon = texts.lexicon(corpus)
            wanted = {row["id"]: row["reference"] for row in rows}
            known = texts.load_texts(corpus, record.cell["split"]).documents
            documents = {one.id: one for one in known if wanted.get(one.id) == one.reference}
        rows = text_scores.score_rows(rows, language, documents, lexicon)
        return rows, text_scores.metrics(record.cell, rows, language), record.history
    # Which rule cuts the references, the texts would tell: it is as recorded.
    cut = re.search(r"\|lsum:([^|]+)", record.metrics.get("rougeLsum", record.metrics["rouge1"]).signature)
    found = text_scores.metrics(record.cell, rows, language, cut and cut.group(1))
    return rows, found, record.history


def _score_talks(record: Record, rows: list[dict]) -> tuple[list[dict], dict, list[dict]]:
    """As text, and the facts of every talk."""
    corpus, split = record.cell["corpus"], record.cell["split"]
    wanted = {row["id"]: row["reference"] for row in rows}
    known = talks.scripts(corpus, split)
    facts = {one.id: one.facts for one in known if wanted.get(one.id) == one.summary}
    rows = talk_scores.score_rows(rows, facts, talks.lexicon(corpus), record.table == VIDEO)
    return rows, talk_scores.metrics(record.cell, rows), record.history


def _score_costs(record: Record, rows: list[dict]) -> tuple[list[dict], dict, list[dict]]:
    """The means of times and bytes."""
    return rows, talk_scores.metrics(record.cell, rows), record.history


def _score_corpora(record: Record, rows: list[dict]) -> tuple[list[dict], dict, list[dict]]:
    """Means and shares with their intervals, from the counts of the documents."""
    how = (record.config["language"], record.config.get("sentence_rule"))
    found = corpora_table.pooled_statistics(record.cell, rows, *how)
    found |= corpora_table.pooled_systems(record.cell, rows, *how)
    documents = record.metrics["documents"]
    count = len(rows)
    found["documents"] = replace(documents, value=count, lo=count, hi=count, n=count)
    return rows, found, record.history


def fingerprint_of(record: Record) -> str:
    """What the record of this cell must carry to be fresh on this machine."""
    return SIGNED[kind(record)](record.cell, None)


def _fingerprint(record: Record, new: Record, progress: Callable[[str], None]) -> str:
    """The fingerprint that the new signatures give a record that was fresh with its old ones."""
    of_kind = kind(record)
    signed, today = ({key: unsigned(one.signature) for key, one in of.metrics.items()} for of in (record, new))
    if of_kind not in SIGNED or signed == today:
        return record.fingerprint
    try:
        today = SIGNED[of_kind](record.cell, None)
        if today == record.fingerprint or SIGNED[of_kind](record.cell, signed) != record.fingerprint:
            return record.fingerprint
        return today
    except InputError as error:
        progress(f"{record.cell}: its fingerprint stays as it is: {error}")
        return record.fingerprint


def _speech_fingerprint(cell: dict, signed: Mapping[str, str] | None) -> str:
    from asum_lib.study import run

    return run.fingerprint_of(Cell(**cell), signed and signed["wer_pct"])


def _text_fingerprint(cell: dict, signed: Mapping[str, str] | None) -> str:
    from asum_lib.study import text_run

    return text_run.fingerprint_of(TextCell(**cell), signed and signed["rouge1"])


def _talk_fingerprint(cell: dict, signed: Mapping[str, str] | None) -> str:
    from asum_lib.study import talk_run

    return talk_run.fingerprint_of(TalkCell(**cell), signed and signed.get("rouge1"))


def _corpora_fingerprint(cell: dict, signed: Mapping[str, str] | None) -> str:
    of_systems = {key.rpartition(".")[2]: value for key, value in (signed or {}).items()}
    if "rouge1" in of_systems:  # English has one tokenizer, and the fingerprint names the trap's too
        of_systems.setdefault("rouge1_default", of_systems["rouge1"])
    return corpora_table.fingerprint_of(corpora_table.Cell(**cell), signed and of_systems)


def _write(path: Path, record: Record, new: Record, found: Again, results: Path) -> list[Change]:
    """Write a record, and renew the cells that read its transcripts; returns what they change."""
    if not any(change.of == "sample" for change in found.changes):
        records.rewrite(new, path)
        return []
    readers = [one for one in _readers(path, results) if _is_fresh(*one)]
    records.write(new, path, found.rows)
    changes = []
    for reader, old in readers:
        renewed = replace(old, fingerprint=fingerprint_of(old))
        records.rewrite(renewed, reader)
        changes += _renewed(reader, old, renewed, results)
    return changes


def _readers(path: Path, results: Path) -> list[tuple[Path, Record]]:
    """The talk records whose text model reads the transcripts of the WER record at `path`."""
    if path.parent.name != "whisper_wer":
        return []
    found = placing.load(results, path.parents[1].name, E2E, TalkCell)
    return [(own, one) for own, one in found if one.config.get("transcripts") == path.stem]


def _is_fresh(path: Path, record: Record) -> bool:
    return record.fingerprint == fingerprint_of(record)


def _renewed(path: Path, old: Record, new: Record, results: Path) -> list[Change]:
    if old.fingerprint == new.fingerprint:
        return []
    pair = ({"fingerprint": one.fingerprint} for one in (old, new))
    return [Change(_name(path, results), "fingerprint", "fingerprint", *pair)]


def _name(path: Path, results: Path) -> str:
    return Path(os.path.relpath(path, Path(results).parent)).as_posix()


def _shown(value) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _fields(found: dict) -> str:
    """A value with its interval, and what else differs by name."""
    return ", ".join(f"{key} {_shown(value)[:60]}" for key, value in found.items())


SCORERS = {
    "speech": _score_speech,
    "text": _score_text,
    "talks": _score_talks,
    "talk costs": _score_costs,
    "corpora": _score_corpora,
}
SIGNED = {  # the fingerprint of a cell with the given signatures of its metrics, or today's
    "speech": _speech_fingerprint,
    "text": _text_fingerprint,
    "talks": _talk_fingerprint,
    "talk costs": _talk_fingerprint,
    "corpora": _corpora_fingerprint,
}
