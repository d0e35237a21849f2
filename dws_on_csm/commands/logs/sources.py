"""Where entries of logs come from: the controllers' and the pods', opened, with their clocks and what can't be read."""

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
from dws_on_csm.transport.session import Session


@dataclass
class Sources:
    """Where entries come from.

    missing   set when one of them can't be read
    inside    controllers that are pods
    over      set when nothing more is wanted: what ends from then on was ended here, and there is nothing to say of it
    """

    cluster: Cluster | None = None
    hosts: list[HostLog] = field(default_factory=list)
    pods: list[PodLog] = field(default_factory=list)
    clocks: dict[str, Clock] = field(default_factory=dict)
    began: float = 0.0
    ends: float = 0.0
    """When the past ends for pods: what they say later is what comes."""
    missing: bool = False
    inside: tuple[Host, ...] = ()
    over: bool = False

    def note(self, text: str) -> None:
        """Something that people have to know about a source."""
        if not self.over:
            console.note(f"note: {text}")

    def lacks(self, text: str) -> None:
        """A source that can't be read."""
        self.missing |= not self.over
        self.note(text)


@contextmanager
def sources(site: Site, began: float, follow: bool) -> Iterator[Sources]:
    """The logs of the site's hosts, opened, and the API for those of pods; only of hosts that `site` is limited to."""
    threading.Thread(target=preload, daemon=True).start()
    found = Sources(began=began)
    wanted = [host for host in (site.master.host, *site.controllers) if site.active(host)]
    with ExitStack() as ends:
        sessions = connect_all(site, wanted)
        ends.callback(sessions.close)
        for host in wanted:
            session = sessions[host.name]
            if isinstance(session, Unreachable):
                found.lacks(str(session))
            elif host.role == "master":
                _open_pods(site, session, found, ends)
            elif not host.pod:
                _open_host(site, session, found, follow, ends)
        found.ends = time.time()
        try:
            yield found
        finally:
            found.over = True


def _open_host(site: Site, session: Session, found: Sources, follow: bool, ends: ExitStack) -> None:
    try:
        log = host_log.opened(site, session, found.began, follow)
    except RemoteError as error:
        found.lacks(str(error))
        return
    except MALFORMED as error:
        found.lacks(f"{session.host} answered what could not be read: {error}")
        return
    ends.callback(log.close)
    for text in log.notes:
        found.note(text)
    log.notes.clear()
    found.missing |= not log.readable
    found.hosts.append(log)


def _open_pods(site: Site, session: Session, found: Sources, ends: ExitStack) -> None:
    found.cluster = Cluster(session, site.master.context, watches=pod_log.STREAMS + 1)
    ends.callback(found.cluster.close)
    found.inside = tuple(host for host in site.controllers if host.pod and site.active(host))
    found.pods = pod_log.readable(found.cluster, found.lacks, found.inside)
    try:
        ahead = _ahead(session)
        found.clocks = pod_log.clocks(found.cluster, ahead, [log.node for log in found.pods])
    except READ_ERRORS as error:
        found.note(f"the nodes' clocks can't be told, their times are taken as they are: {error_text(error)}")
    for node, clock in found.clocks.items():
        if abs(clock.ahead) > host_log.NOTED:
            found.note(host_log.skewed(node, clock.ahead))


def _ahead(session: Session) -> float:
    """Seconds that a host's clock is ahead of this machine's; 0 where that is too little to be sure of."""
    before = time.time()
    answer = session.run("date +%s.%N", deadline=20.0)
    return host_log.skew(float(answer.out), before, time.time())
