# One rollout of a slurmctld's workload, on the master and detached from the run that began it: edit objects, get a new pod, and undo
# all unless slurmctld responds in it. Exit code 0 only if it does. Prints nothing: $work/progress has its messages.
# For a new pod alone, `back` removes the burst buffer from slurm.conf, and `was` undoes that where slurmctld does not respond without
# it either. Without a $workload it only makes the edits. Set before: $work (its own folder: next, back, was, text, progress), $state,
# $host (the controller's name), $namespace, $selector, $container, $workload (KIND/NAME or ""), $context (kubectl's option or ""),
# $deadline (seconds), $edit (pod_edit.py) and $edit_limit (its seconds), $answers and $candidate (scripts for the container), $config
# (the ConfigMap that has slurm.conf). $work/text: slurm.conf as the new pod will have it; absent where it is the ConfigMap's. $1: nothing;
# or "stopped" after it ended for any reason: its changes are then undone.
set -u
umask 077
say() { printf '%s\n' "$*" >>"$work/progress"; }
uptime_seconds() { read -r up_ rest_ </proc/uptime && echo "${up_%%.*}"; } # seconds since this machine started: nobody sets that clock
# kube SECONDS ARGUMENTS: kubectl with a limit, since an API server or a kubelet may accept a request and never answer.
kube() {
    limit=$1
    shift
    timeout --foreground -k 5 "$limit" kubectl ${context:+"$context"} --cache-dir "$work/cache" --namespace "$namespace" "$@"
}
finish() {
    say "$2"
    : >"$work/done"
    exit "$1"
}
edit_objects() {
    timeout --foreground -k 5 "$edit_limit" python3 "$work/edit" "$work/$1" "$namespace" kubectl ${context:+"$context"} \
        --cache-dir "$work/cache" --request-timeout 20s >>"$work/progress" 2>&1
}
# pod: the newest pod that isn't being deleted: "NAME RESTARTS WAITING-REASON"
pod() {
    kube 30 --request-timeout 20s get pods --selector "$selector" --sort-by=.metadata.creationTimestamp --output go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{range .status.containerStatuses}}{{if eq .name "'"$container"'"}} {{.restartCount}} {{with .state.waiting}}{{.reason}}{{end}}{{end}}{{end}}{{"\n"}}{{end}}{{end}}' 2>/dev/null | tail -n 1
}

# conf_problem: what Slurm's programs say in the pod that runs, where they cannot read the new pod's slurm.conf. Nothing where they can, or
# where no pod can be asked. The container could print anything, without end.
conf_problem() {
    name=$(pod)
    name=${name%% *}
    [ -n "$name" ] || return 0
    # into no file: on a full disk a part of the text would be tried
    next_text=$(if [ -e "$work/text" ]; then cat "$work/text"; else
        kube 30 --request-timeout 20s get configmap "$config" --output go-template='{{with index .data "slurm.conf"}}{{.}}{{end}}' 2>/dev/null
    fi) && [ -n "$next_text" ] || return 0
    said=$({
        { printf 'text_=%s\n' "$(printf '%s\n' "$next_text" | base64 -w 0)"; printf '%s\n' "$candidate"; } |
            kube 60 exec --stdin "$name" --container "$container" -- sh -s candidate 2>/dev/null
        echo "$?" >"$work/code"
    } | head -c 2000 | tr '\n' ' ')
    [ "$(cat "$work/code" 2>/dev/null)" != 9 ] || printf '%s\n' "$said"
}

# bring_up: wait until the workload's new pod runs and slurmctld responds in it. 1: it ends again and again, or can't be started;
# 2: it did not respond within the deadline.
bring_up() {
    ends=$(($(uptime_seconds) + deadline))
    (exec timeout --foreground -k 5 "$((deadline + 10))" kubectl ${context:+"$context"} --cache-dir "$work/cache" \
        --namespace "$namespace" rollout status "$workload" --timeout="${deadline}s") >/dev/null 2>&1 &
    status=$!
    while kill -0 "$status" 2>/dev/null; do
        case $(pod) in
        *\ CrashLoopBackOff | *\ CreateContainerConfigError | *\ InvalidImageName | *\ ErrImagePull | *\ ImagePullBackOff)
            kill "$status" 2>/dev/null
            return 1
            ;;
        esac
        sleep 0.5
    done
    wait "$status" || return 2
    name=$(pod)
    name=${name%% *}
    say "pod $name is running"
    left=$((ends - $(uptime_seconds)))
    [ "$left" -gt 5 ] || left=5
    # SlurmUser's container could print without end, and the master's disk is etcd's: only the exit code counts
    printf 'patience_=%s\n%s\n' "$left" "$answers" |
        kube "$((left + 30))" exec --stdin "$name" --container "$container" -- sh -s >/dev/null 2>&1 || return 2
}

# last_words: the last errors that slurmctld reported
last_words() {
    name=$(pod)
    name=${name%% *}
    [ -n "$name" ] || return 0
    {
        kube 30 --request-timeout 20s logs "$name" --container "$container" --previous --tail 300 | head -c 1000000
        echo
        kube 30 --request-timeout 20s logs "$name" --container "$container" --tail 300 | head -c 1000000
    } 2>/dev/null | grep -aE 'fatal|error' | sed 's/^\[[^]]*\] //; s/^slurmctld: //' | cut -c 1-300 | awk '!seen[$0]++' |
        tail -n 6 | while IFS= read -r line; do say "  $line"; done
}

undo_after_failure() {
    last_words
    if [ "$code" = 1 ]; then why="slurmctld ended in its new pod"; else why="slurmctld did not respond in its new pod within $deadline s"; fi
    first=$code
    undo
}

# undo: undo all edits; $why says what happened before.
undo() {
    what="all changes were undone"
    [ ! -e "$work/was" ] || what="BurstBufferType was removed from slurm.conf"
    apply_edits back
    # if it ended with the line and still runs without it, the line may be the cause
    if [ -e "$work/was" ] && [ "${first-1}$code" != 12 ]; then restore_former; fi
    finish 1 "$why; $what; slurmctld has not responded yet"
}

# restore_former: the removed line was not the cause: restore slurm.conf
restore_former() {
    : >"$work/again"
    why="slurmctld did not start with or without BurstBufferType, so that line is not the cause"
    what="slurm.conf has its former text"
    apply_edits was
    finish 1 "$why; $what; slurmctld has not responded yet"
}

# apply_edits FILE: make the edits of $work/FILE and get a new pod; returns with $code where slurmctld does not respond in it.
apply_edits() {
    broken=$(pod)
    broken=${broken%% *}
    edit_objects "$1" || finish 1 "$why; the objects could not be restored, see above"
    say "$why; $what"
    # a StatefulSet would wait for a broken pod forever before it takes the next one
    [ -z "$broken" ] || kube 30 --request-timeout 20s delete pod "$broken" --wait=false >/dev/null 2>&1
    bring_up
    code=$?
    [ "$code" != 0 ] || finish 1 "$why; $what; slurmctld responds"
    last_words
}

on_exit() {
    code=$?
    if [ -e "$work/done" ]; then exit "$code"; fi
    trap '' HUP INT TERM
    [ -e "$work/edited" ] || finish 1 "the rollout was interrupted before it changed anything"
    if [ -z "$workload" ]; then
        edit_objects back
        finish 1 "the change was interrupted: run again"
    fi
    why="the rollout was interrupted"
    [ ! -e "$work/again" ] || restore_former
    undo
}
take_lock() {
    exec 8>>"$state/activation-$host.lock"
    flock -w "$deadline" 8 || { say "another rollout of this workload is running"; : >"$work/done"; exit 75; }
}

if [ "${1-}" = stopped ]; then
    [ ! -e "$work/done" ] || exit 0
    take_lock
    on_exit
fi
: >"$work/begun"
take_lock
trap on_exit EXIT
trap 'exit 143' HUP INT TERM
printf '%s\n' "$edit" >"$work/edit"
if [ -n "$workload" ]; then
    problem=$(conf_problem)
    [ -z "$problem" ] || finish 1 "slurmctld would not start in its new pod: Slurm cannot read the text of slurm.conf: $problem. It was not stopped, and nothing was changed"
fi
: >"$work/edited"
edit_objects next || finish 1 "nothing was changed"
[ -n "$workload" ] || finish 0 "the templates and what the Job renders from them are as wanted"
say "$workload rolls out: slurmctld stops, then starts in a new pod"
began=$(uptime_seconds)
bring_up
code=$?
[ "$code" = 0 ] || undo_after_failure
finish 0 "slurmctld responds in pod $name after $(($(uptime_seconds) - began)) s"
