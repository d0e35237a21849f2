# git as root runs it, behind as.sh: over no way on which others could change what comes, and in no folder of theirs, whose
# settings could name programs. GIT_OPTIONAL_LOCKS=0: `git status` would refresh the index, and a look must not write.
export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_ALLOW_PROTOCOL=https:ssh:file

# first_writable FOLDER: what of it others than root can write, the first of it; nothing if it is root's alone.
first_writable() {
    if ! roots "$1"; then
        printf '%s\n' "$1"
    else
        of_others=$(find "$1" ! -type l \( ! -user 0 -o -perm -g+w ! -group 0 -o -perm -o+w \) -print -quit)
        by_group=$(find "$1" ! -type l -perm -g+w -print -quit)
        if [ -n "$of_others" ]; then
            printf '%s\n' "$of_others"
        elif [ -n "$by_group" ] && ! no_acl "$by_group"; then
            printf '%s\n' "$by_group"
        else
            find "$1" ! -type l -perm -g+w -exec env LC_ALL=C ls -ld -- {} + | sed -n '/^.\{10\}+/{s/^[^/]*//p;q;}'
        fi
    fi
}

# check_pin FOLDER SOURCE: whether $tag in that clone is $commit, as far as the site file names one. Nothing of it has run so far.
check_pin() {
    at=$(git -C "$1" rev-parse --quiet --verify "refs/tags/$tag^{commit}") || at='no commit'
    [ -z "$commit" ] || [ "$at" = "$commit" ] || {
        printf '%s\n' "$tag of $2 is $at, but the site file pins $commit: it is not used" >&2
        return 1
    }
}

# check_source SOURCE: a repository in a folder of this host is root's alone, or $commit says what it has to be
check_source() {
    case $1 in file://*) ;; *) return 0 ;; esac
    [ -n "$commit" ] || roots "${1#file://}" || [ ! -e "${1#file://}" ] || {
        printf '%s\n' "others than root can write $1: pin its commit in the site file" >&2
        return 1
    }
}
