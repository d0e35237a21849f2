"""Back to how a site was before a run: what is known of that on the hosts, and the run that brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fabfile import console, former, goals, history, names, render
from fabfile.actions import STATE
from fabfile.api import MALFORMED
from fabfile.connect import Sessions, connect_all
from fabfile.faults import Unreachable
from fabfile.history import Past
from fabfile.interrupt import read_only
from fabfile.inventory import Host, Site
from fabfile.options import Options
from fabfile.progress import fold
from fabfile.reached import TROUBLE, roles, untold
from fabfile.run import run
from fabfile.stages import installed, lodgers, revoked, since
from fabfile.stages import rollback as procedure
from fabfile.stages.earlier import Goal
from fabfile.summary import FAILED, REFUSED
from fabfile.trails import Trail, literals, trail


class Cannot(Exception):
    """There is nothing that could be rolled back, or it can't be; says why."""


def rollback(site: Site, name: str, options: Options) -> int:
    """Put everything back as it was before the run `name` ("": the last that changed something); the exit code."""
    try:
        with read_only():
            wanted, goal, kept = _read(site, name)
    except Cannot as error:
        console.note(error)
        return REFUSED
    except TROUBLE as error:
        console.note(f"{getattr(error, 'host', '')}: {error}")
        return FAILED
    except MALFORMED as error:
        console.note(f"nothing was rolled back: {untold(error)}")
        return FAILED
    told = f"The workarea {site.master.workarea} and the images in {site.registry.name} stay."
    said = " ".join([told, *kept])
    where = ""
    if site.limit is not None:
        where = f" on {fold(sorted(site.limit))}; where else run {wanted.id} changed something, it is not undone"
    done, right = (
        f"Rolled back to how it was before {wanted.id}{where}. {said}",
        f"It is as before {wanted.id}{where}. {said}",
    )
    made = replace(options, flags=f" {wanted.id}", undoes=wanted.id, done=done, right=right)
    as_of = replace(site, versions=replace(site.versions, dws=goal.version or site.versions.dws))
    return run(as_of if goal.dws == "install" else site, procedure.stages(goal, site.slurm.conf), made)


def _read(site: Site, name: str) -> tuple[Past, Goal, list[str]]:
    """The run, what is to be reached, and what stays as it is, in sentences."""
    hosts = [*history.known(site), *site.hosts("compute")]
    sessions = connect_all(site, hosts)
    try:
        if isinstance(master := sessions[site.master.host.name], Unreachable):
            raise master
        # first of all: what a run changes from now on shows in the check of it, and is not undone by half
        records = _records(site, sessions, hosts)
        every = history.joined({}, history.on_hosts(site, sessions))
        wanted = _chosen(every, name, site)
        trails = _trails(site, sessions, hosts, wanted.id)
        passed = passed_over(every, trails, wanted.id)
        now = installed.read(master.cluster())
        ca = master.run(f"cat {site.master.pki}/ca.crt", deadline=30.0).out
        goes = trails[site.master.host.name].objects.get(installed.NAMESPACE, {"before": "?"})["before"] is None
        others = lodgers.found(master.cluster()) if goes and now["namespace"] else []
        binding, gone = master.cluster().get(former.BINDING), frozenset(revoked.read(master.cluster()))
    finally:
        sessions.close()
    known = goals.Names(ca, binding, gone)
    try:
        goal, said = goals.of(site, wanted, every, roles(site), trails, now, known)
    except former.Halfway as half:
        raise Cannot(_halfway(half, wanted, every)) from half
    if others and any(one.path == installed.NAMESPACE and one.before is None for one in goal.things):
        said.append(f"The namespace {names.NAMESPACE} stays, since others have put there: {', '.join(others)}.")
    return wanted, replace(goal, records=records, now=now), [*said, *passed]


def _halfway(half: former.Halfway, wanted: Past, every: Sequence[Past]) -> str:
    """Why nothing is rolled back where half of DWS was there, and which run to go back to instead."""
    text = (
        f"Before run {wanted.id}, DWS {half.version} was half removed: an undeploy had been cut off. That cannot be "
        "brought back, and the DWS of now stays."
    )
    whole = [
        one.id for one in every if one.id < wanted.id and one.kept and one.installed and not one.installed["unfinished"]
    ]
    back = f" `invoke rollback {whole[-1]}` goes back to when it was whole." if whole else ""
    return f"{text}{back} `invoke undeploy` removes DWS."


def passed_over(every: Sequence[Past], trails: Mapping[str, Trail], first: str) -> list[str]:
    """Records of the run `first` and later ones that can't be read and don't matter for a rollback, in sentences.

    Raises Cannot where one does: without it nobody knows how something was.
    """
    missed = [
        f"run {run}: {what}, on {host}"
        for host, one in trails.items()
        for run in one.missed
        for what in one.missed[run]
    ]
    if missed:
        raise Cannot(
            f"Nothing was rolled back: records of how things were cannot be read: {'; '.join(missed)}. "
            "Choose a later run (`invoke journal` lists them), or put it right by hand."
        )
    some = {
        (run, f"{what}, on {host}") for host, one in trails.items() for run in one.unread for what in one.unread[run]
    }
    some |= {(one.id, what) for one in every if one.id >= first for what in one.unread}
    return [f"A record of run {run} cannot be read and was passed over: {what}." for run, what in sorted(some)]


def _chosen(every: Sequence[Past], name: str, site: Site) -> Past:
    found = {one.id: one for one in every}
    if not name:
        last = history.last(every)
        later = [one.id for one in every if history.headless(one) and (last is None or one.id > last.id)]
        if later:
            raise Cannot(
                f"Which run is to be rolled back is not known: of run {later[-1]} the record cannot be read that says "
                f"{history.OPENED}. Name a run: `invoke journal` lists them."
            )
        if last is None:
            raise Cannot("Nothing to roll back: no run is known on the hosts that changed something and isn't undone.")
        return last
    if name not in found:
        raise Cannot(f"No run {name} is known on the hosts: `invoke journal` lists them; {site.keep_runs} are kept.")
    if history.headless(found[name]):
        raise Cannot(
            f"Run {name} cannot be rolled back: its record on {site.master.host.name} that says {history.OPENED} cannot be read."
        )
    if not found[name].kept:
        raise Cannot(f"Of run {name} no before-images are left: the last {site.keep_runs} runs are kept (keep_runs).")
    return found[name]


def _records(site: Site, sessions: Sessions, hosts: Sequence[Host]) -> dict[str, str]:
    lines = history.reading(site, sessions, _there(sessions, hosts), since.records())
    return {host: "".join(some) for host, some in lines.items()}


def _there(sessions: Sessions, hosts: Sequence[Host]) -> list[Host]:
    return [host for host in hosts if not isinstance(sessions[host.name], Unreachable)]


def _trails(site: Site, sessions: Sessions, hosts: Sequence[Host], first: str) -> dict[str, Trail]:
    there = _there(sessions, hosts)
    controllers = {host.name for host in site.controllers}
    lines: dict[str, list[str]] = {}
    for conf in (site.slurm.conf, ""):  # only a controller has a slurm.conf that decides anything
        some = [host for host in there if (host.name in controllers) == bool(conf)]
        lines |= history.reading(site, sessions, some, chain(site, first, conf))
    return {host: trail(of_host(site, host, some)) for host, some in lines.items()}


def chain(site: Site, first: str, conf: str) -> str:
    """The script that tells what lies on a host of the run `first` and later ones; `conf`: the slurm.conf that it is to tell."""
    settings = {"state": STATE, "first": first, "conf": conf, "literals": "\n".join(literals(site))}
    settings["kubeconfig"] = names.KUBECONFIG
    return render.script("safe_file.sh", "holds_secret.sh", "chain.sh", **settings)


def of_host(site: Site, host: str, lines: Sequence[str]) -> list[str]:
    """The lines of chain.sh that count: of the cluster's objects the master alone speaks, the others of their own files."""
    return [line for line in lines if host == site.master.host.name or not line.startswith("object ")]
