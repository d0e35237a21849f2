# Files that root reads and writes in folders of others: SlurmUser's /etc/slurm, for one. No name there can be relied on: its
# owner may put a link, a fifo or another file in its place between any two commands. So these functions work as openat(2)
# does. They go into the folder step by step from /, know each step by its parent, and from then on name files relative to
# it. What is written is made whole in a folder of root's alone inside that one, which nobody else can enter; it takes its
# place by rename(2), which follows no link. Content, name and folder are on the disk in that order before a function ends.
# A link is followed only where it is root's and lies in a folder that root alone can write, as all folders above it do.
# POSIX sh with coreutils 8.24 or newer (sync FILE). Bodies in ( ): neither folder nor variables are the caller's.

refuse() {
    printf '%s\n' "$*" >&2
    return 1
}

# --- going there

# inspect_folder: looks where the shell is now; sets $id (of this folder), $above (of its parent), $who (its owner and mode), $here
# (yes: root alone, or its group where no ACL names others, can write it). $chain is no from the first folder on that others can
# write; one that is sticky, as /tmp, lets nobody move what is root's in it; in one that is mounted to be read only, as a
# ConfigMap is in a pod, nobody can write whatever its mode says.
inspect_folder() {
    # shellcheck disable=SC2046 # words
    set -- $(stat -c '%d:%i %u %a %g' . ..)
    [ $# = 8 ] || return 1
    id=$1 above=$5 who="$2 $3" here=no group=$4
    # with an ACL the mode of the group is that of all whom it names; what a file server has of ACLs is not always seen
    case $who in *[2367]?) case $(LC_ALL=C ls -ld .)/$(stat -f -c %T .) in ??????????+* | */nfs*) group=acl ;; esac ;; esac
    case $who,$group in
    '0 '*[2367]?,[!0]* | '0 '*[2367],*)
        if [ ! -w . ]; then here=yes; else case $who in '0 '[1357]???) ;; *) chain=no ;; esac fi
        ;;
    '0 '*) here=yes ;;
    *) chain=no ;;
    esac
}

# enter_folder_of PATH [make]: the shell goes into the folder in which the file lies that PATH means; sets $name, the file's there, and
# $folder. Folders that are lacking are made, where that is asked for.
enter_folder_of() {
    rest=$1 make=${2-} hops=0 chain=yes
    case $rest in /*) ;; *) refuse "$1 is not an absolute path" || return 1 ;; esac
    { cd -P / && inspect_folder; } || return 1
    while :; do
        while :; do case $rest in /*) rest=${rest#/} ;; *) break ;; esac; done
        name=${rest%%/*}
        rest=${rest#"$name"}
        if [ -L "./$name" ]; then
            if [ "$chain $here $(stat -c %u -- "./$name")" != 'yes yes 0' ] || [ "$hops" = 40 ]; then
                refuse "$1: root does not follow the link $(pwd -P)/$name, because others than root can write its folder:" \
                    "replace the link by the file itself"
                return 1
            fi
            hops=$((hops + 1))
            rest=$(readlink -- "./$name")$rest
            case $rest in /*) { cd -P / && inspect_folder; } || return 1 ;; esac
            continue
        fi
        case $rest in '' | /)
            case $name in '' | . | ..) refuse "$1 is not a file" || return 1 ;; esac
            folder=$(pwd -P)
            [ "$folder" != / ] || folder=
            return 0
            ;;
        esac
        if [ -n "$make" ] && [ ! -e "./$name" ]; then mkdir -m 755 -- "./$name" && sync -- . || return 1; fi
        parent=$id
        { cd -P "./$name" && inspect_folder; } || { refuse "$1: cannot enter the folder $name in $(pwd -P)" || return 1; }
        case $name in . | ..) continue ;; esac
        if [ "$above" != "$parent" ]; then refuse "$1: the folder $name was moved meanwhile: run again" || return 1; fi
    done
}

# real_path PATH: the path of the file that PATH means, without a link in it; PATH itself where there is no such folder
real_path() (
    if [ ! -d "${1%/*}/" ]; then printf '%s\n' "$1"; else enter_folder_of "$1" && printf '%s\n' "$folder/$name"; fi
)

# --- reading

# identify FILE: all by which a regular file is known from what somebody puts in its place, or changes it into meanwhile. In a
# folder of others a second name of a file is one of somebody else's file.
identify() {
    known=$(stat -c '%h %d:%i %u:%g %a %s %.9Y %.9Z %F' -- "$1") || return 1
    case $known in
    *' regular file' | *' regular empty file') ;;
    *) refuse "$folder/$name is not a regular file" || return 1 ;;
    esac
    case $here$known in
    yes* | 'no1 '*) ;;
    *) refuse "$folder/$name has a second hard link, and others than root can write its folder" || return 1 ;;
    esac
}

# copy_file FILE COPY: COPY, in a folder of root's alone, becomes what FILE is: content, owner, mode (but for set-id bits), date,
# labels. Neither a link is followed nor a fifo or a device opened; some 64 MiB at most.
copy_file() {
    identify "$1" || return 1
    seen_=$known
    rm -rf -- "$2"
    if (ulimit -f 131072 2>/dev/null; exec timeout --foreground --kill-after=3 30 cp -RP --preserve=all -- "$1" "$2" 8>&- 9>&-) &&
        identify "$1" && [ "$known" = "$seen_" ] && [ -f "$2" ] && [ ! -L "$2" ] && chmod u-s,g-s -- "$2"; then
        return 0
    fi
    rm -rf -- "$2"
    refuse "$folder/$name could not be read completely, or was changed meanwhile: run again"
}

# read_file PATH [COMMAND...]: its content, or what COMMAND makes of it: no `read_file PATH | COMMAND`, since a pipe has the exit code of its
# last command alone, and COMMAND makes something also of a content that was cut off. Fails where the file could not be read whole;
# with COMMAND, nothing is printed then. Nothing is written. Of 8 MiB at most: files that are read here have a hundredth of that,
# and one of others may seem to have no end. One that nothing comes from, as on a file server that is away, is given up.
read_file() (
    enter_folder_of "$1" || exit 1
    shift
    if [ $# = 0 ]; then read_current; exit $?; fi # of itself, in a trap, it would end with the code of before
    for _ in 1 2 3; do # one that is being replaced is there again at once
        identify "./$name" || exit 1
        seen_=$known
        made=$(
            exec 4>&1
            code=$({ { read_current 3>&- 4>&- && echo 0 >&3; } | "$@" >&4 3>&- 4>&-; } 3>&1) && [ "$code" = 0 ]
        ) || refuse "$folder/$name could not be read completely" || exit 1
        identify "./$name" || exit 1
        if [ "$known" = "$seen_" ]; then printf '%s\n' "$made"; exit 0; fi
    done
    refuse "$folder/$name could not be read completely, because another program is changing it: run again"
)
read_current() {
    identify "./$name" || return 1
    size=${known#* * * * }
    if [ "${size%% *}" -gt 8388608 ]; then refuse "$folder/$name is larger than 8 MiB: it is not read" || return 1; fi
    timeout --foreground -k 3 30 dd if="./$name" iflag=nofollow,nonblock,fullblock bs=65536 count=128 status=none 8>&- 9>&-
}

# stat_file FORMAT PATH: what stat says of it
stat_file() (
    enter_folder_of "$2" && identify "./$name" && stat -c "$1" -- "./$name"
)

# --- writing

# open_stage: behind `enter_folder_of`. The shell goes on into a new folder of root's alone inside that one; the file is to be made in it as
# ./new. What interrupted ones left is cleared first: theirs have this host's name, since controllers may share a folder.
open_stage() {
    mine=".$name.dws-on-csm.$(uname -n)"
    find . -maxdepth 1 -name "$mine.*" ! -type d \( -user 0 -o -type f \) -exec rm -f -- {} + || return 1
    find . -maxdepth 1 -name "$mine.*" -type d -user 0 | while IFS= read -r one; do (remove_stage "$one") || :; done
    parent=$id there=$here
    stage=$(umask 077 && mktemp -d "./$mine.XXXXXXXXXX") || return 1
    { cd -P "$stage" && inspect_folder; } || return 1
    here=$there # of the folder that the file lies in
    case $above,$who in
    "$parent,0 700" | "$parent,0 "?700) ;;
    *) refuse "$folder: another program replaced the folder $stage: run again" || return 1 ;;
    esac
}

# remove_stage FOLDER: removes one that an earlier `open_stage` left. The folder's owner may have given that name to another one of
# root's: so it has to be as `open_stage` makes it, with nothing but what is made in it.
remove_stage() {
    parent=$id
    cd -P "$1" && inspect_folder || return 0
    case $above,$who in "$parent,0 700" | "$parent,0 "?700) ;; *) return 0 ;; esac
    case $(ls -A) in
    '') ;;
    new) [ ! -d ./new ] && rm -f -- ./new || return 0 ;;
    *) return 0 ;;
    esac
    cd -P .. && rmdir -- "$1"
}

# close_stage: out of that folder, which goes
close_stage() {
    rm -f -- ./new
    cd -P .. && { rmdir -- "$stage" 2>/dev/null || :; }
}

# install_new: ./new takes the file's place. Once it has, this says 0: what is there then is the new one.
install_new() {
    if ! sync -- ./new || ! mv -fT -- ./new "../$name"; then
        close_stage
        return 1
    fi
    close_stage
    sync -- . || printf '%s\n' "$folder/$name is new, and may be the old one after a power failure: its folder could not be synced" >&2
}

# set_label: ./new gets the SELinux label that its place has by the policy
set_label() {
    if command -v selinuxenabled >/dev/null 2>&1 && selinuxenabled && label=$(matchpathcon -n "$folder/$name"); then
        chcon -h -- "$label" ./new || :
    fi
}

checksum() { sum_=$(sha256sum <"$1") && printf '%s\n' "${sum_%% *}"; }
