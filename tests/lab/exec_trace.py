"""Notes arguments and environment of every program that is started, on this machine and in its containers.

`python -m tests.lab.exec_trace INIT...`: prints "ready" once it sees all, notes until standard input ends, and then prints
each of what it saw once, as base64 lines. INIT is the process id of a container's init; its file systems are watched too.

The kernel asks before it opens a file to run it (fanotify), and the caller of execve waits for the answer. Meanwhile what it
was called with is read out of its memory: however short a program lives, it can't be missed.
"""

import base64
import ctypes
import os
import platform
import select
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# From linux/fanotify.h
CLOEXEC, CONTENT, UNLIMITED_QUEUE, UNLIMITED_MARKS, REPORT_TID = 0x1, 0x4, 0x10, 0x20, 0x100
MARK_ADD, MARK_FILESYSTEM, OPEN_EXEC_PERM, ALLOW = 0x1, 0x100, 0x40000, 0x1
EVENT, RESPONSE = struct.Struct("=IBBHQii"), struct.Struct("=iI")
AT_FDCWD = -100
# execve and execveat: which of their arguments is the array of the program's arguments; its environment comes next.
EXECVE = {"x86_64": {59: 1, 322: 2}, "aarch64": {221: 1, 281: 2}}[platform.machine()]
WHERE = ("/", "/run", "/tmp", "/dev/shm")  # what programs could lie on: the root and what is in memory
PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def main(inits: list[str]) -> None:
    """Notes until standard input ends."""
    asked = _checked(
        _libc.fanotify_init(CLOEXEC | CONTENT | UNLIMITED_QUEUE | UNLIMITED_MARKS | REPORT_TID, os.O_CLOEXEC)
    )
    for place in ["/", *(f"/proc/{init}/root{where}" for init in inits for where in WHERE)]:
        how = ctypes.c_uint(MARK_ADD | MARK_FILESYSTEM), ctypes.c_uint64(OPEN_EXEC_PERM)
        _checked(_libc.fanotify_mark(asked, *how, AT_FDCWD, os.fsencode(place)))
    print("ready", flush=True)  # noqa: T201 - its user waits for this
    seen: set[bytes] = set()
    while asked in select.select([asked, sys.stdin], [], [])[0]:
        _answer(asked, seen)
    print(*(base64.b64encode(one).decode() for one in seen), sep="\n")  # noqa: T201 - a program


def _answer(asked: int, seen: set[bytes]) -> None:
    for *_, file, thread in EVENT.iter_unpack(os.read(asked, 256 * EVENT.size)):
        try:
            seen.update(_started(thread))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it was killed while it waited
        finally:
            os.write(asked, RESPONSE.pack(file, ALLOW))
            os.close(file)


def _started(thread: int) -> Iterator[bytes]:
    """What a thread that waits in execve has given to it: arguments and environment, each in the form of /proc."""
    # It may not wait quite yet.
    while (call := Path(f"/proc/{thread}/syscall").read_text()) == "running\n":
        pass
    number, *values = call.split()
    # The kernel itself starts programs without a call.
    if (first := EXECVE.get(int(number))) is None:
        return
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        for array in values[first : first + 2]:
            yield b"\0".join(_strings(memory.fileno(), int(array, 16)))


def _strings(memory: int, array: int) -> Iterator[bytes]:
    while array and (at := int.from_bytes(os.pread(memory, 8, array), sys.byteorder)):
        yield _string(memory, at)
        array += 8


def _string(memory: int, at: int) -> bytes:
    text = b""
    while b"\0" not in text:
        # Up to the end of a page: the next one may not be there.
        here = at + len(text)
        text += os.pread(memory, PAGE - here % PAGE, here) or b"\0"
    return text.partition(b"\0")[0]


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"fanotify: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
