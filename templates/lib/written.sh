# How root's own records come to the disk: whole or not at all, also on a full disk, and however the machine ends. Content, name
# and folder are on the disk in that order before a function ends. All of them are in folders of root's alone; a path has a / in it.

# lasting FILE: what was written to it is on the disk, and so is its name
lasting() { sync -- "$1" && sync -- "${1%/*}"; }

# whole PART PATH: PART, a file or a folder that was made whole beside PATH, takes its place
whole() { sync -- "$1" && mv -fT -- "$1" "$2" && sync -- "${2%/*}"; }

# written PATH SIZE: a file of what comes on standard input, so many bytes
written() {
    if cat >"$1.part" && [ "$(stat -c %s -- "$1.part")" = "$2" ] && whole "$1.part" "$1"; then return; fi
    rm -f -- "$1.part"
    printf '%s\n' "$1 could not be written completely and is unchanged" >&2
    return 1
}

# appended PATH SIZE: that at the end of a file, a line of its own
appended() ( # under a lock: stages side by side write to one file
    exec 8>>"$1" && flock -w 30 8 || exit 1
    had=$(stat -c %s -- "$1")
    # a line that was cut off with its machine ends here
    if { echo; cat; } >&8 && [ "$(stat -c %s -- "$1")" = $((had + 1 + $2)) ] && sync -- "$1"; then exit 0; fi
    truncate -s "$had" -- "$1"
    printf '%s\n' "$1 could not be written completely and is unchanged" >&2
    exit 1
)
