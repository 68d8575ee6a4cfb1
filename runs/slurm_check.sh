#!/usr/bin/env bash
# The check of record of the cluster profile: the mini grid of the table whisper_digits, measured three times and compared.
#
#   local      all nine jobs on this machine without Slurm: the undisturbed records
#   slurm      all nine through Slurm, undisturbed
#   disturbed  the six of tiny and small through Slurm; meanwhile one is cancelled, the node is drained, one is given back to the queue
#
# `runs/slurm_check.sh` does all three, `runs/slurm_check.sh disturbed` one of them. It takes the table's records out first: run it in a clone
# of its own. Needs a running Slurm of one node (runs/slurm.sh), the optional extra `cluster`, and ASUM_FSDD, see README. The records and the log
# of each run are then in build/slurm_check, and what was seen in results/slurm_check.json, which the book's page shows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
[ $# -gt 0 ] || set -- local slurm disturbed
for step in "$@"; do
  case "$step" in local | slurm | disturbed) ;; *) echo "unknown step '$step': choose from local, slurm, disturbed" >&2; exit 2 ;; esac
done
: "${ASUM_FSDD:?name the folder of the Free Spoken Digit Dataset}"

TABLE=results/mini/whisper_digits
OUT=build/slurm_check
LONG=digits_small_adalora # four cells in one job: what is cancelled in it must not cost those that are done
mkdir -p "$OUT"

want() { # want SIZE...: the jobs to run, and their records taken out
  targets=()
  for size in "$@"; do
    rm -f "$TABLE/whisper-$size"-*
    for method in none adalora full; do targets+=("build/whisper_quant-digits-$size-$method.ipynb"); done
  done
  rm -f "${targets[@]}"
}

say() { echo "$*" | tee -a "$OUT/$step.seen" >&2; }
queue() { # queue STATES FORMAT: of this run alone, known by its name
  local name
  name=$(sed -n 's/^SLURM run ID: //p;T;q' "$OUT/disturbed.log")
  if [ -n "$name" ]; then squeue --noheader --name "$name" --states "$1" --format "$2"; fi
}
reasons() { queue PENDING %r | sort -u | paste -sd ';'; }
drain() { scontrol update NodeName="$(hostname -s)" State=DRAIN Reason=slurm_check; }
resume() { scontrol update NodeName="$(hostname -s)" State=RESUME; }
kernels_of() { # kernels_of JOB: ids of the Jupyter kernels that run in it
  local pid
  for pid in $(pgrep -f ipykernel_launcher); do
    if tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "SLURM_JOB_ID=$1"; then echo "$pid"; fi
  done
}
job_of() { queue "$2" "%i %k" | awk -v name="$1" '$2 ~ name {print $1; exit}'; }
await() { # await SECONDS WHAT COMMAND...: until the command succeeds
  local left=$1 what=$2
  shift 2
  until "$@"; do
    sleep 1
    left=$((left - 1))
    [ "$left" -gt 0 ] || { say "gave up waiting: $what"; return 1; }
    [ -z "${flow:-}" ] || kill -0 "$flow" 2>/dev/null || { say "the workflow ended while waiting: $what"; return 1; }
  done
}

keep() { # keep NAME SIZE...: the records of this run
  local name=$1
  shift
  rm -rf "${OUT:?}/$name"
  mkdir "$OUT/$name"
  for size in "$@"; do cp -p "$TABLE/whisper-$size"-* "$OUT/$name"; done
}

# To be started in a subshell, which it then is: who ends that ends the workflow.
through_slurm() { exec .venv/bin/snakemake --snakefile workflow/Snakefile --profile workflow/profiles/slurm "$@" -- "${targets[@]}"; }

compare() {
  local name=$1
  shift
  [ -d "$OUT/local" ] || { say "not compared: there are no records of a run without Slurm"; return 0; }
  .venv/bin/python -m asum_lib.study.same_records "$OUT/local" "$OUT/$name" "$@" >"$OUT/$name.compared" || true
  say "against the run without Slurm: $(tail -1 "$OUT/$name.compared")"
}

check_local() {
  want tiny small large
  start=$SECONDS
  .venv/bin/snakemake --snakefile workflow/Snakefile --cores 2 --scheduler greedy --rerun-triggers mtime input -- "${targets[@]}" >"$OUT/local.log" 2>&1
  keep local tiny small large
  say "$(ls "$OUT"/local/*.json | wc -l) records in $((SECONDS - start)) s"
}

check_slurm() {
  want tiny small large
  start=$SECONDS
  (through_slurm >"$OUT/slurm.log" 2>&1)
  keep slurm tiny small large
  say "$(ls "$OUT"/slurm/*.json | wc -l) records of $(grep -c 'has been submitted' "$OUT/slurm.log") jobs in $((SECONDS - start)) s"
  compare slurm
}

check_disturbed() {
  want tiny small
  start=$SECONDS
  through_slurm --prioritize build/whisper_quant-digits-small-adalora.ipynb >"$OUT/disturbed.log" 2>&1 &
  flow=$!
  trap 'resume 2>/dev/null; kill "$flow" 2>/dev/null' EXIT

  # The node is drained while jobs run and wait: those that run go on, no other one starts.
  both() { [ -n "$(queue RUNNING %i)" ] && [ -n "$(queue PENDING %i)" ]; }
  await 1800 "a running and a waiting job" both
  sleep 5
  running=$(queue RUNNING %i | sort)
  drain
  say "drained the node: $(wc -w <<<"$running") running, $(queue PENDING %i | wc -l) waiting"
  sleep 60
  started=$(comm -13 <(echo "$running") <(queue RUNNING %i | sort) | wc -w)
  say "60 s later: $(queue RUNNING %i | wc -l) running, $started of them new; $(queue PENDING %i | wc -l) waiting ($(reasons))"
  resume
  more() { [ -n "$(comm -13 <(echo "$running") <(queue RUNNING %i | sort))" ]; }
  await 1800 "a waiting job to start" more
  say "resumed the node: a waiting job started"

  # A running job is cancelled after its first record: it comes again, and goes on with the second.
  await 3600 "the first record of $LONG" sh -c "ls $TABLE/whisper-small-*-adalora-*.json >/dev/null 2>&1"
  first=$(ls "$TABLE"/whisper-small-*-adalora-*.json | head -1)
  before=$(stat --format %Y "$first")
  cancelled=$(job_of $LONG RUNNING)
  kernels=$(kernels_of "$cancelled")
  scancel "$cancelled"
  say "cancelled job $cancelled ($LONG), which had $(ls "$TABLE"/whisper-small-*-adalora-*.json | wc -l) of 4 records"
  sleep 10
  left=$(kernels_of "$cancelled" | wc -w)
  say "10 s later: $left of its $(wc -w <<<"$kernels") kernels still there"
  again() { [ -n "$(job_of $LONG PENDING,RUNNING)" ] && [ "$(job_of $LONG PENDING,RUNNING)" != "$cancelled" ]; }
  await 1800 "$LONG to be submitted again" again
  say "submitted again as job $(job_of $LONG PENDING,RUNNING)"

  # A running job is given back to the queue of a drained node, as where a node fails: it waits, and runs once the node is back.
  busy() { [ -n "$(queue RUNNING %i)" ]; }
  await 1800 "a running job" busy
  sleep 20
  victim=$(queue RUNNING %i | tail -1)
  drain
  scontrol requeue "$victim"
  sleep 10
  say "drained the node and gave running job $victim back to the queue: it is $(squeue -h -j "$victim" -o '%T')"
  resume
  say "resumed the node"
  status=0
  wait "$flow" || status=$?
  trap - EXIT
  keep disturbed tiny small
  say "exit status $status; $(ls "$OUT"/disturbed/*.json | wc -l) records of $(grep -c 'has been submitted' "$OUT/disturbed.log") submissions in $((SECONDS - start)) s"
  [ "$(stat --format %Y "$first")" = "$before" ] && say "the record that the cancelled job had written was kept" || say "the record that the cancelled job had written was measured again"
  compare disturbed whisper-tiny- whisper-small-
  return $status
}

report() {
  .venv/bin/python - "$OUT" <<'PY'
import json, os, subprocess, sys
from datetime import datetime, timezone
from pathlib import Path

steps = [Path(sys.argv[1]) / f"{step}.seen" for step in ("local", "slurm", "disturbed")]
version = subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout.split()[-1]
found = {
    "slurm": version,
    "cpus": os.cpu_count(),
    "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    "seen": {path.stem: path.read_text().splitlines() for path in steps if path.is_file()},
}
Path("results/slurm_check.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
PY
}

for step in "$@"; do
  rm -f "$OUT/$step.seen"
  "check_$step"
  report
done
