#!/usr/bin/env bash
# Fills the table `memory` on a CPU: every cell accounted for, and those measured that two cores can in well under an hour. Needs 20 GB of
# memory and 15 GB of disk for the random weights, which are removed afterwards (TMPDIR says where). Cells with a record are left as they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
exec .venv/bin/python -m asum_lib.study.memory_table cpu "$@"
