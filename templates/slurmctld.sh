# Functions around one slurmctld on its own host, for sh. Set before: $folder (of slurm.conf), $unit (its service).
LC_ALL=C
export LC_ALL
unset SLURM_TIME_FORMAT

systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# The process as the service manager has it; nothing if there is none.
main_pid() {
    if systemd; then
        systemctl show -p MainPID "$unit" | sed -n 's/^MainPID=0*\([1-9][0-9]*\)$/\1/p'
    else
        pgrep -o -x slurmctld || :
    fi
}

# What /proc says of the process $1 in its file $2. In a container root has fewer rights, and only the process's own user may
# read some of it.
of_process() {
    cat "/proc/$1/$2" 2>/dev/null ||
        setpriv --reuid "$(stat -c %u "/proc/$1")" --regid "$(stat -c %g "/proc/$1")" --clear-groups cat "/proc/$1/$2" 2>/dev/null
}

# Where slurmctld itself lies: that of the process, or else the one on PATH.
program() {
    main=$(main_pid)
    if [ -n "$main" ] && readlink -f "/proc/$main/exe"; then return 0; fi
    command -v slurmctld || :
}

# scontrol is installed beside slurmctld, and that folder need not be on PATH.
slurm_path() {
    found=$(program)
    if [ -n "$found" ]; then PATH=$PATH:${found%/*}:${found%/*/*}/bin; fi
    PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/slurm/sbin:/opt/slurm/bin
    export PATH
}

# slurm.conf and everything that it includes, a path a line. A relative path is meant from slurm.conf's folder.
included=
follow() {
    case "
$included
" in *"
$1
"*) return 0 ;; esac
    included="$included
$1"
    [ -r "$1" ] || return 0
    for target in $(sed -n "s/%c/$cluster/g
s/^[Ii][Nn][Cc][Ll][Uu][Dd][Ee][[:space:]]\{1,\}\([^#[:space:]]*\).*/\1/p" "$1"); do
        case $target in /*) follow "$target" ;; *) follow "$folder/$target" ;; esac
    done
}
conf_files() {
    cluster=$(sed -n 's/^[[:space:]]*[Cc][Ll][Uu][Ss][Tt][Ee][Rr][Nn][Aa][Mm][Ee][[:space:]]*=[[:space:]]*\([^#[:space:]]*\).*/\1/p' \
        "$folder/slurm.conf" | tail -n 1 | tr '[:upper:]' '[:lower:]')
    included=
    follow "$folder/slurm.conf"
    printf '%s\n' "$included" | sed '/^$/d'
}

# The files that slurmctld reads when it starts, as far as they are there, a path a line.
start_files() {
    { [ ! -e "$folder/slurm.conf" ] || conf_files; echo "$folder/burst_buffer.conf"; } | while IFS= read -r file; do
        [ ! -e "$file" ] || printf '%s\n' "$file"
    done
}

# What `scontrol ping` says of each SlurmctldHost, in the order in which they take over: "here|there UP|DOWN" a line.
# A host may be named there with or without its domain, and several names may stand for one. For one that doesn't answer
# scontrol tries for as long as MessageTimeout, at most $patience seconds for all of them.
patience=30
pings() {
    timeout "$patience" scontrol ping 2>/dev/null </dev/null |
        sed -n 's/^Slurmctld([^)]*) at \([^ ]*\) is \(UP\|DOWN\).*/\1 \2/p' |
        while read -r names state; do
            where=there
            for name in $(echo "$names" | tr , ' '); do
                if [ "$name" = "$(uname -n)" ] || [ "$name" = "$(uname -n | cut -d. -f1)" ]; then where=here; fi
            done
            echo "$where $state"
        done
}

# When the process $1 began, in seconds of this host's clock with two digits behind the point. The clock and the time since
# boot can't be read at once: on a busy host seconds lie between, so the closest of some pairs counts.
started() {
    ticks=$(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20)
    tries=0
    while [ "$tries" -lt 10 ]; do
        tries=$((tries + 1))
        read -r before rest </proc/uptime
        now=$(date +%s.%N)
        read -r after rest </proc/uptime
        echo "$before $now $after"
        if [ "$before" = "$after" ]; then break; fi
    done | awk -v ticks="$ticks" -v hertz="$(getconf CLK_TCK)" '
        NR == 1 || $3 - $1 < best { best = $3 - $1; boot = $2 - $1 }
        END { printf "%.2f\n", boot + ticks / hertz }'
}
