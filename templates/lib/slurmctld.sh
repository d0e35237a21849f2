# Functions about the slurmctld of this host. Goes after as.sh, slurm_conf.sh and own_state.sh. Set before: $folder (of
# slurm.conf), $unit (its service).
LC_ALL=C
export LC_ALL
unset SLURM_TIME_FORMAT
# Slurm's programs read the slurm.conf that this script is about, whatever they were built with
if [ -e "${folder-}/slurm.conf" ]; then SLURM_CONF=$folder/slurm.conf; else unset SLURM_CONF; fi
# the folder for this tool's records, where a script has one
[ -z "${state-}" ] || state=$(own_state "$state") || exit 1
[ -z "${state_folder-}" ] || state_folder=$(own_state "$state_folder") || exit 1

systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# main_pid: slurmctld's process, as the service manager has it; nothing if there is none.
main_pid() {
    if systemd; then
        systemctl show -p MainPID "$unit" | sed -n 's/^MainPID=0*\([1-9][0-9]*\)$/\1/p'
    else
        for one in $(pgrep -x slurmctld); do
            ! is_slurms "$one" || printf '%s %s\n' "$(start_ticks "$one")" "$one"
        done | sort -n | sed -n '1s/.* //p'
    fi
}

# is_slurms PID: whether a process named slurmctld is Slurm's. Anybody can start a process of that name, and root runs its program and
# trusts its output: it must be root's or SlurmUser's, and only root may be able to change its program.
is_slurms() {
    for has in $(sed -n 's/^Uid://p' "/proc/$1/status" 2>/dev/null) none; do
        case $has in 0 | "$slurm_uid") ;; none) break ;; *) return 1 ;; esac
    done
    is_slurmctld "$1"
}
# start_ticks PID: when the process began, in ticks since boot
start_ticks() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# program_of PID: slurmctld's path: of the process, else from the usual folders. It may belong to another user, so root never runs it:
# use `slurm PROGRAM -V`.
program_of() {
    if [ -n "$1" ] && lies=$(program_file "$1") && [ -n "$lies" ]; then
        printf '%s\n' "$lies"
        return 0
    fi
    (PATH=${as_path:-$PATH:$(echo "$usual" | tr ' ' :)}; command -v slurmctld) || :
}
usual='/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /opt/slurm/sbin /opt/slurm/bin'

# find_slurm: sets, unless it has done so before, $main, the process of slurmctld, $program, its path ("": none found), and $as_path,
# the PATH for Slurm's programs: scontrol is in slurmctld's folder, which may not be on PATH. Root's own PATH is unchanged; where
# SlurmUser is root, folders that others can write are left out.
# $users_path is the PATH for what another user runs: SlurmUser's process chose its own program's folder, so that counts only if it
# is root's alone. $unreadable and $not_open are what find_unreadable sets.
as_path='' unreadable='' not_open=''
find_slurm() {
    [ -z "$as_path" ] || return 0
    main=$(main_pid)
    program=$(program_of "$main")
    as_path=$PATH users_path=$PATH
    for one in ${program:+"${program%/*}" "${program%/*/*}/bin"} $usual; do
        case " $usual " in *" $one "*) listed=yes ;; *) listed= ;; esac
        case $listed$slurm_uid in yes[1-9]*) safe=yes ;; *) only_root_writes "$one" && safe=yes || safe= ;; esac
        case $slurm_uid in '' | 0) [ -n "$safe" ] || continue ;; esac
        as_path=$as_path:$one
        [ -z "$listed$safe" ] || users_path=$users_path:$one
    done
    find_unreadable
}
# as_user USER COMMAND...: run a command of Slurm's as a user other than SlurmUser, and never as root: see slurm below.
as_user() {
    [ "$1" != root ] || { echo "Slurm's commands do not run as root for the test job" >&2; return 77; }
    (as_path=$users_path; as "$@")
}

# slurm COMMAND...: run a program of Slurm's as SlurmUser, who has root's rights in Slurm. Not as root: Slurm's programs load plugins
# from slurm.conf's PluginDir, so who can write that folder would be root.
slurm() {
    for word; do case $word in timeout | -* | [0-9]*) ;; *) break ;; esac; done
    case $slurm_uid$word in
    0/*) choose_runner "$word" || return 77 ;;
    *) choose_runner / || return 77 ;;
    esac
    can_read_conf "${word##*/}" || return 78
    "${runs_as:-as}" "$runner" "$@"
}

# can_read_conf PROGRAM: fails, with the reason, where PROGRAM would read slurm.conf and wait for a file of it (find_unreadable).
can_read_conf() {
    case $1 in scontrol | squeue | sacct | scancel | sinfo) ;; *) return 0 ;; esac
    [ -z "$unreadable" ] || { printf 'error: cannot read file %s\n' "$unreadable" >&2; return 1; }
}
# find_unreadable: sets $unreadable to the first file of slurm.conf and its includes that SlurmUser cannot read, and why: "FILE: WHY";
# $not_open to what is closed to him on the way to it, as not_open prints it. "" where there is none. Slurm's programs, and a slurmctld
# that starts as SlurmUser, look once a second for a file that they cannot see, for a minute, before they give up.
find_unreadable() {
    unreadable='' not_open=''
    choose_runner / 2>/dev/null || return 0
    view_=$(unreadable_for "$runner" "$slurm_name")
    [ -n "$view_" ] || return 0
    unreadable="$(printf '%s\n' "$view_" | sed -n 's/^file=//p'): $(printf '%s\n' "$view_" | sed -n 's/^why=//p')"
    not_open=$(printf '%s\n' "$view_" | sed -n 's/^not_open=//p')
}
# unreadable_for USER NAME: the same for any user, as the facts "file", "why" and, where a user may not read it, "not_open"; nothing where
# there is none. That user's own view counts: root may see a file in a folder that is closed to others, and a file server may hide one
# from root.
unreadable_for() (
    [ -e "${folder-}/slurm.conf" ] || exit 0
    code=0
    # shellcheck disable=SC2016 # for the shell that is started
    seen=$(conf_files | as "$1" timeout 5 sh -c 'while IFS= read -r file; do printf "%s\n" "$file"; [ -r "$file" ] || exit 66; done') || code=$?
    case $code in 66 | 124 | 137) last=$(printf '%s\n' "$seen" | tail -n 1) ;; *) exit 0 ;; esac
    fact file "$last"
    if [ "$code" != 66 ]; then
        fact why 'no answer within 5 s'
    elif [ -e "$last" ]; then
        closed=$(not_open "$1" "$last")
        fact why "$2 may not $closed"
        fact not_open "$closed"
    else
        fact why 'it does not exist'
    fi
)

# not_open USER FILE: what of the way to a file is closed to a user: "enter FOLDER", or "read FILE"
not_open() (
    folder_=${2%/*}
    while [ -n "$folder_" ]; do
        # the one that is nearest to the root is the cause
        as "$1" timeout 5 test -x "${folder_%/*}/" || { folder_=${folder_%/*}; continue; }
        as "$1" timeout 5 test -x "$folder_" || { printf 'enter %s\n' "$folder_"; exit 0; }
        break
    done
    printf 'read %s\n' "$2"
)

# takes_jobs UP STATE: whether nodes in STATE (sinfo's %t) of a partition that is UP (its %a) have jobs, or will have. A mark behind the
# state says more of it; a * says that the node does not respond. Of "unk", a slurmctld that has just started has not heard yet: a node
# that stays silent becomes down after SlurmdTimeout.
takes_jobs() {
    case $2 in *\**) return 1 ;; esac
    case "$1 ${2%%[!a-z]*}" in 'up idle' | 'up mix' | 'up alloc' | 'up comp' | 'up plnd' | 'up unk') ;; *) return 1 ;; esac
}

# running_setting SECONDS KEY: the value with which the slurmctld in charge runs; nothing where it does not respond in time.
running_setting() {
    case $asked in yes) printf '%s\n' "$runs_with" ;; *) running_config "$1" ;; esac | sed -n "s/^$2 *= *//p"
}
running_config() { slurm timeout "$1" scontrol show config 2>/dev/null </dev/null; }
# ask_slurmctld: ask it now, once for all calls of pings, named_pings and running_setting after this
ask_slurmctld() {
    asked=yes runs_with='' responds=$(ping_hosts)
    case $responds in *\ UP*) runs_with=$(running_config 30) ;; esac
}
asked=

# conf_texts NAME: "NAME=PATH CONTENT" for slurm.conf and each file that it includes, in base64; "unreadable=PATH" for the others.
# Of 5 MB at most altogether, also where they have grown since slurm.conf was read: these texts are kept in memory and in a file.
conf_texts() {
    left=6700000
    whose=$(choose_reader "$slurm_uid" "$folder/slurm.conf")
    conf_files | while IFS= read -r file; do
        # the writer of slurm.conf decides what it includes: it could be any file
        if [ "$whose" = root ]; then as_whom=$(choose_reader "$slurm_uid" "$file"); else as_whom=$whose; fi
        if content=$(text_of "$as_whom" "$file") && [ "${#content}" -le "$left" ]; then
            left=$((left - ${#content}))
            printf '%s=%s %s\n' "$1" "$file" "$content"
        else
            printf 'unreadable=%s\n' "$file"
        fi
    done
}

# start_files: the existing files that slurmctld reads when it starts, a path a line
start_files() {
    { [ ! -e "$folder/slurm.conf" ] || conf_files; echo "$folder/burst_buffer.conf"; } | while IFS= read -r file; do
        [ ! -e "$file" ] || printf '%s\n' "$file"
    done
}

# pings: `scontrol ping` of each SlurmctldHost in the order in which they take over: "here|there UP|DOWN" a line. A host may be named
# with or without its domain, or by several names. For one that doesn't respond scontrol tries for MessageTimeout, at most $patience
# seconds for all of them.
patience=30
pings() { named_pings | mark_local; }
# named_pings: the same with names: "NAMES UP|DOWN" a line
named_pings() {
    case $asked in yes) [ -z "$responds" ] || printf '%s\n' "$responds" ;; *) ping_hosts ;; esac
}
ping_hosts() {
    slurm timeout "$patience" scontrol ping 2>/dev/null </dev/null |
        sed -n 's/^Slurmctld([^)]*) at \([^ ]*\) is \(UP\|DOWN\).*/\1 \2/p'
}
mark_local() {
    own_name=$(uname -n)
    while read -r names state; do
        where=there
        for name in "$own_name" "${own_name%%.*}"; do
            case ",$names," in *",$name,"*) where=here ;; esac
        done
        echo "$where $state"
    done
}

# start_time PID: when the process began, in seconds of this host's clock with two decimals. The clock and the time since boot can't be
# read at once, and seconds may pass between them on a busy host: the closest of several pairs counts.
start_time() {
    ticks=$(start_ticks "$1")
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

# identity PID: a name that no other process has, not even after a reboot
identity() {
    [ -z "$1" ] || { read -r boot_ </proc/sys/kernel/random/boot_id && printf '%s %s %s\n' "$boot_" "$1" "$(start_ticks "$1")"; }
}
# is_recorded PID: whether $state has a record of what this slurmctld has read
is_recorded() {
    [ -e "$state/activation" ] || return 1
    ! grep -q '^process=' "$state/activation" || grep -qxF "process=$(identity "$1")" "$state/activation"
}
