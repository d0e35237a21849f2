"""Whether the cluster still stores what is changed: an API server that only reads looks well, and nothing happens any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dws_on_csm.model.cluster_api import ETCD_DOWN_FIX, ETCD_FULL_FIX, Cluster
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import cluster_time
from dws_on_csm.stages.dws.cluster_time import Renewal
from dws_on_csm.stages.facts import CLUSTER

FACT: Fact[Renewal] = Fact("doctor", "stored")
"""When a kubelet has stored a sign of life last, seen from this machine's clock."""

STALE_SECONDS = 300
"""Each kubelet renews its Lease every ten seconds. This machine's clock may be wrong by some: that is a finding of its own."""


def _read(cluster: Cluster) -> Renewal:
    return cluster_time.renewal(cluster_time.newest(cluster), datetime.now(UTC))


def _judge(ctx: StepContext, have: Renewal) -> Sequence[Finding]:
    """Workers that are Ready, and of which none has renewed its Lease: that could not be stored, or they would not be Ready."""
    cluster = ctx.facts.known(CLUSTER).get(ctx.host)
    if have["ago"] < STALE_SECONDS or not cluster or not cluster["workers"]:
        return ()
    text = f"the cluster has stored nothing since {have['last']}: no kubelet has renewed its Lease, though workers are Ready. "
    text += "The API server still answers reads, but no change takes effect"
    tried = "kubectl -n default create configmap tried && kubectl -n default delete configmap tried"
    fix = f"run `{tried}` on {ctx.host}: the API server's words say why. If they are `database space exceeded`, etcd is full: "
    fix += f"{ETCD_FULL_FIX}. If they are `timed out` or `no leader`, {ETCD_DOWN_FIX}"
    return (Finding("cluster-stores-nothing", text, fix),)


CHECK = Check(FACT.step, "master", lambda ctx: FACT.api(_read), _judge)
