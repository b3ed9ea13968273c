#!/usr/bin/env bash
# Starts, as root, a SLURM cluster of two nodes on this host, each with two pretended GPUs, and Docker's daemon; what runs
# already is left, but for a cluster that an older version of this script has started.
# A SLURM that is not this one is left alone, and refused: srun finds the configuration in /etc/slurm only.
set -euo pipefail

home=/var/lib/pretended-cluster
if [ -e /etc/slurm/slurm.conf ] && ! grep -q "^ClusterName=pretended" /etc/slurm/slurm.conf; then
    echo "this host has a SLURM of its own, in /etc/slurm" >&2
    exit 1
fi
nodes=(pretended1 pretended2)
mkdir -p /etc/slurm $home/state /run/munge /var/log/munge

wait_for() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "the cluster does not start: '$*' fails; see the logs in $home" >&2; exit 1; }
        sleep 0.2
    done
}

if ! docker info >/dev/null 2>&1; then
    setsid dockerd >$home/dockerd.log 2>&1 </dev/null &
fi

[ -e /etc/munge/munge.key ] || mungekey --create
chown -R munge: /etc/munge /var/lib/munge /var/log/munge /run/munge
munge --no-input >/dev/null 2>&1 || runuser -u munge -- munged
wait_for 20 munge --no-input

# A node may pretend to more than it has: the tests' jobs are small, what they ask for is not. It is never taken for down
# (SlurmdTimeout=0): a host that packs images may not answer for minutes.
cat >$home/slurm.conf <<CONF
ClusterName=pretended
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool-%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
MinJobAge=600
KillWait=60
ReturnToService=2
SlurmdTimeout=0
PartitionName=pretended Nodes=ALL Default=YES State=UP
CONF
: >$home/gres.conf
for number in "${!nodes[@]}"; do
    node=${nodes[$number]}
    mkdir -p "$home/spool-$node"
    touch "$home/gpu$number"{0,1}
    echo "NodeName=$node NodeAddr=127.0.0.1 Port=$((6820 + number)) CPUs=32 RealMemory=256000" \
        "Gres=gpu:pretended:2 State=UNKNOWN" >>$home/slurm.conf
    echo "NodeName=$node Name=gpu Type=pretended File=$home/gpu$number[0-1]" >>$home/gres.conf
done
if ! cmp -s $home/slurm.conf /etc/slurm/slurm.conf; then
    scontrol shutdown >/dev/null 2>&1 || true
    # They would wait for steps that were broken off to say so to a slurmctld that has ended.
    pkill -KILL -x slurmd || true
    wait_for 60 sh -c '! pgrep -x "slurmctld|slurmd"'
    cp $home/slurm.conf $home/gres.conf /etc/slurm/
fi

if ! scontrol ping 2>/dev/null | grep -q "is UP"; then
    slurmctld -c # clears what it remembers: a node may have been drained, and nobody waits for older jobs
    wait_for 20 sh -c 'scontrol ping | grep -q "is UP"'
fi
for node in "${nodes[@]}"; do
    pgrep -F "$home/$node.pid" >/dev/null 2>&1 || slurmd -N "$node"
done
wait_for 60 sh -c "[ \$(sinfo --noheader --Node --format %t | grep -Ecx 'idle|mix|alloc') = ${#nodes[@]} ]"
wait_for 60 docker info
