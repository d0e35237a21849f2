# The repository with $tag as $clone, from the first of $sources that has it: URLs, and paths of git bundles on this host; with
# $commit, if there is one, from the first whose tag is that. Behind as.sh, via.sh and git.sh.
# Cloned aside and renamed: a clone that was cut off never looks like a whole one.
eval "set -- $sources"
get() { # SOURCE
    rm -rf -- "$clone.part"
    case $1 in
        /*)
            git init --quiet "$clone.part" &&
                { [ -z "$origin" ] || git -C "$clone.part" remote add origin "$origin"; } &&
                git -C "$clone.part" fetch --quiet --no-tags "$1" "refs/tags/$tag:refs/tags/$tag"
            ;;
        *) own "$1" && via git clone --quiet --no-checkout -- "$1" "$clone.part" ;;
    esac
}
mkdir -p -- "${clone%/*}"
for source; do
    printf '%s\n' "cloning $source"
    if get "$source" && pinned "$clone.part" "$source" && git -C "$clone.part" checkout --quiet --detach "refs/tags/$tag"; then
        rm -rf -- "$clone"
        mv -- "$clone.part" "$clone"
        exit 0
    fi
    # git doesn't always say so, and what it wrote goes away now; on the stream that git complains on, to stand behind that
    left=$(df -Pk -- "${clone%/*}" | awk 'NR == 2 {print $4}')
    [ "$left" -gt 1024 ] || printf '%s\n' "No space left below ${clone%/*}" >&2
done
rm -rf -- "$clone.part"
exit 1
