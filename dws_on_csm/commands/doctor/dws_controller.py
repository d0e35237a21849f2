"""DWS's controller as its Lease shows it: a pod can be Ready while the program in it can do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dws_on_csm.domain import names
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.step import Check, Fact, Finding, StepContext
from dws_on_csm.stages.dws import cluster_time, installed, readiness
from dws_on_csm.stages.dws.cluster_time import Renewal

FACT: Fact[Renewal] = Fact("doctor", "dws-controller")
"""When DWS's controller renewed its Lease last; how long ago that was, or its start, seen from the newest Lease of a kubelet."""

STALE_SECONDS = 60
"""controller-runtime renews a Lease every 2 seconds, and gives it up after 15 (its manager's RetryPeriod and LeaseDuration)."""


def _read(cluster: Cluster) -> Renewal:
    """The renewal. A controller whose pod has just started waits for the end of the former one's Lease: its start counts."""
    now = cluster_time.newest(cluster)
    renewal = cluster_time.renewal(cluster_time.last_renewal(cluster, names.NAMESPACE), now)
    started = cluster_time.renewal(_started(cluster), now)
    return {**renewal, "ago": min(renewal["ago"], started["ago"])} if started["last"] else renewal


def _started(cluster: Cluster) -> datetime | None:
    """When the controller's newest pod started; None where it has none. Its containers may start again and again."""
    pods = (cluster.get(readiness.PODS) or {"items": []})["items"]
    times = [
        pod["status"].get("startTime") for pod in pods if pod["metadata"]["name"].startswith(f"{names.CONTROLLER}-")
    ]
    return max((cluster_time.parse(time) for time in times if time), default=None)


def judge(ctx: StepContext, have: Renewal) -> Sequence[Finding]:
    """A controller whose pod is ready, and which has renewed its Lease long ago: it handles no Workflow."""
    if not installed.there(ctx) or have["ago"] < STALE_SECONDS:
        return ()
    state = ctx.facts.one_or_none(readiness.FACT)
    if state is None or not readiness.complete(state["pods"][names.CONTROLLER]):
        return ()  # that it has no pod is another finding
    text = f"DWS's controller does nothing, though its pod is ready: it has not renewed its Lease since {have['last']}, so new "
    text += "Workflows get no state, and #DW jobs wait forever"
    return (Finding("dws-controller-idle", text, names.RESTART_CONTROLLER),)


CHECK = Check("dws-controller", "master", lambda ctx: FACT.api(_read), judge)
