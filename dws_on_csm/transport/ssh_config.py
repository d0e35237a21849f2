"""ssh_config as OpenSSH reads it: `ssh -G` answers, so Include and Match mean what they mean to ssh."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from dws_on_csm.model.errors import NoLogin, Unreachable

DEEPEST = 8  # jumps behind jumps; more is a circle
OWN_CONFIG = "in an ssh_config of its own (ssh.config in the site file)"

FORWARD_TICKET = "gssapidelegatecredentials"

Strict = Literal["ask", "accept-new", "no"]
Tokens = Callable[[str], str]
"""The letter of a %-token -> its value. Raises UnknownToken."""

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
    control      ControlPath, None for none
    notes        what a person should know of the connection, in sentences; filled while connecting
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
    control: Path | None = None
    forward_ticket: bool = False
    notes: list[str] = field(default_factory=list, compare=False)

    def hops(self) -> Iterator[Destination]:
        """The host itself, and the jump hosts on the way to it."""
        yield self
        if self.jump:
            yield from self.jump.hops()


@dataclass(frozen=True)
class Query:
    """A host that ssh is asked about by `name`; the other fields outrank ssh_config, where they aren't ""."""

    name: str
    config: Path | None = None
    user: str = ""
    port: str = ""
    via: str = ""

    def command(self, more: Sequence[str] = ()) -> list[str]:
        """The command that prints the host's settings; `more` are options that outrank ssh_config."""
        named = {"-F": str(self.config or ""), "-l": self.user, "-p": self.port, "-J": self.via}
        options = [word for flag, value in named.items() if value for word in (flag, value)]
        return ["ssh", "-T", "-G", *options, *more, "--", self.name]


class Settings:
    """The output of `ssh -G`: keywords in lower case, each with its values."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for line in text.splitlines():
            keyword, _, value = line.partition(" ")
            self._values.setdefault(keyword.lower(), []).append(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and other._values == self._values

    __hash__ = None  # type: ignore[assignment]

    def with_values(self, values: Mapping[str, list[str]]) -> Settings:
        """The same settings but for these keywords."""
        changed = Settings("")
        changed._values = {**self._values, **values}
        return changed

    def all(self, keyword: str) -> list[str]:
        """All values of `keyword`."""
        return self._values.get(keyword, [])

    def first(self, keyword: str, default: str = "") -> str:
        """The first value of `keyword`."""
        return next(iter(self.all(keyword)), default)

    @property
    def control(self) -> Path | None:
        """ControlPath, in which ssh has filled in the tokens; None for none."""
        path = self.first("controlpath", "none")
        return Path(path).expanduser() if path != "none" else None

    def enabled(self, keyword: str) -> bool:
        """Whether `keyword` is switched on."""
        return self.first(keyword) in ("yes", "true")


class UnknownToken(Exception):
    """A value of ssh_config has a token or variable without a value here."""


def resolve(
    query: Query,
    deadline: float,
    jumps: dict[Query, Destination] | None = None,
    depth: int = 0,
    settings: Settings | None = None,
) -> Destination:
    """How to reach the host. `jumps` keeps the jump hosts from one call to the next; `settings` are read unless given.

    Raises Unreachable where ssh does not understand the settings, where ssh is missing, and where it does not answer within
    `deadline` seconds; NoLogin where only ssh itself supports the settings.
    """
    if depth > DEEPEST:
        raise Unreachable(query.name, "ProxyJump leads in a circle", "check proxyjump in `ssh -G` of each jump host")
    settings = settings or read(query, deadline)
    _refuse_unsupported(query.name, settings)
    try:
        hop = jump(query, settings, deadline, {} if jumps is None else jumps, depth)
        return _destination(query, settings, hop, partial(_token_of_ssh, query, deadline))
    except UnknownToken as error:
        fix = f"write the value out for this host, {OWN_CONFIG}"
        text = f"ssh_config: {error} has no value here"
        raise NoLogin(query.name, text, fix, f"only ssh fills in {error}") from None


def read(query: Query, deadline: float, *options: str) -> Settings:
    """The settings of the host, as ssh reads them. Raises Unreachable."""
    return Settings(os.fsdecode(ask_ssh(query, deadline, *options).stdout))  # a path need not be UTF-8


def files_read(query: Query, deadline: float) -> bytes:
    """What ssh says of its files, in lines for people, as it reads the settings of the host. Raises Unreachable."""
    return ask_ssh(query, deadline, "-v").stderr


def ask_ssh(query: Query, deadline: float, *options: str) -> subprocess.CompletedProcess[bytes]:
    """What `ssh -G` writes of the host, with these options more. Raises Unreachable."""
    command = query.command(options)
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
    return done


def _refuse_unsupported(name: str, settings: Settings) -> None:
    """Raises NoLogin for a setting whose meaning to ssh would be lost here."""
    bad = {
        "RevokedHostKeys": settings.first("revokedhostkeys", "none") != "none",
        "BindInterface": settings.first("bindinterface", "none") != "none",
        "ProxyUseFdpass": settings.enabled("proxyusefdpass") and settings.first("proxycommand") != "",
        "PubkeyAuthentication": settings.first("pubkeyauthentication") in ("no", "false"),
        "PreferredAuthentications": "publickey" not in settings.first("preferredauthentications", "publickey"),
    }
    for keyword in (keyword for keyword, refused in bad.items() if refused):
        text = f"ssh_config sets {keyword} {settings.first(keyword.lower())}, which this tool does not support"
        fix = f"leave {keyword} out for this host, {OWN_CONFIG}"
        raise NoLogin(name, text, fix, f"ssh_config sets {keyword}")


def jump(
    query: Query, settings: Settings, deadline: float, jumps: dict[Query, Destination], depth: int = 0
) -> Destination | None:
    """The last of the jump hosts. The hosts named before it lead to it; without them its own settings do.

    Raises what resolve() raises.
    """
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


def strict(settings: Settings) -> Strict:
    """StrictHostKeyChecking; its `yes` and `ask` are one to a tool that asks nothing about host keys."""
    return _STRICT.get(settings.first("stricthostkeychecking"), "ask")


def _destination(query: Query, settings: Settings, jump: Destination | None, other: Tokens) -> Destination:
    hostname, port, alias = settings.first("hostname"), settings.first("port", "22"), settings.first("hostkeyalias")
    tokens = _tokens(query.name, hostname, settings.first("user"), port, alias, other)
    files = [*_files(settings.first("userknownhostsfile")), *_files(settings.first("globalknownhostsfile"))]
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
        known_hosts=tuple(_home(file) for file in files if file != "none"),
        strict=strict(settings),
        hash_names=settings.enabled("hashknownhosts"),
        rsa_bits=int(settings.first("requiredrsasize", "1024")),
        algorithms={key: tuple(settings.first(key).split(",")) for key in _ALGORITHMS if settings.first(key)},
        timeout=None if timeout == "none" else float(timeout),
        family=_FAMILIES.get(settings.first("addressfamily"), socket.AF_UNSPEC),
        bind=settings.first("bindaddress"),
        command="" if jump else _fill(settings.first("proxycommand"), tokens),
        jump=jump,
        unsupported=tuple(keyword for keyword in _UNSUPPORTED if settings.first(keyword.lower()) not in _OFF),
        control=settings.control,
        forward_ticket=settings.enabled(FORWARD_TICKET),
    )


def _key_names(hostname: str, port: int) -> tuple[str, ...]:
    """As ssh does: known_hosts may name a host with its port, and without it, too."""
    return (hostname,) if port == 22 else (f"[{hostname}]:{port}", hostname)


def _files(value: str) -> list[str]:
    """The paths in a value of several: `ssh -G` prints them without the quotes that ssh_config has around blanks.

    A path begins with a slash or is a file; what follows belongs to it, unless it is a path or a file as well.
    """
    paths: list[str] = []
    for word in re.split(r" (?=[/~])", value):
        *pieces, last = word.split(" ")
        paths += _existing([*pieces, last]) if pieces else [last]
    return [path for path in paths if path]


def _existing(words: Sequence[str]) -> list[str]:
    """The words as paths: the longest that exist; all words are one path where none does."""
    for count in range(len(words), 0, -1):
        path = " ".join(words[:count])
        if os.path.lexists(path):
            return [path, *(_existing(words[count:]) if words[count:] else ())]
    return [" ".join(words)]


def _home(path: str) -> Path:
    """The path, with ~ as ssh reads it: the home of the password database, not $HOME."""
    mine = re.fullmatch(r"~(/.*)?", path)
    return Path(pwd.getpwuid(os.getuid()).pw_dir + (mine[1] or "") if mine else path).expanduser()


def _token_of_ssh(query: Query, deadline: float, letter: str) -> str:
    """The value of a token that needs ssh itself (%C, and those of newer versions): it fills tokens in for this setting."""
    try:
        value = read(query, deadline, "-o", f"UserKnownHostsFile=/%{letter}").first("userknownhostsfile")
    except Unreachable as error:
        raise UnknownToken(letter) from error
    return value.removeprefix("/")


def _tokens(name: str, hostname: str, user: str, port: str, alias: str, other: Tokens) -> Tokens:
    """The tokens that `ssh -G` leaves in its values, for the host that was asked about as `name`; `other` has the rest."""
    local = socket.gethostname()
    known = {
        "%": "%",
        "d": str(_home("~")),
        "h": hostname,
        "i": str(os.getuid()),
        "k": alias or name,
        "L": local.partition(".")[0],
        "l": local,
        "n": name,
        "p": port,
        "r": user,
        "u": pwd.getpwuid(os.getuid()).pw_name,
    }
    return lambda letter: known[letter] if letter in known else other(letter)


def _fill(text: str, tokens: Tokens) -> str:
    """`text` with its tokens and ${VARIABLES} filled in. Raises UnknownToken."""

    def token(match: re.Match[str]) -> str:
        try:
            return tokens(match[1])
        except UnknownToken:
            raise UnknownToken(f"%{match[1]} in {text!r}") from None

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UnknownToken(f"${{{match[1]}}} in {text!r} (not set)")
        return os.environ[match[1]]

    return re.sub(r"%(.?)", token, re.sub(r"\$\{(\w+)\}", variable, text))


def _paths(values: Iterable[str], tokens: Tokens) -> tuple[Path, ...]:
    """The values as paths, with ~ and tokens filled in, without `none`."""
    return tuple(_home(_fill(value, tokens)) for value in values if value and value != "none")


def _agent(value: str, tokens: Tokens) -> str:
    """The agent's socket by IdentityAgent, "" for none."""
    if value == "SSH_AUTH_SOCK" or not value:
        return os.environ.get("SSH_AUTH_SOCK", "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    if value == "none" or os.path.lexists(value):  # some versions have filled in its tokens
        return "" if value == "none" else value
    return str(_home(_fill(value, tokens)))
