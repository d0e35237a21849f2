# loads: the plugin's text, from standard input, as slurmctld would load it, and as the user that slurmctld runs as: what is a check
# must not run as root. Where that is root, both the Lua and the text have to be what nobody else could write: the text is $file's,
# or else this tool's. Behind slurm_conf.sh.
# Lua takes a program that begins with a comment for an option, hence the blank before it.
loads() {
    obeys "${file:-/}" && obeys "$lua" || return 1
    # shellcheck disable=SC2086 # words
    as "$runner" timeout 25 "$lua" -e " $program" /dev/null $hooks
}
