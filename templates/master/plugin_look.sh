# The clone of the plugin's repository, and its two files as the tag has them, whatever lies in the work tree. Behind as.sh, git.sh.
[ -d "$clone" ] || exit 0
echo "there=yes"
open=$(theirs "$clone")
[ -z "$open" ] || { fact open "$open"; exit 0; }
commit=$(git -C "$clone" rev-parse -q --verify "refs/tags/$tag^{commit}") || exit 0
echo "commit=$commit"
for name in $files; do
    # a pipe does not tell whether git could read all of it, and half a plugin is none
    size=$(git -C "$clone" cat-file -s "$commit:src/burst_buffer/$name") || continue
    content=$(git -C "$clone" show "$commit:src/burst_buffer/$name" | base64 -w 0)
    [ "$(printf %s "$content" | base64 -d | wc -c)" = "$size" ] || exit 1
    [ -z "$content" ] || echo "file=$name $content"
done
modified=$(git -C "$clone" status --porcelain --untracked-files=no) || exit 1
[ -z "$modified" ] || printf '%s\n' "$modified" | sed 's/^...//; s/^/modified=/'
