"""What the page on speech summarisation shows, from the shipped records and from none."""

import pytest
from bs4 import BeautifulSoup

from asum_lib.paths import RESULTS
from asum_lib.study import placing, records, render_speech


def rows(shown):
    return [[cell.get_text(" ") for cell in row.find_all("td")] for row in BeautifulSoup(shown.data, "html.parser").find_all("tr")[1:]]


@pytest.mark.parametrize("show", [render_speech.meetings_table, render_speech.meetings_findings, render_speech.long_text_table])
def test_without_records_it_is_said(show, tmp_path):
    assert "No record of this yet" in show(tmp_path).data


def test_every_value_of_the_meetings_is_that_of_its_record_and_leads_there():
    shown = render_speech.meetings_table()
    soup = BeautifulSoup(shown.data, "html.parser")
    for system, (name, _) in render_speech.SYSTEMS.items():
        record = records.read(RESULTS / "paper" / "rouge_ami" / f"{system}-s0.json")
        (row,) = (row for row in rows(shown) if row[0] == name)
        metric = record.metrics["rouge1"]
        assert row[2] == f"{metric.value:.1f} {metric.lo:.1f} to {metric.hi:.1f}" and row[6:] == ["142", "ok"]
        assert soup.find("a", href=f"../results/paper/rouge_ami/{system}-s0.json")


def test_the_shipped_records_hold_no_word_of_the_meetings():
    for path, _ in placing.load(RESULTS, "paper", "rouge_ami"):
        assert {(row["reference"], row["summary"]) for row in records.read_samples(path)} == {(None, None)}


def test_differences_are_paired_over_the_same_meetings():
    first = render_speech.meetings_findings().data.split("<li>")[1]
    assert first.startswith("TextRank, to the reference&#x27;s length less Lead, to the reference&#x27;s length: ROUGE-1 +")


def test_how2s_figures_stand_beside_cells_that_are_not_measured(tmp_path):
    found = {row[0]: row[1:] for row in rows(render_speech.how2_table(tmp_path))}
    assert found["ROUGE-1"] == ["60.72 (primary)", "not measured here", "not measured"]
    assert found["BERTScore"] == ["91.53 (primary)", "not measured here", "shown, does not decide"]
    assert found["WER of the recipe's recogniser, %"][0] == "8.8 (primary)"
    assert found["end to end less its cascade, points of ROUGE"][0] == "3 (primary)"


def test_the_longest_meeting_takes_little_more_memory_than_one_that_fills_the_batches():
    """What the page says in words, held against the shipped records."""
    found = sorted((record for _, record in placing.load(RESULTS, "paper", "format_check_long_text")), key=lambda one: one.metrics["words"].value)
    _, middle, longest = (record.metrics for record in found)
    assert longest["parts"].value > 2 * middle["parts"].value > 2 * found[0].config["decoding"]["batch_size"]
    assert longest["summarize_peak_bytes"].value < 1.25 * middle["summarize_peak_bytes"].value
