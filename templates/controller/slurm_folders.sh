# Prints who can write slurm.conf, its includes, and the folders of all files that slurmctld reads or this tool writes, a line each,
# for the check `folders`. Names are separated by tabs, as they may contain blanks:
#   file USER GROUP MODE PATH     slurm.conf, or a file that it includes
#   folder USER GROUP MODE PATH   such a folder
#   above USER GROUP MODE PATH    one above it
#   member GROUP USER             who is in a group that can write to one of them
#   acl PATH                      one of them with an ACL: the group's write bit also applies to everybody whom it names
#   dangling PATH TARGET          a file that is a link to nothing
#   link REASON                   a file that root neither reads nor writes, because it is a link in a folder of others
# Goes after safe_file.sh and slurmctld.sh. Set before: $folder (of slurm.conf), $files (quoted paths). Only reads.
tab='	'
whose() { # file|folder|above PATH
    state=$(stat --printf '%U\t%G\t%a' -- "$2") || return 0 # it is gone
    printf '%s %s\t%s\n' "$1" "$state" "$2"
    mode=${state##*"$tab"} group=${state#*"$tab"} group=${group%"$tab"*}
    case $mode in *[2367]?) ;; *) return 0 ;; esac
    case $(LC_ALL=C ls -ld -- "$2") in ??????????+*) printf 'acl %s\n' "$2" ;; esac
    {
        getent group "$group" | cut -d: -f4 | tr , '\n'
        timeout --foreground -k 1 5 getent passwd | awk -F: -v number="$(getent group "$group" | cut -d: -f3)" '$4 == number { print $1 }'
    } | sort -u | sed '/^$/d' | while IFS= read -r one; do printf 'member %s\t%s\n' "$group" "$one"; done
}
confs=
eval "set -- $files"
if [ -e "$folder/slurm.conf" ]; then
    set -f # a path may contain pattern characters
    # shellcheck disable=SC2046 # Slurm takes no blank in a path either
    confs=$(conf_files) && set -- "$@" $confs
    # slurmctld, slurmd and Slurm's commands load what is in these
    # shellcheck disable=SC2046 # the same
    set -- "$@" $(conf_value PluginDir | tr : '\n' | sed -n 's|^/.*|&/burst_buffer_lua.so|p')
fi
for file in "$@"; do
    if [ -L "$file" ] && [ ! -e "$file" ]; then
        printf 'dangling %s\t%s\n' "$file" "$(readlink -- "$file" | tr '\t' ' ' | head -n 1)"
        continue
    fi
    if ! path=$(real_path "$file" 2>&1); then printf 'link %s\n' "$path"; continue; fi
    case $newline$confs$newline in *"$newline$file$newline"*) [ ! -f "$path" ] || printf 'file %s\n' "$path" ;; esac
    path=${path%/*}
    [ ! -d "$path/" ] || printf 'folder %s\n' "$path"
    while [ -n "$path" ]; do
        path=${path%/*}
        printf 'above %s\n' "${path:-/}"
    done
done | awk '!seen[$0]++' | while IFS= read -r line; do
    case $line in link\ * | dangling\ *) printf '%s\n' "$line" ;; *) whose "${line%% *}" "${line#* }" ;; esac
done
