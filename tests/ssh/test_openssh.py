"""Hosts that only the system's ssh reaches: chosen for them, and only for them; nothing of it stays behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.errors import Lost, Unreachable
from dws_on_csm.model.events import Done
from dws_on_csm.runner import connections
from dws_on_csm.transport import mux, openssh
from dws_on_csm.transport.fabric_link import FabricLink
from dws_on_csm.transport.openssh import OpenSshLink
from dws_on_csm.transport.session import Session
from tests.ssh import agents, kerberos
from tests.ssh.conftest import Connect, Deadlines, One, Refused
from tests.ssh.server import HANG, Server, free_port, keygen, running
from tests.ssh.sudoers import PASSWORD, hosting

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FABRIC = pytest.mark.parametrize("transport", ["fabric"])
OPENSSH = pytest.mark.parametrize("transport", ["openssh"])

TWO_FACTORS = ("AuthenticationMethods publickey,password", "PasswordAuthentication yes")
CODE = ("AuthenticationMethods publickey,keyboard-interactive", "UsePAM yes", "KbdInteractiveAuthentication yes")


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)  # no event comes from other processes


def works(session: Session) -> bool:
    return session.run("cat", b"through", deadline=HANG).out == b"through"


@contextmanager
def person(config: str, folder: Path, user: str = "root") -> Iterator[Path]:
    """A master connection that a person has opened, with the password where it is asked for; its control socket."""
    folder.mkdir(exist_ok=True)
    (folder / "ssh_config").write_text(config)
    (folder / "askpass").write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    (folder / "askpass").chmod(0o700)
    control = folder / "cm"
    words = ("ssh", "-F", str(folder / "ssh_config"), "-M", "-N", "-o", f"ControlPath={control}", "-l", user, "host")
    answers = {"SSH_ASKPASS": str(folder / "askpass"), "SSH_ASKPASS_REQUIRE": "force"}
    process = subprocess.Popen(words, env=os.environ | answers, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: control.exists() or process.poll() is not None)
        assert process.poll() is None
        yield control
        assert mux.alive(control, HANG) == process.pid, "the person's connection is never ended"
    finally:
        process.kill()
        process.wait(HANG)


# --- which hosts


def test_plain_hosts_use_no_ssh(server: Server, one: One) -> None:
    """A host that Fabric reaches has no process of ssh, also with what distributions set for all hosts."""
    lines = (
        "GSSAPIAuthentication yes",
        "HostbasedAuthentication yes",
        "ControlMaster auto",
        "ControlPath ~/.ssh/cm-%C",
    )
    session = one(server.config(*lines))
    assert isinstance(session.link, FabricLink)
    assert session.note == ""


MODERN = {
    "cipher": "Ciphers chacha20-poly1305@openssh.com",
    "key exchange": "KexAlgorithms sntrup761x25519-sha512@openssh.com",
    "MAC": "MACs umac-128-etm@openssh.com",
}


@pytest.mark.parametrize(("what", "line"), MODERN.items(), ids=MODERN)
def test_hosts_with_modern_algorithms_alone(tmp_path: Path, one: One, what: str, line: str) -> None:
    """A host that offers only algorithms that Paramiko lacks is reached, and the note names what was missing."""
    lines = (line, "Ciphers aes256-ctr") if what == "MAC" else (line,)
    with running(tmp_path / "server", *lines) as server:
        session = one(server.config())
        assert works(session)
        assert session.note == f"no {what} in common"


@FABRIC
@pytest.mark.parametrize(("what", "line"), MODERN.items(), ids=MODERN)
def test_without_ssh_the_lists_of_both_sides_are_told(tmp_path: Path, refused: Refused, what: str, line: str) -> None:
    """With transport: fabric such a host is refused, with what it offers and what this transport has."""
    lines = (line, "Ciphers aes256-ctr") if what == "MAC" else (line,)
    with running(tmp_path / "server", *lines) as server:
        error = refused(server.config())
    ours = {"cipher": "aes256-ctr", "key exchange": "curve25519-sha256@libssh.org", "MAC": "hmac-sha2-256"}[what]
    assert f"no {what} in common: the host offers {line.split()[1]}" in error.text
    assert ours in error.text.partition("; this tool has ")[2]
    assert "auto" in error.fix


SETTINGS = {
    "PKCS11Provider": "PKCS11Provider /nonexistent.so",
    "Ciphers": "Ciphers chacha20-poly1305@openssh.com",
    "BindInterface": "BindInterface lo",
}


@pytest.mark.parametrize("keyword", SETTINGS)
def test_settings_that_only_ssh_has(server: Server, one: One, keyword: str) -> None:
    """A setting of ssh_config that Fabric does not have is honoured by ssh itself, and named."""
    session = one(server.config(SETTINGS[keyword]))
    assert isinstance(session.link, OpenSshLink)
    assert works(session)
    assert keyword.lower() in session.note.lower()


def test_host_keys_that_only_ssh_can_check(tmp_path: Path, one: One, refused: Refused) -> None:
    """A host's certificate, and KnownHostsCommand, count as for ssh; a host that they do not prove is refused."""
    authority, other = keygen(tmp_path / "authority"), keygen(tmp_path / "other")
    certificate = tmp_path / "server/host-cert.pub"
    with running(tmp_path / "server", f"HostCertificate {certificate}") as server:
        sign = [
            "ssh-keygen",
            "-q",
            "-h",
            "-s",
            str(authority),
            "-I",
            "x",
            "-n",
            "127.0.0.1",
            f"{server.folder}/host.pub",
        ]
        subprocess.run(sign, check=True, timeout=HANG)
        os.kill(server.process.pid, signal.SIGHUP)  # it starts itself again, and reads its certificate
        for key in (authority, other):
            words = key.with_suffix(".pub").read_text()
            key.with_suffix(".known").write_text(f"@cert-authority * {words}")
        until(lambda: (server.folder / "log").read_text().count("Server listening on ") == 2)
        session = one(server.config(f"UserKnownHostsFile {tmp_path / 'authority.known'}"))
        assert session.note == "only ssh checks host keys by @cert-authority of known_hosts"
        assert works(session)
        error = refused(server.config(f"UserKnownHostsFile {tmp_path / 'other.known'}"))
        assert "Host key verification failed" in error.text
        command = f"KnownHostsCommand /bin/cat {server.known_hosts()}"
        session = one(server.config(command, "UserKnownHostsFile /dev/null"))
        assert session.note == "only ssh checks host keys by KnownHostsCommand"


@OPENSSH
@pytest.mark.parametrize("strict", ["accept-new", "no"])
def test_new_host_keys_are_added_and_changed_ones_refused(
    tmp_path: Path, server: Server, one: One, refused: Refused, strict: str
) -> None:
    """A new host's key is added where ssh_config says so; a changed one is refused even with StrictHostKeyChecking no."""
    file = tmp_path / "known"
    config = server.config(f"UserKnownHostsFile {file}", f"StrictHostKeyChecking {strict}")
    assert works(one(config))
    assert server.host_key in file.read_text()
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
    file.write_text(f"[127.0.0.1]:{server.port} {other}")
    error = refused(config)
    assert "Host key verification failed" in error.text


@OPENSSH
def test_the_agent_is_forwarded_when_told_so(
    tmp_path: Path, server: Server, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts on the master can use the agent with ForwardAgent yes, and only then; no other host gets it."""
    with agents.running(tmp_path / "agent", [agents.of_file(server.key)]) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.path))
        assert (
            b"id (ED25519)"
            in one(server.config("ForwardAgent yes", "IdentityAgent SSH_AUTH_SOCK"), role="master")
            .run("ssh-add -l", deadline=HANG)
            .out
        )
        for role, answer in (("master", "no"), ("controller", "yes")):
            config = server.config(f"ForwardAgent {answer}", "IdentityAgent SSH_AUTH_SOCK")
            assert one(config, role=role).run("ssh-add -l", deadline=HANG).code == 2


@pytest.mark.parametrize("transport", ["auto", "openssh"])
def test_the_kerberos_ticket_is_forwarded_when_told_so(
    tmp_path: Path, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts on the master have the ticket with GSSAPIDelegateCredentials yes, and only then; no other host gets it."""
    options = ("GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no", "PubkeyAuthentication no")
    folder = tmp_path / "realm"
    with kerberos.running(folder), ExitStack() as stack:
        inside = kerberos.server_variables(folder)
        server = stack.enter_context(running(tmp_path / "server", *options, inside=inside))
        jump = stack.enter_context(running(tmp_path / "jump", "LogLevel DEBUG1", *options, inside=inside))
        monkeypatch.setenv("KRB5_CONFIG", f"{folder}/krb5.conf")
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{folder}/ticket")
        held = f"export KRB5_CONFIG={folder}/krb5.conf; klist -s && echo ticket of $KRB5CCNAME; ls {folder}/ticket"

        def tickets(role: str, answer: str, *more: str) -> int:
            lines = ("GSSAPIAuthentication yes", f"GSSAPIDelegateCredentials {answer}")
            near = jump.config(*lines, name="near")
            session = one(server.config(*lines, *more) + near, role=role)
            out = session.run(held, deadline=HANG).out.decode()
            session.close()
            assert f"{folder}/ticket" in out  # else klist could not have found it either
            return out.count("ticket of FILE:/tmp/")

        assert tickets("master", "yes") == 1
        assert tickets("master", "no") == 0
        assert tickets("controller", "yes") == 0
        assert tickets("master", "yes", "ProxyJump near") == 1
        log = (jump.folder / "log").read_text()
        assert "Got no client credentials" in log and "Received some client credentials" not in log


def test_the_run_tells_for_which_host_and_why(tmp_path: Path, connect: Connect, server: Server) -> None:
    """A run reports each host that it reaches through ssh, with the reason, and no other."""
    events: list[object] = []
    config = server.config("Ciphers chacha20-poly1305@openssh.com", name="modern") + server.config(name="plain")
    sessions = connect(config, "modern", "plain")
    connections.report_connections(replace(load(DEFAULT), computes=()), {}, sessions, events.append)
    (done,) = events
    assert isinstance(done, Done)
    assert (done.host, done.outcome) == ("modern", "ok")
    assert done.note == "through the system's ssh: only ssh has the ciphers of ssh_config"


# --- master connections


def test_a_persons_master_connection_is_used(tmp_path: Path, one: One) -> None:
    """A host that wants two factors is reached through the connection that the person has opened."""
    with ExitStack() as stack:
        server = stack.enter_context(hosting(tmp_path / "two", options=TWO_FACTORS))
        control = stack.enter_context(person(server.config(), tmp_path / "cm", user="admin"))
        session = one(server.config("ControlMaster auto", f"ControlPath {control}"), user="admin", sudo=True)
        assert session.note == "its master connection is open"
        assert session.run("id -u", deadline=HANG).out == b"0\n"
        session.close()


def test_the_master_connection_of_a_jump_host_is_used(tmp_path: Path, server: Server, one: One) -> None:
    """A host behind a jump host with two factors is reached through the open connection to the jump host."""
    with ExitStack() as stack:
        jump = stack.enter_context(hosting(tmp_path / "two", options=TWO_FACTORS))
        control = stack.enter_context(person(jump.config(), tmp_path / "cm", user="admin"))
        near = jump.config("User admin", f"ControlPath {control}", name="near")
        session = one(server.config("ProxyJump near") + near)
        assert session.note == "the master connection of its jump host near is open"
        assert works(session)
        session.close()


@pytest.mark.parametrize("damage", ["left behind", "another user's", "no socket", "hangs"])
def test_a_master_connection_that_does_not_work_is_not_used(
    tmp_path: Path, server: Server, one: One, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control socket without a living master process of this user changes nothing: the usual transport is used."""
    monkeypatch.setattr("dws_on_csm.transport.route.ANSWER", 0.3)
    config = server.config(f"ControlPath {tmp_path / 'cm/cm'}")
    with suppress(AssertionError, OSError), person(server.config(), tmp_path / "cm") as control:
        if damage == "another user's":
            os.chown(control, 64000, 64000)
        elif damage == "no socket":
            control.unlink()
            control.write_text("x")
        else:
            pid = mux.alive(control, HANG)
            os.kill(pid, signal.SIGKILL if damage == "left behind" else signal.SIGSTOP)
        session = one(config)
        assert isinstance(session.link, FabricLink)
        assert works(session)


def test_a_master_connection_whose_host_is_gone_is_not_used(tmp_path: Path, server: Server, one: One) -> None:
    """Where the person's connection is open and answers no more, the run opens its own."""
    with person(server.config(), tmp_path / "cm") as control:
        pid = int(subprocess.check_output(["pgrep", "-P", str(server.process.pid), "-n"], timeout=HANG))
        os.kill(pid, signal.SIGSTOP)  # the far end of that connection
        try:
            config = server.config(f"ControlPath {control}")
            session = one(config, deadlines=Deadlines(connect=3))
            assert isinstance(session.link, OpenSshLink)
            assert works(session)
        finally:
            os.kill(pid, signal.SIGCONT)


@OPENSSH
def test_a_master_process_that_dies_is_told(server: Server, one: One) -> None:
    """Where ssh dies while a script runs, the script is Lost, and so are all later ones."""
    session = one(server.config())
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(session.run, "echo on; sleep 200", deadline=HANG, line=lambda text: begun.set())
        assert begun.wait(HANG)
        assert isinstance(session.link, OpenSshLink)
        assert session.link._socket
        os.kill(mux.alive(session.link._socket, HANG), signal.SIGKILL)
        with pytest.raises(Lost):
            lost.result(HANG)
    with pytest.raises(Lost):
        session.run("true", deadline=HANG)


# --- ways to a host


@OPENSSH
@pytest.mark.parametrize("name", ["with blank", "with%percent", "long" * 30])
def test_any_folder_for_temporary_files(
    tmp_path: Path, server: Server, one: One, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where TMPDIR is no path for a control socket, another folder is used."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    assert works(one(server.config()))


@OPENSSH
def test_ways_that_ssh_knows(tmp_path: Path, server: Server, one: One) -> None:
    """Jump hosts, a ProxyCommand and Match hold through ssh, too."""
    with running(tmp_path / "jump") as jump:
        assert works(one(server.config("ProxyJump jump") + jump.config(name="jump")))
        far = jump.config(name="127.0.0.1")
        assert works(one(server.config(f"ProxyJump jump,root@127.0.0.1:{jump.port}") + jump.config(name="jump") + far))
        (tmp_path / "other").write_text(jump.config(name="jump"))
        assert works(one(server.config(f"ProxyCommand ssh -F {tmp_path / 'other'} -W %h:%p jump")))


@OPENSSH
def test_failures_are_told_in_the_words_of_ssh(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A closed port, an unknown host key and a refused key are told as ssh tells them."""
    assert "Connection refused" in refused(server.config(f"Port {free_port()}")).text
    strange = refused(server.config("UserKnownHostsFile /dev/null"))
    assert "Host key verification failed" in strange.text
    assert "debug1" not in strange.text
    denied = refused(server.config().replace(str(server.key), "none"))
    assert "Permission denied" in denied.text and "sshd's own log" not in denied.fix
    wrong = refused(server.config().replace(str(server.key), str(keygen(tmp_path / "wrong"))))
    assert "Permission denied" in wrong.text and "sshd's own log" in wrong.fix


@OPENSSH
def test_a_jump_host_that_fails_is_named_and_tried_once(tmp_path: Path, server: Server, connect: Connect) -> None:
    """All hosts behind a jump host that refuses are told so, with its name."""
    with running(tmp_path / "jump") as jump:
        near = jump.config(name="near").replace(str(jump.key), "none")
        sessions = connect(server.config("ProxyJump near", name="host*") + near, "host1", "host2")
    for error in sessions.values():
        assert isinstance(error, Unreachable)
        assert "through jump host near: ssh failed: root@127.0.0.1: Permission denied" in error.text
    assert len(sessions.openssh_jumps._tried.results()) == 1


def test_both_causes_are_told(server: Server, refused: Refused) -> None:
    """Where Fabric can't log in and ssh can't either, the message has both reasons."""
    error = refused(server.config().replace(str(server.key), "none"))
    assert "the host accepted no key" in error.text
    assert "ssh failed: root@127.0.0.1: Permission denied (publickey)." in error.text


def test_why_ssh_was_used_is_told_where_it_fails(server: Server, refused: Refused) -> None:
    """Where a setting made ssh log in, and it could not, the message names the setting."""
    error = refused(server.config("PubkeyAuthentication no"))
    assert "Permission denied" in error.text
    assert "(ssh was used: ssh_config sets PubkeyAuthentication)" in error.text


@OPENSSH
def test_a_mute_host_is_given_up_in_time(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A host that answers nothing ends at the deadline, and leaves no process."""
    os.kill(server.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        error = refused(server.config(), deadlines=Deadlines(connect=2))
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert "ssh did not log in within 2 s" in error.text
    assert time.monotonic() - began < HANG


@OPENSSH
def test_connect_timeout_of_ssh_config_holds(server: Server, refused: Refused) -> None:
    """A shorter ConnectTimeout of ssh_config outranks the site's deadline."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        config = server.config(f"Port {mute.getsockname()[1]}", "ConnectTimeout 1")
        error = refused(config, deadlines=Deadlines(connect=200))
    assert "timed out" in error.text
    assert time.monotonic() - began < 100


# --- what a person does


@OPENSSH
def test_a_touch_is_awaited_and_shown(
    tmp_path: Path, server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a key of the agent waits for a touch, the person is told, and the agent has the time."""
    monkeypatch.setattr(openssh, "PATIENCE", 0.1)
    with agents.running(tmp_path / "agent", [agents.of_file(server.key, delay=2.0)]) as agent:
        config = server.config(f"IdentityAgent {agent.path}").replace(f"IdentityFile {server.key}", "IdentityFile none")
        told: list[tuple[object, ...]] = []
        sessions = connect(config, waiting=lambda *words: told.append(words))
        assert works(sessions.session("host"))  # type: ignore[arg-type]
    assert [words[:2] for words in told] == [("host", "waiting for your key (touch?)")]


ASKED = """
import os, sys
from pathlib import Path
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.config.site import Host
from tests.ssh.conftest import Site, Ssh
config, user, transport, *names = sys.argv[1:]
sessions = connect_all(Site(Ssh(Path(config), transport=transport)), [Host(name, "controller", user, False) for name in names])
for name, session in sessions.items():
    print(session.run("echo works", deadline=60).out.decode().strip() if hasattr(session, "run") else session)
sessions.close()
"""


def on_terminal(config: Path, user: str, *names: str, transport: str = "auto") -> tuple[int, int]:
    """A process on a terminal of its own that connects to hosts and uses them; its id, and our end of the terminal."""
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(ROOT)
        words = [sys.executable, "-c", ASKED, str(config), user, transport, *names]
        os.execv(sys.executable, words)  # noqa: S606  # it needs no shell
    return pid, terminal


def read(terminal: int, mark: bytes) -> bytes:
    """The output on a terminal up to the mark; without one, until its other end is closed."""
    said = b""
    while not mark or mark not in said:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # Linux raises this when the other end is closed
            break
        said += piece
    return said


@pytest.mark.parametrize("options", [TWO_FACTORS, CODE], ids=["password", "code"])
def test_a_second_factor_is_asked_for(tmp_path: Path, options: tuple[str, ...]) -> None:
    """On a terminal ssh's question is put to the person, host by host, and the answer is shown nowhere."""
    with hosting(tmp_path / "two", options=options) as server:
        (tmp_path / "ssh_config").write_text(server.config(name="host*"))
        pid, terminal = on_terminal(tmp_path / "ssh_config", "operator", "host1", "host2")
        said = b""
        for _ in range(2):
            said += read(terminal, b"assword: ")
            for file in Path("/proc").glob("[0-9]*/environ"):
                with suppress(OSError):
                    assert PASSWORD.encode() not in file.read_bytes() + file.with_name("cmdline").read_bytes()
            os.write(terminal, PASSWORD.encode() + b"\n")
        said += read(terminal, b"")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    assert said.count(b"works") == 2, said
    assert sorted(re.findall(rb"(host\d): .*assword: ", said)) == [b"host1", b"host2"]
    assert PASSWORD.encode() not in said


def test_a_jump_host_asks_once(tmp_path: Path, server: Server) -> None:
    """A jump host with a second factor is logged in to once, and asks once, however many hosts are behind it."""
    with hosting(tmp_path / "two", options=TWO_FACTORS) as jump:
        near = jump.config("User operator", name="near")
        (tmp_path / "ssh_config").write_text(server.config("ProxyJump near", name="host*") + near)
        pid, terminal = on_terminal(tmp_path / "ssh_config", "root", "host1", "host2", "host3")
        said = read(terminal, b"assword: ")
        os.write(terminal, PASSWORD.encode() + b"\n")
        said += read(terminal, b"")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    assert said.count(b"works") == 3, said
    assert re.findall(rb"(\S+): .*assword: ", said) == [b"near"]


def test_a_person_can_decline(tmp_path: Path) -> None:
    """After an empty answer nothing more is asked, and the hosts are told as unreachable."""
    with hosting(tmp_path / "two", options=TWO_FACTORS) as server:
        (tmp_path / "ssh_config").write_text(server.config(name="host*"))
        pid, terminal = on_terminal(tmp_path / "ssh_config", "operator", "host1", "host2")
        said = read(terminal, b"assword: ")
        os.write(terminal, b"\n")
        said += read(terminal, b"")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    assert said.count(b"requires more than a key: password") == 2, said
    assert said.count(b"assword: ") == 1


def test_a_passphrase_is_asked_for(tmp_path: Path, server: Server) -> None:
    """On a terminal the passphrase of a key is asked for, once a connection."""
    with running(tmp_path / "server") as own:
        key = keygen(tmp_path / "locked", passphrase="open sesame")
        (own.folder / "authorized_keys").write_bytes(key.with_suffix(".pub").read_bytes())
        (tmp_path / "ssh_config").write_text(own.config().replace(str(own.key), str(key)))
        pid, terminal = on_terminal(tmp_path / "ssh_config", "root", "host")
        said = read(terminal, b"locked': ")
        os.write(terminal, b"open sesame\n")
        said += read(terminal, b"")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    assert b"works" in said, said


def test_without_a_terminal_nothing_is_asked(tmp_path: Path, refused: Refused) -> None:
    """Without a terminal a second factor is a refusal, at once."""
    with hosting(tmp_path / "two", options=TWO_FACTORS) as server:
        began = time.monotonic()
        error = refused(server.config(), user="operator", deadlines=Deadlines(connect=200))
    assert "requires more than a key: password" in error.text
    assert time.monotonic() - began < HANG


# --- nothing stays behind


def _below(pid: int) -> set[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=HANG, check=False)
    children = {int(child) for child in listed.stdout.split()}
    return children.union(*map(_below, children))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


HOLD = """
import sys
from pathlib import Path
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.config.site import Host
from tests.ssh.conftest import Site, Ssh
sessions = connect_all(Site(Ssh(Path(sys.argv[1]), transport="openssh")), [Host("host", "controller", "root", False)])
print(sessions["host"].link._socket.parent, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, 0])
def test_nothing_is_left_after_the_process(tmp_path: Path, server: Server, number: int) -> None:
    """However the process ends, ssh ends with it, and its folder with the control socket is removed."""
    (tmp_path / "ssh_config").write_text(server.config())
    words = [sys.executable, "-c", HOLD, str(tmp_path / "ssh_config")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=ROOT, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout and process.stdin
    folder = Path(process.stdout.readline().strip())
    assert folder.stat().st_mode & 0o777 == 0o700
    below = _below(process.pid)
    assert len(below) >= 2
    if number:
        os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
    process.stdin.close()
    process.wait(HANG)
    until(lambda: not folder.exists() and not any(_alive(pid) for pid in below))
    process.stdout.close()
