# Renew the lock (lock.sh). If $run no longer holds it: exit code 3, and the lines of the holder. If it has expired: exit code 4, and
# the seconds since this boot; it is then renewed within a minute from there, if these are $seen: meanwhile the run makes sure that no
# run through another master has begun, and one that is suspended once more comes too late.
# Set before: $seen ("" at first)
if [ ! -e lock/holder ]; then exit 3; fi
holder=$(line 3)
if [ "$holder" != "$run" ]; then cat lock/holder; exit 3; fi
end=$(lock_end)
if [ -n "$end" ] && [ "$end" -le "$up" ]; then
    if [ -z "$seen" ] || [ "$up" -gt "$((seen + 60))" ]; then echo "$up"; exit 4; fi
fi
write_holder lock "$(line 1)" "$(line 2)" "$run"
