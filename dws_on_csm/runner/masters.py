"""Several masters in `master.host`: which of them is used, and which one has the records of the site's runs.

The first that answers is used. What only reads or proves works through any of them. Each master keeps journals, before-images and
the workarea on its own disk, so what changes a site goes through one of them alone: the one of the last such run, by the cluster's
Lease (engine/cluster_lease.py), and the first of the list where there was none. Through another one a rollback would not find what
a run changed, an undeploy would not find the clone, and the removal of old records would not know which are still needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dws_on_csm.config.site import Host, Site
from dws_on_csm.display import console
from dws_on_csm.engine import cluster_lease
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.printable import plain_line
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.runner.interrupt import ending_at_once


def choose(site: Site) -> Site:
    """The site with the first of its masters that answers; where none does, with the first of the list.

    A master that is not used is named on standard error, with the reason. A site file with one master is not tried here.

    This opens a connection and closes it again: commands connect to all of their hosts at once, and some more than once.
    """
    if not site.master.several:
        return site
    with ending_at_once():
        return _choose(site)


def _choose(site: Site) -> Site:
    silent: list[Unreachable] = []
    for host in site.master.listed:
        sessions = connect_all(using(site, host), [host])
        session = sessions[host.name]
        sessions.close()
        if not isinstance(session, Unreachable):
            if silent:
                console.note(*map(_not_used, silent), f"The master {host.name} is used.")
            return using(site, host, [str(error) for error in silent])
        silent.append(session)
    console.note(*map(_not_used, silent[1:]))  # the command itself reports the first, which it then tries
    return site


def _not_used(error: Unreachable) -> str:
    return f"The master {error.host} is not used: {error.text}"


def using(site: Site, host: Host, silent: Sequence[str] = ()) -> Site:
    """The site with one of its masters as the one that is used; `silent`: see config/site.Master."""
    return replace(site, master=replace(site.master, host=host, silent=tuple(silent)))


def records_elsewhere(site: Site, cluster: Cluster, session: Any) -> str:
    """Why nothing that changes the site may go through the master of `session`, in sentences; "" where it may.

    A site file with one master decides this itself, whatever the cluster says. Raises what session.run() raises.
    """
    if not site.master.several:
        return ""
    first, used = site.master.listed[0], site.master.host
    try:
        there = cluster_lease.records_on(cluster, controllers(site))
    except ClusterError as error:
        text = f"The API server does not answer ({error}), so it is unknown which master has the records of this site's runs."
        fix = f"Run the same command again when it answers. If {used.name} has the records, write `host: {used.name}` alone in the "
        fix += "site file: then the API server is not asked."
        return _explained(site, text, fix)
    if there is None:
        if used == first:
            return ""
        text = (
            f"This site has no records yet. {first.name}, the first master in {site.path.name}, has to keep them, and "
        )
        text += "it was not reached."
        return _explained(site, text, f"Run the same command again when it answers, or put {used.name} first.")
    identity = cluster_lease.identity(session)
    if there.master == identity or cluster_lease.has_run(session, there.run):
        return ""
    name, run = cluster_lease.machine(there.master), plain_line(there.run)[:40]
    again = f"Run the same command again when {name} answers and is before {used.name} in master.host."
    lost = f"Write `host: {used.name}` alone for the next run: runs before it can then not be rolled back."
    what = "of this site's runs (journals, before-images, the clone for an undeploy)"
    if not there.certain:
        text = (
            f"Run {run} of an earlier version of this tool used the master {name}, and may have left records {what} there; "
            f"{used.name} does not have that run."
        )
        other = f"If that run was another site's, or only verified the site, write `host: {used.name}` alone for the next run."
        return _explained(site, text, f"{again} {other} If {name} is lost for good: {lost}")
    if name == cluster_lease.machine(identity):
        text = f"The records {what} are lost: {used.name} has another machine-id than at run {run}, which is not on its disk."
        return _explained(site, text, lost)
    text = f"The records {what} are on the disk of the master {name}, and {used.name} does not have them."
    return _explained(site, text, f"{again} If {name} is lost for good: {lost}")


def controllers(site: Site) -> list[str]:
    """The site's controllers, by which its records are known; pods of one name in several namespaces are several."""
    return [f"{host.pod.namespace}/{host.name}" if host.pod else host.name for host in site.controllers]


def _explained(site: Site, text: str, fix: str) -> str:
    """The text and the fix, and between them why the masters before the one that is used are not used."""
    return " ".join((text, *(f"{error.rstrip('.')}." for error in site.master.silent), fix))
