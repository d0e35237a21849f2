# One activation, on the controller itself and detached from the run that began it: replace slurm.conf, restart slurmctld, and undo
# both unless slurmctld comes up. Where slurmctld could not start, whatever burst buffer it has, nothing is changed and it is not
# stopped. Exit code 0 only if slurmctld responds with the new text. Prints nothing: $work/progress has its
# messages. Goes after safe_file.sh, slurmctld.sh and slurm_start.sh. Set before: $work (its own folder: next, back, progress), $state, $folder,
# $unit, $seen (slurm.conf's checksum), $deadline, $log (slurmctld's, or ""), $units (the folder of this host's own systemd units),
# $burst_buffer (whether `next` has it in place of a text without: "added"; the reverse: "removed"; or "").
#   next   slurm.conf's new text; absent for a restart alone
#   back   slurm.conf's text if slurmctld does not come up; absent where slurm.conf must stay
# For a restart alone, `back` is slurm.conf without the burst buffer, and this script writes there:
#   was    slurm.conf's present text, restored if slurmctld does not come up with `back` either
#   again  exists once that has happened
# $1: nothing for the activation itself. If it was interrupted, the same script undoes its changes:
#   stopped   its unit has ended, for any reason
#   boot      the host starts, and slurmctld does not run yet
#   again     a later run found it
set -u
umask 077
how=${1-}
conf=$folder/slurm.conf
pending=$state/activation.pending # a link to $work, from before the first change until it is settled
boot=dws-on-csm-activation-boot.service

say() {
    printf '%s\n' "$*" >>"$work/progress"
    case $how in boot | again) printf '%s\n' "$*" ;; esac
}
sum() { sha256sum -- "$1" | cut -d' ' -f1; }
conf_sum() { { read_file "$conf" 2>/dev/null || echo unreadable; } | sha256sum | cut -d' ' -f1; }
clock() { awk '{ printf "%d\n", $1 * 10 }' /proc/uptime; } # tenths of a second; nobody sets this clock

# write_undo_record: before any change, write to disk what is needed to undo it. /run does not outlive the host: the unit for boot is
# on disk, for as long as this takes.
write_undo_record() {
    rm -f -- "$pending"
    there=$(real_path "$conf")
    if systemd; then
        mkdir -p -- "$units/multi-user.target.wants" &&
            cat >"$units/$boot" <<END && ln -sf -- "../$boot" "$units/multi-user.target.wants/$boot" || return 1
# Made by dws-on-csm while it activates slurm.conf, and removed by it: undoes an activation that the host's end interrupted.
[Unit]
Description=Restore slurm.conf after an interrupted activation by dws-on-csm
ConditionPathExists=$pending
RequiresMountsFor="$state" "$folder" "${there%/*}"
Before=${unit%.service}.service
[Service]
Type=oneshot
TimeoutStartSec=120
ExecStart=/bin/sh $pending/activate boot
END
        sync -- "$units/$boot" "$units/multi-user.target.wants" "$units" || return 1
    fi
    for one in activate next back was; do [ ! -e "$work/$one" ] || sync -- "$work/$one" || return 1; done
    sync -- "$work" && ln -s -- "$work" "$pending" && sync -- "$state"
}
undo_record_written() { [ "$(readlink -- "$pending")" = "$work" ]; }

# finish CODE OUTCOME REASON: record the outcome, which outlives the folder: a run whose connection broke can read it.
finish() {
    say "$3"
    {
        printf 'outcome=%s\nat=%s\nreason=%s\n' "$2" "$(date '+%F %T')" "$3"
        [ -z "$answered" ] || has_read
        [ -z "$seconds" ] || printf 'seconds=%s\n' "$seconds"
    } >"$state/activation.part"
    rename_synced "$state/activation.part" "$state/activation"
    # how it ended is on disk before the means to settle it go
    : >"$work/done"
    sync -- "$work"
    settled
    # the unit has done what it is for
    [ "$how" != boot ] || exit 0
    exit "$1"
}
settled() {
    if undo_record_written; then rm -f -- "$pending"; fi
    [ -e "$pending" ] || rm -f -- "$units/multi-user.target.wants/$boot" "$units/$boot"
    rm -f -- "$work/next" "$work/back" "$work/was"
    # nobody follows these
    case $how in boot | again) rm -rf -- "$work" ;; esac
}
# has_read: the texts with which slurmctld is known to start, and the process that has read them
has_read() {
    echo "sum=$(conf_sum)"
    echo "process=$(identity "$(main_pid)")"
    conf_texts text
}

# replace FILE SUM: write FILE's text to slurm.conf, which must have this checksum. Owner, mode, labels and attributes stay; it is
# never incomplete, and never readable to more people than before.
replace() (
    enter_folder_of "$conf" && open_stage || exit 1
    if copy_file "../$name" ./new && [ "$(sum ./new)" = "$2" ] && cat -- "$1" >./new && [ "$(sum ./new)" = "$(sum "$1")" ]; then
        install_new
    else
        close_stage
        exit 1
    fi
) 2>>"$work/progress"

# Without systemd, slurmctld gets no open file of root's, not even this script's progress: it runs as SlurmUser.
start_again() {
    if systemd; then
        # started several times within seconds, systemd would refuse
        systemctl reset-failed "$unit" 2>/dev/null
        systemctl restart "$unit" >>"$work/progress" 2>&1
    else
        service "$unit" restart
    fi
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

# bring_up: restart slurmctld and wait until it responds. 1: it ended; 2: it runs but did not respond within the deadline.
# The old process responds too, so nothing counts before the restart has finished.
bring_up() {
    answered=
    : >"$work/touched"
    rm -f -- "$work/through"
    # SlurmUser writes the log, and slurm.conf names it: it is read with SlurmUser's rights
    log_at=$(number_or_zero "$(slurm stat -L -c %s -- "$log" 2>/dev/null)")
    since=$(date +%s)
    until_=$(($(clock) + deadline * 10))
    said=
    say "restarting $unit"
    (start_again; : >"$work/through") </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    while [ "$(clock)" -lt "$until_" ]; do
        if [ ! -e "$work/through" ]; then sleep 0.1; continue; fi
        # a running slurmctld may be what shows who SlurmUser is, and by which PATH its programs are found
        [ -n "$slurm_uid" ] || { find_slurm_user; as_path=; find_slurm; }
        alive || return 1
        main=$(main_pid)
        patience=$(((until_ - $(clock)) / 10 + 1))
        # it responds only after it has loaded its plugins and read its state
        if here && alive && [ "$(main_pid)" = "$main" ]; then patience=30; answered=yes; return 0; fi
        if [ -z "$said" ] && alive; then said=yes; say "slurmctld runs but does not respond yet"; fi
        sleep 0.2
    done
    patience=30
    # while systemd still stops or starts it, it has not ended
    [ ! -e "$work/through" ] || alive || return 1
    return 2
}

# last_words: the last errors that slurmctld reported, from its log and from the journal
last_words() {
    {
        [ -z "$log" ] || slurm timeout 10 tail -c "+$((log_at + 1))" -- "$log" 2>/dev/null
        ! systemd || journalctl -q -o cat -u "$unit" --since "@$since" 2>/dev/null
    } | grep -aE 'fatal|error' | sed 's/^\[[^]]*\] //; s/^slurmctld: //' | cut -c 1-300 | awk '!seen[$0]++' | tail -n 6 >"$work/words"
    while IFS= read -r line; do say "  $line"; done <"$work/words"
    cause=$(grep -a fatal "$work/words" | tail -n 1)
    cause=${cause:+"; slurmctld says: $cause"}
}
cause=

neither="slurmctld did not start with or without BurstBufferType, so that line is not the cause"
undo_after_failure() {
    last_words
    if [ "$code" = 1 ]; then why="slurmctld ended"; else why="slurmctld did not respond within $deadline s"; fi
    if [ ! -e "$work/back" ]; then
        finish 1 down "$why; slurm.conf is unchanged$cause"
    fi
    [ ! -e "$work/again" ] || finish 1 down "$neither; slurm.conf has its former text$cause"
    first=$code
    if replace "$work/back" "$now"; then
        what="slurm.conf was restored"
        [ -e "$work/next" ] || what="BurstBufferType was removed from slurm.conf"
        say "$why; $what"
    else
        what="slurm.conf was changed by somebody else meanwhile and is left alone"
    fi
    come_up
}

# come_up: start slurmctld with slurm.conf's present text; $why and $what say what happened before.
come_up() {
    bring_up
    code=$?
    [ "$code" != 0 ] || finish 1 reverted "$why; $what; slurmctld responds"
    last_words
    # if it ended with the line and still runs without it, the line may be the cause
    if [ -e "$work/was" ] && [ ! -e "$work/again" ] && [ "${first-1}$code" != 12 ] && [ "$(conf_sum)" = "$(sum "$work/back")" ]; then
        as_it_was
    fi
    [ "$code" = 1 ] || finish 1 reverted "$why; $what; slurmctld runs but has not responded yet"
    if [ -e "$work/next" ] && [ "$(conf_sum)" = "$(sum "$work/back")" ]; then
        what="$what, but slurmctld does not start with it either, so its change is not the cause"
    fi
    finish 1 down "$why; $what; slurmctld ended again$cause"
}

# as_it_was: the removed line was not the cause: restore slurm.conf and start slurmctld with it
as_it_was() {
    : >"$work/again"
    why=$neither
    what="slurm.conf has its former text"
    replace "$work/was" "$(sum "$work/back")" || what="slurm.conf was changed by somebody else meanwhile and is left alone"
    say "$why; $what"
    come_up
}

# recover: undo an interrupted activation, wherever it was interrupted; the second time it does nothing.
recover() {
    trap '' HUP INT TERM PIPE
    if ! undo_record_written; then
        say "the activation was interrupted before it changed anything"
        : >"$work/done"
        exit 1
    fi
    why="the activation was interrupted"
    now=$(conf_sum)
    if [ "$now" = "$seen" ]; then
        what="slurm.conf has its former text"
        [ -e "$work/touched" ] || finish 1 refused "$why before it changed anything"
    elif [ -e "$work/next" ] && [ "$now" = "$(sum "$work/next")" ] && [ -e "$work/back" ]; then
        replace "$work/back" "$now" || { say "$why; slurm.conf could not be restored"; exit 1; }
        what="slurm.conf was restored"
        now=$(sum "$work/back")
    elif [ -e "$work/again" ] && [ "$now" = "$(sum "$work/back")" ]; then
        replace "$work/was" "$now" || { say "$why; slurm.conf could not be restored"; exit 1; }
        what="slurm.conf has its former text"
        now=$seen
    elif [ -e "$work/back" ] && [ "$now" = "$(sum "$work/back")" ]; then
        what="BurstBufferType was removed from slurm.conf"
    else
        what="slurm.conf was changed by somebody else meanwhile and is left alone"
    fi
    if [ "$how" = boot ] || host_stops; then finish 1 reverted "$why; $what; slurmctld starts with it at boot"; fi
    say "$why; $what"
    if [ "$now" != "$seen" ] || [ -e "$work/next" ]; then come_up; fi
    # a restart alone: continue as the activation would have
    bring_up
    code=$?
    [ "$code" != 0 ] || finish 1 reverted "$why; $what; slurmctld responds"
    undo_after_failure
}
# While the host goes down systemd starts nothing.
host_stops() { systemd && [ "$(systemctl is-system-running 2>/dev/null)" = stopping ]; }
ended() {
    code=$?
    if [ -e "$work/done" ]; then
        settled
        exit "$code"
    fi
    find_slurm
    recover
}
# take_activation_lock SECONDS: take the activation's lock; a look holds it for an instant
take_activation_lock() {
    exec 8>>"$state/activation.lock"
    flock -w "$1" 8 || { say "another activation is running on this host"; [ -n "$how" ] || : >"$work/done"; exit 75; }
}

answered=
seconds=
if [ -n "$how" ]; then
    # one that finished, or never began because another one runs, has nothing to undo
    if [ -e "$work/done" ] && ! undo_record_written; then
        rm -f -- "$work/next" "$work/back" "$work/was"
        exit 0
    fi
    take_activation_lock 60
    ended
fi
: >"$work/begun"
take_activation_lock 2
: >"$state/activation.lock" # its time says when this began
if [ -e "$pending" ]; then
    exec 8>&-
    sh "$pending/activate" again >>"$work/progress" 2>&1
    take_activation_lock 60
    [ ! -e "$pending" ] || finish 1 refused "an interrupted activation could not be undone: nothing was changed"
fi
trap ended EXIT
trap 'exit 143' HUP INT TERM
find_slurm
now=$seen
if [ "$(conf_sum)" != "$seen" ]; then
    finish 1 refused "slurm.conf was changed meanwhile: nothing was done, run again"
fi
# a copy: slurm.conf has another text by the time it is needed
if [ ! -e "$work/next" ] && [ -e "$work/back" ]; then
    read_file "$conf" >"$work/was" 2>/dev/null
    [ "$(sum "$work/was")" = "$seen" ] || finish 1 refused "slurm.conf could not be saved: nothing was changed"
fi
text=$conf
[ ! -e "$work/next" ] || text=$work/next
problem=$(start_problem "$text")
[ -z "$problem" ] || finish 1 refused "slurmctld would not start: $problem. It was not stopped, and nothing was changed"
write_undo_record || finish 1 refused "the record for undoing this could not be written: nothing was changed"
if [ -e "$work/next" ]; then
    now=$(sum "$work/next")
    replace "$work/next" "$seen" || finish 1 refused "slurm.conf could not be written: nothing was changed"
    say "slurm.conf replaced"
fi
began=$(clock)
bring_up
code=$?
[ "$code" = 0 ] || undo_after_failure
took=$(($(clock) - began))
seconds=$((took / 10)).$((took % 10))
# how often our line had to be added: once is an install, twice means that something removes it, and doctor says so
case $burst_buffer in
added) date '+%F %T' >>"$state/added" || say "it could not be recorded that the burst buffer was added" ;;
removed) rm -f -- "$state/added" ;;
esac
finish 0 activated "slurmctld responds after $seconds s"
