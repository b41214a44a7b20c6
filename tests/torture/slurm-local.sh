#!/usr/bin/env bash
# A real SLURM of one node, this machine, for the tests: its own configuration, key and ports, all of it in one folder.
# Nothing outside the folder is touched. Needs root and Debian's packages slurm-wlm and munge.
#   slurm-local.sh start FOLDER [CPUS]     then: export SLURM_CONF=FOLDER/slurm.conf
#   slurm-local.sh stop FOLDER
set -euo pipefail

verb=$1
folder=$2
cpus=${3:-$(nproc)}
patience=30

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_configuration() {
    local host
    host=$(hostname -s)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    mkdir -p "$folder/controller" "$folder/node"
    # munge refuses a socket in a folder that others may not enter.
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    write_configuration
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld
    slurmd
    for _ in $(seq $((patience * 10))); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
            return
        fi
        sleep 0.1
    done
    echo "the node did not come up within $patience s; see $folder/slurmctld.log and slurmd.log" >&2
    stop
    exit 1
}

stop() {
    local daemon pid
    for daemon in slurmd slurmctld munged; do
        [ -f "$folder/$daemon.pid" ] || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq $((patience * 10))); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}

case $verb in
start | stop) "$verb" ;;
*)
    echo "usage: slurm-local.sh start|stop FOLDER [CPUS]" >&2
    exit 2
    ;;
esac
