#!/usr/bin/env bash
# The records of AMI's meetings at scale paper: systems that take sentences from the transcript, and what a whole meeting takes in time and
# memory on a T5-small of random weights. ASUM_AMI names the meetings, ASUM_T5_TOKENIZER a folder with T5's tokenizer. About 15 minutes on a core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${ASUM_AMI:?name the file or folder with the meetings}" "${ASUM_T5_TOKENIZER:?name the folder of a T5 tokenizer}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python=${PYTHON:-.venv/bin/python}
for system in lead3 lead-length textrank textrank-length oracle oracle-length; do
  "$python" -m asum_lib measure peft_rouge -p corpus=ami -p model="$system" -p scale=paper
done
"$python" -m asum_lib.study.long_text_check build/t5-small-random --tokenizer "$ASUM_T5_TOKENIZER"
# Whose words these are is not this project's to give away: the samples that are committed keep ids and scores.
"$python" - <<'PY'
from asum_lib.paths import RESULTS
from asum_lib.study import placing, records

for path, record in placing.load(RESULTS, "paper", "rouge_ami"):
    records.write(record, path, [sample | {"reference": None, "summary": None} for sample in records.samples_of(record, path)])
PY
