# Proves an installation with a job that has a bare #DW: its Workflow in each state, bbstat's response, completion, no Workflow left.
# Goes after as.sh, temporary.sh and slurmctld.sh. Set before: $kubeconfig, $workflows, $namespace, $user, $job_folder, $options,
# $allowed, $state_folder, $controller (what to do about DWS's controller that does nothing); $name and $RUN, which make the job's name; $submitted, $user_number, $bbstat: the job that a login host submitted,
# held, the number of its user, and what bbstat printed there, or "". With submitted=none it only clears away what this run has left.
# Prints lines for people; the last one names the proof. Exit codes: 0 proven, 5 never got resources.
# However it ends, also killed, it leaves neither job nor Workflow nor process.
# Programs of the job's user print its number, on a login host of whatever cluster: it counts once slurmctld has this run's job by it.

work=
job= # a number that slurmctld has for this run's job, and no other
job_name=$name-$RUN
watcher=
reader=
runner=
home=    # "": no kubectl may run
over=yes # nothing to clear away
stopped=
left=      # the Workflows that could not be removed
patient=60 # seconds that Slurm has to take a Workflow down before it is deleted

now() { date +%s%3N; }
seconds() { spent "$(($(now) - began))"; }
spent() { printf '%d.%d' "$(($1 / 1000))" "$(($1 % 1000 / 100))"; }
plugin_kubectl() { [ -n "$home" ] && runner_kubectl 30 "$kubeconfig" --namespace "$namespace" "$@"; }
# job_says FIELD [NUMBER]: of a job, or of this one
job_says() { slurm timeout 30 scontrol --oneliner show job "${2:-$job}" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$1=//p" | head -n 1; }
# is_ours NUMBER: whether slurmctld has this run's job by this number
is_ours() {
    is_number "$1" && [ "$(job_says JobName "$1")" = "$job_name" ] || return 1
    case $(job_says UserId "$1") in *"($user_number)") ;; *) return 1 ;; esac
}
# in_json WORDS: as they stand in a text of JSON
in_json() { printf %s "$1" | LC_ALL=C tr '\000-\037' ' ' | sed 's/[\\"]/\\&/g'; }
gone() { there=$(plugin_kubectl get "$workflows" "bb$1" --ignore-not-found --output name) && [ -z "$there" ]; } # of a job's number
events() { grep "|bb$job|" "$work/seen" || true; }
last() { events | tail -n 1 | cut -d '|' -f "$1"; }
failed() {
    printf '%s\n' "$*"
    drivers='jsonpath={range .status.drivers[*]}{.driverID} {.watchState} {.status} {.error}{"\n"}{end}'
    if [ -n "$job" ]; then plugin_kubectl get "$workflows" "bb$job" --ignore-not-found --output "$drivers" || true; fi
    exit 1
}
not_ours() {
    failed "job $1 is not this test job: slurmctld here has no job $1 of that name ($job_name) and user (number $user_number)." \
        "Nothing of job $1 was released, cancelled or deleted. Either the host that submitted the test job belongs to another cluster," \
        "or a program of $user printed the number of another job"
}

finish() {
    code=$?
    trap - EXIT
    trap '' PIPE
    if [ -z "$stopped" ]; then trap 'patient=3' HUP INT TERM; fi
    set +e
    if [ -z "$over" ]; then clear_away >/dev/null 2>&1; fi
    [ -z "$left" ] || printf '%s\n' "Workflow$left is left: the API server did not respond. Slurm may still remove it;" \
        "\`invoke workflows\` shows whether it did, and deletes it if not"
    # killed and awaited: otherwise it could still write to its folder
    for one in $watcher $reader; do
        kill -s KILL "$one" 2>/dev/null
        wait "$one" 2>/dev/null
    done
    trap '' HUP INT TERM
    if [ -n "$work" ]; then rm -rf -- "$work"; fi
    exit "$code"
}
clear_away() {
    if [ -n "$job" ]; then clear_job "$job" "$user_number"; else clear_jobs "$job_name"; fi # it may have been submitted, with an unknown number
}
# clear_jobs NAME: clear away the user's jobs of this name, or of one that begins with it and a hyphen, but for $job. Also those that were
# cancelled: if one was held, Slurm leaves its Workflow. If the user's number is unknown, as before the submission, the name alone counts.
clear_jobs() {
    jobs=$(slurm timeout 60 squeue --noheader --states=all --format='%A %U %T %j') || return 1
    for one in $(printf '%s\n' "$jobs" | awk -v name="$1" -v number="$user_number" -v own="$job" '
        NF == 4 && ($1 $2) ~ /^[0-9]+$/ && $1 != own && $3 != "COMPLETED" && (number == "" || $2 == number) &&
            index($4 "-", name "-") == 1 { print $1 ":" $2 }'); do
        clear_job "${one%:*}" "${one#*:}"
    done
}
# clear_job NUMBER USER: cancel a job that slurmctld has named, and delete its Workflow if Slurm does not
clear_job() {
    slurm timeout 30 scancel --hurry --quiet "$1"
    from=$(uptime_seconds)
    until gone "$1"; do
        # complete: Slurm has finished with it, and never tears down what it did not set up
        if [ "$(job_says BurstBufferState "$1")" = complete ] || [ "$(uptime_seconds)" -ge $((from + patient)) ]; then
            delete_workflow "$1" "$2" || gone "$1" || left="$left bb$1"
            return 0
        fi
        sleep 0.3
    done
}
# delete_workflow NUMBER USER: delete a job's Workflow, by its uid, and only if it is of that user's number
delete_workflow() {
    what=$(plugin_kubectl get "$workflows" "bb$1" --ignore-not-found \
        --output 'jsonpath={.apiVersion} {.metadata.uid} {.spec.userID}') || return 1
    case $what in *" $2") what=${what% *} ;; *) return 0 ;; esac
    printf '{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "%s"}}' "${what#* }" |
        plugin_kubectl delete --raw "/apis/${what% *}/namespaces/$namespace/workflows/bb$1" --filename - >/dev/null || return 1
    printf '%s\n' "deleted Workflow bb$1 of a cancelled test job"
}
trap finish EXIT
# this script must stop: whatever is left of it is killed some seconds later
trap 'stopped=yes; trap "" HUP INT TERM PIPE; patient=3; exit 143' HUP INT TERM # `timeout` sends it twice
# the connection is gone: that must not stop this script before it has removed its job
trap 'exit 141' PIPE

find_slurm
[ -z "$submitted" ] || over= # whatever fails from here on
choose_runner "$kubeconfig" 2>&1 || exit 1
home=/nonexistent # kubectl works without a cache, where /dev/shm is full
make_memory_folder "$runner"
if [ "$submitted" = none ]; then
    over=yes patient=10
    # also what earlier runs have left: it may be why this one failed
    if [ -n "$user_number" ]; then job_name=$name; fi
    clear_jobs "$job_name" && [ -z "$left" ] || exit 1
    exit 0
fi
mkfifo -m 600 "$work/events"
: >"$work/seen"

# 1. the API as the plugin reaches it
began=$(now)
if ! listed=$(plugin_kubectl get "$workflows" --output name 2>&1); then
    failed "$slurm_name cannot list Workflows with $kubeconfig: $listed"
fi
api=$(($(now) - began))
many=$(printf '%s' "$listed" | grep -c . || true)
if [ "$many" = 0 ]; then listed="No resources found"; else listed="$many found"; fi
printf '%s\n' "kubectl get $workflows as $slurm_name: $listed ($(spent "$api") s)"

# 2. watch its Workflow, from before the Workflow exists: each event with its time of arrival
( # SlurmUser could make kubectl print without end
    ulimit -f 32768 2>/dev/null
    ulimit -v 1000000 2>/dev/null
    while IFS= read -r line; do printf '%s|%s\n' "$(now)" "$line"; done <"$work/events" >"$work/seen"
) 9>&- &
reader=$!
(
    ulimit -f 32768 2>/dev/null
    # as execs, so that the process that is ended below is kubectl itself
    exec_as "$runner" env HOME="$home" \
        kubectl --kubeconfig "$kubeconfig" --namespace "$namespace" get "$workflows" -v 6 --watch --output-watch-events --output \
        'jsonpath={.type}|{.object.metadata.name}|{.object.spec.desiredState}|{.object.status.state}|{.object.status.status}{"\n"}' \
        >"$work/events" 2>"$work/errors"
) &
watcher=$!
# At verbosity 6 kubectl logs each answered request, and no secret.
limit=$(($(uptime_seconds) + 10))
until grep -q 'watch=true' "$work/errors" || [ "$(uptime_seconds)" -ge "$limit" ]; do sleep 0.05; done 2>/dev/null

# 3. clear away what killed runs left; then submit the job, or release the one that was submitted elsewhere
if [ -n "$submitted" ]; then
    is_ours "$submitted" || not_ours "$submitted"
    job=$submitted
else
    find_account "$user" || failed "user $user $as_lacks"
    user_number=$as_number
fi
clear_jobs "$name" || true
began=$(now)
over=
if [ -z "$job" ]; then
    cd "$job_folder"
    # shellcheck disable=SC2086 # options are words, each quoted before
    printed=$(printf '#!/bin/sh\n#DW\ntrue\n' |
        eval "as_user \"\$user\" timeout 120 sbatch --parsable --job-name=\$job_name --output=/dev/null --time=1 $options") || exit 1
    printed=${printed%%;*}
    is_number "$printed" || failed "sbatch printed no job id"
    is_ours "$printed" || not_ours "$printed"
    job=$printed
    printf '%s\n' "submitted job $job as $user"
else
    reason=$(job_says Reason)
    [ "$reason" = JobHeldUser ] || failed "job $job is not held by its user ($reason): it is not released"
    slurm timeout 30 scontrol release "$job" || failed "job $job could not be released"
    printf '%s\n' "released job $job of $user; on the login host, scontrol show bbstat workflow $job printed: $bbstat"
fi
if gone "$job"; then
    failed "Slurm accepted job $job without a Workflow: slurmctld runs without the plugin or without burst_buffer.conf"
fi

# cannot_start REASON: what to do about a job that Slurm will not start while nothing changes; fails for another reason. The words are
# of Slurm's enum job_state_reason, and of its sentence about nodes (job_reason_string, common_job_launch), with blanks as "_".
cannot_start() {
    case $1 in
    *DOWN,_DRAINED* | ReqNodeNotAvail*) echo '`sinfo -R` names the nodes that are down or drained, and why; `scontrol update NodeName=NODES State=RESUME` returns them' ;;
    PartitionDown | PartitionInactive) echo '`scontrol show partition` has its state; `scontrol update PartitionName=NAME State=UP` opens it' ;;
    PartitionNodeLimit | PartitionTimeLimit) echo 'set test_job.partition in the site file to one with room for a job of one minute' ;;
    JobHeldUser | JobHeldAdmin) echo 'a job_submit plugin or a rule of the site holds it: set test_job in the site file to what starts there' ;;
    InvalidAccount | InvalidQOS | AccountNotAllowed | QOSNotAllowed | BadConstraints | Assoc* | QOS* | ReservationDeleted)
        echo 'set test_job.account, qos and reservation in the site file to what this user may use (`sacctmgr show assoc`)'
        ;;
    *) return 1 ;;
    esac
}
certain=15 # seconds for which such a reason has to stand: Slurm may have just begun to look

# 4. wait for the Workflow to pass its states, bbstat, the end of the job, the end of the Workflow
said=0
resources=
stands=
since=0
limit=$(($(uptime_seconds) + allowed))
while :; do
    state=$(job_says JobState)
    case $state in
    RUNNING | COMPLETING | COMPLETED | STAGE_OUT)
        if [ -z "$resources" ]; then resources=yes limit=$(($(uptime_seconds) + 120)); fi
        ;;
    BOOT_FAIL | CANCELLED | DEADLINE | FAILED | LAUNCH_FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | REVOKED | TIMEOUT | '')
        ran_on=$(job_says BatchHost)
        failed "job $job ended as ${state:-unknown}, for the reason: $(job_says Reason)" \
            "${ran_on:+(it ran on $ran_on: the lines with [$job. in the log of slurmd there say more)}"
        ;;
    esac
    lines=$(events | grep -c . || true)
    if [ "$lines" -gt "$said" ]; then
        events | tail -n +"$((said + 1))" | while IFS='|' read -r at type _ desired current status; do
            printf '%s s  Workflow bb%s  %s  desired %s, %s %s\n' "$(spent $((at > began ? at - began : 0)))" "$job" "$type" "$desired" "${current:-no state}" "${status:-}"
        done
        said=$lines
    fi
    if [ -z "$bbstat" ]; then
        bbstat=$(as_user "$user" timeout 60 scontrol show bbstat workflow "$job" 2>&1 | tr -cd '[:alnum:]=:_. -')
        printf '%s\n' "scontrol show bbstat workflow $job: $bbstat"
    fi
    if [ "$(last 2)" = DELETED ]; then break; fi
    if [ "$(last 6)" = Error ]; then failed "Workflow bb$job in $(last 5): Error"; fi
    if [ "$state" = COMPLETED ] && gone "$job"; then
        limit=$(($(uptime_seconds) + 10)) # the watch may report that a moment later
        until [ "$(last 2)" = DELETED ] || [ "$(uptime_seconds)" -ge "$limit" ]; do sleep 0.2; done
        break
    fi
    reason=
    if [ "$state" = PENDING ]; then reason=$(job_says Reason); fi
    if [ "$reason" != "$stands" ]; then stands=$reason since=$(uptime_seconds); fi
    if [ "$(uptime_seconds)" -ge $((since + certain)) ] && advice=$(cannot_start "$stands"); then
        printf '%s\n' "to have it start: $advice" \
            "job $job never got resources, and cannot: $(printf %s "$stands" | tr _ ' '); cancelled"
        exit 5
    fi
    if [ "$(uptime_seconds)" -ge "$limit" ]; then
        if [ "$(last 4)" != "$(last 5)" ]; then
            at=$(last 5)
            failed "job $job is $state: Slurm has asked for the state $(last 4) of Workflow bb$job, and DWS's controller leaves it" \
                "in ${at:-no state}: that controller does nothing, or is busy. $controller"
        fi
        if [ -n "$resources" ] || [ "$(last 6)" != Completed ]; then
            failed "job $job is $state; its Workflow stays in $(last 4) ($(last 6))"
        fi
        printf '%s\n' "job $job never got resources within $allowed s: $(job_says Reason); cancelled"
        exit 5
    fi
    sleep 0.3 # Slurm reports no event to wait for
done
took=$(seconds)
limit=$(($(uptime_seconds) + 30))
until [ "$(job_says JobState)" = COMPLETED ]; do
    if [ "$(uptime_seconds)" -ge "$limit" ]; then
        failed "Workflow bb$job is gone, and job $job is $(job_says JobState): $(job_says Reason)"
    fi
    sleep 0.2
done
case $bbstat in
*desiredState=*currentState=*) ;;
*) failed "scontrol show bbstat workflow $job did not respond: $bbstat" ;;
esac

over=yes

# 5. the time in each state: from the event in which Slurm requested it to the event in which it requested the next
all='Proposal Setup DataIn PreRun PostRun DataOut Teardown'
states=$(events | sed -n 's/.*|\([A-Za-z]*\)|Completed$/\1/p' | uniq | paste -sd ' ' -)
if [ "$states" != "$all" ]; then
    [ "$(last 2)" = DELETED ] || failed "job $job COMPLETED, but its Workflow's states are unknown, because its watch ended early: $(
        tail -n 3 "$work/errors" | tr '\n' ' '
    )"
    failed "Workflow bb$job completed '$states', and not '$all'"
fi
times=$(events | awk -F '|' '
    function mark(name) {
        gsub(/[^A-Za-z0-9_. -]/, "", name) # it becomes a key of JSON
        if (name != at) { if (at) printf ", \"%s\": %.3f", at, ($1 - since) / 1000; at = name; since = $1 }
    }
    $2 == "DELETED" { mark(""); next }
    $4 == "PreRun" && $5 == "PreRun" && $6 == "Completed" { mark("running"); next }
    $4 != "PreRun" || at != "running" { mark($4) }')
printf '%s\n' "job $job COMPLETED, Workflow bb$job gone; states seen: $states"
mkdir -p "$state_folder"
printf '{"job": "%s", "at": %s, "seconds": %s, "states": "%s", "bbstat": "%s", "api": "%s", "times": {"API": %s%s}}\n' \
    "$(in_json "$job")" "$(date +%s)" "$took" "$(in_json "$states")" "$(in_json "$bbstat")" "$(in_json "$listed")" \
    "$(spent "$api")" "$times" >"$state_folder/proof.part"
rename_synced "$state_folder/proof.part" "$state_folder/proof.json" # of durable.sh, which all actions have
