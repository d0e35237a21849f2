# The lock of a site: a folder on the master, $state/lock. Its file `holder` has five lines: who holds it, the process there, the
# run, when the lock ends by this master's clock, and when it does by what counts: the id of this boot, and seconds since then.
# Nobody sets that clock, while the other one may jump (NTP, a virtual machine that stood still); it is told for people, and for
# earlier versions of this. The folder's file `process` tells the holder's process from all others.
# The file `left` says when the lock was last given up, by this clock too, and by which run.
# Whatever reads or writes these holds the file `gate` (flock), which goes with the script that holds it, however that ends.
# Every file is whole and on the disk before it is in place: a script that is killed behind any line leaves the lock held or
# free. Goes behind written.sh and lock_holder.sh.
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

# held FOLDER WHO PROCESS RUN: write the holder's file of FOLDER: from now on it holds for $hold seconds
held() {
    printf '%s\n' "$2" "$3" "$4" "$(($(date +%s) + hold))" "$boot $until" >"$1/new"
    whole "$1/new" "$1/holder"
}
