# A host's time, and the file systems of folders. Only reads.
echo "time $(date +%s)"
# file_systems FOLDER...: for each one that exists "disk KILOBYTES INODES MODE MOUNT<tab>FOLDER": what is free ("-" where that is
# unknown), rw, ro (the file system itself) or ro,bind (this mount of it), and where it is mounted. Nothing is opened in it.
file_systems() {
    for one in "$@"; do
        [ -d "$one" ] || continue
        timeout -k 1 10 df -k --output=size,avail,itotal,iavail,target -- "$one" 2>/dev/null </dev/null | {
            # a file server that does not respond is reported by the steps that need it
            read -r _ && read -r size kilobytes all inodes mount || exit 0
            case $size in 0 | -) kilobytes=- ;; esac
            case $all in 0 | -) inodes=- ;; esac
            mode=$(at=$mount awk '{ gsub(/\\040/, " ", $5) } $5 == ENVIRON["at"] {
                mode = ($NF ~ /(^|,)ro(,|$)/) ? "ro" : ($6 ~ /(^|,)ro(,|$)/) ? "ro,bind" : "rw"
            } END { print mode }' /proc/self/mountinfo)
            printf 'disk %s %s %s %s\t%s\n' "$kilobytes" "$inodes" "${mode:-rw}" "$mount" "$one"
        }
    done
}
