# Where slurmctld writes its log, as slurm.conf or what it includes says: a path, or nothing where it is told to nobody.
log_file() {
    [ -e "$folder/slurm.conf" ] || return 0
    conf_files | while IFS= read -r one; do cat -- "$one" 2>/dev/null; done |
        sed -n 's/^[[:space:]]*[Ss][Ll][Uu][Rr][Mm][Cc][Tt][Ll][Dd][Ll][Oo][Gg][Ff][Ii][Ll][Ee][[:space:]]*=[[:space:]]*\([^#[:space:]]*\).*/\1/p' |
        tail -n 1 | grep '^/' || :
}
