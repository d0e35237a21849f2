"""A site in memory, as discover sees it: the objects of its cluster, and what its hosts say."""

from __future__ import annotations

from typing import Any

from dws_on_csm.commands.discover.cluster import PodSlurm, Slurmctld, View
from dws_on_csm.commands.discover.hosts import HostSlurm, SlurmHost
from dws_on_csm.commands.discover.login import Login
from dws_on_csm.commands.discover.master import MasterView
from dws_on_csm.commands.discover.proposal import Seen
from dws_on_csm.commands.discover.slurm import Configuration, Users
from dws_on_csm.config.site import Pod
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.stages.slurm.slurmctld_hosts import Entry

Json = dict[str, Any]


class Api:
    """The Kubernetes API of objects by path; a collection is what lies directly below it, and apps/v1 lists all namespaces."""

    def __init__(self, objects: dict[str, Json]) -> None:
        self.objects = objects

    def get(self, path: str, **query: str) -> Json | None:
        """An object, or the list of a collection, by its labels."""
        if path in self.objects:
            return self.objects[path]
        every = path.startswith("/apis/apps/v1/") and path.count("/") == 4
        last = path.rpartition("/")[2]
        items = [
            item
            for at, item in self.objects.items()
            if at.rpartition("/")[0] == path or (every and at.split("/")[-2] == last)
        ]
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        items = [item for item in items if wanted.items() <= item["metadata"].get("labels", {}).items()]
        return {"items": items} if items or last in ("pods", "nodes", "jobs") else None

    def metadata(self, path: str) -> list[Json]:
        """The metadata of a collection. Refused for all Secrets, as for an account that may not list them."""
        if path == "/api/v1/secrets" and "/forbidden" in self.objects:
            raise ClusterError(403, "secrets is forbidden")
        answer = self.get(path) or {"items": []}
        if path == "/api/v1/secrets":
            answer = {"items": [item for at, item in self.objects.items() if "/secrets/" in at]}
        return [item["metadata"] for item in answer["items"]]


def workload(namespace: str, name: str, labels: Json, kind: str = "Deployment", **spec: Any) -> dict[str, Json]:
    """A Deployment or StatefulSet with one container slurmctld, and one running pod of it."""
    plural = f"{kind.lower()}s"
    meta = {"namespace": namespace, "name": name}
    volumes = [{"name": "conf", "configMap": {"name": spec.pop("files", "slurm-conf")}}]
    mounts = [{"name": "conf", "mountPath": "/etc/slurm"}]
    container = {"name": spec.pop("container", "slurmctld"), "image": "registry.local/slurm:1", "volumeMounts": mounts}
    owner = {"controller": True, "kind": kind, "name": name}
    pod_spec = {"containers": [container], "volumes": volumes}
    pod_meta = {"name": f"{name}-0", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    pod = {"metadata": pod_meta, "spec": {**pod_spec, "nodeName": "ncn-w001"}, "status": {"phase": "Running"}}
    owned = {"metadata": {**meta, "generation": 1, **spec.pop("metadata", {})}}
    template = {"metadata": {"labels": labels}, "spec": pod_spec}
    item = {**owned, "spec": {"template": template, "selector": {"matchLabels": labels}, "replicas": 1, **spec}}
    return {
        f"/apis/apps/v1/namespaces/{namespace}/{plural}/{name}": item,
        f"/api/v1/namespaces/{namespace}/pods/{name}-0": pod,
    }


def config_map(namespace: str, name: str) -> dict[str, Json]:
    """A ConfigMap with a slurm.conf."""
    item = {"metadata": {"name": name, "namespace": namespace}, "data": {"slurm.conf": "ClusterName=x\n"}}
    return {f"/api/v1/namespaces/{namespace}/configmaps/{name}": item}


def job(namespace: str, name: str, templates: str) -> dict[str, Json]:
    """The Job that renders from these templates."""
    spec = {"template": {"spec": {"volumes": [{"name": "t", "configMap": {"name": templates}}]}}}
    return {f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}": {"metadata": {"name": name}, "spec": spec}}


def helm() -> dict[str, Json]:
    """Slurm as CSM's chart has it: primary and backup in the namespace user, rendered from templates in services."""
    chart = {"annotations": {"meta.helm.sh/release-name": "cray-slurmctld"}}
    return {
        **workload("user", "slurmctld-backup", {"app": "slurmctld-backup"}, metadata=chart),
        **workload("user", "slurmctld", {"app": "slurmctld"}, metadata=chart),
        **config_map("user", "slurm-conf"),
        **config_map("services", "slurm-config-templates"),
        **job("services", "slurm-config", "slurm-config-templates"),
    }


def operator(name: str = "lab") -> dict[str, Json]:
    """Slurm as the operator has it: a tenant's, rendered from templates in slurm-operator."""
    space, key = f"vcluster-{name}-slurm", "app.kubernetes.io/name"
    owner = {"ownerReferences": [{"kind": "SlurmCluster", "name": name, "controller": True}]}
    files = f"{name}-slurm-conf"
    return {
        **workload(space, f"{name}-slurmctld", {key: "slurmctld"}, metadata=owner, files=files),
        **workload(space, f"{name}-slurmctld-backup", {key: "slurmctld-backup"}, metadata=owner, files=files),
        **config_map(space, files),
        **config_map("slurm-operator", f"{name}-config-templates"),
        **job("slurm-operator", f"{name}-slurm-config", f"{name}-config-templates"),
    }


CONF = Configuration(
    "lab", (Entry(("slurmctl1",)), Entry(("slurmctl2",))), "nid[000001-000002]", False, ("work",), ("work",)
)
POD_CONF = Configuration("lab", (Entry(("ncn-w001",)),), "nid[000001-000002]", True, ("work",), ("work",))
POD = Slurmctld(
    "slurmctld", Pod("user", "app=slurmctld", "slurmctld"), "Deployment user/slurmctld", ("slurmctld-0 on ncn-w001",)
)
STATE: Any = {"version": "24.11.5", "host": "slurmctl1", "fqdn": "", "addresses": "10.0.0.1"}


def external(manager: str = "", namespace: str = "dws-system", image: str = "registry.local/dws:0.1.12") -> Any:
    """DWS that serves Workflows of v1alpha2, in a namespace; without an image there is none."""
    program = {"name": "dws-controller-manager", "pods": "1 of 1", "images": [image]}
    version = {"served": True, "storage": True, "fields": {}, "required": []}
    return {
        "namespace": namespace,
        "controller": program if image else None,
        "webhook": {**program, "name": "dws-webhook"} if image else None,
        "tag": image.rpartition(":")[2],
        "manager": manager,
        "workflows": {"v1alpha2": version},
        "deleting": False,
    }


def view(**values: Any) -> View:
    """A cluster without DWS, in which everything is as on CSM."""
    state = {"kubernetes": "v1.24.17", "cert_manager": ["v1"], "workers": ["ncn-w001", "ncn-w002", "ncn-w003"]}
    dws = {"tag": "", "unfinished": "", "namespace": False, "traces": [], "crds": {}}
    usual: dict[str, Any] = {
        "state": state,
        "masters": ("ncn-m001", "ncn-m002", "ncn-m003"),
        "dws": dws,
        "external": external(image=""),
        "rabbit": False,
        "proxy": "",
        "registries": ("registry.local",),
        "secrets": ("nexus/nexus-admin-credential",),
        "bound": (),
        "slurms": (),
    }
    return View(**{**usual, **values})


def master(**values: Any) -> MasterView:
    """A master on which everything is as on CSM."""
    usual: dict[str, Any] = {
        "host": "ncn-m001",
        "kubeconfig": "/etc/kubernetes/admin.conf",
        "pki": True,
        "server": "https://kubeapi-vip:6443",
        "registry": "401",
        "source": "200",
        "proxy": "",
        "names": {},
    }
    return MasterView(**{**usual, **values})


def seen(**values: Any) -> Seen:
    """A site on which everything could be known: its Slurm is in a pod."""
    usual: dict[str, Any] = {
        "master": "ncn-m001",
        "login": Login("", "root"),
        "account": "root",
        "view": master(),
        "cluster": view(),
        "slurm": PodSlurm("user", (POD,)),
        "conf": POD_CONF,
        "version": "24.11.5",
        "users": Users((), ("joe",)),
        "asked": "slurmctld",
    }
    return Seen(**{**usual, **values})


def on_hosts(*controllers: SlurmHost) -> HostSlurm:
    """A Slurm on these hosts."""
    return HostSlurm("lab", "slurmctl1", controllers, CONF, Users())
