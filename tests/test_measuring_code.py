"""A small package in a repository of its own: what a record's code is held against, and what counts as another code."""

import subprocess

import pytest

from asum_lib.paths import RESULTS
from asum_lib.study import measuring_code, records

MODULES = {
    "models/count.py": """
LIMIT = 3

def count(text):
    '''Count words.'''
    return min(LIMIT, len(text.split()))

def unused():
    return 1
""",
    "corpora/words.py": """
from pathlib import Path

WORDS = Path(__file__).with_suffix('.yaml').read_text()
""",
    "corpora/words.yaml": "lamp, table\n",
    "study/run.py": """
def measure():
    from asum_lib.corpora import words
    from asum_lib.models.count import count
    return count(words.WORDS)
""",
    "study/render.py": """
def show():
    return 'lamp'
""",
}
RUN = "asum_lib.study.run"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes files of the package; `package.commit()` commits them and gives the provenance of a record made by that code."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def forget():
        for function in vars(measuring_code).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    def write(**files):
        for name, text in files.items():
            path = tmp_path / "asum_lib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()

    def commit(dirty=False):
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", "x")
        digest = measuring_code.digest(RUN)
        forget()
        return {"code_digest": digest, "git_commit": git("rev-parse", "HEAD"), "git_dirty": dirty}

    write.commit = commit
    monkeypatch.setattr(measuring_code, "REPOSITORY", tmp_path)
    monkeypatch.setattr(measuring_code, "FOLDER", tmp_path / "asum_lib")
    git("init", "-q")
    write(**MODULES)
    yield write
    monkeypatch.undo()
    forget()


def changed(package, provenance):
    return measuring_code.changes(RUN, provenance)


def old_digest(provenance):
    """As a record has it that was made before the digest was of syntax trees."""
    return provenance | {"code_digest": "0" * 64}


def test_what_measures_and_changed_is_named(package):
    made = package.commit()
    package(**{"models/count.py": MODULES["models/count.py"].replace("LIMIT = 3", "LIMIT = 4")})
    assert changed(package, made) == changed(package, old_digest(made)) == ("models/count.py: LIMIT",)


def test_comments_docstrings_and_layout_are_no_change(package):
    made = package.commit()
    text = MODULES["models/count.py"].replace("Count words.", "Say how many words.").replace("\n\ndef count", "\n\n\n# words\ndef count")
    package(**{"models/count.py": text})
    assert changed(package, made) == changed(package, old_digest(made)) == ()


def test_what_the_table_does_not_reach_is_no_change(package):
    made = package.commit()
    package(**{"models/count.py": MODULES["models/count.py"].replace("return 1", "return 2"), "study/render.py": "def show():\n    return 1\n"})
    assert changed(package, made) == changed(package, old_digest(made)) == ()


def test_a_data_file_that_a_module_reads_is_code(package):
    made = package.commit()
    package(**{"corpora/words.yaml": "lamp\n"})
    assert changed(package, made) == ("corpora/words.yaml",)


def test_what_only_moved_is_no_change(package):
    made = package.commit()
    moved = MODULES["study/run.py"].replace("models.count", "models.words")
    package(**{"models/words.py": MODULES["models/count.py"], "models/count.py": "", "study/run.py": moved})
    assert changed(package, made) == ("study/run.py: measure",)  # which says where it is; what it counts with is the same


def test_without_the_history_it_is_unknown(package, monkeypatch, tmp_path):
    made = package.commit()
    package(**{"corpora/words.yaml": "lamp\n"})
    assert changed(package, made | {"git_commit": "f" * 40}) is None
    assert changed(package, made | {"git_commit": None}) is None
    assert changed(package, made | {"git_commit": "--output=mine"}) is None


def test_uncommitted_code_is_found_in_a_later_commit(package):
    before = package.commit()
    package(**{"corpora/words.yaml": "lamp\n"})
    made = package.commit() | {"git_commit": before["git_commit"], "git_dirty": True}
    package(**{"models/count.py": MODULES["models/count.py"].replace("3", "4")})
    assert changed(package, made) == ("models/count.py: LIMIT",)


def test_code_that_was_never_committed_is_unknown(package):
    made = old_digest(package.commit(dirty=True))
    assert changed(package, made) is None


def test_a_record_of_today_has_the_digest_of_its_module():
    found = records.provenance("asum", None, records.now(), RUN)
    assert found["code_digest"] == measuring_code.digest(RUN) != measuring_code.digest("asum_lib.study.text_run")
    assert measuring_code.changes(RUN, found) == ()


def test_the_code_of_a_record_beside_uncommitted_changes_is_known():
    """Its digest is of the files that were listed at its commit: the history has them, or is not here."""
    record = records.read(RESULTS / "mini" / "e2e" / "cascade-base-fp32-adalora-s0.json")
    commit = record.provenance["git_commit"]
    if subprocess.run(["git", "-C", str(RESULTS.parent), "cat-file", "-e", commit], capture_output=True).returncode:
        pytest.skip("the repository's history is not here")
    assert record.provenance["git_dirty"]
    assert measuring_code.changes("asum_lib.study.talk_run", record.provenance) is not None


def test_what_scores_samples_is_done_again(package):
    """A changed interval makes no record old: `asum rescore` gives it to all of them."""
    scored = MODULES["study/run.py"].replace("models.count", "measure.wer")
    package(**{"measure/wer.py": MODULES["models/count.py"], "study/run.py": scored})
    made = package.commit()
    package(**{"measure/wer.py": MODULES["models/count.py"].replace("3", "4")})
    assert changed(package, made) == ()
