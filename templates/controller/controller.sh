# The facts of a controller for the check `controller`. Prints "name=value" lines: first those that only root decides, then those of
# SlurmUser's files and programs, none of which can produce a line of another name. Only reads. Goes after slurmctld.sh and lua.sh.
# Set before: $folder, $unit.
find_slurm
fact host "$(uname -n)"
fact fqdn "$(timeout -k 1 5 hostname -f 2>/dev/null </dev/null)"
fact addresses "$({ hostname -I || ip -o addr show | awk '{ sub("/.*", "", $4); print $4 }'; } 2>/dev/null </dev/null)"
fact main "$main"
fact user "$slurm_name"
fact uid "$slurm_uid"
fact lacks "$slurm_lacks"
fact why "$slurm_why"
if systemd; then
    systemctl show -p LoadState -p ActiveState "$unit"
fi
fact program "$program"
[ -z "$program" ] || fact version "$(slurm timeout 20 "$program" -V 2>/dev/null </dev/null | sed -n '1s/^.* //p')"

# --- another slurm.conf that slurmctld reads
other_confs | while IFS= read -r line; do fact elsewhere "$line"; done

# --- slurm.conf and its includes: path and content
if [ -e "$folder/slurm.conf" ]; then conf_texts file; fi

# --- this Slurm's burst_buffer_lua.so: next to the plugins in use, else where packages install it
{
    [ -z "$main" ] || read_proc "$main" maps | sed -n 's|^.* \(/[^ ]*\)/[^/ ]*\.so$|\1|p' | grep -i slurm | sort -u
    conf_value PluginDir | tr : '\n'
    [ -z "$program" ] || ls -d "${program%/*/*}"/lib*/slurm "${program%/*/*}"/lib*/slurm-wlm "${program%/*/*}"/lib/*/slurm-wlm 2>/dev/null
    ls -d /usr/lib64/slurm /usr/lib/slurm /usr/lib/*/slurm-wlm /usr/lib/*/slurm 2>/dev/null
} | while IFS= read -r place; do
    library=$place/burst_buffer_lua.so
    [ -f "$library" ] || continue
    fact library "$library"
    timeout -k 1 5 ls -- "$place" 2>/dev/null | sed -n 's/^\([a-z0-9_]*\)\.so$/plugin=\1/p'
    # It may be another user's, or have become a fifo, or have no end. It is read whole, or not at all: half of it would lack
    # functions. Their names stand in it whole: of the functions that it looks for, and of the Lua that it opens.
    if content=$(text_of "$(choose_reader "$slurm_uid" "$library")" "$library"); then
        reads() { printf %s "$content" | base64 -d | grep "$@"; }
        reads -azx 'slurm_bb_[a-z_]*' | tr '\0' '\n' | sort -u | sed 's/^/hook=/'
        # read by the loader alone, which starts nothing of it
        slurm timeout 10 ldd -- "$library" 2>/dev/null </dev/null | sed -n 's/^[[:space:]]*\(liblua[^ ]*\) => not found$/absent=\1/p'
        reads -aoE 'liblua[.a-z-]*-?5\.[1-9]' | sed 's/.*\(5\.[1-9]\)$/linked=\1/' | sort -u
    else
        fact unreadable_library "$library"
    fi
    break
done

# --- interpreters that could load the plugin's file
case $slurm_uid in '') runs=nobody ;; 0) runs=root ;; *) runs=$slurm_uid ;; esac
interpreters "$runs" | sed 's/^/lua=/'

# --- kubectl on slurmctld's PATH
guessed=
if [ -n "$main" ]; then
    searched=$(path_of "$main")
    [ -n "$searched" ] || read_proc "$main" environ >/dev/null ||
        guessed=" (assumed: the environment of slurmctld cannot be read)"
elif systemd; then
    searched=$(systemctl show-environment | sed -n 's/^PATH=//p')
fi
searched=${searched:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin}
fact path "$searched$guessed"
printf '%s\n' "$searched" | tr : '\n' | while IFS= read -r place; do
    [ ! -x "$place/kubectl" ] || { fact kubectl "$place/kubectl"; break; }
    [ ! -f "$place/kubectl" ] || fact closed "$place/kubectl"
done
