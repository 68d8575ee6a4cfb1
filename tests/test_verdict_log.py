"""No verdict changes without a line that says why."""

import json

import pytest

from asum_lib.errors import InputError
from asum_lib.study import claims, render_ledger, verdict_log
from asum_lib.study.cells import SCALES
from asum_lib.study.verdict_log import Change


def logged(tmp_path, *lines):
    log = tmp_path / "verdicts.jsonl"
    log.write_text("".join(json.dumps(dict(zip(verdict_log.KEYS, line, strict=True))) + "\n" for line in lines))
    return log


def test_a_change_has_the_verdict_before_it(tmp_path):
    log = logged(tmp_path, ("A1", "mini", "2026-01-01", "reproduced", "first"), ("A1", "mini", "2026-02-01", "inconclusive", "three seeds more"))
    assert verdict_log.changes(log)[1] == Change("A1", "mini", "2026-02-01", "reproduced", "inconclusive", "three seeds more")


def test_a_verdict_that_is_not_listed_is_named(tmp_path):
    log = logged(tmp_path, ("A1", "mini", "2026-01-01", "reproduced", "first"))
    judged = [{"claim": "A1", "scale": "mini", "verdict": "inconclusive"}]
    assert verdict_log.unlisted(judged, log) == ["A1 at scale mini: inconclusive, but the log says reproduced"]


def test_a_faulty_line_is_named(tmp_path):
    log = tmp_path / "verdicts.jsonl"
    log.write_text('{"claim": "A1"}\n')
    with pytest.raises(InputError, match=r"verdicts\.jsonl, line 1: missing key 'scale'"):
        verdict_log.changes(log)


@pytest.mark.parametrize("scale", SCALES)
def test_todays_verdicts_are_the_last_of_the_log(scale):
    assert verdict_log.unlisted(claims.judge(scale)) == []


def test_the_page_shows_before_after_and_why():
    shown = render_ledger.verdict_changes().data
    assert "A3" in shown and "not reproduced" in shown and "variance components" in shown
