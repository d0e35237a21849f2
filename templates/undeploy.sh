# DWS taken out of the cluster with its own clone, unless a Workflow has come since it was looked for: that would hold the
# undeploy for ever. Set before: $clone, $command, $patience (seconds), $group (of DWS's CRDs).
cd "$clone"

# objects CRD: NAMESPACE NAME FINALIZERS of each, a line; nothing where there is no such CRD
objects() {
    if [ -n "$(kubectl get crd "$1" --ignore-not-found --output name)" ]; then
        kubectl get "$1" --all-namespaces --ignore-not-found --no-headers \
            --output custom-columns=:metadata.namespace,:metadata.name,:metadata.finalizers
    fi
}

left=$(objects "workflows.$group")
if [ -n "$left" ]; then
    echo "a Workflow has come meanwhile, so nothing was undeployed:"
    echo "$left"
    exit 1
fi
code=0
timeout "$patience" bash -o pipefail -c "$command" || code=$?
if [ "$code" = 124 ]; then
    echo "not through after $patience s; what is still there (namespace, name, finalizers):"
    for crd in $(kubectl get crd --output name | grep "\.$group\$"); do
        echo "${crd#*/}"
        objects "${crd#*/}"
    done
fi
exit "$code"
