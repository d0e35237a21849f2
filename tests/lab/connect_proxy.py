"""A proxy that knows CONNECT alone: `connect_proxy.py ADDRESS PORT`, until its standard input ends.

It prints "ready", and then each host that a connection to is asked for.
"""

import asyncio
import contextlib
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: its CONNECT, and then both directions."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    verb, target, *_ = head.split()
    if verb != "CONNECT":
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
        writer.close()
        return
    host, _, port = target.rpartition(":")
    print(host, flush=True)  # noqa: T201 - this is how its user learns of it
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    for one in (writer, far_writer):
        one.close()


async def main(address: str, port: int) -> None:
    """Serves until standard input ends."""
    async with await asyncio.start_server(serve, address, port):
        print("ready", flush=True)  # noqa: T201 - as above
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
