# What Slurm says of its nodes: "PARTITION|up or not|STATE|NODES|SINCE|REASON" a line, the default partition with a * behind its name.
# Prints nothing where slurmctld does not respond. Only reads. Goes after slurmctld.sh. Set before: $partition, "" for all of them.
case $(pings) in *\ UP*) ;; *) exit 0 ;; esac
slurm timeout 30 sinfo --noheader --format '%P|%a|%t|%N|%H|%E' ${partition:+"--partition=$partition"} 2>/dev/null </dev/null || :
