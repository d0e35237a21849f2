# Takes the lock (lock.sh). Prints "taken SINCE RUN FORMER", or "held LEFT" and the lines of its holder, for LEFT seconds more.
# SINCE: so many seconds ago another run may still have held it. FORMER: the run that did not release it, if there is one. RUN is
# $run where its time is right by this master's clock, and after all runs that are known here; else a new one with the same last
# digits: the names of runs order them.
# Set before: $who, $pid, $process (lines that tell the process from all others), $over (a run that is known to have died)
is_number() { [ -n "$1" ] && [ "${#1}" -le 12 ] && [ -z "$(printf %s "$1" | tr -d 0-9)" ]; }
rm -rf lock.new lock.old
end=$(lock_end)
if [ -e lock/holder ]; then
    if [ -z "$end" ]; then
        # its end is unknown: treat it as renewed just now
        write_holder lock "$(line 1)" "$(line 2)" "$(line 3)"
        end=$until
    fi
    if [ "$end" -gt "$up" ] && { [ -z "$over" ] || [ "$(line 3)" != "$over" ]; }; then
        echo "held $((end - up))"
        cat lock/holder
        if [ -e lock/process ]; then cat lock/process; fi
        exit 0
    fi
fi

# a lock that was not released was its holder's until it expired, or until the holder died; one that was released before this boot,
# or never existed, has been free since the boot
since=$up
former=$(line 3)
if [ -e lock/holder ]; then
    since=0
    if [ "$end" -lt "$up" ]; then since=$((up - end)); fi
    former=${former:-?}
elif [ -e left ] && read -r left_boot left_at left_by <left && [ "$left_boot" = "$boot" ]; then
    since=0
    if is_number "$left_at" && [ "$left_at" -le "$up" ]; then since=$((up - left_at)); fi
fi

now=$(date +%s)
stamp() { date -u -d "@$1" +%Y%m%dT%H%M%SZ; }
newest=$({ ls -1 before runs || :; line 3; cut -d' ' -f3 left || :; head -n 1 busy || :; } 2>/dev/null |
    grep -E '^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$' | sort | tail -n 1)
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
write_holder lock.new "$who" "$pid" "$run"
if [ -e lock ]; then mv -T lock lock.old; fi
rename_synced ./lock.new ./lock
rm -rf lock.old
printf '%s\n' "taken $since $run $former"
