"""What code a measurement rests on, and what of it is other code now than when a record was made.

From the module that measures a table, every definition that it can reach inside `asum_lib` is followed by name (functions, classes,
constants), through imports wherever they stand, with the data files that those modules name. Definitions are compared as syntax
trees without docstrings: comments, layout and documentation change nothing, nor does what a module does for others. Files that only
fetch, store and complain (`BESIDE`) are left out: no value comes from them. So is what scores samples, since that is done again.

`digest` goes into a new record. `changes` holds a record against the code of today, through the repository's history; where that is
not at hand, or the code of a record was never committed, the answer is None, which is unknown and not "nothing".
"""

import ast
import hashlib
import re
import subprocess
from collections import defaultdict
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from asum_lib.paths import REPOSITORY

PACKAGE = "asum_lib"
FOLDER = Path(__file__).resolve().parents[1]  # the package as it lies here
BESIDE = tuple(f"{PACKAGE}/{name}" for name in ("errors.py", "paths.py", "hub.py", "study/records.py", "study/measuring_code.py"))
# What scores samples: `asum rescore` brings every record to the scores of today, and a test holds all of them to it.
SCORING = ("measure/stats.py", "measure/wer.py", "measure/rouge.py", "measure/summaries.py", "corpora/speakers.py")
SCORING += tuple(f"study/{name}.py" for name in ("units", "scores", "speech_scores", "text_scores", "talk_scores", "text_tables"))
BESIDE += tuple(f"{PACKAGE}/{name}" for name in SCORING)
DATA = (".yaml", ".json")
ALL = "*"  # every definition of a file
AT_IMPORT = ""  # what a module runs when it is imported, and the whole of a data file
COMMIT = "[0-9a-f]{40}|[0-9a-f]{64}"  # nothing else goes to git, whatever a record says
SOON = 10  # commits in which what was uncommitted when a record was made is looked for
Part = tuple[str, str]  # (file, name of a definition in it)
Files = dict[str, str]  # path from the repository's top: git's name of the content


def digest(module: str | None = None) -> str:
    """SHA-256 of the code that a module measures with, such as `asum_lib.study.run`; of the whole package by default."""
    return _digest(_path(module), _Today)


def changes(module: str, provenance: dict) -> tuple[str, ...] | None:
    """The definitions that `module` measures with and that are others than when a record of this provenance was made.

    Names such as `measure/wer.py: count_errors`, in order; empty where nothing changed. None where the history does not tell.
    """
    if provenance["code_digest"] == digest(module):
        return ()
    commit = _commit_of(_path(module), *(str(provenance[key]) for key in ("code_digest", "git_commit")), provenance["git_dirty"] is not False)
    return None if commit is None else _changes_since(_path(module), commit)


@cache
def _changes_since(path: str, commit: str) -> tuple[str, ...]:
    then, now = _files_at(commit), _files_today()
    changed = []
    for (file, name), known in _reached(path, _Today).items():
        if then.get(file) == now[file]:
            continue
        before = _definition(then[file], file, name) if file in then else None
        if before != known and not (before is None and _stands_elsewhere(commit, name, known)):
            changed.append(f"{file.removeprefix(f'{PACKAGE}/')}{f': {name}' if name else ''}")
    return tuple(sorted(changed))


def _stands_elsewhere(commit: str, name: str, known: str) -> bool:
    """Whether a definition that is not in this file yet was another file's: it has moved and says the same."""
    named = (blob for file, blob in _files_at(commit).items() if file.endswith(".py") and name.encode() in _content(blob))
    return any(_definition(blob, "elsewhere.py", name) == known for blob in named)


@cache
def _commit_of(path: str, code_digest: str, commit: str, dirty: bool) -> str | None:
    """The commit whose code a record was made with: its own if nothing was uncommitted, else the first from there on of its digest."""
    if not re.fullmatch(COMMIT, commit) or not _files_at(commit):
        return None
    if not dirty:
        return commit
    later = (_git("rev-list", "--reverse", "--ancestry-path", f"{commit}..HEAD") or b"").decode().split()
    return next((one for one in (commit, *later[:SOON]) if code_digest == (_listed_digest(one) or _digest(path, one))), None)


class _Today:
    """Stands for the files as they lie here, where else a commit is named."""


def _files(at) -> Files:
    return _files_today() if at is _Today else _files_at(at)


@cache
def _files_today() -> Files:
    found = {}
    for path in sorted(path for path in FOLDER.rglob("*") if path.suffix in (".py", *DATA)):
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names it
        found[f"{PACKAGE}/{path.relative_to(FOLDER).as_posix()}"] = blob
        _CONTENT[blob] = content
    return found


@cache
def _files_at(commit: str) -> Files:
    """The package's files in a commit; empty where the repository or the commit is not here."""
    lines = (_git("ls-tree", "-r", commit, f"{PACKAGE}/") or b"").decode().splitlines()
    named = (line.partition("\t")[::2] for line in lines)
    found = {file: about.split()[2] for about, file in named if file.endswith((".py", *DATA))}
    _fetch(found.values())
    return found


_CONTENT: dict[str, bytes] = {}  # of the files of today, which git may not know yet


def _content(blob: str) -> bytes:
    if blob not in _CONTENT:
        _fetch([blob])
    return _CONTENT[blob]


def _fetch(blobs) -> None:
    """Read contents from git, all in one call: `<name> blob <size>`, a line end, the content, a line end, for each."""
    wanted = [blob for blob in dict.fromkeys(blobs) if blob not in _CONTENT]
    left = _git("cat-file", "--batch", given="\n".join(wanted).encode()) if wanted else b""
    for blob in wanted:
        head, _, rest = (left or b"").partition(b"\n")
        size = int(head.split()[2])
        _CONTENT[blob], left = rest[:size], rest[size + 1 :]


def _git(*arguments: str, given: bytes = b"") -> bytes | None:
    try:
        return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], input=given, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _tree(blob: str) -> ast.Module:
    tree = ast.parse(_content(blob))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


@cache
def _statements(blob: str) -> dict[str, list[ast.stmt]]:
    """{name: the statements at the top of a module that define it}; imports are followed, not counted."""
    found = defaultdict(list)
    for statement in _tree(blob).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name].append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for name in [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)] or [AT_IMPORT]:
                found[name].append(statement)
        elif not isinstance(statement, ast.Import | ast.ImportFrom):
            found[AT_IMPORT].append(statement)
    return dict(found)


@cache
def _definition(blob: str, file: str, name: str) -> str | None:
    """Digest of one definition of a file, None where it has none of this name; a data file is one definition."""
    if not file.endswith(".py"):
        return blob if name == AT_IMPORT else None
    statements = _statements(blob).get(name)
    return statements and hashlib.sha256("".join(map(ast.dump, statements)).encode()).hexdigest()


def _names(blob: str, file: str) -> list[str]:
    return list(_statements(blob)) if file.endswith(".py") else [AT_IMPORT]


@cache
def _reached(path: str, at) -> dict[Part, str]:
    """{part: digest} of everything that a file reaches in the files of `at`, itself included; of the whole package for an empty path."""
    files, found = _files(at), {}
    if not path:
        return {(file, name): _definition(files[file], file, name) for file in files for name in _names(files[file], file)}
    waiting = [(path, ALL)]
    seen = set(waiting)
    while waiting:
        file, name = waiting.pop()
        if file not in files or file in BESIDE:
            continue
        if known := _definition(files[file], file, name):
            found[file, name] = known
        more = {(file, AT_IMPORT), *_data_of(file, at)}
        if name == ALL:
            more |= {(file, other) for other in _names(files[file], file)}
        elif file.endswith(".py"):
            more |= _uses(file, name, at)
        waiting += more - seen
        seen |= more
    return found


def _uses(file: str, name: str, at) -> set[Part]:
    """What one definition of a file refers to; of a name that the file only imports, where it comes from."""
    statements, imported = _statements(_files(at)[file]), _imported(file, at)
    if name not in statements:
        return imported.get(name, set())
    found, taken = set(), set()
    for node in (node for statement in statements[name] for node in ast.walk(statement)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):  # walked before the name that it stands on
            modules = {part for part in imported.get(node.value.id, ()) if part[1] == ALL}
            found |= {(module, node.attr) for module, _ in modules}
            taken |= {node.value} if modules else set()
        elif isinstance(node, ast.Name) and node not in taken:
            found |= imported.get(node.id, set()) | ({(file, node.id)} if node.id in statements else set())
    return found


@cache
def _imported(file: str, at) -> dict[str, set[Part]]:
    """{name: parts} that the imports of a module bring, wherever in it they stand; a whole module is its part ALL.

    Where a module imports by a name that it computes, every text in it that names a module of the package counts.
    """
    found, files = defaultdict(set), _files(at)
    for node in ast.walk(_tree(files[file])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                whole = _file_of(f"{node.module}.{alias.name}", files)
                part = (whole, ALL) if whole else (_file_of(node.module, files) or "", alias.name)
                found[alias.asname or alias.name].add(part)
        elif isinstance(node, ast.ImportFrom) and node.module == "importlib" and any(alias.name == "import_module" for alias in node.names):
            folder = file.rpartition("/")[0].replace("/", ".")
            named = {_file_of(f"{folder}.{text}", files) for text in _texts(files[file])} - {None, file}
            found["import_module"] |= {(one, ALL) for one in named}
    return found


@cache
def _texts(blob: str) -> frozenset[str]:
    return frozenset(node.value for node in ast.walk(_tree(blob)) if isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def _data_of(file: str, at) -> set[Part]:
    """The data files beside a module that it names, in whole or by their suffix."""
    if not file.endswith(".py"):
        return set()
    files, folder, own = _files(at), file.rpartition("/")[0], file.removesuffix(".py")
    named = {own + text if text in DATA else f"{folder}/{text}" for text in _texts(files[file]) if text.endswith(DATA)}
    return {(one, AT_IMPORT) for one in named if one in files}


def _path(module: str | None) -> str:
    return f"{module.replace('.', '/')}.py" if module else ""


def _file_of(module: str, files: Files) -> str | None:
    path = module.replace(".", "/")
    return next((one for one in (f"{path}.py", f"{path}/__init__.py") if one in files), None)


@cache
def _digest(path: str, at) -> str:
    lines = "".join(f"{file}\0{name}\0{known}\n" for (file, name), known in sorted(_reached(path, at).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@cache
def _listed_digest(commit: str) -> str | None:
    """The digest as records had it at a commit whose `records` listed the measuring files by pattern: names and bytes of all of them."""
    files = _files_at(commit)
    blob = files.get(f"{PACKAGE}/study/records.py")
    listed = _statements(blob).get("MEASURING") if blob else None
    if not listed:
        return None
    patterns = [pattern for statement in listed for pattern in ast.literal_eval(statement.value)]
    whole = hashlib.sha256()
    for path in sorted(Path(file).relative_to(PACKAGE) for file in files):
        name = path.as_posix()
        if any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns):
            whole.update(f"{name}\0".encode())
            whole.update(hashlib.sha256(_content(files[f"{PACKAGE}/{name}"])).digest())
    return whole.hexdigest()
