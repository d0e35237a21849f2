# An activation holds its lock for as long as it works; the lock's time says since when.
if [ -e "$lock" ] && ! flock -n -s "$lock" true; then
    echo "at work since $(stat -c %y "$lock" | cut -d. -f1)"
fi
