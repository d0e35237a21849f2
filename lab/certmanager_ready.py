"""Whether cert-manager works: a certificate that it really issues, of which nothing is left afterwards."""

from functools import partial
from typing import Any

from lab import cluster
from lab.model import Lab

NAME = "lab-probe"
NAMESPACE = "default"
FOLDERS = {"Issuer": "issuers", "Certificate": "certificates"}
SPECS: dict[str, dict[str, Any]] = {
    "Issuer": {"selfSigned": {}},
    "Certificate": {"secretName": NAME, "dnsNames": [NAME], "issuerRef": {"kind": "Issuer", "name": NAME}},
}
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def wait(lab: Lab, deadline: float = 240) -> None:
    """Returns when cert-manager has issued a certificate that was asked for now, in the oldest version that it serves.

    That its webhook admits does not tell that its controller is at work. TimeoutError says what was missing last.
    """
    version = "v1alpha3" if lab.options.old_cert_manager_api else "v1"
    cluster.await_none(lambda: _left(lab), "what an earlier look at cert-manager made is still there", deadline)
    for kind in SPECS:
        cluster.await_none(partial(_refusal, lab, version, kind), "cert-manager does not admit", deadline)
    cluster.await_none(lambda: _missing(lab), "cert-manager issues no certificate", deadline)
    cluster.await_none(lambda: _left(lab), "what a look at cert-manager made is still there", deadline)


def _refusal(lab: Lab, version: str, kind: str) -> str:
    """Asks for an object of that kind; why it is not there, "" when it is."""
    body = {"apiVersion": f"cert-manager.io/{version}", "kind": kind, "metadata": {"name": NAME}, "spec": SPECS[kind]}
    status, answer = cluster.send(lab, "POST", _folder(FOLDERS[kind], version), body)
    return "" if status in (201, 409) else f"{kind}: {answer.get('message', status)}"


def _missing(lab: Lab) -> str:
    """What the Certificate says is still to do; "" when its Secret is there."""
    if cluster.look(lab, f"{SECRETS}/{NAME}")[0] == 200:
        return ""
    status, answer = cluster.look(lab, f"{_folder('certificates')}/{NAME}")
    if status != 200:
        return str(answer.get("message", status))
    messages = [condition["message"] for condition in answer.get("status", {}).get("conditions", [])]
    return "; ".join(messages) or "its controller has not processed it"


def _left(lab: Lab) -> str:
    """Deletes what a look made; what of it was still there, "" when nothing was.

    The Certificate goes first, or else its Secret would be recreated. What it owns is not left to the garbage collector,
    which takes half a minute to learn of a new kind of object.
    """
    paths = [f"{_folder('certificates')}/{NAME}", f"{_folder('issuers')}/{NAME}", f"{SECRETS}/{NAME}"]
    remaining = {path: status for path in paths if (status := cluster.send(lab, "DELETE", path)[0]) != 404}
    for folder in (_folder("certificaterequests"), SECRETS):
        status, answer = cluster.look(lab, folder)
        remaining |= {folder: status} if status != 200 else {}
        for path in _owned(folder, answer):
            remaining[path] = cluster.send(lab, "DELETE", path)[0]
    return ", ".join(f"{path} (HTTP {status})" for path, status in remaining.items())


def _owned(folder: str, answer: dict[str, Any]) -> list[str]:
    """The paths of the objects in `folder`, as the API server listed them, that belong to the Certificate."""
    metas = [item["metadata"] for item in answer.get("items", [])]
    return [f"{folder}/{meta['name']}" for meta in metas if _is_owner(meta.get("ownerReferences", []))]


def _is_owner(owners: list[dict[str, Any]]) -> bool:
    return any((owner["kind"], owner["name"]) == ("Certificate", NAME) for owner in owners)


def _folder(resource: str, version: str = "v1") -> str:
    return f"/apis/cert-manager.io/{version}/namespaces/{NAMESPACE}/{resource}"
