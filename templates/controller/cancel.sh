# One step of `verify.cancel`. Prints "name=value" lines. Goes after as.sh and slurmctld.sh. Set before: $user, $options, $job_folder,
# $name (of the job), $in_pod ("yes", or empty), and $step with the settings that it names below.
find_slurm
look() {
    shown=$(slurm timeout 30 scontrol --oneliner show job "$job" 2>/dev/null | tr ' ' '\n')
    state=$(said JobState)
    buffer=$(said BurstBufferState)
}
said() { printf '%s\n' "$shown" | sed -n "s/^$1=//p" | head -n 1; }
# its user's number
user_number() { find_account "$user" && printf '%s\n' "$as_number"; }
answer() { printf 'job=%s\nbuffer=%s\nreason=%s\n' "$state" "$buffer" "$(said Reason)"; }
# as OVER in stages/jobs.py; "": Slurm has forgotten the job, or does not respond
over() {
    case $state in
    BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | LAUNCH_FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT | '') ;;
    *) false ;;
    esac
}

# log_since SIZE SECONDS: what slurmctld's log got since it had so many bytes; where it is the journal, since that time. Fails where
# neither can be read from here, as in a pod whose slurmctld writes to its standard error alone.
log_since() {
    file=$(log_file)
    if slurm test -f "$file"; then
        slurm tail -c "+$(($(number_or_zero "$1") + 1))" -- "$file"
    elif [ -z "$in_pod" ] && command -v journalctl >/dev/null; then
        journalctl --quiet --unit "$unit" --since "@$2" --output cat
    else
        return 1
    fi
}
# is_killed: whether the log says that slurmctld killed its own teardown. The first line is slurmctld's, in all versions; the other one
# is slurmscriptd's, from 24.11 on.
is_killed() {
    log_since "$size" "$since" |
        grep -q -e "teardown for JobId=$job terminated by slurmctld" -e "JobId=$job slurm_bb_job_teardown killed by signal"
}

case $step in
submit) # $how: sbatch's options that make the case; $directive: its #DW line; $commands: what the job does
    cd "$job_folder"
    # shellcheck disable=SC2086 # options are words, each quoted before
    id=$(printf '#!/bin/sh\n%s\n%s\n' "$directive" "$commands" |
        eval "as_user \"\$user\" timeout 120 sbatch --parsable --job-name=\$name --output=/dev/null --time=5 $how $options") || exit 1
    id=${id%%;*}
    is_number "$id" || { echo "sbatch printed no job id" >&2; exit 1; }
    # a program of the user's printed it, and could print the number of any job
    job=$id
    look
    case "$(said JobName) $(said UserId)" in
    "$name "*"($(user_number))") ;;
    *)
        printf '%s\n' "job $id is not the submitted one: slurmctld has no job $id of $user with the name $name. It was not touched" >&2
        exit 1
        ;;
    esac
    echo "id=$id"
    ;;
begin) # $wanted: state of its burst buffer that is awaited, for $allowed seconds
    limit=$(($(uptime_seconds) + allowed))
    look
    until [ "$buffer" = "$wanted" ] || over || [ "$(uptime_seconds)" -ge "$limit" ]; do
        sleep 0.2 # Slurm reports no event to wait for
        look
    done
    answer
    ;;
cancel) # $words: scancel's options
    file=$(log_file)
    if slurm test -f "$file"; then echo "size=$(number_or_zero "$(slurm stat -L -c %s -- "$file")")"; else echo size=0; fi
    date +since=%s
    printf 'user=%s\n' "$(user_number)"
    # shellcheck disable=SC2086 # one option or none
    as_user "$user" timeout 60 scancel $words "$job" 2>&1 | sed 's/^/said=/'
    ;;
end) # $size and $since: how long the log was when it was cancelled, and when; $allowed in seconds
    limit=$(($(uptime_seconds) + allowed))
    while look; do
        if over && [ "$buffer" = complete ]; then break; fi
        if over && is_killed; then
            echo killed=yes
            break
        fi
        [ "$(uptime_seconds)" -lt "$limit" ] || break
        sleep 0.3 # nor of this
    done
    log_since "$size" "$since" >/dev/null || echo unlogged=yes
    answer
    ;;
clear) # all jobs of this name, and of names that begin with it and a hyphen
    found=$(slurm timeout 60 squeue --noheader --user="$user" --format='%A %U %j') || exit 1
    jobs=$(printf '%s\n' "$found" | awk -v name="$name" 'NF == 3 && index($3 "-", name "-") == 1 { print $1 ":" $2 }')
    for one in $jobs; do
        id=${one%:*}
        is_number "$id" || continue
        printf 'id=%s\nuser=%s\n' "$id" "${one#*:}"
        slurm timeout 60 scancel --hurry --quiet "$id" || :
    done
    ;;
esac
