"""Corpora of documents with summaries from files, in the formats of Gazeta, WikiHow and SciTLDR, and every fault in one line."""

import json

import pytest

from asum_lib.corpora import texts
from asum_lib.corpora.text_files import load_file
from asum_lib.errors import InputError


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


GAZETA = {"url": "https://example.org/1", "date": "2020-01-01 10:00:00", "title": "Пожар", "text": "Первое.\n\nВторое.", "summary": "Кратко."}
LONG = "Boil the water for ten minutes and keep the lid on.\nStir it.,\n"


def test_gazeta_is_a_file_a_split(tmp_path):
    for name, title in {"gazeta_train": "a", "gazeta_val": "b", "gazeta_test": "c"}.items():
        jsonl(tmp_path / f"{name}.jsonl", GAZETA | {"title": title})
    corpora = {split: load_file(tmp_path, split, "gazeta-v1", "ru") for split in texts.SPLITS}
    assert [corpora[split].documents[0].title for split in ("train", "dev", "test")] == ["a", "b", "c"]
    (document,) = corpora["test"].documents
    assert (document.paragraphs, document.summary, document.facts) == (("Первое.", "Второе."), ("Кратко.",), ())


def wikihow(tmp_path, *rows, lists):
    import csv

    with open(tmp_path / "wikihowAll.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["headline", "title", "text"])
        writer.writerows(rows)
    for name, titles in lists.items():
        (tmp_path / f"all_{name}.txt").write_text("".join(f"{title}\n" for title in titles))
    return tmp_path


def test_wikihow_follows_the_official_lists_of_titles(tmp_path):
    rows = [("\nBoil.\nStir.", "How to Boil Water", LONG), ("\nWait.", "How to Wait", LONG)]
    folder = wikihow(tmp_path, *rows, lists={"train": ["HowtoWait"], "val": [], "test": ["HowtoBoilWater"]})
    (document,) = load_file(folder, "test", "wikihow", "en").documents
    assert (document.title, document.summary) == ("How to Boil Water", ("Boil.", "Stir."))
    assert load_file(folder, "train", "wikihow", "en").documents[0].summary == ("Wait.",)


def test_wikihow_leaves_out_summaries_of_three_quarters_of_the_text_and_stray_commas(tmp_path):
    rows = [("A long headline.", "How to A", "Short text here."), ("\nDo it.,\nDone.", "How to B", LONG + "More.\n,And more.")]
    folder = wikihow(tmp_path, *rows, lists={"test": ["HowtoA", "HowtoB"]})
    (document,) = load_file(folder, "test", "wikihow", "en").documents
    assert document.summary == ("Do it.", "Done.")
    assert document.paragraphs[-2:] == ("More.", "And more.")


def test_wikihow_needs_its_lists(tmp_path):
    folder = wikihow(tmp_path, ("Do.", "How to A", LONG), lists={})
    with pytest.raises(InputError, match=r"the list of titles all_val\.txt should lie beside it"):
        load_file(folder, "dev", "wikihow", "en")


def test_wikihow_by_paragraphs_is_refused(tmp_path):
    path = tmp_path / "wikihowSep.csv"
    path.write_text("overview,headline,text,sectionLabel,title\n")
    with pytest.raises(InputError, match="WikiHow by paragraphs"):
        load_file(path, "test", "wikihow", "en")


def test_parquet_gives_the_same_documents_as_json_lines(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    jsonl(tmp_path / "a" / "test.jsonl", GAZETA)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([GAZETA]), tmp_path / "b" / "test-00000-of-00001.parquet")
    assert load_file(tmp_path / "a", "test", "x", "ru").documents == load_file(tmp_path / "b", "test", "x", "ru").documents


def test_a_file_that_names_no_split_is_all_test(tmp_path):
    path = jsonl(tmp_path / "notes.jsonl", {"document": "Long text.", "summary": "Text."})
    assert texts.load_texts(str(path), "test", "en").documents[0].reference == "Text."
    with pytest.raises(InputError, match="its name says nothing, so all of it is test"):
        load_file(path, "train", "notes", "en")


def test_scitldr_is_read_as_it_is(real_data):
    corpus = load_file(real_data / "scitldr" / "test.jsonl", "test", "scitldr", "en")
    assert len(corpus.documents) == 618
    assert all(document.reference and document.text for document in corpus.documents)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "summary": "b"}\n{"text": \n', r"test.jsonl line 2: not JSON"),
        ("[1]\n", "line 1: list where an object should be"),
        ('{"text": "a", "topic": "b"}\n', "line 1: columns text, topic: one pair of text and summary or"),
        ('{"text": " ", "summary": "b"}\n', "line 1: text is ' ', and should be a text that is not empty"),
        ('{"text": "a", "summary": null}\n', "line 1: summary is None"),
        ('{"id": 1, "text": "a", "summary": "b"}\n{"id": 1, "text": "c", "summary": "d"}\n', "line 2: id '1' was there before, at .*line 1"),
        ("\n", "no document of split 'test'"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "test.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_file(path, "test", "x", "en")


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_bytes('{"text": "Москва", "summary": "б"}\n'.encode("cp1251"))
    with pytest.raises(InputError, match="not UTF-8 at byte 10: save it as UTF-8"):
        load_file(path, "test", "x", "ru")


def test_a_csv_row_with_too_few_fields_is_named(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("text,summary\na,b\nc\n")
    with pytest.raises(InputError, match="line 3: not as many fields as the header has"):
        load_file(path, "test", "x", "en")


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("ASUM_GAZETA_V1", raising=False)
    with pytest.raises(InputError, match="set ASUM_GAZETA_V1 to its folder"):
        texts.load_texts("gazeta-v1", "test")
    with pytest.raises(InputError, match="no such file or folder"):
        load_file(tmp_path / "absent", "test", "x", "en")
    with pytest.raises(InputError, match="say its language"):
        texts.load_texts(str(tmp_path / "notes.jsonl"), "test")
    with pytest.raises(InputError, match="unknown text corpus 'cnn': choose from howto-text"):
        texts.load_texts("cnn", "test")


def test_the_papers_corpora_are_found_by_their_variables(tmp_path, monkeypatch):
    jsonl(tmp_path / "gazeta_test.jsonl", GAZETA)
    monkeypatch.setenv("ASUM_GAZETA_V2", str(tmp_path))
    texts.load_texts.cache_clear()
    assert texts.load_texts("gazeta-v2", "test").language == "ru"
