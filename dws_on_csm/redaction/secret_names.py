"""Which names are a secret's: `dbPassword`, `X-Api-Key`, `NEXUS_PW`; not `secretName`, `tokenFile`, `AuthType`."""

from __future__ import annotations

import re

HINT = re.compile(r"(?i:pass|pwd?|psk|jwt|secret|token|cred|key|cookie|auth|bearer|session)")
"""Every secret's name contains one of these; a text without them needs no further search."""
_LAST = re.compile(
    r"(?:.*(?:password|passwd|passphrase|passcode|secret|token|credential|apikey|accesskey|secretkey|privatekey|cookie)s?"
    r"|pass|pwd?|psk|jwt|authtok|bearer|auth|authorization|creds?|(?:root|bind|user|admin|db)pw"
    r"|[a-z]{2,8}(?<!by)(?<!com)(?<!tres)(?<!sur)pass)[0-9]*"
)
"""The last word of a secret's name; any words may precede it."""
_KEY = {"access", "account", "api", "auth", "ca", "client", "encryption", "jwt", "master", "munge", "private", "secret"}
_KEY |= {"session", "signing", "ssh", "storage", "tls"}
"""Words that make a `key` after them a secret."""
_AUTH = {"basic", "docker", "http", "proxy", "registry", "x"}
"""Words that make an `auth` after them a secret: `X-Registry-Auth`; not `kubernetes-auth`."""
_HARMLESS = {"PWD", "OLDPWD", "secrets", "credentials", "tokens", "v1.Secret", "registry.secret"}
"""Names that only look like a secret's: folders, lists of places, a kind, the key of the site file that names a Secret."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PASSWORD = re.compile(r".*pass(?:word|wd|phrase|code)?s?|pwd?")


def words(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word.lower() for word in _WORDS.findall(name)]


def names_secret(name: str) -> bool:
    """Whether the value of this name is a secret."""
    parts = words(name)
    if not parts or name in _HARMLESS:
        return False
    if len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    if parts[-1] == "data" and parts[-2:-1] == ["key"]:
        parts.pop()
    if parts[-1] == "key":
        return parts[-2:-1] != [] and parts[-2] in _KEY
    if parts[-1] in ("auth", "bearer"):
        return len(parts) == 1 or parts[-2] in _AUTH
    return bool(_LAST.fullmatch(parts[-1])) or parts[-2:] in (["session", "id"], ["pass", "phrase"], ["pass", "word"])


def password(name: str) -> bool:
    """Whether it is a password's name. Of all secrets, only a password is written with its owner (`password for joe: ...`)."""
    return bool(_PASSWORD.fullmatch(words(name)[-1]))
