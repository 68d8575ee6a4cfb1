"""One environment: pyproject.toml says what is needed, requirements.lock, constraints.txt and environment.yml which version."""

import ast
import importlib.metadata
import json
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from asum_lib.paths import REPOSITORY

CHOSEN = "jupyterlab jupyter-book papermill torch transformers peft bitsandbytes datasets evaluate matplotlib seaborn".split()
OUTSIDE = ("cluster",)  # extras that the study itself does not need, and so the lock does not have


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needed() -> list[Requirement]:
    extras = [lines for extra, lines in project()["optional-dependencies"].items() if extra not in OUTSIDE]
    return [Requirement(line) for line in project()["dependencies"] + [line for extra in extras for line in extra]]


def locked() -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, version, _ in entries()}


def entries() -> list[tuple[str, str, list[str]]]:
    """Name, version and hashes of each package in the lock."""
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found = [re.fullmatch(r"(\S+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})*)\s*", line) for line in lines]
    return [(match[1], match[2], match[3].split()) for match in found]


def conda() -> list:
    return yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))["dependencies"]


def conda_pip() -> list[str]:
    return next(entry["pip"] for entry in conda() if isinstance(entry, dict))


@pytest.mark.parametrize("requirement", needed(), ids=str)
def test_lock_satisfies_pyproject(requirement):
    assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)])


def test_environment_yml_and_lock_agree():
    pins = [Requirement(line) for line in conda_pip() if not line.startswith("-")]
    assert {canonicalize_name(pin.name): str(pin.specifier) for pin in pins} == {
        canonicalize_name(requirement.name): f"=={locked()[canonicalize_name(requirement.name)]}" for requirement in needed()
    }
    assert "-c constraints.txt" in conda_pip()


@pytest.mark.parametrize(("name", "hashes"), [(name, hashes) for name, _, hashes in entries()], ids=[name for name, *_ in entries()])
def test_every_package_is_locked_with_hashes(name, hashes):
    assert hashes and len(set(hashes)) == len(hashes)


def test_make_env_checks_the_hashes():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert "pip install --progress-bar off --no-deps --require-hashes -r requirements.lock" in makefile


def test_constraints_are_the_lock_without_hashes():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"{name}=={version}" for name, version, _ in entries()]


def test_the_lock_knows_both_builds_of_torch():
    """PyPI's for Python 3.11 on Linux, and those of PyTorch's CPU index."""
    hashes = next(hashes for name, _, hashes in entries() if name == "torch")
    cpu = {"6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b", "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7"}
    assert cpu < {line.removeprefix("--hash=sha256:") for line in hashes}


@pytest.mark.parametrize("path", sorted((REPOSITORY / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    loose = [action for action, said in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) or not re.fullmatch(r"  # v\d+\.\d+\.\d+", said)]
    assert used and loose == []


def test_python_version_is_one_and_the_same():
    assert "python=3.11" in conda()
    assert project()["requires-python"] == ">=3.11,<3.12"
    assert sys.version_info[:2] == (3, 11)


def test_lock_names_no_index_and_no_local_build():
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|^-|\+", text, flags=re.MULTILINE)


def test_lock_brings_no_cuda_package():
    assert [name for name in locked() if name.startswith(("nvidia", "cuda", "triton"))] == []


@pytest.mark.parametrize(("name", "version"), locked().items(), ids=list(locked()))
def test_installed_is_what_the_lock_says(name, version):
    installed = Version(importlib.metadata.version(name))
    assert installed.public == str(version)


def test_chosen_packages_are_direct_dependencies():
    direct = {canonicalize_name(Requirement(line).name) for line in project()["dependencies"]}
    assert set(CHOSEN) <= direct


def imports() -> dict[str, set[str]]:
    """Top-level names that the code, tests, checks and notebooks import, with the files that do."""
    folders = ("asum_lib", "tests", "bench", ".ci")
    sources = {path: path.read_text(encoding="utf-8") for folder in folders for path in (REPOSITORY / folder).rglob("*.py")}
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found: dict[str, set[str]] = {}
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(str(path.relative_to(REPOSITORY)))
    return found


def test_every_import_is_a_direct_dependency():
    """What is imported must not be there by luck, as the dependency of a dependency."""
    direct = {canonicalize_name(requirement.name) for requirement in needed()}
    owners = importlib.metadata.packages_distributions()
    own = {
        "asum_lib",
        "book_pdf",
        "check_book",
        "check_browser",
        *(path.stem for folder in ("tests", "bench") for path in (REPOSITORY / folder).glob("*.py")),
    }
    stray = {
        name: sorted(files)
        for name, files in imports().items()
        if name not in sys.stdlib_module_names and name not in own and not {canonicalize_name(owner) for owner in owners.get(name, [])} & direct
    }
    assert stray == {}


def test_binder_has_the_locked_versions_of_what_the_code_imports_and_no_more():
    environment = yaml.safe_load((REPOSITORY / "binder" / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pins = {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in environment[-1]["pip"]}
    assert pins == {name: f"=={locked()[name]}" for name in pins}
    not_for_reading = {"torch", "docutils", "latex2mathml", "jupyter-book", "snakemake"}  # PyTorch is conda's there
    assert set(pins) == {canonicalize_name(Requirement(line).name) for line in project()["dependencies"]} - not_for_reading
    assert any(isinstance(entry, str) and entry.startswith("pytorch-cpu") for entry in environment)
