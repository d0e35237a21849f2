"""The namespace of DWS while it is being deleted, when nothing can be created in it: what holds it, and what frees it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import installed


class Held(TypedDict):
    """An object that the namespace waits for: its resource as kubectl calls it ("issuers.cert-manager.io"), its finalizers."""

    resource: str
    name: str
    finalizers: list[str]


class Deletion(TypedDict):
    """The deletion of DWS's namespace.

    since     when it began; "" while the namespace is not being deleted
    waits     the messages of the namespace's own conditions
    held      the objects that have finalizers, of the resources that these conditions name
    """

    since: str
    waits: list[str]
    held: list[Held]


FACT: Fact[Deletion] = Fact("preflight", "namespace-deletion")

_REMAINS = re.compile(r"([a-z0-9]+)\.([a-z0-9.-]*) has \d+ resource instances")
"""In the condition NamespaceContentRemaining: "configmaps. has 1 resource instances", "issuers.cert-manager.io has 2 ..."."""


def read(cluster: Cluster) -> Deletion:
    """Whether DWS's namespace is being deleted, and what holds it."""
    space = cluster.get(installed.NAMESPACE)
    since = str(((space or {}).get("metadata") or {}).get("deletionTimestamp", ""))
    if space is None or not since:
        return {"since": "", "waits": [], "held": []}
    waits = [str(one.get("message", "")) for one in objects.conditions(space) if one.get("status") == "True"]
    held = [one for wait in waits for match in _REMAINS.finditer(wait) for one in _held(cluster, match[1], match[2])]
    return {"since": since, "waits": waits, "held": held}


def _held(cluster: Cluster, plural: str, group: str) -> Iterator[Held]:
    """The objects of a resource in the namespace that have finalizers."""
    served: Mapping[str, Any] = (cluster.get(f"/apis/{group}") or {}) if group else {}
    version = (served.get("preferredVersion") or {}).get("groupVersion", "")
    if group and not version:
        return
    at = f"/apis/{version}" if group else "/api/v1"
    try:
        objects = cluster.metadata(f"{at}/namespaces/{names.NAMESPACE}/{plural}")
    except ClusterError:  # the condition's message names the resource
        return
    for metadata in objects:
        if finalizers := metadata.get("finalizers") or []:
            yield {
                "resource": f"{plural}.{group}".rstrip("."),
                "name": str(metadata["name"]),
                "finalizers": [*map(str, finalizers)],
            }


def _judge(ctx: StepContext, have: Deletion) -> Sequence[Finding]:
    if not have["since"]:
        return ()
    text = f"the namespace {names.NAMESPACE} is being deleted since {have['since']}: nothing can be created in it"
    gone = f"`kubectl wait --for=delete namespace/{names.NAMESPACE} --timeout=120s` on the master shows when it is gone"
    again = "then run `invoke install`"
    if have["held"]:
        objects = [
            f"{one['resource']}/{one['name']} (finalizer {', '.join(one['finalizers'])})" for one in have["held"]
        ]
        text += f". It waits for {first_few(objects)}"
        fix = (
            "start the program that clears this finalizer; or clear it on the master, and what that program would have "
        )
        fix += f"cleaned up stays: {_clearing(have['held'])}; "
    elif have["waits"]:
        text += f". It waits: {'; '.join(have['waits'])}"
        fix = f"remove this cause (`kubectl get namespace {names.NAMESPACE} -o yaml` on the master shows the conditions); "
    else:
        fix = "wait a minute; "
    return (Finding("namespace-terminating", text, f"{fix}{gone}; {again}"),)


def _clearing(held: Sequence[Held]) -> str:
    """The commands that clear the finalizers of these objects."""
    patch = '{"metadata":{"finalizers":null}}'
    words = [
        ["kubectl", "-n", names.NAMESPACE, "patch", one["resource"], one["name"], "--type=merge", "-p", patch]
        for one in held
    ]
    return first_few([f"`{shlex.join(command)}`" for command in words])


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(read), _judge)
