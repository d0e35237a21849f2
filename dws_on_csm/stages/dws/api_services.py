"""APIServices that send the requests for DWS's objects to another server: the API server itself then serves none of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TypedDict

from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Fact, Finding, StepContext


class Redirection(TypedDict):
    """An APIService of DWS's API group with a Service; `service`: NAMESPACE/NAME.

    why    the reason and the message of its condition Available where it is not available, else ""
    """

    name: str
    service: str
    why: str


FACT: Fact[list[Redirection]] = Fact("preflight", "api-services")

PATH = "/apis/apiregistration.k8s.io/v1/apiservices"


def read(cluster: Cluster) -> list[Redirection]:
    """The APIServices of DWS's API group with a Service; those that Kubernetes makes for a CRD have none. Raises ClusterError."""
    listed = cluster.get(PATH)
    found: list[Redirection] = []
    for item in listed["items"] if listed else []:
        spec = item.get("spec") or {}
        if spec.get("group") == names.GROUP and (service := spec.get("service")):
            available = objects.condition(item, "Available")
            why = (
                "" if available.get("status") == "True" else _reason(available.get("reason"), available.get("message"))
            )
            at = f"{service.get('namespace', '')}/{service.get('name', '')}"
            found.append({"name": item["metadata"]["name"], "service": at, "why": why})
    return found


def _reason(reason: str | None, message: str | None) -> str:
    return ": ".join(filter(None, [reason, message])) or "not available"


def _judge(ctx: StepContext, have: Sequence[Redirection]) -> Sequence[Finding]:
    return [_finding(each) for each in have]


def _finding(each: Redirection) -> Finding:
    version = each["name"].partition(".")[0]
    text = f"the APIService {each['name']} sends every request for DWS's objects of {version} to the Service {each['service']}, "
    text += f"and the API server does not serve them itself, so sbatch with #DW lines fails where the plugin writes {version}"
    if each["why"]:
        text += f". That Service is not available ({each['why']}), so the checks that read such objects fail, too"
    fix = f"run `kubectl delete apiservice {shlex.quote(each['name'])}` on the master: within seconds Kubernetes makes this "
    return Finding("api-redirected", text, f"{fix}APIService again, without a Service, as DWS's CRDs need it")


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(read), _judge)
