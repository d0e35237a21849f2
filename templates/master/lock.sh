# The lock of a site: a folder on the master, $state/lock. Its file `holder` has five lines: who holds it, the process there, the
# run, when the lock ends by this master's wall clock, and when it ends by the clock that counts: the id of this boot, and seconds
# since then. That clock cannot be set, while the wall clock may jump (NTP, a paused virtual machine); the wall clock's time is for
# people and for earlier versions of this tool. The folder's file `process` distinguishes the holder's process from all others.
# The file `left` says when the lock was last released, also by the clock that counts, and by which run.
# Each script that reads or writes these files holds the file `gate` (flock) until it ends, however it ends.
# Every file is complete and on disk before it is renamed into place: a script that is killed after any line leaves the lock held
# or free. Goes after durable.sh and lock_holder.sh.
# Set before: $state, $run, $hold (seconds that a lock lasts), $proc (/proc)
set -eu
umask 077
LC_ALL=C
export LC_ALL
mkdir -p "$state"
chmod 700 "$state"
cd "$state"
exec 9>>gate
if ! flock -w 20 9; then echo "another run is at the lock, and has not left it for 20 s" >&2; exit 75; fi
count

# write_holder FOLDER WHO PROCESS RUN: write the holder's file of FOLDER: from now on it holds for $hold seconds
write_holder() {
    printf '%s\n' "$2" "$3" "$4" "$(($(date +%s) + hold))" "$boot $until" >"$1/new"
    rename_synced "$1/new" "$1/holder"
}
