# Renew the lock (lock.sh). Where $run does not hold it any more: exit code 3, and the lines of who does.
if [ ! -e lock/holder ]; then exit 3; fi
holder=$(line 3)
if [ "$holder" != "$run" ]; then cat lock/holder; exit 3; fi
held lock "$(line 1)" "$(line 2)" "$run"
