"""A network that is far away: a process between clients and hosts that passes everything on a while later.

The kernel's own means for this (netem) is missing on many machines. A connection is accepted at once here, so each client saves
the one round trip of TCP's handshake.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bench.fleet import Fleet, configure
from tests.ssh.server import HANG, free_port


@contextmanager
def delayed(fleet: Fleet, seconds: float) -> Iterator[Fleet]:
    """The same hosts by other addresses, to and from which everything takes so many seconds, while the `with` lasts."""
    port = free_port()
    hosts = tuple(f"127.0.9.{number}" for number in range(1, len(fleet.hosts) + 1))
    ways = [(host, port, to, fleet.port) for host, to in zip(hosts, fleet.hosts, strict=True)]
    command = [sys.executable, "-m", "bench.relay", str(seconds), json.dumps(ways)]
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parents[1], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            configure(fleet.folder, port, hosts, "127.0.9.*")
            yield replace(fleet, port=port, hosts=hosts)
        finally:
            process.kill()
            process.wait(HANG)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what comes, each piece `seconds` after it came, up to the end."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                break
            writer.write(piece)
        with suppress(OSError):  # the other side has gone already
            writer.write_eof()

    writing = asyncio.create_task(write())
    with suppress(OSError):
        while piece := await reader.read(65536):
            pieces.put_nowait((loop.time() + seconds, piece))
    pieces.put_nowait((loop.time() + seconds, b""))
    await writing


async def _serve(seconds: float, ways: list[tuple[str, int, str, int]]) -> None:
    for host, port, to, to_port in ways:

        async def link(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: tuple[str, int] = (to, to_port)
        ) -> None:
            far_reader, far_writer = await asyncio.open_connection(*there)
            await asyncio.gather(_carry(reader, far_writer, seconds), _carry(far_reader, writer, seconds))
            far_writer.close()
            writer.close()

        await asyncio.start_server(link, host, port)
    print(flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), json.loads(sys.argv[2])))
