"""Findings about the master and the cluster: clones, images, DWS's objects and pods, DWS's version. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.commands.doctor import at_work, crashes, pod_fixes
from dws_on_csm.commands.doctor.diagnosis import SBATCH_FAILS, repair_fix
from dws_on_csm.domain import names
from dws_on_csm.engine.looks import FailureReason, LookFailed
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.step import Finding, StepContext, Value
from dws_on_csm.stages.dws import closing, deploy, external, images, installed, readiness, refusals
from dws_on_csm.stages.preflight import external_dws


def clone(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The clone of dws: modified, or not at its tag."""
    folder = names.clone(ctx.site)
    if have["modified"]:
        text = f"the clone {folder} has local changes ({', '.join(have['modified'])}): "
        text += "a deploy would ask for an image with a -dirty tag, which no registry has"
        yield Finding("workarea-modified", text, discard_changes(folder))
    if have["at"] != want["at"]:
        text = f"{folder} is missing, or is not a clone at its tag ({have['at']}): an undeploy needs it"
        yield Finding("workarea-missing", text, repair_fix(ctx, "workarea"))


def discard_changes(folder: str) -> str:
    """The fix for a clone with local changes."""
    return f"read the changes with `git -C {folder} diff`, save what you need, then run `git -C {folder} checkout .`"


def kustomize(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The kustomize that the clone's Makefile needs."""
    text = f"kustomize in {names.clone(ctx.site)}/bin is {have['there']}, but DWS's Makefile needs {have['asked']}"
    yield Finding("kustomize-missing", text, repair_fix(ctx, "workarea"))


def pushed(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Images that the registry lacks, or that differ from the pushed ones. LookFailed where the registry gave no answer."""
    for name, image in have.items():
        if image["registry"] == images.ABSENT:
            text = f"{name} is missing from the registry: a pod that restarts on another node cannot pull it"
            yield Finding("image-missing", text, repair_fix(ctx, "images"))
        elif images.has_digest(image["registry"]) and image["registry"] != want[name]["registry"]:
            text = f"{name} in the registry is a different image from the one that was pushed"
            yield Finding("image-differs", text, repair_fix(ctx, "images"))
    if reasons := sorted({image["problem"] for name, image in images.unreadable(ctx).items() if name in have}):
        text = f"the registry did not say which images it has: {', '.join(reasons)}"
        raise LookFailed(FailureReason(text))


def applied(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Objects of DWS that are missing, or differ from its manifests."""
    if not installed.there(ctx):
        return  # one finding says that: dws-not-installed
    if missing := have["missing"]:
        text = f"objects of DWS are missing: {first_few(missing)}"
        yield Finding("objects-missing", text, repair_fix(ctx, "deploy"))
    if differing := have["not as rendered"]:
        text = f"objects of DWS differ from its manifests: {first_few(differing)}"
        yield Finding("objects-differ", text, repair_fix(ctx, "deploy"))


def available(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """Pods that are not ready, with what they wait for; and the rule of the cluster that lets none be created."""
    if installed.there(ctx):
        state = ctx.facts.one(readiness.FACT)
        if uncounted := state["uncounted"]:
            yield _away(uncounted)
        if blocked := state["blocked"]:
            yield _blocked(blocked)
            return
        if unplaced := state["unplaced"]:
            text = f"kube-scheduler does not run, or does not respond, so no new pod starts: {unplaced}"
            yield Finding(
                "scheduler-away", text, f"{_started_by_kubelet('kube-scheduler')}; the pods then start automatically"
            )
        if refusal := state["refusal"]:
            yield refusals.finding(refusal, "pods of DWS", names.NAMESPACE, "pods that end are not replaced")
        wanted = readiness.wanted_pods(ctx)
        counts = ", ".join(f"{name} {_of_wanted(state['pods'][name], wanted[name])}" for name in wanted)
        text = f"not all pods of DWS are ready: {counts}{'; ' + state['because'] if state['because'] else ''}"
        text += crashes.last_words(ctx)
        if readiness.accepted_available(ctx, have, want) in ctx.site.accept:
            yield Finding("workers-few", text, "make another worker Ready; the pod then starts there automatically")
        else:
            yield Finding("pods-not-ready", text, pod_fixes.fix(ctx, state["lacking"]) + repair_fix(ctx, "deploy"))


def _blocked(name: str) -> Finding:
    """A restart of the pods by hand, for example, on as many workers as there are pods."""
    text = f"the update of Deployment {name} cannot finish: its new pod needs a worker on which no pod of {name} runs, and finds "
    text += "none. The old pods still serve"
    fix = f"run `kubectl -n {names.NAMESPACE} rollout undo deployment/{name}` on the master, which keeps the old pods. To restart "
    fix += "the pods, delete them one at a time, and wait until each new pod is ready"
    return Finding("update-blocked", text, fix)


def _away(why: str) -> Finding:
    text = f"kube-controller-manager does not run, or does not respond, so pods that end are not replaced: {why}"
    return Finding(
        "controller-manager-away", text, f"{_started_by_kubelet('kube-controller-manager')}; it creates the pods"
    )


def _started_by_kubelet(program: str) -> str:
    """What to do about a program of Kubernetes that the kubelet of each master starts."""
    shown = f"run `crictl ps -a --name {program}` and `journalctl -u kubelet` on each master: they show why it does "
    return shown + f"not run (kubeadm starts it by /etc/kubernetes/manifests/{program}.yaml). Start it"


def _of_wanted(pods: readiness.Pods | None, wanted: int) -> str:
    """ "2 of 3": the ready pods, of those that DWS's manifests ask for (a Deployment may have been scaled since)."""
    return readiness.pods_text({"ready": pods["ready"], "wanted": wanted} if pods else None)


def admits(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """A webhook that rejects every new Workflow; or a rule of the cluster that does."""
    if installed.there(ctx) and (refusal := ctx.facts.one(deploy.ADMISSION)["refusal"]):
        yield refusals.finding(refusal, "Workflows", ctx.site.access.namespace, SBATCH_FAILS)
    elif installed.there(ctx) and have["webhook"] == deploy.UNCHECKED:
        yield _webhooks_not_called()
    elif installed.there(ctx):
        text = f"DWS's webhook does not admit a test Workflow, so {SBATCH_FAILS}: {have['webhook']}"
        seen = ctx.facts.one_or_none(external.FACT)
        space = seen["namespace"] if seen else names.NAMESPACE
        fix = f"run `kubectl -n {space} get pods,service,endpoints` on the master to see its pods; then "
        fix += external_dws.ASK if ctx.site.external else repair_fix(ctx, "deploy")
        yield Finding("webhook-not-answering", text, fix)


def _webhooks_not_called() -> Finding:
    text = "the API server does not call DWS's webhooks: it admits a Workflow with a #DW line that no rule has, which they reject. "
    text += "So nobody checks the #DW lines of jobs: sbatch accepts wrong ones"
    flags = "ps -C kube-apiserver -o args= | grep -o -e '--disable-admission-plugins[= ][^ ]*'"
    fix = f"run `{flags}` on each master. If it shows MutatingAdmissionWebhook or ValidatingAdmissionWebhook, remove these two "
    fix += "from that option of the API server (kubeadm: in /etc/kubernetes/manifests/kube-apiserver.yaml; the kubelet then "
    fix += "restarts it). "
    fix += "Otherwise compare namespaceSelector, objectSelector, matchConditions and rules of DWS's webhooks with its manifests: "
    shown = "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations -o yaml"
    return Finding("webhooks-not-called", text, f"{fix}`{shown}` on the master shows them")


def admits_slowly(ctx: StepContext, have: Value) -> Iterator[Finding]:
    """Other programs' webhooks that make each creation of a Workflow wait."""
    if have["waiting"]:
        yield refusals.slow_finding(have["seconds"], have["waiting"])


def closed(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """DWS that an interrupted run left closed; during a run, DWS may be closed."""
    if ctx.facts.one(at_work.FACT):
        return
    text = "DWS is closed: an interrupted run left the ValidatingWebhookConfiguration "
    text += f"{closing.NAME}, which makes the API server reject new Workflows"
    text += " of the Slurm that was being undeployed" if ctx.site.external else f", so {SBATCH_FAILS}"
    fix = "run `invoke install` (or `invoke undeploy`), which reopens it; or only reopen it: "
    fix += f"`kubectl delete validatingwebhookconfiguration {closing.NAME}` on {ctx.host}"
    yield Finding("dws-closed", text, fix)


def namespace(ctx: StepContext, have: Value, want: Value) -> Iterator[Finding]:
    """The namespace of Workflows where it is missing and an install creates it; the preflight's check reports the other cases."""
    if have == "missing":
        text = f"the namespace {ctx.site.access.namespace} (access.namespace) does not exist, so {SBATCH_FAILS}"
        yield Finding("namespace-missing", text, "run `invoke install`, which creates it")


def in_cluster(ctx: StepContext, dws: Value) -> Iterator[Finding]:
    """DWS as a whole: not installed, another version, a tag that no registry has, CRDs whose deletion is stuck. The check
    preflight.dws reports the state of a DWS that somebody else deploys."""
    if ctx.site.external:
        return
    version = ctx.site.versions.dws
    if not (dws["traces"] or dws["crds"] or dws["unfinished"]):
        text = f"DWS is not installed in the cluster, so {SBATCH_FAILS}"
        yield Finding("dws-not-installed", text, "run `invoke install`")
    if dws["tag"].endswith("-dirty"):
        text = f"DWS runs an image with the tag {dws['tag']}: it was deployed from a clone with local changes, "
        text += "and no registry has that tag, so a restarted pod may not come up"
        fix = f"run `invoke install`: after a confirmation it undeploys this DWS and deploys {version}. "
        fix += "Before that, save the changes that you need (`git status` in that clone)"
        yield Finding("dirty-tag", text, fix)
    elif dws["tag"] not in ("", version):
        text = f"DWS {dws['tag']} is installed, but the site file asks for {version}"
        fix = f"run `invoke install` to replace it with {version}, or set versions.dws in the site file to {dws['tag']}"
        yield Finding("other-version", text, fix)
    if dws["unfinished"]:
        text = f"an undeploy of DWS {dws['unfinished']} was interrupted, and part of it is left"
        yield Finding("undeploy-unfinished", text, "run `invoke undeploy` to finish it, or `invoke install`")
    if stuck := [plural for plural, crd in dws["crds"].items() if crd["deleting"]]:
        text = f"the deletion of DWS's CRDs is stuck ({', '.join(stuck)}): their objects cannot be created"
        text += f", so {SBATCH_FAILS}" if "workflows" in stuck else ""
        fix = "run `invoke install` or `invoke undeploy`: it says which objects block the deletion, and releases them"
        yield Finding("crds-stuck", text, fix)
