"""ssh_config as OpenSSH reads it: `ssh -G` answers, so Include and Match mean what they mean to ssh."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dws_on_csm.model.errors import Unreachable

DEEPEST = 8  # jumps behind jumps; more is a circle
OWN_CONFIG = "in an ssh_config of its own (ssh.config in the site file)"

Strict = Literal["ask", "accept-new", "no"]
Tokens = Mapping[str, str]
"""The letter of a %-token -> its value."""

_STRICT: Mapping[str, Strict] = {"accept-new": "accept-new", "false": "no", "no": "no", "off": "no"}
_ALGORITHMS = ("ciphers", "kexalgorithms", "macs", "hostkeyalgorithms", "pubkeyacceptedalgorithms")
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_UNSUPPORTED = (
    *("VerifyHostKeyDNS", "KnownHostsCommand", "NoHostAuthenticationForLocalhost", "PKCS11Provider"),
    *("GSSAPIAuthentication", "HostbasedAuthentication"),
)
_OFF = ("", "none", "no", "false")


@dataclass(frozen=True)
class Destination:
    """How to reach a host, by what ssh_config says of its name.

    identities   private keys in the order to try
    certificates CertificateFile; a certificate next to its key need not be named
    agent        the agent's socket, "" for none
    key_names    names under which known_hosts may have the host key, the preferred one first
    known_hosts  the user's files, then the system's
    algorithms   the allowed ciphers, kexalgorithms, macs, hostkeyalgorithms, pubkeyacceptedalgorithms
    command      ProxyCommand with its tokens filled in, "" for none
    unsupported  settings that are set and ignored here: with them ssh may log in where this tool can't
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
    unsupported: tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """A host that ssh is asked about by `name`; the other fields outrank ssh_config, where they aren't ""."""

    name: str
    config: Path | None = None
    user: str = ""
    port: str = ""
    via: str = ""

    def command(self) -> list[str]:
        """The command that prints the host's settings."""
        named = {"-F": str(self.config or ""), "-l": self.user, "-p": self.port, "-J": self.via}
        options = [word for flag, value in named.items() if value for word in (flag, value)]
        return ["ssh", "-T", "-G", *options, "--", self.name]


class Settings:
    """The output of `ssh -G`: keywords in lower case, each with its values."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for line in text.splitlines():
            keyword, _, value = line.partition(" ")
            self._values.setdefault(keyword.lower(), []).append(value)

    def all(self, keyword: str) -> list[str]:
        """All values of `keyword`."""
        return self._values.get(keyword, [])

    def first(self, keyword: str, default: str = "") -> str:
        """The first value of `keyword`."""
        return next(iter(self.all(keyword)), default)

    def enabled(self, keyword: str) -> bool:
        """Whether `keyword` is switched on."""
        return self.first(keyword) in ("yes", "true")


class UnknownToken(Exception):
    """A value of ssh_config has a token or variable without a value here."""


def resolve(
    query: Query, deadline: float, jumps: dict[Query, Destination] | None = None, depth: int = 0
) -> Destination:
    """How to reach the host. `jumps` keeps the jump hosts from one call to the next.

    Raises Unreachable where ssh does not understand the settings, where this tool does not support them, where ssh is
    missing, and where it does not answer within `deadline` seconds.
    """
    if depth > DEEPEST:
        raise Unreachable(query.name, "ProxyJump leads in a circle", "check proxyjump in `ssh -G` of each jump host")
    settings = _settings(query, deadline)
    _refuse_unsupported(query.name, settings)
    try:
        return _destination(query, settings, _jump(query, settings, deadline, {} if jumps is None else jumps, depth))
    except UnknownToken as error:
        fix = f"write the value out for this host, {OWN_CONFIG}"
        raise Unreachable(query.name, f"ssh_config: {error} has no value here", fix) from None


def _settings(query: Query, deadline: float) -> Settings:
    command = query.command()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline, check=False)
    except FileNotFoundError:
        fix = "install OpenSSH's client: `ssh -G` reads ssh_config for this tool"
        raise Unreachable(query.name, "the program ssh is missing on this machine", fix) from None
    except OSError as error:
        fix = f"make `{shlex.join(command)}` work: it reads ssh_config for this tool"
        raise Unreachable(query.name, f"the program ssh can't be run: {error.strerror}", fix) from None
    except subprocess.TimeoutExpired:
        fix = "check the commands that `Match exec` runs in ssh_config"
        raise Unreachable(query.name, f"`{shlex.join(command)}` took more than {deadline:.0f} s", fix) from None
    if done.returncode:
        fix = f"run `{shlex.join(command)}`, and correct the settings that it complains about"
        raise Unreachable(query.name, f"ssh_config: {done.stderr.decode(errors='replace').strip()}", fix)
    return Settings(os.fsdecode(done.stdout))  # a path need not be UTF-8


def _refuse_unsupported(name: str, settings: Settings) -> None:
    """Raises Unreachable for a setting whose meaning to ssh would be lost here."""
    bad = {
        "RevokedHostKeys": settings.first("revokedhostkeys", "none") != "none",
        "BindInterface": settings.first("bindinterface", "none") != "none",
        "ProxyUseFdpass": settings.enabled("proxyusefdpass") and settings.first("proxycommand") != "",
        "PubkeyAuthentication": settings.first("pubkeyauthentication") in ("no", "false"),
        "PreferredAuthentications": "publickey" not in settings.first("preferredauthentications", "publickey"),
    }
    for keyword in (keyword for keyword, refused in bad.items() if refused):
        text = f"ssh_config sets {keyword} {settings.first(keyword.lower())}, which this tool does not support"
        raise Unreachable(name, text, f"leave {keyword} out for this host, {OWN_CONFIG}")


def _jump(
    query: Query, settings: Settings, deadline: float, jumps: dict[Query, Destination], depth: int
) -> Destination | None:
    """The last of the jump hosts. The hosts named before it lead to it; without them its own settings do."""
    *before, last = settings.first("proxyjump").split(",")
    if not last:
        return None
    user, _, address = last.removeprefix("ssh://").rstrip("/").rpartition("@")
    parts = re.fullmatch(r"\[(.+)\](?::(\d+))?", address) or re.fullmatch(r"([^:]+)(?::(\d+))?", address)
    host, port = parts.groups() if parts else (address, None)
    hop = Query(host, query.config, user, port or "", ",".join(before))
    if hop not in jumps:
        jumps[hop] = resolve(hop, deadline, jumps, depth + 1)
    return jumps[hop]


def _destination(query: Query, settings: Settings, jump: Destination | None) -> Destination:
    hostname, port, alias = settings.first("hostname"), settings.first("port", "22"), settings.first("hostkeyalias")
    tokens = _tokens(query.name, hostname, settings.first("user"), port, alias)
    files = [*settings.first("userknownhostsfile").split(), *settings.first("globalknownhostsfile").split()]
    timeout = settings.first("connecttimeout", "none")
    return Destination(
        name=query.name,
        hostname=hostname,
        user=settings.first("user"),
        port=int(port),
        identities=_paths(settings.all("identityfile"), tokens),
        certificates=_paths(settings.all("certificatefile"), tokens),
        identities_only=settings.enabled("identitiesonly"),
        agent=_agent(settings.first("identityagent"), tokens),
        forward_agent=settings.enabled("forwardagent"),
        key_names=(alias,) if alias else _key_names(hostname.lower(), int(port)),
        known_hosts=_paths(files, tokens),
        strict=_STRICT.get(settings.first("stricthostkeychecking"), "ask"),
        hash_names=settings.enabled("hashknownhosts"),
        rsa_bits=int(settings.first("requiredrsasize", "1024")),
        algorithms={key: tuple(settings.first(key).split(",")) for key in _ALGORITHMS if settings.first(key)},
        timeout=None if timeout == "none" else float(timeout),
        family=_FAMILIES.get(settings.first("addressfamily"), socket.AF_UNSPEC),
        bind=settings.first("bindaddress"),
        command="" if jump else _fill(settings.first("proxycommand"), tokens),
        jump=jump,
        unsupported=tuple(keyword for keyword in _UNSUPPORTED if settings.first(keyword.lower()) not in _OFF),
    )


def _key_names(hostname: str, port: int) -> tuple[str, ...]:
    """As ssh does: known_hosts may name a host with its port, and without it, too."""
    return (hostname,) if port == 22 else (f"[{hostname}]:{port}", hostname)


def _tokens(name: str, hostname: str, user: str, port: str, alias: str) -> Tokens:
    """The tokens that `ssh -G` leaves in its values, for the host that was asked about as `name`."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": hostname,
        "i": str(os.getuid()),
        "k": alias or name,
        "L": local.partition(".")[0],
        "l": local,
        "n": name,
        "p": port,
        "r": user,
        "u": getpass.getuser(),
    }


def _fill(text: str, tokens: Tokens) -> str:
    """`text` with its tokens and ${VARIABLES} filled in. Raises UnknownToken."""

    def token(match: re.Match[str]) -> str:
        if match[1] not in tokens:
            raise UnknownToken(f"%{match[1]} in {text!r}")
        return tokens[match[1]]

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UnknownToken(f"${{{match[1]}}} in {text!r} (not set)")
        return os.environ[match[1]]

    return re.sub(r"%(.?)", token, re.sub(r"\$\{(\w+)\}", variable, text))


def _paths(values: Iterable[str], tokens: Tokens) -> tuple[Path, ...]:
    """The values as paths, with ~ and tokens filled in, without `none`."""
    return tuple(Path(_fill(value, tokens)).expanduser() for value in values if value and value != "none")


def _agent(value: str, tokens: Tokens) -> str:
    """The agent's socket by IdentityAgent, "" for none."""
    if value == "SSH_AUTH_SOCK" or not value:
        return os.environ.get("SSH_AUTH_SOCK", "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return "" if value == "none" else str(Path(_fill(value, tokens)).expanduser())
