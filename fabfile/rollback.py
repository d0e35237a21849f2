"""Back to how a site was before a run: what is known of that on the hosts, and the run that brings it about."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from fabfile import before, history, names, pki, render, slurmconf
from fabfile.actions import STATE
from fabfile.connect import Sessions, connect_all
from fabfile.faults import Unreachable
from fabfile.history import Past
from fabfile.inventory import Host, Site
from fabfile.run import REFUSED, TROUBLE, Options, roles, run
from fabfile.stages import daemon, installed, plugin, revoked, slurm
from fabfile.stages import rollback as procedure
from fabfile.stages.rollback import ABSENT, File, Goal, Thing

BINDING = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{names.BINDING}"


@dataclass
class Trail:
    """What lies on a host of a run and all later ones.

    files        path -> how it was before the first of them that changed it
    certificates run -> that of the kubeconfig in its before-image (PEM)
    objects      path -> how it was, on the master alone; `left` what it became
    conf         slurm.conf's real path and its text now
    """

    files: dict[str, File] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    conf: tuple[str, str] = ("", "")


class Cannot(Exception):
    """There is nothing that could be rolled back, or it can't be; says why."""


def rollback(site: Site, name: str, options: Options) -> int:
    """Put everything back as it was before the run `name` ("": the last that changed something); the exit code."""
    try:
        wanted, goal, conf, kept = _read(site, name)
    except Cannot as error:
        print(error, file=sys.stderr)  # noqa: T201
        return REFUSED
    except TROUBLE as error:
        print(f"{getattr(error, 'host', '')}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    told = f"The workarea {site.master.workarea} and the images in {site.registry.name} stay."
    said = " ".join([told, *kept])
    done, right = f"Rolled back to how it was before {wanted.id}. {said}", f"It is as before {wanted.id}. {said}"
    made = replace(options, flags=f" {wanted.id}", undoes=wanted.id, done=done, right=right)
    as_of = replace(site, versions=replace(site.versions, dws=_version(wanted) or site.versions.dws))
    return run(as_of if goal.dws == "install" else site, procedure.stages(goal, conf), made)


def _read(site: Site, name: str) -> tuple[Past, Goal, str, list[str]]:
    """The run, what is to be reached, slurm.conf's path, and what stays as it is, in sentences."""
    hosts = [*history.known(site), *site.hosts("compute")]
    sessions = connect_all(site, hosts)
    try:
        if isinstance(master := sessions[site.master.host.name], Unreachable):
            raise master
        every = history.joined({}, history.on_hosts(site, sessions))
        wanted = _chosen(every, name, site)
        trails = _trails(site, sessions, hosts, wanted.id)
        now = installed.read(master.cluster())
        ca = master.run(f"cat {site.master.pki}/ca.crt", deadline=30.0).out
        binding, gone = master.cluster().get(BINDING), frozenset(revoked.read(master.cluster()))
    finally:
        sessions.close()
    return wanted, *_goal(site, wanted, trails, now, Names(ca, binding, gone))


def _chosen(every: Sequence[Past], name: str, site: Site) -> Past:
    found = {one.id: one for one in every}
    if not name:
        last = history.last(every)
        if last is None:
            raise Cannot("Nothing to roll back: no run is known on the hosts that changed something and isn't undone.")
        return last
    if name not in found:
        raise Cannot(f"No run {name} is known on the hosts: `invoke journal` lists them; {site.keep_runs} are kept.")
    if not found[name].kept:
        raise Cannot(f"Of run {name} no before-images are left: the last {site.keep_runs} runs are kept (keep_runs).")
    return found[name]


# --- what lies on the hosts


def _trails(site: Site, sessions: Sessions, hosts: Sequence[Host], first: str) -> dict[str, Trail]:
    there = [host for host in hosts if not isinstance(sessions[host.name], Unreachable)]
    settings = {"state": STATE, "first": first, "kubeconfig": names.KUBECONFIG, "conf": slurm.path(site)}
    lines = history.reading(site, sessions, there, render.script("chain.sh", **settings))
    return {host: trail(some) for host, some in lines.items()}


def trail(lines: Sequence[str]) -> Trail:
    """What the lines of templates/chain.sh say."""
    found = Trail()
    left: dict[str, tuple[str, set[str]]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word in ("image", "absent"):
            one = _image(rest) if word == "image" else _absence(rest)
            found.files.setdefault(one.path, one)
            _leaves(left, one.run, one.path, one.sum)
        elif word == "left":
            run, sum_, path = rest.split(" ", 2)
            _leaves(left, run, path, sum_)
        elif word == "object":
            _object(found.objects, rest)
        elif word == "certificate":
            run, _, text = rest.partition(" ")
            found.certificates[run] = base64.b64decode(text)
        elif word == "conf":
            path, _, text = rest.partition(" ")
            found.conf = path, base64.b64decode(text).decode(errors="surrogateescape")
    found.files = {path: replace(one, left=frozenset(left[path][1])) for path, one in found.files.items()}
    return found


def _leaves(left: dict[str, tuple[str, set[str]]], run: str, path: str, sum_: str) -> None:
    """What the last run that had to do with a file found or left there; runs come in order, but for a run's own lines."""
    last, sums = left.get(path, ("", set()))
    if run > last:
        left[path] = run, {sum_}
    elif run == last:
        sums.add(sum_)


def _image(rest: str) -> File:
    run, mode, owner, sum_, content, path = rest.split(" ", 5)
    text = None if path == names.KUBECONFIG else base64.b64decode("" if content == "-" else content)
    return File(path, run, mode, owner, sum_, frozenset(), text)


def _absence(rest: str) -> File:
    run, _, path = rest.partition(" ")
    return File(path, run, "", "", ABSENT, frozenset())


def _object(objects: dict[str, dict[str, Any]], rest: str) -> None:
    run, _, text = rest.partition(" ")
    try:
        record = json.loads(text)
    except ValueError:
        return  # a line that was cut off with its connection: nothing was changed after it
    one = objects.setdefault(
        record["path"], {"before": record.get("before"), "step": record.get("step", ""), "left": {}}
    )
    if "before" in record:
        one["left"][run] = [*one["left"].get(run, []), None]
    elif one["left"].get(run):
        one["left"][run] = [one_ for one_ in one["left"][run][:-1] if one_] + [record["left"]]


# --- what is to be reached


@dataclass(frozen=True)
class Names:
    """What tells whether a kubeconfig is worth anything: the cluster's CA (PEM), the binding, the names that were revoked."""

    ca: bytes
    binding: Any
    revoked: frozenset[str]


def _goal(
    site: Site, wanted: Past, trails: Mapping[str, Trail], now: Mapping[str, Any], known: Names
) -> tuple[Goal, str, list[str]]:
    master, dws = trails[site.master.host.name], _dws(wanted, now)
    things, said = _things(master, dws, known.revoked)
    conf = next((one.conf[0] for one in trails.values() if one.conf[0]), slurm.path(site))
    enabled = {host.name: _enabled(trails.get(host.name), conf) for host in site.controllers}
    known = replace(known, binding=next((one.before for one in things if one.path == BINDING), known.binding))
    files: dict[str, dict[str, File]] = {}
    renew = False
    for host, one in trails.items():
        files[host], words, anew = _host_files(site, host, one, enabled.get(host, False), known)
        said += words
        renew = renew or anew
    side = any(path in (conf, f"{site.slurm.folder}/{plugin.CONF}") for some in files.values() for path in some)
    off = any(not on and _has(trails[host].conf[1]) for host, on in enabled.items() if host in trails)
    goal = Goal(wanted.id, dws, files, things, enabled, side, off, renew, roles(site))
    return goal, conf, said


def _dws(wanted: Past, now: Mapping[str, Any]) -> Any:
    """What is to be done about DWS: where it wasn't there it goes, where another version was that one comes."""
    was = wanted.installed
    if was is None:
        return "leave"
    if not (was["traces"] or was["crds"]) or was["unfinished"]:
        return "remove" if now["traces"] or now["crds"] or now["unfinished"] else "leave"
    same = installed.release(now["tag"]) == installed.release(was["tag"])
    return "leave" if same or not installed.release(was["tag"]) else "install"


def _version(wanted: Past) -> str:
    return installed.release(wanted.installed["tag"]) if wanted.installed else ""


OF_DWS = ("deploy.", "previous.", "undeploy.")
"""Steps whose objects come and go with a version of DWS as a whole."""


def _things(master: Trail, dws: str, gone: frozenset[str]) -> tuple[list[Thing], list[str]]:
    made, said = [], []
    for path, one in master.objects.items():
        was = one["before"]
        if dws == "install" and one["step"].startswith(OF_DWS):
            continue
        if path == revoked.PATH:
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


def _enabled(found: Trail | None, conf: str) -> bool:
    """Whether a controller's slurm.conf has the burst buffer when it is as it was."""
    if found is None:
        return True
    was = found.files.get(conf)
    return _has(was.text.decode(errors="surrogateescape") if was and was.text is not None else found.conf[1])


def _subjects(binding: Any) -> frozenset[str]:
    return frozenset(one["name"] for one in (binding or {}).get("subjects", []))


def _host_files(
    site: Site, host: str, found: Trail, enabled: bool, known: Names
) -> tuple[dict[str, File], list[str], bool]:
    """The files that are to be as they were on a host; what stays and why; whether kubeconfigs are to be made anew."""
    files, said, anew = {}, [], False
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
