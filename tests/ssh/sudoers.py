"""An sshd with users and sudoers of its own: real sudo, and nothing on this machine changes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.ssh.server import Server, running

PASSWORD = "correct horse; touch /wrong"  # visible if a shell ever ran it as a command
RULES = "admin ALL=(ALL) NOPASSWD: ALL\noperator ALL=(ALL) ALL\n"
USERS = ("admin", "operator", "stranger")
"""Users of sudo: without a password, with a password, and without the right."""


PAM = "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so"
"""A service of PAM that asks for the password."""


@contextmanager
def hosting(folder: Path, defaults: str = "use_pty", options: Sequence[str] = ()) -> Iterator[Server]:
    """The sshd, in a mount namespace with passwd, shadow, sudoers and PAM files of its own."""
    folder.mkdir(exist_ok=True)
    made = ("openssl", "passwd", "-6", "-stdin")
    digest = subprocess.run(made, input=PASSWORD, capture_output=True, text=True, check=True).stdout.strip()
    users = [f"{user}:x:{64000 + n}:65534::/nonexistent:/bin/sh" for n, user in enumerate(USERS)]
    shadow = [f"{user}:{digest}:20000:0:99999:7:::" for user in USERS]
    _write(folder / "passwd", Path("/etc/passwd").read_text() + "\n".join(users))
    _write(folder / "shadow", Path("/etc/shadow").read_text() + "\n".join(shadow))
    _write(folder / "sudoers", f"Defaults env_reset, {defaults}, passwd_tries=3\nroot ALL=(ALL) ALL\n{RULES}")
    (folder / "sudoers").chmod(0o440)
    _write(folder / "sshd", PAM)
    places = {"passwd": "passwd", "shadow": "shadow", "sudoers": "sudoers", "sshd": "pam.d/sshd"}
    binds = " && ".join(f"mount --bind {folder / name} /etc/{place}" for name, place in places.items())
    inside = ("unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh")
    keys = f"AuthorizedKeysCommand /bin/cat {folder / 'server/authorized_keys'}"  # users can't read the file
    with running(folder / "server", *options, keys, "AuthorizedKeysCommandUser root", inside=inside) as server:
        yield server


def _write(file: Path, text: str) -> None:
    file.write_text(text + "\n")
