# What Slurm says of its nodes: "TAKES|PARTITION|up or not|STATE|NODES|SINCE|REASON" a line; TAKES is "yes" where they take jobs, and the
# default partition has a * behind its name. Prints nothing where slurmctld does not respond. Only reads. Goes after slurmctld.sh.
# Set before: $partition, "" for all of them.
case $(pings) in *\ UP*) ;; *) exit 0 ;; esac
slurm timeout 30 sinfo --noheader --format '%P|%a|%t|%N|%H|%E' ${partition:+"--partition=$partition"} 2>/dev/null </dev/null |
    while IFS='|' read -r name up state rest; do
        takes=no
        ! takes_jobs "$up" "$state" || takes=yes
        printf '%s|%s|%s|%s|%s\n' "$takes" "$name" "$up" "$state" "$rest"
    done || :
