#!/usr/bin/env bash
# The check of record of the cluster profile: the whole mini grid of the table whisper_digits, nine jobs, measured three times and compared.
#
#   local      on this machine without Slurm: the undisturbed records
#   slurm      through Slurm, undisturbed
#   disturbed  through Slurm; meanwhile a running job is cancelled, the node is drained, a running job is given back to the queue
#
# `runs/slurm_check.sh` does all three, `runs/slurm_check.sh disturbed` one of them. It takes the table's records out first: run it in a clone
# of its own. Needs a running Slurm of one node (runs/slurm.sh), the optional extra `cluster`, and ASUM_FSDD, see README. What it found is in
# build/slurm_check: the records of each run, the log of each, and what was seen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
: "${ASUM_FSDD:?name the folder of the Free Spoken Digit Dataset}"

TABLE=results/mini/whisper_digits
OUT=build/slurm_check
LONG=digits_large_adalora # four cells in one job: what is cancelled in it must not cost those that are done
mkdir -p "$OUT"

targets=()
for size in tiny small large; do
  for method in none adalora full; do targets+=("build/whisper_quant-digits-$size-$method.ipynb"); done
done

say() { echo "$(date -u +%T) $*" | tee -a "$OUT/seen.txt"; }
jobs() { squeue --noheader --format "%i %T %k" "$@"; }
job_of() { jobs --states "$2" | awk -v name="$1" '$3 ~ name {print $1; exit}'; }
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

take_out() { rm -f "$TABLE"/*.json "$TABLE"/*.gz "${targets[@]}"; }

keep() { # keep NAME: the records of this run
  rm -rf "${OUT:?}/$1"
  cp -r "$TABLE" "$OUT/$1"
}

through_slurm() { .venv/bin/snakemake --snakefile workflow/Snakefile --profile workflow/profiles/slurm -- "${targets[@]}"; }

compare() {
  [ -d "$OUT/local" ] || { say "no undisturbed records: run $0 local"; return 0; }
  say "$1 against local: $(.venv/bin/python -m asum_lib.study.same_records "$OUT/local" "$OUT/$1" | tail -1)"
}

check_local() {
  take_out
  start=$SECONDS
  .venv/bin/snakemake --snakefile workflow/Snakefile --cores 2 --scheduler greedy --rerun-triggers mtime input -- "${targets[@]}" >"$OUT/local.log" 2>&1
  keep local
  say "local: $(ls "$OUT"/local/*.json | wc -l) records in $((SECONDS - start)) s"
}

check_slurm() {
  take_out
  start=$SECONDS
  through_slurm >"$OUT/slurm.log" 2>&1
  keep slurm
  say "slurm: $(ls "$OUT"/slurm/*.json | wc -l) records of $(grep -c 'has been submitted' "$OUT/slurm.log") jobs in $((SECONDS - start)) s"
  compare slurm
}

check_disturbed() {
  take_out
  start=$SECONDS
  node=$(hostname -s)
  through_slurm >"$OUT/disturbed.log" 2>&1 &
  flow=$!
  trap 'scontrol update NodeName=$(hostname -s) State=RESUME 2>/dev/null; kill "$flow" 2>/dev/null' EXIT

  # A running job is cancelled after its first record: it comes again, and goes on with the second.
  await 900 "the first record of $LONG" sh -c "ls $TABLE/whisper-large-*-adalora-*.json >/dev/null 2>&1"
  sleep 5
  first=$(ls "$TABLE"/whisper-large-*-adalora-*.json | head -1)
  before=$(stat --format %Y "$first")
  cancelled=$(job_of $LONG RUNNING)
  kernels=$(pgrep -f "ipykernel_launcher" | while read -r pid; do tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "SLURM_JOB_ID=$cancelled" && echo "$pid"; done || true)
  scancel "$cancelled"
  say "cancelled job $cancelled ($LONG), which had $(ls "$TABLE"/whisper-large-*-adalora-*.json | wc -l) of 4 records and $(wc -w <<<"$kernels") kernel"
  sleep 10
  for pid in $kernels; do kill -0 "$pid" 2>/dev/null && say "its kernel $pid still runs ten seconds later"; done
  again() { [ -n "$(job_of $LONG PENDING,RUNNING)" ] && [ "$(job_of $LONG PENDING,RUNNING)" != "$cancelled" ]; }
  await 600 "$LONG to be submitted again" again
  say "submitted again as job $(job_of $LONG PENDING,RUNNING)"

  # The node is drained while jobs run: they end, no other one starts.
  await 900 "a running and a waiting job" sh -c '[ "$(squeue -h -t RUNNING | wc -l)" -gt 0 ] && [ "$(squeue -h -t PENDING | wc -l)" -gt 0 ]'
  running=$(squeue -h -t RUNNING -o %i | sort)
  scontrol update NodeName="$node" State=DRAIN Reason=slurm_check
  say "drained the node: $(wc -w <<<"$running") running, $(squeue -h -t PENDING | wc -l) waiting, state $(sinfo -h -o %t)"
  sleep 45
  started=$(comm -13 <(echo "$running") <(squeue -h -t RUNNING -o %i | sort) | wc -w)
  say "45 s later: $(squeue -h -t RUNNING | wc -l) running, $started of them new, $(squeue -h -t PENDING | wc -l) waiting ($(squeue -h -t PENDING -o %r | sort | uniq -c | xargs))"

  # A running job is given back to the queue of the drained node, as where a node fails: it waits.
  victim=$(squeue -h -t RUNNING -o %i | head -1)
  if [ -n "$victim" ]; then
    name=$(squeue -h -j "$victim" -o %k)
    scontrol requeue "$victim"
    sleep 10
    say "gave running job $victim ($name) back to the queue: it is $(squeue -h -j "$victim" -o '%T (%r)')"
  fi
  scontrol update NodeName="$node" State=RESUME
  say "resumed the node"
  status=0
  wait "$flow" || status=$?
  trap - EXIT
  keep disturbed
  say "disturbed: exit status $status, $(ls "$OUT"/disturbed/*.json | wc -l) records of $(grep -c 'has been submitted' "$OUT/disturbed.log") submissions in $((SECONDS - start)) s"
  [ "$(stat --format %Y "$first")" = "$before" ] && say "the record that the cancelled job had written was kept" || say "the record that the cancelled job had written was measured again"
  compare disturbed
  return $status
}

for step in "${@:-local slurm disturbed}"; do
  for one in $step; do
    case "$one" in
      local) check_local ;;
      slurm) check_slurm ;;
      disturbed) check_disturbed ;;
      *) echo "unknown step '$one': choose from local, slurm, disturbed" >&2; exit 2 ;;
    esac
  done
done
