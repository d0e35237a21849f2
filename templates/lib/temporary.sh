# remove_at_exit FOLDER: remove it when this shell ends, also by a signal (dash alone would leave it then). `timeout` sends its signal twice:
# the second must not stop the removal.
remove_at_exit() {
    remove_at_exit_=$1
    trap 'rm -rf -- "$remove_at_exit_"' EXIT
    trap 'trap "" HUP TERM PIPE; exit 143' HUP TERM PIPE
}

# own_folder: make a folder on the master's disk for root's files and print its path. It is beside this tool's records, and not in /tmp: who
# may write there could put another one in its place, where /tmp is not sticky. The next run removes what is left. Set before: $STATE.
own_folder() (
    umask 077
    mkdir -p "$STATE/parts" && mktemp -d "$STATE/parts/XXXXXXXXXX"
)

# make_memory_folder WHO: make a folder in memory, $work, for root's files; and $home in it, which belongs to that account. Root writes nothing
# in $home: its owner could put a link in a file's place. Removal follows no link. Goes after as.sh. Anybody can use up /dev/shm: where
# there is no such folder this shell ends, whoever called, since an empty $work would turn what follows to folders of the system.
make_memory_folder() {
    find_account "$1" || exit 1
    work=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX) && [ -n "$work" ] || exit 1
    home=$work/home
    if mkdir -m 700 "$home" && owned_home && chmod 711 "$work"; then return 0; fi
    rm -rf -- "$work"
    exit 1
}
owned_home() { [ "$as_number" = "$me" ] || chown -h "$as_number:$as_group" "$home"; }
