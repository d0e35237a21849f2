# The clone of the plugin's repository, and its two files as the tag has them, whatever lies in the work tree. Behind as.sh, git.sh.
[ -d "$clone" ] || exit 0
echo "there=yes"
open=$(theirs "$clone")
[ -z "$open" ] || { fact open "$open"; exit 0; }
commit=$(git -C "$clone" rev-parse -q --verify "refs/tags/$tag^{commit}") || exit 0
echo "commit=$commit"
for name in $files; do
    content=$(git -C "$clone" show "$commit:src/burst_buffer/$name" | base64 -w 0)
    [ -z "$content" ] || echo "file=$name $content"
done
git -C "$clone" status --porcelain --untracked-files=no | sed 's/^...//; s/^/modified=/'
