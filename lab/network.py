"""A lab's network: one bridge on this machine, and for each host a network namespace with a veth device on it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from lab.model import Host, Lab

# IFALIASZ of the kernel is 256, its last byte a zero.
ALIAS_LENGTH = 255


def namespace(lab: Lab, host: Host) -> str:
    """The name of a host's network namespace (`ip netns`)."""
    return f"{lab.tag}-{host.name}"


def veth(lab: Lab, host: Host) -> str:
    """The name of the bridge's end of a host's veth device."""
    return f"{lab.tag}-{host.number}"


def owners() -> dict[str, str]:
    """The bridges of all labs on this machine: device name -> state folder of the lab that made it."""
    listing = json.loads(_ip("-json", "link", "show", "type", "bridge") or "[]")
    bridges: list[dict[str, Any]] = [one for one in listing if one.get("ifname", "").startswith("dwslab")]
    return {one["ifname"]: one.get("ifalias", "") for one in bridges}


def ensure_bridge(lab: Lab) -> None:
    """Makes the lab's bridge, with this machine's own address on it; nothing when it is there."""
    if lab.tag not in owners():
        _batch(
            f"link add {lab.tag} type bridge",
            f"link set {lab.tag} alias {str(lab.state)[-ALIAS_LENGTH:]}",
            f"addr add {lab.gateway}/24 dev {lab.tag}",
            f"link set {lab.tag} up",
        )


def attach(lab: Lab, host: Host) -> None:
    """Makes a host's network namespace with its eth0 on the bridge; what an earlier boot left is taken away first."""
    detach(lab, host)
    device, space = veth(lab, host), namespace(lab, host)
    # The same MAC at every boot: a host that comes back meets no stale ARP entries.
    mac = f"02:00:0a:4d:{lab.index:02x}:{host.number:02x}"
    _batch(
        f"netns add {space}",
        f"link add {device} type veth peer name eth0 address {mac} netns {space}",
        f"link set {device} master {lab.tag} up",
    )
    _batch(f"addr add {host.address}/24 dev eth0", "link set eth0 up", "link set lo up", within=space)


def detach(lab: Lab, host: Host) -> None:
    """Takes a host's veth device and network namespace away, if they are there.

    The device goes by name: sockets that are still closing can keep a namespace, and with it the device, for minutes.
    """
    if Path(f"/sys/class/net/{veth(lab, host)}").exists():
        _ip("link", "del", veth(lab, host))
    if Path(f"/run/netns/{namespace(lab, host)}").exists():
        _ip("netns", "del", namespace(lab, host))


def remove_bridge(lab: Lab) -> None:
    """Takes the lab's bridge away, if it is there."""
    if lab.tag in owners():
        _ip("link", "del", lab.tag)


def _batch(*lines: str, within: str = "") -> None:
    space = ["-n", within] if within else []
    _ip(*space, "-batch", "-", feed="\n".join(lines) + "\n")


def _ip(*arguments: str, feed: str = "") -> str:
    run = subprocess.run(["ip", *arguments], input=feed, capture_output=True, text=True, check=False, timeout=30)
    if run.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {run.stderr.strip() or run.stdout.strip()}\n{feed}".strip())
    return run.stdout
