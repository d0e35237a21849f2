"""What ssh_config comes to for one host, as data for all who connect to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Strict = Literal["ask", "accept-new", "no"]


@dataclass(frozen=True)
class Destination:
    """Where a host name leads, and what holds on the way there.

    identities   private keys in the order to try
    certificates CertificateFile; a certificate beside its key need not be named
    agent        the agent's socket, "" for none
    key_names    names under which known_hosts may have the host key, the preferred one first
    known_hosts  the person's files, then the system's
    algorithms   what is allowed of ciphers, kexalgorithms, macs, hostkeyalgorithms, pubkeyacceptedalgorithms
    command      ProxyCommand with its tokens filled in, "" for none
    unheard      settings that may let ssh in where this does not get in, for the error that says so
    """

    name: str
    hostname: str
    user: str
    port: int
    identities: tuple[Path, ...]
    certificates: tuple[Path, ...]
    identities_only: bool
    agent: str
    forward_agent: bool
    key_names: tuple[str, ...]
    known_hosts: tuple[Path, ...]
    strict: Strict
    hash_names: bool
    rsa_bits: int
    algorithms: Mapping[str, tuple[str, ...]] = field(hash=False)
    timeout: float | None
    family: int
    bind: str
    command: str
    jump: Destination | None
    unheard: tuple[str, ...]
