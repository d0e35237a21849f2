# In slurmctld's own container: whether Slurm's programs can read a text of slurm.conf, which is written to memory alone. Prints their
# words and exits with 9 where they cannot. Goes after slurmctld.sh and slurm_start.sh. Set before: $folder, $unit, $text_ (base64).
umask 077
find_slurm
said=$(printf %s "$text_" | base64 -d | candidate_problem - | tail -n 2)
[ -n "$said" ] || exit 0
printf '%s\n' "$said"
exit 9
