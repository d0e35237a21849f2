# Prints mode, owner, whether it has an ACL (acl, or -) and content (gzip, base64: there are many nodes) of a node's slurm.conf; of one
# that holds a key, only that it does. Goes after safe_file.sh and holds_secret.sh. Set before: $file.
[ -e "$file" ] || exit 0
stat_file '%a %U:%G' "$file" || exit 1
listed=$(enter_folder_of "$file" && LC_ALL=C ls -ld -- "./$name") || exit 1
case $listed in ??????????+*) echo acl ;; *) echo - ;; esac
content=$(read_file "$file" base64 -w 0) || exit 1
if holds_key "$content"; then content=$(echo '# (this file holds a key, which is not shown)' | base64 -w 0); fi
printf %s "$content" | base64 -d | gzip -9 -c | base64 -w 0
