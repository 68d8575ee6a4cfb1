"""The Hub's repositories at scale paper: which revision, which files, where they lie, and whether they are whole.

`hub.yaml` pins a repository, or a part of one, to a revision. What it does not pin is resolved at the first fetch and written to
`hub.lock.yaml` in the study's cache folder, so that it is pinned from then on. `fetch` is the only thing in the study that
downloads; `snapshot` finds what was fetched, without network, and all loaders go through it. The files lie in the ordinary
Hugging Face cache (`$HF_HOME`), which other programs share. What the files mean is left to `models` and `corpora`.
"""

import re
import shutil
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from asum_lib import hub_cache, paths, reading
from asum_lib.errors import InputError
from asum_lib.files import write_whole
from asum_lib.hub_cache import COMMIT, File, HubError
from asum_lib.hub_cache import folder as cache_folder

PINS = Path(__file__).with_name("hub.yaml")
_ADDRESS = re.compile(r"(datasets/)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")
# Of a repository that hub.yaml does not name, only these are fetched: weights never as pickle.
_ANY_MODEL = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")
_ANY_DATASET = ("*.parquet", "*.json", "*.jsonl", "*.txt")


class _Unreachable(HubError):
    """The Hub did not answer, so there is no use in asking it for the next repository."""


@dataclass(frozen=True)
class Repository:
    """A repository and what of it is wanted.

    Two of one `repo_id` and revision are parts of it, and lie in one snapshot folder. `kind` is model or dataset. `revision` is
    a commit hash, else a branch or tag; None is the branch main. Each of the patterns in `required` must find a file; what
    `optional` finds is fetched too. `pinned` are the files known beforehand.
    """

    name: str
    repo_id: str
    kind: str
    revision: str | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    pinned: tuple[File, ...] = ()
    gated: bool = False
    source: str | None = None

    @property
    def asked(self) -> str:
        return self.revision or "main"

    @property
    def address(self) -> str:
        return f"datasets/{self.repo_id}" if self.kind == "dataset" else self.repo_id

    @property
    def key(self) -> str:
        """What the lock knows it by, together with all other parts of the repository."""
        return f"{self.address}@{self.asked}"

    def wants(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in (*self.required, *self.optional))

    def unmet(self, names: Iterable[str]) -> list[str]:
        """The patterns in `required` that no name matches."""
        names = list(names)
        return [pattern for pattern in self.required if not any(fnmatchcase(name, pattern) for name in names)]


@dataclass(frozen=True)
class Outcome:
    """What became of one repository: its snapshot folder (None where there is none), and a line a fault."""

    repository: Repository
    folder: Path | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    repository: Repository
    commit: str
    files: tuple[File, ...]
    missing: tuple[File, ...]


@dataclass(frozen=True)
class _Locked:
    commit: str
    files: tuple[File, ...]

    def __post_init__(self):
        hub_cache.commit_of(self.commit)


def repositories() -> tuple[Repository, ...]:
    """The pinned repositories, in the order of `hub.yaml`."""
    import yaml

    entries = yaml.safe_load(PINS.read_text(encoding="utf-8"))
    return tuple(
        Repository(
            name,
            required=tuple(entry.pop("required")),
            optional=tuple(entry.pop("optional", ())),
            pinned=tuple(File(path, **known) for path, known in entry.pop("pinned", {}).items()),
            **entry,
        )
        for name, entry in entries.items()
        if not name.startswith("_")  # what entries share
    )


def find(name: str) -> Repository:
    """The repository called `name`: a short name, or `owner/name` with or without `@revision`; `datasets/owner/name` for a data set.

    Of a repository that is pinned in parts, `owner/name` is the first. Raises InputError listing the short names.
    """
    pins = repositories()
    for repository in pins:
        if name == repository.name:
            return repository
    if not (match := _ADDRESS.fullmatch(name)) or ".." in name:
        raise InputError(f"unknown repository {name!r}: choose from {', '.join(r.name for r in pins)}, all, or give owner/name[@revision]")
    dataset, repo_id, revision = match.groups()
    for repository in pins:
        if repository.repo_id == repo_id:
            if revision in (None, repository.revision):
                return repository
            return replace(repository, name=name, revision=revision, pinned=(), source=None)
    if dataset:
        return Repository(name, repo_id, "dataset", revision, ("*.parquet",), _ANY_DATASET)
    return Repository(name, repo_id, "model", revision, ("config.json",), _ANY_MODEL)


def snapshot(repo_id: str) -> Path:
    """Folder of the fetched files of `repo_id` (any name that `find` knows), at its pinned revision. No network.

    A repository that is not pinned is taken at the revision that the lock or the cache holds for its branch.
    Raises InputError where it is not fetched, or only in part.
    """
    repository = find(repo_id)
    folder = _folder(repository)
    if folder is None or not folder.is_dir():
        at = f" at revision {_short(repository.revision)}" if repository.revision else ""
        raise InputError(f"{repository.repo_id}{at} is not fetched: run `asum fetch {repository.name}`")
    locked = _locked(repository)
    sizes = {file.path: file.size_bytes for file in (locked.files if locked else repository.pinned)}
    whole = [path for path in _present(repository) if (folder / path).is_file() and sizes.get(path) in (None, hub_cache.size(folder / path))]
    if lacking := list(dict.fromkeys([*(path for path in sizes if path not in whole), *repository.unmet(whole)])):
        raise InputError(f"{repository.repo_id} is not fetched as a whole ({_some(lacking)} missing): run `asum fetch {repository.name}`")
    return folder


def revision(folder: str | Path) -> str | None:
    """Commit hash of `folder` if it is a snapshot in a Hugging Face cache, else None."""
    folder = Path(folder).absolute()
    if folder.parent.name != "snapshots" or not folder.parent.parent.name.startswith(("models--", "datasets--")):
        return None
    return folder.name if COMMIT.fullmatch(folder.name) else None


def listing() -> list[dict[str, str]]:
    """Name, repository, revision, size and whereabouts of every pinned repository, for people. `here` is `fetched`, `in part` or `no`."""
    rows = []
    for repository in repositories():
        size_bytes, is_all = _known_bytes(repository)
        size = megabytes(size_bytes) if is_all else f"more than {megabytes(size_bytes)}" if size_bytes else "not known before the fetch"
        row = {"name": repository.name, "repository": repository.repo_id, "revision": _short(repository.asked)}
        rows.append(row | {"size": size, "here": _state(repository)})
    return rows


def _short(revision: str) -> str:
    """A commit by its first digits, a branch or tag in full."""
    return revision[:8] if COMMIT.fullmatch(revision) else revision


def _known_bytes(repository: Repository) -> tuple[int, bool]:
    """Bytes of the files whose size is known, and whether that is all that weighs."""
    if locked := _locked(repository):
        return sum(file.size_bytes for file in locked.files), True
    weighs = [name for name in repository.required if name.endswith((".safetensors", ".parquet"))]
    sizes = {file.path: file.size_bytes for file in repository.pinned if file.size_bytes is not None}
    return sum(sizes.values()), bool(weighs) and all(name in sizes for name in weighs)


def _state(repository: Repository) -> str:
    try:
        snapshot(repository.name)
    except InputError:
        return "in part" if _present(repository) else "no"
    return "fetched"


def check(names: Iterable[str], progress: Callable[[str], None] = lambda line: None) -> list[Outcome]:
    """Hold size and hash of every fetched file of `names` against the pins, the lock, or the name of its blob. No network.

    Nothing is changed. With `all`, what is not fetched is left out. A blob of the cache is named by what the Hub said its
    content is: the sha256 of a large file, git's sha1 of a small one.
    """
    outcomes = []
    names = list(names)
    for repository in _choose(names):
        folder = _folder(repository)
        if not _present(repository):
            if "all" not in names:
                outcomes.append(Outcome(repository, None, faults=(f"{repository.repo_id} is not fetched: run `asum fetch {repository.name}`",)))
            continue
        files = _expected(repository)
        progress(_summary(repository, folder, files))
        faults = [f"{repository.repo_id}: {fault}" for file in files if (fault := hub_cache.fault(folder / file.path, file))]
        faults += [f"{repository.repo_id}: {pattern} is missing" for pattern in repository.unmet(file.path for file in files)]
        if faults:
            faults[-1] += f"; run `asum fetch {repository.name}` to repair"
        outcomes.append(Outcome(repository, folder, tuple(faults)))
    return outcomes


def fetch(names: Iterable[str], progress: Callable[[str], None] = lambda line: None) -> list[Outcome]:
    """Download `names` (short names, `owner/name[@revision]`, or `all`) into the Hugging Face cache, and check every file.

    Files that are there and whole are kept; files that are there and damaged are downloaded anew; a file that was cut off goes
    on where it stopped. A file that arrives other than it should be is removed and is a fault of its repository: a second fetch
    asks for it again. With everything there, no network is needed. Raises InputError for an unknown name, and HubError where the
    disk is too small (before anything is downloaded).
    """
    outcomes, plans, unreachable = {}, [], None
    chosen = _choose(names)
    for repository in chosen:
        try:
            plans.append(_plan(repository, unreachable, progress))
        except HubError as error:
            unreachable = error if isinstance(error, _Unreachable) else unreachable
            outcomes[repository] = Outcome(repository, None, faults=(f"{repository.repo_id}: {error}",))
    _require_space(plans)
    for plan in plans:
        outcomes[plan.repository] = _carry_out(plan, progress)
    return [outcomes[repository] for repository in chosen]


def _choose(names: Iterable[str]) -> list[Repository]:
    chosen = {}
    for name in names:
        for repository in repositories() if name == "all" else [find(name)]:
            chosen.setdefault((repository.key, repository.required), repository)
    return list(chosen.values())


def _storage(repository: Repository) -> Path:
    return cache_folder() / f"{repository.kind}s--{repository.repo_id.replace('/', '--')}"


def _folder(repository: Repository) -> Path | None:
    """Where the snapshot lies or would lie; None where no revision is known."""
    commit = repository.asked if COMMIT.fullmatch(repository.asked) else None
    if commit is None and (locked := _locked(repository)):
        commit = locked.commit
    commit = commit or hub_cache.read_ref(_storage(repository), repository.asked)
    return _storage(repository) / "snapshots" / commit if commit else None


def _present(repository: Repository) -> list[str]:
    """The wanted files in the snapshot folder; also those whose blob is gone, so that they are missed."""
    folder = _folder(repository)
    links = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()] if folder else []
    names = (path.relative_to(folder).as_posix() for path in links)
    return sorted(name for name in names if repository.wants(name) and hub_cache.is_inner_path(name))


def _expected(repository: Repository) -> list[File]:
    """The files that should be there: as locked, else those that are there; what is pinned is as pinned."""
    pins = {file.path: file for file in repository.pinned}
    locked = _locked(repository)
    files = locked.files if locked else [File(path) for path in sorted({*pins, *_present(repository)})]
    return [replace(file, **{k: v for k, v in vars(pins.get(file.path, file)).items() if v is not None}) for file in files]


def _summary(repository: Repository, folder: Path, files: Iterable[File]) -> str:
    sizes = [hub_cache.size(folder / file.path) for file in files]
    return f"{repository.repo_id}: {len(sizes)} files, {megabytes(sum(sizes))}"


def _plan(repository: Repository, unreachable: HubError | None, progress: Callable[[str], None]) -> _Plan:
    """What is to be there and what is missing. Raises HubError."""
    locked = _lock(repository, unreachable)
    _hold_against_pins(repository, locked.files)
    folder = _storage(repository) / "snapshots" / locked.commit
    if any((folder / file.path).is_file() for file in locked.files):
        progress(f"{repository.repo_id}: checking what is there")
    missing = []
    for file in locked.files:
        path = folder / file.path
        if fault := hub_cache.fault(path, file):
            if reason := hub_cache.foreign(_storage(repository), path):
                raise HubError(f"{fault}: {reason}")
            if path.is_file():
                progress(f"{repository.repo_id}: {fault}: to be fetched anew")
            missing.append(file)
    if missing and unreachable:
        raise unreachable
    return _Plan(repository, locked.commit, locked.files, tuple(missing))


def _lock(repository: Repository, unreachable: HubError | None) -> _Locked:
    """The commit and files of `repository`: as locked, else as the Hub says now, which is then locked."""
    if locked := _locked(repository):
        return locked
    try:
        if unreachable:
            raise unreachable
        locked = _ask(repository)
    except _Unreachable as error:
        try:
            folder = snapshot(repository.name)  # a cache that was copied here without the lock is as good
        except InputError:
            raise error from None
        return _Locked(folder.name, tuple(_expected(repository)))
    _write_lock(repository.key, locked)
    if not COMMIT.fullmatch(repository.asked):  # so that the cache, copied elsewhere without the lock, says it too
        hub_cache.write_ref(_storage(repository), repository.asked, locked.commit)
    return locked


def _hold_against_pins(repository: Repository, files: Iterable[File]) -> None:
    by_path = {file.path: file for file in files}
    for pin in repository.pinned:
        file = by_path.get(pin.path, File(pin.path))
        for what in ("size_bytes", "sha256"):
            stated, said = getattr(pin, what), getattr(file, what)
            if stated is not None and stated != said:
                raise HubError(f"{pin.path} has {what} {said} on the Hub, {stated} in {PINS.name}: nothing is downloaded")


def _ask(repository: Repository) -> _Locked:
    """The commit and the wanted files, as the Hub gives them. Raises HubError."""
    with _explained(repository):
        from huggingface_hub import HfApi

        info = HfApi(library_name="asum").repo_info(
            repository.repo_id, repo_type=repository.kind, revision=repository.revision, files_metadata=True, timeout=30
        )
    if COMMIT.fullmatch(repository.asked) and info.sha != repository.asked:
        raise HubError(f"revision {repository.asked} was asked for and the Hub answered with {info.sha!r}")
    try:
        files = [_file(sibling) for sibling in info.siblings or () if repository.wants(sibling.rfilename)]
        locked = _Locked(info.sha, tuple(sorted(files, key=lambda file: file.path)))
    except ValueError as error:
        raise HubError(f"the Hub's answer is not to be trusted: {error}: nothing is downloaded") from None
    if unmet := repository.unmet(file.path for file in files):
        raise HubError(f"revision {info.sha[:8]} has no {_some(unmet)}")
    if repository.kind == "model" and not any(file.path.endswith(".safetensors") for file in files):
        raise HubError(f"revision {info.sha[:8]} has no model.safetensors (pickled weights are not fetched)")
    if odd := [file.path for file in files if file.size_bytes is None or not file.digest]:
        raise HubError(f"the Hub gives no size or no hash of {_some(odd)}: nothing is downloaded")
    return locked


def _file(sibling) -> File:
    """What the Hub says of one file. Raises ValueError for what is no name, size or hash."""
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return File(sibling.rfilename, sibling.size, sha256, None if sha256 else sibling.blob_id)


def _carry_out(plan: _Plan, progress: Callable[[str], None]) -> Outcome:
    repository, folder = plan.repository, _storage(plan.repository) / "snapshots" / plan.commit
    faults = []
    for file in plan.missing:
        progress(f"{repository.repo_id}: {file.path}, {megabytes(file.size_bytes)}")
        try:
            with _explained(repository):
                fault = _download(repository, plan.commit, file)
        except _Unreachable as error:
            faults.append(f"{repository.repo_id}: {file.path}: {error}")
            break
        except HubError as error:
            faults.append(f"{repository.repo_id}: {file.path}: {error}")
            continue
        if fault:
            faults.append(f"{repository.repo_id}: {fault}: removed; run `asum fetch {repository.name}` again")
    if not faults:
        done = f"{len(plan.missing)} fetched" if plan.missing else "nothing to fetch"
        progress(f"{_summary(repository, folder, plan.files)}, all as they should be; {done}")
    return Outcome(repository, folder if folder.is_dir() else None, tuple(faults))


def _download(repository: Repository, commit: str, file: File) -> str | None:
    """One file into the cache; returns what is wrong with what came. A part that an earlier run left behind is completed, not begun anew."""
    from huggingface_hub import file_download
    from huggingface_hub.utils import build_hf_headers

    def download(stream) -> None:
        file_download.http_get(
            file_download.hf_hub_url(repository.repo_id, file.path, repo_type=repository.kind, revision=commit),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(library_name="asum") | {"Accept-Encoding": "identity"},
            expected_size=file.size_bytes,
            displayed_filename=file.path,
        )

    return hub_cache.store(_storage(repository), commit, file, download)


def _require_space(plans: list[_Plan]) -> None:
    """Raises HubError if the disk of the cache is too small for all that is missing."""
    needed = 0
    for plan in plans:
        storage = _storage(plan.repository)
        needed += sum(max(file.size_bytes - hub_cache.begun(storage, file), 0) for file in plan.missing)
    place = cache_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise HubError(
            f"{megabytes(needed)} to download and {megabytes(free)} free at {cache_folder()}: free {megabytes(needed - free)} there, "
            "or let HF_HOME name a folder on a larger disk; nothing was downloaded"
        )


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    """Turns what huggingface_hub raises into a HubError of one line."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository.address}"
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # an answer or an address that makes no sense shows as whatever its use raises
        if isinstance(error, errors.OfflineModeIsEnabled):
            raise _Unreachable("HF_HUB_OFFLINE is set, and not all of it is there: unset it to download") from None
        if isinstance(error, errors.GatedRepoError):
            raise HubError(f"it is gated: accept its conditions at {page}, then log in with `hf auth login` or set HF_TOKEN") from None
        if isinstance(error, errors.RevisionNotFoundError):
            raise HubError(f"the Hub has no revision {repository.asked} of it") from None
        if isinstance(error, errors.RepositoryNotFoundError):
            raise HubError(f"not found as a {repository.kind} at {page}, or private: check the name, or log in with `hf auth login`") from None
        if isinstance(error, errors.HfHubHTTPError):
            status = error.response.status_code
            advice = f"log in with `hf auth login`, and see {page}" if status in (401, 403) else "try again later"
            raise HubError(f"the Hub answered with status {status}: {advice}") from None
        if isinstance(error, (errors.HTTPError, ConnectionError, TimeoutError)):
            proxy = ", the proxy that HTTPS_PROXY or HTTP_PROXY names," if {"http", "https", "all"} & set(urllib.request.getproxies()) else ","
            raise _Unreachable(f"cannot reach {constants.ENDPOINT} ({type(error).__name__}): check the network{proxy} or HF_ENDPOINT") from None
        if isinstance(error, OSError):
            raise HubError(" ".join(str(error).split())) from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HubError(
            f"cannot talk to {constants.ENDPOINT} ({reason}): check HF_ENDPOINT, and the proxy that HTTPS_PROXY names if there is one"
        ) from None


def _lock_path() -> Path:
    return paths.cache() / "hub.lock.yaml"


def _locked(repository: Repository) -> _Locked | None:
    """What an earlier fetch found of it; None where it is a part that no fetch has asked for."""
    if (entry := _read_lock().get(repository.key)) is None:
        return None
    files = tuple(file for file in entry.files if repository.wants(file.path))
    return None if repository.unmet(file.path for file in files) else _Locked(entry.commit, files)


def _read_lock() -> dict[str, _Locked]:
    """What earlier fetches found, by `owner/name@revision`, with `datasets/` before it for a data set."""
    import yaml

    path = _lock_path()
    if not path.is_file():
        return {}
    try:
        entries = reading.read_yaml(path) or {}
        return {
            key: _Locked(entry["revision"], tuple(File(name, **known) for name, known in entry["files"].items())) for key, entry in entries.items()
        }
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path} is damaged: remove it, and run `asum fetch` again") from None


def _write_lock(key: str, locked: _Locked) -> None:
    """Add what was found to what is known of the same commit: other parts of the repository."""
    import yaml
    from huggingface_hub.utils import WeakFileLock

    path = _lock_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(f"{path}.lock"):
        entries = _read_lock()
        known = entries.get(key, locked)
        files = {file.path: file for file in (*(known.files if known.commit == locked.commit else ()), *locked.files)}
        entries[key] = _Locked(locked.commit, tuple(files[path] for path in sorted(files)))
        plain = {
            name: {
                "revision": entry.commit,
                "files": {f.path: {k: v for k, v in vars(f).items() if k != "path" and v is not None} for f in entry.files},
            }
            for name, entry in sorted(entries.items())
        }
        text = "# Written by `asum fetch`: the revisions and files that the Hub gave. Remove an entry to resolve it anew.\n"
        write_whole(path, (text + yaml.safe_dump(plain, sort_keys=False)).encode())


def megabytes(size_bytes: int) -> str:
    """A size for people: `151 MB`, `6.17 GB`, `2.0 kB` (powers of ten)."""
    for unit, worth in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= worth:
            return f"{size_bytes / worth:.3g} {unit}"
    return f"{size_bytes} bytes"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
