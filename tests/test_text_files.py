"""Corpora of documents with summaries from files, in the formats of Gazeta, WikiHow and SciTLDR, and every fault in one line."""

import json

import pytest

from asum_lib.corpora import text_files, texts
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


@pytest.mark.parametrize("name", ["test.jsonl", "test.csv"])
def test_other_encodings_are_refused_with_the_line(tmp_path, name):
    lines = {"test.jsonl": '{"text": "a", "summary": "b"}\n{"text": "Москва", "summary": "б"}\n', "test.csv": "text,summary\nМосква,б\n"}
    (tmp_path / name).write_bytes(lines[name].encode("cp1251"))
    with pytest.raises(InputError, match=rf"{name} line 2: not UTF-8: save the file as UTF-8"):
        load_file(tmp_path / name, "test", "x", "ru")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "test.csv").write_text("\ufefftext,summary\nLong.,Short.\n", encoding="utf-8")
    assert load_file(tmp_path / "test.csv", "test", "x", "en").documents[0].text == "Long."


def test_a_csv_row_with_too_few_fields_is_named(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("text,summary\na,b\nc\n")
    with pytest.raises(InputError, match="line 3: not as many fields as the header has"):
        load_file(path, "test", "x", "en")


def test_a_csv_field_beyond_the_limit_is_named_and_the_limit_is_put_back(tmp_path, monkeypatch):
    import csv

    before = csv.field_size_limit()
    monkeypatch.setattr(text_files, "FIELD_LIMIT", 20)
    (tmp_path / "test.csv").write_text(f"text,summary\nshort,s\n{'x' * 21},s\n")
    with pytest.raises(InputError, match=r"test\.csv line 3: not CSV \(field larger than field limit \(20\)\)"):
        load_file(tmp_path / "test.csv", "test", "x", "en")
    assert csv.field_size_limit() == before


def test_a_csv_that_was_cut_off_in_a_field_is_named(tmp_path):
    (tmp_path / "test.csv").write_text('text,summary\na,b\n"cut')
    with pytest.raises(InputError, match=r"line 3: not CSV \(unexpected end of data\)"):
        load_file(tmp_path / "test.csv", "test", "x", "en")


def test_a_csv_row_over_several_lines_is_named_by_its_first(tmp_path):
    (tmp_path / "test.csv").write_text('text,summary\n"one\ntwo",s\n"three\nfour", \n')
    with pytest.raises(InputError, match=r"test\.csv line 4: summary is ' '"):
        load_file(tmp_path / "test.csv", "test", "x", "en")


def test_wikihow_passes_over_rows_of_another_length_as_its_published_readers_do(tmp_path):
    folder = wikihow(tmp_path, ("Do.", "How to A"), ("Do.", "How to A", LONG), ("Do.", "How to A", LONG, "more"), lists={"test": ["HowtoA"]})
    assert len(load_file(folder, "test", "wikihow", "en").documents) == 1


def test_wikihow_looks_a_title_up_without_spaces_and_nothing_else(tmp_path):
    rows = [("Do.", "How to Clean Cats' Eyes", LONG), ("Do.", "How to Clean Cats Eyes 2", LONG)]
    folder = wikihow(tmp_path, *rows, lists={"test": ["HowtoCleanCatsEyes", "HowtoCleanCatsEyes2"]})
    assert [document.title for document in load_file(folder, "test", "wikihow", "en").documents] == ["How to Clean Cats Eyes 2"]


def test_wikihow_without_a_column_is_named(tmp_path):
    (tmp_path / "wikihowAll.csv").write_text("headline,title\nDo.,How to A\n")
    (tmp_path / "all_test.txt").write_text("HowtoA\n")
    with pytest.raises(InputError, match=r"wikihowAll\.csv line 2: no column 'text'"):
        load_file(tmp_path, "test", "wikihow", "en")


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "test.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"test\.parquet: not Parquet"):
        load_file(tmp_path, "test", "x", "en")


def test_shards_are_read_in_order_and_each_promised_one_is_needed(tmp_path):
    import pyarrow
    import pyarrow.parquet

    for number in (0, 1):
        table = pyarrow.Table.from_pylist([{"document": f"Long {number}.", "summary": "Short."}])
        pyarrow.parquet.write_table(table, tmp_path / f"test-{number:05}-of-00002.parquet")
    assert [document.text for document in load_file(tmp_path, "test", "x", "en").documents] == ["Long 0.", "Long 1."]
    (tmp_path / "test-00000-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"has 1 of the 2 files that test-00001-of-00002\.parquet promises"):
        load_file(tmp_path, "test", "x", "en")


@pytest.mark.parametrize("second", ["gazeta_test_oracle.jsonl", "gazeta_test.csv", "old/gazeta_test.jsonl"])
def test_a_split_that_is_there_twice_is_refused(tmp_path, second):
    jsonl(tmp_path / "gazeta_test.jsonl", GAZETA)
    (tmp_path / "old").mkdir()
    (tmp_path / second).write_text("text,summary\n")
    with pytest.raises(InputError, match=rf"split 'test' is there as gazeta_test\.jsonl and {second}|as {second} and gazeta_test\.jsonl"):
        load_file(tmp_path, "test", "x", "ru")


def test_scitldrs_lists_become_a_text_and_the_first_of_its_summaries(tmp_path):
    path = jsonl(tmp_path / "test.jsonl", {"source": ["One.", "Two."], "target": ["First.", "Second."], "paper_id": "a"})
    (document,) = load_file(path, "test", "scitldr", "en").documents
    assert (document.text, document.reference) == ("One. Two.", "First.")


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No variable names a corpus, and nothing is fetched."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", *(variable for _, variable in texts.GIVEN.values())):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "asum"))
    texts.load_texts.cache_clear()
    return tmp_path / "hf" / "hub" / "datasets--IlyaGusev--gazeta"


def fetched(repository, tag, commit, **files):
    """Files of a commit as they lie in the Hub's cache, where the tag means that commit."""
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / tag).write_text(commit)
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    for name, row in files.items():
        jsonl(folder / f"{name}.jsonl", row)


def test_gazeta_is_read_from_where_it_was_fetched_to_each_version_from_its_tag(nothing_here):
    fetched(nothing_here, "v1.0", "1" * 40, gazeta_test=GAZETA | {"title": "one"})
    fetched(nothing_here, "v2.0", "2" * 40, gazeta_test=GAZETA | {"title": "two"})
    assert [texts.load_texts(name, "test").documents[0].title for name in ("gazeta-v1", "gazeta-v2")] == ["one", "two"]
    assert [texts.dataset_revision(name) for name in ("gazeta-v1", "gazeta-v2")] == ["1" * 40, "2" * 40]


def test_training_on_gazeta_needs_its_other_part(nothing_here):
    fetched(nothing_here, "v1.0", "1" * 40, gazeta_test=GAZETA)
    with pytest.raises(
        InputError, match=r"gazeta-v1 train: IlyaGusev/gazeta is not fetched.*run `asum fetch gazeta-v1-train`, or set ASUM_GAZETA_V1"
    ):
        texts.load_texts("gazeta-v1", "train")


def test_a_given_folder_comes_before_what_was_fetched_and_has_no_revision(nothing_here, tmp_path, monkeypatch):
    fetched(nothing_here, "v1.0", "1" * 40, gazeta_test=GAZETA | {"title": "fetched"})
    jsonl(tmp_path / "gazeta_test.jsonl", GAZETA | {"title": "given"})
    monkeypatch.setenv("ASUM_GAZETA_V1", str(tmp_path / "gazeta_test.jsonl"))
    assert texts.load_texts("gazeta-v1", "test").documents[0].title == "given"
    assert texts.dataset_revision("gazeta-v1") is None


def test_wikihow_is_given_as_a_folder_only(nothing_here):
    with pytest.raises(InputError, match="corpus wikihow is not on this machine: get it from its authors, and set ASUM_WIKIHOW to its folder"):
        texts.load_texts("wikihow", "test")


def test_a_corpus_of_another_size_than_the_published_one_is_told(tmp_path):
    path = jsonl(tmp_path / "test.jsonl", GAZETA)
    assert texts.not_whole(load_file(path, "test", "gazeta-v2", "ru")) == "gazeta-v2 test has 1 documents here, 6,793 published"
    assert texts.not_whole(load_file(path, "test", "my-news", "ru")) is None


def test_what_is_not_there_is_said(tmp_path, nothing_here):
    with pytest.raises(InputError, match="asum fetch gazeta-v1`, or set ASUM_GAZETA_V1 to its folder"):
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


def test_half_a_character_is_refused(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"text": "a \\ud800", "summary": "b"}\n')
    with pytest.raises(InputError, match="line 1: text holds half of a character"):
        load_file(path, "test", "x", "en")


def test_wikihow_with_line_ends_of_windows_is_cleaned_too(tmp_path):
    folder = wikihow(tmp_path, ("Do.", "How to A", "One sentence here.\r\n,Two."), lists={"test": ["HowtoA"]})
    (document,) = load_file(folder, "test", "wikihow", "en").documents
    assert document.paragraphs == ("One sentence here.", "Two.")


def test_a_folder_with_wikihow_by_paragraphs_alone_is_refused(tmp_path):
    (tmp_path / "wikihowSep.csv").write_text("overview,headline,text,sectionLabel,title\n")
    with pytest.raises(InputError, match="WikiHow by paragraphs"):
        load_file(tmp_path, "test", "wikihow", "en")


@pytest.mark.slow
def test_wikihows_folder_goes_through_to_records(real_data, tmp_path, monkeypatch):
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    from asum_lib.study import peft_rouge

    checkpoint, corpus = tmp_path / "t5-random", tmp_path / "wikihow"
    corpus.mkdir()
    wikihow(corpus, *[("Boil.\nStir.", f"How to Boil {n}", LONG) for n in range(5)], lists={"test": [f"HowtoBoil{n}" for n in range(5)]})
    torch.manual_seed(0)
    config = T5Config(vocab_size=32_128, d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0)
    config.asum_note = "random weights"
    T5ForConditionalGeneration(config).save_pretrained(checkpoint)
    AutoTokenizer.from_pretrained(str(real_data / "tokenizers" / "t5")).save_pretrained(checkpoint)
    monkeypatch.setenv("ASUM_WIKIHOW", str(corpus))
    texts.load_texts.cache_clear()
    given = {
        "scale": "paper",
        "corpus": "wikihow",
        "checkpoint": str(checkpoint),
        "limit": 4,
        "methods": ["none"],
        "results_dir": str(tmp_path / "r"),
    }
    record = peft_rouge.run(**given).records[-1]
    texts.load_texts.cache_clear()
    assert (record.status, record.metrics["rouge1"].n, record.table) == ("ok", 4, "format_check_wikihow")


def test_ami_is_read_as_it_is(real_data, monkeypatch):
    monkeypatch.setenv("ASUM_AMI", str(real_data / "ami-meetings" / "meetings.jsonl"))
    texts.load_texts.cache_clear()
    corpus = texts.load_texts("ami", "test")
    texts.load_texts.cache_clear()
    first = corpus.documents[0]
    assert (corpus.language, len(corpus.documents), first.id) == ("en", 142, "ES2002a")
    assert first.reference.startswith("The project manager introduced the upcoming project") and first.text.startswith("Um I'm Craig")
    assert sum(len(document.text.split()) for document in corpus.documents) / 142 == pytest.approx(4_976, abs=1)


def test_ami_has_no_split_but_test(real_data, monkeypatch):
    monkeypatch.setenv("ASUM_AMI", str(real_data / "ami-meetings" / "meetings.jsonl"))
    with pytest.raises(InputError, match="its name says nothing, so all of it is test"):
        texts.load_texts("ami", "train")
