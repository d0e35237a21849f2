"""A script on a host: its input, its output, and its end."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paramiko import Message
from paramiko.common import cMSG_CHANNEL_EOF

from dws_on_csm.model.errors import DeadlineExceeded, Flooded, Lost, Unreachable
from dws_on_csm.transport import login_shell, remote_shell, sudo
from dws_on_csm.transport.fabric_link import FabricLink
from dws_on_csm.transport.link import Channel
from dws_on_csm.transport.output import LIMIT, LONGEST, MOST
from dws_on_csm.transport.remote_shell import SCRIPTS
from dws_on_csm.transport.session import Session
from tests.ssh.conftest import One
from tests.ssh.server import HANG, Server, running

pytestmark = pytest.mark.slow


@pytest.fixture(params=["fabric", "openssh"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each test holds for both."""
    return str(request.param)


BIG = 50 << 20
LONG = 200.0
"""Seconds for work that takes some on an idle machine."""


def _until(file: Path) -> str:
    """A script that waits for the file."""
    return f"until [ -e {file} ]; do sleep 0.05; done"


def test_streams_code_and_input_are_kept_apart(session: Session) -> None:
    """A script's stdout, stderr and exit code come back unchanged, and its stdin is the data."""
    result = session.run("cat; echo 'to stderr' >&2; exit 3", b"\0 data without end", deadline=HANG)
    assert (result.out, result.err, result.code) == (b"\0 data without end", b"to stderr\n", 3)


def test_script_is_taken_to_the_letter(session: Session) -> None:
    """Quotes, here-documents and special characters of shells arrive unchanged."""
    script = """cat <<'END'\n$HOME `id` "x" 'y' \\ ! % é\nEND\nprintf '%s' "$#"\n"""
    assert session.run(script, deadline=HANG).out.decode() == """$HOME `id` "x" 'y' \\ ! % é\n0"""


def test_one_exec_for_one_script(session: Session) -> None:
    """Each script takes one exec channel on the same connection."""
    for _ in range(3):
        session.run("true", deadline=HANG)
    assert session.commands == 3


def test_much_data_goes_both_ways_at_once(session: Session) -> None:
    """50 MB in, the allowed maximum out and the same on stderr: no direction waits for another."""
    data = os.urandom(BIG)
    result = session.run(f"head -c {LIMIT} | tee /dev/stderr; cat >/dev/null", data, deadline=LONG)
    assert result.code == 0
    assert result.out == data[:LIMIT]
    assert result.err == data[:LIMIT]


FLOODS = {
    "stdout": "yes 'a line'",
    "stderr": "yes 'a line' >&2",
    "one line": "tr '\\0' x </dev/zero",
    "both": "yes one & yes two >&2",
}


@pytest.mark.parametrize("script", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
def test_a_host_that_writes_without_end_has_failed(session: Session, one: One, script: str, watched: bool) -> None:
    """The script fails with a fix long before its deadline, its output is dropped, and the next script runs."""
    seen: list[str] = []
    with pytest.raises(Flooded, match="without end; output cut after ") as flooded:
        session.run(script, deadline=LONG, line=seen.append if watched else None)
    assert session.host in str(flooded.value) and "log in" in flooded.value.fix
    assert len(seen) <= 2 * MOST and max(map(len, seen), default=0) <= LONGEST
    assert session.run("echo well", deadline=HANG).out == b"well\n"


def test_what_waits_for_a_word_is_not_flooded(session: Session) -> None:
    """A script that should stay, and writes without end before it is ready, fails too."""
    with pytest.raises(Flooded):
        session.pipe("yes >&2", "ready ", deadline=LONG, lifetime=LONG)


def test_input_that_is_not_read_holds_nothing_up(session: Session) -> None:
    """A script may end without reading its data."""
    result = session.run("exit 4", bytes(BIG), deadline=LONG)
    assert result.code == 4


def test_lines_come_while_the_script_runs(session: Session, tmp_path: Path) -> None:
    """A line is passed on when it is written, not at the script's end; a carriage return ends a line, too."""
    seen: list[str] = []

    def see(text: str) -> None:
        seen.append(text)
        if len(seen) == 4:
            (tmp_path / "seen").touch()

    script = r"echo one; printf 'ten %%\rfifty %%\r' >&2; printf '\377 odd\n'"
    session.run(f"{script}; {_until(tmp_path / 'seen')}; printf last", deadline=HANG, line=see)
    assert sorted(seen[:-1]) == ["fifty %", "one", "ten %", "\N{REPLACEMENT CHARACTER} odd"]
    assert seen[-1] == "last"


def test_nothing_of_the_script_is_in_argv(session: Session) -> None:
    """Other users of the host can see neither the script nor its data nor its variables."""
    mark = os.urandom(8).hex()
    script = f": {mark}\ncat > /dev/null; cat /proc/[0-9]*/cmdline /proc/self/environ"
    result = session.run(script, mark.encode(), deadline=HANG)
    assert b"timeout" in result.out
    assert mark.encode() not in result.out


def test_deadline_ends_the_script_and_its_children(session: Session) -> None:
    """A script that takes too long is ended with its children, and its last lines are reported."""
    seconds = 10_000_000 + os.getpid()  # tells these sleeps from others on this machine
    with pytest.raises(DeadlineExceeded) as caught:
        session.run(f"echo begun; sleep {seconds} & echo more >&2; sleep {seconds}", deadline=8)
    assert caught.value.tail == ("begun", "more")
    assert session.run(f"pgrep -fx 'sleep {seconds}'", deadline=HANG).out == b""


def test_deadline_ends_what_ignores_the_signal(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that ignores TERM is killed."""
    monkeypatch.setattr(remote_shell, "GRACE", 0.5)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        session.run("trap '' TERM; while :; do sleep 0.1; done", deadline=0.5)
    assert time.monotonic() - began < HANG


def test_killed_script_has_a_code(session: Session) -> None:
    """A script that a signal ended has 128 and the signal's number as its code."""
    assert session.run("kill -KILL $$", deadline=HANG).code == 137


def test_background_process_does_not_keep_us(session: Session) -> None:
    """A background process keeps the output open: the script still ends in time."""
    result = session.run("sleep 300 & echo $!; exit 5", deadline=LONG)
    assert result.code == 5
    session.run(f"kill {result.out.decode()}", deadline=HANG)


def test_stop_ends_what_runs(session: Session) -> None:
    """stop() ends the running script with its children."""
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running_ = pool.submit(session.run, "echo on; sleep 60", deadline=LONG, line=lambda text: begun.set())
        assert begun.wait(HANG)
        session.stop()
        assert running_.result(HANG).code == 143


def test_stop_ends_what_has_not_begun_yet(tmp_path: Path, one: One) -> None:
    """stop() also ends a script that has been sent and begins later; it spares a script of run_aside()."""
    with running(tmp_path / "slow") as server:
        session = one(server.config())
        session.run("true", deadline=HANG)
        opened = threading.Event()
        channel = session.channel

        def slowly(command: str) -> Channel:
            opened.set()
            time.sleep(1)  # a host that answers slowly
            return channel(command)

        session.channel = slowly  # type: ignore[method-assign]
        with ThreadPoolExecutor(2) as pool:
            running_ = pool.submit(session.run, "sleep 600", deadline=LONG)
            assert opened.wait(HANG)
            spared = pool.submit(session.run_aside, "sleep 3; echo spared", deadline=LONG)
            session.stop()
            assert running_.result(HANG).code == 143
            assert spared.result(HANG).out == b"spared\n"


def test_scripts_side_by_side(session: Session) -> None:
    """Several threads may use one connection."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: session.run(f"sleep 0.1; echo {n}", deadline=HANG).out, range(24)))
    assert results == [f"{n}\n".encode() for n in range(24)]


def test_as_many_scripts_as_sshd_allows_follow_each_other(tmp_path: Path, one: One) -> None:
    """A script begins right after another has ended, although sshd may not have noticed that end yet."""
    with running(tmp_path / "narrow", f"MaxSessions {SCRIPTS}") as server:
        session = one(server.config())
        with ThreadPoolExecutor(2 * SCRIPTS) as pool:
            results = list(pool.map(lambda n: session.run(f"echo {n}", deadline=HANG).out, range(60)))
    assert results == [f"{n}\n".encode() for n in range(60)]


def test_login_shell_that_talks_is_not_heard(tmp_path: Path, one: One) -> None:
    """The output of a .bashrc is not part of a script's output."""
    with running(tmp_path / "talking") as server:
        (server.folder / "home/.bashrc").write_text("echo welcome; echo beware >&2; export PATH=/nowhere:$PATH\n")
        result = one(server.config()).run("echo $PATH", deadline=HANG)
    assert (result.out, result.err) == (b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", b"")


def test_master_sees_its_kubeconfig(server: Server, one: One) -> None:
    """On the master PATH and KUBECONFIG are those of the site file; other hosts have no KUBECONFIG."""
    script = "echo $PATH; echo ${KUBECONFIG-none}; echo $LC_ALL; pwd; umask"
    master = one(server.config(), role="master").run(script, deadline=HANG).out.decode().split()
    assert master == ["/usr/sbin:/usr/bin:/sbin:/bin", "/etc/kubernetes/admin.conf", "C", "/", "0022"]
    assert b"none" in one(server.config()).run(script, deadline=HANG).out


def test_broken_connection_is_reported(tmp_path: Path, one: One) -> None:
    """A connection that breaks while a script runs is Lost: neither success nor failure."""
    with running(tmp_path / "doomed") as server:
        session = one(server.config())
        with ThreadPoolExecutor(1) as pool:
            begun = threading.Event()
            lost = pool.submit(session.run, "echo on; sleep 200", deadline=LONG, line=lambda text: begun.set())
            assert begun.wait(HANG)
            server.kill()
            with pytest.raises(Lost):
                lost.result(HANG)
        with pytest.raises(Lost):
            session.run("true", deadline=HANG)


def test_no_shell_is_reported(tmp_path: Path, one: One) -> None:
    """A login that runs no commands is reported, with the shell's own words."""
    options = "ForceCommand echo no commands here; exit 1"
    with running(tmp_path / "closed", options) as server, pytest.raises(Unreachable) as caught:
        one(server.config()).run("true", deadline=HANG)
    assert "no commands here" in caught.value.text
    assert "ssh host" in caught.value.fix


def test_too_many_sessions_are_reported(tmp_path: Path, one: One) -> None:
    """sshd's limit of sessions on a connection is reported, with the setting that raises it."""
    with running(tmp_path / "narrow", "MaxSessions 1") as server:
        session = one(server.config())
        with ThreadPoolExecutor(1) as pool:
            begun = threading.Event()
            script = f"echo on; {_until(tmp_path / 'refused')}"
            first = pool.submit(session.run, script, deadline=HANG, line=lambda text: begun.set())
            assert begun.wait(HANG)
            with pytest.raises(Unreachable) as caught:
                session.run("true", deadline=HANG)
            (tmp_path / "refused").touch()
            assert first.result(HANG).code == 0
    assert "MaxSessions" in caught.value.fix


@pytest.mark.parametrize("lost", [slice(0), slice(-1), slice(1, None), slice(30, None), slice(0, None)])
def test_incomplete_script_is_not_run(tmp_path: Path, lost: slice) -> None:
    """No part of an incomplete script runs, whichever part of it is missing."""
    body = remote_shell.script_body("key", f"touch {tmp_path / 'done'}", {})
    command = login_shell.login_command("token", login_shell.script_code(HANG, 1, "token"), sudo.NONE)
    done = subprocess.run(["sh", "-c", command], input=body[lost], capture_output=True, timeout=HANG, check=False)
    whole = body[lost] == body
    assert ((tmp_path / "done").exists(), done.returncode) == ((True, 0) if whole else (False, 125))


FORGED = """
for file in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do
    tr '\\0' '\\n' <"$file" 2>/dev/null
done | tr -c '0-9a-f\\n' '\\n' | grep -E '^[0-9a-f]{16,}$' | sort -u | while read -r word; do
    echo "$word ends 0"; echo "$word ends 0" >&2; echo "$word arrived incomplete" >&2
done
echo rest
exit 3
"""


def test_what_other_users_can_read_there_forges_no_end(session: Session) -> None:
    """Whoever has a script print any word of a command line or an environment of the host neither cuts its output nor gives it
    another exit code.
    """
    result = session.run(FORGED, deadline=HANG)
    assert (result.code, result.out.endswith(b"\nrest\n")) == (3, True)
    assert b" ends 0\n" in result.out  # the token, which everybody may read


@pytest.mark.parametrize("transport", ["fabric"])
def test_an_end_of_input_that_comes_late_costs_no_connection(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script ends before its input does: sshd closes the channel, and the connection continues to work."""
    session.run("true", deadline=HANG)
    assert isinstance(session.link, FabricLink)
    transport = session.link.connection.transport
    send = transport._send_user_message

    def late(message: Message) -> None:
        if message.asbytes()[:1] == cMSG_CHANNEL_EOF and threading.current_thread().name == "ssh-writer":
            (channel,) = transport._channels.values()
            until = time.monotonic() + 2  # where the close waits for this end, it does not come
            while not channel.closed and time.monotonic() < until:
                time.sleep(0.01)
        send(message)

    monkeypatch.setattr(transport, "_send_user_message", late)
    assert session.run("echo on", deadline=HANG).out == b"on\n"
    for thread in threading.enumerate():
        if thread.name == "ssh-writer":
            thread.join(HANG)
    assert session.run("echo on", deadline=HANG).out == b"on\n"
    assert session.run("echo on", deadline=HANG).out == b"on\n"
    assert transport.is_active()
