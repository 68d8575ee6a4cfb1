"""Nothing that was downloaded, handed in or written by a model runs as code: no pickles, no paths out of a folder, no HTML of others on a page."""

import ast
import gzip
import hashlib
import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from talk_records import cost_rows, misheard, right, write_cell, write_system

from asum_lib.corpora import audio, digits, manifest, parquet, text_files
from asum_lib.corpora.texts import Fact, TextCorpus, TextDocument
from asum_lib.errors import InputError
from asum_lib.models import checkpoint
from asum_lib.paths import CHECKPOINTS, REPOSITORY, RESULTS
from asum_lib.study import (
    all_tables,
    corpora_table,
    e2e_summarization,
    learning_rates,
    memory_footprint,
    peft_rouge,
    records,
    rescoring,
    talk_cells,
    verified,
    whisper_quant,
)
from asum_lib.teaching import rouge as teaching_rouge
from asum_lib.teaching import wer as teaching_wer
from asum_lib.teaching import worked

# Code that can run code ---------------------------------------------------------------------------------------------------

UNPICKLES = {"pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "cPickle.loads", "dill.load", "dill.loads", "joblib.load"}
UNPICKLES |= {"marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle"}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"}
RUNS = {"eval", "exec", "os.system", "os.popen"}
ALLOWED = {  # (file, call): why
    ("asum_lib/measure/peak.py", "pickle.loads"): "what the parent process sent its own child through a pipe; it is never on disk",
}


def sources() -> Iterator[tuple[str, str]]:
    """(path from the repository, Python) of the library, the checks, the benchmark, the notebooks and the pages."""
    for folder in ("asum_lib", ".ci", "bench", "runs"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield f"notebooks/{path.name}", "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for path in sorted((REPOSITORY / "book").rglob("*.md")):
        blocks = re.findall(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        yield path.relative_to(REPOSITORY).as_posix(), "\n".join(blocks)


def dangers(source: str) -> list[str]:
    """Calls that run or may run what they read, as they stand in the source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        short = name.removeprefix("np.").removeprefix("numpy.")
        if name in UNPICKLES | UNSAFE_YAML | RUNS or (name == "torch.load" and given.get("weights_only") != "True"):
            found.append(name)
        found += [f"{short}({key}={given[key]})" for key in ("allow_pickle", "trust_remote_code") if given.get(key, "False") != "False"]
        if given.get("shell") == "True" or given.get("use_safetensors") == "False":
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("def f():\n    return pickle.load(open(path, 'rb'))", ["pickle.load"]),
        ("pickle.dumps(value)", []),
        ("np.load(path, allow_pickle=True)", ["load(allow_pickle=True)"]),
        ("np.load(path)", []),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", ["AutoModel.from_pretrained(trust_remote_code=True)"]),
        ("load(name, trust_remote_code=flag)", ["load(trust_remote_code=flag)"]),
        ("yaml.load(text, Loader=yaml.Loader)", ["yaml.load"]),
        ("yaml.safe_load(text)", []),
        ("subprocess.run(command, shell=True)", ["subprocess.run(command, shell=True)"]),
        ("eval(text)", ["eval"]),
        ("model.eval()\nast.literal_eval(text)", []),
    ],
)
def test_the_walk_sees_what_runs_code(source, found):
    assert dangers(source) == found


def test_nothing_loads_a_pickle_foreign_code_or_unsafe_yaml():
    found = {(path, danger) for path, source in sources() for danger in dangers(source)}
    assert found == set(ALLOWED)


def test_what_is_not_python_loads_no_pickle_either():
    """The Snakemake graph is Python with rules, and shell scripts hold a line of it."""
    paths = [REPOSITORY / "workflow" / "Snakefile", REPOSITORY / "Makefile", *(REPOSITORY / "runs").glob("*.sh"), REPOSITORY / ".ci" / "run"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    assert re.findall(r"pickle|torch\.load|allow_pickle|trust_remote_code|yaml\.load|\beval\b", text) == []


def test_names_of_modules_are_not_hidden_from_the_walk():
    """`from pickle import load` or `import torch as t` would pass it."""
    hidden = []
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "marshal", "shelve", "yaml", "torch"):
                hidden += [f"{path}: from {node.module} import {alias.name}" for alias in node.names if "load" in alias.name.lower()]
            if isinstance(node, ast.Import):
                hidden += [f"{path}: import {a.name} as {a.asname}" for a in node.names if a.asname and a.name in ("pickle", "torch", "yaml", "dill")]
    assert hidden == []


class Bomb:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_with_pickled_weights_is_refused_and_not_opened(tmp_path):
    import pickle

    folder, mark = tmp_path / "whisper", tmp_path / "ran"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match=r"pickled weights \(pytorch_model\.bin\) are not read, since loading them can run code"):
        checkpoint.check(folder)
    assert not mark.exists()


def test_a_training_state_that_runs_code_is_no_state(tmp_path):
    import torch

    from asum_lib.training import state

    mark = tmp_path / "ran"
    resume = state.Resume(tmp_path, "key")
    torch.save({"plain": Bomb(mark)}, resume.path)
    assert state.restore(resume, None, None, None) is None
    assert not mark.exists()


def test_cached_features_that_run_code_are_not_loaded(tmp_path):
    """numpy's own rule, which the cache of features relies on."""
    mark = tmp_path / "ran"
    np.savez(tmp_path / "index.npz", starts=np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with np.load(tmp_path / "index.npz") as index, pytest.raises(ValueError, match="allow_pickle"):
        index["starts"]
    assert not mark.exists()


# Paths out of a folder ------------------------------------------------------------------------------------------------------

ESCAPES = ["../outside.wav", "{outside}", "link.wav", "down/../../outside.wav", "linked/outside.wav"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder for a manifest; beside it audio that is nobody's business, and links to it within."""
    import soundfile

    folder = tmp_path / "corpus"
    (folder / "down").mkdir(parents=True)
    for path in (tmp_path / "outside.wav", folder / "inside.wav"):
        soundfile.write(path, np.ones(16_000, np.float32) / 2, 16_000)
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "linked").symlink_to(tmp_path)
    return folder


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_manifest_names_no_file_outside_its_folder(folder, escape):
    shown = escape.format(outside=folder.parent / "outside.wav")
    line = json.dumps({"id": "a", "audio": shown, "text": "one"})
    (folder / "manifest.jsonl").write_text(line)
    with pytest.raises(InputError, match="leaves the manifest's folder"):
        manifest.read_manifest(folder / "manifest.jsonl", "test")


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_manifest_of_spoken_digits_names_no_file_outside_its_folder(folder, escape):
    shown = escape.format(outside=folder.parent / "outside.wav")
    names = [f"{digit}_{speaker}_{take}" for digit in range(10) for speaker in digits.SPEAKERS for take in range(50)]
    lines = [{"id": name, "audio": shown if name == "7_theo_12" else "inside.wav"} for name in names]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=r"line 2[0-9]{3}: .* leaves the manifest's folder"):
        digits.take_files(folder)


@pytest.mark.parametrize(
    "line", ["[]", "{}", '{"id": "0_theo_0"}', "no JSON", '{"id": ["x"], "audio": 3}', '{"id": "0_theo_0", "audio": "a\\u0000b"}']
)
def test_a_faulty_manifest_of_spoken_digits_is_refused_in_a_line(folder, line):
    (folder / "manifest.jsonl").write_text(line)
    with pytest.raises(InputError, match="line 1"):
        digits.take_files(folder)


@pytest.mark.parametrize("identity", ["../../evil", "/etc/evil", "a/b", "..", "a\0b"])
@pytest.mark.parametrize("path", ["../../evil.wav", "/etc/passwd", "x.so/../../y", None])
def test_parquet_is_unpacked_under_the_cache_alone(folder, tmp_path, monkeypatch, identity, path):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    row = {"id": identity, "audio": {"bytes": (folder / "inside.wav").read_bytes(), "path": path}, "text": "one"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "test.parquet")
    before = {entry for entry in tmp_path.rglob("*") if not entry.is_relative_to(tmp_path / "cache")}
    try:
        corpus = parquet.load_folder(folder, "test")
    except InputError:  # an id that cannot be used at all
        corpus = None
    assert {entry for entry in tmp_path.rglob("*") if not entry.is_relative_to(tmp_path / "cache")} == before
    assert corpus is None or all(utterance.audio.is_relative_to(tmp_path / "cache" / "corpora") for utterance in corpus.utterances)


@pytest.mark.parametrize("document", ["../outside.txt", "/etc/passwd", "file:///etc/passwd", "@/etc/passwd"])
def test_a_text_that_looks_like_a_path_is_a_text(tmp_path, document):
    (tmp_path / "own.jsonl").write_text(json.dumps({"id": "../../x", "text": document, "summary": document}))
    corpus = text_files.load_file(tmp_path / "own.jsonl", "test", "own", "en")
    assert corpus.documents[0].text == document


def test_shards_of_a_checkpoint_lie_in_its_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(InputError, match="no weight_map of weight names to files of this folder"):
        checkpoint.check(tmp_path)


@pytest.mark.parametrize("path", ["../outside.gz", "{outside}", "down/x.gz"])
def test_a_record_names_no_samples_outside_its_folder(tmp_path, path):
    shown = path.format(outside=tmp_path / "outside.gz")
    source = RESULTS / "mini" / "whisper_wer" / "whisper-tiny-fp32-none-s0.json"
    data = json.loads(source.read_text(encoding="utf-8"))
    packed = gzip.compress(b"{}\n")
    (tmp_path / "outside.gz").write_bytes(packed)
    data["samples"] |= {"path": shown, "sha256": hashlib.sha256(packed).hexdigest()}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / source.name).write_text(json.dumps(data))
    with pytest.raises(InputError, match="beside the record"):
        records.read_samples(tmp_path / "folder" / source.name)


def test_audio_is_read_by_its_content(tmp_path):
    """A playlist or a script with the name of a sound is no sound."""
    (tmp_path / "a.wav").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(InputError):
        audio.read_audio(tmp_path / "a.wav")


# HTML of others on a page ---------------------------------------------------------------------------------------------------

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPED = "&lt;script&gt;alert(1)"
CHOSEN = [  # records that the pages are made of, few of each kind
    "mini/whisper_wer/whisper-tiny-*-s0",
    "mini/whisper_source/whisper-tiny-*",
    "mini/whisper_digits/whisper-tiny-fp32-none-s0",
    "mini/learning_rates/whisper-tiny-*-s0",
    "mini/corpora/*-test*",
    "mini/rouge_wikihow/t5-mini-fp32-*-s0",
    "mini/rouge_wikihow/*lead3*",
    "mini/rouge_gazeta/mbart-mini-*-r16-s0",
    "mini/rouge_rates/*/t5*-lora-*",
    "paper/memory/whisper-small*",
    "paper/format_check*/*",
    "paper/rouge_ami/*",
]
LOOKED_UP = ("operators", "part")  # of bench.json and adapter_choices.json, by code
NAMED = {  # what of a cell can be a name that someone else chose, and in which tables
    "mini/whisper_wer": ("precision",),
    "mini/corpora": ("corpus",),
    "mini/rouge_wikihow": ("corpus", "precision"),
    "paper/memory": ("model", "size"),
    "paper/format_check_voxpopuli-dev": ("model", "precision"),
    "paper/format_check_long_text": ("model", "document"),
    "paper/rouge_ami": ("model",),
}


def evil(value):
    """A value of JSON with every text of it evil."""
    if isinstance(value, dict):
        return {key: entry if key in LOOKED_UP else EVIL if key == "reason" else evil(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [evil(entry) for entry in value]
    return value + EVIL if isinstance(value, str) else value


def evil_record(path: Path, to: Path, failed: bool = False, names: tuple[str, ...] = ()) -> None:
    """A copy of a record at `path` whose texts are evil, but for those that code looks up; `names` of its cell are too."""
    data = json.loads(path.read_text(encoding="utf-8"))
    times = {key: data["provenance"][key] for key in ("started_at", "finished_at")}
    data["provenance"] = evil(data["provenance"]) | times
    data["config"]["checkpoint_note"] = EVIL
    data["cell"] |= dict.fromkeys(names, EVIL)
    if data["status"] != "ok" or failed:
        counted = {name: metric for name, metric in data["metrics"].items() if name.endswith("accounted_bytes") or name == "weights_bytes"}
        data |= {"status": "failed", "reason": EVIL, "metrics": counted}
    for metric in data["metrics"].values():
        metric["signature"] += EVIL
    if names:  # a measurement of its own, where its cell belongs
        data["fingerprint"] += str(to)
        results = to.parents[2]
        for kind in rescoring.cells_of(data["table"]):
            if set(data["cell"]) == set(kind.__dataclass_fields__) - {"own"}:
                with suppress(InputError):
                    to = kind(**data["cell"]).path(results)
    to.parent.mkdir(parents=True, exist_ok=True)
    if data["samples"]:
        rows = map(json.loads, gzip.decompress((path.parent / data["samples"]["path"]).read_bytes()).decode().splitlines())
        said = [row | {key: row[key] + EVIL for key in ("reference", "hypothesis", "summary", "transcript", "heard") if row.get(key)} for row in rows]
        packed = gzip.compress("\n".join(map(json.dumps, said)).encode(), compresslevel=1)
        data["samples"] |= {"path": f"{to.stem}.samples.jsonl.gz", "sha256": hashlib.sha256(packed).hexdigest()}
        (to.parent / data["samples"]["path"]).write_bytes(packed)
    to.write_text(json.dumps(data))


def evil_talks(results: Path) -> None:
    """Records of speech summarisation with evil texts: a planned system of each kind, one that failed, and one that someone else named."""
    said = lambda talk: talk.transcript  # noqa: E731
    paths = write_system(results, "reference") + write_system(results, "cascade", right, misheard) + write_system(results, "e2e")
    for size in ("tiny", "base"):
        paths += write_system(results, "ladder", right, said, seeds=(0,), asr=size, precision="fp32", method="none")
    for system, heard in (("reference", None), ("cascade", said), ("e2e", None)):
        paths += write_system(results, system, right, heard, table=talk_cells.PROSODY, corpus="howto-stress")
    paths.append(write_cell(results, talk_cells.make_talk_cell("both", table=talk_cells.COST), cost_rows(0)))
    evil_record(paths[0], results / "mini" / "e2e" / "evil-s0.json", names=("system", "asr", "precision", "method"))
    for path in paths:
        evil_record(path, path)
    failed = write_system(results, "cascade", reason="made up", seeds=(0,), asr="tiny") + write_system(results, "lead3", reason="made up", seeds=(0,))
    for path in failed:
        evil_record(path, path)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Results as someone would hand them in who wants to run code in a reader's browser; the last record of each kind failed."""
    results = tmp_path_factory.mktemp("evil") / "results"
    for pattern in CHOSEN:
        *paths, last = sorted(RESULTS.glob(f"{pattern}.json"))
        for path in (*paths, last):
            evil_record(path, results / path.relative_to(RESULTS), failed=path is last or "int4" in path.name)
    for table, names in NAMED.items():
        first = min((results / table).glob("*.json"))
        evil_record(RESULTS / table / first.name, results / table / "evil-s0.json", names=names)
    evil_talks(results)
    claims = yaml.safe_load((REPOSITORY / "book" / "own_claims.yaml").read_text(encoding="utf-8"))
    for claim in claims["claims"]:
        claim |= {key: claim[key] + EVIL for key in ("id", "text", "where", "rule_text")}
    (results / "claims.yaml").write_text(json.dumps(claims))  # JSON is YAML
    for name in ("bench.json", "summarize.json", "adapter_choices.json"):
        (results / name).write_text(json.dumps(evil(json.loads((RESULTS / name).read_text(encoding="utf-8")))))
    for note in (CHECKPOINTS / "adapters").glob("*/asum_adapter.json"):
        (results / "adapters" / note.parent.name).mkdir(parents=True)
        (results / "adapters" / note.parent.name / note.name).write_text(json.dumps(evil(json.loads(note.read_text(encoding="utf-8")))))
    machine = dict.fromkeys(verified.MACHINE, EVIL) | {"packages": {EVIL: EVIL}}
    cell = verified.Remeasured("whisper_wer", EVIL, "drifted", EVIL, EVIL, EVIL, 1, 1, 2, 3, 10, EVIL, 3, 2, 1, 3, 5, 5)
    covered = dict.fromkeys((EVIL, *all_tables.kept("mini", results)), verified.Covered(1, EVIL, EVIL))
    lists = {"mismatches": [verified.Mismatch(EVIL, EVIL)], "notes": [EVIL], "cells": [cell]}
    said = dict.fromkeys(("command", "started_at", "finished_at"), EVIL)
    found = verified.Verification(verified.SCHEMA, "mini", ["whisper_wer"], 1, **said, machine=machine, rescored={EVIL: 1}, covered=covered, **lists)
    verified.write(found, results)
    return results


@pytest.fixture(scope="module")
def rows(results) -> dict:
    """What the notebooks give their tables and pictures: one measured row of each kind."""

    def found(folder, pattern):
        paths = tuple(sorted((results / "mini" / folder).glob(pattern)))
        assert paths, pattern
        return paths, tuple(map(records.read, paths))

    paths, measured = found("corpora", "news-ru-test.json")
    document = TextDocument(EVIL, EVIL, (EVIL, f"{EVIL} {EVIL}."), (EVIL,), (Fact("person", EVIL, True),))
    own = TextCorpus(EVIL, EVIL, "en", (document,), EVIL)
    cell = corpora_table.Cell(corpora_table.TABLE, "mini", EVIL, EVIL, None)
    memory = sorted((results / "paper" / "memory").glob("whisper-small*.json"))
    return {
        "render": whisper_quant.Row("tiny", "mini", "howto", *found("whisper_wer", "*.json")),
        "render_rates": learning_rates.Row("tiny", *found("learning_rates", "*.json")),
        "render_rouge": peft_rouge.Row("howto-text", "t5", "mini", *found("rouge_wikihow", "*.json")),
        "render_talk_row": e2e_summarization.Row("e2e", *found("e2e", "*.json")),
        "render_memory": memory_footprint.Row(EVIL, tuple(memory), tuple(map(records.read, memory))),
        "render_corpora": corpora_table.Row(cell, own, paths[0], measured[0]),
    }


MODULES = ["listen", *sorted(path.stem for path in (REPOSITORY / "asum_lib" / "study").glob("render*.py"))]
GIVEN = {  # what a function needs that has no default; where there are several, each in turn
    "listen.player": [{"count": 1}],
    "render_chance.chance_lines": [{"table": "whisper_wer"}],
    "render_ledger.claim_evidence": [{"identity": "A1"}, {"identity": "A6"}],
    "render_rates.forgetting_table": [{"method": "full"}],
    "render_rates.plot_curves": [{"method": "full"}],
    "render_rates.wer_table": [{"method": "full"}],
    "render_summarize.choices": [{"part": "hearer"}, {"part": "summarizer"}],
    "render_memory.peak_table": [{}, {"measured": False}],
    "render_memory.verdict": [{"identity": "A7"}],
    "render_rouge.all_cells": [{"table": "rouge_wikihow"}, {"table": "rouge_gazeta"}],
    "render_rouge.main_table": [{"table": "rouge_wikihow"}, {"table": "rouge_gazeta"}],
    "render.plot_curves": [{}],
    "render.in_language": [{"text": EVIL, "language": EVIL}],
    "render_rouge.samples": [{}],
    "render_rouge.plot_kept_ranks": [{"corpus": "howto-text", "model": "t5"}],
    "render_rouge.sample_rows": [{"corpus": "howto-text", "model": "t5"}],
    "render_corpora.marked": [{"summary": EVIL, "document_facts": (Fact("person", EVIL, True),), "lexicon": {"person": {EVIL: (EVIL.lower(),)}}}],
}
KNOWN = {"results", "row", "rows", "file"}
NO_DATA = {  # shows no text of others: what it is given is numbers, names that the code chose, or a paper's data file
    "render.configuration_name",  # a name for HTML and for figures, which escape it
    "render_consistency.check",
    "render_ledger.about",
    "render_ledger.doubts",
    "render_ledger.rule_note",
    "render_ledger.stated",
    "render_rouge.name_of",
    "listen.plot_signal",
    "render_corpora.swapped",
    "render_memory.account_table",
    "render_memory.agree",
    "render_memory.fit_table",
    "render_memory.plot_fit",
    "render_memory.layer_table",
    "render_memory.divisor_table",
}
SHOW = {  # functions that must have shown an evil text, escaped: else this test has not tried them
    "render.all_cells",
    "render.example",
    "render.in_language",
    "render.main_table",
    "render.row_table",
    "render_status.status",
    "render_corpora.document",
    "render_corpora.extractive_table",
    "render_corpora.marked",
    "render_corpora.row_statistics",
    "render_memory.measured_on",
    "render_memory.row_table",
    "render_ledger.claims_overview",
    "render_ledger.file_evidence",
    "render_loftq.rouge_table",
    "render_loftq.wer_table",
    "render_paper.bench_machine",
    "render_paper.bench_row",
    "render_paper.bench_transcription",
    "render_paper.format_check",
    "render_paper.verification_summary",
    "render_paper.verification_table",
    "render_rates.row_table",
    "render_rouge.all_cells",
    "render_rouge.main_table",
    "render_rouge.row_table",
    "render_rouge.sample_rows",
    "render_rouge.samples",
    "render_speech.long_text_table",
    "render_speech.meetings_table",
    "render_talk_errors.examples",
    "render_talks.all_cells",
    "render_talks.cost_table",
    "render_talks.differences_table",
    "render_talks.main_table",
    "render_summarize.adapters",
    "render_summarize.choices",
    "render_summarize.times",
}


def showing() -> dict:
    """{module.function: function} of what is shown and takes data: public functions of the render modules that return HTML.

    `NO_DATA` is left out, and what takes something else than records and has no line in `GIVEN`.
    """
    found = {}
    for module in (importlib.import_module(f"asum_lib.study.{name}") for name in MODULES):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            parameters = inspect.signature(function).parameters
            returns = inspect.signature(function).return_annotation
            if function.__module__ == module.__name__ and not name.startswith("_") and returns in (object, str) and set(parameters) - {"scale"}:
                found[f"{module.__name__.rsplit('.', 1)[1]}.{name}"] = function
    return {
        name: function for name, function in found.items() if name not in NO_DATA and (name in GIVEN or KNOWN & needed(function) == needed(function))
    }


def needed(function) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is parameter.empty}


def arguments(name: str, function, results: Path, rows: dict) -> list[dict]:
    """The keyword arguments to call a function of `showing` with."""
    module = name.split(".")[0]
    known = {"results": results, "folder": results / "adapters"}
    if name in ("render_ledger.claims_overview", "render_ledger.file_evidence"):
        known["file"] = results / "claims.yaml"
    if module in rows:
        row = rows[module]
        known["row"] = row
        if name == "render_corpora.facts":  # of a corpus whose facts are known
            known["row"] = replace(row, corpus=replace(row.corpus, name="howto-text", documents=(replace(row.corpus.documents[0], facts=()),)))
        if module in ("render", "render_rouge"):
            known["found"] = list(zip(row.paths, row.records, strict=True))
    if module in ("render_corpora", "render_memory"):
        known["rows"] = importlib.import_module(f"asum_lib.study.{module}").rows(results=results)
    parameters = inspect.signature(function).parameters
    usual = {key: value for key, value in known.items() if key in parameters}
    return [usual | given for given in GIVEN.get(name, [{}])]


def html_faults(html: str) -> list[str]:
    """Elements that an evil text has become; also of a table that a script on the page writes, whose cells stand in it as text."""
    soup = BeautifulSoup(html, "html.parser")
    faults = [str(tag)[:100] for tag in soup.find_all(True) if any(attribute.startswith("on") for attribute in tag.attrs)]
    faults += [str(tag)[:100] for tag in soup.find_all("script") if tag.get_text(strip=True) == "alert(1)"]
    return faults + re.findall(r"<script>alert.{9}|<img src=x.{9}", html)


@pytest.fixture(scope="module")
def shown(results, rows) -> dict[str, list]:
    """{module.function: its HTML, or why it failed} of every function of `showing`, made from evil records."""
    made = {}
    for name, function in showing().items():
        for given in arguments(name, function, results, rows):
            try:
                html = function(**given)
            except Exception as error:
                made.setdefault(name, []).append(error)
            else:
                made.setdefault(name, []).append(html if isinstance(html, str) else html.data)
    return made


@pytest.mark.parametrize(
    ("html", "safe"),
    [
        ("<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>", True),
        ('<p title="&quot;&gt;&lt;img src=x onerror=alert(1)&gt;">x</p>', True),
        ("<script>const table = 1</script>", True),
        ("<p><script>alert(1)</script></p>", False),
        ("<p><img src=x onerror=alert(1)></p>", False),
        ('<p title="" onclick="alert(1)">x</p>', False),
        ('<script>const cell = "<script>alert(1)<\\/script>"</script>', False),
    ],
)
def test_evil_html_is_told_from_its_text(html, safe):
    assert (html_faults(html) == []) == safe


@pytest.mark.parametrize("name", showing())
def test_what_a_page_shows_of_a_record_is_text(shown, name):
    for html in shown[name]:
        if isinstance(html, Exception):
            raise html
        assert html_faults(html) == []


def test_the_evil_texts_were_shown(shown):
    assert {name for name, made in shown.items() if any(ESCAPED in str(html) for html in made)} >= SHOW


def test_nothing_that_shows_records_is_left_out():
    """A new function that takes something else besides gets a line in `GIVEN`, or in `NO_DATA`."""
    left = set()
    for module in (importlib.import_module(f"asum_lib.study.{name}") for name in MODULES):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            signature = inspect.signature(function)
            shows = signature.return_annotation is object and {"results", "rows", "row"} & set(signature.parameters)
            if function.__module__ == module.__name__ and not name.startswith("_") and shows:
                left.add(f"{module.__name__.rsplit('.', 1)[1]}.{name}")
    assert left - set(showing()) - NO_DATA == set()


@pytest.mark.parametrize(
    "show",
    [
        lambda: worked.table((EVIL, EVIL), [(EVIL, 1)], EVIL),
        lambda: worked.grid((EVIL,), (EVIL,), [[1]], caption=EVIL),
        lambda: worked.agree({EVIL: (1.0, 1.0)}),
        lambda: teaching_wer.show_alignment(f"{EVIL} one", f"two {EVIL}"),
        lambda: teaching_wer.show_costs(EVIL, EVIL),
        lambda: teaching_rouge.show_tokens(EVIL),
        lambda: teaching_rouge.show_ngrams(EVIL, EVIL, 1),
        lambda: teaching_rouge.show_lcs(EVIL, EVIL),
    ],
)
def test_words_in_a_chapter_are_text(show):
    assert html_faults(show().data) == []
