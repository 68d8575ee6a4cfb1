#!/usr/bin/env bash
# Fills the table `memory` on a CUDA device: what PyTorch allocates, what it reserves and what the driver counts, at the real sizes.
# Needs a CUDA build of PyTorch in the environment named by PYTHON (default: .venv/bin/python), 40 GB of GPU memory for the largest cell
# (a cell that does not fit becomes a record with its reason) and 15 GB of disk. It stops after ten minutes; started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec timeout 600 "${PYTHON:-.venv/bin/python}" -m asum_lib.study.memory_table cuda "$@"
