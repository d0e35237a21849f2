# What is so on a controller, before anything is done there. Prints "name=value" lines. Only reads.
slurm_path
main=$(main_pid)
program=$(program)
echo "host=$(uname -n)"
echo "program=$program"
[ -z "$program" ] || echo "version=$(slurm "$program" -V 2>/dev/null </dev/null | sed 's/^.* //')"
echo "main=$main"
if systemd; then
    systemctl show -p LoadState -p ActiveState "$unit"
fi
user=$(slurm_user)
echo "user=$user"
echo "uid=$(id -u -- "$user" 2>/dev/null)"

# --- slurm.conf and its includes: path and content
if [ -e "$folder/slurm.conf" ]; then conf_texts file; fi

# --- the burst buffer plugin of this Slurm: the one beside the plugins in use, else the one where packages put it
folders=$(
    [ -z "$main" ] || of_process "$main" maps | sed -n 's|^.* \(/[^ ]*\)/[^/ ]*\.so$|\1|p' | grep -i slurm | sort -u
    [ ! -e "$folder/slurm.conf" ] || conf_said PluginDir | tr : '\n'
    [ -z "$program" ] || ls -d "${program%/*/*}"/lib*/slurm "${program%/*/*}"/lib*/slurm-wlm "${program%/*/*}"/lib/*/slurm-wlm 2>/dev/null
    ls -d /usr/lib64/slurm /usr/lib/slurm /usr/lib/*/slurm-wlm /usr/lib/*/slurm 2>/dev/null
)
for place in $folders; do
    [ -f "$place/burst_buffer_lua.so" ] || continue
    library=$place/burst_buffer_lua.so
    echo "library=$library"
    # The names stand in the library whole: of the functions that it looks for, and of the Lua that it opens.
    grep -azx 'slurm_bb_[a-z_]*' "$library" | tr '\0' '\n' | sort -u | sed 's/^/hook=/'
    grep -aoE 'liblua[.a-z-]*-?5\.[1-9]' "$library" | sed 's/.*\(5\.[1-9]\)$/linked=\1/' | sort -u
    break
done

# --- interpreters that could load the plugin's file
interpreters "$user" | sed 's/^/lua=/'

# --- kubectl, where slurmctld would find it
if [ -n "$main" ]; then
    searched=$(of_process "$main" environ | tr '\0' '\n' | sed -n 's/^PATH=//p')
elif systemd; then
    searched=$(systemctl show-environment | sed -n 's/^PATH=//p')
fi
searched=${searched:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin}
echo "path=$searched"
for place in $(echo "$searched" | tr : ' '); do
    [ ! -x "$place/kubectl" ] || { echo "kubectl=$place/kubectl"; break; }
done
