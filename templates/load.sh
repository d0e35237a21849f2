# Lua takes a program that begins with a comment for an option, hence the blank before it.
# Loads the plugin's text, from standard input, as the user that slurmctld runs as ($user). What is a check must not run as root.
if [ "$user" = root ]; then
    exec "$lua" -e " $program" /dev/null $hooks
fi
exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$lua" -e " $program" /dev/null $hooks
