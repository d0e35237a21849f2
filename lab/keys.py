"""What a lab makes up once and keeps in its state folder: its CA, its SSH key, passwords. All of it throwaway, 0600."""

import secrets
from collections.abc import Callable
from pathlib import Path

from lab import pki
from lab.model import Lab


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`, which is made (0600) with make() when it is not there yet."""
    if not path.exists():
        write(path, make())
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    """Puts a secret into `path`, 0600; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    aside.write_bytes(content)
    aside.rename(path)


def password(lab: Lab, name: str) -> str:
    """The password of that name: "registry" (user admin), "operator" (for sudo)."""
    return kept(lab.state / "secrets" / name, lambda: f"{secrets.token_urlsafe(12)}\n".encode()).decode().strip()


def ssh_key(lab: Lab) -> str:
    """The public part of the key that every user of every host lets in; the private part is STATE/key."""
    return _ssh_key(lab.state / "key")[1]


def host_key(lab: Lab, name: str) -> tuple[bytes, str]:
    """The private and the public SSH key of the host of that name."""
    return _ssh_key(lab.state / "secrets" / f"ssh_host_{name}")


def authority(lab: Lab) -> pki.Pair:
    """The CA that every host of the lab trusts: STATE/ca/ca.crt, ca.key."""
    folder = lab.state / "ca"
    if not (folder / "ca.crt").exists():
        new = pki.authority(f"lab {lab.name}")
        (folder / "ca.key").unlink(missing_ok=True)
        kept(folder / "ca.key", lambda: new.pem)
        kept(folder / "ca.crt", lambda: new.crt)
    return pki.load((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())


def _ssh_key(path: Path) -> tuple[bytes, str]:
    public = path.with_name(path.name + ".pub")
    if not public.exists():
        private, line = pki.ssh_key()
        path.unlink(missing_ok=True)
        kept(path, lambda: private)
        kept(public, lambda: line.encode())
    return path.read_bytes(), public.read_text()
