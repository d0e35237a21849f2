# Take the lock (lock.sh): prints "taken SINCE RUN", or "held NOW" and the lines of who holds it. SINCE: so many seconds ago
# somebody else may still have held it. RUN is $run where that began by this master's clock, after all runs that are known
# here; else a new one with the same last digits: the names of runs order them.
# Set before: $who, $pid, $process (lines that tell the process from all others), $over (a run that is known to have died)
numeral() { [ -n "$1" ] && [ "${#1}" -le 12 ] && [ -z "$(printf %s "$1" | tr -d 0-9)" ]; }
rm -rf lock.new lock.old
end=$(line 4)
if [ -e lock/holder ] && { ! numeral "$end" || [ "$end" -gt "$until" ]; }; then
    # torn, or from before this clock was set back: nobody knows when it ends, so it ends as if it had been renewed just now
    held lock "$(line 1)" "$(line 2)" "$(line 3)" "$until"
    end=$until
fi
if [ -e lock/holder ] && [ "$end" -gt "$now" ] && { [ -z "$over" ] || [ "$(line 3)" != "$over" ]; }; then
    echo "held $now"
    cat lock/holder
    if [ -e lock/process ]; then cat lock/process; fi
    exit 0
fi

# one that was not given up was its holder's until it ended, or until the holder died
since=$((now - $(stat -c %Y gate)))
if [ -e lock/holder ]; then since=0; if [ "$end" -lt "$now" ]; then since=$((now - end)); fi; fi

stamp() { date -u -d "@$1" +%Y%m%dT%H%M%SZ; }
newest=$(ls -1 before runs 2>/dev/null | grep -E '^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$' | sort | tail -n 1)
began=${run%-*}
if [ ! "$run" \> "$newest" ] || [ "$began" \> "$(stamp "$now")" ] || [ "$began" \< "$(stamp $((now - 3600)))" ]; then
    next=$now
    if [ ! "${newest%-*}" \< "$(stamp "$now")" ]; then
        next=$(date -u -d "$(echo "$newest" | sed 's/^\(.*\)T\(..\)\(..\)\(..\)Z.*/\1 \2:\3:\4/')" +%s)
        next=$((next + 1))
    fi
    run=$(stamp "$next")-${run##*-}
fi

mkdir lock.new
printf '%s\n' "$process" >lock.new/process
sync lock.new/process
held lock.new "$who" "$pid" "$run" "$until"
if [ -e lock ]; then mv -T lock lock.old; fi
mv -T lock.new lock
sync .
rm -rf lock.old
echo "taken $since $run"
