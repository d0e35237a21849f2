"""ssh_config as OpenSSH understands it: `ssh -G` is the judge, so Include and Match mean what they mean to ssh."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import ssh_tokens
from dws_on_csm.transport.destination import Destination, Strict

DEEPEST = 8  # jumps behind jumps; more is a circle

_STRICT: Mapping[str, Strict] = {"accept-new": "accept-new", "false": "no", "no": "no", "off": "no"}
_ALGORITHMS = ("ciphers", "kexalgorithms", "macs", "hostkeyalgorithms", "pubkeyacceptedalgorithms")
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_UNHEARD = (
    *("VerifyHostKeyDNS", "KnownHostsCommand", "NoHostAuthenticationForLocalhost", "PKCS11Provider"),
    *("GSSAPIAuthentication", "HostbasedAuthentication"),
)
_OFF = ("", "none", "no", "false")


@dataclass(frozen=True)
class Asked:
    """What is asked of ssh: a host by `name`, with what outranks ssh_config for it ("" where nothing does)."""

    name: str
    config: Path | None = None
    user: str = ""
    port: str = ""
    via: str = ""

    def words(self) -> list[str]:
        """The command that answers."""
        named = {"-F": str(self.config or ""), "-l": self.user, "-p": self.port, "-J": self.via}
        options = [word for flag, value in named.items() if value for word in (flag, value)]
        return ["ssh", "-T", "-G", *options, "--", self.name]


class Said:
    """What `ssh -G` printed: keywords in lower case, each with its values."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for line in text.splitlines():
            keyword, _, value = line.partition(" ")
            self._values.setdefault(keyword.lower(), []).append(value)

    def all(self, keyword: str) -> list[str]:
        """All values."""
        return self._values.get(keyword, [])

    def one(self, keyword: str, default: str = "") -> str:
        """The first value."""
        return next(iter(self.all(keyword)), default)

    def yes(self, keyword: str) -> bool:
        """Whether it is switched on."""
        return self.one(keyword) in ("yes", "true")


def resolve(
    asked: Asked, deadline: float, jumps: dict[Asked, Destination] | None = None, depth: int = 0
) -> Destination:
    """Where the host leads. `jumps` remembers jump hosts from one call to the next.

    Raises Unreachable for what ssh itself does not understand, for what can't be honoured here, and where there is no
    ssh, or no answer within `deadline` seconds.
    """
    if depth > DEEPEST:
        raise Unreachable(asked.name, "ProxyJump leads in a circle", "see proxyjump in `ssh -G` of each jump host")
    said = _ask(asked, deadline)
    _refuse(asked.name, said)
    try:
        return _destination(asked, said, _jump(asked, said, deadline, {} if jumps is None else jumps, depth))
    except ssh_tokens.UnknownToken as error:
        fix = "write the value out for this host, in an ssh_config of its own (ssh.config)"
        raise Unreachable(asked.name, f"ssh_config: {error} can't be filled in here", fix) from None


def _ask(asked: Asked, deadline: float) -> Said:
    run = asked.words()
    try:
        done = subprocess.run(
            run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline, check=False
        )
    except FileNotFoundError:
        fix = "install OpenSSH's client: ssh_config is read through `ssh -G`"
        raise Unreachable(asked.name, "there is no ssh on this machine", fix) from None
    except subprocess.TimeoutExpired:
        fix = "see what a `Match exec` of ssh_config runs"
        raise Unreachable(asked.name, f"`{shlex.join(run)}` took more than {deadline:.0f} s", fix) from None
    if done.returncode:
        fix = f"correct what `{shlex.join(run)}` complains about"
        raise Unreachable(asked.name, f"ssh_config: {done.stderr.strip()}", fix)
    return Said(done.stdout)


def _refuse(name: str, said: Said) -> None:
    """Raises Unreachable for settings that would hold with ssh and can't hold here."""
    bad = {
        "RevokedHostKeys": said.one("revokedhostkeys", "none") != "none",
        "BindInterface": said.one("bindinterface", "none") != "none",
        "ProxyUseFdpass": said.yes("proxyusefdpass") and said.one("proxycommand") != "",
        "PubkeyAuthentication": said.one("pubkeyauthentication") in ("no", "false"),
        "PreferredAuthentications": "publickey" not in said.one("preferredauthentications", "publickey"),
    }
    for keyword in (keyword for keyword, so in bad.items() if so):
        text = f"ssh_config sets {keyword} {said.one(keyword.lower())}, which can't be honoured here"
        raise Unreachable(name, text, f"take {keyword} away for this host, in an ssh_config of its own (ssh.config)")


def _jump(asked: Asked, said: Said, deadline: float, jumps: dict[Asked, Destination], depth: int) -> Destination | None:
    """The last of the jump hosts. Those named before it are how it is reached; else its own settings say how."""
    *before, last = said.one("proxyjump").split(",")
    if not last:
        return None
    user, _, ctx = last.removeprefix("ssh://").rstrip("/").rpartition("@")
    bracketed = re.fullmatch(r"\[(.+)\](?::(\d+))?", ctx) or re.fullmatch(r"([^:]+)(?::(\d+))?", ctx)
    host, port = bracketed.groups() if bracketed else (ctx, None)
    hop = Asked(host, asked.config, user, port or "", ",".join(before))
    if hop not in jumps:
        jumps[hop] = resolve(hop, deadline, jumps, depth + 1)
    return jumps[hop]


def _destination(asked: Asked, said: Said, jump: Destination | None) -> Destination:
    hostname, port, alias = said.one("hostname"), said.one("port", "22"), said.one("hostkeyalias")
    meaning = ssh_tokens.tokens(asked.name, hostname, said.one("user"), port, alias)
    files = [*said.one("userknownhostsfile").split(), *said.one("globalknownhostsfile").split()]
    timeout = said.one("connecttimeout", "none")
    return Destination(
        name=asked.name,
        hostname=hostname,
        user=said.one("user"),
        port=int(port),
        identities=ssh_tokens.paths(said.all("identityfile"), meaning),
        certificates=ssh_tokens.paths(said.all("certificatefile"), meaning),
        identities_only=said.yes("identitiesonly"),
        agent=ssh_tokens.agent(said.one("identityagent"), meaning),
        forward_agent=said.yes("forwardagent"),
        key_names=(alias,) if alias else _key_names(hostname.lower(), int(port)),
        known_hosts=ssh_tokens.paths(files, meaning),
        strict=_STRICT.get(said.one("stricthostkeychecking"), "ask"),
        hash_names=said.yes("hashknownhosts"),
        rsa_bits=int(said.one("requiredrsasize", "1024")),
        algorithms={key: tuple(said.one(key).split(",")) for key in _ALGORITHMS if said.one(key)},
        timeout=None if timeout == "none" else float(timeout),
        family=_FAMILIES.get(said.one("addressfamily"), socket.AF_UNSPEC),
        bind=said.one("bindaddress"),
        command="" if jump else ssh_tokens.fill(said.one("proxycommand"), meaning),
        jump=jump,
        unheard=tuple(keyword for keyword in _UNHEARD if said.one(keyword.lower()) not in _OFF),
    )


def _key_names(hostname: str, port: int) -> tuple[str, ...]:
    """As ssh does: with a port of its own a host is looked for under both, and without it too."""
    return (hostname,) if port == 22 else (f"[{hostname}]:{port}", hostname)
