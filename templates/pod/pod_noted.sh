# noted: write down what the files that slurmctld reads when it starts are now. Every change of a ConfigMap gives all files of
# its volume a new time, so times alone don't tell whether slurmctld has read what they say. The note lives as long as the
# container, which is as long as its slurmctld.
noted() {
    mkdir -p "$state"
    {
        echo "sum=$(sha256sum <"$folder/slurm.conf" | cut -d' ' -f1)"
        start_files | while IFS= read -r file; do
            if [ -f "$file" ] && sum=$(timeout -k 3 20 sha256sum -- "$file"); then printf 'file=%s %s\n' "${sum%% *}" "$file"; fi
        done
    } >"$state/activation.part"
    mv -f -- "$state/activation.part" "$state/activation"
}
