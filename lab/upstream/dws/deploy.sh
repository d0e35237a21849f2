#!/bin/bash
# A fake DataWorkflowServices, written for the lab.
# deploy.sh deploy|undeploy KUSTOMIZE FOLDER: apply what kustomize makes of FOLDER, or delete it.
set -e -o pipefail
kustomize=$2
folder=$3

# A ServiceMonitor can only be made where somebody (Prometheus) has brought its CRD.
monitored() {
    kubectl get crd servicemonitors.monitoring.coreos.com > /dev/null 2>&1
}

without_namespace() {
    python3 -c '
import sys, yaml
print(yaml.dump_all(o for o in yaml.safe_load_all(sys.stdin) if o["kind"] != "Namespace"))'
}

case $1 in
deploy)
    "$kustomize" build "$folder" | kubectl apply -f -
    if monitored; then "$kustomize" build config/prometheus | kubectl apply -f -; fi
    ;;
undeploy)
    if monitored; then "$kustomize" build config/prometheus | kubectl delete --ignore-not-found -f -; fi
    "$kustomize" build "$folder" | without_namespace | kubectl delete --ignore-not-found -f -
    ;;
esac
