"""How a controller's new key gets its certificate: from the CA's key on the master, or from the cluster by request."""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

from dws_on_csm.domain import certificates
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, CallApi, RunElsewhere
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Constant, Fact, Finding, Look, NotYetKnown, StepContext
from dws_on_csm.stages.pod import service_account

BACKDATED_SECONDS = 300
"""A certificate is valid from this many seconds before now, so that an API server whose clock is behind accepts it."""

VERSION = "/apis/certificates.k8s.io/v1"
REQUESTS = f"{VERSION}/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client"
DEADLINE = 30.0
"""Seconds for the controller manager to sign an approved request; it needs less than one."""


def action(ctx: StepContext, csr: Callable[[], bytes], then: Callable[[bytes], Sequence[Action]]) -> Action:
    """The action that has a request signed as the site file says. `csr` returns the request (PEM) when it is sent; `then` makes the
    next actions of the certificate (PEM)."""
    access = ctx.site.access
    title = f"a certificate for {access.common_name}, {access.days} days"
    if access.signer == "csr":
        return CallApi(f"request {title}, from the cluster", lambda cluster: by_request(cluster, ctx, csr()), then)
    script = render.script(
        "lib/temporary.sh",
        "master/ca.sh",
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


# --- whether it can be signed, before the run begins


class Signing(TypedDict):
    """The second in which the CA of access.via ends (0 where that is not known), or why nobody signs."""

    ends: int
    why: str


FACT: Fact[Signing] = Fact("preflight", "signing")

_LOOK = """
command -v openssl >/dev/null || { echo "why openssl is not installed"; exit 0; }
[ -r "$pki/ca.key" ] || { printf 'why %s\\n' "$pki/ca.key cannot be read"; exit 0; }
[ -r "$pki/ca.crt" ] || { printf 'why %s\\n' "$pki/ca.crt cannot be read"; exit 0; }
if answer=$(signing_ca && printf '%s\\n' "$ca_ends"); then printf 'ends %s\\n' "$answer"; else printf 'why %s\\n' "$answer"; fi
"""


def _look(ctx: StepContext) -> Look:
    if ctx.site.access.via == "serviceaccount":
        return Constant({"ends": 0, "why": ""})
    if ctx.site.access.signer == "csr":
        why = "the cluster does not serve certificates.k8s.io/v1"
        return FACT.api(lambda cluster: {"ends": 0, "why": "" if cluster.get(VERSION) else why})
    script = render.script("master/ca.sh", pki=ctx.site.master.pki) + _LOOK
    return FACT.shell(script, _parse)


def _parse(out: bytes) -> Signing:
    values = {word: text for word, _, text in (line.partition(" ") for line in lines(out, "replace"))}
    return {"ends": 0, "why": values["why"]} if "why" in values else {"ends": int(values["ends"]), "why": ""}


RENEW_CA = "renew the cluster's CA, then run `invoke certs.rotate`"


def needed(ctx: StepContext) -> bool:
    """Whether a controller that the run may change logs in with a certificate; so does one whose pod was not seen."""

    def by_account(name: str) -> bool:
        try:
            return service_account.chosen(service_account.on(ctx, name))
        except NotYetKnown:
            return False

    return not all(by_account(host.name) for host in ctx.site.controllers if ctx.site.active(host))


def _judge(ctx: StepContext, have: Signing) -> Sequence[Finding]:
    if not needed(ctx):
        return ()
    if have["why"]:
        fix = "sign with the CA's key: access.via: ca (for certs.rotate: --via ca)"
        if ctx.site.access.signer == "ca":
            fix = "correct that, or master.pki, or let the cluster sign: access.via: csr (for certs.rotate: --via csr)"
        return (Finding("nobody-signs", f"{ctx.host} cannot sign certificates: {have['why']}", fix),)
    days, least = _ca_days(have), ctx.site.access.renew_below
    if not have["ends"] or days > least:
        return ()
    if days < 0:
        text = f"the cluster's CA in {ctx.site.master.pki} ended on {_ca_end(have)}"
        return (Finding("ca-ends-soon", text, RENEW_CA),)
    text = f"the cluster's CA ends on {_ca_end(have)}, in {days} days, and so do all certificates that it signed;"
    text += f" a certificate with {least} days or less left is renewed in every run (access.renew_below)"
    fix = f"{RENEW_CA}; until then, set access.renew_below to less than {days}"
    return (Finding("ca-ends-soon", text, fix if days else RENEW_CA),)


def _note(ctx: StepContext, have: Signing) -> str:
    """What a run says of a CA that ends before a new certificate would."""
    asked = ctx.site.access.days
    if not needed(ctx) or have["why"] or not have["ends"] or _ca_days(have) >= asked:
        return ""
    return (
        f"the cluster's CA ends on {_ca_end(have)}, in {_ca_days(have)} days: new certificates end then,"
        f" not after {asked} days (access.days)"
    )


def _ca_days(have: Signing) -> int:
    return math.floor((have["ends"] - time.time()) / 86400)


def _ca_end(have: Signing) -> str:
    return f"{datetime.fromtimestamp(have['ends'], UTC):%Y-%m-%d}"


CHECK = Check(FACT.step, "master", _look, _judge, note=_note)
"""The signer of the site file is available, and lasts long enough."""


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
