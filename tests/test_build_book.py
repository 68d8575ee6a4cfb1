"""The last good book stays until a new one is whole."""

import importlib.util
import shlex
import shutil

import pytest

from asum_lib.paths import REPOSITORY

PAGE = "mkdir -p build/book/_build/html && echo {} > build/book/_build/html/index.html"
TIMED_OUT = """\
Traceback (most recent call last):
zmq.error.ZMQError: Socket operation on non-socket
myst_nb.core.execute.base.ExecutionError: {root}/book/slow.md
nbclient.exceptions.CellTimeoutError: A cell timed out while it was being executed, after 4 seconds.
The above exception was the direct cause of the following exception:
myst_nb.core.execute.base.ExecutionError: {root}/book/slow.md
RuntimeError:
"""


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_book", REPOSITORY / "workflow" / "build_book.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    """A folder with a good book."""
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "index.html").write_text("good\n")
    return tmp_path


def shell(command: str) -> list[str]:
    return ["sh", "-c", command]


def front_page(root) -> str:
    return (root / "_build" / "html" / "index.html").read_text()


def test_a_whole_book_takes_the_place_of_the_last(builder, root):
    (root / "_build" / "html" / "removed.html").write_text("a page that is no more")
    builder.build(root, [shell(PAGE.format("new")), shell("true")])
    assert front_page(root) == "new\n"
    assert sorted(path.name for path in (root / "_build" / "html").iterdir()) == ["index.html"]
    assert not (root / builder.LAST).exists()


@pytest.mark.parametrize("fails", ["exit 1", "kill -9 $$", "rm build/book/_build/html/index.html"])
def test_a_build_that_fails_leaves_the_last_good_book(builder, root, fails):
    with pytest.raises(builder.BuildError):
        builder.build(root, [shell(PAGE.format("broken")), shell(fails)])
    assert front_page(root) == "good\n"


def test_what_an_earlier_failure_left_is_not_in_the_next_book(builder, root):
    with pytest.raises(builder.BuildError):
        builder.build(root, [shell(PAGE.format("broken") + "; touch build/book/_build/html/old.html; exit 1")])
    builder.build(root, [shell(PAGE.format("new"))])
    assert sorted(path.name for path in (root / "_build" / "html").iterdir()) == ["index.html"]


def test_a_build_killed_between_its_renames_loses_no_book(builder, root):
    (root / "build").mkdir()
    (root / "_build").rename(root / builder.LAST)
    with pytest.raises(builder.BuildError):
        builder.build(root, [shell("exit 1")])
    assert front_page(root) == "good\n"


def test_a_page_over_its_time_is_named_with_the_reason(builder, root):
    command = shell(f"printf %s {shlex.quote(TIMED_OUT.format(root=root))}; exit 1")
    said = r"^book/slow\.md failed: CellTimeoutError: A cell timed out while it was being executed, after 4 seconds\.$"
    with pytest.raises(builder.BuildError, match=said):
        builder.build(root, [command])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("\x1b[91mbook/a.md:3: WARNING: no such role\x1b[39m", "book/a.md:3: WARNING: no such role"),
        ("book/loftq: 12.3 is not on the page", "book/loftq: 12.3 is not on the page"),
        ("sphinx.errors.ExtensionError: no such module", "ExtensionError: no such module"),
        ("nothing that helps", "sh ended with status 7"),
    ],
)
def test_the_message_is_the_first_fault_that_was_said(builder, root, line, said):
    with pytest.raises(builder.BuildError) as failed:
        builder.build(root, [shell(f"printf '%s\\n' {shlex.quote(line)}; exit 7")])
    assert str(failed.value) == said


@pytest.mark.slow
def test_a_page_that_raises_stops_a_real_build(builder, root):
    """The names that the message is made of are those that jupyter-book gives today."""
    for name in ("_config.yml", "book/references.bib"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "book" / "_static", root / "book" / "_static")
    (root / "_toc.yml").write_text("{format: jb-book, root: book/index, chapters: [{file: book/page}]}")
    (root / "book" / "index.md").write_text("# Index\n")
    kernel = "kernelspec: {display_name: Python 3, language: python, name: python3}"
    page = "# Page\n\n```{code-cell} python\nraise ValueError('no such table')\n```\n"
    (root / "book" / "page.md").write_text(f"---\njupytext: {{text_representation: {{format_name: myst}}}}\n{kernel}\n---\n{page}")
    with pytest.raises(builder.BuildError, match=r"^book/page\.md failed: ValueError: no such table$"):
        builder.build(root, builder.steps()[:1])
    assert front_page(root) == "good\n"
