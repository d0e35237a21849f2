"""Settings of sudo of real sites as data. And an sshd whose users have these settings, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ssh import own_etc
from tests.ssh.server import Server

PASSWORDS = {"root": "root's own!", "operator": "the operator's $x", "keeper": "the keeper's"}
"""Account -> its password. `keeper` is whom runas_default names, `stranger` has no right, `admin` no password."""

NAMES = ("admin", "operator", "keeper", "stranger")

SLES = """Defaults always_set_home
Defaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"
Defaults env_reset
Defaults env_keep = "LANG LC_ADDRESS LC_CTYPE LC_COLLATE LC_IDENTIFICATION LC_MEASUREMENT LC_MESSAGES LC_MONETARY LC_NAME"
Defaults !insults
Defaults targetpw
ALL ALL=(ALL) ALL
root ALL=(ALL) ALL
"""
"""The sudoers file that SLES ships."""

FREE = "admin ALL=(ALL) NOPASSWD: ALL\n"
ASKS = "operator ALL=(ALL) ALL\n"
CODE = "auth required pam_google_authenticator.so secret=/nowhere user=root no_strict_owner\n"
PAM = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n"


@dataclass(frozen=True)
class Sudo:
    """A setting of sudo.

    name    what the site has
    sudoers the file
    user    who logs in
    asked   whose passwords the tool asks for: (user, the question's own text)
    cause   what the tool names as the cause, a regular expression; "": scripts run as root
    pam     PAM's service for sudo
    expired whether the passwords have expired
    wrong   what is typed in place of the passwords
    """

    name: str
    sudoers: str
    user: str = "operator"
    asked: tuple[str, ...] = ()
    cause: str = ""
    pam: str = PAM
    expired: bool = False
    wrong: str = ""


def _free(name: str, defaults: str) -> Sudo:
    return Sudo(name, f"Defaults {defaults}\n{FREE}", "admin")


def _asks(name: str, defaults: str, asked: str = "operator") -> Sudo:
    return Sudo(name, f"Defaults {defaults}\n{ASKS}", asked=(asked,))


SUDOS = (
    Sudo("case 26: targetpw", f"Defaults targetpw\n{ASKS}", asked=("root",)),
    Sudo("SLES", SLES, asked=("root",)),
    Sudo("SLES, wrong password", SLES, asked=("root",), cause="did not accept the password of root", wrong="no"),
    Sudo("SLES, with the user's password", SLES, asked=("root",), cause="password of root", wrong=PASSWORDS["operator"]),
    Sudo("SLES, with a line for the user", SLES + FREE, "admin"),
    _asks("rootpw", "rootpw", "root"),
    _asks("runaspw, and another account by default", "runaspw, runas_default=keeper", "keeper"),
    Sudo("case 27: requiretty", f"Defaults requiretty\n{FREE}", "admin"),
    _asks("requiretty and a password", "requiretty"),
    _asks("requiretty and targetpw", "requiretty, targetpw", "root"),
    _asks("requiretty and use_pty", "requiretty, use_pty"),
    _asks("no cached password", "timestamp_timeout=0"),
    _asks("a password cached for ever", "timestamp_timeout=-1, timestamp_type=global"),
    _asks("a lecture each time", "lecture=always"),
    _asks("a prompt of its own", 'passprompt="Your password, please: ", passprompt_override'),
    _asks("insults", "insults"),
    _free("use_pty and logs", "use_pty, log_output, log_input, iolog_dir=/mnt"),
    _free("no secure_path", "!secure_path, !env_reset"),
    _free("kept variables", 'env_keep += "http_proxy HOME PATH LD_PRELOAD BASH_ENV"'),
    _free("closes files", "closefrom=3, !visiblepw"),
    _free("its own umask", "umask=0777, umask_override"),
    _free("an unknown host name", "fqdn"),
    Sudo("one try", f"Defaults passwd_tries=1\n{ASKS}", asked=("operator",), cause="incorrect password", wrong="no"),
    Sudo("a short limit", f"Defaults passwd_tries=3\n{ASKS}", asked=("operator",), cause="did not accept", wrong="no"),
    Sudo("no right", ASKS, "keeper", ("keeper",), "not in the sudoers file"),
    Sudo("the right to something else", "operator ALL=(ALL) /bin/ls\n", "operator", ("operator",), "not allowed to execute"),
    Sudo("noexec", f"Defaults noexec\n{FREE}", "admin", cause="NOEXEC"),
    Sudo("a file with mistakes", "Defaults x=\noperator ALL=(\n", asked=("operator",), cause="sudoers"),
    Sudo("only sh", "admin ALL=(root) NOPASSWD: /bin/sh\n", "admin"),
    Sudo("an expired password", ASKS, asked=("operator",), cause="expired|Current password|change", expired=True),
    Sudo(
        "a code after the password",
        ASKS,
        asked=("operator",),
        cause="can't answer, after the password of operator: .*Verification code",
        pam="auth required pam_unix.so\n" + CODE + PAM,
    ),
    Sudo(
        "a code alone",
        ASKS,
        cause="can't answer, in place of a password: .*Verification code",
        pam=CODE + PAM,
    ),
    Sudo("two modules for the password", ASKS, asked=("operator",), pam="auth required pam_unix.so\n" + PAM),
    Sudo("no way in for anybody", ASKS, cause="sudo refused", pam=PAM.replace("pam_unix", "pam_deny")),
)  # fmt: skip


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """An sshd with the users of NAMES; prepare() changes sudo's settings."""
    lines = {name: f"{64200 + number}:65534::/nonexistent:/bin/sh" for number, name in enumerate(NAMES)}
    etc = {**own_etc.users(lines, PASSWORDS), "sudoers": "", "pam.d/sudo": PAM}
    (folder / "mnt").mkdir(parents=True)
    with own_etc.serving(folder, etc, mnt=folder / "mnt") as server:
        yield server


def prepare(folder: Path, row: Sudo) -> None:
    """Makes the settings of `row` those of the server."""
    lines = {name: f"{64200 + number}:65534::/nonexistent:/bin/sh" for number, name in enumerate(NAMES)}
    age = "20000:0:30:7:1000::" if row.expired else "20000:0:99999:7:::"
    own_etc.write(folder, "shadow", own_etc.users(lines, PASSWORDS, age)["shadow"])
    own_etc.write(folder, "sudoers", row.sudoers)
    own_etc.write(folder, "pam.d/sudo", row.pam)
