# How many jobs run and wait in Slurm, and how long slurmctld took to respond after the last restart by an activation here. Prints
# "name=value" lines. Only reads. Goes after slurmctld.sh. Set before: $folder, $unit, $state.
find_slurm
# Without an answer squeue would try for as long as MessageTimeout.
case $(named_pings) in
*\ UP*)
    if states=$(slurm timeout 10 squeue --noheader --all --states=PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED --format=%T \
        2>/dev/null </dev/null); then
        printf '%s\n' "$states" | awk '
            $1 == "PENDING" { pending++; next }
            NF { running++ }
            END { printf "running=%d\npending=%d\n", running, pending }'
    fi
    ;;
esac
[ ! -e "$state/activation" ] || sed -n 's/^seconds=/seconds=/p' "$state/activation"
