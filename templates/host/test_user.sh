# Whether the test job's user can submit it from here. Prints nothing if so, else why not: "unknown", "root", "other NUMBER",
# "sbatch" (missing), "folder", "unread FILE: WHY" or "rejected WORDS". Goes after as.sh and slurmctld.sh. Set before: $user,
# $job_folder, $options, $partition, $reservation.
find_slurm
find_account "$user" || { echo unknown; exit 0; }
[ "$as_number" != 0 ] || { echo root; exit 0; }
[ "$(id -u)" = 0 ] || [ "$as_number" = "$(id -u)" ] || { echo "other $(id -u)"; exit 0; }
(PATH=$users_path; command -v sbatch >/dev/null) || { echo sbatch; exit 0; }
as "$user" test -x "$job_folder" || { echo folder; exit 0; }
[ -z "$reservation" ] || exit 0 # --test-only refuses one that begins later, for which a job may wait
case $(pings) in *\ UP*) ;; *) exit 0 ;; esac # that slurmctld does not respond is another finding
unreadable=$(unreadable_for "$user" "$user")
[ -z "$unreadable" ] || { printf 'unread %s\n' "$unreadable"; exit 0; } # sbatch would look for it for a minute
rejected=$(printf '#!/bin/sh\ntrue\n' | eval "as_user \"\$user\" timeout 60 sbatch --test-only --time=1 $options" 2>&1) && exit 0
# Slurm says the same of nodes that are all drained, or of a closed partition: the test job then says so, and an install continues
states=$(slurm timeout 30 sinfo --noheader --format '%a %t' ${partition:+"--partition=$partition"} 2>/dev/null || :)
if [ -n "$states" ] && ! printf '%s\n' "$states" | grep -q '^up \(idle\|mix\|alloc\|comp\)'; then exit 0; fi
printf 'rejected %s\n' "$(printf %s "$rejected" | tr '\n' ' ' | cut -c 1-400)"
