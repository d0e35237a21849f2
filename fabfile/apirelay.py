"""Runs on the master, not here, by any Python from 3.6: `kubectl proxy` in a folder of root's alone, and the way to it.

serve COMMAND...   starts COMMAND (kubectl proxy) on a socket in a new folder, says `ready SOCKET` on stderr, and then
                   relays between stdin and stdout and that socket. When stdin ends, COMMAND and the folder are gone.
join SOCKET        says `ready SOCKET`, and relays.
"""

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from typing import IO

KILLED_WITH_PARENT = 1  # PR_SET_PDEATHSIG
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
WOKEN, WAKE = os.pipe()
"""A signal is a byte here, too: one that comes right before stdin is waited for would else be seen to with the next byte."""


def relay(path: str) -> None:
    """Bytes from stdin to the socket and back until stdin ends. A closed connection is opened anew by the next byte:
    only whole requests are sent, so that never cuts one."""
    link: socket.socket | None = None  # an annotation of a local name is never evaluated: old Pythons take it
    while True:
        select.select([0, WOKEN], [], [])
        data = os.read(0, 65536)
        if not data:
            return
        try:
            if link is None or link.fileno() < 0:
                raise OSError
            link.sendall(data)
        except OSError:
            link = socket.socket(socket.AF_UNIX)
            link.connect(path)
            threading.Thread(target=down, args=(link,), daemon=True).start()
            link.sendall(data)


def down(link: socket.socket) -> None:
    """Bytes from the socket to stdout until it is closed."""
    try:
        while True:
            data = link.recv(65536)
            if not data:
                return
            while data:
                data = data[os.write(1, data) :]
    except OSError:
        return  # either side is gone
    finally:
        link.close()


def serve(command: list) -> None:  # type: ignore[type-arg]  # a parameter's is, and 3.6 has no list[str]
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
        relay(path)
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
        serve(sys.argv[2:])
    else:
        ready(sys.argv[2])
        relay(sys.argv[2])
