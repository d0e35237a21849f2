# vanishing FOLDER: it goes with this shell, however that is ended. Of a signal alone dash would leave it; and `timeout` sends
# its signal twice, of which the second must not stop what the first has begun.
vanishing() {
    vanishing=$1
    trap 'rm -rf -- "$vanishing"' EXIT
    trap 'trap "" HUP TERM PIPE; exit 143' HUP TERM PIPE
}

# in_memory WHO: a folder in memory, $work, where root writes; and $home in it, which is that account's and where root writes nothing:
# whoever owns a folder can have a link in it where a file of root's is to be. It is removed without following any.
in_memory() {
    account "$1" || return 1
    work=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX)
    home=$work/home
    mkdir -m 700 "$home"
    chown -h "$as_number:$as_group" "$home"
    chmod 711 "$work"
}

# runner_kubectl SECONDS KUBECONFIG ARGUMENTS...: kubectl as the account $runner (`obeys KUBECONFIG` sets it: a kubeconfig may name
# programs to run). Set before: $runner; $home, that account's folder for kubectl's cache (in_memory); $kubectl_path: the PATH of
# kubectl, or "" for that of `as`.
runner_kubectl() {
    within_=$1 kubeconfig_=$2
    shift 2
    as "$runner" timeout "$within_" env ${kubectl_path:+"PATH=$kubectl_path"} HOME="$home" \
        kubectl --kubeconfig "$kubeconfig_" --cache-dir "$home" "$@"
}
