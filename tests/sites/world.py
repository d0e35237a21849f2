"""Keys, certificates, sshds and agents for the forms. Nothing on this machine changes; all of it ends with the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tests.sites.form import Form
from tests.ssh import agents, card, kerberos
from tests.ssh.agents import FakeAgent, Key
from tests.ssh.server import HANG, Server, free_port, keygen, running

NOBODY = 65534

GSSAPI = ("GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no")  # no: the host's ticket is for 127.0.0.1

SERVERS: Mapping[str, tuple[str, ...]] = {
    "plain": ("KexAlgorithms -sntrup*",),  # it costs much time, and is tried with a server of its own
    "chacha": ("Ciphers chacha20-poly1305@openssh.com",),
    "sntrup": ("KexAlgorithms sntrup761x25519-sha512@openssh.com",),
    "umac": ("MACs umac-128-etm@openssh.com", "Ciphers aes256-ctr"),
    "gcm": ("Ciphers aes256-gcm@openssh.com", "KexAlgorithms ecdh-sha2-nistp384"),
    "dh": ("KexAlgorithms diffie-hellman-group16-sha512", "MACs hmac-sha2-512-etm@openssh.com", "Ciphers aes128-ctr"),
    "certificates": ("TrustedUserCAKeys {folder}/authority.pub", "AuthorizedKeysFile none"),
    "host-certificate": ("HostCertificate {folder}/hostkey-cert.pub",),
    "rsa-host": ("HostKeyAlgorithms rsa-sha2-512,rsa-sha2-256",),
    "ecdsa-host": ("HostKeyAlgorithms ecdsa-sha2-nistp256",),
    "two-tries": ("MaxAuthTries 2",),
    "two-keys": ("AuthenticationMethods publickey,publickey",),
    "password": ("PubkeyAuthentication no", "PasswordAuthentication yes"),
    "two-factors": ("AuthenticationMethods publickey,password", "PasswordAuthentication yes"),
    "code": ("AuthenticationMethods publickey,keyboard-interactive", "KbdInteractiveAuthentication yes", "UsePAM yes"),
    "second-key": ("AuthorizedKeysFile {folder}/second.pub",),
    "banner": ("Banner {folder}/banner", "PrintMotd yes"),
    "slow": (
        "AuthorizedKeysFile none",
        "AuthorizedKeysCommand /bin/sh {folder}/slow.sh",
        "AuthorizedKeysCommandUser root",
    ),
    "curve": ("KexAlgorithms curve25519-sha256",),
    "sha256": ("PubkeyAcceptedAlgorithms rsa-sha2-256", "AuthorizedKeysFile {folder}/rsa.pub"),
    "rekey": ("RekeyLimit 16K", "KexAlgorithms -sntrup*"),
    "others": ("AllowUsers somebody",),
    "forced": ('ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"',),
    "kerberos": (*GSSAPI, "PubkeyAuthentication no"),
    "kerberos-others": (*GSSAPI, "AuthorizedKeysFile {folder}/other3.pub"),
    "kerberos-or-key": GSSAPI,
    "key-and-kerberos": (*GSSAPI, "AuthenticationMethods publickey,gssapi-with-mic"),
    "card": ("AuthorizedKeysFile {folder}/card.pub",),
}
"""The sshds by name: lines of sshd_config that outrank the usual ones."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "key": ("-t", "ed25519"),
    "second": ("-t", "ed25519"),
    "other1": ("-t", "ed25519"),
    "other2": ("-t", "ecdsa"),
    "other3": ("-t", "ed25519"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa-pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "rsa-pkcs8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "ecdsa256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa521": ("-t", "ecdsa", "-b", "521"),
    "ecdsa-pem": ("-t", "ecdsa", "-m", "PEM"),
    "ecdsa-pkcs8": ("-t", "ecdsa", "-m", "PKCS8"),
    "card": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "expired": ("-t", "ed25519"),
    "stranger": ("-t", "ed25519"),
    "authority": ("-t", "ed25519"),
    "hostkey": ("-t", "ed25519"),
    "hostrsa": ("-t", "rsa", "-b", "2048"),
    "hostecdsa": ("-t", "ecdsa"),
}
"""Keys by name, and how ssh-keygen makes them."""

STRANGERS = ("stranger", "other1", "other2", "other3", "authority", "hostkey", "hostrsa", "hostecdsa")
"""Keys that may not log in."""

RELAY = """
import socket, sys, threading
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := sys.stdin.buffer.raw.read(65536):
        link.sendall(data)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := link.recv(65536):
    sys.stdout.buffer.raw.write(data)
"""
"""A ProxyCommand: netcat, which not every machine has."""


@dataclass
class World:
    """The keys in `folder`, and the sshds that have been started so far."""

    folder: Path
    stack: ExitStack
    servers: dict[str, Server] = field(default_factory=dict)
    fido: dict[str, Key] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The public key in the file `name`.pub: its kind and its base64."""
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def agent_key(self, name: str, delay: float) -> Key:
        """A key of an agent: NAME, NAME-cert (its certificate), fido, fido-ecdsa, fido-other; `!NAME` can't sign."""
        broken, name = name.startswith("!"), name.removeprefix("!")
        if name.startswith("fido"):
            key = self.fido[name]
        elif name.endswith("-cert"):
            key = agents.certificate(self.folder / f"{name}.pub", self.folder / name.removesuffix("-cert"))
        else:
            key = agents.of_file(self.folder / name)
        return Key(key.blob, name, key.private, delay, broken)


@contextmanager
def built(folder: Path) -> Iterator[World]:
    """The world while the `with` lasts: all keys, and all sshds."""
    folder.mkdir(parents=True)
    for name, words in KINDS.items():
        keygen(folder / name, *words)
    for key in ("key", "rsa", "ecdsa256"):
        _certify(folder, key)
    _certify(folder, "expired", "-n", "root", "-V", "20200101:20200102")
    _certify(folder, "stranger", "-n", "somebody")
    _certify(folder, "hostkey", "-h", "-n", "127.0.0.1,node")
    with ExitStack() as stack:
        world = World(folder, stack)
        world.fido = {"fido": agents.fido(), "fido-ecdsa": agents.fido("ecdsa"), "fido-other": agents.fido()}
        lines = [f"{world.text(name)}\n" for name in KINDS if name not in STRANGERS]
        lines += [world.fido["fido"].line, world.fido["fido-ecdsa"].line]
        (folder / "authorized").write_text("".join(lines))
        (folder / "banner").write_text("Authorized use only.\n\x1b[31mAll is logged.\n" * 20)
        (folder / "slow.sh").write_text(f"#!/bin/sh\nsleep 3\ncat {folder}/authorized\n")
        (folder / "relay.py").write_text(RELAY)
        stack.enter_context(kerberos.running(folder / "realm"))
        stack.enter_context(card.inserted(folder / "cards", folder / "card"))
        variables = kerberos.server_variables(folder / "realm")
        for name, options in SERVERS.items():
            keys = [f"HostKey {folder}/{key}" for key in ("hostkey", "hostrsa", "hostecdsa")]
            lines = [line.format(folder=folder) for line in options]
            usual = (f"AuthorizedKeysFile {folder}/authorized", "MaxAuthTries 6", "PermitRootLogin yes")
            world.servers[name] = stack.enter_context(
                running(folder / f"sshd-{name}", *lines, *keys, *usual, inside=variables)
            )
        yield world


def _certify(folder: Path, key: str, *words: str) -> None:
    names = words or ("-n", "root")
    command = ["ssh-keygen", "-q", "-s", str(folder / "authority"), "-I", key, *names, str(folder / f"{key}.pub")]
    subprocess.run(command, check=True, timeout=HANG)


class Place:
    """A form's own folder, with its files and its ssh_config; ssh and the tool get one each, since both may write there.

    Texts may name these places:
    {dir}       the folder; {world}: that of all keys; {python}: this Python
    {port}      the server's port; {port:NAME}: that of the server NAME; {closed}: a port at which nobody listens
    {key}       the usual private key; {key:NAME}: a copy of that of world.KINDS, with its .pub
    {private:NAME}  a copy of the private key alone; {public:NAME}: of the .pub alone; {cert:NAME}: of the certificate
    {private_text}, {cert_text}  the content of the usual private key, and of its certificate
    {locked:NAME}   a copy under a passphrase, without its .pub
    {fido}      a file with the agent's key `fido`, as ssh-keygen writes it: the device has the secret
    {certified:NAME}  a copy with its .pub and its certificate next to it
    {known}     the usual known_hosts; {line:NAMES}: a line of it for these names
    {hostkey:NAME}  a public key of the server: hostkey, hostrsa, hostecdsa; or that of any other key
    {agent}     the agent's socket
    {realm}     the folder of kerberos.running(): its krb5.conf and its tickets; {card}: that of card.inserted()
    {own_card}  SoftHSM's configuration with a copy of the card
    {usual:NAME}  a section of ssh_config for the server NAME, without `Host`
    """

    def __init__(self, world: World, form: Form, folder: Path) -> None:
        self.world, self.form, self.folder = world, form, folder
        folder.mkdir(parents=True)
        (folder / "known").write_text(self._line(f"[127.0.0.1]:{world.servers[form.server].port}"))
        for name, text in form.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.fsencode(self.filled(text)))
            file.chmod(0o600)
        self.config = folder / "ssh_config"
        self.config.write_bytes(os.fsencode(self._config()))
        if form.user != "root":
            self._hand_over()
        for name, mode in form.modes.items():
            os.chown(folder / name, 0, 0)
            (folder / name).chmod(mode)

    def filled(self, text: str) -> str:
        """The text with its places filled in."""
        return re.sub(r"(?<!\$)\{(\w+)(?::([^{}]*))?\}", lambda match: self._fill(match[1], match[2] or ""), text)

    @contextmanager
    def agent(self) -> Iterator[FakeAgent | None]:
        """The form's agent while the `with` lasts."""
        if not self.form.agent:
            yield None
            return
        keys = [self.world.agent_key(name, self.form.delay) for name in self.form.agent]
        with agents.running(self.folder / "agent", keys) as agent:
            (self.folder / "agent").chmod(0o777)
            yield agent

    def environment(self) -> dict[str, str]:
        """The variables that ssh and the tool get."""
        usual = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        return usual | {name: self.filled(value) for name, value in self.form.env.items()}

    def _config(self) -> str:
        form = self.form
        lines = [line.strip() for line in form.config.splitlines() if line.strip()]
        usual = [line for line in self._usual(form.server) if line.split()[0] not in form.without]
        host = "\n  ".join((f"Host {form.ask}", *lines, *usual))
        return self.filled("\n".join((form.before, host, form.after)) + "\n")

    def _usual(self, server: str) -> list[str]:
        agent = "{agent}" if self.form.agent else "none"
        return [
            "HostName 127.0.0.1",
            f"Port {self.world.servers[server].port}",
            "IdentityFile {key}",
            f"IdentityAgent {agent}",
            "UserKnownHostsFile {known}",
            "GlobalKnownHostsFile /dev/null",
            "User root",
        ]

    def _line(self, names: str) -> str:
        return f"{names} {self.world.text('hostkey')}\n"

    def _copy(self, name: str, *suffixes: str) -> str:
        for suffix in suffixes:
            target = self.folder / f"{name}{suffix}"
            if not target.exists():
                shutil.copy(self.world.folder / f"{name}{suffix}", target)
                target.chmod(0o600)
        return str(self.folder / name)

    def _fido(self) -> str:
        target = self.folder / "fido"
        target.write_text(agents.fido_file(self.world.fido["fido"]))
        target.chmod(0o600)
        (self.folder / "fido.pub").write_text(self.world.fido["fido"].line)
        return str(target)

    def _locked(self, name: str) -> str:
        target = self.folder / f"locked-{name}"
        if not target.exists():
            shutil.copy(self._copy(name, ""), target)
            command = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(target)]
            subprocess.run(command, check=True, timeout=HANG, capture_output=True)
        return str(target)

    def _hashed(self, names: str) -> str:
        file = self.folder / "hashed"
        file.write_text(self._line(names))
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True, timeout=HANG)
        return file.read_text()

    def _fill(self, what: str, name: str) -> str:
        world, server = self.world, self.world.servers[self.form.server]
        match what:
            case "dir":
                return str(self.folder)
            case "world":
                return str(world.folder)
            case "port":
                return str(world.servers[name].port if name else server.port)
            case "closed":
                return str(_closed())
            case "python":
                return sys.executable
            case "private_text":
                return (world.folder / "key").read_text()
            case "cert_text":
                return (world.folder / "key-cert.pub").read_text()
            case "key":
                return self._copy(name or "key", "", ".pub")
            case "private":
                return self._copy(name, "")
            case "public":
                return self._copy(name, ".pub")
            case "cert":
                return self._copy(name, "-cert.pub") + "-cert.pub"
            case "certified":
                return self._copy(name, "", ".pub", "-cert.pub")
            case "locked":
                return self._locked(name)
            case "known":
                return str(self.folder / "known")
            case "line":
                return self._line(self.filled(name.replace("PORT", str(server.port)))).rstrip("\n")
            case "hashed":
                return self._hashed(name.replace("PORT", str(server.port))).rstrip("\n")
            case "hostkey":
                return world.text(name)
            case "fido":
                return self._fido()
            case "realm":
                return str(world.folder / "realm")
            case "card":
                return str(world.folder / "cards")
            case "own_card":
                return str(card.copied(world.folder / "cards", self.folder / "token"))
            case "agent":
                return str(self.folder / "agent")
            case "usual":
                known = "StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null"
                address = f"HostName 127.0.0.1\n  Port {world.servers[name].port}"
                return self.filled(f"{address}\n  IdentityFile {{key}}\n  IdentityAgent none\n  {known}")
        raise AssertionError(f"no such place: {what}")

    def _hand_over(self) -> None:
        """Gives all files of the place to the second user."""
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@lru_cache(maxsize=1)
def _closed() -> int:
    return free_port()
