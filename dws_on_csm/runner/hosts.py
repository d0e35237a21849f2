"""The hosts of a run: which role each has, which of them answered, and how they are reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from dws_on_csm.config.site import Host, Site
from dws_on_csm.engine.context import Reach
from dws_on_csm.kube.client import Cluster, preload
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model.errors import Crowded, Unreachable
from dws_on_csm.model.events import Done, Event, Failure, Outcome
from dws_on_csm.runner.connections import Sessions, connect_all
from dws_on_csm.transport.session import Session


def roles(site: Site) -> dict[str, tuple[str, ...]]:
    """Role -> hosts; the submitter is the controller on which the test job is submitted, a pod one of the controllers."""
    every = {
        "master": (site.master.host.name,),
        "controller": tuple(host.name for host in site.controllers),
        "pod": tuple(host.name for host in site.controllers if host.pod),
        "submitter": (site.controllers[0].name,),
        "compute": tuple(host.name for host in site.hosts("compute")),
    }
    return {role: hosts for role, hosts in every.items() if hosts}


def connected(site: Site, hosts: Sequence[Host]) -> Sessions:
    """Connections to these hosts, the master among them, whose way to the Kubernetes API is made ready meanwhile."""
    threading.Thread(target=preload, daemon=True).start()
    sessions = connect_all(site, hosts)
    if isinstance(master := sessions[site.master.host.name], MasterSession):
        master.warm()
    return sessions


def connections(site: Site, sessions: Sessions) -> Reach:
    """How a run's hosts are reached through these connections."""

    def session(host: str) -> Session:
        found = sessions[host]
        if isinstance(found, Unreachable):
            raise found
        return found

    def cluster() -> Cluster:
        return sessions.master(site.master.host.name).cluster()

    return Reach(session, cluster, lambda role: roles(site)[role][0], fence=lambda run: cluster().fence(run))


def answering(
    site: Site, hosts: Mapping[str, tuple[str, ...]], sessions: Sessions, emit: Callable[[Event], None]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The hosts that answered by role, and those that should have. Each that didn't is told with what to do."""
    silent = {host: found for host, found in sessions.items() if isinstance(found, Unreachable)}
    spared = _spared(site, [host for host, found in silent.items() if not isinstance(found, Crowded)])
    for host, found in silent.items():
        failure = Failure(command=f"ssh {host}", meaning=found.text, fix=found.fix)
        note = "may be down, as the site file says" if host in spared else ""
        outcome: Outcome = "skipped" if host in spared else "failed"
        emit(Done(host, "connect", "ssh", outcome, time.time(), 0.0, note=note, failures=(failure,)))
    reached = {role: tuple(host for host in some if host not in silent) for role, some in hosts.items()}
    return reached, tuple(host for host in silent if host not in spared)


def _spared(site: Site, silent: Collection[str]) -> set[str]:
    """Unreachable compute nodes whose group may have so many of them down."""
    groups = [({host.name for host in group.hosts} & set(silent), group.may_be_down) for group in site.computes]
    return {host for down, allowed in groups if len(down) <= allowed for host in down}
