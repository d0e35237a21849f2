"""Questions of ssh for a person, through the program that ssh runs for them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dws_on_csm.transport.askpass_server import ASKPASS, Questions

HANG = 30.0
SECRET = "correct horse é"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as ends:
        yield ends


def asked(questions: Questions, kind: str = "", prompt: str = "Code: ") -> subprocess.Popen[bytes]:
    """The program that asks, as ssh starts it."""
    environment = os.environ | questions.environment() | {"SSH_ASKPASS_PROMPT": kind}
    return subprocess.Popen([ASKPASS, prompt], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_answer_reaches_ssh_and_nothing_else(tmp_path: Path, stack: ExitStack) -> None:
    """The person's answer comes on standard output of the program; its arguments and environment do not have it."""
    seen: list[tuple[str, str, bytes]] = []
    started = threading.Event()

    def ask(host: str, prompt: str) -> str:
        assert started.wait(HANG)
        pid = process.pid
        visible = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        seen.append((host, prompt, visible))
        return SECRET

    questions = stack.enter_context(closing(Questions("host", tmp_path, ask, lambda *words: None, HANG)))
    process = asked(questions, prompt="(root@host) Code for `id`; \"x\" 'y' é: ")
    started.set()
    out, err = process.communicate(timeout=HANG)
    assert (out.decode(), err, process.returncode) == (f"{SECRET}\n", b"", 0)
    ((host, prompt, visible),) = seen
    assert (host, prompt) == ("host", "(root@host) Code for `id`; \"x\" 'y' é: ")
    assert SECRET.encode() not in visible
    assert questions.asked


@pytest.mark.parametrize("kind", ["", "confirm"])
def test_without_a_person_there_is_no_answer(tmp_path: Path, stack: ExitStack, kind: str) -> None:
    """Where nobody answers, and where ssh asks for a permission, the program fails, and ssh takes that as a no."""
    questions = stack.enter_context(closing(Questions("host", tmp_path, None, lambda *words: None, HANG)))
    process = asked(questions, kind)
    assert process.communicate(timeout=HANG)[0] == b""
    assert process.returncode == 1


def test_a_touch_is_shown_until_ssh_has_it(tmp_path: Path, stack: ExitStack) -> None:
    """A notice of ssh is shown, and the program runs until ssh ends it."""
    told: list[tuple[str, str, float]] = []
    questions = stack.enter_context(closing(Questions("host", tmp_path, None, lambda *words: told.append(words), HANG)))
    process = asked(questions, "none", "Confirm user presence for key ED25519-SK SHA256:abc")
    ends = time.monotonic() + HANG
    while not told:
        assert time.monotonic() < ends
        time.sleep(0.01)  # no event comes from another process
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=HANG)
    assert told[0][:2] == ("host", "waiting for your key (touch?)")
    assert 0 < told[0][2] <= HANG


def test_the_time_of_a_person_is_counted(tmp_path: Path, stack: ExitStack) -> None:
    """The seconds for which a person was asked are known, also while the question is open."""
    counted: list[float] = []

    def ask(host: str, prompt: str) -> str:
        time.sleep(0.05)
        counted.append(questions.seconds)
        return "x"

    questions = stack.enter_context(closing(Questions("host", tmp_path, ask, lambda *words: None, HANG)))
    asked(questions).communicate(timeout=HANG)
    assert counted[0] >= 0.05
    assert questions.seconds >= counted[0]
