# run_detached UNIT DESCRIPTION: run $program (a script, with $work set before it) so that it outlives this connection, and print
# $work/progress. Ends with its exit code, or 75 where another one of UNIT runs. It is stopped after $longest seconds; after any end it
# is called once more with the word "stopped", to undo what it must. Set before: $work, $program, $longest. Goes after
# `remove_at_exit "$work"` (temporary.sh): from here on the folder is the program's. Where this shell is ended before that began, it cannot
# begin any more. A rename: a program that begins at the same moment has either all of its folder, or nothing.
run_detached() {
    trap '[ -e "$work/begun" ] || [ ! -d "$work" ] || { mv -- "$work" "$work.gone" && rm -rf -- "$work.gone"; }' EXIT
    : >"$work/progress"
    printf 'work=%s\n%s\n' "'$work'" "$program" >"$work/activate"
    if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
        systemctl reset-failed "$1.service" 2>/dev/null || :
        systemd-run --wait --collect --quiet --unit="$1" --setenv="PATH=$PATH" --setenv="KUBECONFIG=${KUBECONFIG-}" \
            --property=KillMode=mixed --property="RuntimeMaxSec=$longest" --property="TimeoutStopSec=$longest" \
            --property="ExecStopPost=-/bin/sh $work/activate stopped" --description="$2" sh "$work/activate" &
    else
        # shellcheck disable=SC2016 # for the shell that is started
        setsid sh -c 'timeout --foreground -k "$1" "$1" sh "$2"; code=$?; sh "$2" stopped; exit "$code"' sh "$longest" "$work/activate" \
            >/dev/null 2>&1 </dev/null 9>&- &
    fi
    follower=$!
    tail -s 0.1 -n +1 -f --pid="$follower" "$work/progress" 2>/dev/null || :
    code=0
    wait "$follower" || code=$?
    # one that still runs needs its folder
    if [ -e "$work/done" ] || [ ! -e "$work/begun" ]; then rm -rf -- "$work"; fi
    if [ "$code" != 0 ] && systemctl is-active --quiet "$1.service" 2>/dev/null; then
        echo "another activation is running on this host"
        exit 75
    fi
    exit "$code"
}

# remove_leftovers: remove folders that a broken connection left. Set before: $state.
remove_leftovers() {
    for old in "$state"/activation.d.*; do
        if [ "$old" = "$(readlink -- "$state/activation.pending")" ]; then continue; fi
        if [ -e "$old/done" ] || [ -n "$(find "$old" -maxdepth 0 -mmin +1440 2>/dev/null)" ]; then rm -rf -- "$old"; fi
    done
}
