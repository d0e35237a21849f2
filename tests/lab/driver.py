"""A storage driver for the lab: what one makes of DWS's kinds, and how it frees an instance that is deleted."""

import json
from typing import Any

from tests.lab.conftest import On
from tests.lab.scene import MASTER

GROUP = "dataworkflowservices.github.io"
FINALIZER = "driver.lab/persistent"
KEPT = ("systemconfigurations", "dwdirectiverules", "storages")

CONFIGURATION = f"""
apiVersion: {GROUP}/v1alpha2
kind: SystemConfiguration
metadata: {{name: default, namespace: default, labels: {{made-by: driver}}}}
spec:
  portsCooldownInSeconds: 30
  storageNodes:
  - {{type: Rabbit, name: rabbit-1, computesAccess: [{{name: nid000001, index: 0}}]}}
---
apiVersion: {GROUP}/v1alpha2
kind: DWDirectiveRule
metadata: {{name: tape, namespace: dws-system}}
spec:
- {{command: tape, ruleDefs: [{{key: "^reel$", type: integer, min: 1, max: 9}}]}}
---
apiVersion: {GROUP}/v1alpha2
kind: Storage
metadata: {{name: rabbit-1, namespace: default, annotations: {{slot: "7"}}, finalizers: [{FINALIZER}]}}
spec: {{state: Enabled}}
---
apiVersion: {GROUP}/v1alpha2
kind: Storage
metadata: {{name: rabbit-2, namespace: default}}
spec: {{state: Disabled, mode: Testing}}
"""

INSTANCE = f"""
apiVersion: {GROUP}/v1alpha2
kind: PersistentStorageInstance
metadata: {{name: NAME, namespace: default, finalizers: [{FINALIZER}]}}
spec: {{name: NAME, fsType: lustre, dwDirective: "#DW create_persistent type=lustre name=NAME", userID: 1500, state: Active}}
"""

SERVERS = f"""
apiVersion: {GROUP}/v1alpha2
kind: Servers
metadata:
  name: NAME
  namespace: default
  ownerReferences:
  - {{apiVersion: {GROUP}/v1alpha2, kind: PersistentStorageInstance, name: NAME, uid: "UID", controller: true}}
spec: {{allocationSets: [{{label: ost, allocationSize: 1073741824, storage: [{{name: rabbit-1, allocationCount: 2}}]}}]}}
"""

# What a driver does when one of its objects is deleted: it frees what that stands for, and then lets it go.
AT_WORK = f"""
while sleep 0.5; do
    for kind in persistentstorageinstances storages; do
        kubectl get $kind.{GROUP} --all-namespaces --no-headers \\
            --output custom-columns=:metadata.namespace,:metadata.name,:metadata.deletionTimestamp,:metadata.finalizers |
        while read -r space name deleted finalizers; do
            case $deleted/$finalizers in "<none>"/* | */"<none>") continue ;; esac
            [ $kind = storages ] || kubectl delete servers.{GROUP} "$name" --namespace "$space" --ignore-not-found
            kubectl patch $kind.{GROUP} "$name" --namespace "$space" --type merge --patch '{{"metadata":{{"finalizers":null}}}}'
        done
    done
done
"""


def configured(on: On) -> None:
    """A driver is at work, and has configured DWS."""
    on(MASTER, "systemctl stop lab-driver 2>/dev/null; systemctl reset-failed lab-driver 2>/dev/null; true")
    start = "systemd-run --quiet --unit lab-driver --setenv KUBECONFIG=/etc/kubernetes/admin.conf sh"
    on(MASTER, f"cat >/run/lab-driver && {start} /run/lab-driver", feed=AT_WORK)
    on(MASTER, "kubectl apply --filename -", feed=CONFIGURATION)


def instance(on: On, name: str) -> None:
    """A job of joe's left a persistent file system: 2 GiB on rabbit-1."""
    on(MASTER, "kubectl create --filename -", feed=INSTANCE.replace("NAME", name))
    at = f"kubectl get persistentstorageinstances.{GROUP} {name} --output jsonpath={{.metadata.uid}}"
    servers = SERVERS.replace("NAME", name).replace("UID", on(MASTER, at).strip())
    on(MASTER, "kubectl create --filename -", feed=servers)


def gone(on: On) -> None:
    """No driver any more, and nothing that one made."""
    kinds = " ".join(f"{kind}.{GROUP}" for kind in (*KEPT, "persistentstorageinstances", "servers"))
    each = f"for kind in {kinds}; do kubectl delete $kind --all --all-namespaces --ignore-not-found 2>/dev/null; done"
    on(MASTER, f"{each}; systemctl stop lab-driver; systemctl reset-failed lab-driver 2>/dev/null; true")


def content(on: On) -> dict[str, Any]:
    """What the driver had configured, as people care for it: without what servers, kubectl and drivers write themselves."""
    found: dict[str, Any] = {}
    for kind in KEPT:
        said = json.loads(on(MASTER, f"kubectl get {kind}.v1alpha2.{GROUP} --all-namespaces --output json"))
        for one in said["items"]:
            meta = one["metadata"]
            notes = {key: text for key, text in meta.get("annotations", {}).items() if not key.startswith("kubectl.")}
            found[f"{one['kind']} {meta['namespace']}/{meta['name']}"] = (meta.get("labels", {}), notes, one["spec"])
    return found
