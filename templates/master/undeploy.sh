# Removes DWS from the cluster with its own clone. First DWS is closed: the API server rejects new objects of its kinds, with a
# message, so that none is created between the last check and the removal. The check (see last_look.py) stops the removal where an
# object must not be deleted, or where a server does not respond. However this ends, DWS is reopened; where DWS stays, preserved
# objects that the check had deleted are put back. Meanwhile this script holds the lock `busy` on the master (host_script.LIBRARY),
# so that no other run begins to change anything or reopens DWS. The mark is removed last: it shows a run that was killed before
# DWS was open again.
# Set before: $clone, $command, $rest (names of the CRDs that the command does not know), $patience (seconds), $group (of the
# CRDs), $look (a program), $asked (its input), $closed (the configuration's name), $again (yes: preserved objects are put back),
# $namespace and $mark (an annotation for it while DWS is there in part, KEY=TAG; "" for none); STATE and RUN by the engine.
cd "$clone"
saved="$STATE/before/$RUN/.kept.json"
pending="$STATE/put-back.json"

open_again() {
    code=$?
    trap '' HUP INT TERM PIPE
    if ! kubectl --request-timeout=60s delete validatingwebhookconfiguration "$closed" --ignore-not-found >/dev/null; then
        echo "DWS is still closed: run the same command again, or: kubectl delete validatingwebhookconfiguration $closed" || :
        [ "$code" != 0 ] || code=1
    elif [ "$code" = 0 ]; then
        finish || code=1
    elif [ -e "$saved" ]; then
        python3 -c "$look" back "$pending" || :
    fi
    exit "$code"
}
# finish: record that the removal is complete
finish() {
    [ -z "$mark" ] ||
        kubectl --request-timeout=60s annotate namespace "$namespace" "${mark%%=*}-" >/dev/null || return 1
    [ "$again" = yes ] || rm -f -- "$pending"
}
making=
# Uses $!, which the shell sets as it starts the command: a variable set after it would be too late for a signal. The signal goes to
# the group: a timeout that gets it while it starts its command ends without that (coreutils before 9.6). The group may not exist yet.
end() {
    set +u
    [ -z "$making" ] || [ -z "$!" ] || {
        kill -s TERM -- "-$!" 2>/dev/null || kill -s TERM "$!" 2>/dev/null || :
        wait "$!" || :
    }
}
trap open_again EXIT
for signal in HUP INT TERM PIPE; do
    # PIPE: nobody may read the output any more. What the command has started ends before DWS is reopened
    trap 'trap "" HUP INT TERM PIPE; end; exit 143' "$signal"
done

# objects CRD: NAMESPACE NAME FINALIZERS of each, a line
objects() {
    kubectl --request-timeout=60s get "$1" --all-namespaces --ignore-not-found --no-headers \
        --output custom-columns=:metadata.namespace,:metadata.name,:metadata.finalizers
}

printf %s "$asked" | python3 -c "$look" look "$saved" "$pending"
[ -z "$mark" ] || kubectl --request-timeout=60s annotate namespace "$namespace" "$mark" --overwrite >/dev/null
code=0
# In the background, because sh handles a signal only after a command in the foreground has ended; timeout makes a process group
# for it and ends it as one, and signals to this script do not reach that group.
making=yes
timeout -k 8 "$patience" bash -o pipefail -c "$command" </dev/null &
wait "$!" || code=$?
making=
case $code in 124 | 137)
    echo "the removal timed out after $patience s; still in the cluster (namespace, name, finalizers):"
    for crd in $(kubectl --request-timeout=60s get crd --output name | grep "\.$group\$"); do
        echo "${crd#*/}"
        objects "${crd#*/}"
    done
    ;;
esac
[ "$code" = 0 ] || exit "$code"
# shellcheck disable=SC2086 # several names
[ -z "$rest" ] || kubectl delete crd $rest --ignore-not-found --timeout="${patience}s"
