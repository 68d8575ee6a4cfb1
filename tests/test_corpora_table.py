"""The table of corpora on a corpus of two made-up documents whose every figure can be worked out by hand, and how it is shown."""

import json
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

from asum_lib.corpora import texts
from asum_lib.corpora.texts import Fact, TextCorpus, TextDocument
from asum_lib.errors import InputError
from asum_lib.measure import rouge, summaries
from asum_lib.study import corpora_table, records, render_corpora

LEXICON = {"tool": {"whisk": ("whisk",), "oven": ("oven",), "pan": ("pan",)}}
DOCUMENTS = (
    TextDocument(
        "a",
        "Eggs",
        ("It rained. Some eggs here.", "Whisk it. Use a hot oven now."),  # 12 words in 4 sentences
        ("Whisk it.", "Hot oven."),  # all 4 words are in the text; of the pairs "it hot" is not, nor is any longer run
        (Fact("tool", "whisk", True), Fact("tool", "oven", True)),
    ),
    TextDocument(
        "b",
        "Rice",
        ("Rice <in> a pan.", "Close the lid now."),  # 8 words in 2 sentences
        ("Bake pan.",),  # "bake" is not in the text
        (Fact("tool", "pan", True),),
    ),
)


def corpus_of(documents=DOCUMENTS, name="made-up", language="en") -> TextCorpus:
    return TextCorpus(name, "test", language, tuple(documents), texts.fingerprint(documents))


@pytest.fixture
def made_up(monkeypatch) -> TextCorpus:
    """The corpus above in place of `howto-text`, with its lexicon."""
    corpus = corpus_of(name="howto-text")
    monkeypatch.setattr(texts, "load_texts", lambda name, split: TextCorpus(name, split, "en", DOCUMENTS, corpus.fingerprint))
    monkeypatch.setattr(texts, "lexicon", lambda name: LEXICON)
    return corpus


def measured(tmp_path, **given) -> corpora_table.Row:
    return corpora_table.run(**{"corpus": "howto-text", "results_dir": str(tmp_path / "results")} | given)


def text(shown) -> str:
    return " ".join(BeautifulSoup(shown.data, "html.parser").get_text(" ").split())


def test_statistics_worked_by_hand(made_up, tmp_path):
    values = {name: metric.value for name, metric in measured(tmp_path).record.metrics.items() if "." not in name}
    assert values == pytest.approx(
        {
            "documents": 2,
            "text_words": (12 + 8) / 2,
            "text_sentences": (4 + 2) / 2,
            "summary_words": (4 + 2) / 2,
            "summary_sentences": (2 + 1) / 2,
            "compression": 20 / 6,
            "novelty1": 100 * 1 / 6,
            "novelty2": 100 * 2 / 4,
            "novelty3": 100,
            "novelty4": 100,
            "facts": 3 / 2,
            "key_facts": 3 / 2,
            "text_vocabulary": 17,
            "summary_vocabulary": 6,
            "oracle_position": (2 / 3 + 1 + 0) / 3,  # the last two sentences of a, the first of b
        },
        abs=1e-4,
    )


def test_extractive_systems_worked_by_hand(made_up, tmp_path):
    """Lead-3 of a: 2 of 7 words in 4; of b, which has only 2 sentences: 1 of 8 words in 2."""
    metrics = measured(tmp_path).record.metrics
    assert metrics["lead3.rouge1"].value == pytest.approx(100 * (4 / 11 + 2 / 10) / 2)
    assert metrics["lead3.words"].value == pytest.approx((7 + 8) / 2)
    assert metrics["lead3.fact_recall"].value == pytest.approx(100 * 2 / 3)
    assert metrics["oracle.fact_recall"].value == 100
    assert metrics["oracle.rouge1"].value == pytest.approx(100 * (8 / 11 + 2 / 6) / 2)


def test_every_mean_lies_in_its_interval(made_up, tmp_path):
    for name, metric in measured(tmp_path).record.metrics.items():
        if metric.lo is not None:
            assert metric.lo <= metric.value <= metric.hi, name
    words = measured(tmp_path).record.metrics["text_words"]
    assert (words.lo, words.hi) == (0, pytest.approx(10 + 12.706 * 2, abs=0.01))  # t of one degree of freedom, cut at 0


def test_on_train_nothing_is_extracted(made_up, tmp_path):
    record = measured(tmp_path, split="train").record
    assert not [name for name in record.metrics if "." in name]
    assert "oracle_position" not in record.metrics
    assert record.samples is None


def test_samples_hold_numbers_and_no_text(made_up, tmp_path):
    row = measured(tmp_path)
    first, second = records.read_samples(row.path)
    assert (first["id"], first["text_words"], first["oracle_positions"]) == ("a", 12, [0.6667, 1.0])
    assert second["lead3.rouge1"] == 0.2
    for sample in (first, second):
        assert not [value for key, value in sample.items() if isinstance(value, str) and key != "id"]


def test_a_record_that_fits_is_read_and_not_made_again(made_up, tmp_path, monkeypatch):
    first = measured(tmp_path)
    monkeypatch.setattr(corpora_table, "counts", lambda corpus: pytest.fail("measured again"))
    assert measured(tmp_path).record == first.record


def test_a_record_of_another_text_is_made_again(made_up, tmp_path, monkeypatch):
    measured(tmp_path)
    changed = (*DOCUMENTS, DOCUMENTS[0])
    monkeypatch.setattr(texts, "load_texts", lambda name, split: TextCorpus(name, split, "en", changed, texts.fingerprint(changed)))
    assert measured(tmp_path).record.metrics["documents"].value == 3


def test_a_record_of_another_lexicon_is_made_again(made_up, tmp_path, monkeypatch):
    """The facts that a summary states are looked up in it."""
    assert measured(tmp_path).record.metrics["lead3.fact_recall"].value == pytest.approx(200 / 3)
    monkeypatch.setattr(texts, "lexicon", lambda name: {"tool": LEXICON["tool"] | {"oven": ("rained", "oven")}})
    assert measured(tmp_path).record.metrics["lead3.fact_recall"].value == pytest.approx(100)


def test_a_limit_takes_the_first_documents_and_is_in_the_name(made_up, tmp_path):
    row = measured(tmp_path, limit=1)
    assert row.path == tmp_path / "results" / "mini" / "corpora" / "howto-text-test-first1.json"
    assert row.record.metrics["text_words"].value == 12


def test_the_table_has_an_object_a_metric_and_says_what_is_missing(made_up, tmp_path):
    row = measured(tmp_path)
    table = corpora_table.rows(results=tmp_path / "results")
    (rouge_1,) = [entry for entry in table if entry["cell"]["system"] == "lead3" and entry["metric"] == "rouge1"]
    assert rouge_1 == {
        "cell": {"table": "corpora", "scale": "mini", "corpus": "howto-text", "split": "test", "limit": None, "system": "lead3"},
        "metric": "rouge1",
        "value": row.record.metrics["lead3.rouge1"].value,
        "lo": row.record.metrics["lead3.rouge1"].lo,
        "hi": row.record.metrics["lead3.rouge1"].hi,
        "unit": "ROUGE x 100",
        "n": 2,
        "seeds": [],
        "paper": None,
        "paper_status": "unknown",
        "paper_source": None,
        "signature": rouge.signature("rouge1", "en") + "|unit:item",
        "status": "ok",
        "reason": None,
        "records": ["results/mini/corpora/howto-text-test.json"],
    }
    missing = [entry["cell"]["corpus"] + " " + entry["cell"]["split"] for entry in table if entry["status"] == "missing"]
    assert missing == [f"{name} {split}" for name in texts.NAMES for split in texts.SPLITS if (name, split) != ("howto-text", "test")]
    assert json.loads(json.dumps(table)) == table


def test_at_scale_paper_the_real_corpora_are_missing_until_measured(tmp_path):
    table = corpora_table.rows("corpora", "paper", tmp_path)
    assert {entry["cell"]["corpus"] for entry in table} == {"wikihow", "gazeta-v1", "gazeta-v2"}
    assert {entry["status"] for entry in table} == {"missing"}


def test_another_table_is_refused():
    with pytest.raises(InputError, match="unknown table 'corpus': choose from corpora"):
        corpora_table.rows("corpus")


def write_jsonl(path, *rows) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_file_of_ones_own_is_measured_at_scale_paper_under_its_name(tmp_path):
    """14 words of text for 2 of summary, of which "found" is new."""
    file = write_jsonl(
        tmp_path / "letters.jsonl", {"text": "A cat sat here. Then it went away. Nobody saw the cat again. Sad.", "summary": "Cat found"}
    )
    row = corpora_table.run(**{"corpus": file, "results_dir": str(tmp_path / "results")})
    assert row.path == tmp_path / "results" / "paper" / "corpora" / f"letters-test-{row.cell.own}.json"
    assert row.record.metrics["compression"].value == 14 / 2
    assert row.record.metrics["novelty1"].value == 50
    assert row.record.config["language"] == "en"
    assert {entry["cell"]["corpus"] for entry in corpora_table.rows(scale="paper", results=tmp_path / "results")} >= {"letters", "wikihow"}


def test_the_language_of_a_file_is_told_by_its_letters_unless_given(tmp_path):
    file = write_jsonl(tmp_path / "gazeta_test.jsonl", {"text": "В Google заявили о сбое.", "summary": "В сети Google сбой.", "title": "Сбой"})
    assert corpora_table.load(file, "test").language == "ru"
    with pytest.raises(InputError, match=r"language 'en': .* % of the letters are Latin"):
        corpora_table.load(file, "test", "en")
    file = write_jsonl(tmp_path / "other_test.jsonl", {"text": "Google is down.", "summary": "It is down.", "title": "Down"})
    assert [corpora_table.load(file, "test", given).language for given in ("", "ru")] == ["en", "ru"]


def test_real_abstracts_are_measured_from_their_file(real_data, tmp_path):
    """SciTLDR's test split as it comes, of each document its first summary."""
    row = corpora_table.run(**{"corpus": str(real_data / "scitldr" / "test.jsonl"), "limit": 60, "results_dir": str(tmp_path)})
    metrics = row.record.metrics
    assert metrics["documents"].value == 60
    assert 100 < metrics["text_words"].value < 250
    assert metrics["lead3.rouge1"].value < metrics["oracle.rouge1"].value
    assert metrics["novelty1"].value < metrics["novelty2"].value < metrics["novelty3"].value < metrics["novelty4"].value


def test_markdown_has_a_line_an_object(made_up, tmp_path):
    measured(tmp_path)
    table = corpora_table.rows(results=tmp_path / "results")
    lines = corpora_table.as_markdown(table).splitlines()
    assert len(lines) == 2 + len(table)
    assert "| howto-text | test |  | documents | 2.0 |  | documents | 2 |" in lines


def test_russian_has_the_score_under_the_english_tokenizer_beside(tmp_path):
    """Identical sentences: 100 with the tokenizer that sees them, and 0 with the one that does not."""
    documents = [TextDocument("a", "", ("Суд вынес приговор мэру.",), ("Суд вынес приговор мэру.",))]
    corpus = corpus_of(documents, "new", "ru")
    cell = corpora_table.Cell("corpora", "paper", "new", "test", None)
    metrics = corpora_table.read_or_measure(cell, corpus, cell.path(tmp_path), "made up").metrics
    assert metrics["lead3.rouge1"].value == 100
    assert metrics["lead3.rouge1_default"].value == 0
    assert metrics["lead3.rouge1_default"].signature == rouge.signature("rouge1", "ru", tokenizer="default") + "|unit:item"
    assert "facts" not in metrics
    assert "lead3.fact_recall" not in metrics


def test_documents_without_a_summary_are_measured(tmp_path):
    corpus = corpus_of([TextDocument("a", "", ("It rained.",), ())])
    cell = corpora_table.Cell("corpora", "paper", "made-up", "test", None)
    metrics = corpora_table.read_or_measure(cell, corpus, cell.path(tmp_path), "made up").metrics
    assert "novelty1" not in metrics
    assert "compression" not in metrics
    assert metrics["lead3.rouge1"].value == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": "howto"}, "unknown text corpus 'howto': choose from howto-text, .*, wikihow, gazeta-v1, gazeta-v2"),
        ({"corpus": "news.jsonl", "scale": "mini"}, r"corpus 'news\.jsonl' is not one of scale mini: choose from howto-text"),
        ({"scale": "paper"}, "corpus 'howto-text' is a generated one, of scale mini: at scale paper give wikihow"),
        ({"corpus": "no/such.jsonl"}, r"corpus no/such\.jsonl: no such file or folder"),
        ({"language": "ru"}, "language 'ru': that of howto-text is en, leave it out"),
        ({"language": "fr"}, "unknown language 'fr': choose from en, ru"),
        ({"scale": "large"}, "unknown scale 'large'"),
        ({"split": "validation"}, "unknown split 'validation': choose from train, dev, test"),
        ({"limit": -1}, "parameter limit is -1, and should be a whole number from 0"),
        ({"limit": True}, "parameter limit is True, and should be a whole number"),
        ({"limits": 3}, "unknown parameter 'limits'"),
    ],
)
def test_bad_input_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        corpora_table.run(**given)


def test_signatures_name_the_rules():
    assert corpora_table.signature("novelty2", "en") == summaries.signature("novelty2")
    assert corpora_table.signature("text_sentences", "ru") == "text_sentences|sentences:asum-1.ru|mean"
    assert corpora_table.signature("text_words", "ru") == "text_words|tok:unicode|mean"
    assert corpora_table.signature("documents", "en") == "documents|count"


def test_importing_the_module_is_light():
    code = "import sys, asum_lib.study.render_corpora; print({'torch', 'transformers', 'matplotlib', 'evaluate'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize("name", texts.NAMES)
def test_a_generated_reference_states_its_key_facts_and_no_other(name):
    """The generator's facts and its lexicon agree with the text: otherwise the best summary would have faults."""
    lexicon = texts.lexicon(name)
    for document in texts.load_texts(name, "test").documents[:200]:
        wanted = sum(fact.key for fact in document.facts)
        assert summaries.slot_counts(document.reference, document.facts, lexicon) == summaries.SlotCounts(wanted, 0, 0, 0), document.id
        assert summaries.find_facts(document.text, lexicon) >= {(fact.kind, fact.value) for fact in document.facts}, document.id


# How it is shown -------------------------------------------------------------------------------------------------------


def test_the_tables_show_what_was_measured(made_up, tmp_path):
    measured(tmp_path)
    rows = corpora_table.rows(results=tmp_path / "results")
    shown = render_corpora.statistics_table(rows)
    assert "howto-text test 2 10.0 0.0 to 35.4 3.0 0.0 to 15.7" in text(shown)
    assert 'href="../results/mini/corpora/howto-text-test.json"' in shown.data
    assert "howto-text test 16.7" in text(render_corpora.novelty_table(rows))
    assert "howto-text Lead-3 28.2 0.0 to 100.0" in text(render_corpora.extractive_table(rows))
    assert "1.5 0.0 to 7.9" in text(render_corpora.facts_table(rows))
    assert "60.0" not in text(render_corpora.tokenizer_table(rows))


def test_findings_are_written_from_the_values(made_up, tmp_path):
    measured(tmp_path)
    assert text(render_corpora.findings(corpora_table.rows(results=tmp_path / "results"))) == (
        "howto-text : a summary is 30 % of its text in words, and 50 % of its word pairs are not in it. "
        "The first three sentences reach ROUGE-1 28.2, chosen sentences at least 53.0."
    )


@pytest.mark.parametrize(
    "show", ["statistics_table", "novelty_table", "facts_table", "extractive_table", "tokenizer_table", "plot_novelty", "findings"]
)
def test_without_a_record_that_is_said(show, tmp_path):
    assert text(getattr(render_corpora, show)(corpora_table.rows(results=tmp_path))) == "No record of this yet."
    assert text(render_corpora.plot_positions(results=tmp_path)) == "No record of this yet."


def test_the_figures_say_in_words_what_they_show(made_up, tmp_path):
    measured(tmp_path)
    rows = corpora_table.rows(results=tmp_path / "results")
    assert 'alt="Novelty of the summaries for n from 1 to 4, in per cent. howto-text: 17, 50, 100, 100."' in render_corpora.plot_novelty(rows).data
    positions = render_corpora.plot_positions(results=tmp_path / "results").data
    assert "howto-text: 33 % in the first tenth, 33 % in the last." in positions


def test_a_document_shows_who_takes_which_sentence(made_up, tmp_path):
    shown = render_corpora.document(measured(tmp_path))
    lines = [[cell.get_text() for cell in line.find_all("td")] for line in BeautifulSoup(shown.data, "html.parser").find_all("tr")][1:]
    assert lines == [
        ["1", "LT", "It rained."],
        ["2", "LT", "Some eggs here."],
        ["3", "LTO", "Whisk it."],
        ["4", "TO", "Use a hot oven now."],
    ]
    assert text(shown).endswith("Reference: Whisk it. Hot oven.")


def test_text_of_documents_is_escaped(made_up, tmp_path):
    assert "Rice &lt;in&gt; a pan." in render_corpora.document(measured(tmp_path), 1).data


def test_facts_are_marked_by_a_sign_too(made_up, tmp_path):
    shown = render_corpora.facts(measured(tmp_path), 0, "Whisk in a pan.")
    assert text(shown).startswith("Whisk ✓ in a pan ✗ . Missed: oven.")
    assert "1 of 2 key facts, 0 beside them, 1 made up." in text(shown)


def test_one_wrong_fact_is_seen_by_the_facts_and_hardly_by_rouge(made_up, tmp_path):
    """One of four words: ROUGE-1 75, and one of the two key facts is gone."""
    row = measured(tmp_path)
    assert render_corpora.swapped(row.corpus.documents[0], LEXICON) == "Pan it. Hot oven."
    assert text(render_corpora.wrong_fact(row)).endswith(
        "Pan ✗ it. Hot oven ✓ . Missed: whisk. ROUGE-1 75.0; 1 of 2 key facts, 0 beside them, 1 made up."
    )


def test_of_a_file_no_facts_are_known(tmp_path):
    cell = corpora_table.Cell("corpora", "paper", "made-up", "test", None)
    corpus, path = corpus_of(), cell.path(tmp_path)
    row = corpora_table.Row(cell, corpus, path, corpora_table.read_or_measure(cell, corpus, path, "made up"))
    assert text(render_corpora.wrong_fact(row)) == "The facts of this corpus are not known."
    with pytest.raises(InputError, match="the facts of made-up are not known"):
        render_corpora.facts(row)


def test_a_document_that_is_not_there_is_refused(made_up, tmp_path):
    with pytest.raises(InputError, match="document 2 of howto-text test: choose from 0 to 1"):
        render_corpora.document(measured(tmp_path), 2)
