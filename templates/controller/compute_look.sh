# A node's slurm.conf: mode, owner, and its content in a few kilobytes, since there are many nodes. Goes behind
# safe_file.sh and holds_secret.sh: one that holds a key is told as one that does, and the key is not.
[ -e "$file" ] || exit 0
stated '%a %U:%G' "$file" || exit 1
content=$(peek "$file" base64 -w 0) || exit 1
if holds_key "$content"; then content=$(echo '# (this file holds a key, which is not shown)' | base64 -w 0); fi
printf %s "$content" | base64 -d | gzip -9 -c | base64 -w 0
