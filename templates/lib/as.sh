# Work with less than root's rights, where others than root decide what is read or run. An account is its number: a name is
# looked up once, and only number 0 is root, whatever it is called. What slurm.conf says may be any text.

# account WHO: the account of this name, or of this number in digits, as this host knows it: sets $as_name $as_number $as_group
# $as_home. 1: there is none, or WHO is neither a name nor a number. Other programs take "+0", " 0" and "0x0" for root.
account() {
    case $1 in
    '' | *[!0-9]*) case ${1%\$} in '' | [!A-Za-z_]* | *[!A-Za-z0-9_.-]*) return 1 ;; esac ;;
    esac
    as_line=$(getent passwd "$1" 2>/dev/null) || return 1
    as_name=${as_line%%:*}
    as_line=${as_line#*:*:}
    as_number=${as_line%%:*}
    as_line=${as_line#*:}
    as_group=${as_line%%:*}
    as_home=${as_line#*:*:}
    as_home=${as_home%%:*}
    case "$as_number:$as_group" in :* | *: | *[!0-9:]*) return 1 ;; esac
}

# as WHO COMMAND...: with that account's rights and groups alone. It is root for the word "root" alone, which this tool's own lines
# say: no text of a file, and no other name, leads there. Of this script's environment it gets PATH (or $as_path) and where
# slurm.conf is; of its open files none but the first three: a lock that it held would be held for as long as it likes. It is
# killed after a minute, or as many seconds as a COMMAND that begins with `timeout SECONDS` says, by this script's user: one of
# its own that user could stop. What it leaves behind holds up nobody (bounded.sh). In a container whose user is not root, that
# user is in root's place, and can become nobody else.
as() {
    case ${2-} in timeout) bounded exec_as "$@" ;; *) as_=$1; shift; bounded exec_as "$as_" timeout 60 "$@" ;; esac
}
# exec_as WHO COMMAND...: the same in place of this shell, bounded by nothing but `timeout SECONDS`. (Without --foreground
# timeout would make a process group of its own, which the signals that end this script do not reach.)
exec_as() {
    exec 8>&- 9>&-
    [ "$1" = root ] || exec 3>&- 4>&- 5>&- 6>&- 7>&-
    who=$1 timed= me=$(id -u)
    shift
    if [ "$1" = timeout ]; then
        timed="timeout --foreground -k 3 $2"
        shift 2
    fi
    # the user of a container who is not root is all that a script there can be
    if [ "$who" = root ] && [ "$me" != 0 ]; then who=$me; fi
    if ! account "$who"; then
        printf 'account %s does not exist: nothing was run\n' "$who" >&2
        exit 77
    fi
    if [ "$as_number" = 0 ] && [ "$who" != root ]; then
        printf '%s is another name of root: nothing was run\n' "$who" >&2
        exit 77
    fi
    # root in a container, or whoever a container runs as, may not be allowed to set what is so already
    if [ "$as_number" != "$me" ]; then
        if [ "$me" != 0 ]; then
            printf 'user %s cannot become %s: nothing was run\n' "$me" "$as_name" >&2
            exit 77
        fi
        set -- setpriv --reuid "$as_number" --regid "$as_group" --init-groups "$@"
    fi
    # before setpriv, not behind it: the environment of what runs as that user can be read by that user
    # shellcheck disable=SC2086 # words
    exec $timed env -i "PATH=${as_path:-$PATH}" "HOME=${as_home:-/}" "USER=$as_name" "LOGNAME=$as_name" SHELL=/bin/sh LC_ALL=C \
        ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"} ${SLURM_TIME_FORMAT:+"SLURM_TIME_FORMAT=$SLURM_TIME_FORMAT"} "$@"
}

# roots PATH: whether nobody but root can change what lies there.
roots() { sole 0 "$1" >/dev/null; }

# sole NUMBER PATH: whether nobody but root and the account NUMBER can change what lies there: the file, every folder above it,
# and what links lead to. If somebody else can, it says which of these. Who can write a folder can put another file in a file's
# place; in one like /tmp not in that of a file of theirs. The group root is root, where no ACL names others. And in one that is mounted to be read only, as
# a ConfigMap is in a pod, nobody can whatever its mode says.
sole() (
    one=$1 path=$2 deep=${3:-0}
    case $path in /*) [ "$deep" -lt 20 ] || { printf '%s\n' "$path"; exit 1; } ;; *) printf '%s\n' "$path"; exit 1 ;; esac
    while :; do
        told=$(stat -c '%u %A g%g' -- "$path" 2>/dev/null) || { printf '%s\n' "$path"; exit 1; }
        case $told in "$one "*) told="0 ${told#* }" ;; esac
        case $told in
        0\ l*)
            target=$(readlink -- "$path")
            case $target in /*) ;; *) target=${path%/*}/$target ;; esac
            sole "$one" "$target" $((deep + 1)) || exit 1
            ;;
        0\ d????????[tT]*) ;;
        0\ ?????w??-*\ g0) no_acl "$path" || { printf '%s\n' "$path"; exit 1; } ;;
        0\ ?????w* | 0\ ????????w*) [ ! -w "$path" ] || { printf '%s\n' "$path"; exit 1; } ;;
        0\ *) ;;
        *) printf '%s\n' "$path"; exit 1 ;;
        esac
        [ "$path" != / ] || exit 0
        path=${path%/*}
        path=${path:-/}
    done
)

# no_acl PATH: whether what its mode gives to the group is the group's alone. With an ACL it is given to all whom that names; and
# what a file server has of ACLs is not always seen.
no_acl() { case $(LC_ALL=C ls -ld -- "$1")/$(stat -f -c %T -- "$1") in ??????????+* | */nfs* | /* | */) return 1 ;; esac; }

# as_root: whether root runs this script. Also where that is unknown, because a program cannot be started: then checks are made.
as_root() { case $(id -u) in 0 | '') ;; *) false ;; esac; }

# reader NUMBER FILE: as whom FILE is read on behalf of that account, whom it is meant for: as root only if it is root's alone.
# Else it could be a link to what only root may read. Nobody reads it where the account is root, or is not known ("").
reader() {
    if roots "$2"; then echo root; else case $1 in '' | 0) echo nobody ;; *) echo "$1" ;; esac fi
}

# $regular$reads: for `sh -c`, with a FILE, and 0 where it is no error that there is none: what a regular file has, of some 8 MB at
# most. Where others can put a file they can put a device, a fifo, a file without end or a link to one, also between any two
# commands: so it goes into the folder first, and opens there no link, and waits for nobody. What the kernel makes up when it is
# read may be gone then, or never come, and is refused: /proc/kmsg is a regular file.
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
# $regular$entire: for `sh -c`, with a FILE, 1 and a COMMAND: what that makes of it; fails where it could not be read to its end,
# which COMMAND does not learn: a pipe has the exit code of its last command alone.
# shellcheck disable=SC2016 # the same
entire="shift 2; exec 4>&1; code=\$({ { $reads 3>&- 4>&- && echo 0 >&3; }"' | "$@" >&4 3>&- 4>&-; } 3>&1) && [ "$code" = 0 ]'

# sum_of FILE: the checksum of what root reads there, within 20 s.
sum_of() {
    summed=$(timeout -k 3 20 sh -c "$regular$entire" sh "$1" 1 sha256sum 8>&- 9>&- 2>/dev/null </dev/null) && printf '%s\n' "${summed%% *}"
}

# text_of WHO FILE: what that account reads there, in base64; of 8 MB at most, within 20 s. What runs as another user prints what
# that user likes.
text_of() {
    text=$(as "$1" timeout 20 sh -c "$regular[ -r \"./\$name\" ] || exit 1; $entire" sh "$2" 1 base64 -w 0 2>/dev/null) || return 1
    case $text in *[!A-Za-z0-9+/=]*) return 1 ;; esac
    [ "${#text}" -le 10666668 ] && printf %s "$text"
}

# What /proc says of the process $1 in its file $2. In a container root has fewer rights, and only the process's own user may
# read some of it: with that user's number and group, and only for a process that has one of each. Another one has been started
# by somebody with the rights of somebody else. A process can make reading its own memory take for ever;
# and an environment that it may read has nothing of root's.
of_process() { by_its_user "$1" cat "/proc/$1/$2"; }
# The PATH that the process $1 was started with; nothing where there is no such process ("").
path_of() { [ -z "$1" ] || of_process "$1" environ | tr '\0' '\n' | sed -n '/^PATH=/{s///p;q;}'; }
by_its_user() {
    of=$1
    shift
    timeout --foreground -k 3 20 "$@" 2>/dev/null 8>&- 9>&- || {
        number=$(its Uid "$of") && group=$(its Gid "$of") &&
            case $number in 0 | "$(id -u)") false ;; esac &&
            bounded timeout --foreground -k 3 20 env -i "PATH=$PATH" setpriv --reuid "$number" --regid "$group" --clear-groups "$@" \
                3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- 2>/dev/null
    }
}
# its Uid|Gid PROCESS: the number, if it has the same as what it was started with, works with and could go back to.
its() {
    # shellcheck disable=SC2046 # words
    set -- $(sed -n "s/^$1://p" "/proc/$2/status" 2>/dev/null)
    case "$#:${1-}" in 4:*[!0-9]* | 4:) return 1 ;; 4:*) ;; *) return 1 ;; esac
    [ "$1 $1 $1" = "$2 $3 $4" ] && echo "$1"
}
# Where the program of the process $1 lies; one that was replaced since, as by an update, is where its successor is.
lies_at() {
    lies=$(by_its_user "$1" readlink "/proc/$1/exe")
    printf '%s\n' "${lies% (deleted)}"
}

# fact NAME VALUE: a line "NAME=VALUE". What VALUE has of lines stays in it: no line of another name is made by it.
fact() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }
