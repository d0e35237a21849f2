# Writes root's own records completely or not at all, also on a full disk or in a power failure: content, name and folder are on disk
# in that order before a function ends. Only for folders that only root can write; a PATH must contain a /.

# sync_file FILE: sync its content and its name
sync_file() { sync -- "$1" && sync -- "${1%/*}"; }

# rename_synced PART PATH: rename PART, a complete file or folder next to PATH, to PATH
rename_synced() { sync -- "$1" && mv -fT -- "$1" "$2" && sync -- "${2%/*}"; }

# write_file PATH SIZE: write the file from standard input, which must have SIZE bytes
write_file() {
    if cat >"$1.part" && [ "$(stat -c %s -- "$1.part")" = "$2" ] && rename_synced "$1.part" "$1"; then return; fi
    rm -f -- "$1.part"
    printf '%s\n' "$1 could not be written completely and is unchanged" >&2
    return 1
}

# append_line PATH SIZE: append standard input to the file, as a line of its own
append_line() ( # under a lock: stages side by side write to one file
    exec 8>>"$1" && flock -w 30 8 || exit 1
    had=$(stat -c %s -- "$1")
    # a line that was cut off with its machine ends here
    if { echo; cat; } >&8 && [ "$(stat -c %s -- "$1")" = $((had + 1 + $2)) ] && sync -- "$1"; then exit 0; fi
    truncate -s "$had" -- "$1"
    printf '%s\n' "$1 could not be written completely and is unchanged" >&2
    exit 1
)
