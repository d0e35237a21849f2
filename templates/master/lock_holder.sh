# Reads who holds the lock of a site, and until when (lock.sh describes the files). Changes nothing.
# Set before: $hold (seconds that a lock lasts), $proc (/proc). The current folder is that of the lock, $state.

# what time it is: the id of this boot in $boot, and seconds since then in $up; a lock renewed now holds until $until
count() {
    read -r boot <"$proc/sys/kernel/random/boot_id"
    read -r up rest <"$proc/uptime"
    up=${up%%.*}
    until=$((up + hold))
}

# line N of the holder's file; nothing where there is none
line() { if [ -e lock/holder ]; then sed -n "$1p" lock/holder; fi; }

# when the lock ends or ended, in seconds since this boot; nothing if unknown: the file is incomplete, or of an earlier version
lock_end() {
    ends=$(line 5)
    end=${ends#* }
    if ! printf '%s\n' "$ends" | grep -qxE '[0-9a-f-]{36} [0-9]{1,12}' || { [ "${ends% *}" = "$boot" ] && [ "$end" -gt "$until" ]; }; then
        :
    elif [ "${ends% *}" = "$boot" ]; then
        echo "$end"
    else
        # renewed before this master's boot, at the latest right before it. Its holder may still work elsewhere, and renew it
        echo "$hold"
    fi
}
