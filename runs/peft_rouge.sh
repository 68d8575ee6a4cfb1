#!/usr/bin/env bash
# Fills the ROUGE tables at scale mini: the search for learning rates, then every planned cell of the corpora and models named
# ("howto-text t5", "howto-text mbart", "news-ru mbart"; all of them by default). Cells with a fresh record are skipped. About 40 minutes each on one core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
[ $# -gt 0 ] || set -- "howto-text t5" "howto-text mbart" "news-ru mbart"
for pair in "$@"; do
  read -r corpus model <<<"$pair"
  .venv/bin/asum measure peft_rouge -p "corpus=$corpus" -p "model=$model" -p grid=true
done
