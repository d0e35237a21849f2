# record_start_files: record the checksums of the files that slurmctld reads when it starts. Every change of a ConfigMap gives
# all files of its volume a new time, so times alone do not show whether slurmctld has read them. The record holds for that
# slurmctld alone. Two stages may record at once, each with a file of its own before the rename. Goes after slurmctld.sh.
# Set before: $state, $folder.
record_start_files() {
    mkdir -p "$state"
    {
        echo "process=$(identity "$(main_pid)")"
        echo "sum=$(sha256sum <"$folder/slurm.conf" | cut -d' ' -f1)"
        start_files | while IFS= read -r file; do
            if [ -f "$file" ] && sum=$(timeout -k 3 20 sha256sum -- "$file"); then printf 'file=%s %s\n' "${sum%% *}" "$file"; fi
        done
    } >"$state/activation.$$.part"
    mv -f -- "$state/activation.$$.part" "$state/activation"
}
