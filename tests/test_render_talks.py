"""What the pages on speech summarisation show, from made-up records of twelve talks and from none."""

from functools import partial

import pytest
from bs4 import BeautifulSoup
from talk_records import cost_rows, few, misheard, tool, without_tool, write_cell, write_system

from asum_lib.corpora import talks
from asum_lib.study import records, render_prosody, render_talk_errors, render_talks
from asum_lib.study.talk_cells import COST, PROSODY, make_talk_cell


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def add(results):
    return partial(write_system, results)


def rows(shown):
    """{first column: the other columns} of every table of what is shown."""
    found = BeautifulSoup(shown.data, "html.parser").find_all("tr")
    lines = [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in found]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


def lines(shown):
    return [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in BeautifulSoup(shown.data, "html.parser").find_all("tr")
    ]


SHOWN = [
    render_talks.main_table,
    render_talks.differences_table,
    render_talks.findings,
    render_talks.cost_table,
    render_talks.cost_findings,
    render_talks.steps_table,
    render_talk_errors.plot_wer,
    render_talk_errors.wer_table,
    render_talk_errors.groups_table,
    render_talk_errors.costs_table,
    render_talk_errors.survival_table,
    render_talk_errors.examples,
    render_talk_errors.findings,
    render_prosody.main_table,
    render_prosody.plot,
    render_prosody.findings,
]


@pytest.mark.parametrize("show", SHOWN)
def test_without_records_it_is_said(show, tmp_path):
    assert "No record of this yet" in show(tmp_path).data


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    results = tmp_path_factory.mktemp("failed") / "results"
    for system in ("reference", "cascade", "e2e"):
        write_system(results, system, reason="RuntimeError: out of memory")
        write_system(results, system, reason="RuntimeError: out of memory", table=PROSODY, corpus="howto-stress")
    write_system(results, "both", reason="RuntimeError: out of memory", table=COST)
    return results


@pytest.mark.parametrize("show", SHOWN)
def test_failed_records_are_no_values_and_raise_nothing(show, failed):
    data = show(failed).data
    assert "No record of this yet" in data or "out of memory" in data


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    results = tmp_path_factory.mktemp("one") / "results"
    write_system(results, "e2e", seeds=(0,))
    write_system(results, "e2e", seeds=(0,), table=PROSODY, corpus="howto-stress")
    write_cell(results, make_talk_cell("both", table=COST), cost_rows(0))
    return results


ALONE = [show for show in SHOWN if show.__module__ != "asum_lib.study.render_talk_errors"]
ALONE += [render_talk_errors.survival_table, render_talk_errors.examples]


@pytest.mark.parametrize("show", ALONE)
def test_one_seed_of_one_system_is_enough_to_show(show, one_seed):
    assert "No record of this yet" not in show(one_seed).data


def test_a_value_leads_to_its_record_and_what_is_missing_says_why(add, results):
    paths = add("cascade", without_tool, misheard)
    add("lead3", seeds=(0,))
    add("e2e", reason="RuntimeError: out of memory", seeds=(0,))
    add("e2e", seeds=(1,))
    shown = render_talks.main_table(results)
    record, found = records.read(paths[0]), rows(shown)
    value = record.metrics["fact_recall"]
    assert found["cascade, medium int8 + AdaLoRA"][3].startswith(f"{value.value:.1f} {value.lo:.1f} to ")
    assert found["cascade, medium int8 + AdaLoRA"][5].startswith(f"{record.metrics['wer_pct'].value:.1f}")
    assert found["cascade, medium int8 + AdaLoRA"][6:] == ["2.50", "1,234", "12", "3"]
    assert found["upper bound: reads what was said"][0] == "missing"
    assert found["end-to-end"][-1] == "1, partial"
    soup = BeautifulSoup(shown.data, "html.parser")
    assert soup.find("a", href="../results/mini/e2e/cascade-medium-int8-adalora-s0.json")
    assert soup.find(title="seed 0 failed: RuntimeError: out of memory; seed 2 missing")


def test_the_best_that_hears_and_ties_are_marked_by_column(add, results):
    add("reference")
    add("cascade", without_tool, misheard)
    add("e2e")
    found = rows(render_talks.main_table(results))
    assert found["end-to-end"][0].startswith("100.0 ★°")
    assert not set("★=°") & set(found["cascade, medium int8 + AdaLoRA"][0])
    assert found["end-to-end"][4].startswith("0.0 °")  # of made-up facts none is best, but both have none
    assert found["end-to-end"][5] == ""  # no transcript, no WER


def test_the_oracle_is_no_system_that_hears(add, results):
    add("oracle", seeds=(0,))
    add("cascade", lambda talk: "", misheard)
    add("e2e", without_tool)
    found = rows(render_talks.main_table(results))
    assert "★" in found["end-to-end"][0] and "★" not in found["extractive oracle of what was said"][0]


def test_differences_are_paired_and_name_what_is_missing(add, results):
    add("cascade", without_tool, misheard)
    add("e2e")
    found = rows(render_talks.differences_table(results))
    assert found["end-to-end minus cascade"][3].startswith("+") and found["end-to-end minus cascade"][3][-1] != "="
    assert found["end-to-end minus cascade"][-1] == "3 and 3"
    assert found["end-to-end minus upper bound"][0] == "missing"
    assert "End-to-end minus cascade" in render_talks.findings(results).data and ", above" in render_talks.findings(results).data


def test_equal_systems_are_a_tie_in_words_too(add, results):
    add("cascade", heard=lambda talk: talk.transcript)
    add("e2e")
    assert rows(render_talks.differences_table(results))["end-to-end minus cascade"][0] == "+0.0 (+0.0 to +0.0) ="
    assert "+0.0 (+0.0 to +0.0), a tie" in render_talks.findings(results).data


def test_what_each_step_taught_is_from_the_record(add, results):
    add("e2e", seeds=(1,))
    assert lines(render_talks.steps_table(results))[1:] == [["seed 1", "8.2 after 2,000 steps", "1.500 0.500", "61.0 62.5"]]


def loses(talks_to_lose):
    """(what is written, what is heard) where the tool is misheard, and lost, in some talks alone."""
    lost = {talk.id for talk in few().talks[:talks_to_lose]}
    return (lambda talk: without_tool(talk) if talk.id in lost else talk.summary), (
        lambda talk: misheard(talk) if talk.id in lost else talk.transcript
    )


@pytest.fixture
def worse_and_worse(add):
    """An upper bound that is right throughout, and transcripts of which more and more talks lose their tool."""
    add("reference")
    for size, lost in (("tiny", 9), ("base", 6), ("small", 3)):
        add("ladder", *loses(lost), asr=size, precision="fp32", method="none")
    add("cascade", *loses(2))


def test_a_point_of_wer_costs_what_the_talks_lose(worse_and_worse, results):
    found = lines(render_talk_errors.wer_table(results))
    assert [line[0] for line in found[1:]] == ["all transcripts"] * 2 + ["those of the WER table"] * 2
    slopes = [float(line[2].split()[0]) for line in found[1:]]
    assert all(slope < -1 for slope in slopes)
    assert found[1][5:] == ["5", "12", "3"] and found[1][3].startswith(("99.", "100.", "101."))
    assert "A point of WER costs" in render_talk_errors.findings(results).data
    assert "reads what was said: 0.0 % 100.0" in render_talk_errors.plot_wer(results).data


def test_a_cell_without_all_seeds_is_left_out_and_named(worse_and_worse, add, results):
    add("ladder", *loses(1), seeds=(0, 2), asr="large", precision="fp32", method="none")
    shown = render_talk_errors.wer_table(results).data
    assert "transcripts of the WER table, large fp32 (partial)" in shown and lines(render_talk_errors.wer_table(results))[1][5] == "5"


def test_talks_are_grouped_by_where_the_errors_are(worse_and_worse, results):
    """Of the cascade's twelve talks two lose the tool, which both name wrongly, and the others are as good as the upper bound's."""
    found = [line for line in lines(render_talk_errors.groups_table(results)) if line[0].startswith("the cascade with medium")]
    assert [(line[1], line[2]) for line in found] == [("no error", "30"), ("errors, none on a fact", "0"), ("an error on a fact", "6")]
    assert found[0][3] == "100.0 100.0 to 100.0" and found[0][4] == "0.0 0.0 to 0.0" and found[1][3] == "none"
    assert float(found[2][6].split()[0]) < 0


def test_errors_on_facts_cost_and_others_do_not(add, results):
    """Every third talk loses its tool, every second has a word more at its end that costs nothing."""
    spoken = [talk.id for talk in few().talks]

    def heard(talk):
        at = spoken.index(talk.id)
        return (misheard(talk) if at % 3 == 0 else talk.transcript) + (" well" if at % 2 == 0 else "")

    add("reference")
    add("cascade", lambda talk: without_tool(talk) if spoken.index(talk.id) % 3 == 0 else talk.summary, heard)
    found = {line[1]: line[2:4] for line in lines(render_talk_errors.costs_table(results)) if line[0] == "those of the cascade"}
    on, beside = (float(field.split()[0]) for field in found["facts stated in 100 summaries"])
    assert on < -20 and abs(beside) < 20
    assert "below 0" in render_talk_errors.findings(results).data


def test_a_kind_of_fact_that_is_misheard_does_not_survive(add, results):
    add("cascade", without_tool, misheard)
    add("e2e")
    found = rows(render_talk_errors.survival_table(results))
    assert found["tool"][0] == "12" and found["tool"][1] == "missing"
    assert [field.split()[0] for field in found["tool"][2:5]] == ["0.0", "0.0", "100.0"]
    assert [field.split()[0] for field in found["task"][2:5]] == ["100.0", "100.0", "100.0"]
    assert found["tool"][5] == "+100.0 (+100.0 to +100.0)" and found["task"][5].endswith("=")


def test_the_examples_are_the_first_and_the_furthest_apart(add, results):
    spoken = few().talks
    add("cascade", lambda talk: without_tool(talk) if talk == spoken[7] else talk.summary, lambda talk: misheard(talk) if talk == spoken[7] else "")
    add("e2e")
    soup = BeautifulSoup(render_talk_errors.examples(results).data, "html.parser")
    captions = [caption.text.split(":")[0] for caption in soup.find_all("caption")]
    assert captions == [spoken[0].id, spoken[1].id, spoken[7].id]
    furthest = soup.find_all("table")[2]
    assert furthest.find("mark", string="something") and f"tool: {tool(spoken[7])}" in furthest.text
    assert furthest.find("span", class_="asum-right")


def names_the_first(talk):
    steps = [fact.value for fact in talk.facts if fact.kind == "step"]
    right = next(fact.value for fact in talk.facts if fact.kind == "step" and fact.key)
    return talk.summary.replace(right, steps[0])


def test_who_names_the_stressed_step_stands_against_chance(add, results):
    add("e2e", table=PROSODY, corpus="howto-stress")
    add("cascade", names_the_first, lambda talk: talk.transcript, table=PROSODY, corpus="howto-stress")
    found = {tuple(line[:2]): line[2:] for line in lines(render_prosody.main_table(results))}
    assert found["end-to-end", "with stress"][:2] == ["100.0 100.0 to 100.0", "+66.7 (+66.7 to +66.7)"]
    assert found["cascade", "with stress"][1].endswith("=")
    assert found["cascade", "with stress"][3].startswith("0.0") and found["end-to-end", "with stress"][3] == ""
    assert found["end-to-end", "without stress"][0] == "missing"
    said = render_prosody.findings(results).data
    assert "end-to-end 100.0 % (100.0 to 100.0), above chance" in said and "not told from chance" in said
    assert "without stress, " not in render_prosody.plot(results).data


def test_the_talk_can_be_heard_with_and_without_the_stress():
    shown = render_prosody.stress_player().data
    soup = BeautifulSoup(shown, "html.parser")
    assert len(soup.find_all("audio")) == 2 and len(shown) < 300_000
    script = talks.scripts("howto-stress", "test")[0]
    assert soup.find("strong").text in script.summary


def test_both_variants_of_a_stressed_talk_say_the_same():
    stressed, flat = (talks.scripts(corpus, "test")[0] for corpus in ("howto-stress", "howto-flat"))
    assert stressed.transcript == flat.transcript and stressed.takes != flat.takes


def test_half_the_time_is_half_whatever_the_talk(results):
    for seed in (0, 1, 2):
        write_cell(results, make_talk_cell("both", table=COST, seed=seed), cost_rows(seed))
    found = rows(render_talks.cost_table(results))
    assert found["time a talk, s"][3] == "0.50" and found["time a talk, s"][0].startswith("3.25 ")
    assert found["weights, MB"] == ["2.00", "2.50", "-0.50", "0.80"]
    assert found["highest resident memory of a process, MB"][3] == "1.25"
    assert "0.50 times the cascade&#x27;s time a talk, less than its own" in render_talks.cost_findings(results).data.replace("'", "&#x27;")


def test_every_cell_can_be_looked_up(add, results):
    add("e2e", seeds=(0,))
    data = render_talks.all_cells(results=results).data
    assert "cascade, tiny fp4 + AdaLoRA" in data and "partial: seed 1 missing; seed 2 missing" in data


def test_the_diagram_is_told_in_words():
    said = BeautifulSoup(render_talks.diagram().data, "html.parser").img["alt"]
    assert "Cascade: phrases, then Whisper's encoder, then Whisper's decoder, then transcript, then T5 with AdaLoRA (learns)" in said
