"""Root's rights for other users by real sudo; the users exist for this sshd alone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.redaction import redact
from dws_on_csm.runner.sudo_password import ask_terminal
from dws_on_csm.transport.output import LIMIT
from dws_on_csm.transport.remote_shell import RemoteShell
from dws_on_csm.transport.sudo import Question
from tests.ssh.conftest import Connect, One
from tests.ssh.server import HANG, Server
from tests.ssh.sudoers import PASSWORD, hosting

pytestmark = pytest.mark.slow


@pytest.fixture(params=["fabric", "openssh"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test holds for both."""
    return str(request.param)


@pytest.fixture(scope="module", params=["use_pty", "!use_pty"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with hosting(tmp_path_factory.mktemp("sudo"), request.param) as server:
        yield server


def test_passwordless_sudo_is_not_asked(server: Server, one: One) -> None:
    """Where sudo needs no password, none is asked for, and a script takes one exec; data and environment arrive."""
    session = one(server.config(), user="admin", sudo=True)
    result = session.run("id -u; cat; echo $LC_ALL $SUDO_USER; exit 3", b"data\n", deadline=HANG)
    assert (result.out, result.code) == (b"0\ndata\nC admin\n", 3)
    assert session.commands == 1


def test_password_is_asked_once_a_run(server: Server, connect: Connect) -> None:
    """Many hosts and scripts, one prompt; only the first script of each host takes a second exec."""
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return PASSWORD

    sessions = connect(server.config(name="host*"), "host1", "host2", user="operator", sudo=True, ask=ask)
    with ThreadPoolExecutor() as pool:
        runs = pool.map(lambda session: session.run("id -u; cat", b"in", deadline=HANG), sessions.open())
        assert [result.out for result in runs] == [b"0\nin", b"0\nin"]
    assert sessions.open()[0].run("cat", b"again", deadline=HANG).out == b"again"
    assert len(asked) == 1
    assert sessions.commands == 5


def test_password_goes_nowhere_else(server: Server, one: One) -> None:
    """The password is in no process's arguments or environment, and not in the script's input or output."""
    lines: list[str] = []
    session = one(server.config(), user="operator", sudo=True, ask=lambda host: PASSWORD)
    script = "cat; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    result = session.run(script, b"data", deadline=HANG, line=lines.append)
    assert PASSWORD.encode() not in result.out + result.err
    assert not any(PASSWORD in line for line in lines)
    assert result.out.startswith(b"data")
    assert not Path("/wrong").exists()


def test_wrong_password_is_one_clear_error(server: Server, one: One) -> None:
    """A wrong password is tried once, not three times."""
    session = one(server.config(), user="operator", sudo=True, ask=lambda host: "wrong")
    began = time.monotonic()
    with pytest.raises(SudoRefused) as caught:
        session.run("id -u", deadline=HANG)
    assert "did not accept the password" in caught.value.text
    assert time.monotonic() - began < HANG
    assert "wrong" not in str(caught.value)


def test_a_wrong_password_is_tried_on_one_host(server: Server, connect: Connect) -> None:
    """Many wrong ones would lock an account that all hosts share: the others are told why it was not tried there."""

    def refusal(session: RemoteShell) -> str:
        with pytest.raises(SudoRefused) as caught:
            session.run("id -u", deadline=HANG)
        return caught.value.text

    hosts = [f"host{number}" for number in range(6)]
    sessions = connect(server.config(name="host*"), *hosts, user="operator", sudo=True, ask=lambda question: "wrong")
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(refusal, sessions.open()))
    assert sorted("did not accept the password of operator; it wrote" in text for text in told) == [False] * 5 + [True]
    (by,) = (host for host, text in zip(hosts, told, strict=True) if "it wrote" in text)
    assert (
        sum(f"sudo on {by} did not accept the password of operator, and it was not tried here" in text for text in told)
        == 5
    )


def test_a_person_may_type_the_password_again(server: Server, one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a wrong password is asked for again, three times in all, as sudo does."""
    typed = ["wrong", "wrong too", PASSWORD]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("dws_on_csm.display.console.password", lambda question: typed.pop(0))
    assert one(server.config(), user="operator", sudo=True, ask=None).run("id -u", deadline=HANG).out == b"0\n"
    typed = ["wrong"] * 4
    with pytest.raises(SudoRefused, match="did not accept the password of operator"):
        one(server.config(), user="operator", sudo=True, ask=None).run("id -u", deadline=HANG)
    assert len(typed) == 1


def test_a_command_of_the_site_file_prints_the_password(server: Server, one: One, tmp_path: Path) -> None:
    """Without a terminal; a wrong one is one clear error, with sudo's words, and the command is not run again."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    session = one(server.config(), user="operator", sudo=True, ask=None, command=f"cat {tmp_path}/password")
    assert session.run("id -u", deadline=HANG).out == b"0\n"
    session = one(
        server.config(), user="operator", sudo=True, ask=None, command=f"sh -c 'echo x >>{tmp_path}/ran; echo no'"
    )
    with pytest.raises(
        SudoRefused, match="did not accept the password of operator; it wrote: Sorry, try again"
    ) as caught:
        session.run("id -u", deadline=HANG)
    assert redact.text(caught.value.text) == caught.value.text
    assert (tmp_path / "ran").read_text() == "x\n" and session.sudo_refused


def test_user_without_sudo_rights_is_reported(server: Server, one: One) -> None:
    """A user who is not in sudoers gets sudo's message, and the line that sudoers lacks."""
    session = one(server.config(), user="stranger", sudo=True, ask=lambda host: PASSWORD)
    with pytest.raises(SudoRefused) as caught:
        session.run("id -u", deadline=HANG)
    assert "stranger is not in the sudoers file" in caught.value.text
    assert "`stranger ALL=(ALL) ALL`" in caught.value.fix


def test_without_a_terminal_no_password_is_asked_for(server: Server, one: One) -> None:
    """Where sudo needs a password and there is no terminal, the error has a fix."""
    session = one(server.config(), user="operator", sudo=True, ask=ask_terminal)
    with pytest.raises(SudoRefused) as caught:
        session.run("id -u", deadline=HANG)
    assert "NOPASSWD" in caught.value.fix


def test_much_data_through_sudo(server: Server, one: One) -> None:
    """50 MB in, and the allowed maximum out, pass through sudo unchanged."""
    data = os.urandom(50 << 20)
    session = one(server.config(), user="operator", sudo=True, ask=lambda host: PASSWORD)
    assert session.run(f"head -c {LIMIT - 100}; sha256sum", data, deadline=200).out == data[: LIMIT - 100] + _sum(
        data[LIMIT - 100 :]
    )


def _sum(data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  -\n".encode()


def test_stop_reaches_what_root_runs(server: Server, one: One) -> None:
    """stop() ends scripts under sudo, too."""
    session = one(server.config(), user="admin", sudo=True)
    with ThreadPoolExecutor(1) as pool:
        script = pool.submit(session.run, "sleep 200", deadline=200, line=None)
        ends = time.monotonic() + 100
        while not script.done() and time.monotonic() < ends:
            session.stop()
            time.sleep(0.1)  # before the script has begun, stop() has nothing to end
        assert script.result(1).code == 143
