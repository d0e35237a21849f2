# What there is to know of a host for somebody who helps: versions, services, jobs. Only reads.
say() {
    echo "== $*"
    timeout 20 "$@" 2>&1 </dev/null | tail -n 400
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
    slurm_path
    program=$(program)
    [ -z "$program" ] || say "$program" -V
    say ls -l "$folder"
    if systemd; then
        say systemctl status --no-pager --lines 0 "$unit"
        say journalctl --unit "$unit" --no-pager --lines 100
    fi
    log=$(log_file)
    [ ! -r "$log" ] || say tail -n 400 "$log"
    if command -v scontrol >/dev/null; then
        say scontrol ping
        say squeue --all --format '%i %u %T %M %V %S %R'
        say scontrol show burstbuffer
    fi
fi
