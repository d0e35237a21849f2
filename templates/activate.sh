# One activation, on the controller itself and detached from whoever asked for it: slurm.conf replaced, slurmctld started
# again, and whatever doesn't come up put back. Ends with exit code 0 only if slurmctld answers with what was wanted.
# The functions are those of safe_file.sh and slurmctld.sh. Set before: $work (its own folder: next, back, progress), $state,
# $folder, $unit, $seen (slurm.conf's checksum), $deadline, $log (slurmctld's, or "").
#   next   the text that slurm.conf is to have; absent where only the restart is wanted
#   back   the text that slurm.conf gets if slurmctld doesn't come up; absent where it must not be touched
set -u
umask 077
conf=$folder/slurm.conf

say() { printf '%s\n' "$*" >>"$work/progress"; }
sum() { sha256sum -- "$1" | cut -d' ' -f1; }
conf_sum() { { peek "$conf" 2>/dev/null || echo unreadable; } | sha256sum | cut -d' ' -f1; }
clock() { awk '{ printf "%d\n", $1 * 10 }' /proc/uptime; } # tenths of a second; nobody sets this clock

# finish CODE OUTCOME: the outcome outlives the folder, for whoever comes after a lost connection.
finish() {
    say "$3"
    printf 'outcome=%s\nat=%s\nreason=%s\n' "$2" "$(date '+%F %T')" "$3" >"$state/activation.part"
    # the text that slurmctld is known to start with
    [ "$2" != activated ] || echo "sum=$(conf_sum)" >>"$state/activation.part"
    whole "$state/activation.part" "$state/activation"
    rm -f -- "$work/next" "$work/back"
    : >"$work/done"
    exit "$1"
}

# replace FILE SUM: slurm.conf, which has this checksum, gets the text of FILE. The same owner, mode, labels and attributes as
# what it takes the place of; never half of it, and never readable to more people than before.
replace() (
    into "$conf" && staged || exit 1
    if copied "../$name" ./new && [ "$(sum ./new)" = "$2" ] && cat -- "$1" >./new && [ "$(sum ./new)" = "$(sum "$1")" ]; then
        placed
    else
        unstaged
        exit 1
    fi
) 2>>"$work/progress"

start_again() {
    # started several times within seconds, systemd would refuse
    if systemd; then systemctl reset-failed "$unit" 2>/dev/null; systemctl restart "$unit"; else service "$unit" restart; fi
}
alive() {
    if systemd; then
        case $(systemctl show -p ActiveState -p SubState "$unit" | sort | tr '\n' ' ') in
        *auto-restart*) return 1 ;; # it died, and systemd will start it once more
        ActiveState=active* | ActiveState=activating* | ActiveState=reloading*) return 0 ;;
        *) return 1 ;;
        esac
    fi
    [ -n "$(main_pid)" ]
}
here() { pings | grep -qx 'here UP'; }

# Start slurmctld again and wait until it answers. 1: it died; 2: it is alive, and did not answer within the deadline.
# The old process answers too: so nothing counts before the restart is through, which waits for as long as the unit's type has it.
bring_up() {
    rm -f -- "$work/through"
    log_at=$(wc -c <"$log" 2>/dev/null) || log_at=0
    since=$(date +%s)
    until_=$(($(clock) + deadline * 10))
    said=
    say "starting $unit again"
    (start_again; : >"$work/through") >>"$work/progress" 2>&1 8>&- &
    while [ "$(clock)" -lt "$until_" ]; do
        if [ ! -e "$work/through" ]; then sleep 0.1; continue; fi
        alive || return 1
        main=$(main_pid)
        patience=$(((until_ - $(clock)) / 10 + 1))
        # it answers only once it has loaded its plugins and read its state
        if here && alive && [ "$(main_pid)" = "$main" ]; then patience=30; return 0; fi
        if [ -z "$said" ] && alive; then said=yes; say "slurmctld runs and does not answer yet"; fi
        sleep 0.2
    done
    patience=30
    # one that is still being stopped, or started, has not died
    [ ! -e "$work/through" ] || alive || return 1
    return 2
}

# What slurmctld said when it ended: its last errors, from its log and from the journal.
last_words() {
    {
        [ -z "$log" ] || tail -c "+$((log_at + 1))" -- "$log" 2>/dev/null
        ! systemd || journalctl -q -o cat -u "$unit" --since "@$since" 2>/dev/null
    } | grep -aE 'fatal|error' | sed 's/^\[[^]]*\] //; s/^slurmctld: //' | cut -c 1-300 | awk '!seen[$0]++' | tail -n 6 | while IFS= read -r line; do say "  $line"; done
}

put_back() {
    last_words
    if [ "$code" = 1 ]; then why="slurmctld ended"; else why="slurmctld did not answer within $deadline s"; fi
    if [ ! -e "$work/back" ]; then
        finish 1 down "$why; slurm.conf is left as it is"
    fi
    if replace "$work/back" "$now"; then
        what="slurm.conf was put back"
        [ -e "$work/next" ] || what="BurstBufferType was taken out of slurm.conf"
        say "$why; $what"
    else
        what="slurm.conf was changed by somebody else meanwhile, and left"
    fi
    bring_up
    code=$?
    [ "$code" != 0 ] || finish 1 reverted "$why; $what, and slurmctld answers"
    last_words
    [ "$code" = 1 ] || finish 1 reverted "$why; $what; slurmctld runs and has not answered yet"
    finish 1 down "$why; $what, and slurmctld ended again"
}

: >"$work/begun"
exec 8>>"$state/activation.lock"
# a look holds it for an instant
flock -w 2 8 || { say "another activation is at work on this host"; : >"$work/done"; exit 75; }
: >"$state/activation.lock" # its time says since when
slurm_path
now=$seen
if [ "$(conf_sum)" != "$seen" ]; then
    finish 1 refused "slurm.conf was changed since it was looked at: nothing was done, run again"
fi
if [ -e "$work/next" ]; then
    now=$(sum "$work/next")
    replace "$work/next" "$seen" || finish 1 refused "slurm.conf could not be written: nothing was done"
    say "slurm.conf replaced"
fi
began=$(clock)
bring_up
code=$?
[ "$code" = 0 ] || put_back
took=$(($(clock) - began))
finish 0 activated "slurmctld answers after $((took / 10)).$((took % 10)) s"
