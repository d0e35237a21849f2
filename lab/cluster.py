"""The lab's Kubernetes seen from outside: when it is ready, and what every CSM cluster holds from the start."""

import base64
import datetime
import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lab import certmanager, go_builds, keys, services
from lab.model import Lab

POD_SECURITY = Path(__file__).with_name("pod_security.yaml")


def request(lab: Lab, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """One request to the API server as an administrator: the status and the JSON that came back."""
    secrets = lab.state / "secrets"
    context = ssl.create_default_context(cafile=str(secrets / "kubernetes-ca.pem"))
    context.load_cert_chain(secrets / "kubernetes-admin.pem")
    (master,) = lab.role("master")
    connection = http.client.HTTPSConnection(master.address, 6443, timeout=20, context=context)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for_nodes(lab: Lab, since: datetime.datetime | None, deadline: float = 180) -> None:
    """Returns when all nodes have reported Ready, after `since` if given: what a snapshot's etcd says is older."""
    wanted = {host.name for host in lab.hosts if host.runs_pods}
    await_none(lambda: wanted - ready_nodes(lab, since), "nodes are not Ready", deadline)


def ready_nodes(lab: Lab, since: datetime.datetime | None = None) -> set[str]:
    """The names of the nodes whose kubelet said Ready, after `since` if it is given."""
    status, answer = look(lab, "/api/v1/nodes")
    nodes = answer["items"] if status == 200 else []
    return {node["metadata"]["name"] for node in nodes if _ready(node, since)}


def fill(lab: Lab, more: str) -> None:
    """Applies what every CSM cluster holds: cert-manager, and the registry's credential; and the YAML in `more`."""
    release = lab.options.release
    policies = POD_SECURITY.read_text() if release.pod_security_policies else ""
    everything = policies + credential(lab) + certmanager.manifests(lab.options.old_cert_manager_api, release) + more
    _kubectl(lab, "apply", "--server-side", "-f", "-", feed=everything)
    _kubectl(lab, "label", "--overwrite", "node", lab.role("master")[0].name, "node-role.kubernetes.io/control-plane=")


def credential(lab: Lab) -> str:
    """The Secret nexus/nexus-admin-credential with its namespace, as YAML documents."""
    login = {"username": services.REGISTRY_USER, "password": keys.password(lab, "registry")}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in login.items()}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nexus"}}
    metadata = {"name": "nexus-admin-credential", "namespace": "nexus"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}
    return yaml.safe_dump_all([namespace, secret], explicit_start=True)


def _ready(node: dict[str, Any], since: datetime.datetime | None) -> bool:
    for condition in node["status"].get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            heartbeat = datetime.datetime.fromisoformat(condition["lastHeartbeatTime"])
            return since is None or heartbeat >= since
    return False


def look(lab: Lab, path: str) -> tuple[int, dict[str, Any]]:
    """What the API server says to a GET: the status and the JSON; 0 and a message while it does not answer."""
    return send(lab, "GET", path)


def send(lab: Lab, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """request(), with status 0 while the API server does not answer."""
    try:
        return request(lab, method, path, body)
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        return 0, {"message": f"API server: {error}"}


def await_none(problem: Callable[[], Any], awaited: str, deadline: float) -> None:
    """Return when problem() is empty. TimeoutError says `awaited`, with the last problem."""
    until = time.monotonic() + deadline
    while left := problem():
        if time.monotonic() > until:
            problems = ", ".join(sorted(left)) if isinstance(left, set) else left
            raise TimeoutError(f"{awaited} within {deadline:.0f} s: {problems}")
        time.sleep(0.1)


def _kubectl(lab: Lab, *arguments: str, feed: str = "") -> None:
    command = [str(go_builds.kubectl(lab.options.release)), f"--kubeconfig={lab.state / 'admin.conf'}", *arguments]
    done = subprocess.run(command, input=feed, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: exit {done.returncode}\n{done.stderr.strip()}")
