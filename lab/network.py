"""A lab's network: a bridge in a namespace of its own, a veth device from there to each host and to this machine.

This machine gets one device more, and no rule of its packet filter ever sees what the hosts say to each other.
"""

import json
import subprocess
from pathlib import Path

from lab.model import Host, Lab

NETNS = Path("/run/netns")
# The kernel keeps 255 characters of a device's alias.
ALIAS_LENGTH = 255


def namespace(lab: Lab, host: Host) -> str:
    """The name of a host's network namespace (`ip netns`)."""
    return f"{lab.tag}-{host.name}"


def owners() -> dict[int, str]:
    """The labs on this machine that have a network: their index -> the state folder (its end, when it is long)."""
    links = json.loads(_ip("-json", "link", "show", "type", "veth") or "[]")
    named = {link.get("ifname", ""): link.get("ifalias", "") for link in links}
    return {int(name[6:]): alias for name, alias in named.items() if name[:6] == "dwslab" and name[6:].isdigit()}


def addresses() -> list[str]:
    """The IPv4 addresses of this machine with their prefix lengths ("10.0.0.5/24")."""
    devices = json.loads(_ip("-json", "-4", "addr", "show") or "[]")
    networks = [(info["local"], info["prefixlen"]) for device in devices for info in device.get("addr_info", [])]
    return [f"{address}/{length}" for address, length in networks]


def owns(lab: Lab) -> bool:
    """Whether the network with the lab's index is there, and is this lab's."""
    return owners().get(lab.index) == _alias(lab)


def other(lab: Lab) -> str:
    """The state folder of another lab that has the network with this lab's index; "" when none has."""
    owner = owners().get(lab.index, "")
    return "" if owner == _alias(lab) else owner


def ensure(lab: Lab) -> None:
    """Makes the lab's bridge, and this machine's own address on it; nothing when they are there.

    RuntimeError when another checkout's lab took the network since this one chose it.
    """
    if owns(lab) and (NETNS / lab.tag).exists():
        return
    if owner := other(lab):
        raise RuntimeError(
            f"10.77.{lab.index}.0/24 is now the network of {owner}: lab.down and lab.up take another one"
        )
    remove(lab)
    _batch(f"netns add {lab.tag}", f"link add {lab.tag} type veth peer name machine netns {lab.tag}")
    bridge = ("link add lab type bridge", "link set machine master lab", "link set machine up", "link set lab up")
    _batch(*bridge, within=lab.tag)
    _batch(f"addr add {lab.gateway}/24 dev {lab.tag}", f"link set {lab.tag} up")
    # Last, since it says that the rest is there.
    _ip("link", "set", lab.tag, "alias", _alias(lab))


def remove(lab: Lab) -> None:
    """Remove the lab's bridge and this machine's device, if they exist.

    The device goes last: once it is gone, another lab may take the network, and must not lose anything.
    """
    device = Path("/sys/class/net", lab.tag)
    _delete(lab.tag)
    try:
        if device.exists():
            _ip("link", "del", lab.tag)
    except RuntimeError:
        # The device's other end was in the namespace; the kernel removes both, some time later.
        if device.exists():
            raise


def attach(lab: Lab, host: Host) -> None:
    """Makes a host's network namespace with its eth0 on the bridge; leftovers of an earlier boot are removed first."""
    detach(lab, host)
    space, device = namespace(lab, host), str(host.number)
    # The same MAC at every boot: a host that comes back meets no stale ARP entries.
    mac = f"02:00:0a:4d:{lab.index:02x}:{host.number:02x}"
    _ip("netns", "add", space)
    pair = f"link add {device} type veth peer name eth0 address {mac} netns {space}"
    _batch(pair, f"link set {device} master lab up", within=lab.tag)
    _batch(f"addr add {host.address}/24 dev eth0", "link set eth0 up", "link set lo up", within=space)


def detach(lab: Lab, host: Host) -> None:
    """Remove a host's veth device and network namespace, if they exist.

    The device goes by name: sockets that are still closing can keep a namespace, and with it the device, for minutes.
    """
    if (NETNS / lab.tag).exists() and _exists(lab.tag, str(host.number)):
        _ip("-n", lab.tag, "link", "del", str(host.number))
    _delete(namespace(lab, host))


def _exists(space: str, device: str) -> bool:
    run = subprocess.run(["ip", "-n", space, "link", "show", device], capture_output=True, check=False, timeout=30)
    return run.returncode == 0


def _delete(space: str) -> None:
    # An interrupted `ip netns add` leaves a file that is no namespace: `ip netns del` removes that too.
    if (NETNS / space).exists():
        _ip("netns", "del", space)


def _alias(lab: Lab) -> str:
    return str(lab.state)[-ALIAS_LENGTH:]


def _batch(*lines: str, within: str = "") -> None:
    space = ["-n", within] if within else []
    _ip(*space, "-batch", "-", feed="\n".join(lines) + "\n")


def _ip(*arguments: str, feed: str = "") -> str:
    command = ["ip", *arguments]
    run = subprocess.run(command, input=feed, capture_output=True, text=True, check=False, timeout=30)
    if run.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {run.stderr.strip() or run.stdout.strip()}\n{feed}".strip())
    return run.stdout
