"""What ssh's own log (LogLevel DEBUG1) says of a login that failed: the cause, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why ssh could not log in, and what to do about it."""

    text: str
    fix: str


_KEYS = (
    (
        r"PIN locked|C_Login failed: 164",
        "the PIN of the token is locked",
        "unlock it with its PUK, by the program of the token's maker",
    ),
    (
        r"PIN incorrect|PIN length out of range|C_Login failed: 16[02]",
        "the token did not accept the PIN",
        "run the same command again, with the right PIN: some wrong ones in a row lock the token",
    ),
    (
        r"\bpin required|no pin specified|need pin entry",
        "the token needs its PIN, and nobody has typed one",
        "run the same command on a terminal, and type the PIN; or load the token into the agent: `ssh-add -s {provider}`",
    ),
    (
        r"is not a PKCS11 library|dlopen \S+ failed",
        "the library of PKCS11Provider can't be loaded",
        "install it, or correct PKCS11Provider in ssh_config",
    ),
    (
        r"returned no (?:keys|slots)",
        "no token has a key; none is inserted, or it is empty",
        "insert the token, and check that this lists its key: `ssh-keygen -D {provider}`",
    ),
    (
        r"Offering public key: .* token\ndebug1: Authentications that can continue",
        "the host does not accept the token's key",
        "add the token's key to authorized_keys on the host: `ssh-keygen -D {provider}` prints it",
    ),
    (
        r"signing failed for \S+-SK .*device not found",
        "the FIDO device of the key is not plugged in",
        "plug the device in, and run the same command again",
    ),
)
"""What ssh writes where a key failed -> the cause, the fix; the first that fits. This decides nothing but the advice."""

_TICKETS = (
    (
        r"No Kerberos credentials available|No credentials were supplied",
        "this user has no Kerberos ticket",
        "run `kinit` as this user, and then the same command again; KRB5CCNAME names a ticket cache in another place",
    ),
    (
        r"Ticket expired",
        "the Kerberos ticket of this user has expired",
        "run `kinit` as this user, and then the same command again",
    ),
    (
        r"Cannot (?:contact any|find) KDC for (?:requested )?realm",
        "no KDC of the Kerberos realm answers",
        "check the network, and the realm's kdc in krb5.conf: `kinit` has to work",
    ),
    (
        r"not found in Kerberos database",
        "the Kerberos realm does not know the host by this name",
        "set HostName in ssh_config to the name in the host's keytab (`klist -k` there); see rdns in krb5.conf, too",
    ),
    (
        r"Improper format of Kerberos configuration file",
        "krb5.conf has a mistake",
        "correct /etc/krb5.conf (or what KRB5_CONFIG names): `klist` has to work",
    ),
    (
        r"Clock skew too great",
        "the clocks of this machine and of the Kerberos realm differ",
        "correct the clock (chrony, ntp) of this machine or of the host",
    ),
    (
        r"method: gssapi-with-mic\n(?:debug1: Delegating credentials\n)*debug1: Authentications that can continue",
        "the host did not accept the Kerberos ticket",
        "compare the principal that `klist` prints with ~/.k5login and auth_to_local on the host, and check the host's keytab",
    ),
)
"""The same for Kerberos tickets."""


def of_sshd(user: str, host: str) -> str:
    """What to do about a key that a host refuses though it has it: only sshd's own log says why. For the end of a fix."""
    home = f"~{user}" if re.fullmatch(r"[A-Za-z_][\w.-]*", user, re.ASCII) else "~"
    files = f"{home} {home}/.ssh {home}/.ssh/authorized_keys"
    return (
        f"if the key is in authorized_keys already, sshd's own log on {host} says why it is refused (`journalctl -n 50 -u ssh -u "
        f"sshd` there). Most often others can write one of these: `ls -ld {files}` shows it, `chmod go-w {files}` helps. Or "
        f"AllowUsers, DenyUsers or PermitRootLogin exclude {user or 'the user'}: `sshd -T | grep -E "
        "'^(allow|deny)(users|groups)|^permitroot'` shows them"
    )


def key_refused(log: bytes) -> bool:
    """Whether the host refused a key that ssh offered."""
    return bool(re.search(rb"Offering public key: .*\r?\ndebug1: Authentications that can continue", log))


def cause(log: bytes) -> Cause | None:
    """The cause of a failed login; None where ssh's last words have to be enough."""
    text = log.decode(errors="replace").replace("\r", "")
    methods = re.findall(r"Authentications that can continue: (.*)", text)
    if not methods:  # it came to no login
        return None
    provider = re.search(r'provider "?(/[^\s":]+)', text)
    for pattern, meaning, fix in _KEYS:
        if re.search(pattern, text):
            return Cause(meaning, fix.replace("{provider}", provider[1] if provider else "PROVIDER"))
    for pattern, meaning, fix in _TICKETS:
        if re.search(pattern, text):
            if "publickey" not in methods[-1]:
                return Cause(meaning, fix)
            return Cause(f"the host accepted no key, and {meaning}", fix)
    return None
