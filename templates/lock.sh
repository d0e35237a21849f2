# The lock of a site: a folder on the master, $state/lock. Its file `holder` has four lines: who holds it, the process there, the
# run, and when the lock ends by this master's clock, in seconds since 1970; its file `process` tells that process from all others.
# Whatever reads or writes it holds the file `gate` (flock), which goes with the script that holds it, however that ends. Every
# file is whole and on the disk before it is in place: a script that is killed behind any line leaves the lock held or free.
# The time of `gate` is when a lock was last given up.
# Set before: $state, $run, $hold (seconds that a lock lasts)
set -eu
umask 077
LC_ALL=C
export LC_ALL
mkdir -p "$state"
chmod 700 "$state"
cd "$state"
[ -e gate ] || touch -d @0 gate
exec 9>>gate
if ! flock -w 20 9; then echo "another run is at the lock, and has not left it for 20 s" >&2; exit 75; fi
now=$(date +%s)
until=$((now + hold))

# line N of the holder's file; nothing where there is none
line() { if [ -e lock/holder ]; then sed -n "$1p" lock/holder; fi; }

# held FOLDER WHO PROCESS RUN UNTIL: write the holder's file of FOLDER
held() {
    printf '%s\n' "$2" "$3" "$4" "$5" >"$1/new"
    sync "$1/new"
    mv -f "$1/new" "$1/holder"
    sync "$1"
}
