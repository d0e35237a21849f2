# Proves an installation with a job that has a bare #DW: its Workflow seen in each state, bbstat, completed, gone.
# Set before: kubeconfig workflows namespace user folder options patience state
# Lines on standard output are for people; the last one names the proof. Exit codes: 0 proven, 5 never got resources.

began=$(date +%s)
work=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX)
watcher=
job=
finish() {
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
as() {
    if [ "$1" = root ]; then shift; "$@"; else who=$1; shift; runuser -u "$who" -- "$@"; fi
}
chown "$slurm_user" "$work"
plugin_kubectl() { as "$slurm_user" env HOME="$work" kubectl --kubeconfig "$kubeconfig" --namespace "$namespace" "$@"; }
seconds() { echo $(($(date +%s) - began)); }
field() { scontrol --oneliner show job "$job" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$1=//p" | head -n 1; }
there() { plugin_kubectl get "$workflows" "bb$job" --ignore-not-found --output name; }

# 1. the API as the plugin reaches it
echo "reaching the API as $slurm_user: $(plugin_kubectl get "$workflows" 2>&1 | tail -n 1)"
plugin_kubectl get "$workflows" >/dev/null

# 2. the job
cd "$folder"
# shellcheck disable=SC2086 # options are words, each quoted before
job=$(printf '#!/bin/sh\n#DW\ntrue\n' | eval "as \"\$user\" sbatch --parsable --job-name=dws-on-csm-test --output=/dev/null --time=1 $options")
job=${job%%;*}
echo "submitted job $job as $user"
(
    # exec, so that the process that is ended below is kubectl itself
    exec 9>&-
    exec setpriv --reuid "$slurm_user" --regid "$(id -g "$slurm_user")" --init-groups env HOME="$work" \
        kubectl --kubeconfig "$kubeconfig" --namespace "$namespace" get "$workflows" "bb$job" --watch --output-watch-events \
        --output 'jsonpath={.type} {.object.status.state} {.object.status.status}{"\n"}' >"$work/seen" 2>"$work/errors"
) &
watcher=$!

# 3. what is to be seen: the Workflow through its states, bbstat, the job completed, the Workflow gone
bbstat=
said=0
slept=0
resources=
while :; do
    state=$(field JobState)
    case $state in RUNNING | COMPLETING | COMPLETED) resources=yes ;; esac
    lines=$(grep -c . "$work/seen" || true)
    if [ "$lines" -gt "$said" ]; then
        tail -n +"$((said + 1))" "$work/seen" | sed "s/^/$(seconds) s  Workflow bb$job  /"
        said=$lines
    fi
    if [ -z "$bbstat" ] && [ "$said" -gt 0 ]; then
        bbstat=$(as "$user" scontrol show bbstat workflow "$job" 2>&1)
        echo "scontrol show bbstat workflow $job: $bbstat"
    fi
    if grep -q '^DELETED' "$work/seen"; then break; fi
    case $state in
    COMPLETED) if [ -z "$(there)" ]; then break; fi ;;
    FAILED | CANCELLED | TIMEOUT | NODE_FAIL | BOOT_FAIL | OUT_OF_MEMORY | '')
        echo "job $job ended as '${state:-unknown}': $(field Reason)"
        exit 1
        ;;
    esac
    if [ -z "$resources" ] && [ "$(seconds)" -ge "$patience" ]; then
        echo "job $job never got resources in $patience s: $(field Reason); cancelling it"
        scancel --hurry "$job"
        end=$(($(date +%s) + 60))
        while [ -n "$(there)" ] && [ "$(date +%s)" -lt "$end" ]; do sleep 0.5; done
        if [ -n "$(there)" ]; then plugin_kubectl delete "$workflows" "bb$job" --wait=false; fi
        exit 5
    fi
    if [ -n "$resources" ]; then slept=$((slept + 1)); fi
    if [ "$slept" -ge 400 ]; then
        echo "job $job is $state, and its Workflow does not end: $(plugin_kubectl get "$workflows" "bb$job" 2>&1 | tail -n 1)"
        exit 1
    fi
    sleep 0.3 # neither Slurm nor the plugin reports an event to wait for
done
end=$(($(date +%s) + 30))
until [ "$(field JobState)" = COMPLETED ]; do
    if [ "$(date +%s)" -ge "$end" ]; then echo "the Workflow is gone, and job $job is $(field JobState)"; exit 1; fi
    sleep 0.2
done
case $bbstat in
*desiredState=*currentState=*) ;;
*)
    echo "scontrol show bbstat workflow $job did not answer: $bbstat"
    exit 1
    ;;
esac
states=$(sed -n 's/^[A-Z]* \([A-Za-z]*\) Completed.*/\1/p' "$work/seen" | uniq | tr '\n' ' ')
echo "job $job COMPLETED, Workflow bb$job gone; states seen: $states"
mkdir -p "$state_folder"
printf '{"job": "%s", "at": %s, "seconds": %s, "states": "%s", "bbstat": "%s"}\n' \
    "$job" "$(date +%s)" "$(seconds)" "${states% }" "$bbstat" >"$state_folder/proof.part"
mv -f "$state_folder/proof.part" "$state_folder/proof.json"
