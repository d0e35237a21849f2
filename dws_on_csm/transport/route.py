"""Which transport reaches a host: Fabric in this process, which is fast, or the system's ssh, which can do more."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dws_on_csm.model.errors import NoLogin, Unreachable
from dws_on_csm.transport import mux, ssh_config
from dws_on_csm.transport.openssh import SshTarget
from dws_on_csm.transport.ssh_answers import Read
from dws_on_csm.transport.ssh_config import Destination, Query, Settings, Strict

Transport = Literal["auto", "fabric", "openssh"]

SMARTCARD = "pkcs11provider"
"""The setting of ssh_config by which only ssh itself logs in, and that nobody sets without a reason. GSSAPIAuthentication and
HostbasedAuthentication are set for all hosts of many sites; with these, Fabric's keys are tried first."""
_STRICT: Mapping[Strict, Literal["yes", "accept-new"]] = {"ask": "yes", "accept-new": "accept-new", "no": "accept-new"}
NO_TICKET = ("-o", "GSSAPIDelegateCredentials no")
"""Words for an ssh that would forward the Kerberos ticket. An ssh without Kerberos does not know them."""
ANSWER = 2.0  # seconds in which a master process on this machine answers


@dataclass(frozen=True)
class Route:
    """How a host is reached.

    destination  for Fabric; None where it can't be used
    target       for ssh; None where it may not be used
    why          why ssh is used at once; "" where Fabric tries first, and where the site file says so
    """

    destination: Destination | None
    target: SshTarget | None
    why: str = ""

    def without_forwarding(self) -> Route:
        """The same route, on which neither the person's agent nor their Kerberos ticket is forwarded."""
        destination = self.destination and replace(self.destination, forward_agent=False)
        target = self.target
        if target:
            words = (*target.words, *(NO_TICKET if target.ticket else ()))
            target = replace(target, agent=False, ticket=False, words=words)
        return replace(self, destination=destination, target=target)


def choose_route(
    query: Query, deadline: float, jumps: dict[Query, Destination], transport: Transport, read: Read = ssh_config.read
) -> Route:
    """The route to the host, by the site file's `transport` and by ssh_config, which `read` asks ssh for. Raises Unreachable as
    ssh_config.resolve does."""
    settings = read(query, deadline)
    if transport == "fabric":
        return Route(ssh_config.resolve(query, deadline, jumps, settings=settings), None)
    target = _target(query, settings, deadline, jumps)
    if transport == "openssh":
        return Route(None, target)
    if target.control:
        return Route(None, target, "its master connection is open")
    try:
        to = ssh_config.resolve(query, deadline, jumps, settings=settings)
    except NoLogin as why:
        return Route(None, target, why.short)
    if settings.first(SMARTCARD, "none") != "none":
        return Route(None, target, "ssh_config sets PKCS11Provider")
    for hop in (*to.hops(),)[1:]:
        if hop.control and _is_open(hop.control):
            return Route(None, target, f"the master connection of its jump host {hop.name} is open")
    return Route(to, target)


def _target(query: Query, settings: Settings, deadline: float, jumps: dict[Query, Destination]) -> SshTarget:
    config = ("-F", str(query.config)) if query.config else ()
    options = ("-o", "ForkAfterAuthentication=no") if settings.all("forkafterauthentication") else ()
    words = (*config, *options)
    forwarded = settings.first("forwardagent", "no") not in ("no", "false")
    jump: SshTarget | None = None
    with suppress(Unreachable):  # ssh finds the way itself, and reports what is wrong on it
        if hop := ssh_config.jump(query, settings, deadline, jumps):
            jump = _to_jump(hop, words)
    strict, control = _STRICT[ssh_config.strict(settings)], _open(settings.control)
    ticket = settings.enabled(ssh_config.FORWARD_TICKET)
    return SshTarget(query.name, query.user, words, strict, control, forwarded, ticket, jump)


def _to_jump(hop: Destination, words: tuple[str, ...]) -> SshTarget:
    before = _to_jump(hop.jump, words) if hop.jump else None
    own = ("-p", str(hop.port), *(NO_TICKET if hop.forward_ticket else ()))
    return SshTarget(hop.name, hop.user, (*words, *own), _STRICT[hop.strict], _open(hop.control), False, False, before)


def _open(control: Path | None) -> Path | None:
    return control if control and _is_open(control) else None


def _is_open(control: Path) -> bool:
    """Whether a master process of this user answers at the control socket."""
    with suppress(OSError):  # no socket, or nobody answers there
        status = control.stat()
        own = stat.S_ISSOCK(status.st_mode) and status.st_uid == os.getuid()
        return own and mux.alive(control, ANSWER) > 0
    return False
