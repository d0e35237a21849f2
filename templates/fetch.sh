# $tag checked out in $clone, which is there; where it lacks the tag, from the first of $sources that has it, as in clone.sh.
export GIT_TERMINAL_PROMPT=0
eval "set -- $sources"
rm -f -- "$clone/.git/index.lock" # of a git that was killed
for source; do
    if git -C "$clone" rev-parse --quiet --verify "$tag^{commit}" >/dev/null ||
        via git -C "$clone" fetch --quiet --no-tags "$source" "refs/tags/$tag:refs/tags/$tag"; then
        git -C "$clone" -c advice.detachedHead=false checkout --quiet "$tag"
        exit 0
    fi
done
exit 1
