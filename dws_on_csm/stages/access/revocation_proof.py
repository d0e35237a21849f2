"""The proof that a common name has no rights: the API server's own answer, and calls with its old kubeconfigs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

from dws_on_csm.domain import certificates, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import ApiLook, Check, Fact, Look, ShellLook, Step, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.facts import API_SERVER, KubeconfigCertificate

NamesToRevoke = Callable[[StepContext], tuple[str, ...]]
"""Returns the names that must have no rights. Raises NotYetKnown."""

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
VERBS = ("get", "list", "create", "patch", "delete")
NOTHING = "has no rights on Workflows"


def rights(to_revoke: NamesToRevoke) -> Step:
    """A step: the API server allows nothing to the name, by any binding."""

    def look(ctx: StepContext) -> Look:
        revoked, space = to_revoke(ctx), ctx.site.access.namespace
        return ApiLook(lambda cluster: {name: _allowed(cluster, name, space) for name in revoked})

    return Step(
        "rights",
        "master",
        look,
        lambda ctx: dict.fromkeys(to_revoke(ctx), NOTHING),
        settle_seconds=lambda site: 15.0,  # each API server sees a changed binding a little later
        hint="another binding gives it rights: run `kubectl get clusterrolebindings,rolebindings -A -o wide` to find it",
    )


def _allowed(cluster: Cluster, name: str, namespace: str) -> str:
    def may(verb: str) -> bool:
        attributes = {"group": names.GROUP, "resource": "workflows", "verb": verb, "namespace": namespace}
        spec = {"user": name, "groups": groups_of(name), "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool(cluster.create(REVIEWS, review)["status"]["allowed"])

    allowed = [verb for verb in VERBS if may(verb)]
    return f"may {', '.join(allowed)} Workflows" if allowed else NOTHING


def groups_of(name: str) -> list[str]:
    """The groups of a user: a ServiceAccount is also in that of all of them, and in that of its namespace (Kubernetes'
    documentation, "Using RBAC Authorization", "Referring to subjects")."""
    account = name.split(":")
    if account[:2] != ["system", "serviceaccount"]:
        return ["system:authenticated"]
    return ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{account[2]}"]


def _look_kept(ctx: StepContext, call: str) -> ShellLook:
    settings = {"state": STATE, "kubeconfig": names.KUBECONFIG, "call": call, "workflows": names.WORKFLOWS}
    settings |= {"namespace": ctx.site.access.namespace, "cluster": _cluster(ctx) if call else ""}
    return SAVED.shell(
        render.script("lib/as.sh", "lib/temporary.sh", "host/saved_kubeconfigs.sh", **settings), parse_kept
    )


def _cluster(ctx: StepContext) -> str:
    """The API server and its CA in the form of a kubeconfig; an old kubeconfig's own values are not trusted."""
    trusts = ctx.facts.one(API_SERVER)["trusts"]
    values = {
        "server": kubeconfig.server(ctx),
        "certificate-authority-data": base64.b64encode(trusts.encode()).decode(),
    }
    return json.dumps(values)


def parse_kept(out: bytes) -> dict[str, SavedKubeconfig]:
    """Run -> the kubeconfig that it saved. Raises ValueError."""
    rows = [line.split("\t") for line in lines(out, "replace")]
    return {
        run: {"client-certificate-data": data, "key_fits": fits, "may": may, "said": said}
        for run, data, fits, may, said in rows
    }


class SavedKubeconfig(KubeconfigCertificate):
    """A kubeconfig that an earlier run saved, and whether it still works: see templates/host/saved_kubeconfigs.sh."""

    may: str
    said: str


SAVED: Fact[dict[str, SavedKubeconfig]] = Fact("preflight", "kept")
REFUSED: Fact[dict[str, SavedKubeconfig]] = Fact("revoked", "refused")
"""Run -> the kubeconfig that it saved; what it may is only known of REFUSED."""

KEPT = Check(SAVED.step, "controller", lambda ctx: _look_kept(ctx, ""), lambda ctx, have: ())
"""The kubeconfigs that earlier runs saved as before-images: run -> its certificate, as a kubeconfig has it."""


def refused(to_revoke: NamesToRevoke) -> Step:
    """A step: the API server refuses every saved kubeconfig of that name, in a call as the plugin makes it."""

    def read(ctx: StepContext, saved: Mapping[str, SavedKubeconfig]) -> Value:
        ca = ctx.facts.one(API_SERVER)["ca"].encode()
        pems = {run: kubeconfig.certificate(file) for run, file in saved.items()}
        tried = {
            run for run, pem in pems.items() if certificates.common_name(pem) in to_revoke(ctx) and _holds(pem, ca)
        }
        return {run: _answer(saved[run]["may"], saved[run]["said"]) for run in tried}

    def want(ctx: StepContext) -> Value:
        saved = ctx.facts.known(REFUSED).get(ctx.host, {})
        return dict.fromkeys(read(ctx, saved), "refused")

    return Step(
        REFUSED.step,
        "controller",
        lambda ctx: _look_kept(ctx, "yes"),
        want,
        read=read,
        settle_seconds=lambda site: 15.0,
        status_text=lambda have: (
            f"tried {len(have)} saved kubeconfigs: {', '.join(sorted(set(have.values())))}" if have else ""
        ),
        hint="a kubeconfig of the revoked name still works there",
    )


def _answer(may: str, message: str) -> str:
    if may == "no":
        return "refused"
    return f"still works: {message or 'there is no Workflow'}" if may == "yes" else f"cannot be tried: {message}"


def _holds(pem: bytes, ca: bytes) -> bool:
    return certificates.signed_by(pem, ca) and certificates.read(pem).days_left >= 0
