# Who can write to the folders of the files that slurmctld reads and this tool writes, a line each, for `folders` to judge, with
# tabs between names, which may have blanks:
#   folder USER GROUP MODE PATH   such a folder
#   above USER GROUP MODE PATH    one above it
#   member GROUP USER             who is in a group that can write to one of them
#   link REASON                   a file that root neither reads nor writes, since it is a link in a folder of others
# Goes behind safe_file.sh and slurmctld.sh. Set before: $folder (of slurm.conf), $files (quoted paths). Only reads.
whose() { # folder|above PATH
    set -- "$1" "$2" "$(stat -c %U -- "$2")" "$(stat -c %G -- "$2")" "$(stat -c %a -- "$2")"
    printf '%s %s\t%s\t%s\t%s\n' "$1" "$3" "$4" "$5" "$2"
    case $5 in *[2367]?) ;; *) return 0 ;; esac
    {
        getent group "$4" | cut -d: -f4 | tr , '\n'
        timeout --foreground -k 1 5 getent passwd | awk -F: -v number="$(getent group "$4" | cut -d: -f3)" '$4 == number { print $1 }'
    } | sort -u | sed '/^$/d' | while IFS= read -r one; do printf 'member %s\t%s\n' "$4" "$one"; done
}
eval "set -- $files"
if [ -e "$folder/slurm.conf" ]; then
    set -f # a name is a name, whatever is in it
    # shellcheck disable=SC2046 # Slurm takes no blank in a path either
    set -- "$@" $(conf_files)
fi
for file in "$@"; do
    if ! path=$(real "$file" 2>&1); then printf 'link %s\n' "$path"; continue; fi
    path=${path%/*}
    [ ! -d "$path/" ] || printf 'folder %s\n' "$path"
    while [ -n "$path" ]; do
        path=${path%/*}
        printf 'above %s\n' "${path:-/}"
    done
done | awk '!seen[$0]++' | while IFS= read -r line; do
    case $line in link\ *) printf '%s\n' "$line" ;; *) whose "${line%% *}" "${line#* }" ;; esac
done
