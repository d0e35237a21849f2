"""A refusal by the cluster's own rules: another webhook, an admission policy, a quota, pod security. The API server's message reads
as that of DWS's webhook does, and each of them has another fix: nothing of DWS is broken."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import admission, dws_objects
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import Finding

_CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


class Refusal(TypedDict):
    """What of the cluster refused an object.

    message    the API server's words
    resource   what kubectl calls the refuser, and its name: "resourcequota few", "validatingwebhookconfiguration gatekeeper"
    remove     the command that removes it, or its limit: for a rule that nobody needs; of PodSecurityPolicies, that allows the pods
    service    "NAMESPACE NAME" of the Service of a webhook that does not respond; else ""
    """

    message: str
    resource: str
    remove: str
    service: str


def read(cluster: Cluster, message: str, namespace: str, own: Collection[str]) -> Refusal | None:
    """What refused an object in `namespace` with this message; None where that was the API server itself, or a webhook whose
    Service is in one of the namespaces `own`."""
    refuser = admission.refuser(message)
    if refuser is None:
        return None
    name = shlex.quote(refuser.name)
    if refuser.kind == "webhook":
        return _by_webhook(cluster, message, refuser, own)
    if refuser.kind == "limits":
        return _by_limits(cluster, message, refuser.name, namespace)
    if refuser.kind == "default":
        return _by_limits(cluster, message, f"default {refuser.name} Container", namespace)
    if refuser.kind == "quota":
        remove = admission.quota_fix(namespace, refuser)
        return Refusal(message=message, resource=f"resourcequota {name}", remove=remove, service="")
    if refuser.kind == "policy":
        remove = f"kubectl delete validatingadmissionpolicybinding {shlex.quote(refuser.more or refuser.name)}"
        return Refusal(message=message, resource=f"validatingadmissionpolicy {name}", remove=remove, service="")
    if refuser.kind == "pod-security-policy":
        return _by_security_policies(cluster, message, namespace)
    label = "pod-security.kubernetes.io/enforce=privileged"
    remove = f"kubectl label --overwrite namespace {namespace} {label}"
    return Refusal(message=message, resource=f"namespace {namespace}", remove=remove, service="")


def _by_webhook(cluster: Cluster, message: str, refuser: admission.Refuser, own: Collection[str]) -> Refusal | None:
    for kind in _CONFIGURATIONS:
        try:
            found = cluster.get(f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s") or {"items": []}
        except ClusterError:
            return None  # who may not list them cannot tell which it is
        for item in found["items"]:
            for webhook in item.get("webhooks") or ():
                if webhook["name"] == refuser.name:
                    service = dws_objects.part(webhook, "clientConfig", "service") or {}
                    if service.get("namespace") in own:
                        return None
                    resource = f"{kind.lower()} {shlex.quote(item['metadata']['name'])}"
                    at = f"{service['namespace']} {service['name']}" if refuser.failed and service else ""
                    return Refusal(message=message, resource=resource, remove=f"kubectl delete {resource}", service=at)
    return None


def _by_limits(cluster: Cluster, message: str, limit: str, namespace: str) -> Refusal | None:
    """The LimitRange with the limit that was exceeded, which the API server does not name."""
    end, resource, item = limit.split()
    try:
        ranges = (cluster.get(f"/api/v1/namespaces/{namespace}/limitranges") or {"items": []})["items"]
    except ClusterError:
        return None
    for limit_range in ranges:
        limits = dws_objects.part(limit_range, "spec", "limits") or ()
        if any(each.get("type") == item and resource in (each.get(end) or ()) for each in limits):
            named = f"limitrange {shlex.quote(limit_range['metadata']['name'])}"
            remove = f"kubectl -n {namespace} delete {named}"
            return Refusal(message=message, resource=named, remove=remove, service="")
    return None


def _by_security_policies(cluster: Cluster, message: str, namespace: str) -> Refusal | None:
    """No PodSecurityPolicy that the namespace may use admits its pods: the command lets it use a wider one."""
    try:
        policies = (cluster.get("/apis/policy/v1beta1/podsecuritypolicies") or {"items": []})["items"]
    except ClusterError:
        return None
    wide = [policy for policy in policies if "*" in (dws_objects.part(policy, "spec", "volumes") or ())]
    if not wide:
        return None
    name, kubectl = "dws-pod-security-policy", f"kubectl -n {namespace}"
    policy = shlex.quote(wide[0]["metadata"]["name"])
    allow = (
        f"{kubectl} create role {name} --verb=use --resource=podsecuritypolicies.policy --resource-name={policy} && "
        f"{kubectl} create rolebinding {name} --role={name} --group=system:serviceaccounts:{namespace} && "
        f"{kubectl} annotate replicasets --all --overwrite tried-again=yes"  # a change of theirs ends their wait
    )
    return Refusal(message=message, resource=_SECURITY_POLICIES, remove=allow, service="")


_SECURITY_POLICIES = "podsecuritypolicies"


class Waiting(TypedDict):
    """A webhook that has not answered within its time, and without whose answer the API server continues.

    resource   what kubectl calls its configuration, and its name
    webhook    its own name; `seconds`: how long the API server waits for it
    """

    resource: str
    webhook: str
    seconds: int


_HANDSHAKE = 10
"""Seconds for which an API server waits for the TLS of a webhook that accepts a connection and says nothing."""


def waited_for(cluster: Cluster, group: str, plural: str, took: float) -> list[Waiting]:
    """The webhooks for new objects of a kind whose whole time fits into the `took` seconds of a creation. Raises ClusterError."""
    found: list[Waiting] = []
    for kind in _CONFIGURATIONS:
        for item in (cluster.get(f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s") or {"items": []})["items"]:
            for webhook in item.get("webhooks") or ():
                seconds = webhook.get("timeoutSeconds", 10)
                ignored = webhook.get("failurePolicy") == "Ignore" and min(seconds, _HANDSHAKE) <= took
                if ignored and any(_concerns(r, group, plural) for r in webhook.get("rules") or ()):
                    resource = f"{kind.lower()} {shlex.quote(item['metadata']['name'])}"
                    found.append(Waiting(resource=resource, webhook=webhook["name"], seconds=seconds))
    return found


def _concerns(rule: Mapping[str, Any], group: str, plural: str) -> bool:
    wanted = {"operations": {"CREATE", "*"}, "apiGroups": {group, "*"}, "resources": {plural, "*", "*/*"}}
    return all(words & set(rule.get(key) or ()) for key, words in wanted.items())


def slow_finding(took: float, waiting: Sequence[Waiting]) -> Finding:
    """The finding: whose webhook makes each sbatch wait."""
    named = ", ".join(f"{each['resource']} (webhook {each['webhook']}, {each['seconds']} s)" for each in waiting)
    text = f"the API server needs {took:.0f} s to admit a Workflow, and every sbatch with #DW lines waits so long: it asks {named}"
    text += ", gets no answer, and continues (failurePolicy: Ignore). DWS itself is not the cause"
    first = waiting[0]["resource"]
    fix = f"run `kubectl get {first} -o yaml` on the master: its clientConfig names the program that does not respond; start it. "
    return Finding("webhook-slow", text, f"{fix}If that program is no longer in use, run `kubectl delete {first}`")


def finding(refusal: Refusal, what: str, namespace: str, effect: str) -> Finding:
    """The finding: whose rule keeps `what` ("Workflows") out of `namespace`, and what follows from it."""
    resource = refusal["resource"]
    space = f" -n {namespace}" if resource.startswith(("resourcequota", "limitrange")) else ""
    text = f"a rule of this cluster, {resource}, rejects {what} in the namespace {namespace}, so {effect}; DWS itself is not the "
    text += f"cause. The API server says: {refusal['message']}"
    if refusal["service"]:
        at, name = refusal["service"].split(" ")
        fix = f"run `kubectl -n {at} get pods,service,endpoints` on the master: the pods of Service {name} do not respond; start "
        fix += f"them. If that program is no longer in use, remove its rule: `{refusal['remove']}`"
        return Finding("rejected-by-rule", text, fix)
    if resource == _SECURITY_POLICIES:
        fix = f"run `kubectl get {resource}` on the master, and let their owners choose one for {what}. To use the widest one, run "
        return Finding("rejected-by-rule", text, f"{fix}`{refusal['remove']}`")
    fix = f"run `kubectl{space} get {resource} -o yaml` on the master, and let those who own this rule allow {what} there; "
    return Finding("rejected-by-rule", text, f"{fix}if nobody needs it, run `{refusal['remove']}`")
