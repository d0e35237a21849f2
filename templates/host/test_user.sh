# Whether the test job's user can submit it from here. Prints nothing if so, else the fact "problem": unknown, root, other (and "number",
# whose the scripts are), sbatch (missing), folder, unread (and "file", "why") or rejected (and "words", Slurm's). Goes after as.sh and
# slurmctld.sh. Set before: $user, $job_folder, $options, $partition, $reservation.
find_slurm
find_account "$user" || { fact problem unknown; exit 0; }
know_account "$user"
[ "$as_number" != 0 ] || { fact problem root; exit 0; }
[ "$(id -u)" = 0 ] || [ "$as_number" = "$(id -u)" ] || { fact problem other; fact number "$(id -u)"; exit 0; }
(PATH=$users_path; command -v sbatch >/dev/null) || { fact problem sbatch; exit 0; }
as "$user" test -x "$job_folder" || { fact problem folder; exit 0; }
[ -z "$reservation" ] || exit 0 # --test-only refuses one that begins later, for which a job may wait
case $(pings) in *\ UP*) ;; *) exit 0 ;; esac # that slurmctld does not respond is another finding
unread=$(unreadable_for "$user" "$user")
[ -z "$unread" ] || { fact problem unread; printf '%s\n' "$unread"; exit 0; } # sbatch would look for it for a minute
ask() { rejected=$(printf '#!/bin/sh\ntrue\n' | eval "as_user \"\$user\" timeout 60 sbatch --test-only --time=1 $options" 2>&1); }
! ask || exit 0
# Slurm says the same of nodes that are all drained, of a closed partition, and of nodes that a slurmctld which has just started has not
# heard of yet (unk): the test job then says so, and an install continues
states=$(slurm timeout 30 sinfo --noheader --format '%a %t' ${partition:+"--partition=$partition"} 2>/dev/null || :)
some_take_jobs() (
    while read -r up state; do
        case $state in unk*) continue ;; esac
        ! takes_jobs "$up" "$state" || exit 0
    done
    exit 1
)
[ -z "$states" ] || printf '%s\n' "$states" | some_take_jobs || exit 0
! ask || exit 0 # slurmctld has heard of its nodes since the first time
fact problem rejected
fact words "$(printf %s "$rejected" | tr '\n' ' ' | cut -c 1-400)"
