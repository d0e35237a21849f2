"""Runs on the master, with Python 3.6 or later: `kubectl proxy` in a folder of root's alone, and a relay to it.

serve STATE COMMAND...   starts COMMAND (kubectl proxy) on a socket in a new folder, writes `ready SOCKET` to stderr, and then
                         relays between stdin and stdout and that socket. When stdin ends, it ends COMMAND and removes the folder.
join STATE SOCKET        writes `ready SOCKET`, and relays.

Once a run has the site's lock (in STATE), each of its requests that changes something names the run. The relay passes such a
request on only while that run has the lock, as a script begins only then (templates/lib/fence.sh). Until the answer no other
run's script begins here.
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
"""Each signal writes a byte here. A signal right before select() would else be handled with the next byte of stdin."""


CHANGES = re.compile(rb"(POST|PUT|PATCH|DELETE) ")
RUN = re.compile(rb"\r\ndws-on-csm-run: *([^\r\n]*)\r\n", re.IGNORECASE)
PATIENCE = 5.0
"""Seconds to wait for the rest of a request's head."""


class Fence:
    """Lets requests pass that change something. From `lock_lost` to `answered` it holds the file lock on `busy`."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.gate = -1
        self.closing = threading.Lock()

    def lock_lost(self, head: bytes) -> str:
        """Why a request must not pass: its run has lost the site's lock. "" where it may pass."""
        named = RUN.search(head)
        if not named:
            return ""
        self.answered()
        self.gate = os.open(self.state + "/busy", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.gate, fcntl.LOCK_SH)
        try:
            lines = Path(self.state, "lock", "holder").read_bytes().split(b"\n")
        except OSError:
            return "it is gone from the master"
        if len(lines) > 2 and lines[2] == named.group(1):
            return "" if len(lines) > 4 and lasts(lines[4]) else "it was not renewed in time, and has expired"
        return b" took it with run ".join((lines[0], b"".join(lines[2:3]))).decode(errors="replace")

    def answered(self) -> None:
        """Release the file lock: the API server has answered the request."""
        with self.closing:
            gate, self.gate = self.gate, -1
            if gate >= 0:
                os.close(gate)


def lasts(end: bytes) -> bool:
    """Whether a lock that ends then, in a boot and in seconds since that, has not expired."""
    boot, _, seconds = end.decode("ascii", "replace").partition(" ")
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    now = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot == now and seconds.isdigit() and int(uptime) < int(seconds)


def refusal(why: str) -> bytes:
    """The answer to a refused request, in the form of the API server's answers; it ends the connection."""
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


def with_head(data: bytes) -> bytes:
    """`data`, and the rest of its head where a request that changes something came in parts."""
    while CHANGES.match(data) and b"\r\n\r\n" not in data and select.select([0], [], [], PATIENCE)[0]:
        more = os.read(0, 65536)
        if not more:
            break
        data += more
    return data


def relay(path: str, state: str) -> None:
    """Relay bytes from stdin to the socket and back until stdin ends.

    The next byte opens a closed connection again: the sender sends only complete requests, so none is cut. After a refused
    request nothing more is relayed.
    """
    link: socket.socket | None = None  # an annotation of a local name is never evaluated: old Pythons take it
    fence, refused = Fence(state), False
    while True:
        select.select([0, WOKEN], [], [])
        data = os.read(0, 65536)
        if not data:
            return
        if refused:
            continue
        data = with_head(data)
        why = fence.lock_lost(data) if CHANGES.match(data) else ""
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
    """Relay bytes from the socket to stdout until it is closed."""
    try:
        while True:
            data = link.recv(65536)
            fence.answered()
            if not data:
                return
            while data:
                data = data[os.write(1, data) :]
    except OSError:
        return  # one side has ended
    finally:
        fence.answered()
        link.close()


def serve(state: str, command: list) -> None:  # type: ignore[type-arg]  # a parameter's is, and 3.6 has no list[str]
    """Keep COMMAND and its folder exactly as long as stdin is open."""
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
        ignore_signals()  # else watch() would end this process, as COMMAND ends, before the folder is removed
        if child:
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def watch(output: IO[bytes]) -> None:
    """End this process when COMMAND ends; drop COMMAND's output until then."""
    for _ in output:
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def ready(path: str) -> None:
    """Announce that bytes on stdin are relayed from now on."""
    sys.stderr.write("ready " + path + "\n")
    sys.stderr.flush()


def ignore_signals() -> None:
    """From now on no signal ends this process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_on_signal(number: int, frame: object) -> None:
    """Handle the first signal: exit through every `finally`."""
    ignore_signals()
    sys.exit(128 + number)


if __name__ == "__main__":
    os.set_blocking(WAKE, False)
    signal.set_wakeup_fd(WAKE)
    for number in SIGNALS:
        signal.signal(number, exit_on_signal)
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        ready(sys.argv[3])
        relay(sys.argv[3], sys.argv[2])
