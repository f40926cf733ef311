#!/usr/bin/env bash
# Start a SLURM whose only node is this machine, for the tests marked `slurm`.
#
#     tests/slurm/start.sh               # all cores and one pretend GPU
#     tests/slurm/start.sh accounting    # and slurmdbd on MariaDB, so that sacct works
#     tests/slurm/start.sh stop
#
# For root on Debian or Ubuntu; it needs no systemd, so it works in a container. The last line is
# `ready` when a job with a GPU runs. A SLURM that already answers is used as it is, and a
# configuration that this script has not written is never touched.
set -euo pipefail # so no `grep -q` at the end of a pipe: it may end before the other program

settings=/etc/slurm
state=/var/lib/prunebench-slurm # everything but the settings, so that `stop` finds its processes
cores=$(env --unset=OMP_NUM_THREADS --unset=OMP_THREAD_LIMIT nproc) # which nproc would obey
mark="# Written by tests/slurm/start.sh of prunebench"

fail() {
    printf '%s: %s\n' "$0" "$1" >&2
    exit 1
}

# Repeat a command until it succeeds, for at most a minute.
wait_for() {
    for _ in $(seq 120); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    tail -n 5 "$state"/*.log >&2 || true
    fail "no success within a minute: $*"
}

install_missing() {
    local package missing=()
    for package in "$@"; do
        dpkg -s "$package" 2>/dev/null | grep '^Status: install ok' >/dev/null || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || true # an old list of packages may do
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$state/install.log" 2>&1 ||
        { tail -n 20 "$state/install.log" >&2; fail "cannot install ${missing[*]}"; }
}

node_is_up() { timeout 10 sinfo --noheader --format %T | grep -E "^(idle|mixed|allocated)"; }

runs() { [[ -s $state/$1.pid ]] && kill -0 "$(<"$state/$1.pid")" 2>/dev/null; }

ended() { ! runs "$1"; }

stop() {
    local daemon
    for daemon in slurmd slurmctld slurmdbd mariadbd; do # each before those that it talks to
        runs "$daemon" || continue
        kill "$(<"$state/$daemon.pid")"
        wait_for ended "$daemon"
    done
}

write_settings() {
    local host memory
    host=$(hostname -s)
    memory=$(awk '/^MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
    getent hosts "$host" >/dev/null || printf '127.0.0.1 %s\n' "$host" >>/etc/hosts
    cat >"$settings/slurm.conf" <<END
$mark
ClusterName=prunebench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
# Containers have no cgroups to themselves: processes are found by their parents, and limits of
# memory are not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Two hyper-threads count as two cores, and the memory is as written below.
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=5
# Without accounting, Snakemake learns from squeue how jobs ended.
MinJobAge=3600
# The node returns by itself after this machine has slept or a test has stopped it.
ReturnToService=2
# Seconds from SIGTERM to SIGKILL: for a checkpoint, and short enough to test.
KillWait=10
GresTypes=gpu
$1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP
END
    # SLURM counts the GPU and sets CUDA_VISIBLE_DEVICES; it never opens the file.
    printf '%s\nName=gpu File=/dev/null\n' "$mark" >"$settings/gres.conf"
}

start_munge() {
    if munge -n </dev/null | unmunge; then return; fi
    install -d -o munge -g munge -m 755 /run/munge
    install -d -o munge -g munge -m 700 /etc/munge /var/lib/munge /var/log/munge
    if [[ ! -s /etc/munge/munge.key ]]; then
        (umask 377 && head -c 128 /dev/urandom >/etc/munge/munge.key)
        chown munge:munge /etc/munge/munge.key
    fi
    setpriv --reuid=munge --regid=munge --clear-groups munged
}

start_accounting() {
    install -d -o mysql -g mysql /run/mysqld
    [[ -d /var/lib/mysql/mysql ]] || mariadb-install-db --user=mysql >"$state/mariadb.log" 2>&1
    if ! mariadb-admin ping >/dev/null 2>&1; then
        setsid mariadbd --user=mysql --bind-address=127.0.0.1 --pid-file="$state/mariadbd.pid" \
            --innodb-lock-wait-timeout=900 >>"$state/mariadb.log" 2>&1 </dev/null &
        wait_for mariadb-admin ping
    fi
    mariadb <<END
CREATE DATABASE IF NOT EXISTS prunebench_slurm;
CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
GRANT ALL ON prunebench_slurm.* TO 'slurm'@'localhost';
END
    cat >"$settings/slurmdbd.conf" <<END
$mark
DbdHost=localhost
SlurmUser=root
PidFile=$state/slurmdbd.pid
LogFile=$state/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser=slurm
StoragePass=slurm
StorageLoc=prunebench_slurm
END
    chmod 600 "$settings/slurmdbd.conf" # slurmdbd refuses a file that others can read
    runs slurmdbd || slurmdbd
    wait_for sacctmgr --noheader list cluster
    # Without an account of the user, the plug-in of Snakemake guesses one and fails.
    sacctmgr --immediate --quiet add cluster prunebench || true # fails if it exists
    sacctmgr --immediate --quiet add account tests || true
    sacctmgr --immediate --quiet add user root account=tests || true
    wait_for sacctmgr --noheader show user root
}

what=${1:-plain}
[[ $what == plain || $what == accounting || $what == stop ]] ||
    fail "unknown argument '$what'; allowed are accounting and stop"
[[ $(id -u) == 0 ]] || fail "run it as root"
command -v apt-get >/dev/null || fail "SLURM is installed by apt-get, which this machine has not"
mkdir -p "$state/controller" "$state/node"

if [[ $what == stop ]]; then
    stop
    exit
fi

if ! { command -v sinfo && node_is_up; } >/dev/null 2>&1; then
    packages=(slurmctld slurmd slurm-client munge)
    storage="AccountingStorageType=accounting_storage/none"
    if [[ $what == accounting ]]; then
        packages+=(slurmdbd mariadb-server)
        storage="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
JobAcctGatherType=jobacct_gather/linux"
    fi
    install_missing "${packages[@]}"
    mkdir -p "$settings"
    if [[ -e $settings/slurm.conf ]] && ! grep -qF "$mark" "$settings/slurm.conf"; then
        fail "$settings/slurm.conf belongs to another SLURM, which does not answer"
    fi
    stop
    # Jobs and nodes of an earlier start, whose number of cores may have been another one.
    rm -rf "$state/controller" "$state/node"
    mkdir "$state/controller" "$state/node"
    write_settings "$storage"
    start_munge >/dev/null 2>&1
    if [[ $what == accounting ]]; then start_accounting; fi
    slurmctld
    slurmd
    wait_for node_is_up
elif [[ $what == accounting ]] && ! scontrol show config | grep accounting_storage/slurmdbd >/dev/null; then
    fail "the SLURM that runs has no accounting; stop it first"
fi

timeout 300 srun --ntasks=1 --mem=10 --gres=gpu:1 sh -c 'test -n "$CUDA_VISIBLE_DEVICES"' ||
    fail "a job with a GPU did not run within five minutes"
printf '%s, %s cores\nready\n' "$(sinfo --version)" "$cores"
