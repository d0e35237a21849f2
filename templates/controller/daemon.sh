# The state of this host's slurmctld. Prints "name=value" lines: when it started, when its files changed, what it responds. Only reads.
# Goes after slurmctld.sh. Set before: $folder, $unit, $state.
find_slurm
echo "main=$main"
if [ -n "$main" ]; then
    echo "started=$(start_time "$main")"
    # Only this proves that the plugin is loaded: scontrol shows slurm.conf as it was read last.
    ! read_proc "$main" maps | grep '/burst_buffer_lua\.so' >/dev/null || echo "loaded=yes"
elif systemd; then
    # started by hand: its unit does not know it
    for one in $(pgrep -x slurmctld); do
        if is_slurms "$one"; then fact outside "$one"; fi
    done
    # how it ended, and what memory it may have; 18446744073709551615 is an older systemd's word for infinity
    fact ended "$(systemctl show -p Result -p LimitAS -p MemoryMax "$unit" | grep -vE '=(|success|infinity|18446744073709551615)$' | paste -sd ' ' -)"
fi
# read_so FILE: whether a record says that slurmctld has read the file's present text (pod_start_files.sh)
recorded=
! is_recorded "$main" || recorded=yes
read_so() {
    [ -n "$recorded" ] && sum=$(sum_of "$1") &&
        grep -qxF "file=$sum $1" "$state/activation" && printf 'changed=0 %s\n' "$1"
}
start_files | while IFS= read -r file; do
    # the inode's time: a file that was restored with an old date has changed all the same
    read_so "$file" || stat -L -c 'changed=%.2Z %n' -- "$file"
done
[ ! -e "$state/activation" ] || sed -n 's/^sum=/activated=/p' "$state/activation"
[ ! -e "$state/added" ] || tail -n 20 "$state/added" | sed 's/^/added=/'
# The texts that this process read when it started, if an activation recorded them, and the files' present texts. After
# `scontrol reconfigure` it may have read more: the texts then differ, and a finding asks.
if [ -n "$main" ] && [ -e "$state/activation" ] && grep -qxF "process=$(identity "$main")" "$state/activation"; then
    was=$(sed -n 's/^text=/was=/p' "$state/activation")
    is=$(conf_texts was | grep '^was=')
    if [ "$was" = "$is" ]; then
        echo same=yes
    elif [ -n "$was" ]; then
        printf '%s\n' "$was"
        printf '%s\n' "$is" | sed 's/^was=/is=/'
    fi
fi
pings=$(named_pings)
if [ -n "$pings" ]; then
    printf '%s\n' "$pings" | sed 's/^/named=/'
    printf '%s\n' "$pings" | mark_local | sed 's/^/ping=/'
fi
# Without an answer scontrol would try for as long as MessageTimeout.
case $pings in *\ UP*)
    fact type "$(running_setting 30 BurstBufferType)"
    ;;
esac
# What it said last, where this host's does not run or respond: "said=LINE". SlurmUser writes the log, so root does not read it.
last_words() {
    log=$(log_file)
    [ -z "$log" ] || slurm timeout 10 tail -c 50000 -- "$log" 2>/dev/null </dev/null | grep -aE '(error|fatal): |Terminate signal' | tail -n 5
    ! systemd || timeout -k 1 10 journalctl -q -n 30 -o cat -u "$unit" 2>/dev/null </dev/null |
        grep -aE 'Failed at step|Failed to (start|load|set up)|timed out|oom-kill|start request repeated' | tail -n 1
}
printf '%s\n' "$pings" | mark_local | grep -qx 'here UP' || last_words | cut -c 1-300 | sed 's/^/said=/'
