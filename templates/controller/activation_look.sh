# Prints "running since TIME" or "interrupted, begun TIME" of an activation, nothing without one. Set before: $lock, $pending.
# An activation holds its lock while it runs, and the lock's time says since when. An interrupted one leaves the link $pending.
if [ -e "$lock" ] && ! flock -n -s "$lock" true; then
    echo "running since $(stat -c %y "$lock" | cut -d. -f1)"
elif [ -e "$pending" ]; then
    echo "interrupted, begun $(stat -c %y "$pending" | cut -d. -f1)"
fi
