import json

import pytest

from asum_lib import papers
from asum_lib.errors import InputError
from asum_lib.measure.stats import Difference
from asum_lib.study import claims, render_ledger
from asum_lib.study.cells import SIZES
from asum_lib.study.claims import Part, decide

LOWER = Difference(-2.0, -3.0, -1.0, 0.001)
HIGHER = Difference(2.0, 1.0, 3.0, 0.001)
TIE = Difference(-0.3, -1.5, 0.9, 0.6)
TIE_THE_OTHER_WAY = Difference(5.0, -1.0, 11.0, 0.09)
NEARLY_ZERO = Difference(-0.1, -0.3, 0.1, 0.4)


def parts(*differences, expect="below"):
    return [Part(f"part {i}", expect, difference, ()) for i, difference in enumerate(differences)]


@pytest.mark.parametrize(
    ("verdict", "stated"),
    [
        ("reproduced", parts(LOWER, LOWER)),
        ("reproduced", parts(HIGHER, HIGHER, expect="above")),
        ("consistent", parts(LOWER, TIE)),
        ("inconclusive", parts(TIE, TIE)),
        ("inconclusive", parts(LOWER, TIE_THE_OTHER_WAY)),
        ("inconclusive", parts(LOWER, None)),
        ("inconclusive", parts(None, None)),
        ("not reproduced", parts(LOWER, HIGHER)),
        ("not reproduced", parts(HIGHER, None)),
        ("not reproduced", parts(NEARLY_ZERO, NEARLY_ZERO)),
        ("inconclusive", parts(NEARLY_ZERO, TIE)),
        ("reproduced", parts(LOWER) + parts(TIE, expect="not above")),
        ("reproduced", parts(LOWER) + parts(LOWER, expect="not above")),
        ("not reproduced", parts(LOWER) + parts(HIGHER, expect="not above")),
        ("inconclusive", parts(TIE) + parts(LOWER, expect="not above")),
    ],
)
def test_verdicts_by_their_definition(verdict, stated):
    assert decide(stated, equivalent_within_points=0.5)[0] == verdict


def test_significance_is_of_the_corrected_p():
    """0.02 alone is significant; of three, Holm makes it 0.06."""
    just = Difference(-2.0, -3.0, -0.1, 0.02)
    assert decide(parts(just), 0.5)[0] == "reproduced"
    verdict, reason, p_holm = decide(parts(just, just, just), 0.5)
    assert (verdict, reason) == ("inconclusive", "of 3 parts: 3 tied")
    assert p_holm == pytest.approx([0.06, 0.06, 0.06])


def test_missing_parts_do_not_enter_the_correction():
    assert decide(parts(Difference(-2.0, -3.0, -0.1, 0.02), None, None), 0.5)[2] == [0.02, None, None]


@pytest.fixture
def study(add_record, tmp_path):
    """Adds a cell with all its seeds, every utterance with the same number of errors in 100 words: its WER in per cent."""

    def add(size, precision, method, wer, *, rate="1/40", dev=None):
        dev = {epoch: [count] * 4 for epoch, count in (dev or {}).items()}
        for seed in range(3 if method != "none" else 1):
            add_record(size, precision, method, rate=rate, seed=seed, errors=[wer] * 4, words=100, dev=dev)

    return add


def verdict_of(claim_id, tmp_path):
    [claim] = [claim for claim in claims.judge(results=tmp_path / "results") if claim["claim"] == claim_id]
    return claim


def test_without_records_nothing_is_testable(tmp_path):
    judged = claims.judge(results=tmp_path / "results")
    assert [claim["claim"] for claim in judged] == [*(f"A{n}" for n in range(1, 15)), "V1", "B1", "B2", *(f"C{n}" for n in range(1, 7))]
    assert {claim["verdict"] for claim in judged} == {"not testable"}
    assert set(judged[0]) == {
        "claim",
        "text",
        "paper",
        "where",
        "kind",
        "scale",
        "rule",
        "rule_text",
        "rule_sha",
        "verdict",
        "reason",
        "evidence",
    } | {
        "rule_standing",
        "foreseen",
        "earlier_rules",
    }
    json.dumps(judged)


def test_a5_reproduced_when_lower_at_every_size(study, tmp_path):
    for size in SIZES:
        study(size, "int8", "none", 20)
        study(size, "int8", "adalora", 17)
    claim = verdict_of("A5", tmp_path)
    assert (claim["verdict"], claim["reason"]) == ("reproduced", "of 5 parts: 5 hold")
    first = claim["evidence"][0]
    assert first["what"] == "tiny: int8 + adalora at rate 1/40 minus int8 alone"
    assert (first["difference"], first["outcome"], first["decides"]) == (pytest.approx(-3), "holds", True)
    assert first["p_holm"] == 0  # every utterance of every seed says the same
    assert len(first["records"]) == 4
    assert [part["outcome"] for part in claim["evidence"] if not part["decides"]] == ["missing"] * 5


def test_a5_not_reproduced_when_one_size_goes_the_other_way(study, tmp_path):
    for size in SIZES:
        study(size, "int8", "none", 20)
        study(size, "int8", "adalora", 22 if size == "tiny" else 17)
    assert verdict_of("A5", tmp_path)["verdict"] == "not reproduced"


def test_a5_not_reproduced_when_adapting_changes_nothing(study, tmp_path):
    for size in SIZES:
        study(size, "int8", "none", 20)
        study(size, "int8", "adalora", 20)
    claim = verdict_of("A5", tmp_path)
    assert (claim["verdict"], claim["reason"]) == ("not reproduced", "of 5 parts: 5 tied; every difference is within 0.5 points of 0")


def test_a5_inconclusive_while_a_seed_is_missing(study, add_record, tmp_path):
    for size in SIZES:
        study(size, "int8", "none", 20)
        study(size, "int8", "adalora", 17)
    add_record("large", "int8", "adalora", seed=2, reason="out of memory")
    claim = verdict_of("A5", tmp_path)
    assert (claim["verdict"], claim["reason"]) == ("inconclusive", "of 5 parts: 4 hold, 1 missing")


def test_a6_holds_int8_adalora_against_all_three_rivals(study, tmp_path):
    for size in SIZES:
        study(size, "int8", "adalora", 10)
        study(size, "int8", "none", 12)
        study(size, "int4", "none", 14)
        study(size, "int4", "adalora", 13)
    assert verdict_of("A6", tmp_path)["reason"] == "of 15 parts: 15 hold"
    study("medium", "int4", "adalora", 8)
    assert verdict_of("A6", tmp_path)["verdict"] == "not reproduced"


def test_a8_is_about_harm_as_well_as_help(study, tmp_path):
    for size in SIZES:
        study(size, "fp32", "none", 20)
        study(size, "fp32", "full", 18)
        study(size, "fp32", "full", 25, rate="1")
    assert verdict_of("A8", tmp_path)["verdict"] == "reproduced"
    for size in SIZES:
        study(size, "fp32", "full", 10, rate="1")
    claim = verdict_of("A8", tmp_path)
    assert (claim["verdict"], claim["reason"]) == ("not reproduced", "of 15 parts: 5 hold, 10 contradict")


def add_a9(study, full, inactive, adalora):
    for size in ("medium", "large"):
        study(size, "fp32", "full", 20, dev=full)
        study(size, "int8", "adalora-inactive", 20, dev=inactive)
        study(size, "int8", "adalora", 20, dev=adalora)


def test_a9_reproduced_when_only_the_cells_without_adalora_get_worse_early(study, tmp_path):
    """Full: 20 to a mean of 24 in epochs 1 and 2; inactive: to 22; AdaLoRA: to 19. Epoch 3 does not count."""
    add_a9(study, {0: 20, 1: 26, 2: 22, 3: 5}, {0: 20, 1: 22, 2: 22, 3: 5}, {0: 20, 1: 20, 2: 18, 3: 50})
    claim = verdict_of("A9", tmp_path)
    assert (claim["verdict"], claim["reason"]) == ("reproduced", "of 10 parts: 10 hold")
    assert [round(part["difference"]) for part in claim["evidence"][:5]] == [-1, 4, -5, 2, -3]


def test_a9_not_reproduced_when_full_fine_tuning_helps_from_the_first_epoch(study, tmp_path):
    add_a9(study, {0: 20, 1: 16, 2: 14}, {0: 20, 1: 19, 2: 19}, {0: 20, 1: 19, 2: 18})
    assert verdict_of("A9", tmp_path)["verdict"] == "not reproduced"


def test_a9_not_reproduced_when_adalora_gets_worse_too(study, tmp_path):
    add_a9(study, {0: 20, 1: 30, 2: 30}, {0: 20, 1: 30, 2: 30}, {0: 20, 1: 22, 2: 22})
    claim = verdict_of("A9", tmp_path)
    assert [part["outcome"] for part in claim["evidence"][:5]] == ["contradicts", "holds", "holds", "holds", "holds"]
    assert claim["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("ladder", "falls", "verdict"),
    [
        ((40, 35, 30, 15, 12), [10, 10, 12], "reproduced"),
        ((60, 35, 30, 15, 12), [-10, 10, 12], "not reproduced"),
    ],
)
def test_a10_holds_the_step_against_each_other_step(study, tmp_path, ladder, falls, verdict):
    for size, wer in zip(SIZES, ladder, strict=True):
        study(size, "int8", "adalora", wer)
    claim = verdict_of("A10", tmp_path)
    assert [round(part["difference"]) for part in claim["evidence"] if part["decides"]] == falls
    assert claim["verdict"] == verdict


def test_unlike_signatures_are_never_judged(study, add_record, tmp_path):
    study("tiny", "int8", "none", 20)
    for seed in range(3):
        add_record("tiny", "int8", "adalora", seed=seed, signature="wer|norm:other")
    with pytest.raises(InputError, match="unlike signatures"):
        claims.judge(results=tmp_path / "results")


def test_every_rule_of_the_ledger_can_be_evaluated(add_record, tmp_path):
    """One record of the table is enough for a rule to be read and its parts to be laid out."""
    add_record("tiny", "fp32")
    for claim in claims.judge(results=tmp_path / "results"):
        testable = claim["rule"].get("table") == "whisper_wer"
        assert claim["verdict"] == ("inconclusive" if testable else "not testable")
        assert bool(claim["evidence"]) == testable


def test_a_scale_that_cannot_decide_is_said(tmp_path, add_record, monkeypatch):
    add_record("tiny", "fp32")
    rule = {"kind": "comparisons", "table": "whisper_wer", "sizes": ["tiny"], "equivalent_within_points": 0.5, "deciding": []}
    claim = {"id": "X1", "text": "x", "where": "x", "kind": "absolute", "scale": "paper", "rule_text": "x", "rule": rule}
    monkeypatch.setattr(papers, "names", lambda: ["derkach2024"])
    monkeypatch.setattr(papers, "load", lambda name: {"claims": [claim]})
    [judged] = claims.judge(results=tmp_path / "results")
    assert (judged["verdict"], judged["reason"]) == ("not testable", "scale mini cannot decide it: it needs paper")


def test_verdicts_that_arithmetic_gives_are_marked_as_such(tmp_path):
    marked = {claim["claim"]: claim["foreseen"]["parts"] for claim in claims.judge(results=tmp_path) if claim["foreseen"]}
    assert marked == {"A4": "all", "A7": "some", "A11": "all", "A12": "some"}


@pytest.mark.parametrize(
    ("identity", "units"),
    [
        ("A5", {"points of WER"}),
        ("A12", {"ms", "kB"}),
        ("A13", {"percentage points of summaries"}),
        ("V1", {"percentage points", "points of ROUGE"}),
    ],
)
def test_the_unit_of_a_part_is_its_metrics(identity, units):
    [judged] = claims.judge(only=identity)
    assert {part["unit"] for part in judged["evidence"]} == units


def test_a_claim_of_several_units_shows_each_beside_its_value():
    shown = render_ledger.claim_evidence("V1").data
    assert '<th scope="col">difference (95 % interval)</th>' in shown
    assert ") percentage points</td>" in shown and ") points of ROUGE</td>" in shown
    assert "points of WER" not in shown
