# Prints all jobs of Slurm, including those that ended a few minutes ago, and what accounting knows about the jobs $asked ("12,13"),
# which slurmctld may have forgotten. "name=value" lines. Only reads. Goes after slurmctld.sh.
find_slurm
# The clock of slurmctld, which dates the ends of jobs; it may differ from this host's. 0: unknown.
SLURM_TIME_FORMAT=%s
config=$(slurm timeout 20 scontrol show config 2>/dev/null </dev/null)
now=$(printf '%s\n' "$config" | sed -n 's/^Configuration data as of //p' | head -n 1)
is_number "$now" || now=0
echo "now=$now"
# In a federation each cluster numbers its jobs from its own base.
slurm timeout 20 scontrol show federation 2>/dev/null </dev/null | sed -n 's/^Self:.* ID:\([0-9][0-9]*\).*/cluster=\1/p'
# columns of fixed width in bytes: a user's name may contain blanks
columns=BurstBuffer:2,JobID:21,State:41,UserName:65,SubmitTime:22,EndTime:22,UserID:11
if table=$(slurm timeout 40 squeue --noheader --all --states=all --Format="$columns" 2>/dev/null </dev/null); then
    echo answers=yes
    [ -z "$table" ] || printf '%s\n' "$table" | sed 's/^/job=/'
fi
# slurmctld's configuration says whether there is accounting; without it, that is unknown.
kind=$(printf '%s\n' "$config" | sed -n 's/^AccountingStorageType *= *//p')
case $asked/$kind in /* | ?*/accounting_storage/none | ?*/'(null)') ;; *)
    if table=$(slurm timeout 40 sacct --allusers --noheader --parsable2 --allocations --duplicates --jobs="$asked" \
        --format=JobIDRaw,UID,Submit,End 2>/dev/null </dev/null); then
        echo accounting=answers
        printf '%s\n' "$table" | grep -E '^[0-9]+\|[0-9]+\|[^|]*\|[^|]*$' | sed 's/^/past=/'
    else
        echo accounting=silent
    fi
    ;;
esac
