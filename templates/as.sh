# Work with less than root's rights, where others than root decide what is read or run.

# as USER COMMAND...: with that user's rights and groups alone. Of this script's environment it gets PATH (or $as_path) and where
# slurm.conf is; of its open files none but the first three: a lock that it held would be held for as long as it likes. A COMMAND
# that begins with timeout and its options is timed by this script's user: one of its own that user could stop.
as() ( exec_as "$@" )
# exec_as USER COMMAND...: the same in place of this shell.
exec_as() {
    exec 8>&- 9>&-
    who=$1 timed=
    shift
    if [ "$1" = timeout ]; then
        until case $timed in *' '[0-9]*) true ;; *) false ;; esac; do
            timed="$timed $1"
            shift
        done
    fi
    number=$(id -u -- "$who") && group=$(id -g -- "$who") || exit 77
    home=$(getent passwd "$who" | cut -d: -f6)
    # root in a container, or whoever a container runs as, may not be allowed to set what is so already
    if [ "$number" != "$(id -u)" ]; then set -- setpriv --reuid "$number" --regid "$group" --init-groups "$@"; fi
    # before setpriv, not behind it: the environment of what runs as that user can be read by that user
    # shellcheck disable=SC2086 # words
    exec $timed env -i "PATH=${as_path:-$PATH}" "HOME=${home:-/}" "USER=$who" "LOGNAME=$who" SHELL=/bin/sh LC_ALL=C \
        ${SLURM_CONF:+"SLURM_CONF=$SLURM_CONF"} ${SLURM_TIME_FORMAT:+"SLURM_TIME_FORMAT=$SLURM_TIME_FORMAT"} "$@"
}

# roots PATH: whether nobody but root can change what lies there: the file, every folder above it, and what links lead to.
# Who can write a folder can put another file in a file's place; in one like /tmp not in that of a file of root's, and in one that
# is mounted to be read only, as a ConfigMap is in a pod, nobody can whatever its mode says.
roots() (
    path=$1 deep=${2:-0}
    case $path in /*) [ "$deep" -lt 20 ] || exit 1 ;; *) exit 1 ;; esac
    while :; do
        told=$(stat -c '%u %A' -- "$path" 2>/dev/null) || exit 1
        case $told in
        0\ l*)
            target=$(readlink -- "$path")
            case $target in /*) ;; *) target=${path%/*}/$target ;; esac
            roots "$target" $((deep + 1)) || exit 1
            ;;
        0\ d????????[tT]*) ;;
        0\ ?????w* | 0\ ????????w*) [ ! -w "$path" ] || exit 1 ;;
        0\ *) ;;
        *) exit 1 ;;
        esac
        [ "$path" != / ] || exit 0
        path=${path%/*}
        path=${path:-/}
    done
)

# reader USER FILE: as whom FILE is read on behalf of USER, whom it is meant for: as root only if it is root's alone. Else it
# could be a link to what root alone may read.
reader() {
    if roots "$2"; then echo root; elif [ "$1" = root ]; then echo nobody; else echo "$1"; fi
}
