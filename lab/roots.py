"""The Debian root of a lab's hosts, made only of packages: nothing of this machine is in it."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import cache

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "procps", "kmod", "less", "vim-tiny"),
    *("iproute2", "nftables", "iptables", "iputils-ping", "ca-certificates", "curl", "openssl"),
    *("podman", "containerd", "runc", "containernetworking-plugins", "docker-registry", "nginx-light"),
    *("git", "make", "jq", "gawk", "python3", "python3-yaml"),
)
# Units that a container has no use for; without them a host boots in 0.8 s instead of 4.
MASKED = (
    *("getty.target", "console-getty.service", "systemd-logind.service", "systemd-udevd.service"),
    *("systemd-udev-trigger.service", "systemd-timesyncd.service", "systemd-modules-load.service"),
    *("systemd-sysctl.service", "systemd-remount-fs.service", "modprobe@.service", "systemd-tmpfiles-clean.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("podman.socket", "podman-restart.service", "podman-auto-update.timer", "podman-auto-update.service"),
)


def debian12(announce: Callable[[str], None] = lambda text: None) -> Path:
    """The root of the master, the workers, the registry and upstream, from the cache or made now (about 1 min)."""

    def make(folder: Path) -> None:
        bootstrap(folder / "root", "bookworm", PACKAGES)
        trim(folder / "root")

    inputs = ("bookworm", *PACKAGES, *MASKED, "4")
    return cache.entry("debian12", inputs, make, announce, expect="1 min") / "root"


def bootstrap(root: Path, suite: str, packages: Sequence[str]) -> None:
    """Unpacks `packages` and what they need into `root`; CalledProcessError holds what mmdebstrap said."""
    run = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    keyring = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
    languages = '--aptopt=Acquire::Languages "none"'
    line = f"deb {mirror()} {suite} main"
    subprocess.run(
        [*run, keyring, languages, suite, str(root), line], check=True, capture_output=True, text=True, timeout=1800
    )


def mirror() -> str:
    """The address of the Debian mirror that this machine's own apt uses; LookupError when it has none."""
    listing = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"]
    lines = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()
    for uri, component, *_ in (line.split() for line in lines):
        if component == "main" and uri.rstrip("/").endswith("/debian"):
            return uri
    raise LookupError("apt has no Debian mirror: add a mirror to /etc/apt/sources.list.d and run apt-get update")


def trim(root: Path) -> None:
    """Disable all services in `root` except sshd, and remove what slows a boot or makes `systemctl enable` fail."""
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    for script in (root / "etc/init.d").iterdir():
        script.unlink()
    units = root / "etc/systemd/system"
    for wanted in units.glob("*.wants/*"):
        if wanted.name != "ssh.service":
            wanted.unlink()
    for name in MASKED:
        _point(units / name, "/dev/null")
    _point(units / "default.target", "/lib/systemd/system/multi-user.target")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def _point(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
