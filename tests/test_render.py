"""What pages show of made-up records: values, ties, what is unknown or missing, and nothing unescaped."""

import re

from bs4 import BeautifulSoup

from asum_lib.study import render, render_ledger


def text(shown) -> str:
    return " ".join(BeautifulSoup(shown.data, "html.parser").get_text(" ").split())


def results(tmp_path):
    return tmp_path / "results"


def test_a_cell_shows_value_interval_paper_and_a_link_to_its_record(add_record, tmp_path):
    for seed in range(3):
        add_record("large", "int8", "adalora", seed=seed, errors=[1] * 10)
    shown = render.main_table(results=results(tmp_path))
    assert "10.0 ★ 10.0 to 10.0 9.8 s" in text(shown)
    assert 'href="../results/mini/whisper_wer/whisper-large-int8-adalora-r8-s0.json"' in shown.data


def test_a_difference_inside_noise_is_shown_as_a_tie_and_one_outside_is_not(add_record, tmp_path):
    noise, same, worse = [1, 0] * 20, [0, 1] * 20, [6, 6] * 20
    for precision, errors in {"fp32": noise, "int8": same, "int4": worse}.items():
        add_record("tiny", precision, errors=errors)
    row = text(render.main_table(results=results(tmp_path))).split("tiny", 1)[1].split("base", 1)[0]
    assert re.search(r"5\.0 ★ .* 5\.0 = .* 60\.0 [^=★]", row)


def test_what_the_sources_do_not_give_is_a_question_mark_and_what_is_not_measured_says_so(add_record, tmp_path):
    add_record("tiny", "fp32")
    row = text(render.main_table(results=results(tmp_path))).split("tiny", 1)[1].split("base", 1)[0]
    assert "?" in row
    assert "missing" in row


def test_a_failed_cell_shows_its_reason_escaped(add_record, tmp_path):
    add_record("tiny", "int4", reason="RuntimeError: <b>out of memory</b>")
    shown = render.main_table(results=results(tmp_path)).data
    assert "failed" in shown
    assert "&lt;b&gt;out of memory" in shown and "<b>out of memory" not in shown


def test_a_text_says_its_language():
    assert render.in_language("дом & сад", "ru", "li") == '<li lang="ru">дом &amp; сад</li>'


def test_words_are_marked_as_they_were_heard():
    assert render._marked("fold the fabric in half", "fold a fabric half") == ('fold <mark title="spoken: the">a</mark> fabric <del>in</del> half')
    assert render._marked("cut it", "cut it now") == 'cut it <mark title="spoken: ">now</mark>'


def test_findings_name_a_tie_and_say_how_much_was_measured(add_record, tmp_path):
    add_record("tiny", "fp32", errors=[1, 0] * 20)
    add_record("tiny", "int8", errors=[0, 1] * 20)
    said = text(render.findings(results=results(tmp_path)))
    assert "int8 against full precision, nothing trained, in points of WER: tiny +0.0" in said
    assert "a tie" in said
    assert "40 test utterances" in said


def test_without_records_every_view_says_so_instead_of_failing(tmp_path):
    (results(tmp_path) / "mini").mkdir(parents=True)
    assert "No record" in text(render.findings(results=results(tmp_path)))
    assert "No record" in text(render.plot_curves([]))
    assert "No record" in text(render.plot_bytes(results=results(tmp_path)))
    assert "missing" in text(render.main_table(results=results(tmp_path)))


def test_a_figure_has_a_text_alternative_with_its_numbers(add_record, tmp_path):
    add_record("tiny", "fp32", errors=[1] * 10)
    image = BeautifulSoup(render.plot_ladder(results=results(tmp_path)).data, "html.parser").img
    assert "fp32 tiny 10.0" in image["alt"]
    assert image["src"].startswith("data:image/svg+xml;base64,")


def test_a_claim_shows_its_rule_and_every_comparison(add_record, tmp_path):
    for size in render.SIZES:
        add_record(size, "int8", errors=[5] * 20)
        for seed in range(3):
            add_record(size, "int8", "adalora", seed=seed, errors=[2] * 20)
    shown = text(render_ledger.claim_evidence("A5", results=results(tmp_path)))
    assert shown.startswith("reproduced")
    assert "-30.0 (-30.0 to -30.0)" in shown


def test_what_is_measured_beside_the_grid_moves_no_page(add_record, tmp_path):
    add_record("tiny", "fp32", errors=[5] * 20)
    before = [text(view(results=results(tmp_path))) for view in (render.main_table, render.findings, render.plot_bytes, render.ladder_table)]
    add_record("tiny", "int4-dq", errors=[0] * 20)
    add_record("tiny", "int8", "lora", errors=[0] * 20)
    after = [text(view(results=results(tmp_path))) for view in (render.main_table, render.findings, render.plot_bytes, render.ladder_table)]
    assert after == before


def test_the_pareto_front_is_what_nothing_beats_in_both():
    rows = [{"weights_bytes": size, "value": value} for size, value in ((3, 10.0), (1, 30.0), (2, 40.0), (4, 10.0), (3, 12.0), (5, 9.0))]
    assert [(row["weights_bytes"], row["value"]) for row in render.pareto_front(rows)] == [(1, 30.0), (3, 10.0), (5, 9.0)]
