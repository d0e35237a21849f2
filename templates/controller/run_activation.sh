# Starts an activation that outlives this connection, and prints its progress. Standard input is slurm.conf's next text, then the
# one that undoes it: $next_size and $back_size bytes. Set before: $state, $conf, $next_size, $back_size, $next_sum, $back_sum,
# $program (activate.sh with its settings except $work), $longest. Goes after detach.sh and temporary.sh.
umask 077
remove_leftovers
work=$(mktemp -d "$state/activation.d.XXXXXX") || exit 1
remove_at_exit "$work"
if [ "$next_size" -gt 0 ]; then head -c "$next_size" >"$work/next"; fi
if [ "$back_size" -gt 0 ]; then head -c "$back_size" >"$work/back"; fi
# a broken connection may have brought only a part
for one in next back; do
    if [ "$one" = next ]; then wanted=$next_sum; else wanted=$back_sum; fi
    if [ -n "$wanted" ]; then echo "$wanted  $work/$one" | sha256sum --check --status; fi
done
keep "$conf"
for one in "$next_sum" "$back_sum"; do [ -z "$one" ] || record_left "$one" "$(real_path "$conf")"; done
run_detached dws-on-csm-activation 'dws-on-csm replaces slurm.conf and restarts slurmctld'
