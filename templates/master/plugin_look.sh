# Prints the state of the clone of the plugin's repository, and the plugin's files as of the tag. Goes after as.sh and git.sh.
[ -d "$clone" ] || exit 0
echo "there=yes"
open=$(first_writable "$clone") || exit 1
[ -z "$open" ] || { fact open "$open"; exit 0; }
commit=$(git -C "$clone" rev-parse -q --verify "refs/tags/$tag^{commit}") || exit 0
echo "commit=$commit"
for name in $files; do
    # the exit code of a pipe does not show that git failed, and an incomplete plugin must not be installed
    size=$(git -C "$clone" cat-file -s "$commit:src/burst_buffer/$name") || continue
    content=$(git -C "$clone" show "$commit:src/burst_buffer/$name" | base64 -w 0)
    [ "$(printf %s "$content" | base64 -d | wc -c)" = "$size" ] || exit 1
    [ -z "$content" ] || echo "file=$name $content"
done
modified=$(git -C "$clone" status --porcelain --untracked-files=no) || exit 1
[ -z "$modified" ] || printf '%s\n' "$modified" | sed 's/^...//; s/^/modified=/'
