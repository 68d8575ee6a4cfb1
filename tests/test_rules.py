"""When a rule was written, and what it said before."""

import json

import pytest

from asum_lib.errors import InputError
from asum_lib.study import claims, rules
from asum_lib.study.cells import SIZES

RULE = {
    "kind": "comparisons",
    "table": "whisper_wer",
    "sizes": ["tiny"],
    "equivalent_within_points": 0.5,
    "deciding": [{"a": {"precision": "int4", "method": "none"}, "expect": "below", "b": {"precision": "fp4", "method": "none"}}],
}
CLAIM = {"id": "R1", "text": "x", "rule_text": "a  rule\n in words", "rule": RULE}


@pytest.fixture
def log(tmp_path):
    return tmp_path / "rules.jsonl"


def test_the_hash_of_a_rule_follows_its_content_not_its_layout():
    assert rules.rule_sha(RULE) == rules.rule_sha(dict(reversed(RULE.items())))
    assert rules.rule_sha(RULE) != rules.rule_sha(RULE | {"sizes": ["base"]})


def test_a_rule_is_noted_once_with_its_time(log):
    [written] = rules.register([("mine", CLAIM)], log)
    assert rules.register([("mine", CLAIM)], log) == []
    assert rules.read(log) == [written]
    assert (written.paper, written.claim, written.rule_text) == ("mine", "R1", "a rule in words")


def test_a_changed_rule_is_appended_and_the_earlier_one_stays(log):
    rules.register([("mine", CLAIM)], log)
    first = log.read_text()
    rules.register([("mine", CLAIM | {"rule": RULE | {"sizes": ["base"]}})], log)
    assert log.read_text().startswith(first)
    assert [written.rule["sizes"] for written in rules.read(log)] == [["tiny"], ["base"]]


def test_a_note_that_a_table_does_not_exist_is_no_rule(log):
    assert rules.register([("mine", CLAIM | {"rule": {"kind": "not_testable", "until": "e2e"}})], log) == []
    assert rules.standing({"kind": "not_testable", "until": "e2e"}, [], None) == "no rule yet"


def test_a_line_that_was_edited_is_refused(log):
    rules.register([("mine", CLAIM)], log)
    line = json.loads(log.read_text())
    line["rule"]["sizes"] = ["base"]
    log.write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=r"rules.jsonl, line 1: the rule of R1 is not the one of its hash"):
        rules.read(log)


def test_a_cut_line_is_refused(log):
    rules.register([("mine", CLAIM)], log)
    log.write_text(log.read_text()[:40])
    with pytest.raises(InputError, match=r"rules.jsonl, line 1: not JSON"):
        rules.read(log)


def written(*times):
    return [rules.Written("mine", "R1", rules.rule_sha(RULE), time, "", RULE) for time in times]


@pytest.mark.parametrize(
    ("times", "first_run_at", "said"),
    [
        ([], None, "not registered"),
        (["2026-01-02T10:00:00+00:00"], None, "written 2026-01-02 10:00 UTC, no record behind it yet"),
        (["2026-01-02T10:00:00+00:00"], "2026-01-02T10:30:00+00:00", "written 2026-01-02 10:00 UTC, before the first of its records"),
        (["2026-01-02T12:00:00+02:00"], "2026-01-02T10:30:00+00:00", "written 2026-01-02 10:00 UTC, before the first of its records"),
        (["2026-01-03T10:00:00+00:00"], "2026-01-02T10:30:00+00:00", "written 2026-01-03 10:00 UTC, AFTER the first of its records"),
        (["2026-01-01T10:00:00+00:00", "2026-01-03T10:00:00+00:00"], "2026-01-02T10:30:00+00:00", "CHANGED 2026-01-03 10:00 UTC, AFTER the first"),
    ],
)
def test_how_a_rule_stands_to_its_run(times, first_run_at, said):
    assert rules.standing(RULE, written(*times), first_run_at).startswith(said)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("all", "written 2026-01-02 10:00 UTC, FORESEEN BY ARITHMETIC (first record 2026-01-02 10:30 UTC; widths give it)"),
        ("some", "written 2026-01-02 10:00 UTC, before the first of its records; IN PART FORESEEN BY ARITHMETIC ("),
    ],
)
def test_what_arithmetic_gives_is_neither_before_nor_after(parts, said):
    log, foreseen = written("2026-01-02T10:00:00+00:00"), {"parts": parts, "why": "widths give it"}
    assert rules.standing(RULE, log, "2026-01-02T10:30:00+00:00", foreseen).startswith(said)


def test_a_rule_that_was_changed_and_not_registered_says_so():
    said = rules.standing(RULE | {"sizes": ["base"]}, written("2026-01-02T10:00:00+00:00"), None)
    assert said.startswith("CHANGED since 2026-01-02 10:00 UTC, not registered")


def test_every_rule_of_the_papers_is_registered():
    """A changed rule fails here until `asum claims --register` has noted it, which then shows on the page of the claims."""
    log = rules.read()
    for paper, claim in claims.stated_claims():
        if rules.testable(claim["rule"]):
            assert rules.of_claim(paper, claim["id"], log)[-1].rule_sha == rules.rule_sha(claim["rule"]), claim["id"]


def test_the_first_rules_of_the_ledger_stay_in_its_log():
    """The log only grows: these were written before the first cell of their tables was measured."""
    first = {}
    for kept in rules.read():
        first.setdefault(kept.claim, kept.rule_sha[:16])
    assert (
        first
        | {
            "A4": "b3b5dd9aad99cc2f",
            "A7": "3a968042e240bd6c",
            "A11": "2d5c0132caa4b0c8",
            "A5": "f57f28516548d602",
            "A6": "a3c5e7816097b1ab",
            "A8": "c84651110ab1859b",
            "A9": "ce34602e7ec17af6",
            "A10": "fc340c05bd16d556",
        }
        == first
    )


def test_a_changed_rule_shows_in_the_verdict_with_what_the_earlier_one_would_have_said(add_record, tmp_path, log):
    """20 % against 17 % in the end; the earlier rule claimed the other direction and is judged on the same records."""
    for size in SIZES:
        add_record(size, "int4", errors=[17] * 10)
        add_record(size, "fp4", errors=[20] * 10)
    file = tmp_path / "mine.yaml"
    [pair] = RULE["deciding"]
    earlier = CLAIM | {"rule": RULE | {"deciding": [pair | {"expect": "above"}]}}
    for claim in (earlier, CLAIM):
        file.write_text(json.dumps({"claims": [claim]}))
        rules.register(claims.stated_claims(file), rules.log_of(file))
    [judged] = claims.judge(results=tmp_path / "results", file=file)
    assert judged["verdict"] == "reproduced"
    assert judged["rule_standing"].startswith("CHANGED")
    assert [rule["verdict"] for rule in judged["earlier_rules"]] == ["not reproduced"]
