"""DWS's objects are compared with what admission makes of their manifests: with a real API server and a webhook."""

from __future__ import annotations

import contextlib
import copy
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.stages.dws import installed, manifest_comparison, manifests
from lab import go_builds, pki, upstream_fakes
from tests.ssh.server import free_port
from tests.unit import admission_webhook, loopback_cluster
from tests.unit.admission_webhook import Rejected, Webhook
from tests.unit.loopback_cluster import Cluster

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

DIGEST = f"sha256:{'d' * 64}"


class Api:
    """The API as steps see it."""

    def __init__(self, cluster: Cluster) -> None:
        self.base = f"https://127.0.0.1:{cluster.port}"
        self.context = ssl.create_default_context(cafile=str(cluster.folder / "ca.crt"))

    def get(self, path: str, **query: str) -> Any:
        """The object at a path; None where there is none."""
        return self._ask("GET", path)

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        """POST."""
        return self._ask("POST", f"{path}?dryRun={query['dryRun']}", body)

    def replace(self, path: str, body: Mapping[str, Any], **query: str) -> Any:
        """PUT."""
        return self._ask("PUT", f"{path}?dryRun={query['dryRun']}", body)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.base + path, data, headers, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:  # noqa: S310 - ours
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404 and method == "GET":
                return None
            raise ClusterError(error.code, json.loads(error.read())["message"]) from error


@cache
def rendered() -> dict[str, dict[str, Any]]:
    """Label -> manifest of the Deployments and some other objects of the fake DWS, as the stage wants them."""
    tree = upstream_fakes.UPSTREAM / "dws/config/csm"
    build = [str(go_builds.kustomize()), "build", str(tree)]
    text = subprocess.run(build, check=True, capture_output=True, text=True, timeout=100).stdout
    text = text.replace("registry.local/dws\n", "registry.local/dws:0.0.20\n")
    kinds = ("Deployment", "Service", "ConfigMap", "ClusterRole", "ServiceAccount")
    return {manifests.label(item): item for item in yaml.safe_load_all(text) if item["kind"] in kinds}


WEBHOOK, CONTROLLER = f"Deployment {names.WEBHOOK}", f"Deployment {names.CONTROLLER}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Webhook]]:
    folder = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as ends:
        cluster = Cluster(folder, free_port(), free_port(), pki.authority("loopback"))
        loopback_cluster._start_api_server(cluster, ends)
        webhook = ends.enter_context(admission_webhook.serving(folder, cluster.ca))
        assert cluster.kubectl("create", "namespace", names.NAMESPACE).returncode == 0
        configured = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(webhook.configuration))
        assert configured.returncode == 0, configured.stderr
        yield cluster, webhook


def deploy(cluster: Cluster) -> None:
    """What `make deploy` does with the manifests, from nothing."""
    cluster.kubectl("-n", names.NAMESPACE, "delete", "deployment", "--all", "--wait")
    applied = cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rendered().values()))
    assert applied.returncode == 0, applied.stderr


def states(cluster: Cluster) -> dict[str, manifest_comparison.ObjectState]:
    """The objects as the step sees them."""
    api: Any = Api(cluster)
    return {label: manifest_comparison.compare(api, manifest) for label, manifest in rendered().items()}


def containers(item: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = item["spec"]["template"]["spec"]["containers"]
    return found


def with_prefix(item: dict[str, Any], operation: str) -> None:
    for container in containers(item):
        if not container["image"].startswith("mirror.local/"):
            container["image"] = f"mirror.local/{container['image']}"


def with_digest(item: dict[str, Any], operation: str) -> None:
    for container in containers(item):
        container["image"] = f"{container['image'].partition('@')[0].rpartition(':')[0] or container['image']}@{DIGEST}"


def with_digest_and_tag(item: dict[str, Any], operation: str) -> None:
    for container in containers(item):
        container["image"] = f"{container['image'].partition('@')[0]}@{DIGEST}"


def with_settings(item: dict[str, Any], operation: str) -> None:
    item["metadata"].setdefault("annotations", {})["policies.example.com/seen"] = "yes"
    item["metadata"].setdefault("labels", {})["control-plane"] = "rewritten"
    pod = item["spec"]["template"]["spec"]
    pod["securityContext"] = {**(pod.get("securityContext") or {}), "runAsNonRoot": True, "fsGroup": 7}
    pod["tolerations"] = [{"key": "a", "operator": "Exists"}]
    for container in containers(item):
        container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container["resources"] = {"limits": {"cpu": "1"}, "requests": {"cpu": "1m"}}
        container["imagePullPolicy"] = "Always"


def with_sidecar(item: dict[str, Any], operation: str) -> None:
    if not any(container["name"] == "mesh" for container in containers(item)):
        containers(item).insert(0, {"name": "mesh", "image": "mesh:1"})
    for container in containers(item):
        if container["name"] != "mesh":
            others = [value for value in container.get("env") or [] if value["name"] != "PROXY"]
            container["env"] = [*others, {"name": "PROXY", "value": "mesh"}]


def with_replicas(item: dict[str, Any], operation: str) -> None:
    item["spec"]["replicas"] = 2


POLICIES = [with_prefix, with_digest, with_digest_and_tag, with_settings, with_sidecar, with_replicas]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_admission_does_is_no_difference(
    cluster: tuple[Cluster, Webhook], policy: admission_webhook.Policy
) -> None:
    """An object is as rendered if it is as the API server makes it of its manifest, and the installed version is still known."""
    server, webhook = cluster
    webhook.policy = policy
    deploy(server)
    webhook.dry.clear()
    before = server.kubectl("-n", names.NAMESPACE, "get", "deployments", "-o", "yaml").stdout
    assert states(server) == {label: {"state": "as rendered", "refused": "", "updated": ""} for label in rendered()}
    assert webhook.dry and all(webhook.dry)
    assert server.kubectl("-n", names.NAMESPACE, "get", "deployments", "-o", "yaml").stdout == before
    assert installed.read(Api(server))["tag"] == "0.0.20"  # type: ignore[arg-type]
    again = server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rendered().values()))
    assert again.returncode == 0
    assert {state["state"] for state in states(server).values()} == {"as rendered"}


@pytest.mark.parametrize("policy", [None, with_prefix, with_sidecar])
@pytest.mark.parametrize(
    ("edit", "difference"),
    [
        (
            f"set image deployment/{names.WEBHOOK} *=registry.local/other:1",
            f"{manifest_comparison.TEMPLATE}.spec.containers",
        ),
        (f"set env deployment/{names.WEBHOOK} BY=hand", f"{manifest_comparison.TEMPLATE}.spec.containers"),
        (f"scale deployment/{names.WEBHOOK} --replicas=1", "spec.replicas is 1, not "),
        (f"scale deployment/{names.WEBHOOK} --replicas=0", "spec.replicas is 0, not "),
    ],
)
def test_what_somebody_changed_is_a_difference(
    cluster: tuple[Cluster, Webhook], policy: admission_webhook.Policy | None, edit: str, difference: str
) -> None:
    """Beside what admission does, and where admission does nothing: only the edited object differs, and in the edit."""
    server, webhook = cluster
    webhook.policy = policy
    deploy(server)
    webhook.policy = None  # the edit is made where no policy corrects it
    edited = server.kubectl("-n", names.NAMESPACE, *edit.split())
    assert edited.returncode == 0, edited.stderr
    webhook.policy = policy
    odd = {label: state for label, state in states(server).items() if state["state"] != "as rendered"}
    assert set(odd) == {WEBHOOK}
    assert odd[WEBHOOK]["state"].startswith(difference)


def on_creation(item: dict[str, Any], operation: str) -> None:
    if operation == "CREATE":
        with_prefix(item, operation)


def test_a_policy_of_creations_is_no_difference_either(cluster: tuple[Cluster, Webhook]) -> None:
    """It is noted what an update would change: the webhook's pods are not to be replaced by one."""
    server, webhook = cluster
    webhook.policy = on_creation
    deploy(server)
    seen = states(server)
    assert {state["state"] for state in seen.values()} == {"as rendered"}
    assert seen[WEBHOOK]["updated"].startswith(manifest_comparison.TEMPLATE)
    assert seen["Service dws-webhook-service"] == {"state": "as rendered", "refused": "", "updated": ""}


def test_the_cause_of_a_refused_dry_run_is_noted(cluster: tuple[Cluster, Webhook]) -> None:
    """A policy that rejects the manifest, and a webhook that is down: of an object that differs, and of the webhook's always."""
    server, webhook = cluster

    def reject(item: dict[str, Any], operation: str) -> None:
        raise Rejected("no image without a digest")

    webhook.policy = None
    deploy(server)
    for name in (names.WEBHOOK, names.CONTROLLER):
        assert server.kubectl("-n", names.NAMESPACE, "set", "env", f"deployment/{name}", "BY=hand").returncode == 0
    webhook.policy = reject
    seen = states(server)
    for label in (WEBHOOK, CONTROLLER):
        assert seen[label]["state"].startswith(f"{manifest_comparison.TEMPLATE}.spec.containers"), seen[label]
        assert "no image without a digest" in seen[label]["refused"]
    configuration = copy.deepcopy(webhook.configuration)
    configuration["webhooks"][0]["clientConfig"]["url"] = "https://127.0.0.1:1/"
    assert server.kubectl("apply", "-f", "-", stdin=json.dumps(configuration)).returncode == 0
    assert "policies.example.com" in states(server)[WEBHOOK]["refused"]
    assert server.kubectl("apply", "-f", "-", stdin=json.dumps(webhook.configuration)).returncode == 0


@pytest.mark.parametrize("later", [None, with_settings])
def test_a_policy_that_changed_since_is_no_difference(
    cluster: tuple[Cluster, Webhook], later: admission_webhook.Policy | None
) -> None:
    """Nobody has written the Deployment since it was applied: it is what admission made of the manifest then. An edit counts."""
    server, webhook = cluster
    webhook.policy = with_digest
    deploy(server)
    webhook.policy = later
    seen = states(server)
    assert {state["state"] for state in seen.values()} == {"as rendered"}
    assert seen[WEBHOOK]["updated"].startswith(manifest_comparison.TEMPLATE)
    edit = ("-n", names.NAMESPACE, "set", "image", f"deployment/{names.WEBHOOK}", "*=registry.local/other:1")
    assert server.kubectl(*edit).returncode == 0
    assert {label for label, state in states(server).items() if state["state"] != "as rendered"} == {WEBHOOK}


def test_a_manifest_that_somebody_else_applied_is_a_difference(cluster: tuple[Cluster, Webhook]) -> None:
    """A Deployment that was applied from another manifest differs."""
    server, webhook = cluster
    webhook.policy = None
    deploy(server)
    other = copy.deepcopy(rendered()[WEBHOOK])
    containers(other)[0]["image"] = "registry.local/other:1"
    assert server.kubectl("apply", "-f", "-", stdin=json.dumps(other)).returncode == 0
    assert states(server)[WEBHOOK]["state"].startswith(manifest_comparison.TEMPLATE)
