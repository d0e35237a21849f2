# Root reads and writes files in folders of other users, for example SlurmUser's /etc/slurm. The owner of such a folder can put a
# link, a fifo or another file in a file's place between any two commands. So these functions work like openat(2): they enter
# the folder step by step from /, check at each step that its parent is the folder they came from, and then name files relative
# to it. A new file is written completely in a new folder inside, which only root can enter, and renamed into place: rename(2)
# follows no link. Content, name and folder are on disk in that order before a function ends.
# A link is followed only if it belongs to root, and only root can write its folder and all folders above.
# Needs POSIX sh and coreutils 8.24 or newer (sync FILE). Functions with a body in ( ) change neither the folder nor variables.

refuse() {
    printf '%s\n' "$*" >&2
    return 1
}

# --- entering a folder

# inspect_folder: examine the current folder. Sets $id (of this folder), $above (of its parent), $who (owner and mode), and $here
# (yes: only root can write it, or root's group without an ACL). Sets $chain to no from the first folder on that others can write.
# Exceptions: in a sticky folder such as /tmp nobody can move root's files; in a read-only mount, such as a ConfigMap in a pod,
# nobody can write, whatever its mode says.
inspect_folder() {
    # shellcheck disable=SC2046 # words
    set -- $(stat -c '%d:%i %u %a %g' . ..)
    [ $# = 8 ] || return 1
    id=$1 above=$5 who="$2 $3" here=no group=$4
    # with an ACL, the group's mode applies to everybody whom it names; the ACLs of a file server are not always visible
    case $who in *[2367]?) case $(LC_ALL=C ls -ld .)/$(stat -f -c %T .) in ??????????+* | */nfs* | /* | */) group=acl ;; esac ;; esac
    case $who,$group in
    '0 '*[2367]?,[!0]* | '0 '*[2367],*)
        if [ ! -w . ]; then here=yes; else case $who in '0 '[1357]???) ;; *) chain=no ;; esac fi
        ;;
    '0 '*) here=yes ;;
    *) chain=no ;;
    esac
}

# enter_folder_of PATH [make]: enter the folder of the file PATH, without links; set $name, the file's name in it, and $folder.
# With `make`, create missing folders.
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

# real_path PATH: print PATH without links; PATH itself if its folder does not exist
real_path() (
    if [ ! -d "${1%/*}/" ]; then printf '%s\n' "$1"; else enter_folder_of "$1" && printf '%s\n' "$folder/$name"; fi
)

# --- reading

# identify FILE: set $known, which differs after anybody replaced or changed the file. Fails for anything but a regular file. In a
# folder of others it also fails for a file with a second hard link: that could be another user's file.
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

# copy_file FILE COPY: copy content, owner, mode (without set-id bits), date and labels to COPY, in a folder that only root can
# write. Follows no link and opens no fifo or device; 64 MiB at most.
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

# read_file PATH [COMMAND...]: print the file's content, or what COMMAND makes of it. Not `read_file PATH | COMMAND`: a pipe has
# the exit code of its last command only, and COMMAND would accept an incomplete content. Fails if the file could not be read
# completely; with COMMAND, it then prints nothing. Reads 8 MiB at most: our files are far smaller, and another user's file may
# have no end. Gives up after 30 s, for example if a file server does not respond.
read_file() (
    enter_folder_of "$1" || exit 1
    shift
    if [ $# = 0 ]; then read_current; exit $?; fi # a bare `exit` in a trap would use an older code
    for _ in 1 2 3; do # somebody may be replacing the file at this moment
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

# stat_file FORMAT PATH: print what stat reports about the file
stat_file() (
    enter_folder_of "$2" && identify "./$name" && stat -c "$1" -- "./$name"
)

# --- writing

# open_stage: after `enter_folder_of`. Create a folder inside that only root can enter, and enter it; the caller then writes ./new.
# First removes leftovers of interrupted calls on this host: their names contain the host's name, as controllers may share a folder.
open_stage() {
    mine=".$name.dws-on-csm.$(uname -n)"
    find . -maxdepth 1 -name "$mine.*" ! -type d \( -user 0 -o -type f \) -exec rm -f -- {} + || return 1
    find . -maxdepth 1 -name "$mine.*" -type d -user 0 | while IFS= read -r one; do (remove_stage "$one") || :; done
    parent=$id there=$here
    stage=$(umask 077 && mktemp -d "./$mine.XXXXXXXXXX") || return 1
    { cd -P "$stage" && inspect_folder; } || return 1
    here=$there # as for the file's own folder
    case $above,$who in
    "$parent,0 700" | "$parent,0 "?700) ;;
    *) refuse "$folder: another program replaced the folder $stage: run again" || return 1 ;;
    esac
}

# remove_stage FOLDER: remove the leftover of an earlier `open_stage`. Somebody may have given that name to another folder of root's:
# so it is removed only if it looks as `open_stage` makes it and contains nothing else.
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

# close_stage: leave the stage's folder and remove it
close_stage() {
    rm -f -- ./new
    cd -P .. && { rmdir -- "$stage" 2>/dev/null || :; }
}

# install_new: replace the file with ./new. Returns 0 once the file is replaced, even if a later sync fails.
install_new() {
    if ! sync -- ./new || ! mv -fT -- ./new "../$name"; then
        close_stage
        say_why_it_stays
        return 1
    fi
    close_stage
    sync -- . || printf '%s\n' "$folder/$name is new, and may be the old one after a power failure: its folder could not be synced" >&2
}

# say_why_it_stays: say what keeps root from replacing or removing ./$name, where that is known
say_why_it_stays() {
    if [ -n "$(at=$folder/$name awk '{ gsub(/\\040/, " ", $5) } $5 == ENVIRON["at"]' /proc/self/mountinfo)" ]; then
        refuse "$folder/$name is a mount of its own, so nothing can replace it:" "run \`umount $folder/$name\` on $(uname -n)" || :
    elif timeout -k 1 5 lsattr -d -- "./$name" 2>/dev/null </dev/null | cut -d ' ' -f 1 | grep -q '[ai]'; then
        refuse "$folder/$name has an attribute that forbids changes:" "run \`chattr -ai $folder/$name\` on $(uname -n)" || :
    fi
}

# set_label: give ./new the SELinux label that the policy has for its place
set_label() {
    if command -v selinuxenabled >/dev/null 2>&1 && selinuxenabled && label=$(matchpathcon -n "$folder/$name"); then
        chcon -h -- "$label" ./new || :
    fi
}

checksum() { sum_=$(sha256sum <"$1") && printf '%s\n' "${sum_%% *}"; }
