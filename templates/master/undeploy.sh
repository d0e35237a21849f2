# DWS taken out of the cluster with its own clone. First it is closed: the API server refuses new objects of its kinds with
# words, so that nothing comes between the last look and the deed. The look (see last_look.py) stops all of it where something
# is there that must not go, or where somebody does not answer. However this ends, DWS is opened again, and where DWS stays, what
# the look had deleted of what is kept is put back. While it works the lock `busy` is held on the master (host_script.LIBRARY), so that
# no other run begins to change anything, and nobody else opens DWS. The mark goes last: a run that was killed before DWS was open
# is known by it.
# Set before: $clone, $command, $rest (CRDs that the command does not know, by name), $patience (seconds), $group (of the CRDs),
# $look (a program), $asked (its input), $closed (the configuration's name), $again (yes: what is kept is to be put back),
# $namespace and $mark (an annotation for it while DWS is half there, KEY=TAG; "" for none); STATE and RUN by the engine.
cd "$clone"
saved="$STATE/before/$RUN/.kept.json"
pending="$STATE/put-back.json"

open_again() {
    code=$?
    trap '' HUP INT TERM PIPE
    if ! kubectl --request-timeout=60s delete validatingwebhookconfiguration "$closed" --ignore-not-found >/dev/null; then
        echo "DWS is still closed: run again, or kubectl delete validatingwebhookconfiguration $closed" || :
        [ "$code" != 0 ] || code=1
    elif [ "$code" = 0 ]; then
        through || code=1
    elif [ -e "$saved" ]; then
        python3 -c "$look" back "$pending" || :
    fi
    exit "$code"
}
# nothing is left to be done of it
through() {
    [ -z "$mark" ] ||
        kubectl --request-timeout=60s annotate namespace "$namespace" "${mark%%=*}-" >/dev/null || return 1
    [ "$again" = yes ] || rm -f -- "$pending"
}
making=
# $! is set with the command's beginning, and not behind it: a signal may come between. The whole group is asked: a timeout that
# gets a signal while it begins its command ends without it (coreutils before 9.6). It may not have its group yet.
end() {
    set +u
    [ -z "$making" ] || [ -z "$!" ] || {
        kill -s TERM -- "-$!" 2>/dev/null || kill -s TERM "$!" 2>/dev/null || :
        wait "$!" || :
    }
}
trap open_again EXIT
for signal in HUP INT TERM PIPE; do
    # what is shown may have nobody to read it any more; what the command began ends before DWS is opened
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
# In a process group of its own, which timeout ends as one. The signals that are to end this do not reach that, and sh would
# wait for a command in the foreground before it does what they ask for.
making=yes
timeout -k 8 "$patience" bash -o pipefail -c "$command" </dev/null &
wait "$!" || code=$?
making=
case $code in 124 | 137)
    echo "not through after $patience s; what is still there (namespace, name, finalizers):"
    for crd in $(kubectl --request-timeout=60s get crd --output name | grep "\.$group\$"); do
        echo "${crd#*/}"
        objects "${crd#*/}"
    done
    ;;
esac
[ "$code" = 0 ] || exit "$code"
# shellcheck disable=SC2086 # several names
[ -z "$rest" ] || kubectl delete crd $rest --ignore-not-found --timeout="${patience}s"
