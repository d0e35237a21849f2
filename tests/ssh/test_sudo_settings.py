"""sudo's settings: scripts run as root wherever sudo lets them, the password asked for is named, and a refusal has its cause."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from dws_on_csm.model.errors import RemoteError, SudoRefused, Unreachable
from dws_on_csm.transport.remote_shell import RemoteShell
from dws_on_csm.transport.sudo import Question
from tests.ssh import sudos
from tests.ssh.conftest import Connect, One
from tests.ssh.server import HANG, Server, processes_below
from tests.ssh.sudos import PASSWORDS, SUDOS, Sudo

pytestmark = pytest.mark.slow

HANGS = "auth required pam_unix.so\nauth required pam_exec.so /bin/cat /mnt/directory\n" + sudos.PAM
"""A module that waits for a directory that is gone."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sudos")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with sudos.serving(folder) as server:
        yield server


@pytest.mark.parametrize("row", SUDOS, ids=[row.name for row in SUDOS])
def test_sudo(row: Sudo, folder: Path, server: Server, one: One) -> None:
    """Scripts run as root, with their data whole; or the error names the cause. Only passwords that sudo wants are asked for."""
    sudos.prepare(folder, row)
    asked: list[str] = []

    def ask(question: Question) -> str:
        asked.append(question.user or question.text)
        return row.wrong or PASSWORDS[question.user]

    session = one(server.config(), user=row.user, sudo=True, ask=ask)
    data = os.urandom(100_000)
    script = "sha256sum; echo to stderr >&2; id -u; umask; echo $http_proxy$HOME; exit 3"
    try:
        results = [session.run(script, data, deadline=HANG) for _ in range(2)]
    except Unreachable as error:
        assert row.cause and re.search(row.cause, f"{error.text} {error.fix}", re.DOTALL), error
        assert not any(password in str(error) for password in (row.wrong, *PASSWORDS.values()) if len(password) > 3)
    else:
        assert not row.cause, results
        out = f"{hashlib.sha256(data).hexdigest()}  -\n0\n0022\n/root\n"
        for result in results:
            assert (result.out.decode(), result.err.decode(), result.code) == (out, "to stderr\n", 3)
    assert tuple(asked) == row.asked


def test_variables_that_sudo_keeps_stay_out(folder: Path, server: Server, one: One) -> None:
    """sudoers and PAM give root's programs no variables, and root's home is root's."""
    keeps = 'Defaults env_keep += "http_proxy HOME"\nDefaults !env_reset\nDefaults env_file=/mnt/environment\n'
    pam = f"{sudos.PAM}session required pam_env.so envfile=/mnt/environment readenv=1\n"
    (folder / "mnt/environment").write_text("https_proxy=http://proxy.example:3128\nno_proxy=localhost\n")
    sudos.prepare(folder, Sudo("kept", keeps + sudos.FREE, "admin", pam=pam))
    session = one(server.config(), user="admin", sudo=True)
    names = {line.partition("=")[0] for line in session.run("env", deadline=HANG).out.decode().splitlines()}
    assert names - {"_", "SHLVL", "OLDPWD"} == {
        "HOME",
        "LC_ALL",
        "LOGNAME",
        "PATH",
        "PWD",
        "SHELL",
        "SUDO_USER",
        "USER",
    }
    assert session.run("echo $HOME", deadline=HANG).out == b"/root\n"


def _outcomes(sessions: Iterable[RemoteShell]) -> list[str]:
    """What a script of each of these sessions, all at once, prints; or why it did not start."""

    def outcome(session: RemoteShell) -> str:
        try:
            return session.run("id -u", deadline=HANG).out.decode()
        except SudoRefused as error:
            return error.text

    with ThreadPoolExecutor() as pool:
        return list(pool.map(outcome, sessions))


@pytest.mark.parametrize("tries", [1, 3])
@pytest.mark.parametrize("hosts", [["host1"] * 4, ["host1", "host2", "host3", "host4"]], ids=["scripts", "hosts"])
def test_a_wrong_password_reaches_one_sudo(
    folder: Path, server: Server, connect: Connect, tries: int, hosts: list[str]
) -> None:
    """Four wrong ones at once lock many an account, whether they come from four hosts or from four scripts of one; also where
    sudo says only when it ends that the password was wrong. sudo's own log counts them.
    """
    defaults = f"Defaults passwd_tries={tries}, logfile=/mnt/log, loglinelen=0\n"
    sudos.prepare(folder, Sudo("logs", defaults + sudos.ASKS))
    (folder / "mnt/log").unlink(missing_ok=True)
    sessions = connect(server.config(name="host*"), *set(hosts), user="operator", sudo=True, ask=lambda question: "no")
    told = _outcomes([sessions.session(host) for host in hosts])
    assert sum("did not accept the password of operator; it wrote" in text for text in told) == 1, told
    assert sum("it was not tried" in text for text in told) == 3, told
    ends = time.monotonic() + HANG
    while "incorrect password" not in (log := (folder / "mnt/log").read_text()) and time.monotonic() < ends:
        time.sleep(0.05)  # sudo writes it when it ends, and no event says that
    assert log.count("incorrect password attempt") == 1


def test_a_stopped_run_waits_for_no_trial(folder: Path, server: Server, connect: Connect) -> None:
    """PAM of one host waits for a directory that is gone, and other hosts for that host: after Ctrl-C these end at once."""
    (folder / "mnt/directory").unlink(missing_ok=True)
    os.mkfifo(folder / "mnt/directory")
    sudos.prepare(folder, Sudo("hangs", sudos.ASKS, pam=HANGS))
    names = [f"host{number}" for number in range(4)]
    asked = threading.Event()

    def ask(question: Question) -> str:
        asked.set()
        return PASSWORDS[question.user]

    sessions = connect(server.config(name="host*"), *names, user="operator", sudo=True, ask=ask)
    with ThreadPoolExecutor() as pool:
        told = pool.submit(_outcomes, sessions.open())
        assert asked.wait(HANG)
        began = time.monotonic()
        for stopping in [pool.submit(session.stop) for session in sessions.open()]:
            stopping.result(HANG)
        ended = time.monotonic() - began
        os.close(
            os.open(folder / "mnt/directory", os.O_WRONLY)
        )  # the directory is there again: the script runs, and ends
        assert sum("while the run was stopping" in text for text in told.result(HANG)) == 3, told.result()
    assert ended < HANG / 2


def _waiting_in_pam(server: Server) -> list[int]:
    """The processes from a connection's first to the one that waits in PAM, once there is one."""
    ends = time.monotonic() + HANG
    while time.monotonic() < ends:
        for line in processes_below(server.process.pid):
            with suppress(OSError):  # one that has ended since
                if Path(f"/proc/{line[-1]}/cmdline").read_bytes() == b"/bin/cat\0/mnt/directory\0":
                    return line
        time.sleep(0.05)  # no event says how far sudo has come
    pytest.fail("no sudo came as far as PAM")


@pytest.mark.parametrize("transport", ["fabric", "openssh"])
def test_a_host_that_dies_while_it_tries_keeps_no_other_waiting(
    folder: Path, server: Server, connect: Connect, transport: str
) -> None:
    """The next host tries the password then, and what is said of the dead one is no error of this tool's own sockets."""
    (folder / "mnt/directory").unlink(missing_ok=True)
    os.mkfifo(folder / "mnt/directory")
    sudos.prepare(folder, Sudo("hangs", sudos.ASKS, pam=HANGS))
    names = ("host1", "host2", "host3")
    sessions = connect(
        server.config(name="host*"), *names, user="operator", sudo=True, ask=lambda question: PASSWORDS[question.user]
    )
    told: dict[str, str] = {}

    def outcome(session: RemoteShell) -> None:
        try:
            told[session.host] = session.run("id -u", deadline=HANG).out.decode()
        except RemoteError as error:
            told[session.host] = str(error)

    with ThreadPoolExecutor() as pool:
        work = [pool.submit(outcome, session) for session in sessions.open()]
        for process in _waiting_in_pam(server):
            os.kill(process, signal.SIGKILL)
        ends = time.monotonic() + HANG
        while not all(done.done() for done in work) and time.monotonic() < ends:
            with suppress(OSError):  # nobody reads there now
                os.close(os.open(folder / "mnt/directory", os.O_WRONLY | os.O_NONBLOCK))  # the end of that one's wait
            time.sleep(0.05)  # no event says that the next one waits
        for done in work:
            done.result(HANG)
    assert sorted(told.values())[:2] == ["0\n"] * 2, told
    lost = next(text for text in told.values() if text != "0\n")
    assert "the connection broke" in lost and not re.search("descriptor|Transferred|per second", lost)


def test_who_answers_later_than_sudo_waits_is_not_asked_again(folder: Path, server: Server, connect: Connect) -> None:
    """sudo ends on all hosts while a person looks for the password: it starts again there, with the answer."""
    sudos.prepare(folder, Sudo("impatient", f"Defaults passwd_timeout=0.05\n{sudos.ASKS}"))
    asked: list[str] = []

    def ask(question: Question) -> str:
        asked.append(question.host)
        threading.Event().wait(5)  # sudo waits for three seconds
        return PASSWORDS[question.user]

    sessions = connect(server.config(name="host*"), "host1", "host2", user="operator", sudo=True, ask=ask)
    assert _outcomes(sessions.open()) == ["0\n", "0\n"]
    assert len(asked) == 1
