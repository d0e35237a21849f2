# The state of this host's slurmctld: since when it runs, when the files that it reads were changed, what it answers.
slurm_path
main=$(main_pid)
echo "main=$main"
if [ -n "$main" ]; then
    echo "started=$(started "$main")"
    # The one proof that the plugin was loaded: scontrol shows what slurm.conf said when it was read last.
    ! of_process "$main" maps | grep -q '/burst_buffer_lua\.so' || echo "loaded=yes"
fi
# Whether it is known that slurmctld has read the file as it is now (pod_noted.sh).
read_so() {
    [ -e "$state/activation" ] && sum=$(sum_of "$1") &&
        grep -qxF "file=$sum $1" "$state/activation" && printf 'changed=0 %s\n' "$1"
}
start_files | while IFS= read -r file; do
    # of the inode, not of the content: a file that was restored with an old date was changed all the same
    read_so "$file" || stat -L -c 'changed=%.2Z %n' -- "$file"
done
[ ! -e "$state/activation" ] || sed -n 's/^sum=/activated=/p' "$state/activation"
# What this very process read when it started, where an activation noted that, and what the files say now. After
# `scontrol reconfigure` it may have read more: then it is said to differ, which is asked about, and not taken for the same.
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
told=$(pinged)
if [ -n "$told" ]; then
    printf '%s\n' "$told" | sed 's/^/named=/'
    printf '%s\n' "$told" | located | sed 's/^/ping=/'
fi
# Without an answer scontrol would try for as long as MessageTimeout.
case $told in *\ UP*)
    fact type "$(running_setting 30 BurstBufferType)"
    ;;
esac
