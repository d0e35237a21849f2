"""Runs on the master, not here, by any Python from 3.6: `kubectl proxy` in a folder of root's alone, and the way to it.

serve STATE COMMAND...   starts COMMAND (kubectl proxy) on a socket in a new folder, says `ready SOCKET` on stderr, and then
                         relays between stdin and stdout and that socket. When stdin ends, COMMAND and the folder are gone.
join STATE SOCKET        says `ready SOCKET`, and relays.

A request that changes something names its run, once that has the site's lock, which is in STATE: it is passed on only while
that run has it, as a script begins only then (templates/lib/fence.sh). Meanwhile no other run's script begins here.
"""

import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

KILLED_WITH_PARENT = 1  # PR_SET_PDEATHSIG
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
WOKEN, WAKE = os.pipe()
"""A signal is a byte here, too: one that comes right before stdin is waited for would else be seen to with the next byte."""


CHANGES = re.compile(rb"(POST|PUT|PATCH|DELETE) ")
RUN = re.compile(rb"\r\ndws-on-csm-run: *([^\r\n]*)\r\n", re.IGNORECASE)
PATIENCE = 5.0
"""Seconds within which the rest of a request's head comes."""


class Fence:
    """Lets requests by that change something. From `outrun` to `answered` the lock on `busy` is held for one that does."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.gate = -1
        self.closing = threading.Lock()

    def outrun(self, head: bytes) -> str:
        """Why a request must not be passed on: its run has lost the site's lock. "" where it may."""
        found = RUN.search(head)
        if not found:
            return ""
        self.answered()
        self.gate = os.open(self.state + "/busy", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.gate, fcntl.LOCK_SH)
        try:
            lines = Path(self.state, "lock", "holder").read_bytes().split(b"\n")
        except OSError:
            return "it is gone from the master"
        if len(lines) > 2 and lines[2] == found.group(1):
            return ""
        return b" took it with run ".join((lines[0], b"".join(lines[2:3]))).decode(errors="replace")

    def answered(self) -> None:
        """The API server has seen to the request."""
        with self.closing:
            gate, self.gate = self.gate, -1
            if gate >= 0:
                os.close(gate)


def refusal(why: str) -> bytes:
    """The answer to a request that is not passed on, as the API server would word it; the connection ends with it."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 409,
        "reason": "LockLost",
        "message": why,
    }
    body = json.dumps(status).encode()
    head = "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return (head % len(body)).encode() + body


def whole(data: bytes) -> bytes:
    """Of a request that changes something at least the head, where it did not come at once."""
    while CHANGES.match(data) and b"\r\n\r\n" not in data and select.select([0], [], [], PATIENCE)[0]:
        more = os.read(0, 65536)
        if not more:
            break
        data += more
    return data


def relay(path: str, state: str) -> None:
    """Bytes from stdin to the socket and back until stdin ends. A closed connection is opened anew by the next byte:
    only whole requests are sent, so that never cuts one. After one that is refused there is no other."""
    link: socket.socket | None = None  # an annotation of a local name is never evaluated: old Pythons take it
    fence, refused = Fence(state), False
    while True:
        select.select([0, WOKEN], [], [])
        data = os.read(0, 65536)
        if not data:
            return
        if refused:
            continue
        data = whole(data)
        why = fence.outrun(data) if CHANGES.match(data) else ""
        if why:
            refused = True
            answer = refusal(why)
            while answer:
                answer = answer[os.write(1, answer) :]
            fence.answered()
            continue
        try:
            if link is None or link.fileno() < 0:
                raise OSError
            link.sendall(data)
        except OSError:
            link = socket.socket(socket.AF_UNIX)
            link.connect(path)
            threading.Thread(target=down, args=(link, fence), daemon=True).start()
            link.sendall(data)


def down(link: socket.socket, fence: Fence) -> None:
    """Bytes from the socket to stdout until it is closed."""
    try:
        while True:
            data = link.recv(65536)
            fence.answered()
            if not data:
                return
            while data:
                data = data[os.write(1, data) :]
    except OSError:
        return  # either side is gone
    finally:
        fence.answered()
        link.close()


def serve(state: str, command: list) -> None:  # type: ignore[type-arg]  # a parameter's is, and 3.6 has no list[str]
    """Keeps COMMAND and its folder exactly as long as stdin is open."""
    folder = tempfile.mkdtemp(prefix="dws-on-csm-", dir="/run" if os.access("/run", os.W_OK) else None)
    child: subprocess.Popen[bytes] | None = None
    try:
        path = folder + "/api"
        child = subprocess.Popen(
            [*command, "--unix-socket=" + path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(KILLED_WITH_PARENT, signal.SIGKILL),
        )
        output = child.stdout
        assert output
        for line in output:
            if line.startswith(b"Starting to serve"):
                break
            sys.stderr.buffer.write(line)
        else:
            return
        threading.Thread(target=watch, args=(output,), daemon=True).start()
        ready(path)
        relay(path, state)
    except OSError as error:
        sys.exit(str(error))
    finally:
        deaf()  # else watch() would end us for COMMAND's end while the folder is being taken away
        if child:
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def watch(output: IO[bytes]) -> None:
    """Ends us when COMMAND ends by itself; what it writes until then is not for anybody."""
    for _ in output:
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def ready(path: str) -> None:
    """Says that bytes on stdin will be relayed now."""
    sys.stderr.write("ready " + path + "\n")
    sys.stderr.flush()


def deaf() -> None:
    """From now on no signal ends us."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)


def leave(number: int, frame: object) -> None:
    """On a signal, the first of them: through every `finally`."""
    deaf()
    sys.exit(128 + number)


if __name__ == "__main__":
    os.set_blocking(WAKE, False)
    signal.set_wakeup_fd(WAKE)
    for one in SIGNALS:
        signal.signal(one, leave)
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        ready(sys.argv[3])
        relay(sys.argv[3], sys.argv[2])
