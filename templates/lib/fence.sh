# The head of each script that changes something: it waits until scripts of other runs have ended on this host, and continues only if
# its run still may. A run that was paused (a laptop asleep, Ctrl-Z) may have lost the site's lock: on the master the lock itself shows
# it (lock.sh); each other host remembers the last run that changed it, and names of runs are in order. Once this continues, no other
# run's script begins here before this one has ended. On the master a lock that has expired counts as lost, also if nobody took it: a
# run through another master, which has a lock of its own, may have the cluster's Lease by now. Prints the reason on standard error;
# exit codes 75 (busy) and 76 (lock lost).
# The scripts of one run share the lock on `busy`, since its stages run in parallel; every other run waits for it. A script's children
# inherit it: one that outlives its connection holds it until it ends.
# Set before: $STATE, $RUN
set -eu
umask 077
mkdir -p "$STATE"
exec 8>>"$STATE/entry" 9>>"$STATE/busy"
exit_busy() { echo "another run's command is still running on this host" >&2; exit 75; }
exit_fenced() { printf '%s\n' "lost its lock: $*" >&2; exit 76; }
flock -w 90 8 || exit_busy
last=
read -r last <"$STATE/busy" || :
if [ "$last" != "$RUN" ]; then
    if [ "$last" \> "$RUN" ]; then
        # after a master lost its state, the names of its new runs may be smaller than the remembered one
        lost="if the master lost its $STATE and no other run is active, remove $STATE/busy there"
        exit_fenced "run $last has changed $(uname -n) since ($lost)"
    fi
    flock -w 60 9 || exit_busy
    rm -rf -- "$STATE/parts"
    [ -z "$last" ] || [ ! -d "$STATE/before/$last" ] || find "$STATE/before/$last" -type f -name '*.part' -exec rm -f -- {} +
    printf '%s\n' "$RUN" 1<>"$STATE/busy" # in place: a full disk must not leave an empty file
fi
flock -s -w 60 9 || exit_busy
exec 8>&-
if [ -e "$STATE/gate" ] && [ "$(sed -n 3p "$STATE/lock/holder" 2>/dev/null)" != "$RUN" ]; then
    if [ ! -e "$STATE/lock/holder" ]; then exit_fenced "it is gone from the master"; fi
    exit_fenced "$(sed -n 's/$/ took it with run/; 1p' "$STATE/lock/holder") $(sed -n 3p "$STATE/lock/holder")"
fi
if [ -e "$STATE/gate" ]; then
    read -r boot_ </proc/sys/kernel/random/boot_id
    read -r up_ _ </proc/uptime
    ends_=$(sed -n "5s/^$boot_ //p" "$STATE/lock/holder")
    case $ends_ in '' | *[!0-9]*) ends_=0 ;; esac
    [ "${up_%%.*}" -lt "$ends_" ] || exit_fenced "it was not renewed in time, and has expired"
fi
