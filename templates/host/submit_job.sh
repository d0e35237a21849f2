# On the login host: submit the test job, held until the controller watches its Workflow, and ask bbstat. Prints "user NUMBER",
# "job NUMBER" and "bbstat ANSWER". It cancels nothing here: of a held job that is cancelled the Workflow stays, and only the
# controller can delete it. Goes after as.sh and slurmctld.sh. Set before: $user, $job_folder, $options, $name and $RUN.
find_slurm
find_account "$user" || { printf 'user %s %s\n' "$user" "$as_lacks" >&2; exit 1; }
printf 'user %s\n' "$as_number"
cd "$job_folder"
job=$(printf '#!/bin/sh\n#DW\ntrue\n' |
    eval "as_user \"\$user\" timeout 120 sbatch --parsable --hold --job-name=\$name-\$RUN --output=/dev/null --time=1 $options") ||
    exit 1
case $job in *";"*)
    cluster=$(printf %s "${job#*;}" | tr -cd '[:alnum:]_.-')
    if [ "$cluster" != "$(running_setting 30 ClusterName)" ]; then
        as_user "$user" timeout 30 scancel --quiet --clusters="$cluster" --name="$name-$RUN" --user="$user" >&2 || :
        printf '%s\n' "sbatch submitted the job to another cluster, $cluster" >&2
        exit 1
    fi
    ;;
esac
job=${job%%;*}
case $job in '' | *[!0-9]*) echo "sbatch printed no job id" >&2; exit 1 ;; esac
printf 'job %s\n' "$job"
bbstat=$(as_user "$user" timeout 60 scontrol show bbstat workflow "$job" 2>&1 | tr -cd '[:alnum:]=:_. -')
printf 'bbstat %s\n' "$bbstat"
