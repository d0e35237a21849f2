"""The revoked names, as recorded in the cluster: anybody may have a certificate for one of them.

A revoked name must never get rights again, even if an older site file or an older state of the site asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dws_on_csm.model.actions import Apply
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Fact, Finding, StepContext

NAME, NAMESPACE = "dws-on-csm-revoked", "kube-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"
"""A ConfigMap that no undeploy removes: common name -> "2028-04-06 revoked" (or "being revoked"); the date is the last day on
which a certificate of that name is valid."""

BEING, DONE = "being revoked", "revoked"


def read(cluster: Cluster) -> dict[str, str]:
    """Common name -> its record; empty where no name was ever revoked. Raises ClusterError."""
    return dict((cluster.get(PATH) or {}).get("data") or {})


def written(names: Mapping[str, str]) -> Apply:
    """The action that records exactly these names."""
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": dict(sorted(names.items())),
    }
    return Apply(manifest)


def state(recorded: str) -> str:
    """BEING or DONE; "" for a name without a record."""
    return recorded.partition(" ")[2]


def until(recorded: str) -> str:
    """The last day on which a certificate of the name is valid."""
    return recorded.partition(" ")[0]


def judge(ctx: StepContext, record: Mapping[str, str]) -> Sequence[Finding]:
    """Refuse a site file whose common name was revoked."""
    name = ctx.site.access.common_name
    if name not in record:
        return ()
    text = f"{name} was revoked: a certificate for it, valid until {until(record[name])}, may be in the wrong hands"
    fix = f"set access.common_name in {ctx.site.path.name} to a new name"
    return (Finding("name-revoked", text, fix),)


FACT: Fact[dict[str, str]] = Fact("preflight", "common_name")
"""Common name -> its record; empty where no name was ever revoked."""
CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(read), judge)
