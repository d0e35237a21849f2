"""The outer world: a connected machine beside the site, the site's cable to the outside, and a proxy between them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import network, registry
from lab.model import Host, Lab

CA = "etc/ssl/certs/ca-certificates.crt"
BESIDE = "nid000002"
"""The host whose network, names and CAs a connected machine has: it reaches upstream as well as the site."""

# In a mount namespace of its own: no file of this machine changes, and no program needs to be told of the lab's CA.
_THERE = f'for one in etc/hosts {CA}; do mount --bind "$0/$one" "/$one"; done; exec "$@"'


def connected(lab: Lab, *words: str) -> list[str]:
    """The command that runs `words` on this machine, but with the network, the names and the CAs of BESIDE."""
    host = lab.host(BESIDE)
    enter = ["nsenter", f"--net={network.NETNS / network.namespace(lab, host)}"]
    return [*enter, "unshare", "--mount", "sh", "-c", _THERE, str(lab.folder(host) / "layer"), *words]


def make_bundle(lab: Lab, site: Path, target: Path, environment: Mapping[str, str] | None = None) -> str:
    """`invoke bundle.make TARGET --hosts SITE` on a connected machine; what it prints on standard output."""
    invoke = str(Path(sys.executable).with_name("invoke"))
    command = connected(lab, invoke, "bundle.make", str(target), f"--hosts={site}")
    own = {**os.environ, **(environment or {})}
    done = subprocess.run(
        command, cwd=registry.CHECKOUT, env=own, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def cut(lab: Lab) -> Iterator[None]:
    """Upstream's cable is pulled: nothing outside the site can be reached."""
    (upstream,) = lab.role("upstream")
    cable(lab, upstream, "down")
    try:
        yield
    finally:
        cable(lab, upstream, "up")


def cable(lab: Lab, host: Host, state: str) -> None:
    """Pull the cable of a host ("down"), or put it back ("up")."""
    subprocess.run(["ip", "-n", lab.tag, "link", "set", str(host.number), state], check=True, timeout=60)


@contextmanager
def no_way_from(lab: Lab, name: str) -> Iterator[None]:
    """One host can't reach upstream; the others can."""
    (upstream,) = lab.role("upstream")
    space = network.namespace(lab, lab.host(name))
    route = ["ip", "-n", space, "route"]
    subprocess.run([*route, "add", "unreachable", f"{upstream.address}/32"], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*route, "del", "unreachable", f"{upstream.address}/32"], check=True, timeout=60)


@dataclass
class Proxy:
    """A proxy for https, and the hosts that were reached through it so far."""

    url: str
    asked: set[str]


@contextmanager
def proxy(lab: Lab) -> Iterator[Proxy]:
    """A proxy that runs on the connected machine. What was asked of it is known when it has ended."""
    address, port = lab.host(BESIDE).address, 3128
    command = connected(lab, sys.executable, str(Path(__file__).with_name("connect_proxy.py")), address, str(port))
    found = Proxy(f"http://{address}:{port}", set())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield found
        finally:
            out, _ = process.communicate("", timeout=60)
    found.asked.update(out.split())
