# Git for root: only over protocols on which nobody can change the data, and in no folder that others can write, because git's
# settings there could name programs. GIT_OPTIONAL_LOCKS=0: `git status` would update the index, and a look must not write.
# Goes after as.sh.
export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_ALLOW_PROTOCOL=https:ssh:file

# first_writable FOLDER: print the first path in it that others than root can write; nothing if there is none
first_writable() {
    if ! only_root_writes "$1"; then
        printf '%s\n' "$1"
    else
        of_others=$(find "$1" ! -type l \( ! -user 0 -o -perm -g+w ! -group 0 -o -perm -o+w \) -print -quit) || return 1
        by_group=$(find "$1" ! -type l -perm -g+w -print -quit) || return 1
        if [ -n "$of_others" ]; then
            printf '%s\n' "$of_others"
        elif [ -n "$by_group" ] && ! has_no_acl "$by_group"; then
            printf '%s\n' "$by_group"
        else
            find "$1" ! -type l -perm -g+w -exec env LC_ALL=C ls -ld -- {} + | sed -n '/^.\{10\}+/{s/^[^/]*//p;q;}'
        fi
    fi
}

# check_pin FOLDER SOURCE: whether $tag in that clone is $commit, if the site file pins one. Call it before anything in the clone runs.
check_pin() {
    at=$(git -C "$1" rev-parse --quiet --verify "refs/tags/$tag^{commit}") || at='no commit'
    [ -z "$commit" ] || [ "$at" = "$commit" ] || {
        printf '%s\n' "$tag of $2 is $at, but the site file pins $commit: it is not used" >&2
        return 1
    }
}

# check_source SOURCE: whether a repository in a folder of this host can be used: only root can write it, or $commit is pinned
check_source() {
    case $1 in file://*) ;; *) return 0 ;; esac
    [ -n "$commit" ] || only_root_writes "${1#file://}" || [ ! -e "${1#file://}" ] || {
        printf '%s\n' "others than root can write $1: pin its commit in the site file" >&2
        return 1
    }
}
