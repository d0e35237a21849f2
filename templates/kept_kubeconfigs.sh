# The kubeconfigs that runs have kept as before-images: a line RUN CERTIFICATE MAY SAID each, with tabs between.
# MAY and SAID only with $call: whether it may create Workflows ("yes", "no"), and what a call as the plugin makes it says.
# Set before: $state, $kubeconfig, $call, $workflows. No key is printed.
file=$(readlink -f "$kubeconfig" || echo "$kubeconfig")
cache=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX)
vanishing "$cache"
old() { timeout --foreground 20 env HOME="$cache" kubectl --kubeconfig "$image" --cache-dir "$cache" "$@"; }
for image in "$state"/before/*"$file"; do
    [ -f "$image" ] || continue
    run=${image#"$state/before/"}
    may='' said=''
    if [ -n "$call" ]; then
        may=$(old auth can-i create "$workflows" 2>/dev/null) || true
        said=$(old get "$workflows" 2>&1 | tail -n 1 | tr '\t' ' ') || true
    fi
    certificate=$(sed -n 's/^[- ]*client-certificate-data: *"*\([^"]*\)"*$/\1/p' "$image" | head -n 1)
    printf '%s\t%s\t%s\t%s\n' "${run%%/*}" "$certificate" "$may" "$said"
done
