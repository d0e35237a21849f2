# Prints the kubeconfigs among the before-images, recognized by their content: lines "RUN CERTIFICATE FITS MAY SAID", separated by tabs.
# FITS: whether the key beside it is its own, see key_fits.sh. RUN includes the path if it was not $kubeconfig (links resolved). MAY and SAID only with $call: whether it may create Workflows
# ("yes", "no"), and the last line of a call like the plugin's. Prints no key.
# Goes after as.sh, temporary.sh and key_fits.sh. Set before: $state, $kubeconfig, $call, $workflows, $namespace, $cluster (of a kubeconfig, JSON).
# A kubeconfig of SlurmUser's may name programs to run, files to read and servers to call: kubectl never sees it. Certificate and key
# are copied into a kubeconfig of our own with the cluster's address and CA. That file has no name: only /proc leads to it, and it
# disappears with this script.
file=$(readlink -m -- "$kubeconfig")
umask 077
make_memory_folder root
remove_at_exit "$work"
# from $content, which was read completely: a pipe would hide a read error
values() { printf %s "$content" | base64 -d | grep -aoE "$1\"? *: *\"?[A-Za-z0-9+/=]+" | sed 's/.*[: "]//'; }
ours() {
    user=$(printf '{"client-certificate-data": "%s", "client-key-data": "%s"}' "$certificate" "$key")
    context=$(printf '{"cluster": "c", "user": "u", "namespace": "%s"}' "$namespace")
    printf '{"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [{"name": "c", "cluster": %s}], "contexts": [{"name": "x", "context": %s}], "users": [{"name": "u", "user": %s}]}' \
        "$cluster" "$context" "$user"
}
runner=root
old() { runner_kubectl 20 /proc/self/fd/3 "$@" </dev/null; }
[ -d "$state/before" ] || exit 0
images=$(find "$state/before" -mindepth 3 -type f ! -name '*.part') || exit 1
printf '%s\n' "$images" | sort | sed '/^$/d' | while IFS= read -r image; do
    path=${image#"$state/before/"}
    run=${path%%/*}
    path=${path#"$run"}
    [ "$(readlink -m -- "$path")" = "$file" ] || run="$run $path"
    content=$(base64 -w 0 "$image") || exit 1
    number=0
    for certificate in $(values client-certificate-data); do
        number=$((number + 1))
        may='' said=''
        key=$(values client-key-data | sed -n "${number}p")
        if [ -n "$call" ]; then
            : >"$work/ours"
            exec 3<>"$work/ours"
            rm -f "$work/ours" # before the key is written to it
            ours >&3
            may=$(old auth can-i create "$workflows" 2>/dev/null) || true
            said=$(old get "$workflows" 2>&1 | tail -n 1 | tr '\t' ' ') || true
            exec 3<&-
        fi
        if [ "$number" = 1 ]; then at=$run; else at="$run, user $number"; fi
        printf '%s\t%s\t%s\t%s\t%s\n' "$at" "$certificate" "$(key_fits "$certificate" "$key")" "$may" "$said"
    done
done
