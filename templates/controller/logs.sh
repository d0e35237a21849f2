# What slurmctld's log says of the burst buffer from $since (seconds since 1970) on: its own lines, those of the script
# daemon, and the lines without a time stamp that go with one. With $follow it goes on until its standard input ends.
# Prints "ready NOW ZONE WHERE" on standard error and waits for a line; then the entries; a line of $mark; what comes. What is
# there already is read for $past seconds, and up to $room bytes: "$mark cut" says that it was not all, "$mark unread" that
# some of it could not be read.
slurm_path
log=$(log_file)
# slurm.conf names it and SlurmUser writes it, so that root must not read it: it could be any file
as_slurm_user() { slurm "$@" 2>/dev/null; }
most=16000000000
room=100000000 # bytes of what is there already that are passed on; a log that is packed may have any number
from=$(date -d "@$since" +%Y-%m-%dT%H:%M:%S)
# mawk waits for a full block of input unless it is told not to
case $(awk -W version 2>&1 </dev/null) in mawk*) awk="awk -W interactive" ;; *) awk=awk ;; esac

# Entries begin with [YYYY-MM-DDT...; in the journal's words with the time and a name. What follows one belongs to it.
pick() (
    ulimit -v 2000000 2>/dev/null # an entry without an end
    exec $awk -v from="$from" -v mark="$mark" -v room="$room" '
    function stamped() { return $0 ~ /^\[[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/ }
    /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/ {
        at = $1
        sub(/^[^ ]+ [^ ]+ [^ ]+: /, "")
        sub(/^\[[0-9-]+T[^]]*\] /, "")
        $0 = "[" at "] " $0
    }
    stamped() {
        dated = 1
        shown = substr($0, 2, 19) >= from && $0 ~ /(^|[^A-Za-z])lua|slurm_bb_|burst_buffer|slurmscriptd|(etup|eardown|tage.?in|tage.?out|re.?run|ost.?run) for JobId/
    }
    $0 == mark " cut" || $0 == mark " unread" { print; next }
    { seen = 1 }
    shown && room && (passed += length($0) + 1) > room { print mark " cut"; exit }
    shown { print; fflush() }
    END { if (seen && !dated) print mark " undated" }
    '
)
# a log that was rotated since then, oldest first, and the one in use as far as it goes now
before() {
    ends=$(($(up) + past))
    { as_slurm_user timeout 30 find "${log%/*}" -maxdepth 1 -type f -newermt "@$since" \( -name "${log##*/}[.-]*" \) -printf '%T@ %p\n' ||
        echo "0 $mark"; } |
        sort -n | while read -r _ one; do
        if [ "$one" = "$mark" ]; then echo "$mark unread"; else within gzip -cdf -- "$one"; fi
    done
    within head -c "$end" -- "$log"
}
# within COMMAND: of SlurmUser's, as long as there is time for what is past
within() {
    left=$((ends - $(up)))
    code=124
    if [ "$left" -gt 0 ]; then
        as_slurm_user timeout "$left" "$@" </dev/null
        code=$?
    fi
    how_it_ended "$code"
}
# how_it_ended CODE: says of what reads the past how it ended, unless well; gzip ends with 2 where it only warns
how_it_ended() {
    case $1 in 0 | 2) ;; 124 | 137 | 141) echo "$mark cut" ;; *) echo "$mark unread" ;; esac
}
# journal WORDS OPTIONS: behind WORDS, which bound it
journal() {
    bound=$1
    shift
    # shellcheck disable=SC2086 # words
    $bound journalctl --unit "$unit" --quiet --no-pager --output short-iso-precise --since "@$since" "$@" 2>/dev/null
}
earlier() {
    journal "timeout --foreground -k 3 $past"
    how_it_ended $?
}

if [ -n "$log" ] && as_slurm_user test -r "$log" && size=$(as_slurm_user stat -L -c %s -- "$log"); then
    end=$(counted "$size")
    where=$log
elif [ -z "$log" ] && [ -e "$folder/slurm.conf" ] && [ "$conf_code" != 0 ]; then
    where="nowhere: $folder/slurm.conf cannot be read to its end, so it is unknown where slurmctld writes its log"
elif [ -z "$log" ] && command -v journalctl >/dev/null; then
    where="the journal of $unit"
else
    where="nowhere: ${log:-SlurmctldLogFile (not set in slurm.conf)} cannot be read"
fi
printf 'ready %s %s %s\n' "$(date +%s.%N)" "$(date +%z)" "$where" >&2
read -r _ || exit 0
case $where in
/*) before | pick || echo "$mark unread" ;;
the*) [ -n "$follow" ] || { earlier | pick || echo "$mark unread"; } ;;
esac
echo "$mark"
[ -n "$follow" ] || exit 0
case $where in
/*) (runs_as=exec_as; as_slurm_user tail -c "+$((end + 1))" -F -- "$log") | room=0 pick & ;; # until all of this ends
the*) journal "" --follow --lines all | room=0 pick & ;;
esac
cat >/dev/null # until the one who reads has gone
kill 0
