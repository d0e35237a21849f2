"""What a person does who is asked for a password, and types none: a process of its own on a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from contextlib import suppress

PROGRAM = """
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace
from dws_on_csm.runner.interrupt import interruptible
from dws_on_csm.runner.sudo_password import password
from dws_on_csm.transport.sudo import Question

run = SimpleNamespace(stopping=threading.Event(), ending=False, over=False, asking=False, stoppers=[], emit=lambda event: None)
with interruptible(lambda watched: None) as interrupts, ThreadPoolExecutor() as pool:
    interrupts.watch(run, SimpleNamespace(open=lambda: ()))
    answers = password("")
    questions = [Question(host, "root", "Password:") for host in ("one", "two")]
    asked = [pool.submit(answers.get, question) for question in questions]
    while wait(asked, timeout=0.1).not_done:
        pass
print(*(future.exception() for future in asked), sep="\\n")
"""


def test_one_is_enough_while_a_password_is_asked_for() -> None:
    """No host waits on, none asks again, and the terminal shows again what is typed."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    try:
        said = b""
        while b"of this run): " not in said:
            said += os.read(ours, 4096)
        echo = termios.tcgetattr(theirs)[3] & termios.ECHO
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    lines = out.decode().splitlines()
    assert echo == 0 and termios.tcgetattr(theirs)[3] & termios.ECHO
    assert len(lines) == 2 and all("got no answer" in line for line in lines), (lines, said)
    os.close(theirs)
    assert b"asks" not in rest(ours)


NOTHING_TYPED = """
from dws_on_csm.runner.sudo_password import password
from dws_on_csm.transport.sudo import Question
for _ in range(2):
    try:
        print(password("").get(Question("one", "root")).reveal())
    except Exception as error:
        print(error)
"""


def test_nothing_typed_is_never_tried() -> None:
    """The person is asked again, as often as after a wrong password: sudo would count an empty one as wrong."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", NOTHING_TYPED],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        for typed in (b"", b"right", b"", b"", b""):
            said = b""
            while b"of this run): " not in said:
                said += os.read(ours, 4096)
            os.write(ours, typed + b"\n")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
    right, nothing = out.decode().splitlines()
    assert right == "b'right'"
    assert nothing.startswith("one: sudo on one asks for the password of root, and nothing was typed"), nothing


def rest(terminal: int) -> bytes:
    """What was written to a terminal whose other end is closed, and was not read yet."""
    said = b""
    with suppress(OSError):  # Linux raises this at its end
        while True:
            said += os.read(terminal, 4096)
    return said
