# Prints the entries about the burst buffer in slurmctld's log, from $since (seconds since 1970) on: slurmctld's lines, the script
# daemon's, and lines without a time stamp that belong to them. With $follow it continues until its standard input ends.
# Where $in_pod says so and slurm.conf names no log, it is the container's, which cannot be read from inside: WHERE is "container".
# First "ready NOW ZONE WHERE" on standard error; then it waits for a line; then past entries, the line $mark, and new entries. Past
# entries are read for $past seconds and up to $room bytes: "$mark cut" means that some are missing, "$mark unread" that some could
# not be read.
find_slurm
log=$(log_file)
# slurm.conf names the log and SlurmUser writes it: it could be any file, so root must not read it
as_slurm_user() { slurm "$@" 2>/dev/null; }
most=16000000000
room=100000000 # bytes of past entries that are printed; a compressed log may contain any number
from=$(date -d "@$since" +%Y-%m-%dT%H:%M:%S)
# mawk waits for a full block of input unless it is told not to
case $(awk -W version 2>&1 </dev/null) in mawk*) awk="awk -W interactive" ;; *) awk=awk ;; esac

# Entries begin with [YYYY-MM-DDT...; in the journal with the time and a name. Lines without a time belong to the entry before. What
# slurmctld writes to its standard error has an own beginning in the journal, and each further line of an entry is a message there.
filter_entries() (
    ulimit -v 2000000 2>/dev/null # an entry without an end
    export mark # in argv everybody on the host could read it
    exec $awk -v from="$from" -v room="$room" '
    BEGIN { mark = ENVIRON["mark"] }
    function stamped() { return $0 ~ /^\[[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/ }
    /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/ {
        at = $1
        name = $3
        sub(/^[^ ]+ [^ ]+ [^ ]+: ?/, "")
        if (sub(/^(slurmctld: )?\[[0-9-]+T[^]]*\] /, "") || sub(/^slurmctld: /, "")) own[name] = 1
        else if (name in own && $0 !~ /^slurmscriptd: /) further = 1
        if (further) shown = wanted[name]
        else $0 = "[" at "] " $0
    }
    stamped() && !further {
        dated = 1
        shown = substr($0, 2, 19) >= from && $0 ~ /(^|[^A-Za-z])lua|slurm_bb_|burst_buffer|slurmscriptd|(etup|eardown|tage.?in|tage.?out|re.?run|ost.?run) for JobId/
        wanted[name] = shown
    }
    $0 == mark " cut" || $0 == mark " unread" { print; next }
    { seen = 1; further = 0 }
    shown && room && (passed += length($0) + 1) > room { print mark " cut"; exit }
    shown { print; fflush() }
    END { if (seen && !dated) print mark " undated" }
    '
)
# rotated logs since then, oldest first, then the present log up to its current end
past_entries() {
    ends=$(($(uptime_seconds) + past))
    { as_slurm_user timeout 30 find "${log%/*}" -maxdepth 1 -type f -newermt "@$since" \( -name "${log##*/}[.-]*" \) -printf '%T@ %p\n' ||
        echo "0 $mark"; } |
        sort -n | while read -r _ one; do
        if [ "$one" = "$mark" ]; then echo "$mark unread"; else read_within gzip -cdf -- "$one"; fi
    done
    read_within head -c "$end" -- "$log"
}
# read_within COMMAND: run it as SlurmUser, for the rest of the time for past entries
read_within() {
    left=$((ends - $(uptime_seconds)))
    code=124
    if [ "$left" -gt 0 ]; then
        as_slurm_user timeout "$left" "$@" </dev/null
        code=$?
    fi
    print_outcome "$code"
}
# print_outcome CODE: print how reading past entries ended, unless it succeeded; gzip's code 2 is only a warning
print_outcome() {
    case $1 in 0 | 2) ;; 124 | 137 | 141) echo "$mark cut" ;; *) echo "$mark unread" ;; esac
}
# journal WORDS OPTIONS: journalctl with OPTIONS, started by WORDS, a timeout
journal() {
    bound=$1
    shift
    # shellcheck disable=SC2086 # words
    $bound journalctl --unit "$unit" --quiet --no-pager --output short-iso-precise --since "@$since" "$@" 2>/dev/null
}
past_journal() {
    journal "timeout --foreground -k 3 $past"
    print_outcome $?
}

if [ -n "$log" ] && as_slurm_user test -r "$log" && size=$(as_slurm_user stat -L -c %s -- "$log"); then
    end=$(number_or_zero "$size")
    where=$log
elif [ -z "$log" ] && [ -e "$folder/slurm.conf" ] && [ "$conf_code" != 0 ]; then
    where="nowhere: $folder/slurm.conf cannot be read to its end, so it is unknown where slurmctld writes its log"
elif [ -z "$log" ] && [ -n "$in_pod" ]; then
    where=container
elif [ -z "$log" ] && command -v journalctl >/dev/null; then
    where="the journal of $unit"
else
    where="nowhere: ${log:-SlurmctldLogFile (not set in slurm.conf)} cannot be read"
fi
printf 'ready %s %s %s\n' "$(date +%s.%N)" "$(date +%z)" "$where" >&2
read -r _ || exit 0
case $where in
/*) past_entries | filter_entries || echo "$mark unread" ;;
the*) [ -n "$follow" ] || { past_journal | filter_entries || echo "$mark unread"; } ;;
esac
echo "$mark"
[ -n "$follow" ] || exit 0
case $where in
/*) (runs_as=exec_as; as_slurm_user tail -c "+$((end + 1))" -F -- "$log") | room=0 filter_entries & ;; # until this script ends
the*) journal "" --follow --lines all | room=0 filter_entries & ;;
esac
cat >/dev/null # until the reader is gone
kill 0
