# A file of the plugin as it lies on a controller, and whether the Luas of this host compile it (it is not run).
[ -e "$file" ] || exit 0
stat -L -c 'mode=%a
owner=%U:%G' -- "$file"
printf 'content=%s\n' "$(base64 -w 0 <"$file")"
if command -v interpreters >/dev/null; then
    interpreters | while read -r _ lua; do
        said=$("$lua" -e 'local made, why = loadfile(arg[1]) if not made then io.write(why) end' /dev/null "$file" 2>&1 </dev/null)
        printf 'compiled=%s %s\n' "$lua" "$(printf '%s' "$said" | tr '\n' ' ')"
    done
fi
