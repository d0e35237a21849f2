# Functions around one slurmctld on its own host, for sh, behind as.sh and slurm_conf.sh. Set before: $folder (of slurm.conf), $unit (its service).
LC_ALL=C
export LC_ALL
unset SLURM_TIME_FORMAT

systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# The process as the service manager has it; nothing if there is none.
main_pid() {
    if systemd; then
        systemctl show -p MainPID "$unit" | sed -n 's/^MainPID=0*\([1-9][0-9]*\)$/\1/p'
    else
        for one in $(pgrep -x slurmctld); do
            ! slurms "$one" || printf '%s %s\n' "$(began "$one")" "$one"
        done | sort -n | sed -n '1s/.* //p'
    fi
}

# slurms PID: whether a process that calls itself slurmctld is Slurm's. Anybody can start one of that name, and root runs what it
# is and believes what it says: it has to be root's or SlurmUser's, and the program one that root alone can change.
slurms() {
    for has in $(sed -n 's/^Uid://p' "/proc/$1/status" 2>/dev/null) none; do
        case $has in 0 | "$slurm_uid") ;; none) break ;; *) return 1 ;; esac
    done
    is_slurmctld "$1"
}
# When the process $1 began, in ticks since boot.
began() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# Where slurmctld itself lies: that of the process, or else the one where Slurm's programs are looked for. It may be somebody
# else's than root's, and so root never runs it: `slurm PROGRAM -V` does.
program() {
    main=$(main_pid)
    if [ -n "$main" ] && lies=$(lies_at "$main") && [ -n "$lies" ]; then
        printf '%s\n' "$lies"
        return 0
    fi
    (PATH=${as_path:-$PATH:$(echo "$usual" | tr ' ' :)}; command -v slurmctld) || :
}
usual='/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /opt/slurm/sbin /opt/slurm/bin'

# scontrol is installed beside slurmctld, and that folder need not be on PATH. Root's own PATH stays as it is: these folders may
# be another user's, and then root looks for nothing there, not as SlurmUser either.
slurm_path() {
    found=$(program)
    as_path=$PATH
    for one in ${found:+"${found%/*}" "${found%/*/*}/bin"} $usual; do
        case $slurm_uid in '' | 0) roots "$one" || continue ;; esac
        as_path=$as_path:$one
    done
}

# slurm COMMAND...: a program of Slurm's as SlurmUser, who may do everything there that root may. Slurm's programs load plugins
# from where slurm.conf says (PluginDir): whoever can write that would be root.
slurm() {
    for word; do case $word in timeout | -* | [0-9]*) ;; *) break ;; esac; done
    case $slurm_uid$word in
    0/*) obeys "$word" || return 77 ;;
    *) obeys / || return 77 ;;
    esac
    "${runs_as:-as}" "$runner" "$@"
}

# running_setting SECONDS KEY: what the slurmctld in charge runs with, by its own word; nothing where it does not respond in time.
running_setting() { slurm timeout "$1" scontrol show config 2>/dev/null </dev/null | sed -n "s/^$2 *= *//p"; }

# conf_texts NAME: "NAME=PATH CONTENT" for slurm.conf and each file that it includes, in base64; "unreadable=PATH" for the others.
# Of 5 MB at most altogether, also where they have grown since slurm.conf was read: these texts are kept in memory and in a file.
conf_texts() {
    left=6700000
    whose=$(reader "$slurm_uid" "$folder/slurm.conf")
    conf_files | while IFS= read -r file; do
        # who writes slurm.conf says what it includes: that could be any file
        if [ "$whose" = root ]; then as_whom=$(reader "$slurm_uid" "$file"); else as_whom=$whose; fi
        if content=$(text_of "$as_whom" "$file") && [ "${#content}" -le "$left" ]; then
            left=$((left - ${#content}))
            printf '%s=%s %s\n' "$1" "$file" "$content"
        else
            printf 'unreadable=%s\n' "$file"
        fi
    done
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
pings() { pinged | located; }
# The same as scontrol has it: "NAMES UP|DOWN" a line.
pinged() {
    slurm timeout "$patience" scontrol ping 2>/dev/null </dev/null |
        sed -n 's/^Slurmctld([^)]*) at \([^ ]*\) is \(UP\|DOWN\).*/\1 \2/p'
}
located() {
    while read -r names state; do
        where=there
        for name in "$(uname -n)" "$(uname -n | cut -d. -f1)"; do
            case ",$names," in *",$name,"*) where=here ;; esac
        done
        echo "$where $state"
    done
}

# When the process $1 began, in seconds of this host's clock with two digits behind the point. The clock and the time since
# boot can't be read at once: on a busy host seconds lie between, so the closest of some pairs counts.
started() {
    ticks=$(began "$1")
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

# Which process $1 is: no other one has the same, after another start of the host neither.
identity() {
    [ -z "$1" ] || echo "$(cat /proc/sys/kernel/random/boot_id) $1 $(began "$1")"
}
