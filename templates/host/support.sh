# A host's versions, services and jobs for the support archive: "== COMMAND", then its output. Only reads. Goes after slurmctld.sh.
# Set before: $folder, $unit.
say() {
    case $1 in slurm) shift; with='slurm timeout 20' ;; *) with='timeout -k 3 20' ;; esac
    printf '%s\n' "== $*"
    $with "$@" 2>&1 </dev/null | tail -n 400
}
say date
say uname -a
say cat /etc/os-release
say uptime
say df -h
say cat /var/lib/dws-on-csm/runs.log
if command -v kubectl >/dev/null; then say kubectl version --client; fi
if command -v podman >/dev/null; then say podman --version; fi
if [ -e "$folder/slurm.conf" ]; then
    find_slurm
    [ -z "$program" ] || say slurm "$program" -V
    say ls -l "$folder"
    if systemd; then
        say systemctl status --no-pager --lines 0 "$unit"
        say journalctl --unit "$unit" --no-pager --lines 100
    fi
    log=$(log_file)
    [ -z "$log" ] || say slurm tail -n 400 -- "$log"
    if (PATH=$as_path; command -v scontrol >/dev/null); then
        say slurm scontrol ping
        say slurm squeue --all --format '%i %u %T %M %V %S %R'
        say slurm scontrol show burstbuffer
    fi
fi
