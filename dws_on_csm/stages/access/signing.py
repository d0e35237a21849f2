"""How a controller's new key gets its certificate: from the CA's key on the master, or from the cluster by request."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dws_on_csm.domain import certificates
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, CallApi, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.step import StepContext

BACKDATED_SECONDS = 300
"""A certificate is valid from this many seconds before now, so that an API server whose clock is behind accepts it."""

VERSION = "/apis/certificates.k8s.io/v1"
REQUESTS = f"{VERSION}/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client"
DEADLINE = 30.0
"""Seconds for the controller manager to sign an approved request; it needs less than one."""


def action(ctx: StepContext, csr: Callable[[], bytes], then: Callable[[bytes], Sequence[Action]]) -> Action:
    """The action that has a request signed as access.via says. `csr` returns the request (PEM) when it is sent; `then` makes the
    next actions of the certificate (PEM)."""
    access = ctx.site.access
    title = f"a certificate for {access.common_name}, {access.days} days"
    if access.via == "csr":
        return CallApi(f"request {title}, from the cluster", lambda cluster: by_request(cluster, ctx, csr()), then)
    script = render.script(
        "lib/temporary.sh",
        "master/sign.sh",
        pki=ctx.site.master.pki,
        serial=certificates.serial(),
        **_times(access.days),
    )
    return RunElsewhere(f"sign {title}, with the cluster's CA", "master", lambda: _fed(script, csr()), then)


def _times(days: int) -> dict[str, str]:
    return {"days": str(days), "before": str(BACKDATED_SECONDS)}


def _fed(script: str, csr: bytes) -> str:
    """The script with the request as its standard input: nothing in it is secret."""
    return f"sign() {{\n{script}}}\nsign <<'CSR'\n{csr.decode().strip()}\nCSR\n"


# --- the CertificateSigningRequest API


def by_request(cluster: Cluster, ctx: StepContext, csr: bytes, deadline: float = DEADLINE) -> bytes:
    """The certificate (PEM) that the cluster signs for `csr`. Nothing of the request stays. Raises ClusterError."""
    name = "dws-on-csm-" + re.sub(r"[^a-z0-9.-]", "-", ctx.host.lower())
    path = f"{REQUESTS}/{name}"
    cluster.delete(path, DEADLINE)  # a request that an interrupted run left
    created = cluster.create(REQUESTS, _request(name, csr, _seconds(cluster, ctx.site.access.days)))
    try:
        cluster.patch(f"{path}/approval", _approval(created))
        return _awaited(cluster, path, deadline)
    finally:
        cluster.delete(path, DEADLINE)


def _seconds(cluster: Cluster, days: int) -> dict[str, int]:
    """The wanted duration, where the API has a field for it: from Kubernetes 1.22 on."""
    version = cluster.get("/version") or {}
    major, minor = (int(re.sub(r"\D.*", "", version.get(key, "")) or 0) for key in ("major", "minor"))
    return {"expirationSeconds": days * 86400} if (major, minor) >= (1, 22) else {}


def _request(name: str, csr: bytes, seconds: Mapping[str, int]) -> dict[str, Any]:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(csr).decode(),
            "signerName": SIGNER,
            "usages": ["client auth"],
            **seconds,
        },
    }


def _approval(created: Mapping[str, Any]) -> dict[str, Any]:
    """The approval of exactly this request: the resourceVersion does not fit another one in its place."""
    condition = {
        "type": "Approved",
        "status": "True",
        "reason": "DwsOnCsm",
        "message": "requested by a run of an administrator",
    }
    return {
        "metadata": {"resourceVersion": created["metadata"]["resourceVersion"]},
        "status": {"conditions": [condition]},
    }


def _awaited(cluster: Cluster, path: str, deadline: float) -> bytes:
    end = time.monotonic() + deadline
    while True:
        cluster.await_event(REQUESTS, max(0.0, min(2.0, end - time.monotonic())))
        status = (cluster.get(path) or {}).get("status", {})
        if "certificate" in status:
            return base64.b64decode(status["certificate"])
        bad = [condition for condition in status.get("conditions", []) if condition["type"] in ("Denied", "Failed")]
        if bad:
            raise ClusterError(0, f"the request was {bad[0]['type'].lower()}: {bad[0].get('message', '')}")
        if time.monotonic() >= end:
            text = f"the request was approved, but not signed within {deadline:.0f} s: kube-controller-manager needs the CA's key"
            raise ClusterError(504, f"{text} (--cluster-signing-key-file)")
