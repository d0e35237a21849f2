# Whether slurmctld would start: whether Slurm can read slurm.conf, whether SlurmUser can prove who he is, where the state is and of
# which cluster, who has the port, which plugins Slurm has. Prints "name=value" lines. Only reads. Goes after slurm_start.sh.
# Set before: $folder, $unit.
find_slurm
[ -e "$folder/slurm.conf" ] && [ -n "$slurm_uid" ] || exit 0
fact_lines() { while IFS= read -r line; do fact "$1" "$line"; done; }
conf_problem "$folder/slurm.conf" | fact_lines unparsed
fact not_open "$not_open"
fact auth "$(auth_type)"
fact proof "$(auth_problem)"
fact state "$(conf_value StateSaveLocation)"
fact state_problem "$(state_problem)"
fact cluster "$(cluster_name)"
fact recorded "$(cluster_problem)"
fact holder "$(port_holder)"
fact as "$slurm_name"
