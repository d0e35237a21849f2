"""What can be wrong on the master and in the cluster: clones, images, DWS's objects and pods, which DWS it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.domain import names
from dws_on_csm.engine.looks import LookFailed
from dws_on_csm.model.step import Finding, StepContext, Value
from dws_on_csm.runner.inspect import redo
from dws_on_csm.stages.dws import installed, persistent_storage


def _redo(ctx: StepContext, what: str) -> str:
    return redo(ctx.site, ctx.host, what)


def clone(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The clone of dws: changed, or not at its tag."""
    folder = names.clone(ctx.site)
    if have["modified"]:
        text = f"{folder} was changed: {', '.join(have['modified'])}; a deploy would ask for an image with a -dirty tag"
        yield Finding("workarea-modified", text, f"git -C {folder} diff, then git -C {folder} checkout .")
    if have["at"] != want["at"]:
        text = f"{folder} is not the clone at its tag ({have['at']}): an undeploy needs it"
        yield Finding("workarea-missing", text, _redo(ctx, "workarea"))


def kustomize(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The kustomize that its Makefile asks for."""
    text = f"kustomize in {names.clone(ctx.site)}/bin is {have['there']}, and its Makefile asks for {have['asked']}"
    yield Finding("kustomize-missing", text, _redo(ctx, "workarea"))


def images(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Images that the registry lacks, or has otherwise than they were pushed. LookFailed for what it lets nobody see."""
    for name, one in have.items():
        if one["registry"] == "absent":
            text = f"{name} is not in the registry: a pod that starts anew on another node will not come up"
            yield Finding("image-missing", text, _redo(ctx, "images"))
        elif one["registry"].startswith("sha256:") and one["registry"] != want[name]["registry"]:
            yield Finding("image-differs", f"{name} in the registry is not what was pushed", _redo(ctx, "images"))
    if dark := {one["registry"] for one in have.values() if one["registry"].startswith("not readable")}:
        raise LookFailed(f"which images are there: {', '.join(sorted(dark)).removeprefix('not readable: ')}")


def applied(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Objects of DWS that are missing, or not as its manifests have them."""
    if not installed.there(ctx):
        return  # said once, by itself
    if missing := have["missing"]:
        text = f"missing of DWS: {some(missing)}"
        yield Finding("objects-missing", text, _redo(ctx, "deploy"))
    if odd := have["not as rendered"]:
        text = f"{len(odd)} objects of DWS are not as its manifests have them: {some(odd)}"
        yield Finding("objects-differ", text, _redo(ctx, "deploy"))


def available(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Pods that aren't ready, with what they wait for."""
    if installed.there(ctx):
        counts = ", ".join(f"{name} {_of(have[name], want[name])}" for name in (names.CONTROLLER, names.WEBHOOK))
        text = f"not all pods of DWS are ready: {counts}{'; ' + have['because'] if have['because'] else ''}"
        fix = (
            f"kubectl -n {names.NAMESPACE} describe pods on the master; {_redo(ctx, 'deploy')} once the reason is gone"
        )
        yield Finding("pods-not-ready", text, fix)


def _of(have: str, want: str) -> str:
    """So many of those that are wanted, and not of those that somebody asked for."""
    return have if have == "missing" else f"{have.partition(' of ')[0]} of {want.partition(' of ')[2]}"


def admits(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """A webhook that lets no Workflow be created."""
    if installed.there(ctx):
        text = f"DWS's webhook does not admit a Workflow, so every #DW sbatch fails: {have['webhook']}"
        fix = f"kubectl -n {names.NAMESPACE} get pods,service,endpoints on the master; {_redo(ctx, 'deploy')}"
        yield Finding("webhook-not-answering", text, fix)


def closed(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """DWS that a run closed, and nobody opened again; while a run is at work that is as it should be."""
    if ctx.facts.one(AT_WORK):
        return
    text = f"DWS is closed by ValidatingWebhookConfiguration {persistent_storage.CLOSED}, which a run that was cut off left: "
    text += "the API server refuses new Workflows, so every #DW sbatch fails"
    fix = "`invoke install` or `invoke undeploy` opens it, or "
    fix += f"kubectl delete validatingwebhookconfiguration {persistent_storage.CLOSED}"
    yield Finding("dws-closed", text, f"{fix} on {ctx.host}")


def namespace(ctx: StepContext, found: Value) -> Iterator[Finding]:
    """The namespace of Workflows that is not there, also where an install may make it."""
    if found["state"] == "missing" and ctx.site.access.create_namespace:
        text = f"there is no namespace {ctx.site.access.namespace} (access.namespace), so every #DW sbatch fails"
        yield Finding("namespace-missing", text, "`invoke install` makes it")


AT_WORK = "doctor.at-work"
"""What is at work on the master, in words; "" where nothing is."""


def some(words: list[str], shown: int = 3) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return "; ".join(words[:shown]) + more


def in_cluster(ctx: StepContext, found: Value) -> Iterator[Finding]:
    """What is there of DWS as a whole: nothing, another version, a tag that no registry has, CRDs that never go."""
    version = ctx.site.versions.dws
    if not (found["traces"] or found["crds"] or found["unfinished"]):
        yield Finding("dws-not-installed", "there is nothing of DWS in the cluster", "`invoke install`")
    if found["tag"].endswith("-dirty"):
        text = f"DWS runs with the tag {found['tag']}, which git gives a changed clone, and no registry has"
        fix = "see `git status` in the clone that it came from; `invoke install` asks, undeploys it and deploys the tag"
        yield Finding("dirty-tag", text, fix)
    elif found["tag"] not in ("", version):
        text = f"DWS {found['tag']} is in the cluster, and the site file asks for {version}"
        yield Finding("other-version", text, "`invoke install` takes the one for the other, or correct versions.dws")
    if found["unfinished"]:
        text = f"an undeploy of DWS {found['unfinished']} was cut off"
        yield Finding("undeploy-unfinished", text, "`invoke undeploy`, or `invoke install`, goes on from there")
    if stuck := [plural for plural, crd in found["crds"].items() if crd["deleting"]]:
        text = f"CRDs of DWS are being deleted and do not go: {', '.join(stuck)}; no object of theirs can be made"
        text += ", so every #DW sbatch fails" if "workflows" in stuck else ""
        yield Finding("crds-stuck", text, "`invoke install` or `invoke undeploy` says what holds them, and frees them")
