"""Claims of one's own: a file that is right is judged, a mistake in it is one clear line."""

import copy
import random
import re

import pytest
import yaml
from hostile import mutated

from asum_lib import cli, papers
from asum_lib.errors import InputError
from asum_lib.paths import REPOSITORY
from asum_lib.study import claims, own_claims

SHIPPED = REPOSITORY / "book" / "own_claims.yaml"
CLAIM = {
    "id": "R1",
    "text": "NF4 loses less than FP4.",
    "rule_text": "WER of int4 is below that of fp4.",
    "rule": {
        "kind": "comparisons",
        "table": "whisper_wer",
        "sizes": ["tiny"],
        "deciding": [{"a": {"precision": "int4", "method": "none"}, "expect": "below", "b": {"precision": "fp4", "method": "none"}}],
    },
}
ROUGE = {
    "kind": "rouge_comparisons",
    "tables": ["rouge_wikihow"],
    "models": ["t5"],
    "metrics": ["rouge2"],
    "deciding": [{"a": {"method": "full"}, "expect": "above", "b": {"method": "lora", "rank": 16}}],
}
STATED = [claim for name in papers.names() for claim in papers.load(name)["claims"] if claim["rule"]["kind"] in own_claims.RULES] + yaml.safe_load(
    SHIPPED.read_text(encoding="utf-8")
)["claims"]


@pytest.fixture
def write(tmp_path):
    def write(*stated):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"claims": list(stated)}), encoding="utf-8")
        return path

    return write


def test_a_claim_needs_four_keys_and_gets_the_rest(write):
    [claim] = own_claims.load(write(CLAIM))
    assert (claim["scale"], claim["where"], claim["tables"]) == ("mini", "one's own", ["whisper_wer"])
    assert claim["rule"]["equivalent_within_points"] == 0.5


def test_it_is_judged_like_a_papers(write, add_record, tmp_path):
    add_record("tiny", "int4", errors=[17] * 10)
    add_record("tiny", "fp4", errors=[20] * 10)
    [judged] = claims.judge(results=tmp_path / "results", file=write(CLAIM))
    assert (judged["claim"], judged["paper"], judged["verdict"]) == ("R1", "mine", "reproduced")
    assert judged["rule_standing"].startswith("not registered")


def test_a_rule_on_rouge_is_asked_of_the_models_that_it_names(write):
    [judged] = claims.judge(file=write(CLAIM | {"rule": ROUGE}))
    assert [part["what"] for part in judged["evidence"]] == ["t5 on howto-text, rouge2: full minus lora r16"]
    assert judged["evidence"][0]["outcome"] in ("holds", "tie", "contradicts")


def test_a_corpus_and_model_that_the_grid_has_not_are_named(write):
    with pytest.raises(InputError, match=r"no cell of the grid at scale mini has corpus \['news-ru'\] and model \['t5'\]"):
        claims.judge(file=write(CLAIM | {"rule": ROUGE | {"corpora": ["news-ru"]}}))


def test_the_command_judges_a_file_and_registers_its_rules_beside_it(write, capsys):
    path = write(CLAIM)
    assert cli.main(["claims", "--file", str(path), "--register"]) == 0
    assert path.with_suffix(".rules.jsonl").is_file()
    assert cli.main(["claims", "--file", str(path), "--claim", "R1"]) == 0
    assert "tiny: int4 alone minus fp4 alone" in capsys.readouterr().out


def test_the_shipped_example_is_registered_and_testable():
    for judged in claims.judge(file=SHIPPED):
        assert judged["verdict"] not in ("not testable", "inconclusive") or judged["evidence"]
        assert "not registered" not in judged["rule_standing"]


def test_the_example_of_the_readme_is_judged(tmp_path):
    blocks = re.findall(r"```\w*\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    [block] = [block for block in blocks if "rule_text:" in block]
    path = tmp_path / "mine.yaml"
    path.write_text(SHIPPED.read_text(encoding="utf-8") + block, encoding="utf-8")
    first, second = claims.judge(file=path)
    assert (first["claim"], second["claim"], len(second["evidence"])) == ("R1", "R2", 1)


def wrong(change):
    claim = copy.deepcopy(CLAIM)
    change(claim)
    return claim


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("rule_text"), r"mine.yaml: claim 1 \(R1\): missing rule_text; keys are id, text, rule_text, rule and, optional, where"),
        (lambda c: c.update(verdict="yes"), r"unknown key verdict"),
        (lambda c: c.update(text=3), r"text 3 is no text"),
        (lambda c: c.update(scale="huge"), r"unknown scale in .* 'huge': choose from mini, paper"),
        (lambda c: c.update(rule=[1]), r"rule: \[1\] is not a mapping"),
        (lambda c: c["rule"].update(kind="compare"), r"unknown kind of .*rule 'compare': choose from comparisons, largest_step"),
        (lambda c: c["rule"].pop("kind"), r"rule: missing kind: choose from comparisons, largest_step"),
        (lambda c: c["rule"].update(table="whisper_were"), r"unknown table in .*rule 'whisper_were': choose from whisper_wer, whisper_source"),
        (lambda c: c["rule"].update(table="whisper_digits", sizes=["base"]), r"unknown size in .*'base': choose from tiny, small, large"),
        (lambda c: c["rule"].update(equivalent_within_points="half"), r"rule: equivalent_within_points 'half' is not a number above 0"),
        (lambda c: c["rule"].update(deciding=c["rule"]["deciding"][0]), r"rule: deciding is not a list of comparisons: each is a line of its own"),
        (lambda c: c["rule"].update(deciding=[]), r"rule: deciding is not a list of comparisons"),
        (lambda c: c["rule"]["deciding"][0].update(expect="within"), r"deciding 1: expect within needs within_points"),
        (lambda c: c["rule"]["deciding"][0].update(b=c["rule"]["deciding"][0]["a"]), r"deciding 1: a and b are the same"),
        (
            lambda c: c["rule"]["deciding"][0].update(a={"precision": "int4-dq", "method": "none"}),
            r"1: a: table whisper_wer has no such cell in its grid",
        ),
        (lambda c: c["rule"].pop("sizes"), r"rule: missing sizes; keys are kind, table, sizes, deciding"),
        (lambda c: c["rule"].update(sizes="tiny"), r"size in .*: 'tiny' is not a list of one or more of tiny, base"),
        (lambda c: c["rule"].update(sizes=["huge"]), r"unknown size in .*'huge': choose from tiny, base"),
        (lambda c: c["rule"]["deciding"][0].update(expect="lower"), r"unknown expectation in .*deciding 1 'lower': choose from below, above"),
        (lambda c: c["rule"]["deciding"][0].pop("b"), r"deciding 1: missing b; keys are a, expect, b"),
        (lambda c: c["rule"]["deciding"][0]["a"].update(precision="int3"), r"unknown precision in .*deciding 1: a: 'int3': choose from fp32"),
        (lambda c: c["rule"]["deciding"][0]["a"].update(method="full"), r"deciding 1: a: a rate is missing: 1, 1/4, 1/10, 1/40, 1/100"),
        (lambda c: c["rule"]["deciding"][0]["a"].update(rate="1"), r"method none trains nothing: leave the rate out"),
        (lambda c: c.update(rule=ROUGE | {"metrics": ["rouge3"]}), r"unknown metric in .*'rouge3': choose from rouge1"),
        (lambda c: c.update(rule=ROUGE | {"models": ["mbart"]}), r"rule: it is asked of mbart on news-ru too, .* or write corpora: \[howto-text\]"),
        (lambda c: c.update(rule=ROUGE | {"models": ["bart"]}), r"unknown model in .*'bart': choose from t5, mbart"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_what_would_be_right(write, change, message):
    with pytest.raises(InputError, match=message) as caught:
        own_claims.load(write(wrong(change)))
    assert "\n" not in str(caught.value)


def test_a_rate_of_1_needs_no_quotes(write):
    cell = {"precision": "int4", "method": "adalora", "rate": 1}
    [claim] = own_claims.load(write(wrong(lambda c: c["rule"]["deciding"][0].update(a=cell))))
    assert claim["rule"]["deciding"][0]["a"]["rate"] == "1"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    text: NF4", "   text: NF4", r"no YAML at line 3, column 4, or just above: .*keys of one block begin in one column"),
        ("less than", "less: than", r"no YAML at line 3, column 25, or just above: .*a text with a colon stands in quotes"),
        ("    text: NF4", "\ttext: NF4", r"no YAML at line 3, column 1, or just above: .*\(indent with spaces, not tabs\)"),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(tmp_path, before, after, message):
    path = tmp_path / "mine.yaml"
    path.write_text("claims:\n  - id: R1\n    text: NF4 loses less than FP4.\n    rule_text: WER.\n".replace(before, after))
    with pytest.raises(InputError, match=message) as caught:
        own_claims.load(path)
    assert "\n" not in str(caught.value)


def test_an_id_that_occurs_twice_is_refused(write):
    with pytest.raises(InputError, match="id R1 occurs twice"):
        own_claims.load(write(CLAIM, CLAIM))


@pytest.mark.parametrize(
    ("content", "message"), [("claims: [", "no YAML"), ("x: 1", "expected a key `claims`"), ("claims: []", "expected a key `claims`")]
)
def test_a_file_that_is_no_list_of_claims_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        own_claims.load(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nothing.yaml: no such file"):
        own_claims.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("rouge_ranks: useful", r"rank in .*rule: 8 is not a list of one or more of 4, 8, 16, 32, 64"),
        ("rouge_ranks: also", r"metric in .*rule: None is not a list of rouge1"),
        ("early_epochs: epochs", r"epoch in .*rule: 8 is not a list of one or more of 1, 2, 3, 4, 5, 6"),
        ("largest_step: step", r"step 8 is not one of two or more steps between neighbouring sizes: \['tiny', 'base'\] and"),
        ("comparisons: also", r"also is not a list of comparisons"),
        ("comparisons: sizes", r"size in .*rule: 8 is not a list of one or more of tiny, base"),
    ],
)
def test_a_list_of_the_wrong_kind_names_its_place(write, rule, message):
    kind, key = rule.split(": ")
    claim = copy.deepcopy(next(claim for claim in STATED if claim["rule"]["kind"] == kind))
    claim["rule"][key] = None if key == "also" else 8
    with pytest.raises(InputError, match=message):
        own_claims.load(write(claim))


def test_a_rank_that_stands_twice_is_refused(write):
    claim = copy.deepcopy(next(claim for claim in STATED if claim["rule"]["kind"] == "rouge_ranks"))
    claim["rule"]["useful"] = [16, 16]
    with pytest.raises(InputError, match=r"rank in .*: 16 stands twice"):
        own_claims.load(write(claim))


def test_every_kind_of_rule_is_mutated():
    assert {claim["rule"]["kind"] for claim in STATED} == set(own_claims.RULES)


@pytest.mark.parametrize("seed", range(5))
def test_a_mutated_claim_is_read_or_refused_in_a_line(seed, write):
    chance = random.Random(f"quick {seed}")
    for _ in range(60):
        read_or_refused(write, chance)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_mutated_claims_are_judged_or_refused(seed, write):
    chance = random.Random(seed)
    judged = set()
    for _ in range(100):
        path = read_or_refused(write, chance)
        text = path.read_text(encoding="utf-8") if path else None
        if text and len(judged) < 4 and text not in judged:  # a judgement takes a second
            judged.add(text)
            try:
                assert claims.judge(file=path)[0]["verdict"]
            except InputError as error:
                assert "\n" not in str(error), str(error)


def read_or_refused(write, chance: random.Random):
    """The path of a file with a mutated claim if it was read, None if it was refused in one line."""
    stated, what = mutated([chance.choice(STATED)], chance)
    path = write(*stated)
    try:
        own_claims.load(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 700, (what, str(error))
        return None
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return path
