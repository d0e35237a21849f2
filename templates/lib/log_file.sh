# Where slurmctld writes its log, as slurm.conf or what it includes says: a path, or nothing where it is told to nobody.
log_file() {
    [ -e "$folder/slurm.conf" ] || return 0
    conf_said SlurmctldLogFile | grep '^/' || :
}
