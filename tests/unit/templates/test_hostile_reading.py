"""How root reads slurm.conf while SlurmUser changes it: nothing that reads it is left behind, holds a lock, or takes all memory."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dws_on_csm.model import render
from tests.unit.hostile import SLURM_USER, Host, hostile_host, needs_root

__all__ = ["hostile_host"]
pytestmark = [needs_root, pytest.mark.slow]
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix"])
SOON = 100
"""Seconds after which root would be held up; much more than a busy machine needs."""


def swap(one: bytes, other: bytes) -> None:
    """As SlurmUser: each in the other's place, without end; RENAME_EXCHANGE leaves no moment at which one is away."""
    account = pwd.getpwnam(SLURM_USER)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    exchange = ctypes.CDLL(None).renameat2
    while True:
        exchange(-100, one, -100, other, 2)


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Meanwhile SlurmUser swaps these."""
    process = multiprocessing.get_context("fork").Process(target=swap, args=(bytes(one), bytes(other)), daemon=True)
    process.start()
    try:
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def locked(host: Host, shell: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Root reads slurm.conf under the lock that tells that something is at work; then it says whether another one gets that."""
    busy = host.own / "busy"
    script = (
        f"exec 8>>{busy} 9>>{busy}\nflock -s 8\nflock -s 9\n{render.script('lib/slurmctld.sh', folder=str(host.etc))}"
    )
    end = f"\nexec 8>&- 9>&-\nflock -n -x {busy} true && echo free\necho $conf_code"
    return subprocess.run(
        [*shell.split(), "-c", f"{script}{more}{end}"], env={"PATH": f"{host.programs}:/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SOON, check=False,
    )  # fmt: skip


def at_work_on(path: Path) -> list[str]:
    """What runs with this path among its words."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(path).encode() in word for word in words):
            found.append(one.parent.name)
    return found


@SHELLS
def test_a_fifo_in_a_files_place_blocks_nobody(hostile_host: Host, shell: str) -> None:
    """SlurmUser swaps a file and a fifo faster than anybody looks: root waits for neither, and leaves nothing behind."""
    hostile_host.program("pgrep", "exit 1")
    one, other = hostile_host.owned(hostile_host.etc / "one", "#\n"), hostile_host.etc / "other"
    os.mkfifo(other)
    hostile_host.owned(
        hostile_host.etc / "slurm.conf", f"SlurmUser={SLURM_USER}\n" + f"Include {one}\n" * 200, mode=0o644
    )
    with swapping(one, other):
        answer = locked(hostile_host, shell)
    assert answer.stdout in ("free\n0\n", "free\n4\n"), answer
    until(lambda: at_work_on(one) == [])


@SHELLS
def test_what_reads_a_file_has_a_bound_with_all_that_it_starts(hostile_host: Host, shell: str) -> None:
    """A file that nothing comes from, as on a file server that is away: what waits for it ends, and has no lock meanwhile."""
    hostile_host.program("pgrep", "exit 1")
    for program in ("cat", "dd", "head"):
        hostile_host.program(program, "trap '' TERM\nsleep 900 & echo $! $$ >>$TOP/open/waits; wait")
    answer = locked(hostile_host, shell)
    waits = (hostile_host.open / "waits").read_text().split()
    assert answer.stdout == "free\n4\n", answer
    assert waits
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in waits))


@SHELLS
def test_a_reader_that_is_killed_frees_the_lock(hostile_host: Host, shell: str) -> None:
    """Also where awk itself is ended at its limit, the lock is free as soon as the script lets go of it."""
    hostile_host.program("pgrep", "exit 1")
    hostile_host.program("awk", "sleep 20 >/dev/null 2>&1 &\necho file /x; exit 4")
    assert locked(hostile_host, shell).stdout == "free\n4\n"


@SHELLS
def test_files_that_grow_are_noted_to_a_bound(hostile_host: Host, shell: str) -> None:
    """What they include is small when root reads slurm.conf, and large behind it: of all together root keeps only so much."""
    hostile_host.program("pgrep", "exit 1")
    names = [hostile_host.owned(hostile_host.etc / f"i{number}", "#\n", mode=0o644) for number in range(6)]
    text = f"SlurmUser={SLURM_USER}\n" + "".join(f"Include {name}\n" for name in names)
    hostile_host.owned(hostile_host.etc / "slurm.conf", text, mode=0o644)
    more = f"\ntruncate -s 3000000 {' '.join(map(str, names))}\nconf_texts text"
    answer = locked(hostile_host, shell, more)
    assert len(answer.stdout) < 7_000_000
    lines = [line.split()[0] for line in answer.stdout.splitlines()]
    assert lines[:2] == [f"text={hostile_host.etc}/slurm.conf", f"text={names[0]}"]
    assert lines[2:] == [*(f"unreadable={name}" for name in names[1:]), "free", "0"]


@SHELLS
def test_a_checksum_waits_for_no_fifo(hostile_host: Host, shell: str) -> None:
    """Whether slurmctld has read a file as it is now: what opens it by its name alone could be given a fifo, and is not used."""
    hostile_host.program("pgrep", "exit 1")
    hostile_host.program("sha256sum", 'echo "$@" >>$TOP/own/named; exec /usr/bin/sha256sum "$@"')
    file, state = hostile_host.etc / "slurm.conf", hostile_host.own
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    (state / "activation").write_text(f"sum=x\nfile={known} {file}\n")
    body = f"stat() {{ :; }}\n{render.read('controller/daemon.sh')}"
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit", "state": str(state)}
    script = render.script("lib/slurmctld.sh", **settings)
    answer = hostile_host.run(f"{script}{body}", shell.split()[0], seconds=SOON)
    assert f"changed=0 {file}" in answer.stdout, answer
    assert (state / "named").read_text().split() == []
    swap = f"rm -f {file}; mkfifo {file}; sum_of {file} || echo nothing"
    assert hostile_host.run(f"{script}{swap}", shell.split()[0], seconds=SOON).stdout == "nothing\n"
