"""All files of all hosts and all objects of the cluster, as they stand; and what differs between two such views."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab import cluster
from lab.model import Host, Lab
from tests.lab import scene

Files = dict[str, str]
"""Path -> kind, mode, owner, size, time of the last write, target of a link, time of the last change."""

Objects = dict[str, str]
"""Kind and name of a Kubernetes object -> its resourceVersion: any write that changes something gives it a new one."""

_BOOKS = r"io\.containerd\.(metadata|snapshotter)\.v1\.[a-z]+/meta(data)?\.db"
_OF_A_CONTAINER = r"[^/]*/containers/[^/]*/io|[^/]*/k8s\.io/[^/]*"

# What changes by itself, or with any login, whoever it is: the roles ("": all), a pattern of paths, and why.
LEFT_OUT: tuple[tuple[str, str, str], ...] = (
    ("", r"/(proc|sys|dev/pts|dev/mqueue)(/.*)?", "the kernel's own views"),
    ("", r"/(run|var)/log/(journal(/.*)?|wtmp|lastlog|btmp)", "a login is written down"),
    ("", r"/run/(utmp|motd\.dynamic)", "a login is counted, and greeted"),
    ("", r"/run|/tmp|/dev/shm", "the folders' own times, since a login's greeting is renewed; what is in them counts"),
    ("master", r"/var/lib/etcd/.*", "all components renew their leases; objects are compared by their version"),
    ("master worker", r"/var/log/pods/.*\.log|/run/containerd/.*/io/.*", "what pods say"),
    ("master worker", r"/var/lib/kubelet/pods/.*", "pods' tokens are renewed"),
    ("master worker", rf"/run/containerd/({_OF_A_CONTAINER})", "probes run programs in containers"),
    (
        "master worker",
        rf"/var/lib/containerd/{_BOOKS}",
        "containerd looks for what nobody uses any more; what it holds counts",
    ),
    ("controller", r"/var/lib/slurm(/.*)?", "slurmctld saves its state every few minutes"),
    ("worker", r"/var/lib/slurm/shared(/.*)?", "so does slurmctld in a pod"),
    ("controller compute", r"/var/log/slurm/.*", "slurmctld and slurmd say what they do"),
    ("upstream", r"/var/log/nginx/.*", "a log of what was asked for"),
)

# The time of the last change can't be set back: where it is the same, so are the bytes. But what several labs share as hard
# links, files and symbolic links of images, gets a new one whenever one of them comes or goes.
_FIND = r"""find / \( -path /proc -o -path /sys \) -prune -o \
    \( -type f -o -type l \) -links +1 -printf '%p\t%y %m %U:%G %s %T@ %l shared\0' -o \
    -printf '%p\t%y %m %U:%G %s %T@ %C@ %l\0'"""


def files(lab: Lab, *names: str) -> dict[str, Files]:
    """Host -> its files, but for LEFT_OUT; all hosts of the lab unless some are named."""
    hosts = [lab.host(name) for name in names] or lab.hosts
    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(pool.map(lambda host: (host.name, _of_host(lab, host)), hosts))


def _of_host(lab: Lab, host: Host) -> Files:
    ssh = ["ssh", "-F", str(lab.state / "ssh_config"), host.name, _FIND]
    found = subprocess.run(ssh, capture_output=True, timeout=120, check=False)
    # 1 is how find says that something went away while it looked
    if found.returncode not in (0, 1):
        raise RuntimeError(f"{host.name}: {found.stderr.decode()}")
    rows = (row.partition("\t") for row in found.stdout.decode(errors="surrogateescape").split("\0") if row)
    excluded = re.compile(
        "|".join(pattern for roles, pattern, _ in LEFT_OUT if not roles or host.role in roles.split())
    )
    return {path: rest for path, _, rest in rows if not excluded.fullmatch(path)}


def differences(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each thing that was added, taken away or changed, in either of two views."""
    return [
        f"{place}: {name}: {before[place].get(name, 'absent')} -> {after[place].get(name, 'absent')}"
        for place in before
        for name in sorted(before[place].keys() | after[place].keys())
        if before[place].get(name) != after[place].get(name)
    ]


# --- the cluster


def settled(lab: Lab, *names: str, deadline: float = 180) -> dict[str, Objects]:
    """objects(), once two looks find the same and no node whose files() are to be compared (all unless some hosts are named)
    has anything of pods that are gone: controllers and kubelets are through with what came before. TimeoutError otherwise.
    """
    nodes = [host.name for host in lab.hosts if host.runs_pods and (not names or host.name in names)]
    ends, before = time.monotonic() + deadline, objects(lab)
    while True:
        left, now = _left(lab, nodes), objects(lab)
        if not left and now == before:
            return now
        if time.monotonic() > ends:
            raise TimeoutError(f"not settled: {left or differences(before, now)}")
        before = now


# Once a minute a kubelet takes away what pods have left, their logs' folders last; containerd's own part, the layers on which
# they wrote, goes when that has forgotten it.
_LEFT = """ls /var/log/pods 2>/dev/null
[ "$(ctr --namespace k8s.io snapshots list | tail -n +2 | wc -l)" = \
    "$(ls /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots | wc -l)" ] || echo layers"""


def _left(lab: Lab, nodes: Sequence[str]) -> list[str]:
    """What of pods that are gone lies on these nodes: folders of logs, NAMESPACE_NAME_UID, and "layers"."""
    there = {pod["metadata"]["uid"] for pod in _get(lab, "/api/v1/pods")["items"]}
    told = scene.everywhere(lab, _LEFT, *nodes) if nodes else {}
    found = [f"{host}: {one}" for host, said in told.items() for one in said.split()]
    return [one for one in found if one.rpartition("_")[2] not in there]


PULSE = ("leases", "events")
"""Resources that change by themselves. Of nodes, what their kubelets report is left out."""


def objects(lab: Lab) -> dict[str, Objects]:
    """{"cluster": all its objects}; nodes without what their kubelets report."""
    found: Objects = {}
    for path in _resources(lab):
        for one in _get(lab, path).get("items", []):
            found[f"{path} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"] = _version(path, one)
    return {"cluster": found}


def _version(path: str, one: Mapping[str, Any]) -> str:
    if not path.endswith("/nodes"):
        return str(one["metadata"].get("resourceVersion"))
    meta = {key: one["metadata"].get(key) for key in ("uid", "labels", "annotations", "generation")}
    return f"{meta} {one['spec']}"


def _resources(lab: Lab) -> Iterator[str]:
    """The path of every kind of object that can be listed, in the version that its group prefers."""
    versions = ["/api/v1"]
    versions += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in _get(lab, "/apis")["groups"]]
    for version in versions:
        for one in _get(lab, version)["resources"]:
            if "list" in one["verbs"] and one["name"] not in PULSE:
                yield f"{version}/{one['name']}"


def _get(lab: Lab, path: str, deadline: float = 30) -> dict[str, Any]:
    """The JSON at a path. A kind that the API server has only just begun to keep is asked for again: it says so itself."""
    until = time.monotonic() + deadline
    while True:
        status, answer = cluster.request(lab, "GET", path)
        if status == 200:
            return answer
        if status != 429 or time.monotonic() > until:
            raise RuntimeError(f"{path}: HTTP {status} {answer.get('message', '')}")
        time.sleep(0.2)
