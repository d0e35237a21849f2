# A file of the plugin as it lies on a controller, and whether the Luas of this host compile it (it is not run). It is read as
# SlurmUser where root alone is not the one who can write it: it could be a link to what only root may read. One that
# holds a key instead of a plugin is told as one that does, and the key is not. Goes behind slurm_conf.sh and holds_secret.sh.
[ -e "$file" ] || exit 0
stat -L -c 'mode=%a
owner=%U:%G' -- "$file"
reader=$(reader "$slurm_uid" "$file")
content=$(text_of "$reader" "$file") || content=$(echo '-- (this file can not be read to its end)' | base64 -w 0)
if holds_key "$content"; then content=$(echo '-- (this file holds a key, which is not shown)' | base64 -w 0); fi
printf 'content=%s\n' "$content"
if command -v interpreters >/dev/null; then
    interpreters "$reader" | while read -r _ lua; do
        said=$(printf %s "$content" | base64 -d |
            as "$reader" timeout 20 "$lua" -e 'local made, why = (loadstring or load)(io.read("*a"), "@" .. arg[1], "t") if not made then io.write(why) end' /dev/null "$file" 2>&1)
        fact compiled "$lua $said"
    done
fi
