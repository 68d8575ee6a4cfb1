#!/usr/bin/env bash
# A Slurm of one node on this machine, installed and started by one command, to try the workflow's cluster profile without a cluster.
# For a Debian (or Ubuntu) machine, as root; needs neither systemd nor an accounting database. Again on a running one: nothing happens.
#
#   runs/slurm.sh          install what is missing, write /etc/slurm, start munged, slurmctld and slurmd, and wait until the node is idle
#   runs/slurm.sh stop     end the three daemons; the configuration stays
#
# SLURM_CPUS (default: all) and SLURM_GPUS (default 0) say what the node offers. GPUs are names without a device behind them: jobs that ask for
# one are scheduled as on a node that has it.
set -euo pipefail

OURS="# written by runs/slurm.sh"
CONFIG=/etc/slurm/slurm.conf

say() { echo "slurm.sh: $*" >&2; }

[ "$(id -u)" = 0 ] || { say "needs root: it installs packages and starts daemons"; exit 2; }

stop() {
  for daemon in slurmd slurmctld; do
    pid=$(cat "/run/$daemon.pid" 2>/dev/null) && kill "$pid" 2>/dev/null && say "$daemon ended" || true
  done
  pid=$(cat /run/munge/munged.pid 2>/dev/null) && kill "$pid" 2>/dev/null && say "munged ended" || true
}

case "${1:-start}" in start | stop) ;; *) say "unknown argument '$1': leave it out, or say stop"; exit 2 ;; esac
if [ -f "$CONFIG" ] && ! grep -qF "$OURS" "$CONFIG"; then
  say "$CONFIG is not from this script: this machine has a Slurm of its own, which is left alone"
  exit 1
fi

[ "${1:-start}" != stop ] || { stop; exit 0; }

if ! { command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged; } >/dev/null; then
  command -v apt-get >/dev/null || { say "no apt-get here: install slurmctld, slurmd, the client commands and munge first"; exit 1; }
  say "installing slurm-wlm and munge"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends slurm-wlm munge >/dev/null
fi

node=$(hostname -s)
cpus=${SLURM_CPUS:-$(nproc)}
gpus=${SLURM_GPUS:-0}
memory_mb=$(slurmd -C 2>/dev/null | sed -nE 's/.*RealMemory=([0-9]+).*/\1/p')
gres="" types=""
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm
: >/etc/slurm/gres.conf
if [ "$gpus" -gt 0 ]; then
  types="GresTypes=gpu" gres="Gres=gpu:$gpus"
  mkdir -p /var/spool/slurm-gpus
  for number in $(seq 0 $((gpus - 1))); do
    touch "/var/spool/slurm-gpus/gpu$number"
    echo "NodeName=$node Name=gpu File=/var/spool/slurm-gpus/gpu$number" >>/etc/slurm/gres.conf
  done
fi

# linuxproc and task/none need no cgroups, so that this works in a container too; memory is a thing that jobs ask for and are given, and is
# not enforced. Finished jobs stay visible to squeue for ten minutes, since without an accounting database it is what says how they ended.
cat >"$CONFIG" <<EOF
$OURS
ClusterName=one
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=600
DefMemPerCPU=1000
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
$types
NodeName=$node CPUs=$cpus RealMemory=$memory_mb $gres State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF

running() { pid=$(cat "$1" 2>/dev/null) && kill -0 "$pid" 2>/dev/null; }

if ! running /run/munge/munged.pid; then
  [ -f /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key)
  install -d -o munge -g munge /run/munge
  chown munge:munge /etc/munge/munge.key
  runuser -u munge -- /usr/sbin/munged
fi
running /run/slurmctld.pid || slurmctld
running /run/slurmd.pid || slurmd
scontrol reconfigure 2>/dev/null || true

for _ in $(seq 60); do
  state=$(sinfo --noheader --format %t 2>/dev/null || true)
  case "$state" in
    idle | mix | alloc) say "node $node is $state: $cpus CPUs, $memory_mb MB, $gpus GPUs"; exit 0 ;;
    down | "down*" | drain*) scontrol update NodeName="$node" State=RESUME 2>/dev/null || true ;;
  esac
  sleep 1
done
say "the node is '${state:-unknown}' after a minute: see /var/log/slurm"
exit 1
