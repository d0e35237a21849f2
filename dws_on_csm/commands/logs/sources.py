"""The sources of log entries, opened: controllers and pods, with their clocks; notes about those that cannot be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from dws_on_csm.commands.logs import host_log, pod_log
from dws_on_csm.commands.logs.entries import Clock
from dws_on_csm.commands.logs.host_log import HostLog
from dws_on_csm.commands.logs.pod_log import PodLog
from dws_on_csm.config.site import Host, Site
from dws_on_csm.display import console
from dws_on_csm.kube.client import Cluster, preload
from dws_on_csm.model.errors import MALFORMED, READ_ERRORS, RemoteError, Unreachable, error_text
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.transport.remote_shell import RemoteShell


@dataclass
class Sources:
    """The sources of entries.

    since      the time from which past entries are read
    opened_at  the time at which all sources were open: a pod's later entries are new ones
    missing    whether a source cannot be read
    closing    set when no more entries are wanted: sources that end from then on are not noted
    controllers_in_pods     those whose container's log is read: slurm.conf names no file there
    """

    since: float = 0.0
    cluster: Cluster | None = None
    hosts: list[HostLog] = field(default_factory=list)
    pods: list[PodLog] = field(default_factory=list)
    clocks: dict[str, Clock] = field(default_factory=dict)
    controllers_in_pods: tuple[Host, ...] = ()
    opened_at: float = 0.0
    missing: bool = False
    closing: bool = False

    def note(self, text: str) -> None:
        """Tell people something about a source."""
        if not self.closing:
            console.note(f"note: {text}")

    def note_missing(self, text: str) -> None:
        """Tell people about a source that cannot be read."""
        self.missing |= not self.closing
        self.note(text)


@contextmanager
def sources(site: Site, since: float, follow: bool) -> Iterator[Sources]:
    """The logs of the site's hosts, opened, and the API for those of pods; only of hosts that `site` is limited to."""
    threading.Thread(target=preload, daemon=True).start()
    opened = Sources(since)
    wanted = [host for host in (site.master.host, *site.controllers) if site.active(host)]
    with ExitStack() as stack:
        sessions = connect_all(site, wanted)
        stack.callback(sessions.close)
        # the master last: then it is known which pods' containers are to be read
        for host in sorted(wanted, key=lambda host: host.role == "master"):
            session = sessions[host.name]
            if isinstance(session, Unreachable):
                opened.note_missing(str(session))
            elif host.role == "master":
                _open_pods(site, session, opened, stack)
            else:
                _open_host(site, session, opened, follow, stack)
        opened.opened_at = time.time()
        try:
            yield opened
        finally:
            opened.closing = True


def _open_host(site: Site, session: RemoteShell, opened: Sources, follow: bool, stack: ExitStack) -> None:
    try:
        log = host_log.open_log(site, session, opened.since, follow)
    except RemoteError as error:
        opened.note_missing(str(error))
        return
    except MALFORMED as error:
        opened.note_missing(f"{session.host}: its answer could not be read: {error}")
        return
    stack.callback(log.close)
    for text in log.notes:
        opened.note(text)
    log.notes.clear()
    opened.missing |= not log.readable
    if not site.host(session.host).pod or (log.readable and not log.in_container):
        opened.hosts.append(log)


def _open_pods(site: Site, session: RemoteShell, opened: Sources, stack: ExitStack) -> None:
    opened.cluster = Cluster(session, site.master.context, watches=pod_log.STREAMS + 1)
    stack.callback(opened.cluster.close)
    read = {log.host for log in opened.hosts}
    opened.controllers_in_pods = tuple(
        host for host in site.controllers if host.pod and site.active(host) and host.name not in read
    )
    opened.pods = pod_log.readable_containers(opened.cluster, opened.note_missing, opened.controllers_in_pods)
    try:
        ahead = seconds_ahead(session)
        opened.clocks = pod_log.node_clocks(opened.cluster, ahead, [log.node for log in opened.pods])
    except READ_ERRORS as error:
        opened.note(f"the nodes' clocks could not be compared, so their times are not corrected: {error_text(error)}")
    for node, clock in opened.clocks.items():
        if abs(clock.ahead) > host_log.NOTED:
            opened.note(host_log.describe_skew(node, clock.ahead))


def seconds_ahead(session: RemoteShell) -> float:
    """Seconds that a host's clock is ahead of this machine's; 0 for a difference too small to be certain."""
    before = time.time()
    answer = session.run("date +%s.%N", deadline=20.0)
    return host_log.clock_skew(float(answer.out), before, time.time())
