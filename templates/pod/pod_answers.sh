# In slurmctld's own container: wait up to $patience_ seconds until it responds, then record what it has read. Prints nothing.
# Goes after slurmctld.sh and pod_start_files.sh. Set before: $folder, $unit, $state, $patience_.
find_slurm
until_=$(($(uptime_seconds) + patience_))
patience=10
until pings | grep -qx 'here UP'; do
    [ "$(uptime_seconds)" -lt "$until_" ] || exit 1
    sleep 0.5
done
record_start_files
