# loads: the plugin's text, from standard input, as slurmctld would load it, and as the user that slurmctld runs as ($user): what is a
# check must not run as root. Where that is root, the text has to be one that nobody else could write: $file, if it came from there.
# Lua takes a program that begins with a comment for an option, hence the blank before it.
loads() {
    if [ "$user" = root ] && [ -n "$file" ] && ! roots "$file"; then
        echo "others than root can write $file, and SlurmUser is root: it was not tried" >&2
        return 1
    fi
    as "$user" "$lua" -e " $program" /dev/null $hooks
}
