from asum_lib.paths import RESULTS
from asum_lib.study import render_status


def shown_counts(scale):
    said = render_status.status(scale).data
    return int(said.removeprefix("<p>").partition(" records")[0]), said


def test_every_record_on_disk_is_counted():
    mini, said = shown_counts("mini")
    assert mini == len(list((RESULTS / "mini").rglob("*.json")))
    for table in ("corpora", "e2e", "e2e_cost", "prosody", "video"):
        assert f"<h3>{table}</h3>" in said


def test_scale_paper_shows_what_it_has():
    paper, said = shown_counts("paper")
    assert paper == len(list((RESULTS / "paper").rglob("*.json")))
    assert "<h3>memory</h3>" in said and "210 of 210 planned" in said
    assert "<h3>rouge_ami</h3>" in said and "Nothing is measured yet of whisper_wer" in said
