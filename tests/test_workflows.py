"""The workflows call what is there, with no more rights than they need, and the weekly one opens a single issue."""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from asum_lib.paths import REPOSITORY

FOLDER = REPOSITORY / ".github" / "workflows"
TRIGGERS = {"pull-request.yml": {"pull_request", "push"}, "weekly.yml": {"schedule", "workflow_dispatch"}, "publish.yml": {"push"}}
WRITES = {  # all that any job may change
    ("weekly.yml", "report"): {"issues": "write"},
    ("publish.yml", "site"): {"pages": "write", "id-token": "write"},
    ("publish.yml", "release"): {"contents": "write"},
}


def workflow(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def jobs() -> Iterator[tuple[str, str, dict]]:
    for name in TRIGGERS:
        for key, job in workflow(name)["jobs"].items():
            yield name, key, job


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


ALL = [pytest.param(*entry, id=f"{entry[0]}:{entry[1]}") for entry in jobs()]


def test_there_are_three_workflows():
    assert {path.name for path in FOLDER.iterdir()} == set(TRIGGERS)


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_workflow_starts_when_it_should_and_one_at_a_time(name):
    found = workflow(name)
    assert set(found[True]) == TRIGGERS[name]  # `on` is a truth value in YAML 1.1
    assert found["concurrency"]["group"]


def test_publishing_needs_a_tag():
    assert workflow("publish.yml")[True] == {"push": {"tags": ["v*"]}}


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_workflow_may_read_and_nothing_else(name):
    assert workflow(name)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_only_the_jobs_that_report_and_publish_may_write(name, key, job):
    assert job.get("permissions", {}) == WRITES.get((name, key), {})


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_a_job_that_may_write_runs_no_code_of_the_repository(name, key, job):
    used = [step.get("uses", "") for step in job["steps"]]
    assert ("permissions" in job) != any(action.startswith("actions/checkout@") for action in used)


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_actions_are_pinned_and_from_one_owner(name, key, job):
    """By commit: a tag may be moved. The tag stands beside it for people (`tests/test_environment.py`)."""
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_a_job_ends_and_its_machine_is_named(name, key, job):
    assert 0 < job["timeout-minutes"] <= 180
    assert job["runs-on"] == "ubuntu-24.04"


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_commands_call_targets_and_scripts_that_exist(name, key, job):
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in commands(job):
        assert set(re.findall(r"\bmake +([a-z]+)", command)) <= set(targets)
        assert all((REPOSITORY / path).stat().st_mode & stat.S_IXUSR for path in re.findall(r"\.ci/\w+", command))


@pytest.mark.parametrize(("name", "key", "job"), ALL)
def test_what_others_name_reaches_no_command_as_code(name, key, job):
    """A branch or a tag can be called `$(...)`: names come in as variables, in quotes."""
    assert not any("${{" in command for command in commands(job))


def test_every_workflow_runs_tests_and_study():
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    for name in TRIGGERS:
        said = "\n".join(command for found, _, job in jobs() if found == name for command in commands(job))
        said = said.replace(".ci/run", script)
        assert {"test", "clean", "study"} <= set(re.findall(r"\bmake ([a-z]+)", said))


def test_a_release_has_pages_pdf_and_records():
    pack = next(command for command in commands(workflow("publish.yml")["jobs"]["book"]) if "mkdir release" in command)
    assert re.findall(r"release/asum-\$TAG([\w.-]+)", pack) == [".pdf", "-records.zip", "-html.zip"]


# The weekly report, with a `gh` that notes what it is asked -----------------------------------------------------------------

GH = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
if [ "$1 $2" = "issue list" ]; then echo "$OPEN"; fi
"""


@pytest.mark.parametrize(
    ("open_issue", "call"),
    [
        ("", "issue create --title The weekly run of the study fails --body See https://github.com/a/b/actions/runs/7"),
        ("12", "issue comment 12 --body Again: https://github.com/a/b/actions/runs/7"),
    ],
)
def test_a_failure_opens_an_issue_or_comments_on_the_open_one(tmp_path, open_issue, call):
    [step] = workflow("weekly.yml")["jobs"]["report"]["steps"]
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    given = {"TITLE": step["env"]["TITLE"], "RUN": "https://github.com/a/b/actions/runs/7", "OPEN": open_issue, "CALLS": str(tmp_path / "calls")}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", step["run"]], env={**given, "PATH": path}, check=True, timeout=30)
    listed, *rest = Path(given["CALLS"]).read_text().splitlines()
    assert listed.startswith("issue list --state open")
    assert rest == [call]


def test_the_report_follows_a_failure_and_not_a_success():
    report = workflow("weekly.yml")["jobs"]["report"]
    assert report["needs"] == "study"
    assert report["if"] == "${{ !cancelled() && needs.study.result != 'success' }}"
