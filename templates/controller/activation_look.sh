# An activation holds its lock for as long as it works; the lock's time says since when. One that has ended without being
# settled has left a link to what it needs for that.
if [ -e "$lock" ] && ! flock -n -s "$lock" true; then
    echo "running since $(stat -c %y "$lock" | cut -d. -f1)"
elif [ -e "$pending" ]; then
    echo "interrupted, begun $(stat -c %y "$pending" | cut -d. -f1)"
fi
