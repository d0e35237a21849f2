"""What a rollback is to reach, from what lies on the hosts and what is there now; and what must stay as it is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fabfile import before, names, pki, slurmconf
from fabfile.history import Past
from fabfile.inventory import Site
from fabfile.stages import daemon, installed, plugin, revoked, slurm
from fabfile.stages.earlier import ABSENT, Dws, File, Goal, Thing
from fabfile.trails import Trail

BINDING = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{names.BINDING}"


@dataclass(frozen=True)
class Names:
    """What tells whether a kubeconfig is worth anything: the cluster's CA (PEM), the binding, the names that were revoked."""

    ca: bytes
    binding: Any
    revoked: frozenset[str]


def of(
    site: Site,
    wanted: Past,
    roles: Mapping[str, Sequence[str]],
    trails: Mapping[str, Trail],
    now: Mapping[str, Any],
    known: Names,
) -> tuple[Goal, str, list[str]]:
    """What is to be reached, slurm.conf's path, and what stays as it is, in sentences.

    wanted  the run before which everything is to be as it was
    trails  what lies on each host that answers
    now     what of DWS is there (see installed.read)
    """
    master, dws = trails[site.master.host.name], dws_work(wanted, now)
    objects, said = things(master, dws, known.revoked, wanted)
    inside = [one for one in objects if of_pods(site, one.path)]
    objects = [one for one in objects if one not in inside]
    conf = next((one.conf[0] for one in trails.values() if one.conf[0]), site.slurm.conf)
    enabled = {
        host.name: _enabled(trails.get(host.name), conf, inside if host.pod else ()) for host in site.controllers
    }
    known = replace(known, binding=next((one.before for one in objects if one.path == BINDING), known.binding))
    made = {host: of_host(site, host, one, enabled.get(host, False), known) for host, one in trails.items()}
    files = {host: some for host, (some, _, _) in made.items()}
    said += [word for _, words, _ in made.values() for word in words]
    side = any(path in (conf, f"{site.slurm.folder}/{plugin.CONF}") for some in files.values() for path in some)
    off = any(not on and _has(trails[host].conf[1]) for host, on in enabled.items() if host in trails)
    renew = any(anew for _, _, anew in made.values())
    renew = renew or any(enabled[name] for name in lost_kubeconfigs(site, master))
    return Goal(wanted.id, dws, files, objects, enabled, side, off, renew, inside, roles), conf, said


def dws_work(wanted: Past, now: Mapping[str, Any]) -> Dws:
    """What is to be done about DWS: where it wasn't there it goes, where another version was that one comes."""
    was = wanted.installed
    if was is None:
        return "leave"
    if not (was["traces"] or was["crds"]) or was["unfinished"]:
        return "remove" if now["traces"] or now["crds"] or now["unfinished"] else "leave"
    same = installed.release(now["tag"]) == installed.release(was["tag"])
    return "leave" if same or not installed.release(was["tag"]) else "install"


def version(wanted: Past) -> str:
    """The version of DWS that was there before the run; "" where none was, or nobody looked."""
    return installed.release(wanted.installed["tag"]) if wanted.installed else ""


OF_DWS = ("deploy.", "previous.", "undeploy.")
"""Steps whose objects come and go with a version of DWS as a whole."""

OF_JOBS = f"/apis/{names.GROUP}/"
"""Where the API has Workflows. Runs take away those whose jobs are gone."""


def things(master: Trail, dws: str, gone: frozenset[str], wanted: Past) -> tuple[list[Thing], list[str]]:
    """The objects that are to be as they were before `wanted`; what stays and why. `gone`: the names that were revoked."""
    made: list[Thing] = []
    said: list[str] = []
    for path, one in master.objects.items():
        was = one["before"]
        if path.startswith(OF_JOBS):
            said.append(f"{path.rpartition('/')[2]} stays as it is: Slurm knows its job no more.")
        elif one["step"].startswith(OF_DWS) and (dws == "install" or _came_back(one, wanted)):
            continue
        elif path == revoked.PATH:
            said.append(f"What was revoked stays revoked: {', '.join(sorted(gone))}.")
        elif path == BINDING and was is not None and (back := _subjects(was) & gone):
            said.append(
                f"{names.BINDING} stays as it is, since {', '.join(sorted(back))} had rights then and was revoked."
            )
        elif was is not None and was.get("withheld"):
            said.append(f"{path} stays as it is: what was in a Secret isn't kept.")
        else:
            made.append(Thing(path, was, _left(one, dws)))
    return made, said


def _came_back(one: Mapping[str, Any], wanted: Past) -> bool:
    """Whether an object of a DWS that was there before `wanted` is only one that a later run found absent: one run had
    undeployed it, as a whole and without a record of each object, and another one deployed it again."""
    there = bool(wanted.installed and wanted.installed["traces"])
    return there and one["before"] is None and min(one["left"], default="") > wanted.id


def _left(one: Mapping[str, Any], dws: str) -> frozenset[str]:
    """The fingerprints that an object may have; empty where that isn't known, or an undeploy comes before."""
    runs = one["left"]
    last = runs[max(runs)] if runs else []
    if None in last or (dws == "remove" and one["step"].startswith(OF_DWS)):
        return frozenset()
    return frozenset({last[-1], before.fingerprint(one["before"])}) if last else frozenset()


def _has(text: str) -> bool:
    said = slurmconf.value(text, slurm.KEY)
    return bool(said and said.value.lower() == daemon.TYPE)


def of_pods(site: Site, path: str) -> bool:
    """Whether an object is one that a slurmctld in a pod is made of, or has as its /etc/slurm."""
    spaces = {host.pod.namespace for host in site.controllers if host.pod}
    kinds = ("configmaps", "secrets", "deployments", "statefulsets")
    return any(f"/namespaces/{space}/{kind}/" in path for space in spaces for kind in kinds)


def lost_kubeconfigs(site: Site, master: Trail) -> list[str]:
    """The pods whose kubeconfig was a Secret then, which can't come back: nothing that was in one is kept."""
    withheld = [path for path, one in master.objects.items() if (one["before"] or {}).get("withheld")]
    return [
        host.name
        for host in site.controllers
        if host.pod and any(f"/namespaces/{host.pod.namespace}/secrets/" in path for path in withheld)
    ]


def _enabled(found: Trail | None, conf: str, inside: Sequence[Thing] = ()) -> bool:
    """Whether a controller's slurm.conf has the burst buffer when it is as it was; `inside`: the objects of a pod."""
    if found is None:
        return True
    for one in inside:
        if one.before and "slurm.conf" in one.before.get("data", {}):
            return _has(one.before["data"]["slurm.conf"])
    was = found.files.get(conf)
    return _has(was.text.decode(errors="surrogateescape") if was and was.text is not None else found.conf[1])


def _subjects(binding: Any) -> frozenset[str]:
    return frozenset(one["name"] for one in (binding or {}).get("subjects", []))


def of_host(
    site: Site, host: str, found: Trail, enabled: bool, known: Names
) -> tuple[dict[str, File], list[str], bool]:
    """The files that are to be as they were on a host; what stays and why; whether kubeconfigs are to be made anew."""
    files: dict[str, File] = {}
    said: list[str] = []
    anew = False
    needed = {f"{site.slurm.folder}/{plugin.LUA}", f"{site.slurm.folder}/{plugin.CONF}", names.KUBECONFIG}
    for path, one in found.files.items():
        if path.startswith(f"{site.master.workarea}/") and host == site.master.host.name:
            continue
        if path in needed and one.sum == ABSENT and enabled:
            said.append(f"{path} on {host} stays, though it wasn't there: its slurmctld has the burst buffer.")
        elif path == names.KUBECONFIG and (why := _unusable(one, found, known)):
            said.append(f"The former kubeconfig on {host} stays away: {why}.")
            anew = anew or enabled
        else:
            files[path] = one
    return files, said, anew


def _unusable(one: File, found: Trail, known: Names) -> str:
    """Why a kubeconfig must not come back, or ""."""
    if one.sum == ABSENT:
        return ""
    try:
        pem = found.certificates.get(one.run, b"")
        certificate, ours = pki.read(pem), pki.signed_by(pem, known.ca)
    except ValueError:
        return "its certificate can't be read"
    name, bound = certificate.common_name, _subjects(known.binding)
    if name in known.revoked:
        return f"{name} was revoked"
    if certificate.until <= datetime.now(UTC):
        return f"its certificate ended on {certificate.until:%Y-%m-%d}"
    if not ours:
        return "the cluster's CA of today did not sign its certificate"
    return f"{name} has no rights any more" if bound and name not in bound else ""
