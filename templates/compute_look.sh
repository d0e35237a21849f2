# A node's slurm.conf: mode, owner, and its content in a few kilobytes, since there are many nodes.
[ -r "$file" ] || exit 0
stat -L -c '%a %U:%G' -- "$file"
gzip -9 -c <"$file" | base64 -w 0
