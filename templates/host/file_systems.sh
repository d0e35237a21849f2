# A host's time, and the file systems of folders. Only reads.
echo "time $(date +%s)"
# file_systems FOLDER...: for each one that exists "disk KILOBYTES INODES MODE MOUNT<tab>FOLDER": what is free ("-" where that is
# unknown), rw, ro (the file system itself) or ro,bind (this mount of it), and where it is mounted. Nothing is opened in it.
file_systems() {
    for one in "$@"; do
        [ -d "$one" ] || continue
        mount=$(timeout -k 1 10 df -Pk -- "$one" 2>/dev/null </dev/null | awk 'NR == 2 { sub(/^.*% +/, ""); print }')
        [ -n "$mount" ] || continue # a file server that does not respond is reported by the steps that need it
        mode=$(at=$mount awk '{ gsub(/\\040/, " ", $5) } $5 == ENVIRON["at"] {
            mode = ($NF ~ /(^|,)ro(,|$)/) ? "ro" : ($6 ~ /(^|,)ro(,|$)/) ? "ro,bind" : "rw"
        } END { print mode }' /proc/self/mountinfo)
        printf 'disk %s %s %s %s\t%s\n' "$(free -Pk "$one")" "$(free -Pi "$one")" "${mode:-rw}" "$mount" "$one"
    done
}
free() { timeout -k 1 10 df "$1" -- "$2" 2>/dev/null </dev/null | awk 'NR == 2 && $2 > 0 { n = $4 } END { print (n == "") ? "-" : n }'; }
