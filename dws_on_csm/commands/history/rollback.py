"""Back to how a site was before a run: what is known of that on the hosts, and the run that brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dws_on_csm.commands.history import former_state, rollback_target
from dws_on_csm.commands.history.host_record import Trail, literals, trail
from dws_on_csm.config.site import Host, Site
from dws_on_csm.display import console
from dws_on_csm.display.progress import fold
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.cluster_api import MALFORMED
from dws_on_csm.model.errors import TROUBLE, Unreachable, untold
from dws_on_csm.model.snapshot import Goal
from dws_on_csm.runner import past_runs
from dws_on_csm.runner.connections import Sessions, connect_all
from dws_on_csm.runner.exit_codes import FAILED, REFUSED
from dws_on_csm.runner.hosts import roles
from dws_on_csm.runner.interrupt import read_only
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.past_runs import Past
from dws_on_csm.runner.run import run
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import foreign_objects, installed
from dws_on_csm.stages.rollback import procedure, unchanged


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
    hosts = [*past_runs.known(site), *site.hosts("compute")]
    sessions = connect_all(site, hosts)
    try:
        master = sessions.master(site.master.host.name)
        # first of all: what a run changes from now on shows in the check of it, and is not undone by half
        records = _records(site, sessions, hosts)
        every = past_runs.joined({}, past_runs.on_hosts(site, sessions))
        wanted = _chosen(every, name, site)
        trails = _trails(site, sessions, hosts, wanted.id)
        passed = passed_over(every, trails, wanted.id)
        now = installed.read(master.cluster())
        ca = master.run(f"cat {site.master.pki}/ca.crt", deadline=30.0).out
        goes = trails[site.master.host.name].objects.get(installed.NAMESPACE, {"before": "?"})["before"] is None
        others = foreign_objects.found(master.cluster()) if goes and now["namespace"] else []
        binding, gone = master.cluster().get(former_state.BINDING), frozenset(revoked_names.read(master.cluster()))
    finally:
        sessions.close()
    known = rollback_target.Names(ca, binding, gone)
    try:
        goal, said = rollback_target.of(site, wanted, every, roles(site), trails, now, known)
    except former_state.Halfway as half:
        raise Cannot(_halfway(half, wanted, every)) from half
    if others and any(one.path == installed.NAMESPACE and one.before is None for one in goal.things):
        said.append(f"The namespace {names.NAMESPACE} stays, since others have put there: {', '.join(others)}.")
    return wanted, replace(goal, records=records, now=now), [*said, *passed]


def _halfway(half: former_state.Halfway, wanted: Past, every: Sequence[Past]) -> str:
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
        last = past_runs.last(every)
        later = [one.id for one in every if past_runs.headless(one) and (last is None or one.id > last.id)]
        if later:
            raise Cannot(
                f"Which run is to be rolled back is not known: of run {later[-1]} the record cannot be read that says "
                f"{past_runs.OPENED}. Name a run: `invoke journal` lists them."
            )
        if last is None:
            raise Cannot("Nothing to roll back: no run is known on the hosts that changed something and isn't undone.")
        return last
    if name not in found:
        raise Cannot(f"No run {name} is known on the hosts: `invoke journal` lists them; {site.keep_runs} are kept.")
    if past_runs.headless(found[name]):
        raise Cannot(
            f"Run {name} cannot be rolled back: its record on {site.master.host.name} that says {past_runs.OPENED} cannot be read."
        )
    if not found[name].kept:
        raise Cannot(f"Of run {name} no before-images are left: the last {site.keep_runs} runs are kept (keep_runs).")
    return found[name]


def _records(site: Site, sessions: Sessions, hosts: Sequence[Host]) -> dict[str, str]:
    lines = past_runs.reading(site, sessions, _there(sessions, hosts), unchanged.records())
    return {host: "".join(some) for host, some in lines.items()}


def _there(sessions: Sessions, hosts: Sequence[Host]) -> list[Host]:
    return [host for host in hosts if not isinstance(sessions[host.name], Unreachable)]


def _trails(site: Site, sessions: Sessions, hosts: Sequence[Host], first: str) -> dict[str, Trail]:
    there = _there(sessions, hosts)
    controllers = {host.name for host in site.controllers}
    lines: dict[str, list[str]] = {}
    for conf in (site.slurm.conf, ""):  # only a controller has a slurm.conf that decides anything
        some = [host for host in there if (host.name in controllers) == bool(conf)]
        lines |= past_runs.reading(site, sessions, some, chain(site, first, conf))
    return {host: trail(of_host(site, host, some)) for host, some in lines.items()}


def chain(site: Site, first: str, conf: str) -> str:
    """The script that tells what lies on a host of the run `first` and later ones; `conf`: the slurm.conf that it is to tell."""
    settings = {"state": STATE, "first": first, "conf": conf, "literals": "\n".join(literals(site))}
    settings["kubeconfig"] = names.KUBECONFIG
    return render.script("lib/safe_file.sh", "lib/holds_secret.sh", "host/chain.sh", **settings)


def of_host(site: Site, host: str, lines: Sequence[str]) -> list[str]:
    """The lines of chain.sh that count: of the cluster's objects the master alone speaks, the others of their own files."""
    return [line for line in lines if host == site.master.host.name or not line.startswith("object ")]
