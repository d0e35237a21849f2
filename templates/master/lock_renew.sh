# Renew the lock (lock.sh). If $run no longer holds it: exit code 3, and the lines of the holder.
if [ ! -e lock/holder ]; then exit 3; fi
holder=$(line 3)
if [ "$holder" != "$run" ]; then cat lock/holder; exit 3; fi
write_holder lock "$(line 1)" "$(line 2)" "$run"
