"""Slurm as CSM has it: a Job generates /etc/slurm from templates; slurmctld and its backup run in pods of a chart or an operator.

Two flavours. `helm`: Deployments of a Helm release in the namespace user, templates and Job in services. `operator`: a
tenant's Slurm in a namespace of its own, templates, Job and operator in slurm-operator. Names and labels are those of the
documents for administrators of CSM; the programs of Job and operator are fakes (go/slurm-config).
"""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import cache, go_builds, images, slurm
from lab.model import Lab
from lab.slurm_image import IMAGE

Object = dict[str, Any]
CONFIG_IMAGE = "lab.local/slurm-config:1"
PLACEHOLDER = "{{ nodes }}"
CLUSTER_PATH = "/apis/wlm.hpe.com/v1alpha1/namespaces/{}/slurmclusters/{}"


@dataclass(frozen=True)
class Flavour:
    """Where a flavour has its parts.

    namespace         of slurmctld's pods
    config_namespace  of the templates and of the Job
    templates, job    their names
    result            the ConfigMap that the Job writes, in `namespace`
    workloads         the Deployments of slurmctld: primary, backup
    label             the key of the label that selects the pods of one of them; its value is the name without the cluster's
    """

    namespace: str
    config_namespace: str
    templates: str
    job: str
    result: str
    workloads: tuple[str, str]
    label: str

    def selector(self, workload: str) -> tuple[str, str]:
        """The label of a Deployment's pods: key and value."""
        return self.label, workload.removeprefix("lab-")


FLAVOURS = {
    "helm": Flavour(
        "user",
        "services",
        "slurm-config-templates",
        "slurm-config",
        "slurm-conf",
        ("slurmctld", "slurmctld-backup"),
        "app",
    ),
    "operator": Flavour(
        "vcluster-lab-slurm",
        "slurm-operator",
        "lab-config-templates",
        "lab-slurm-config",
        "lab-slurm-conf",
        ("lab-slurmctld", "lab-slurmctld-backup"),
        "app.kubernetes.io/name",
    ),
}


def flavour(lab: Lab) -> Flavour:
    """The flavour of a lab that has one; KeyError for another lab."""
    return FLAVOURS[lab.options.csm]


def image(announce: Callable[[str], None] = go_builds.say) -> Path:
    """The image of Job and operator, an OCI archive of 6 MB, from the cache or made now."""
    program = go_builds.go_program("slurm-config", go_builds.MODULES / "slurm-config", ".", "", "5 s", announce)

    def make(folder: Path) -> None:
        images.archive(folder / "image.tar", CONFIG_IMAGE, {"/slurm-config": program}, ["/slurm-config"])

    return cache.entry("slurm-config-image", [program.parent.name, Path(images.__file__)], make, announce) / "image.tar"


def pods(lab: Lab) -> list[Object]:
    """slurmctld's pods as a site file names controllers: the primary first."""
    place = flavour(lab)
    selectors = {workload: "=".join(place.selector(workload)) for workload in place.workloads}
    return [
        {"namespace": place.namespace, "selector": selector, "container": "slurmctld", "name": workload}
        for workload, selector in selectors.items()
    ]


def manifests(lab: Lab) -> str:
    """The YAML that `kubectl apply -f -` takes."""
    place = flavour(lab)
    objects = [_namespace(name) for name in (place.namespace, place.config_namespace)]
    objects += [_volume(), _claim(place), _munge(lab, place), *_configuration(lab, place), _job(lab, place)]
    deployments = [deployment(lab, number) for number in (0, 1)]
    objects += deployments if lab.options.csm == "helm" else _operator(place, deployments)
    return yaml.safe_dump_all(objects, explicit_start=True, sort_keys=False)


def deployment(lab: Lab, number: int) -> Object:
    """The Deployment of slurmctld (0: primary, 1: backup), as its chart has it: applied again, it is the chart's upgrade."""
    place, worker = flavour(lab), lab.slurmctlds[number].name
    name = place.workloads[number]
    key, value = place.selector(name)
    labels: Object = {key: value}
    metadata: Object = {"name": name, "namespace": place.namespace, "labels": dict(labels)}
    if lab.options.csm == "helm":
        metadata["labels"] |= {"app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {
            "meta.helm.sh/release-name": "cray-slurmctld",
            "meta.helm.sh/release-namespace": place.namespace,
        }
    spec: Object = {
        # The compute nodes know slurmctld by the name of this worker, and have no routes to pods.
        "hostNetwork": True,
        "nodeSelector": {"kubernetes.io/hostname": worker},
        "terminationGracePeriodSeconds": 30,
        "containers": [_container(worker, first=number == 0)],
        "volumes": [
            {"name": "configuration", "configMap": {"name": place.result}},
            {"name": "state", "persistentVolumeClaim": {"claimName": "slurmctld-state"}},
            {"name": "munge", "secret": {"secretName": "munge-key", "defaultMode": 0o400}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def _container(worker: str, first: bool) -> Object:
    probe = {
        "exec": {"command": ["sh", "-c", f"scontrol ping | grep -q 'at {worker} is UP'"]},
        "periodSeconds": 1,
        "timeoutSeconds": 10,
        "failureThreshold": 120,
    }
    return {
        "name": "slurmctld",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        # On an empty StateSaveLocation a backup waits for the primary's first heartbeat: see files/slurm-backup.
        "env": [] if first else [{"name": "AWAITED_FILE", "value": "/var/lib/slurm/shared/heartbeat"}],
        "startupProbe": probe,
        "readinessProbe": probe | {"periodSeconds": 5, "failureThreshold": 2},
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/slurm", "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/slurm/shared"},
            {"name": "munge", "mountPath": "/run/secrets/munge", "readOnly": True},
        ],
    }


# --- what is generated, and the Job


def _configuration(lab: Lab, place: Flavour) -> list[Object]:
    files = slurm.configuration(lab)
    templates = {name: text for name, text in files.items() if name != slurm.NODES}
    metadata = {"name": place.templates, "namespace": place.config_namespace}
    writer = {"name": "slurm-config", "namespace": place.config_namespace}
    role = {"name": "slurm-config", "namespace": place.namespace}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"]}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": templates},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": writer},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": role, "rules": rules},
        _binding("Role", role, writer),
    ]


def _job(lab: Lab, place: Flavour) -> Object:
    nodes = slurm.configuration(lab)[slurm.NODES].partition("\n")[2].strip()
    container = {
        "name": "slurm-config",
        "image": CONFIG_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["render", "/templates", f"{place.namespace}/{place.result}"],
        "env": [{"name": "NODES", "value": nodes}],
        "volumeMounts": [{"name": "templates", "mountPath": "/templates", "readOnly": True}],
    }
    spec = {
        "serviceAccountName": "slurm-config",
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "templates", "configMap": {"name": place.templates}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": place.job, "namespace": place.config_namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }


# --- the operator


def _operator(place: Flavour, deployments: list[Object]) -> list[Object]:
    """SlurmCluster with its CRD, and the operator, which makes these Deployments and puts them back."""
    who = {"name": "slurm-operator", "namespace": place.config_namespace}
    owned = {"cluster": CLUSTER_PATH.format(place.namespace, "lab"), "deployments": deployments}
    data = {"owned.json": json.dumps(owned)}
    everything = {"apiGroups": ["wlm.hpe.com", "apps"], "resources": ["*"], "verbs": ["*"]}
    cluster_role = "rbac.authorization.k8s.io/v1"
    return [
        _crd(),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": who},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": who, "data": data},
        {"apiVersion": cluster_role, "kind": "ClusterRole", "metadata": {"name": who["name"]}, "rules": [everything]},
        _binding("ClusterRole", {"name": who["name"]}, who),
        _operator_deployment(who),
    ]


def slurm_cluster(lab: Lab) -> Object:
    """The custom resource of the tenant's Slurm; its CRD has to be served first."""
    return {
        "apiVersion": "wlm.hpe.com/v1alpha1",
        "kind": "SlurmCluster",
        "metadata": {"name": "lab", "namespace": flavour(lab).namespace},
        "spec": {"slurmctld": {"hosts": [host.name for host in lab.slurmctlds]}},
    }


def _crd() -> Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {
        "kind": "SlurmCluster",
        "listKind": "SlurmClusterList",
        "plural": "slurmclusters",
        "singular": "slurmcluster",
    }
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "slurmclusters.wlm.hpe.com"},
        "spec": {"group": "wlm.hpe.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _operator_deployment(who: Object) -> Object:
    container = {
        "name": "manager",
        "image": CONFIG_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["operate", "/owned/owned.json"],
        "volumeMounts": [{"name": "owned", "mountPath": "/owned", "readOnly": True}],
    }
    spec = {
        "serviceAccountName": who["name"],
        "containers": [container],
        "volumes": [{"name": "owned", "configMap": {"name": who["name"]}}],
    }
    labels = {"app": who["name"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": who,
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


# --- the rest


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _volume() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "slurmctld-state"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": "/var/lib/slurm/shared"},  # the same on the workers of slurmctld's pods
        },
    }


def _claim(place: Flavour) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # Bound from the start: the scheduler may not notice that a claim was bound since, and would try again only after minutes.
        "metadata": {
            "name": "slurmctld-state",
            "namespace": place.namespace,
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": "slurmctld-state",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def _munge(lab: Lab, place: Flavour) -> Object:
    metadata = {"name": "munge-key", "namespace": place.namespace}
    data = {"munge.key": b64encode(slurm.munge_key(lab)).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _binding(kind: str, role: Object, account: Object) -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": f"{kind}Binding",
        "metadata": role,
        "roleRef": {"apiGroup": group, "kind": kind, "name": role["name"]},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }
