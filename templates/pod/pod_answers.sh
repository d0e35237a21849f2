# In a slurmctld's own container, behind slurmctld.sh: waits until it answers, for $patience_ seconds, and notes what it has read.
# Set before: $folder, $unit, $state, $patience_.
slurm_path
until_=$(($(up) + patience_))
patience=10
until pings | grep -qx 'here UP'; do
    [ "$(up)" -lt "$until_" ] || exit 1
    sleep 0.5
done
noted
