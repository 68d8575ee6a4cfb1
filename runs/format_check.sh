#!/usr/bin/env bash
# The format check of record: the notebook's path at scale paper, from papermill to records, on a checkpoint in the Hub's layout
# with the real tiny architecture, the real tokenizer and random weights, and on real speech. Its error rates mean nothing.
# ASUM_REAL_DATA names the folder with tokenizers/whisper, voxpopuli-dev and librispeech-84-121123. About 20 minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${ASUM_REAL_DATA:?name the folder with the real speech and tokenizers}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p build
ln -sfn "$(realpath "$ASUM_REAL_DATA")" build/real  # so that records name the corpus alike on every machine
checkpoint=build/whisper-tiny-random
[ -d "$checkpoint" ] || .venv/bin/python -m asum_lib.models.real "$checkpoint" --size tiny --tokenizer build/real/tokenizers/whisper --shards 2 --max-length 32
for corpus in librispeech-84-121123 voxpopuli-dev; do
  .venv/bin/papermill notebooks/whisper_quant.ipynb "build/format_check-$corpus.ipynb" --no-progress-bar \
    --stdout-file /dev/stdout --stderr-file /dev/stderr \
    -p scale paper -p size tiny -p model "$checkpoint" -p corpus "build/real/$corpus" \
    -y 'methods: ["none"]' -y 'precisions: ["fp32", "bf16", "int8", "int4"]'
done
# Whose words these are is not this project's to give away: the samples that are committed keep ids, counts and what was written.
.venv/bin/python - <<'PY'
from asum_lib.paths import RESULTS
from asum_lib.study import records

for path in (RESULTS / "paper").glob("format_check_*/*.json"):
    record = records.read(path)
    records.write(record, path, [sample | {"reference": None} for sample in records.samples_of(record, path)])
PY
