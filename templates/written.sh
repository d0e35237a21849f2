# Records are whole or not there, also on a full disk: what came is measured, brought to the disk, and put in its place.
# written PATH SIZE: a file of what comes on standard input. appended PATH SIZE: that at the end of a file, a line of its own.
written() {
    if cat >"$1.part" && [ "$(stat -c %s -- "$1.part")" = "$2" ] && sync -- "$1.part" && mv -f -- "$1.part" "$1"; then
        sync -- "${1%/*}"
        return
    fi
    rm -f -- "$1.part"
    echo "$1 could not be written whole, and is as it was before" >&2
    return 1
}
appended() ( # under a lock: stages side by side write to one file
    exec 8>>"$1" && flock -w 30 8 || exit 1
    had=$(stat -c %s -- "$1")
    # a line that was cut off with its machine ends here
    if { echo; cat; } >&8 && [ "$(stat -c %s -- "$1")" = $((had + 1 + $2)) ] && sync -- "$1"; then exit 0; fi
    truncate -s "$had" -- "$1"
    echo "$1 could not be written whole, and is as it was before" >&2
    exit 1
)
