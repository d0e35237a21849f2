# The file systems of a controller's folders, those that slurm.conf names among them. Goes after slurmctld.sh and host/file_systems.sh.
# Set before: $folder, $state.
set -- "$folder" /var/spool "${state%/*}" /tmp # the plugin's kubectl has its cache in /tmp, and the plugin the Workflow's text
for key in StateSaveLocation SlurmctldLogFile; do
    value=$(conf_value "$key")
    if [ "$key" = SlurmctldLogFile ]; then value=${value%/*}; fi
    case $value in /*) set -- "$@" "$value" ;; esac
done
file_systems "$@"
