# Clones the repository with $tag into $clone, from the first of $sources that has the tag (at $commit, if that is set). Sources
# are URLs, and paths of git bundles on this host. Goes after as.sh, proxy.sh and git.sh.
# It clones into another folder and renames that: an interrupted clone never looks like a complete one.
eval "set -- $sources"
get() { # SOURCE
    rm -rf -- "$clone.part"
    case $1 in
        /*)
            git init --quiet "$clone.part" &&
                { [ -z "$origin" ] || git -C "$clone.part" remote add origin "$origin"; } &&
                git -C "$clone.part" fetch --quiet --no-tags "$1" "refs/tags/$tag:refs/tags/$tag"
            ;;
        *) check_source "$1" && with_proxy git clone --quiet --no-checkout -- "$1" "$clone.part" ;;
    esac
}
mkdir -p -- "${clone%/*}"
# somebody else could put a repository of their own there, whose settings name programs
only_root_writes "${clone%/*}" || {
    printf '%s\n' "others than root can write ${clone%/*}, or a folder above it: set master.workarea to a folder of root's" >&2
    exit 1
}
for source; do
    printf '%s\n' "cloning $source"
    if get "$source" && check_pin "$clone.part" "$source" && git -C "$clone.part" checkout --quiet --detach "refs/tags/$tag"; then
        rm -rf -- "$clone"
        mv -- "$clone.part" "$clone"
        exit 0
    fi
    # git does not always report it, and its files are removed now; on stderr, so that it comes after git's own message
    left=$(df -Pk -- "${clone%/*}" | awk 'NR == 2 {print $4}')
    [ "$left" -gt 1024 ] || printf '%s\n' "No space left below ${clone%/*}" >&2
done
rm -rf -- "$clone.part"
exit 1
