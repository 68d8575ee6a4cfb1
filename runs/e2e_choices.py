"""How the end-to-end model's last step was chosen: each rate tried from the same aligned bridge, and its dev scores. Never looks at test.

    python runs/e2e_choices.py

Writes `results/e2e_choices.json` after each candidate, and goes on where it was stopped. Ten minutes on one core.
"""

import json
import sys
from dataclasses import replace

from asum_lib import files
from asum_lib.paths import RESULTS
from asum_lib.study import records
from asum_lib.training import speech_summary, systems
from asum_lib.training.finetune import Training

PATH = RESULTS / "e2e_choices.json"
CORPUS, SEED = "howto-talks", 0
CANDIDATES = ((1e-3, 3), (3e-4, 3), (3e-3, 3))  # learning rate, epochs
PROVENANCE = ("git_commit", "git_dirty", "packages", "python", "cpu", "threads", "accelerator", "finished_at")


def main() -> int:
    report = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {"rows": []}
    (hearer, _), (reader, _) = (systems.kept(one, SEED) for one in (systems.HEARER, systems.summarizer_of(CORPUS)))
    heard = None
    for rate, epochs in CANDIDATES:
        if any((row["learning_rate"], row["epochs"]) == (rate, epochs) for row in report["rows"]):
            continue
        recipe = replace(speech_summary.RECIPE, training=Training(rate, epochs, batch_size=16))
        ear = speech_summary.joined(hearer, reader, SEED, recipe)
        heard = heard or speech_summary.listening(ear, _say)  # the encoder is the same for every candidate
        speech_summary._kept_bridge(ear, hearer, SEED, recipe, heard, _say)
        _, history = speech_summary.end_to_end(ear, CORPUS, SEED, recipe, heard, _say)
        made = records.provenance("python runs/e2e_choices.py", None, records.now())
        scores = [{key: row[key] for key in ("epoch", "train_loss", "dev_loss", "dev_rouge1")} for row in history]
        report["rows"].append(
            {"learning_rate": rate, "epochs": epochs, "seed": SEED, "history": scores, "provenance": {key: made[key] for key in PROVENANCE}}
        )
        files.write_whole(PATH, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
