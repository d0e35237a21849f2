"""An sshd with files of its own in /etc: users, passwords, sudoers, PAM. Nothing on this machine changes."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.ssh.server import HANG, Server, running


@cache
def digest(password: str) -> str:
    """The password as a shadow file has it."""
    make = ("openssl", "passwd", "-6", "-stdin")
    return subprocess.run(make, input=password, capture_output=True, text=True, check=True, timeout=HANG).stdout.strip()


def users(lines: Mapping[str, str], passwords: Mapping[str, str], age: str = "20000:0:99999:7:::") -> dict[str, str]:
    """passwd and shadow with these users besides the machine's: name -> the rest of its line in passwd.

    `passwords` may also name root, which has none otherwise. `age` is the rest of a line in shadow.
    """
    passwd = Path("/etc/passwd").read_text() + "".join(f"{name}:x:{rest}\n" for name, rest in lines.items())
    others = [line for line in Path("/etc/shadow").read_text().splitlines() if line.split(":")[0] not in passwords]
    names = dict.fromkeys((*lines, *passwords))
    own = [f"{name}:{digest(passwords[name]) if name in passwords else '*'}:{age}" for name in names]
    return {"passwd": passwd, "shadow": "\n".join((*others, *own)) + "\n"}


@contextmanager
def serving(folder: Path, etc: Mapping[str, str], *options: str, mnt: Path | None = None) -> Iterator[Server]:
    """An sshd in a mount namespace with these files in /etc; `options` are lines of sshd_config.

    `folder`/etc/NAME may be written later: the server sees it. Any user may log in with the server's key.
    `mnt` is a folder that is /mnt there: other users may come to no temporary folder of this one.
    """
    for name, text in etc.items():
        write(folder, name, text)
    binds = [f"mount --bind {shlex.quote(str(folder / 'etc' / name))} /etc/{name}" for name in etc]
    binds.append("mkdir -p /run/sudo && mount -t tmpfs tmpfs /run/sudo")  # sudo remembers there who gave a password
    if mnt:
        binds.append(f"mount --bind {shlex.quote(str(mnt))} /mnt")
    inside = ("unshare", "--mount", "sh", "-c", " && ".join((*binds, 'exec "$@"')), "sh")
    keys = f"AuthorizedKeysCommand /bin/cat {folder / 'server/authorized_keys'}"  # users can't read the file
    options = (*options, keys, "AuthorizedKeysCommandUser root")
    with running(folder / "server", *options, inside=inside) as server:
        yield server


def write(folder: Path, name: str, text: str) -> None:
    """Writes `folder`/etc/NAME, in place: a bind mount shows the file, not its name."""
    file = folder / "etc" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    file.chmod(0o600)
    file.write_text(text)
    file.chmod(0o440 if name == "sudoers" else 0o644)
