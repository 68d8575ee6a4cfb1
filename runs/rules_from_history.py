"""How `asum_lib/papers/rules.jsonl` was begun: every rule of every claim with the time of the commit that first held it.

    python runs/rules_from_history.py > asum_lib/papers/rules.jsonl

Since then `asum claims --register` appends to it. Needs the whole git history.
"""

import json
import subprocess

import yaml

from asum_lib.study.rules import rule_sha, testable


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


last = {}
for commit in git("log", "--reverse", "--format=%H %cI", "--", "asum_lib/papers").splitlines():
    sha, written_at = commit.split()
    for path in sorted(git("ls-tree", "--name-only", sha, "asum_lib/papers/").splitlines()):
        if not path.endswith(".yaml"):
            continue
        paper = yaml.safe_load(git("show", f"{sha}:{path}"))
        for claim in paper.get("claims") or []:
            found = rule_sha(claim["rule"])
            if testable(claim["rule"]) and last.get((paper["id"], claim["id"])) != found:
                last[paper["id"], claim["id"]] = found
                kept = {"paper": paper["id"], "claim": claim["id"], "rule_sha": found, "written_at": written_at}
                print(json.dumps(kept | {"rule_text": " ".join(claim["rule_text"].split()), "rule": claim["rule"]}, ensure_ascii=False))
