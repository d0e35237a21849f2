"""What a rollback is to reach, from what lies on the hosts and what is there now; and what must stay as it is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dws_on_csm.commands.history import former_state
from dws_on_csm.commands.history.host_record import Trail
from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates, names, slurm_conf
from dws_on_csm.model.snapshot import ABSENT, FileSnapshot, Goal, ObjectSnapshot
from dws_on_csm.runner.past_runs import Past
from dws_on_csm.stages.slurm import activate, plugin, slurmctld


@dataclass(frozen=True)
class Names:
    """What tells whether a kubeconfig is worth anything: the cluster's CA (PEM), the binding, the names that were revoked."""

    ca: bytes
    binding: Any
    revoked: frozenset[str]


def of(
    site: Site,
    wanted: Past,
    every: Sequence[Past],
    roles: Mapping[str, Sequence[str]],
    trails: Mapping[str, Trail],
    now: Mapping[str, Any],
    known: Names,
) -> tuple[Goal, list[str]]:
    """What is to be reached, and what stays as it is, in sentences. Raises former_state.Halfway.

    wanted  the run before which everything is to be as it was
    every   all runs that are known
    trails  what lies on each host that answers
    now     what of DWS is there (see installed.read)
    """
    master = trails[site.master.host.name]
    was = former_state.former(wanted, every, site.master.host.name, now)
    dws = former_state.work(was, now)
    objects, said = former_state.things(master, was, dws, known.binding, known.revoked)
    said += former_state.said(was, now)
    inside = [one for one in objects if of_pods(site, one.path)]
    objects = [one for one in objects if one not in inside]
    conf = site.slurm.conf
    enabled = {
        host.name: _enabled(trails.get(host.name), conf, inside if host.pod else ()) for host in site.controllers
    }
    then = next((one.before for one in objects if one.path == former_state.BINDING), known.binding)
    known = replace(known, binding=then)
    made = {host: of_host(site, host, one, enabled.get(host, False), known) for host, one in trails.items()}
    files = {host: some for host, (some, _, _) in made.items()}
    said += [word for _, words, _ in made.values() for word in words]
    side = any(path in (conf, f"{site.slurm.folder}/{plugin.CONF}") for some in files.values() for path in some)
    off = any(not on and _has(trails[host].conf or "") for host, on in enabled.items() if host in trails)
    renew = any(anew for _, _, anew in made.values())
    renew = renew or any(enabled[name] for name in lost_kubeconfigs(site, master))
    # a kubeconfig that lies there may be of a name whose rights don't come back
    renew = renew or (former_state.left_out(master, known.revoked) and any(enabled.values()))
    if renew and (own := site.access.common_name) not in known.revoked:
        objects = former_state.with_subject(objects, own)
    spaces = {
        host: _space(site, trails[host], files[host], renew and on) for host, on in enabled.items() if host in trails
    }
    moved = {host: (old, new) for host, (old, new) in spaces.items() if old and new and old != new}
    goal = Goal(wanted.id, dws, files, objects, enabled, side, off, renew, inside, roles, was.version, moved)
    return goal, said


def _space(site: Site, found: Trail, files: Mapping[str, FileSnapshot], renewed: bool) -> tuple[str, str]:
    """The namespace that a controller's kubeconfig names now, and the one that it names afterwards; "" for no kubeconfig."""
    coming = files.get(names.KUBECONFIG)
    if coming is not None:
        return found.space, coming.space
    return found.space, site.access.namespace if renewed else found.space


def _has(text: str) -> bool:
    said = slurm_conf.value(text, activate.KEY)
    return bool(said and said.value.lower() == slurmctld.TYPE)


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


def _enabled(found: Trail | None, conf: str, inside: Sequence[ObjectSnapshot] = ()) -> bool:
    """Whether a controller's slurm.conf has the burst buffer when it is as it was; `inside`: the objects of a pod."""
    if found is None:
        return True
    for one in inside:
        if one.before and "slurm.conf" in one.before.get("data", {}):
            return _has(one.before["data"]["slurm.conf"])
    was = found.files.get(conf)
    return _has(was.text.decode(errors="surrogateescape") if was and was.text is not None else found.conf or "")


def of_host(
    site: Site, host: str, found: Trail, enabled: bool, known: Names
) -> tuple[dict[str, FileSnapshot], list[str], bool]:
    """The files that are to be as they were on a host; what stays and why; whether kubeconfigs are to be made anew."""
    files: dict[str, FileSnapshot] = {}
    said: list[str] = []
    anew = False
    needed = {f"{site.slurm.folder}/{plugin.LUA}", f"{site.slurm.folder}/{plugin.CONF}", names.KUBECONFIG}
    for path, one in found.files.items():
        if (
            any(one_.startswith(f"{site.master.workarea}/") for one_ in (path, one.image))
            and host == site.master.host.name
        ):
            continue
        if path in needed and one.sum == ABSENT and enabled:
            said.append(f"{path} on {host} stays, though it wasn't there: its slurmctld has the burst buffer.")
        elif why := _unusable(one, known):
            said.append(
                f"The former kubeconfig {'' if path == names.KUBECONFIG else f'{path} '}on {host} stays away: {why}."
            )
            anew = anew or (enabled and path == names.KUBECONFIG)
        else:
            files[path] = one
    return files, said, anew


def _unusable(one: FileSnapshot, known: Names) -> str:
    """Why a kubeconfig, wherever it lies, must not come back; "" where it may, or it is none."""
    if one.sum == ABSENT or (one.certificates is None and one.path != names.KUBECONFIG):
        return ""
    return next(filter(None, (_worthless(pem, known) for pem in one.certificates or (b"",))), "")


def _worthless(pem: bytes, known: Names) -> str:
    """Why a certificate is worth nothing, or worse; "" where it is as good as it was."""
    try:
        certificate, ours = certificates.read(pem), certificates.signed_by(pem, known.ca)
    except ValueError:
        return "its certificate can't be read"
    name, bound = certificate.common_name, former_state.subjects(known.binding)
    if name in known.revoked:
        return f"{name} was revoked"
    if certificate.until <= datetime.now(UTC):
        return f"its certificate ended on {certificate.until:%Y-%m-%d}"
    if not ours:
        return "the cluster's CA of today did not sign its certificate"
    return f"{name} has no rights any more" if bound and name not in bound else ""
