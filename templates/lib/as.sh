# Drops root's rights where other users decide what is read or run. An account is its number: a name is looked up once, and only
# number 0 is root, whatever its name. Names from slurm.conf may be any text.

newline='
'
me=$(id -u) # the number of whoever runs this script; "" where that is unknown
known_accounts=$newline # "WHO=LINE OF PASSWD", a line each
# know_account WHO: find_account returns for WHO, without asking again, the account that it found last. A script looks one up for each
# command that it runs as somebody else.
know_account() { known_accounts=$known_accounts$1=$as_entry$newline; }
# account_line WHO: print its line of passwd. A directory server that does not respond would keep getent forever.
account_line() { timeout --foreground -k 1 20 getent passwd "$1" 2>/dev/null; }
# find_account WHO: look up an account by its name, or its number in digits: sets $as_name $as_number $as_group $as_home. Returns 1
# if there is none, or if WHO is neither a name nor digits, and $as_lacks says why. (Other programs accept "+0", " 0" and "0x0" as
# root.) A name may have its domain: slurm@site.example, SITE+slurm.
find_account() {
    as_lacks='does not exist on this host'
    case $1 in
    '' | *[!0-9]*) case ${1%\$} in '' | [!A-Za-z_]* | *[!A-Za-z0-9_.@+-]*) return 1 ;; esac ;;
    esac
    case $known_accounts in
    *"$newline$1="*)
        as_entry=${known_accounts#*"$newline$1="}
        as_entry=${as_entry%%"$newline"*}
        ;;
    *)
        as_entry=$(account_line "$1") || {
            [ "$?" != 124 ] || as_lacks='cannot be looked up: getent has waited 20 s for the name service (nsswitch.conf)'
            return 1
        }
        ;;
    esac
    as_name=${as_entry%%:*}
    as_line=${as_entry#*:*:}
    as_number=${as_line%%:*}
    as_line=${as_line#*:}
    as_group=${as_line%%:*}
    as_home=${as_line#*:*:}
    as_home=${as_home%%:*}
    case "$as_number:$as_group" in :* | *: | *[!0-9:]*) return 1 ;; esac
}

# as WHO COMMAND...: run COMMAND with that account's rights and groups only. Only the word "root", in this tool's own lines, means
# root: no text from a file and no other name does. COMMAND gets PATH (or $as_path) and the path of slurm.conf from this script's
# environment, and only the first three open files: otherwise it could keep a lock. After a minute, or after SECONDS if COMMAND
# begins with `timeout SECONDS`, this script's user kills it: that account could stop a timeout of its own. Processes that it
# leaves behind delay nothing (bounded.sh). In a container whose user is not root, that user takes root's place and cannot change.
as() {
    case ${2-} in timeout) run_bounded exec_as "$@" ;; *) as_=$1; shift; run_bounded exec_as "$as_" timeout 60 "$@" ;; esac
}
# exec_as WHO COMMAND...: the same, replacing this shell; only `timeout SECONDS` limits it. (Without --foreground, timeout would make
# its own process group, which the signals that end this script do not reach.)
exec_as() {
    exec 8>&- 9>&-
    [ "$1" = root ] || exec 3>&- 4>&- 5>&- 6>&- 7>&-
    who=$1 timed=
    shift
    if [ "$1" = timeout ]; then
        timed="timeout --foreground -k 3 $2"
        shift 2
    fi
    # in a container, a user other than root cannot become anybody else
    if [ "$who" = root ] && [ "$me" != 0 ]; then who=$me; fi
    if ! find_account "$who"; then
        printf 'account %s %s: nothing was run\n' "$who" "$as_lacks" >&2
        exit 77
    fi
    if [ "$as_number" = 0 ] && [ "$who" != root ]; then
        printf '%s is another name of root: nothing was run\n' "$who" >&2
        exit 77
    fi
    # a container may forbid setpriv even where it would change nothing
    if [ "$as_number" != "$me" ]; then
        if [ "$me" != 0 ]; then
            printf 'user %s cannot become %s: nothing was run\n' "$me" "$as_name" >&2
            exit 77
        fi
        set -- setpriv --reuid "$as_number" --regid "$as_group" --init-groups "$@"
    fi
    # env before setpriv: a user can read the environment of a process with that user's rights
    # shellcheck disable=SC2086 # words
    exec $timed env -i "PATH=${as_path:-$PATH}" "HOME=${as_home:-/}" "USER=$as_name" "LOGNAME=$as_name" SHELL=/bin/sh LC_ALL=C \
        ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"} ${SLURM_TIME_FORMAT:+"SLURM_TIME_FORMAT=$SLURM_TIME_FORMAT"} "$@"
}

# only_root_writes PATH: whether only root can change the file or folder
only_root_writes() { only_account_writes 0 "$1" >/dev/null; }

# only_account_writes NUMBER PATH: whether only root and the account NUMBER can change PATH: the file, every folder above it, and the
# targets of links. If somebody else can, print the first of these. A user who can write a folder can replace the files in it,
# except in a sticky folder such as /tmp. The group root counts as root if there is no ACL. In a read-only mount, such as a
# ConfigMap in a pod, nobody can write, whatever its mode says.
only_account_writes() (
    account=$1 deep=${3:-0}
    case $2 in /*) [ "$deep" -lt 20 ] || { printf '%s\n' "$2"; exit 1; } ;; *) printf '%s\n' "$2"; exit 1 ;; esac
    path=$2
    set -- "$path"
    while [ "$path" != / ]; do
        path=${path%/*}
        path=${path:-/}
        set -- "$@" "$path"
    done
    # one program for all of them; the first that is missing, or cannot be seen, ends the list below
    states=$(stat -c '%u %A g%g' -- "$@" 2>/dev/null) || states=$(for path in "$@"; do stat -c '%u %A g%g' -- "$path" 2>/dev/null || break; done)
    for path in "$@"; do
        status=${states%%"$newline"*}
        case $states in *"$newline"*) states=${states#*"$newline"} ;; *) states= ;; esac
        case $status in "$account "*) status="0 ${status#* }" ;; esac
        case $status in
        0\ l*)
            target=$(readlink -- "$path")
            case $target in /*) ;; *) target=${path%/*}/$target ;; esac
            only_account_writes "$account" "$target" $((deep + 1)) || exit 1
            ;;
        0\ d????????[tT]*) ;;
        0\ ?????w??-*\ g0) has_no_acl "$path" || { printf '%s\n' "$path"; exit 1; } ;;
        0\ ?????w* | 0\ ????????w*) [ ! -w "$path" ] || { printf '%s\n' "$path"; exit 1; } ;;
        0\ *) ;;
        *) printf '%s\n' "$path"; exit 1 ;;
        esac
    done
)

# has_no_acl PATH: whether only the group has the group's rights. With an ACL, everybody whom it names has them; the ACLs of a file
# server are not always visible. Fails if ls or stat print nothing.
has_no_acl() { case $(LC_ALL=C ls -ld -- "$1")/$(stat -f -c %T -- "$1") in ??????????+* | */nfs* | /* | */) return 1 ;; esac; }

# as_root: whether root runs this script. Also where that is unknown, because a program cannot be started: then checks are made.
as_root() { case $me in 0 | '') ;; *) false ;; esac; }

# choose_reader NUMBER FILE: print the account that reads FILE for the account NUMBER: root only if only root can write it, otherwise
# that account, because FILE could be a link to what only root may read. If NUMBER is root or unknown (""), the user nobody reads it.
choose_reader() {
    if only_root_writes "$2"; then echo root; else case $1 in '' | 0) echo nobody ;; *) echo "$1" ;; esac fi
}

# $regular$reads: for `sh -c`, with FILE, and 0 if a missing file is no error: prints a regular file, 8 MB at most. Other users may put
# a device, a fifo, an endless file or a link in its place, between any two commands: so it enters the folder first, opens no link
# there, and never waits. Files that the kernel generates (/proc/kmsg) look regular, but reading them may block or consume: refused.
# shellcheck disable=SC2016 # for the shell that is started
regular='
    cd -P "${1%/*}/" || exit "${2-1}"
    name=${1##*/}
    if [ -L "./$name" ]; then
        at=$(readlink -f -- "./$name") && cd -P "${at%/*}/" || exit "${2-1}"
        name=${at##*/}
    fi
    if [ -L "./$name" ] || [ ! -f "./$name" ]; then exit "${2-1}"; fi
    case $PWD/ in /proc/* | /sys/* | /dev/*) exit 1 ;; esac
    [ -s "./$name" ] || case $(stat -f -c %T .) in proc | sysfs | tracefs | debugfs) exit 1 ;; esac
'
# shellcheck disable=SC2016 # the same
reads='dd if="./$name" iflag=nofollow,nonblock,fullblock bs=65536 count=123 status=none'
# $regular$entire: for `sh -c`, with FILE, 1 and COMMAND: prints what COMMAND makes of the file; fails if the file could not be read
# completely, which a pipe would hide.
# shellcheck disable=SC2016 # the same
entire="shift 2; exec 4>&1; code=\$({ { $reads 3>&- 4>&- && echo 0 >&3; }"' | "$@" >&4 3>&- 4>&-; } 3>&1) && [ "$code" = 0 ]'

# sum_of FILE: print the checksum of what root reads there, within 20 s
sum_of() {
    summed=$(timeout -k 3 20 sh -c "$regular$entire" sh "$1" 1 sha256sum 8>&- 9>&- 2>/dev/null </dev/null) && printf '%s\n' "${summed%% *}"
}

# text_of WHO FILE: print what that account reads there, in base64; 8 MB at most, within 20 s. The output is checked, because a program
# of another user may print anything. Root's own programs end, and leave nothing behind: they need no bound.
text_of() {
    set -- "$1" sh -c "$regular[ -r \"./\$name\" ] || exit 1; $entire" sh "$2" 1 base64 -w 0
    case $1 in
    root) shift; text=$(timeout --foreground -k 3 20 "$@" 8>&- 9>&- 2>/dev/null) || return 1 ;;
    *) reader_=$1; shift; text=$(as "$reader_" timeout 20 "$@" 2>/dev/null) || return 1 ;;
    esac
    case $text in *[!A-Za-z0-9+/=]*) return 1 ;; esac
    [ "${#text}" -le 10666668 ] && printf %s "$text"
}

# What /proc says of the process $1 in its file $2. In a container root has fewer rights, and only the process's own user may
# read some of it: with that user's number and group, and only for a process that has one of each. Another one has been started
# by somebody with the rights of somebody else. A process can make reading its own memory take forever;
# and an environment that it may read has nothing of root's.
read_proc() { as_process_user "$1" cat "/proc/$1/$2"; }
# The PATH that the process $1 was started with; nothing where there is no such process ("").
path_of() { [ -z "$1" ] || read_proc "$1" environ | tr '\0' '\n' | sed -n '/^PATH=/{s///p;q;}'; }
as_process_user() {
    of=$1
    shift
    timeout --foreground -k 3 20 "$@" 2>/dev/null 8>&- 9>&- || {
        number=$(single_id Uid "$of") && group=$(single_id Gid "$of") &&
            case $number in 0 | "$me") false ;; esac &&
            run_bounded timeout --foreground -k 3 20 env -i "PATH=$PATH" setpriv --reuid "$number" --regid "$group" --clear-groups "$@" \
                3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- 2>/dev/null
    }
}
# single_id Uid|Gid PROCESS: the number, if it has the same as what it was started with, works with and could go back to.
single_id() {
    # shellcheck disable=SC2046 # words
    set -- $(sed -n "s/^$1://p" "/proc/$2/status" 2>/dev/null)
    case "$#:${1-}" in 4:*[!0-9]* | 4:) return 1 ;; 4:*) ;; *) return 1 ;; esac
    [ "$1 $1 $1" = "$2 $3 $4" ] && echo "$1"
}
# program_file PROCESS: print the path of its program; if an update has replaced it since, the path of its successor
program_file() {
    lies=$(as_process_user "$1" readlink "/proc/$1/exe")
    printf '%s\n' "${lies% (deleted)}"
}

# fact NAME VALUE: print the line "NAME=VALUE". Newlines in VALUE become blanks: so VALUE cannot forge another fact.
fact() {
    case $2 in
    *"$newline"*) printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')" ;;
    *) printf '%s=%s\n' "$1" "$2" ;;
    esac
}

# runner_kubectl SECONDS KUBECONFIG ARGUMENTS...: kubectl as the account $runner (`choose_runner KUBECONFIG` sets it: a kubeconfig may name
# programs to run). Set before: $runner; $home, that account's folder for kubectl's cache (make_memory_folder); $kubectl_path: the PATH of
# kubectl, or "" for that of `as`; $kubectl_proxy and $kubectl_direct: its HTTPS_PROXY and NO_PROXY, if it has them.
runner_kubectl() {
    within_=$1 kubeconfig_=$2
    shift 2
    as "$runner" timeout "$within_" env ${kubectl_path:+"PATH=$kubectl_path"} HOME="$home" \
        ${kubectl_proxy:+"HTTPS_PROXY=$kubectl_proxy"} ${kubectl_direct:+"NO_PROXY=$kubectl_direct"} \
        kubectl --kubeconfig "$kubeconfig_" --cache-dir "$home" "$@"
}
