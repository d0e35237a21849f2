# A host's versions, services and jobs for the support archive: "== COMMAND", then its output. Only reads. Goes after slurmctld.sh.
# Set before: $folder, $unit, $state.
show() {
    case $1 in slurm) shift; with='slurm timeout 20' ;; *) with='timeout -k 3 20' ;; esac
    printf '%s\n' "== $*"
    $with "$@" 2>&1 </dev/null | tail -n 400
}
show date
show uname -a
show cat /etc/os-release
show uptime
show df -h
show cat "$state/runs.log"
if command -v kubectl >/dev/null; then show kubectl version --client; fi
if command -v podman >/dev/null; then show podman --version; fi
if [ -e "$folder/slurm.conf" ]; then
    find_slurm
    [ -z "$program" ] || show slurm "$program" -V
    show ls -l "$folder"
    if systemd; then
        show systemctl status --no-pager --lines 0 "$unit"
        show journalctl --unit "$unit" --no-pager --lines 100
    fi
    log=$(log_file)
    [ -z "$log" ] || show slurm tail -n 400 -- "$log"
    if (PATH=$as_path; command -v scontrol >/dev/null); then
        show slurm scontrol ping
        show slurm squeue --all --format '%i %u %T %M %V %S %R'
        show slurm scontrol show burstbuffer
    fi
fi
