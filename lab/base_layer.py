"""What all hosts have in common: all hosts' names, sshd with a known key, users, sudo, trust in the lab's CA."""

import hashlib
from dataclasses import dataclass

import bcrypt

from lab import keys
from lab.layer import Layer
from lab.model import UPSTREAM_NAMES, Host, Lab

# No host needs these units, and they would mount what belongs to the whole machine.
MASKED = (
    *("systemd-sysusers.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"),
    *("systemd-journal-flush.service", "dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-config.mount"),
)
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class User:
    """An account of every host; `sudo` is its rule in sudoers, "" for none."""

    name: str
    uid: int
    sudo: str = ""
    password: str = ""


def users(lab: Lab) -> tuple[User, ...]:
    """The users besides root: sudo without a password, sudo with a password, no sudo."""
    operator = User("operator", 1001, "ALL=(ALL:ALL) ALL", keys.password(lab, "operator"))
    return User("admin", 1000, "ALL=(ALL:ALL) NOPASSWD: ALL"), operator, User("joe", 1500)


def write_layer(lab: Lab, host: Host, layer: Layer) -> None:
    """Write what `host` has in common with all others of the lab."""
    layer.tree("every", {})
    for unit in MASKED:
        layer.link(f"/etc/systemd/system/{unit}", "/dev/null")
    layer.put("/etc/hostname", f"{host.name}\n")
    layer.put("/etc/hosts", hosts_file(lab))
    layer.put("/etc/resolv.conf", "")
    # An empty machine-id makes systemd enable every preset.
    layer.put("/etc/machine-id", hashlib.sha256(f"{lab.name}/{host.name}".encode()).hexdigest()[:32] + "\n")
    layer.put("/etc/ssh/ssh_host_ed25519_key", keys.host_key(lab, host.name)[0], 0o600)
    layer.put(CA_BUNDLE, layer.read(CA_BUNDLE) + keys.authority(lab).crt.decode())
    _write_users(lab, layer)


def hosts_file(lab: Lab) -> str:
    """/etc/hosts: all hosts that the lab has or may get, and the names that its upstream answers for."""
    (upstream,) = lab.role("upstream")
    lines = [f"{host.address} {host.name}" for host in lab.with_second.hosts]
    return "\n".join(["127.0.0.1 localhost", *lines, f"{upstream.address} {' '.join(UPSTREAM_NAMES)}", ""])


def _write_users(lab: Lab, layer: Layer) -> None:
    missing = [user for user in users(lab) if f"\n{user.name}:" not in layer.read("/etc/passwd")]
    _append(layer, "/etc/passwd", [f"{u.name}:x:{u.uid}:{u.uid}::/home/{u.name}:/bin/bash" for u in missing])
    _append(layer, "/etc/group", [f"{u.name}:x:{u.uid}:" for u in missing])
    _append(layer, "/etc/shadow", [f"{u.name}:{_hash(u.password)}:20000:0:99999:7:::" for u in missing], 0o640)
    _append(layer, "/etc/gshadow", [f"{u.name}:!::" for u in missing], 0o640)
    _authorize(lab, layer, "/root", 0, 0o700)
    for user in users(lab):
        _authorize(lab, layer, f"/home/{user.name}", user.uid, 0o755)
        if user.sudo:
            layer.put(f"/etc/sudoers.d/{user.name}", f"{user.name} {user.sudo}\n", 0o440)


def _append(layer: Layer, path: str, lines: list[str], mode: int = 0o644) -> None:
    shadow = 42 if mode == 0o640 else 0
    layer.put(path, "\n".join([layer.read(path).rstrip("\n"), *lines, ""]), mode, (0, shadow))


def _authorize(lab: Lab, layer: Layer, home: str, uid: int, mode: int) -> None:
    layer.mkdir(home, mode, (uid, uid))
    layer.mkdir(f"{home}/.ssh", 0o700, (uid, uid))
    layer.put(f"{home}/.ssh/authorized_keys", f"{keys.ssh_key(lab)} lab\n", 0o600, (uid, uid))


def _hash(password: str) -> str:
    # "*" lets nobody in by password, and unlike "!" does not make PAM refuse the account's SSH key.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(6)).decode() if password else "*"
