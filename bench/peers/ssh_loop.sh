#!/bin/sh
# The floor: one ssh with one command for each host, BOUND of them at a time, and nothing else.
#   ssh_loop.sh edit|check BOUND SSH_CONFIG HOSTS CONF FOLDER [OPTION...]   HOSTS: a file with a host a line; OPTIONs are ssh's
set -eu
work=$1 bound=$2 config=$3 hosts=$4 conf=$5 folder=$6
shift 6
export conf
case $work in
edit) command="umask 022 && cat >$folder/.new && mv -f $folder/.new $folder/slurm.conf" ;;
*) command="cksum <$folder/slurm.conf" ;;
esac
# shellcheck disable=SC2016
xargs -P "$bound" -I '{}' sh -c 'host=$1; shift; exec ssh "$@" <"$conf"' sh '{}' -F "$config" "$@" '{}' "$command" <"$hosts" |
    sort | uniq -c
