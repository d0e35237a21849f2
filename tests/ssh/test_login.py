"""Which keys one logs in with, and what is said when none is taken."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.conftest import One, Refused
from tests.ssh.server import HANG, Server, keygen, running

Agent = Callable[..., str]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Starts an ssh-agent with these keys; its socket."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()

    def add(*keys: Path) -> str:
        environment = {"SSH_AUTH_SOCK": str(socket), "PATH": "/usr/bin"}
        subprocess.run(["ssh-add", "-q", *keys], env=environment, check=True, timeout=HANG)
        return str(socket)

    yield add
    process.terminate()
    process.wait(HANG)


def test_refused_key_is_named(server: Server, refused: Refused, tmp_path: Path) -> None:
    """Each key that was tried is named, with what became of it, and how to mend it."""
    wrong = keygen(tmp_path / "wrong")
    locked = keygen(tmp_path / "locked", passphrase="secret")
    error = refused(
        server.config("IdentitiesOnly yes", f"IdentityFile {locked}", f"IdentityFile {wrong}", name="host").replace(
            f"IdentityFile {server.key}\n", ""
        )
    )
    assert f"{locked} (locked by a passphrase; load it with ssh-add)" in error.text
    assert f"{wrong} (refused)" in error.text
    assert "authorized_keys" in error.fix


def test_no_key_is_told(server: Server, refused: Refused) -> None:
    """Where there is no key at all, that is said."""
    error = refused(server.config("GSSAPIAuthentication yes").replace(str(server.key), "none"))
    assert "Keys tried: none found" in error.text
    assert "GSSAPIAuthentication" in error.text


@pytest.mark.parametrize(
    "words", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "2048", "-m", "PEM")]
)
def test_kinds_of_keys(tmp_path: Path, one: One, words: tuple[str, ...]) -> None:
    """RSA and ECDSA keys log in too, in OpenSSH's format and in PEM."""
    with running(tmp_path / "server") as server:
        key = keygen(tmp_path / "key", *words)
        (server.folder / "authorized_keys").write_bytes((tmp_path / "key.pub").read_bytes())
        one(server.config().replace(str(server.key), str(key)))


def test_short_key_is_not_tried(server: Server, refused: Refused, tmp_path: Path) -> None:
    """RequiredRSASize holds for one's own keys."""
    key = keygen(tmp_path / "key", "-t", "rsa", "-b", "2048")
    error = refused(server.config("RequiredRSASize 3072").replace(str(server.key), str(key)))
    assert f"{key} (shorter than RequiredRSASize 3072)" in error.text


def test_key_of_the_agent(server: Server, one: One, agent: Agent) -> None:
    """IdentityAgent names the agent whose keys are tried, without any file."""
    socket = agent(server.key)
    one(server.config(f"IdentityAgent {socket}").replace(f"IdentityFile {server.key}", "IdentityFile none"))


def test_agent_is_forwarded_when_told_so(
    server: Server, one: One, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ForwardAgent yes scripts on the host can use the agent, and without it they can't."""
    monkeypatch.setenv("SSH_AUTH_SOCK", agent(server.key))
    shown = one(server.config("ForwardAgent yes")).run("ssh-add -l", deadline=HANG)
    assert b"id (ED25519)" in shown.out
    assert one(server.config("ForwardAgent no")).run("ssh-add -l", deadline=HANG).code == 2


def test_only_named_keys_of_the_agent(tmp_path: Path, one: One, agent: Agent) -> None:
    """With IdentitiesOnly a full agent does not use up the host's patience: only what IdentityFile names is tried."""
    with running(tmp_path / "server", "MaxAuthTries 2") as server:
        others = [keygen(tmp_path / f"other{n}") for n in range(4)]
        socket = agent(*others, server.key)
        public = f"{server.key}.pub"  # the private one is in the agent alone
        text = server.config("IdentitiesOnly yes", f"IdentityAgent {socket}").replace(
            f"IdentityFile {server.key}", f"IdentityFile {public}"
        )
        one(text)


def test_too_many_keys_are_told(tmp_path: Path, refused: Refused, agent: Agent) -> None:
    """A host that ends the login after too many keys is named as such, with the keys."""
    with running(tmp_path / "server", "MaxAuthTries 2") as server:
        socket = agent(*[keygen(tmp_path / f"other{n}") for n in range(4)])
        error = refused(server.config(f"IdentityAgent {socket}").replace(str(server.key), "none"))
    assert "MaxAuthTries" in error.text
    assert "other1 of the agent (refused)" in error.text


def test_dead_agent_is_told(server: Server, refused: Refused, tmp_path: Path) -> None:
    """An agent that is not there is named."""
    error = refused(server.config(f"IdentityAgent {tmp_path / 'gone'}").replace(str(server.key), "none"))
    assert f"agent {tmp_path / 'gone'} (" in error.text


def test_certificate_logs_in(tmp_path: Path, one: One, refused: Refused) -> None:
    """A key that is trusted by a certificate logs in with it, wherever the certificate lies."""
    authority = keygen(tmp_path / "authority")
    with running(tmp_path / "server", f"TrustedUserCAKeys {authority}.pub") as server:
        key = keygen(tmp_path / "key")
        text = server.config().replace(str(server.key), str(key))
        assert f"{key} (refused)" in refused(text).text
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root", f"{key}.pub"]
        subprocess.run(sign, check=True, timeout=HANG)
        one(text)
        certificate = tmp_path / "elsewhere-cert.pub"
        Path(f"{key}-cert.pub").rename(certificate)
        one(server.config(f"CertificateFile {certificate}").replace(str(server.key), str(key)))


def test_second_factor_is_told(tmp_path: Path, refused: Refused) -> None:
    """A host that asks for more than a key says what."""
    with running(
        tmp_path / "server", "AuthenticationMethods publickey,password", "PasswordAuthentication yes"
    ) as server:
        error = refused(server.config())
    assert "password" in error.text
    assert str(server.key) in error.text


def test_host_that_takes_no_keys_is_told(tmp_path: Path, refused: Refused) -> None:
    """A host that takes passwords alone says so."""
    options = ("PubkeyAuthentication no", "PasswordAuthentication yes")
    with running(tmp_path / "server", *options) as server:
        assert "only password" in refused(server.config()).text
