# Checks $tag out in $clone, which exists; if it lacks the tag, fetches it from the first of $sources that has it, as in clone.sh.
eval "set -- $sources"
rm -f -- "$clone/.git/index.lock" # of a git that was killed
for source; do
    if git -C "$clone" rev-parse --quiet --verify "refs/tags/$tag^{commit}" >/dev/null ||
        { check_source "$source" && with_proxy git -C "$clone" fetch --quiet --no-tags -- "$source" "refs/tags/$tag:refs/tags/$tag"; }; then
        check_pin "$clone" "$source" || exit 1
        git -C "$clone" checkout --quiet --detach "refs/tags/$tag"
        exit 0
    fi
done
exit 1
