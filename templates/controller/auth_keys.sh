# Prints a salted digest of each of Slurm's keys that is here: it says whether two controllers have the same key, and nothing else.
# Goes after as.sh: slurm.key may lie in SlurmUser's folder. Set before: $salt, $munge, $slurm (the files).
read_key() { timeout -k 3 20 sh -c "$regular$reads" sh "$1" 1 2>/dev/null </dev/null; }
digest() {
    # no variable can hold a key, which may be any bytes
    sum=$({ { printf %s "$salt"; read_key "$2" 3>&- || echo unread >&3; } | sha256sum | cut -c 1-16; } 3>&1)
    case $sum in *unread*) ;; *) printf '%s=%s\n' "$1" "$sum" ;; esac
}
! command -v sha256sum >/dev/null || { digest auth/munge "$munge"; digest auth/slurm "$slurm"; }
