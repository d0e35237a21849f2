"""A command of the site file that prints the password for sudo."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.runner import sudo_password
from dws_on_csm.transport.sudo import Question

ME = Question("host1", "me")


def printed(command: str, question: Question = ME) -> bytes:
    return sudo_password.password(command).get(question).reveal()


def test_its_output_without_the_last_newline_is_the_password() -> None:
    """Blanks and other characters are part of it; the command's words may be quoted, and no shell reads them."""
    assert printed("printf '%s\\n' ' a b$HOME'") == b" a b$HOME"
    assert printed("printf %s x") == b"x"


def test_it_runs_once_a_run_or_once_a_host(tmp_path: Path) -> None:
    """With %h it runs for each host; otherwise its answer is that of all hosts."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/log\necho "p $*"\n')
    program.chmod(0o755)
    same, each = (sudo_password.password(f"{program} {words}") for words in ("%u", "%u %h"))
    hosts = [Question("host1", "me"), Question("host2", "me")]
    first = same.get(hosts[0])
    same.accepted(hosts[0], first)
    assert first.reveal() == b"p me" and all(same.get(host) is first for host in hosts)
    assert [each.get(host).reveal() for host in (*hosts, *hosts)] == [b"p me host1", b"p me host2"] * 2
    assert (tmp_path / "log").read_text().splitlines() == ["me", "me host1", "me host2"]


@pytest.mark.parametrize("user", ["x; touch {0}; echo y", "../other", "-v", "a b", "$(touch {0})", "x" * 300, "ü"])
def test_a_host_gets_nothing_but_an_account_into_the_command(tmp_path: Path, user: str) -> None:
    """What asks there may be something else than sudo."""
    question = Question("host1", user.format(tmp_path / "reached"))
    with pytest.raises(SudoRefused, match="not the name of an account"):
        printed("sh -c 'echo %u'", question)
    assert not (tmp_path / "reached").exists()
    assert printed("echo %u", Question("host1", "svc.admin$")) == b"svc.admin$"
    assert printed("echo secret", question) == b"secret"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nonexistent/program", "cannot be run: No such file or directory"),
        ("sh -c 'echo hidden; echo locked >&2; exit 3'", "ended with exit code 3: locked"),
        ("true", "printed nothing"),
        ("printf 'hidden\\nhidden\\n'", "printed more than one line"),
    ],
)
def test_a_command_that_prints_no_password_is_named(command: str, why: str) -> None:
    """With the host, the account and the key of the site file; what it printed is never shown."""
    with pytest.raises(SudoRefused) as caught:
        printed(command)
    assert caught.value.text.startswith("sudo on host1 asks for the password of me, and ssh.sudo_password_command ")
    assert why in caught.value.text and "hidden" not in caught.value.text
    assert "must print the password" in caught.value.fix


def test_what_the_command_leaves_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The agent of a password manager, or a message bus, is left with the command's output open; the password is there."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    began = time.monotonic()
    try:
        assert printed(f"sh -c 'setsid cat {fifo} & echo x'") == b"x"
        assert time.monotonic() - began < sudo_password.SECONDS / 2
    finally:
        os.close(os.open(fifo, os.O_WRONLY))  # ends what is left


def test_a_command_that_prints_without_end_is_ended() -> None:
    """Its output fills no memory, and its complaints keep it from nothing."""
    began = time.monotonic()
    with pytest.raises(SudoRefused, match="printed more than one line, or too much"):
        printed("yes")
    assert time.monotonic() - began < sudo_password.SECONDS / 2
    assert printed("sh -c 'head -c 1000000 /dev/zero >&2; echo x'") == b"x"


def test_it_is_bounded_with_all_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that holds the output open keeps nobody waiting."""
    monkeypatch.setattr(sudo_password, "SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(SudoRefused, match="did not end within"):
        printed("sh -c 'sleep 500 & sleep 500'")
    assert time.monotonic() - began < 100
