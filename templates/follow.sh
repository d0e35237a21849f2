# Starts an activation that outlives this connection, and follows it. Its standard input is slurm.conf's next text, then the
# one to put back: $next_size and $back_size bytes. Set before: $state, $conf, $next_size, $back_size, $next_sum, $back_sum,
# $program (activate.sh with its settings, but for $work).
umask 077
# left by a follower whose connection broke
for old in "$state"/activation.d.*; do
    if [ -e "$old/done" ] || [ -n "$(find "$old" -maxdepth 0 -mmin +1440 2>/dev/null)" ]; then rm -rf -- "$old"; fi
done
work=$(mktemp -d "$state/activation.d.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
if [ "$next_size" -gt 0 ]; then head -c "$next_size" >"$work/next"; fi
if [ "$back_size" -gt 0 ]; then head -c "$back_size" >"$work/back"; fi
# a connection that broke may have brought a part only
for one in next back; do
    if [ "$one" = next ]; then wanted=$next_sum; else wanted=$back_sum; fi
    if [ -n "$wanted" ]; then echo "$wanted  $work/$one" | sha256sum --check --status; fi
done
keep "$conf"
for one in "$next_sum" "$back_sum"; do [ -z "$one" ] || left "$one" "$(real "$conf")"; done
trap - EXIT # from here on the folder is the activation's
: >"$work/progress"
printf 'work=%s\n%s\n' "'$work'" "$program" >"$work/activate"
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
    systemctl reset-failed dws-on-csm-activation.service 2>/dev/null || :
    systemd-run --wait --collect --quiet --unit=dws-on-csm-activation --setenv="PATH=$PATH" \
        --description='slurm.conf replaced and slurmctld started again by dws-on-csm' sh "$work/activate" &
else
    setsid sh "$work/activate" >/dev/null 2>&1 </dev/null 9>&- &
fi
follower=$!
tail -s 0.1 -n +1 -f --pid="$follower" "$work/progress" 2>/dev/null || :
code=0
wait "$follower" || code=$?
# one that is still at work needs its folder
if [ -e "$work/done" ] || [ ! -e "$work/begun" ]; then rm -rf -- "$work"; fi
if [ "$code" != 0 ] && systemctl is-active --quiet dws-on-csm-activation.service 2>/dev/null; then
    echo "another activation is at work on this host"
    exit 75
fi
exit "$code"
