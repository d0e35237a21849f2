"""What it means that a step is not as wanted: findings with names. One entry a step; a step without one is told as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fabfile import doctor_access, names
from fabfile.diff import difference
from fabfile.look import LookFailed
from fabfile.reading import redo
from fabfile.stages import access, daemon, installed, plugin
from fabfile.step import Finding, Place, Value

Rule = Callable[[Place, Value, Value], Iterable[Finding]]
"""Place, what is there and what is wanted, which differ -> what is wrong."""


SIGNS = "- is there, + is wanted"
"""What a difference's signs mean."""


def _redo(place: Place, what: str) -> str:
    return redo(place.site, place.host, what)


def other(key: str) -> Rule:
    """The rule for a step that has none."""

    def rule(place: Place, have: Value, want: Value) -> Iterator[Finding]:
        lines = "; ".join(difference(have, want)[:4])
        yield Finding("not-as-wanted", f"{key} on {place.host} is not as wanted: {lines}", _redo(place, key))

    return rule


def _clone(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    folder = names.clone(place.site)
    if have["modified"]:
        text = f"{folder} was changed: {', '.join(have['modified'])}; a deploy would ask for an image with a -dirty tag"
        yield Finding("workarea-modified", text, f"git -C {folder} diff, then git -C {folder} checkout .")
    if have["at"] != want["at"]:
        text = f"{folder} is not the clone at its tag ({have['at']}): an undeploy needs it"
        yield Finding("workarea-missing", text, _redo(place, "workarea"))


def _kustomize(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    text = f"kustomize in {names.clone(place.site)}/bin is {have['there']}, and its Makefile asks for {have['asked']}"
    yield Finding("kustomize-missing", text, _redo(place, "workarea"))


def _images(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    """Raises LookFailed for what the registry doesn't let anybody see."""
    for name, one in have.items():
        if one["registry"] == "absent":
            text = f"{name} is not in the registry: a pod that starts anew on another node will not come up"
            yield Finding("image-missing", text, _redo(place, "images"))
        elif one["registry"].startswith("sha256:") and one["registry"] != want[name]["registry"]:
            yield Finding("image-differs", f"{name} in the registry is not what was pushed", _redo(place, "images"))
    if dark := {one["registry"] for one in have.values() if one["registry"].startswith("not readable")}:
        raise LookFailed(f"which images are there: {', '.join(sorted(dark)).removeprefix('not readable: ')}")


def _applied(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    if not installed.there(place):
        return  # said once, by itself
    if missing := have["missing"]:
        text = f"{len(missing)} objects of DWS are missing: {_some(missing)}"
        yield Finding("objects-missing", text, _redo(place, "deploy"))
    if odd := have["not as rendered"]:
        text = f"{len(odd)} objects of DWS are not as its manifests have them: {_some(odd)}"
        yield Finding("objects-differ", text, _redo(place, "deploy"))


def _some(words: list[str], shown: int = 3) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return "; ".join(words[:shown]) + more


def _available(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    if installed.there(place):
        counts = ", ".join(f"{name} {_of(have[name], want[name])}" for name in (names.CONTROLLER, names.WEBHOOK))
        text = f"not all pods of DWS are ready: {counts}{'; ' + have['because'] if have['because'] else ''}"
        fix = f"kubectl -n {names.NAMESPACE} describe pods on the master; {_redo(place, 'deploy')} once the reason is gone"
        yield Finding("pods-not-ready", text, fix)


def _of(have: str, want: str) -> str:
    """So many of those that are wanted, and not of those that somebody asked for."""
    return have if have == "missing" else f"{have.partition(' of ')[0]} of {want.partition(' of ')[2]}"


def _admits(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    if installed.there(place):
        text = f"DWS's webhook does not admit a Workflow, so every #DW sbatch fails: {have['webhook']}"
        fix = f"kubectl -n {names.NAMESPACE} get pods,service,endpoints on the master; {_redo(place, 'deploy')}"
        yield Finding("webhook-not-answering", text, fix)


def _repository(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    folder, why = plugin.clone(place.site), "what the plugin's files should be comes from there"
    if have and have["modified"]:
        text = f"{folder} was changed: {', '.join(have['modified'])}; {why}"
        yield Finding("plugin-clone", text, f"git -C {folder} diff, then git -C {folder} checkout .")
    else:
        yield Finding("plugin-clone", f"{folder} is not the clone at its tag; {why}", _redo(place, "plugin"))


def _lua(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    yield from _file(place, plugin.LUA, "plugin", have, want, "every #DW sbatch is refused")


def _conf(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    yield from _file(
        place, plugin.CONF, "burst-buffer-conf", have, want, "#DW jobs run without a Workflow, nothing says so"
    )


def _file(place: Place, name: str, short: str, have: Value, want: Value, effect: str) -> Iterator[Finding]:
    path, fix = f"{place.site.slurm.folder}/{name}", _redo(place, "plugin")
    if have is None:
        yield Finding(f"{short}-missing", f"there is no {path} on {place.host}: {effect}", fix)
        return
    if have["text"] != want["text"]:
        lines = "; ".join(line for line in difference(have["text"], want["text"]) if line[:1] in "+-")
        text = f"{path} on {place.host} is not that of plugin {place.site.versions.plugin} ({SIGNS}): {lines[:200]}"
        yield Finding(f"{short}-edited", text, fix)
    if (have["mode"], have["owner"]) != (want["mode"], want["owner"]):
        text = f"{path} on {place.host} has mode {have['mode']} and owner {have['owner']}"
        yield Finding(f"{short}-mode", f"{text}, not {want['mode']} and {want['owner']}", fix)


def _slurm_conf(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    text = f"slurm.conf on {place.host} has no BurstBufferType={daemon.TYPE}: #DW lines are comments there"
    yield Finding("burst-buffer-off", text, _redo(place, "slurm"))


def _daemon(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    unit, fix = place.site.slurm.service, _redo(place, "slurm")
    if not have["answers"]:
        text = f"slurmctld on {place.host} does not answer `scontrol ping`"
        yield Finding("slurmctld-not-answering", text, f"journalctl -u {unit} there; {fix}")
    lacks = f"{place.site.slurm.folder}/burst_buffer.conf" not in daemon.found(place)["changed"]
    if why := [one for one in have["not read"] if not (lacks and "burst_buffer.conf" in one)]:
        text = f"slurmctld on {place.host} is older than its files: {'; '.join(why)}"
        yield Finding("slurmctld-stale", text, fix)


def _node_conf(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    lines = _some([line for line in difference(have, want) if line[:2] in ("+ ", "- ")])
    text = f"{place.site.slurm.folder}/slurm.conf on {place.host} differs from the controllers' ({SIGNS}): {lines}"
    yield Finding("slurm-conf-differs", text, _redo(place, "computes"))


def _former(place: Place, have: Value, want: Value) -> Iterator[Finding]:
    """A name that a controller still has; one that nobody has makes the binding wrong, and that is told."""
    if used := access.former(place, [host.name for host in place.site.controllers]) & set(have):
        text = f"ClusterRoleBinding {names.BINDING} still has {', '.join(sorted(used))}, which a controller still uses"
        fix = "`invoke certs` shows which; `invoke install` gives it a new certificate, and takes the name out then"
        yield Finding("binding-former", text, fix)


RULES: dict[str, Rule] = {
    "workarea.clone": _clone,
    "workarea.kustomize": _kustomize,
    "images.pushed": _images,
    "deploy.applied": _applied,
    "deploy.available": _available,
    "deploy.admits": _admits,
    "access.role": lambda place, have, want: (),  # judged whatever is wanted
    "access.binding": doctor_access.binding,
    "access.kubeconfig": lambda place, have, want: doctor_access.rights(place, have) if have else (),
    "access.former": _former,
    "plugin.repository": _repository,
    "plugin.lua": _lua,
    "plugin.conf": _conf,
    "slurm.conf": _slurm_conf,
    "slurm.daemon": _daemon,
    "computes.conf": _node_conf,
    "verify.job": lambda place, have, want: (),  # no proof is no fault; it is noted
}
"""Step -> its rule."""

ALWAYS: dict[str, Callable[[Place, Value], Iterable[Finding]]] = {
    "access.role": doctor_access.role,
    "access.kubeconfig": doctor_access.file,
}
"""Step -> a judge of what was found there, whatever is wanted, and whether or not that can be said."""


def in_cluster(place: Place, found: Value) -> Iterator[Finding]:
    """What is there of DWS as a whole: nothing, another version, a tag that no registry has, CRDs that never go."""
    version = place.site.versions.dws
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
        text = f"CRDs of DWS are being deleted and do not go: {', '.join(stuck)}; no Workflow can be made"
        yield Finding("crds-stuck", text, "`invoke install` or `invoke undeploy` frees them")


ALWAYS["preflight.installed"] = in_cluster
