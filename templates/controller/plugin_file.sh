# A file of the plugin on a controller. Prints mode=, owner=, size=, changed=, content= (base64) and, with lua.sh, compiled=LUA ERROR for each Lua of
# this host (the file is not run). Where others than root can write the file it is read as SlurmUser: it could be a link to what only
# root may read. Of a file that holds a key, only that is printed. Goes after slurm_conf.sh and holds_secret.sh. Set before: $file.
[ -e "$file" ] || exit 0
stat -L -c 'mode=%a
owner=%U:%G
size=%s bytes' -- "$file"
fact changed "$(stat -L -c 'changed %y' -- "$file" | cut -d. -f1)"
reader=$(choose_reader "$slurm_uid" "$file")
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
