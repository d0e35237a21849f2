"""Login with an agent's keys: of any kind, slow, broken, with certificates; each as ssh does it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Host
from dws_on_csm.model.events import Done
from dws_on_csm.runner import connections
from dws_on_csm.transport import agent as transport_agent
from dws_on_csm.transport.public_keys import PublicKey
from tests.ssh.agents import FakeAgent, Key, certificate, fido, of_file, running
from tests.ssh.conftest import Connect, Deadlines, One, Refused, Site, Ssh
from tests.ssh.server import HANG, Server, keygen
from tests.ssh.server import running as sshd

pytestmark = pytest.mark.slow

Start = Callable[..., FakeAgent]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Start]:
    """Starts an agent with these keys."""
    with ExitStack() as stack:
        yield lambda *keys: stack.enter_context(running(tmp_path / "agent", keys))


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server that takes only certificates, and a key with the certificate id-cert.pub next to it."""
    authority = keygen(tmp_path / "authority")
    with sshd(tmp_path / "server", f"TrustedUserCAKeys {authority}.pub") as server:
        key = keygen(tmp_path / "mine")
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root", f"{key}.pub"]
        subprocess.run(sign, check=True, timeout=HANG)
        yield server, key


def _config(server: Server, agent: FakeAgent, *lines: str, identity: object = "none") -> str:
    config = server.config(f"IdentityAgent {agent.path}", *lines)
    return config.replace(f"IdentityFile {server.key}", f"IdentityFile {identity}")


STRANGE = (
    b"",
    b"\0\0\0\3ssh",
    b"\0\0\0\7ssh-dss" + b"\0\0\0\1\1" * 4,
    b"\xff" * 40,
    b"\0\0\0\x20no-cert-v01@openssh.com",
)


def test_kinds_that_nobody_knows_do_no_harm(server: Server, one: One, agent: Start) -> None:
    """Keys of FIDO devices and of unknown kinds in the agent are passed over, and the right key logs in."""
    keys = (fido("ed25519"), fido("ecdsa"), *(Key(blob, f"strange{n}") for n, blob in enumerate(STRANGE)))
    there = agent(*keys)
    one(_config(server, there, identity=server.key))
    assert there.signed == []


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0c\xff\xff\xff\xff",
        b"\x0c\0\0\0\1\0\0\xff\xff",
        b"\x0c",
        b"\x05",
        b"",
        b"\x0c\0\0\0\1\0\0\0\4\xff\xff\xff\xff",
    ],
)
def test_agent_that_answers_nonsense_does_no_harm(
    server: Server, one: One, agent: Start, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """An agent whose list of keys is cut off, or no list, costs no time, and the key in the file logs in."""
    there = agent()
    monkeypatch.setattr(FakeAgent, "answer", lambda self, request: answer)
    one(_config(server, there, identity=server.key))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_fido_key_logs_in(tmp_path: Path, one: One, agent: Start, kind: str) -> None:
    """A key of a FIDO device logs in through the agent, which signs with it."""
    key = fido(kind)
    with sshd(tmp_path / "server") as server:
        (server.folder / "authorized_keys").write_text(key.line)
        one(_config(server, agent(key)))


def test_keys_that_the_host_does_not_take_sign_nothing(server: Server, one: One, agent: Start, tmp_path: Path) -> None:
    """The host is asked whether it takes a key: nobody touches a key in vain."""
    others = [of_file(keygen(tmp_path / f"other{n}")) for n in range(3)]
    there = agent(*others, of_file(server.key))
    one(_config(server, there))
    assert there.signed == ["id"]


def test_key_that_cannot_sign_is_told(server: Server, refused: Refused, agent: Start) -> None:
    """A key that can't sign, since its card was removed, is named with that."""
    there = agent(of_file(server.key, broken=True))
    assert "id of the agent (the agent could not sign with it)" in refused(_config(server, there)).text


def test_the_next_key_follows_one_that_cannot_sign(tmp_path: Path, one: One, agent: Start) -> None:
    """The next key logs in after one that the host takes and that can't sign."""
    with sshd(tmp_path / "server") as server:
        gone = keygen(tmp_path / "gone")
        with (server.folder / "authorized_keys").open("a") as file:
            file.write(gone.with_suffix(".pub").read_text())
        there = agent(of_file(gone, broken=True), of_file(server.key))
        one(_config(server, there))
        assert there.signed == ["gone", "id"]


def test_a_slow_key_is_waited_for(
    server: Server, connect: Connect, agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature may take as long as the connect deadline allows, and a person is told what is waited for."""
    monkeypatch.setattr(transport_agent, "PATIENCE", 0.1)
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(connections, "announce", lambda host, words, seconds: told.append((host, words)))
    there = agent(of_file(server.key, delay=1.0))
    (session,) = connect(_config(server, there)).values()
    assert not isinstance(session, Exception)
    assert told == [("host", "waiting for your key (touch?): id of the agent")]


def test_a_key_that_is_too_slow_has_timed_out(server: Server, refused: Refused, agent: Start) -> None:
    """A key that does not sign before the deadline has timed out; it was not refused."""
    there = agent(of_file(server.key, delay=6.0))
    error = refused(_config(server, there), deadlines=Deadlines(connect=3))
    assert "timed out: id of the agent did not sign within" in error.text
    assert "refused" not in error.text
    assert "deadlines.connect" in error.fix


def test_an_agent_that_hangs_is_told(
    server: Server, refused: Refused, agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that never lists its keys is what timed out, not the host."""
    there, over = agent(), threading.Event()

    def hang(agent: FakeAgent, request: bytes) -> bytes:
        over.wait(HANG)
        return b""

    monkeypatch.setattr(FakeAgent, "answer", hang)
    error = refused(_config(server, there, identity=server.key), deadlines=Deadlines(connect=3))
    over.set()
    assert f"timed out: the agent {there.path} did not list its keys within" in error.text
    assert "ssh-add -l" in error.fix


def test_certificate_file_with_the_key_in_the_agent(certified: tuple[Server, Path], one: One, agent: Start) -> None:
    """A certificate of CertificateFile is used with its key in the agent."""
    server, key = certified
    there = agent(of_file(key))
    one(_config(server, there, f"CertificateFile {key}-cert.pub"))
    one(_config(server, there, f"CertificateFile {key}-cert.pub", "IdentitiesOnly yes"))


def test_certificate_beside_the_identity_with_the_key_in_the_agent(
    certified: tuple[Server, Path], one: One, agent: Start
) -> None:
    """A certificate next to IdentityFile is used with its key in the agent, also where only the public key is on disk."""
    server, key = certified
    there = agent(of_file(key))
    one(_config(server, there, identity=key))
    key.unlink()
    one(_config(server, there, "IdentitiesOnly yes", identity=key))


def test_certificate_in_the_agent(certified: tuple[Server, Path], one: One, agent: Start) -> None:
    """A certificate in the agent logs in without its plain key, and with it beside."""
    server, key = certified
    there = certificate(Path(f"{key}-cert.pub"), key)
    one(_config(server, agent(of_file(key), there)))


def test_certificate_alone_in_the_agent(certified: tuple[Server, Path], one: One, agent: Start) -> None:
    """A certificate in the agent logs in where the plain key is nowhere."""
    server, key = certified
    one(_config(server, agent(certificate(Path(f"{key}-cert.pub"), key))))


@pytest.mark.parametrize("words", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa")])
def test_certificates_of_other_kinds(tmp_path: Path, one: One, agent: Start, words: tuple[str, ...]) -> None:
    """Certificates of RSA and ECDSA keys log in too, from files and from the agent."""
    authority = keygen(tmp_path / "authority")
    with sshd(tmp_path / "server", f"TrustedUserCAKeys {authority}.pub") as server:
        key = keygen(tmp_path / "mine", *words)
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root", f"{key}.pub"]
        subprocess.run(sign, check=True, timeout=HANG)
        one(server.config().replace(str(server.key), str(key)))
        one(_config(server, agent(certificate(Path(f"{key}-cert.pub"), key))))


def test_locked_key_is_used_from_the_agent(server: Server, one: One, agent: Start, tmp_path: Path) -> None:
    """With IdentitiesOnly a locked key without its .pub is found in the agent: its file has the public key in clear."""
    locked = tmp_path / "locked"
    locked.write_bytes(server.key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locked], check=True, timeout=HANG)
    others = [of_file(keygen(tmp_path / f"other{n}")) for n in range(2)]
    there = agent(*others, of_file(server.key))
    one(_config(server, there, "IdentitiesOnly yes", identity=locked))
    assert there.signed == ["id"]


def test_two_keys_in_a_row(tmp_path: Path, one: One, refused: Refused, agent: Start) -> None:
    """A host that wants two keys gets two; where only one is there, that is told."""
    with sshd(tmp_path / "server", "AuthenticationMethods publickey,publickey") as server:
        second = keygen(tmp_path / "second")
        with (server.folder / "authorized_keys").open("a") as file:
            file.write(second.with_suffix(".pub").read_text())
        assert "requires another key, too" in refused(server.config()).text
        one(server.config(f"IdentityFile {second}"))
        one(_config(server, agent(of_file(second)), identity=server.key))


def test_a_host_that_wants_no_key(tmp_path: Path, one: One) -> None:
    """A host that lets the user in without a key is entered without one, as by ssh."""
    shadow = tmp_path / "shadow"
    shadow.write_text("root::20000:0:99999:7:::\n")
    inside = ("unshare", "--mount", "sh", "-c", f'mount --bind {shadow} /etc/shadow && exec "$@"', "sh")
    options = ("PermitEmptyPasswords yes", "PasswordAuthentication yes", "PermitRootLogin yes")
    with sshd(tmp_path / "server", *options, inside=inside) as server:
        session = one(server.config().replace(str(server.key), "none"))
        assert session.run("echo in", deadline=HANG).out == b"in\n"


def test_a_run_shows_what_it_waits_for(
    server: Server, agent: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The display gets the wait for a key as an event, and its end."""
    monkeypatch.setattr(transport_agent, "PATIENCE", 0.1)
    events: list[object] = []
    there = agent(of_file(server.key, delay=0.5))
    (tmp_path / "ssh_config").write_text(_config(server, there))
    host = Host("host", "controller", "root", False)
    site = Site(Ssh(tmp_path / "ssh_config"))
    with closing(connections.connect_all(site, [host], waiting=lambda *words: events.append(words))) as sessions:  # type: ignore[arg-type]
        connections.report_connections(replace(load(DEFAULT), computes=()), {}, sessions, events.append)
    (waited, done) = events
    assert isinstance(waited, tuple)
    assert waited[:2] == ("host", "waiting for your key (touch?): id of the agent")
    assert isinstance(done, Done)
    assert (done.host, done.stage, done.outcome) == ("host", "connect", "ok")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_formats_of_private_keys(tmp_path: Path, one: One, kind: str, form: str) -> None:
    """Private keys of all formats that ssh-keygen writes log in, without their .pub, too."""
    with sshd(tmp_path / "server") as server:
        key = keygen(tmp_path / "key", "-t", kind, "-m", form)
        (server.folder / "authorized_keys").write_bytes(key.with_suffix(".pub").read_bytes())
        key.with_suffix(".pub").unlink()
        one(server.config().replace(str(server.key), str(key)))


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_locked_keys_of_all_formats_are_told(server: Server, refused: Refused, tmp_path: Path, form: str) -> None:
    """A private key under a passphrase is named as such, in each format."""
    key = keygen(tmp_path / "key", "-t", "rsa", "-m", form, passphrase="secret")
    assert "locked by a passphrase" in refused(server.config().replace(str(server.key), str(key))).text


def test_public_keys_are_what_they_say(certified: tuple[Server, Path]) -> None:
    """A certificate knows the key that it is for, and a certificate of a host is none of a user."""
    _, key = certified
    plain = of_file(key).blob
    public = PublicKey(certificate(Path(f"{key}-cert.pub"), key).blob)
    assert public.certificate
    assert public.for_users
    assert public.plain == plain
    authority = key.with_name("authority")
    subprocess.run(["ssh-keygen", "-q", "-h", "-s", authority, "-I", "x", f"{key}.pub"], check=True, timeout=HANG)
    assert not PublicKey(certificate(Path(f"{key}-cert.pub"), key).blob).for_users
    for blob in STRANGE:
        assert PublicKey(blob).rsa_bits is None
        assert PublicKey(blob).for_users in (True, False)
