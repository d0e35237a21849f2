"""Secrets taken out of what leaves the site: keys, passwords, tokens, whatever form they stand in. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

GONE = "(taken out)"

_WORD = r"(?:pass(?:wd|word|phrase|code)?|pwd|secret|token|credentials?|api[-_]?key|access[-_]?key|private[-_]?key)"
_SECRET_NAME = re.compile(
    rf"(?:[a-z0-9_.-]*[-_.])?{_WORD}|[a-z0-9]*(?:Pass|Password|Passwd|Token|Secret)|client-key(?:-data)?|auth|tls\.key"
    r"|ca\.key|id[-_]token|refresh[-_]token|identitytoken|authorization|munge[-_.]?key|jwt[-_]?key",
    re.IGNORECASE,
)
"""Names of settings, keys and environment variables whose value is a secret. Not `secretName`, `tokenFile`, `AuthType`."""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        GONE,
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), GONE),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9+/=._~-]{6,}"), rf"\1\2{GONE}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s:@\"']*:[^/\s@\"']+@", re.IGNORECASE), rf"\1{GONE}@"),
    (re.compile(r"(--(?:password|token|creds?)[= ])(?!\(taken out\))\S+"), rf"\1{GONE}"),
)
_BASE64 = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*")
_PAIR = re.compile(
    r"""(?P<head>(?P<quote>\\?["']?)(?P<name>[A-Za-z][\w.-]*)(?P=quote)[ \t]*[:=][ \t]*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|\\"(?:(?!\\").)*\\"|'[^']*'|[^\s,;{}\[\]"'\\]+)"""
)


def text(said: str) -> str:
    """The text with each secret in it replaced."""
    for pattern, instead in _RULES:
        said = pattern.sub(instead, said)
    return _PAIR.sub(_pair, _BASE64.sub(_encoded, said))


def _encoded(found: re.Match[str]) -> str:
    """A PEM block in base64 stays, unless it is a private key."""
    whole = found[0][: len(found[0]) // 4 * 4][:80]
    return GONE if b"PRIVATE KEY" in base64.b64decode(whole + "=" * (-len(whole) % 4)) else found[0]


def _pair(found: re.Match[str]) -> str:
    value = found["value"]
    if not _SECRET_NAME.fullmatch(found["name"]):
        return found["head"] + _PAIR.sub(_pair, value)  # JSON in JSON: a text that has pairs of its own
    if value == GONE.split()[0]:
        return found[0]
    quote = re.match(r"\\?[\"']", value)
    return found["head"] + (f"{quote[0]}{GONE}{quote[0]}" if quote else GONE)


def data(value: Any) -> Any:
    """JSON's own types with each secret replaced: by its key, by its name in a list of variables, or by its form."""
    if isinstance(value, Mapping):
        named = value.get("name")
        secret = isinstance(named, str) and bool(_SECRET_NAME.fullmatch(named)) and "value" in value
        return {
            str(key): GONE if _hidden(str(key), item) or (secret and key == "value") else data(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return text(value) if isinstance(value, str) else value


def _hidden(key: str, item: Any) -> bool:
    """Whether what stands under `key` is a secret: a text, or bytes of one. A list of places is none."""
    return isinstance(item, str) and bool(item) and bool(_SECRET_NAME.fullmatch(key))
