"""Connections to hosts: ssh_config is obeyed, and a failure has its cause and fix."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paramiko.ssh_exception import IncompatiblePeer

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport.connect import CommandSocket
from dws_on_csm.transport.remote_shell import RemoteShell
from dws_on_csm.transport.ssh_limits import Limited
from tests.ssh.conftest import Connect, Deadlines, One, Refused
from tests.ssh.server import HANG, Server, free_port, running

pytestmark = pytest.mark.slow


@pytest.fixture
def jump(tmp_path: Path) -> Iterator[Server]:
    """A second server, as the jump host."""
    with running(tmp_path / "jump") as one:
        yield one


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_includes_and_matches_hold(server: Server, one: One, tmp_path: Path) -> None:
    """Include and Match exec work as in ssh."""
    included = tmp_path / "included"
    included.write_text(f'Match exec "test %n = host"\n  {server.config().partition(chr(10))[2]}')
    assert one(f"Include {included}\n").run("echo in", deadline=HANG).out == b"in\n"


def test_user_of_the_site_file_holds(server: Server, refused: Refused) -> None:
    """The site file's user outranks that of ssh_config; without it ssh_config's is used."""
    assert "login as daemon failed" in refused(server.config("User root"), user="daemon").text
    assert "login as nobody failed" in refused(server.config("User nobody"), user="").text


def test_nothing_of_a_former_connection_is_remembered(
    server: Server, one: One, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host that moved, or has a new key, is found as it is now: neither addresses nor host keys nor ssh_config are cached."""
    look_up, moved = socket.getaddrinfo, ["127.0.0.9", "127.0.0.1"]

    def address(host: str, *more: object, **named: object) -> object:
        return look_up(moved[0] if host == "moved.example" else host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", address)
    known = tmp_path / "known_hosts"
    known.write_text(f"moved.example {server.host_key}\n")
    lines = ("HostName moved.example", "HostKeyAlias moved.example", f"UserKnownHostsFile {known}")
    assert "connection to moved.example" in refused(server.config(*lines)).text
    del moved[0]
    assert one(server.config(*lines)).run("echo in", deadline=HANG).out == b"in\n"
    known.write_text("")
    assert "its host key is unknown" in refused(server.config(*lines)).text


def test_many_hosts_side_by_side(server: Server, connect: Connect) -> None:
    """Connections to many hosts are opened in parallel, within the site's limit, and counted; a failure affects no other host."""
    names = [f"host{n}" for n in range(20)]
    text = f"Host host7\n  Port {free_port()}\n" + server.config(name="host*")
    sessions = connect(text, *names)
    assert list(sessions) == names
    assert [name for name, one in sessions.items() if isinstance(one, Unreachable)] == ["host7"]
    assert sessions.connections == 19
    for session in sessions.open():
        assert session.run("echo hi", deadline=HANG).out == b"hi\n"
    assert sessions.commands == 19


def test_closed_port_is_reported(server: Server, refused: Refused) -> None:
    """A closed port is reported with its address."""
    port = free_port()
    error = refused(server.config(f"Port {port}"))
    assert error.text == f"the connection to 127.0.0.1 port {port} failed: Connection refused"
    assert "ssh host" in error.fix


def test_unknown_name_is_reported(server: Server, refused: Refused) -> None:
    """A name without an address is reported."""
    error = refused(server.config("HostName nowhere.invalid"))
    assert "nowhere.invalid has no address" in error.text


def test_mute_host_is_given_up(server: Server, refused: Refused, mute: int) -> None:
    """A host that accepts the connection and sends nothing times out at the deadline."""
    began = time.monotonic()
    # not less, since `ssh -G` has the same deadline
    error = refused(server.config(f"Port {mute}"), deadlines=Deadlines(connect=5))
    assert "timed out after 5 s" in error.text
    assert time.monotonic() - began < 60


def test_connect_timeout_of_ssh_config_holds(server: Server, refused: Refused, mute: int) -> None:
    """A shorter ConnectTimeout of ssh_config outranks the site's deadline."""
    began = time.monotonic()
    refused(server.config(f"Port {mute}", "ConnectTimeout 1"), deadlines=Deadlines(connect=200))
    assert time.monotonic() - began < 100


def test_other_service_is_reported(server: Server, refused: Refused) -> None:
    """A port with another service than SSH is reported."""

    def answer(listener: socket.socket) -> None:
        link, _ = listener.accept()
        link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
        link.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        assert f"SSH to 127.0.0.1 port {port} failed" in refused(server.config(f"Port {port}")).text
        thread.join(5)


def test_jump_host_is_shared(server: Server, jump: Server, connect: Connect) -> None:
    """All hosts behind a jump host share one connection to it."""
    text = server.config("ProxyJump jump", name="host*") + jump.config(name="jump")
    sessions = connect(text, "host1", "host2", "host3")
    for session in sessions.values():
        assert isinstance(session, RemoteShell), session
        assert session.run("cat", b"through", deadline=HANG).out == b"through"
    assert sessions.connections == 4


def test_jump_over_jump(server: Server, jump: Server, one: One) -> None:
    """ProxyJump takes a list, users and ports; each hop is reached through the previous one."""
    near, far = jump.config(name="near"), jump.config(name="127.0.0.1")
    text = server.config(f"ProxyJump near,root@127.0.0.1:{jump.port}") + near + far
    assert one(text).run("echo far", deadline=HANG).out == b"far\n"


def test_jump_that_fails_is_named(server: Server, jump: Server, refused: Refused) -> None:
    """A failure at the jump host names the jump host, also when it can't reach the next host."""
    closed = refused(server.config("ProxyJump jump") + jump.config(f"Port {free_port()}", name="jump"))
    assert "through jump host jump: the connection to" in closed.text
    strange = refused(server.config("ProxyJump jump") + jump.config("UserKnownHostsFile /dev/null", name="jump"))
    assert "through jump host jump: its host key is unknown" in strange.text
    beyond = refused(server.config(f"Port {free_port()}", "ProxyJump jump") + jump.config(name="jump"))
    assert "through jump host jump" in beyond.text


def test_jump_that_fails_is_tried_once(server: Server, jump: Server, connect: Connect, mute: int) -> None:
    """All hosts behind a silent jump host fail after one deadline, not one deadline after the other."""
    text = server.config("ProxyJump jump", name="host*") + jump.config(f"Port {mute}", name="jump")
    began = time.monotonic()
    sessions = connect(text, *(f"host{n}" for n in range(6)), deadlines=Deadlines(connect=5))
    assert all(isinstance(one, Unreachable) for one in sessions.values())
    assert time.monotonic() - began < 6 * 5


def test_jump_in_a_circle_is_reported(server: Server, refused: Refused) -> None:
    """Jump hosts that lead to each other are refused."""
    text = server.config("ProxyJump one") + "Host one\n  ProxyJump two\nHost two\n  ProxyJump one\n"
    assert "circle" in refused(text).text


def test_proxy_command(server: Server, jump: Server, one: One, tmp_path: Path) -> None:
    """A ProxyCommand runs with its tokens filled in."""
    (tmp_path / "jump_config").write_text(jump.config(name="jump"))
    command = f"ssh -F {tmp_path / 'jump_config'} -W %h:%p root@jump"
    session = one(server.config(f"ProxyCommand {command}"))
    assert session.run("cat", b"piped" * 100_000, deadline=HANG).out == b"piped" * 100_000


def test_proxy_command_that_does_not_heed_is_ended() -> None:
    """The command ends with the socket, also where it ignores TERM."""
    link = CommandSocket("sh -c 'trap \"\" TERM; echo on; while :; do sleep 0.1; done'")
    assert link.recv(3) == b"on\n"
    link.close()
    assert link._process.returncode == -signal.SIGKILL


def test_proxy_command_that_fails_is_reported(server: Server, refused: Refused) -> None:
    """A ProxyCommand that ends without a connection fails at once."""
    began = time.monotonic()
    error = refused(server.config("ProxyCommand echo no way >&2; false"), deadlines=Deadlines(connect=200))
    assert error.text == f"SSH to 127.0.0.1 port {server.port} by `echo no way >&2; false` failed: no way"
    assert time.monotonic() - began < 100


@pytest.mark.parametrize(
    "line",
    ["RevokedHostKeys /etc/hosts", "PubkeyAuthentication no", "PreferredAuthentications password", "BindInterface lo"],
)
@pytest.mark.parametrize("transport", ["fabric"])
def test_what_cannot_hold_is_refused(server: Server, refused: Refused, line: str) -> None:
    """A setting that matters, and that Fabric does not support, is refused by name."""
    error = refused(server.config(line))
    assert line.split()[0] in error.text
    assert line.split()[0] in error.fix


def test_mistake_in_ssh_config_is_reported(server: Server, refused: Refused) -> None:
    """A mistake in ssh_config is reported in ssh's words, with the line."""
    error = refused("Nonsense yes\n" + server.config())
    assert "line 1: Bad configuration option: nonsense" in error.text


@pytest.mark.parametrize("transport", ["fabric"])
def test_algorithms_of_ssh_config_hold(server: Server, one: One, refused: Refused) -> None:
    """Only ciphers of ssh_config are used; where none of them is supported, that is reported."""
    session = one(server.config("Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"))
    assert session.run("cat", b"x" * 1_000_000, deadline=HANG).out == b"x" * 1_000_000
    error = refused(server.config("Ciphers chacha20-poly1305@openssh.com"))
    assert "ciphers" in error.text
    assert "aes256-gcm@openssh.com" in error.fix


def test_without_ssh_there_is_a_clear_word(server: Server, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing OpenSSH client is reported."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert "ssh is missing on this machine" in refused(server.config()).text


@pytest.mark.parametrize(
    ("option", "offered", "ours"),
    [
        (
            "Ciphers chacha20-poly1305@openssh.com",
            "no cipher in common: the host offers chacha20-poly1305",
            "aes256-ctr",
        ),
        (
            "KexAlgorithms sntrup761x25519-sha512@openssh.com",
            "no key exchange in common: the host offers sntrup761",
            "ecdh-",
        ),
        (
            "MACs umac-128-etm@openssh.com",
            "no MAC in common: the host offers umac-128-etm@openssh.com",
            "hmac-sha2-256",
        ),
    ],
)
def test_both_sides_algorithms_are_told(tmp_path: Path, option: str, offered: str, ours: str) -> None:
    """Where host and tool have nothing in common, the lists of both are shown."""
    with running(tmp_path / "server", option, "Ciphers aes128-ctr") as server:
        transport = Limited(socket.create_connection(("127.0.0.1", server.port)))
        with pytest.raises(IncompatiblePeer) as error:
            transport.start_client(timeout=HANG)
        transport.close()
    assert offered in str(error.value)
    assert ours in str(error.value).partition("this tool has")[2]
