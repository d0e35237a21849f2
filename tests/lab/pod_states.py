"""What a site can have made of slurmctld's pod: other mounts, keepers of its objects, a StatefulSet."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

CONFIG, NAME = "configmap slurm-conf", "slurmctld"
Kubectl = Callable[[str], str]
"""kubectl(WORDS) in the pod's namespace, as the admin on the master."""

FILES = ("slurm.conf", "nodes.conf", "cgroup.conf")
SUBPATHS = [{"name": "configuration", "mountPath": f"/etc/slurm/{one}", "subPath": one} for one in FILES]
WHOLE = [{"name": "configuration", "mountPath": "/etc/slurm", "readOnly": True}]
LISTED = {"name": "slurm-conf", "items": [{"key": one, "path": one} for one in FILES]}
CONTAINER = "/spec/template/spec/containers/0/volumeMounts"


def mounted(kubectl: Kubectl, mounts: list[dict[str, Any]], config_map: dict[str, Any]) -> None:
    """The Deployment with these mounts of its ConfigMap, this source as its volume, in a new pod."""
    spec = json.loads(kubectl(f"get deployment {NAME} --output=json"))["spec"]["template"]["spec"]
    others = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] != "configuration"]
    number = [one["name"] for one in spec["volumes"]].index("configuration")
    volume = {"name": "configuration", "configMap": config_map}
    changes = {CONTAINER: mounts + others, f"/spec/template/spec/volumes/{number}": volume}
    patch = [{"op": "replace", "path": path, "value": value} for path, value in changes.items()]
    kubectl(f"patch deployment {NAME} --type=json --patch '{json.dumps(patch)}'")
    kubectl(f"rollout status deployment/{NAME} --timeout=120s")


@contextmanager
def owned(kubectl: Kubectl) -> Iterator[None]:
    """ConfigMap and Deployment belong to an object, as what an operator makes does."""
    uid = kubectl("get configmap kube-root-ca.crt --output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": uid, "controller": True}

    def write(owners: list[dict[str, Any]]) -> None:
        patch = json.dumps({"metadata": {"ownerReferences": owners}})
        for one in (CONFIG, f"deployment {NAME}"):
            kubectl(f"patch {one} --type=merge --patch '{patch}'")

    write([owner])
    try:
        yield
    finally:
        write([])


@contextmanager
def _marked(kubectl: Kubectl, *marks: tuple[str, str, str]) -> Iterator[None]:
    """Each mark is kubectl's verb, the object, and KEY=VALUE; they go again."""
    for verb, one, mark in marks:
        kubectl(f"{verb} {one} {mark}")
    try:
        yield
    finally:
        for verb, one, mark in marks:
            kubectl(f"{verb} {one} {mark.partition('=')[0]}-")


def released_by_helm(kubectl: Kubectl) -> AbstractContextManager[None]:
    """ConfigMap and Deployment are Helm's: by the annotation that it makes, and by the label of its charts."""
    return _marked(
        kubectl,
        ("annotate", CONFIG, "meta.helm.sh/release-name=slurm"),
        ("label", f"deployment {NAME}", "app.kubernetes.io/managed-by=Helm"),
    )


def delivered(kubectl: Kubectl) -> AbstractContextManager[None]:
    """The ConfigMap is delivered by Flux, the Deployment by Argo CD: by the marks that they make."""
    return _marked(
        kubectl,
        ("label", CONFIG, "kustomize.toolkit.fluxcd.io/name=site"),
        ("annotate", f"deployment {NAME}", f"argocd.argoproj.io/tracking-id=wlm:apps/Deployment:user/{NAME}"),
    )


def as_a_stateful_set(kubectl: Kubectl, config: dict[str, str]) -> None:
    """The Deployment's place is taken by a StatefulSet with the same template, and its first pod reads this ConfigMap."""
    spec = json.loads(kubectl(f"get deployment {NAME} --output=json"))["spec"]
    same = {key: spec[key] for key in ("replicas", "selector", "template")}
    made = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": NAME},
        "spec": {"serviceName": NAME, **same},
    }
    kubectl(f"delete deployment {NAME} --cascade=foreground")
    patch = json.dumps({"data": config})
    kubectl(f"patch {CONFIG} --type=merge --patch-file=/dev/stdin <<'JSON'\n{patch}\nJSON")
    kubectl(f"create --filename=- <<'JSON'\n{json.dumps(made)}\nJSON")
    kubectl(f"rollout status statefulset/{NAME} --timeout=120s")
