"""Login: which keys are tried, and how a refusal is reported."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.conftest import One, Refused
from tests.ssh.server import HANG, Server, keygen, running

pytestmark = pytest.mark.slow

Agent = Callable[..., str]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Starts an ssh-agent with these keys, and returns its socket."""
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
    """Each tried key is named with its result, and the error has a fix."""
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
    assert "sshd's own log on host says why" in error.fix and "`ls -ld ~" in error.fix


def test_no_key_is_reported(server: Server, refused: Refused) -> None:
    """A missing key is reported."""
    error = refused(server.config("GSSAPIAuthentication yes").replace(str(server.key), "none"))
    assert "Keys tried: none found" in error.text
    assert "GSSAPIAuthentication" in error.text
    assert "sshd's own log" not in error.fix  # it has refused no key


@pytest.mark.parametrize(
    "words", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "2048", "-m", "PEM")]
)
def test_kinds_of_keys(tmp_path: Path, one: One, words: tuple[str, ...]) -> None:
    """RSA and ECDSA keys log in, too, in OpenSSH's format and in PEM."""
    with running(tmp_path / "server") as server:
        key = keygen(tmp_path / "key", *words)
        (server.folder / "authorized_keys").write_bytes((tmp_path / "key.pub").read_bytes())
        one(server.config().replace(str(server.key), str(key)))


def test_short_key_is_not_tried(server: Server, refused: Refused, tmp_path: Path) -> None:
    """RequiredRSASize also limits the user's keys."""
    key = keygen(tmp_path / "key", "-t", "rsa", "-b", "2048")
    error = refused(server.config("RequiredRSASize 3072").replace(str(server.key), str(key)))
    assert f"{key} (shorter than RequiredRSASize 3072)" in error.text


def test_key_of_the_agent(server: Server, one: One, agent: Agent) -> None:
    """The keys of the agent of IdentityAgent are tried, without any file."""
    socket = agent(server.key)
    one(server.config(f"IdentityAgent {socket}").replace(f"IdentityFile {server.key}", "IdentityFile none"))


def test_agent_is_forwarded_where_configured(
    server: Server, one: One, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts on the master can use the agent with ForwardAgent yes, and only then; no other host gets it."""
    monkeypatch.setenv("SSH_AUTH_SOCK", agent(server.key))
    shown = one(server.config("ForwardAgent yes"), role="master").run("ssh-add -l", deadline=HANG)
    assert b"id (ED25519)" in shown.out
    assert one(server.config("ForwardAgent no"), role="master").run("ssh-add -l", deadline=HANG).code == 2
    for role in ("controller", "compute"):
        assert one(server.config("ForwardAgent yes"), role=role).run("ssh-add -l", deadline=HANG).code == 2


def test_only_named_keys_of_the_agent(tmp_path: Path, one: One, agent: Agent) -> None:
    """With IdentitiesOnly only keys of IdentityFile are tried, so an agent with many keys does not exceed MaxAuthTries."""
    with running(tmp_path / "server", "MaxAuthTries 2") as server:
        others = [keygen(tmp_path / f"other{n}") for n in range(4)]
        socket = agent(*others, server.key)
        public = f"{server.key}.pub"  # only the agent has the private key
        text = server.config("IdentitiesOnly yes", f"IdentityAgent {socket}").replace(
            f"IdentityFile {server.key}", f"IdentityFile {public}"
        )
        one(text)


def test_too_many_keys_are_reported(tmp_path: Path, refused: Refused, agent: Agent) -> None:
    """A host that disconnects after too many keys is reported, with the keys."""
    with running(tmp_path / "server", "MaxAuthTries 2") as server:
        socket = agent(*[keygen(tmp_path / f"other{n}") for n in range(4)])
        error = refused(server.config(f"IdentityAgent {socket}").replace(str(server.key), "none"))
    assert "MaxAuthTries" in error.text
    assert "other1 of the agent (refused)" in error.text


def test_dead_agent_is_reported(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A missing agent is named."""
    error = refused(server.config(f"IdentityAgent {tmp_path / 'gone'}").replace(str(server.key), "none"))
    assert f"agent {tmp_path / 'gone'} (" in error.text


def test_certificate_logs_in(tmp_path: Path, one: One, refused: Refused) -> None:
    """A key logs in with its certificate, next to the key or as CertificateFile."""
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


def test_second_factor_is_reported(tmp_path: Path, refused: Refused) -> None:
    """A host that requires more than a key is reported with what it requires."""
    with running(
        tmp_path / "server", "AuthenticationMethods publickey,password", "PasswordAuthentication yes"
    ) as server:
        error = refused(server.config())
    assert "password" in error.text
    assert str(server.key) in error.text


def test_host_that_takes_no_keys_is_reported(tmp_path: Path, refused: Refused) -> None:
    """A host that accepts passwords alone is reported."""
    options = ("PubkeyAuthentication no", "PasswordAuthentication yes")
    with running(tmp_path / "server", *options) as server:
        assert "only password" in refused(server.config()).text
