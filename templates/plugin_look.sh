# The clone of the plugin's repository, and its two files as the tag has them, whatever lies in the work tree.
# GIT_OPTIONAL_LOCKS=0: `git status` would refresh the index, and a look must not write.
export GIT_OPTIONAL_LOCKS=0
[ -d "$clone" ] || exit 0
echo "there=yes"
commit=$(git -C "$clone" rev-parse -q --verify "refs/tags/$tag^{commit}") || exit 0
echo "commit=$commit"
for name in $files; do
    content=$(git -C "$clone" show "$tag:src/burst_buffer/$name" | base64 -w 0)
    [ -z "$content" ] || echo "file=$name $content"
done
git -C "$clone" status --porcelain --untracked-files=no | sed 's/^...//; s/^/modified=/'
