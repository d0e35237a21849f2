# Starts a rollout that outlives this connection, and prints its progress. Set before: $state, $unit, $program (rollout.sh with
# its settings except $work), $longest, $next, $back and $was (edits for pod_edit.py, base64; $was may be ""), $text (slurm.conf as the new
# pod will have it, base64, or ""). Goes after detach.sh and temporary.sh.
umask 077
mkdir -p "$state"
remove_leftovers
work=$(mktemp -d "$state/activation.d.XXXXXX") || exit 1
remove_at_exit "$work"
printf %s "$next" | base64 -d >"$work/next"
printf %s "$back" | base64 -d >"$work/back"
[ -z "$text" ] || printf %s "$text" | base64 -d >"$work/text"
[ -z "$was" ] || printf %s "$was" | base64 -d >"$work/was"
run_detached "$unit" 'dws-on-csm rolls out a slurmctld in a pod'
