# What keeps slurmctld from starting, whatever burst buffer slurm.conf has. Only reads. Goes after slurmctld.sh and find_slurm.

# conf_problem CONF: what Slurm says where its programs cannot read CONF, and so slurmctld could not either; nothing where they can.
# This command asks no slurmctld: it reads CONF and prints the names of a host in it.
conf_problem() {
    said=$(SLURM_CONF=$1; slurm timeout 10 scontrol show aliases localhost 2>&1 >/dev/null </dev/null) || printf '%s\n' "$said" | errors
}
# errors: the errors among the lines of a program of Slurm's
errors() { grep -aE 'error|fatal' | sed 's/^scontrol: //' | cut -c 1-300 | awk '!seen[$0]++' | tail -n 6; }

# auth_type: how Slurm's programs prove to each other who they are
auth_type() { conf_value AuthType | tr '[:upper:]' '[:lower:]' | grep . || echo auth/munge; }

# auth_problem: why SlurmUser cannot prove who he is, a line; nothing where he can, or where that cannot be tried
auth_problem() {
    case $(auth_type) in
    auth/munge | munge) munge_problem ;;
    auth/slurm | slurm)
        for key in "$folder/slurm.jwks" "$folder/slurm.key"; do ! slurm timeout 10 test -r "$key" 2>/dev/null || return 0; done
        [ -z "$slurm_uid" ] || echo "SlurmUser can read neither $folder/slurm.key nor $folder/slurm.jwks"
        ;;
    esac
}
munge_problem() {
    socket=$(conf_value AuthInfo | tr , '\n' | sed -n 's/^socket=//p' | head -n 1)
    # shellcheck disable=SC2016 # for the shell that is started
    said=$(slurm timeout 10 sh -c 'command -v munge >/dev/null && command -v unmunge >/dev/null || exit 0
        token=$(munge -n ${1:+"-S$1"}) && printf "%s\n" "$token" | unmunge ${1:+"-S$1"} 2>&1 >/dev/null' \
        sh "$socket" 2>&1 </dev/null) || {
        code=$?
        [ "$code" != 124 ] || said="no answer within 10 s"
        printf '%s\n' "${said:-exit code $code}" | cut -c 1-300 | head -n 1
    }
}

# state_problem: "missing", "closed", "read-only" or "silent" where SlurmUser cannot write StateSaveLocation, "inside" where he cannot
# write what slurmctld keeps in it; nothing where he can
state_problem() {
    place=$(conf_value StateSaveLocation)
    case $place in /*) ;; *) return 0 ;; esac
    [ -n "$slurm_uid" ] || return 0
    code=0
    slurm timeout 10 sh -c '[ -d "$1" ] && [ -w "$1" ] && [ -x "$1" ] || exit 1
        for one in "$1"/hash.[0-9] "$1"/*_state; do [ ! -e "$one" ] || [ -w "$one" ] || exit 3; done' \
        sh "$place" 2>/dev/null </dev/null || code=$?
    case $code in
    0) ;;
    3) echo inside ;;
    124 | 137) echo silent ;;
    *)
        if ! timeout -k 1 5 test -e "$place"; then
            # slurmctld makes it, but no folder above it
            slurm timeout 10 test -w "${place%/*}/" 2>/dev/null </dev/null || echo missing
        elif timeout -k 1 5 test -w "$place"; then echo closed; else echo read-only; fi
        ;;
    esac
}

# cluster_problem: what StateSaveLocation says of its cluster, where slurmctld would end with CLUSTER NAME MISMATCH: "has the name NAME",
# and how it differs from slurm.conf's; nothing where it fits. slurmctld takes the first line of `clustername` up to its first |, with the
# line's end where there is none, and ClusterName in lower case (_verify_clustername in Slurm's controller.c, 20.11 to 26.05).
cluster_problem() {
    named=$(cluster_name) place=$(conf_value StateSaveLocation)/clustername
    case $named$place in ?*/*) [ -n "$slurm_uid" ] || return 0 ;; *) return 0 ;; esac
    whose=$slurm_uid
    [ "$whose" != 0 ] || whose=$(choose_reader 0 "$place")
    text=$(text_of "$whose" "$place") || return 0
    # the word keeps a line's end at the end of the text
    text=$(printf %s "$text" | base64 -d | head -c 511 | tr '\000' ' '; echo end)
    text=${text%end}
    line=${text%%"$newline"*}
    case $line in
    "$named" | "$named|"*) [ "$line" = "$text" ] || [ "$line" != "$named" ] || printf '%s\n' "has the name $named, and a line break behind it" ;;
    '' | '|'*) echo 'has no name' ;;
    *) printf '%s\n' "has the name ${line%%'|'*}" | cut -c 1-200 ;;
    esac
}
# cluster_name: ClusterName as slurmctld takes it, in lower case
cluster_name() { conf_value ClusterName | tr '[:upper:]' '[:lower:]'; }

# port_holder: "PORT PROCESS NAME" of a process other than slurmctld that has taken a port of SlurmctldPort
port_holder() {
    range=$(conf_value SlurmctldPort)
    range=${range:-6817}
    first=$(number_or_zero "${range%%-*}") last=$(number_or_zero "${range##*-}")
    [ "$first" -gt 0 ] && [ "$last" -lt 65536 ] && [ "$((last - first))" -lt 100 ] || return 0
    while [ "$first" -le "$last" ]; do
        for inode in $(listeners "$first"); do holder_of "$inode" "$first"; done
        first=$((first + 1))
    done | head -n 1
}
# listeners PORT: the inodes of the sockets that listen on it, on any address
listeners() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$(printf '%04X' "$1")" '$4 == "0A" { n = split($2, at, ":"); if (at[n] == port) print $10 }'
}
# holder_of INODE PORT: the process that has this socket, unless it is slurmctld's own, whose children hold it too
holder_of() {
    main=$(main_pid)
    if [ -n "$main" ] && sockets_of "$main" | grep -q " $1\$"; then return 0; fi
    sockets_of '[0-9]*' | while read -r pid inode; do
        [ "$inode" = "$1" ] || continue
        name=$(tr -d '\n' 2>/dev/null <"/proc/$pid/comm")
        case $name in slurmctld* | slurmscriptd) ;; *) printf '%s %s %s\n' "$2" "$pid" "$name" ;; esac
        break
    done
}
# sockets_of PIDS: "PROCESS INODE" of the sockets that they have open
sockets_of() {
    # shellcheck disable=SC2086 # a pattern
    ls -l /proc/$1/fd /proc/self/fd 2>/dev/null | awk -F '[][]' '
        /^\/proc\/.*:$/ { split($0, at, "/"); pid = at[3] }
        / -> socket:/ { print pid, $(NF - 1) }'
}

# start_problem FILE: why slurmctld would not start with FILE's text as slurm.conf, a sentence; nothing where no reason is known
start_problem() (
    said=$(candidate_problem "$1" | tail -n 2 | tr '\n' ' ')
    [ -z "$said" ] || { printf '%s\n' "Slurm cannot read the text of slurm.conf: $said"; exit 0; }
    said=$(auth_problem)
    [ -z "$said" ] || { printf '%s\n' "$(auth_type) does not work: $said"; exit 0; }
    said=$(state_problem)
    [ -z "$said" ] || { printf '%s\n' "SlurmUser cannot write StateSaveLocation $(conf_value StateSaveLocation) ($said)"; exit 0; }
    said=$(cluster_problem)
    [ -z "$said" ] || { printf '%s\n' "$(conf_value StateSaveLocation)/clustername $said, but slurm.conf has ClusterName=$(cluster_name)"; exit 0; }
    said=$(port_holder)
    [ -z "$said" ] || printf '%s\n' "another process has slurmctld's port: $said"
)
# candidate_problem FILE: as conf_problem, of a text that is not in its place yet (-: on standard input). It is read from a folder in
# memory, where SlurmUser finds all that is beside slurm.conf. What it includes from a folder above it cannot be found there: then
# nothing is known.
candidate_problem() (
    [ "$1" != "$folder/slurm.conf" ] || { conf_problem "$1"; exit 0; }
    case $(conf_files) in */../*) exit 0 ;; esac
    [ -n "$slurm_uid" ] && try=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX) || exit 0
    trap 'rm -rf -- "$try"' EXIT
    for beside in "$folder"/*; do ln -s -- "$beside" "$try/"; done
    rm -f -- "$try/slurm.conf"
    cat -- "$1" >"$try/slurm.conf" && chown -h "$slurm_uid" "$try/slurm.conf" && chmod 711 "$try" || exit 0
    conf_problem "$try/slurm.conf"
) 2>/dev/null
