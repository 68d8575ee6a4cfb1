"""The cluster profile on a Slurm that runs here (`runs/slurm.sh` starts one), and what of it can be seen without."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from asum_lib.paths import REPOSITORY
from asum_lib.study import cluster, memory_footprint

PROFILE = REPOSITORY / "workflow" / "profiles" / "slurm"


def why_not() -> str | None:
    """Why no job can be sent here; None where one can."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed: pip install -e '.[cluster]'"
    if shutil.which("sinfo") is None:
        return "no Slurm is installed: runs/slurm.sh does it on a Debian machine"
    done = subprocess.run(["sinfo", "--noheader", "--format", "%t"], capture_output=True, text=True, timeout=30)
    if done.returncode != 0 or not {"idle", "mix", "alloc"} & set(done.stdout.split()):
        return f"Slurm does not run here, or no node is up: {(done.stdout + done.stderr).strip().splitlines()[:1]}"
    return None


needs_slurm = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

WORKFLOW = """
rule all:
    input: "first.txt", "second.txt"

rule say:
    output: "{name}.txt"
    wildcard_constraints: name="first|second"
    resources:
        mem_mb=lambda wildcards, attempt: 60 * attempt,
        runtime=2,
        gpu=0,
    shell:
        "scontrol show job $SLURM_JOB_ID | tr ' ' '\\n' | grep -E '^(JobId|TimeLimit|MinMemoryNode)=' >{output};"
        " [ {wildcards.name} = first ] || [ -e again ] || {{ touch again; exit 1; }}"
"""


GPU_WORKFLOW = """
rule ask:
    output: "asked.txt"
    resources: mem_mb=60, runtime=2, gpu=1
    shell: "scontrol show job $SLURM_JOB_ID | tr ' ' '\\n' | grep '^TresPerJob=' >{output}"
"""


def through_slurm(folder, workflow: str) -> None:
    """Run `workflow` in `folder` with the profile, in the partition that is there."""
    (folder / "Snakefile").write_text(workflow)
    partition = subprocess.run(["sinfo", "--noheader", "--format", "%R"], capture_output=True, text=True).stdout.split()[0]
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--profile", str(PROFILE), "--latency-wait", "5"]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]
    command += ["--default-resources", f"slurm_partition={partition}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr


@needs_slurm
@pytest.mark.slow
def test_a_job_gets_what_it_asks_for_and_one_that_fails_is_sent_again_with_more(tmp_path):
    through_slurm(tmp_path, WORKFLOW)
    first, second = (dict(line.split("=", 1) for line in (tmp_path / f"{name}.txt").read_text().split()) for name in ("first", "second"))
    assert (first["MinMemoryNode"], first["TimeLimit"]) == ("60M", "00:02:00")
    assert second["MinMemoryNode"] == "120M"
    assert first["JobId"] != second["JobId"]


@needs_slurm
@pytest.mark.slow
def test_a_job_that_needs_a_gpu_is_given_one(tmp_path):
    if "gpu" not in subprocess.run(["sinfo", "--noheader", "--format", "%G"], capture_output=True, text=True).stdout:
        pytest.skip("no node offers a GPU: SLURM_GPUS=1 runs/slurm.sh gives one the name of one")
    through_slurm(tmp_path, GPU_WORKFLOW)
    assert (tmp_path / "asked.txt").read_text().strip() == "TresPerJob=gres:gpu:1"


def test_the_profile_starts_a_killed_job_again_and_overwrites_no_record():
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["retries"] > 0
    assert profile["rerun-incomplete"]
    assert profile["rerun-triggers"] == ["mtime", "input"]  # as in the Makefile: a changed command alone measures nothing anew


@pytest.mark.slow
def test_scale_paper_is_a_graph_with_a_job_a_cell(tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "workflow" / "Snakefile")]
    command += ["--cores", "1", "--dry-run", "--quiet", "rules"]
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    environment = {**os.environ, "ASUM_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*command, "--", "paper"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    counts = {line.split()[1] for line in (done.stdout + done.stderr).splitlines() if line.startswith("paper_cell ")}
    cells = sum(len(found) for table, found in cluster.paper_cells().items() if table != memory_footprint.TABLE)
    assert counts == {str(cells)}


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_check.sh"])
def test_a_script_says_what_it_does_not_know(script, tmp_path):
    environment = {**os.environ, "ASUM_FSDD": str(tmp_path)}
    done = subprocess.run(["bash", str(REPOSITORY / "runs" / script), "nonsense"], capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 2
    assert "nonsense" in done.stderr or "needs root" in done.stderr
