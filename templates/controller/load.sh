# loads: load the plugin's text from standard input as slurmctld would, as SlurmUser: a check must not run as root. Where SlurmUser is
# root, nobody else may be able to write the Lua or the text ($file's, else this tool's own). Prints the error if it fails.
# Goes after slurm_conf.sh. Set before: $file ("" for a text of this tool's), $lua, $program (load.lua), $hooks.
# Lua takes a program that begins with a comment for an option, hence the blank before it.
loads() {
    choose_runner "${file:-/}" && choose_runner "$lua" || return 1
    # shellcheck disable=SC2086 # words
    as "$runner" timeout 25 "$lua" -e " $program" /dev/null $hooks
}
