"""The check of what long texts take: on whole documents of a corpus, with random weights alone."""

import pytest
import torch

from asum_lib.corpora import texts
from asum_lib.corpora.texts import TextCorpus, TextDocument
from asum_lib.errors import InputError
from asum_lib.models import text_ladder
from asum_lib.models.summarize import Decoding
from asum_lib.study import long_text_check, records, remeasure, render_speech
from asum_lib.study.cells import LONG_TEXT

SENTENCE = "We paint the wall red. "
DECODING = Decoding(batch_size=2, max_source_tokens=32, max_new_tokens=4)


def document(identity, sentences):
    return TextDocument(identity, "", (SENTENCE * sentences,), ("Paint.",))


@pytest.fixture
def corpus(monkeypatch):
    """Four documents, the third in length of which is the middle one."""
    documents = (document("long", 30), document("short", 2), document("a", 5), document("b", 9))
    found = TextCorpus("ami", "test", "en", documents, texts.fingerprint(documents))
    monkeypatch.setattr(texts, "load_texts", lambda name, split: found)
    return found


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """{whether it says that its weights are random: a mini T5}."""
    torch.manual_seed(0)
    tokens, found = text_ladder.tokenizer("t5", [SENTENCE] * 20), {}
    for random in (True, False):
        found[random] = tmp_path_factory.mktemp("t5") / "checkpoint"
        model = text_ladder.untrained("t5", tokens)
        if random:
            model.config.asum_note = "random weights"
        model.save_pretrained(found[random])
        tokens.save_pretrained(found[random])
    return found


def test_the_shortest_the_middle_and_the_longest_are_measured(corpus):
    assert [one.id for one in long_text_check.chosen(corpus)] == ["short", "b", "long"]


def test_a_run_counts_parts_and_takes_peak_and_time(checkpoints):
    found = long_text_check._measure(str(checkpoints[True]), SENTENCE * 30, "en", DECODING)
    assert found["words"] == 150 and found["parts"] > 3 and found["longest_part_tokens"] <= 32
    assert found["summarize_s"] > 0 and found["weights_bytes"] == 4 * found["parameters"]


@pytest.fixture
def measured(corpus, checkpoints, tmp_path, monkeypatch):
    """Records of three documents whose peaks are made up: 5, 7 and 6 MB in turn."""
    peaks = iter([5e6, 7e6, 6e6] * 3)
    fixed = {"parts": 4, "longest_part_tokens": 30, "summarize_s": 2.0, "load_s": 1.0, "weights_bytes": 8, "parameters": 2}

    def child(function, checkpoint, text, language, decoding):
        return fixed | {"words": len(text.split()), "summarize_peak_bytes": next(peaks)}

    monkeypatch.setattr(long_text_check.peak, "in_child", child)
    return long_text_check.run(checkpoints[True], decoding=DECODING, results=tmp_path)


def test_a_record_has_the_median_of_the_repeats_and_their_ends(measured):
    path, record = measured[0]
    peak = record.metrics["summarize_peak_bytes"]
    assert (path.name, record.table, record.cell["document"]) == ("t5-small-short.json", LONG_TEXT, "short")
    assert (peak.value, peak.lo, peak.hi, peak.n) == (6e6, 5e6, 7e6, 3)
    assert record.samples is None and record.config["checkpoint_note"] == "random weights"


def test_verify_knows_that_nothing_rests_on_it(measured):
    path, record = measured[0]
    kind = remeasure.kind_of(records.read(path))
    assert remeasure.rescore(path, record) is None
    assert kind.refused(record) == "records of random weights, on which nothing rests"


def test_the_page_shows_them_by_length(measured, tmp_path):
    shown = render_speech.long_text_table(tmp_path).data
    assert shown.index("short") < shown.index(">b<") < shown.index(">long<")
    assert "<td>150</td><td>4</td><td>30</td><td>2.0 (2.0 to 2.0)</td><td>0.50</td><td>6 (5 to 7)</td>" in shown
    assert "Random weights, format check only" in shown


def test_weights_of_its_own_are_refused(corpus, checkpoints, tmp_path):
    with pytest.raises(InputError, match="does not say that its weights are random"):
        long_text_check.run(checkpoints[False], results=tmp_path)


@pytest.mark.slow
def test_a_meeting_is_measured_at_a_real_size(real_data, tmp_path, monkeypatch):
    """Twice the parts that fill a batch take as much memory as one batch and little more."""
    from asum_lib.measure import peak

    checkpoint = long_text_check.make_checkpoint(tmp_path / "t5", real_data / "tokenizers" / "t5")
    text = texts.load_texts(str(real_data / "ami-meetings" / "meetings.jsonl"), "test", "en").documents[0].text
    decoding = Decoding(batch_size=2, max_source_tokens=512, max_new_tokens=4)
    short, whole = (peak.in_child(long_text_check._measure, str(checkpoint), part, "en", decoding) for part in (text[: len(text) // 3], text))
    assert whole["parts"] >= 3 * short["parts"] - 2 > 3
    assert whole["summarize_peak_bytes"] < 1.5 * short["summarize_peak_bytes"]
