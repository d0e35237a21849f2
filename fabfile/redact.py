"""Secrets taken out of what leaves the site: keys, passwords, tokens, whatever form they stand in. Pure, in linear time.

What leads nowhere else is taken out by its form (a PEM block, a web token), everything else by the name before it, up to
where its value ends; where that can't be told, rather too much goes. What a site's own secrets are is also searched for.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from fabfile.secret import Secret

GONE = "(taken out)"

# --- names


_LAST = re.compile(
    r"(?:.*(?:password|passwd|passphrase|passcode|secret|token|credential|apikey|accesskey|secretkey|privatekey|cookie)s?"
    r"|pass|pwd|psk|jwt|bearer|auth|authorization|creds?|[a-z]{2,8}(?<!by)(?<!com)(?<!tres)(?<!sur)pass)[0-9]*"
)
"""The last word of a secret's name; in front of it anything may stand."""
_KEY = {"access", "account", "api", "auth", "ca", "client", "encryption", "jwt", "master", "munge", "private", "secret"}
_KEY |= {"session", "signing", "ssh", "storage", "tls"}
"""Words with which a key is a secret one."""
_HARMLESS = {"PWD", "OLDPWD", "secrets", "credentials", "tokens"}
"""Names that look like one: a folder; lists of places."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_HEADERS = {"authorization", "cookie", "passphrase"}
"""Last words of names whose value may have blanks in it."""


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _secret(name: str) -> bool:
    """Whether what stands under this name is a secret: `dbPassword`, `X-Api-Key`; not `secretName`, `tokenFile`, `AuthType`."""
    words = _words(name)
    if not words or name in _HARMLESS:
        return False
    if len(words) > 1 and words[-1].isdigit():
        words.pop()
    if words[-1] == "data" and words[-2:-1] == ["key"]:
        words.pop()
    if words[-1] == "key":
        return words[-2:-1] != [] and words[-2] in _KEY
    if words[-1] in ("auth", "bearer"):
        return len(words) == 1
    return bool(_LAST.fullmatch(words[-1])) or words[-2:] == ["session", "id"]


# --- forms


def _url(found: re.Match[str]) -> str:
    """A URL without a user and password, and without those of URLs in it; that of ssh keeps a user alone."""
    parts = re.split(r"(:(?:\\?/){2})", found[0])
    clean = parts[:1]
    for mark, part in zip(parts[1::2], parts[2::2], strict=True):
        # what stands before it ends with its scheme; all of it would be searched once for each URL in it
        ssh = clean[-1][-5:].lower().endswith(("ssh", "sftp", "rsync"))
        clean += [mark, _without_user(part, ssh)]
    return "".join(clean)


def _without_user(rest: str, ssh: bool) -> str:
    """What stands behind "://", up to the next one."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, word = rest.partition(":")
    cut = authority.rfind("@")
    if colon and not re.match(r"[0-9]{1,5}(?:[/?#]|$)", word) and not re.search(r"[/?#@]", user):
        cut = rest.rfind("@")  # a password may have what ends a host's name, though it should not
    if cut < 0 or (ssh and ":" not in rest[:cut]):
        return rest
    return f"{GONE}{rest[cut:]}"


def _encoded(found: re.Match[str]) -> str:
    """A PEM block in base64 stays, unless it is a private key."""
    whole = found[0][: len(found[0]) // 4 * 4][:80]
    return GONE if b"PRIVATE KEY" in base64.b64decode(whole + "=" * (-len(whole) % 4)) else found[0]


_AFRESH = r"(?:(?<=\\[nrt])|(?<![\w.+-]))"
"""Where a word begins, in JSON after an escaped line's end too: no word is looked at from its middle, which takes long."""
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,60}-----|\Z)", re.DOTALL
        ),
        GONE,
    ),
    (re.compile(_AFRESH + r"(?:ey[JA]|ewo)[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+){0,3}"), GONE),
    (
        re.compile(
            r"(\b(?i:bearer|basic|negotiate)\s{1,9})(?=[a-z._~-]*+[A-Z0-9+/=]|[a-z]{24})[A-Za-z0-9+/=._~-]{6,}+"
        ),
        rf"\1{GONE}",
    ),
    (
        re.compile(_AFRESH + r"[A-Za-z][A-Za-z0-9+.-]{0,30}:(?:\\?/){2}(?:[^\s\"'<>\\]|\\/)++"),
        _url,
    ),
    (
        re.compile(
            r"((?<![\w-])(?:-u|--(?:proxy-)?user)(?:[ \t=]|[\"'], ?[\"'])?)(?![0-9]+:[0-9]+\b)"
            r"[^\s:\"']{1,200}+:(?!\(taken out\))[^\s\"']++"
        ),
        rf"\1{GONE}",
    ),
    (re.compile(r"(\bsshpass[ \t]+-p[ \t]*)(?!\(taken out\))[^\s\"']+"), rf"\1{GONE}"),
    (re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]++=*"), _encoded),
)

# --- a name and its value

_HEAD = re.compile(
    r"""(?:(?<=\\[nrt])|(?<![\w.\\-]))(?P<dash>-{1,3})?\.{0,3}(?P<name>\w[\w.-]{0,400}+)"""
    r"""(?:(?P<close>\\{0,7}["'])?[ \t]{0,40}(?P<sep>=>|:=|==?|:)[ \t]*+|(?P<tag>>)"""
    r"""|(?(dash)(?:\\{0,7}["'][ \t]*,?\s*(?=\\{0,7}["'])|(?P<item>[ \t]*\n[ \t]*-[ \t]+)|[ \t]+(?!-))|(?!)))"""
)
"""A name, and what says that its value follows: `name: `, `"name": `, `--name `, `"--name", `, `<name>`."""
_LONGEST = 405
"""Characters of a name and what is before it."""
_HINT = re.compile(r"(?i:pass|pwd|psk|jwt|secret|token|cred|key|cookie|auth|bearer|session)")
"""What every secret's name has in it: where it isn't, nothing more is looked at."""
_OPEN = re.compile(r"(\\{0,7})([\"'])")
_INSIDE = r"""\\++(?!["'nrt])|\\*+["'](?![\s,:;}\])]|\Z)"""
_WORD = re.compile(rf"""(?:[^\s"'\\]|{_INSIDE})++""")
_SETTING = re.compile(rf"""(?:[^\s"'\\&]|{_INSIDE})++""")
_LITERAL = re.compile(r"(?P<no>null|true|false)\b|-?[0-9][0-9.eE+-]*(?=[\s,}\]]|\Z)")
_BLANKS = r"(?:\s|\\{1,7}[nrt]){0,200}"
_LIST = re.compile(rf"\[(?!{_BLANKS}[\]{{[])")
_LIST_END = rf"\](?={_BLANKS}(?:[,}}\]\\\"]|\Z))"
_STRUCTURE = re.compile(rf"\{{{_BLANKS}(?:\}}|\\{{0,7}}[\"']|[\w.-]{{1,100}}\s*:)|\[{_BLANKS}[\]{{]")
_INDENT = re.compile(r"[ \t]*(?:[-?][ \t]+)*")
_BEFORE = re.compile(r"[+-]?[ \t]*(?:[-?][ \t]+)*(?:export[ \t]+)?\\{0,7}[\"']?")
_MAPPING = re.compile(r"[ \t]*(?:-[ \t]|[\"']?[\w./-]+[\"']?[ \t]*:(?:[ \t]|$))")
_BACK = 500
"""Characters in which a line's beginning is looked for: a name behind so many is not the first thing in its line."""


def text(said: str, known: Known | None = None) -> str:
    """The text with each secret in it replaced, `known` ones wherever they stand."""
    if known:
        said = known.gone(said)
    for pattern, instead in _RULES:
        said = pattern.sub(instead, said)
    return "".join(_parts(said))


def _parts(said: str) -> Iterator[str]:
    at = last = 0
    while (hint := _HINT.search(said, at)) and (found := _HEAD.search(said, max(at, hint.start() - _LONGEST))):
        at = found.end()
        if not _named(said, found):
            continue
        end, instead = _value(said, found)
        if end > at:
            yield said[last:at] + instead
            last = at = end
    yield said[last:]


def _named(said: str, found: re.Match[str]) -> bool:
    """Whether a secret's name is there, and what follows is its value."""
    before = said[found.start() - 1 : found.start()]
    if before == "/" and found["sep"] != "=":
        return False  # a file's or an object's name: ca.key, nexus/nexus-admin-credential
    return (not found["tag"] or before == "<") and _secret(found["name"])


def _value(said: str, found: re.Match[str]) -> tuple[int, str]:
    """Where the value ends that begins behind the name, and what takes its place. It may end where it begins: none."""
    at, before = found.end(), said[found.start() - 1 : found.start()]
    opened = _OPEN.match(said, at)
    if said.startswith(GONE, opened.end() if opened else at):
        return at, ""
    if opened:
        end = _closed(said, opened)
        return (end, f"{opened[0]}{GONE}{opened[0]}") if end else (_until(said, at, "\n"), GONE)
    if found["tag"]:
        return _until(said, at, "[<\n]"), GONE
    quoted = f"{found['close']}{GONE}{found['close']}"  # what was JSON stays JSON
    if found["close"] and (literal := _LITERAL.match(said, at)):
        return at if literal["no"] else literal.end(), quoted
    if found["close"] and (listed := _LIST.match(said, at)):
        return _until(said, listed.end(), _LIST_END), f"[{quoted}"
    if found["sep"] == ":" and _STRUCTURE.match(said, at):
        return at, ""
    line = _Line.of(said, found)
    if line.first and found["sep"] == ":":
        return line.scalar(said, at), GONE
    if before in ("'", '"') and not found["close"]:
        return _until(said, at, rf"{before}|{line.end}"), GONE
    if found["item"] or _words(found["name"])[-1] in _HEADERS:
        return _until(said, at, line.end), GONE
    return _word(said, at, before), GONE


def _word(said: str, at: int, before: str) -> int:
    """Where a value ends that has no blanks; in a URL's query, at the next setting."""
    found = (_SETTING if before in ("?", "&") else _WORD).match(said, at)
    return at + max(1, len(found[0].rstrip(",;)]}"))) if found else at


def _until(said: str, at: int, stop: str) -> int:
    """Where the pattern `stop` is next, or the text's end."""
    found = re.compile(stop).search(said, at)
    return found.start() if found else len(said)


def _closed(said: str, opened: re.Match[str]) -> int:
    """Behind the quote that closes what this one opened; 0 where nothing does."""
    slashes, mark = len(opened[1]), opened[2]
    at = opened.end()
    while (end := said.find(mark, at)) >= 0:
        if mark == "'" and not slashes:  # YAML's and the shell's: '' is one, and \ is itself
            if not said.startswith("''", end):
                return end + 1
            at = end + 2
            continue
        run = end - len(said[at:end].rstrip("\\")) - at
        if run <= slashes if slashes else run % 2 == 0:
            return end + 1
        at = end + 1
    return 0


@dataclass(frozen=True)
class _Line:
    """The line that a name stands in, in JSON one of a text with escaped line ends.

    first    whether the name is the first thing in it
    indent   how far it is indented
    newline  what ends it, and `end` the same as a pattern
    """

    first: bool
    indent: int
    newline: str
    end: str

    @classmethod
    def of(cls, said: str, found: re.Match[str]) -> _Line:
        back = max(0, found.start() - _BACK)
        start = max(said.rfind("\n", back, found.start()) + 1, back)
        escaped = said.rfind("\\n", start, found.start())
        if not found["close"] and said[found.start() - 1 : found.start()] == '"':
            escaped = found.start() - 2  # a text in JSON begins with it
        begin = start if escaped < 0 else escaped + 2
        indent = _INDENT.match(said, begin, found.start())
        assert indent is not None
        first = bool(_BEFORE.fullmatch(said, begin, found.start())) and (begin > back or back == 0)
        newline, end = ("\n", r"\n") if escaped < 0 else ("\\n", r"\n|\\n|(?<!\\)\\*+\"")
        return cls(first, indent.end() - begin, newline, end)

    def scalar(self, said: str, at: int) -> int:
        """Where a YAML scalar ends that begins at `at` behind a key of this line: with it, and all lines that are deeper."""
        end = _until(said, at, self.end)
        begun = bool(said[at:end].strip())
        last = end if begun else at
        while said.startswith(self.newline, end):
            begin = end + len(self.newline)
            end = _until(said, begin, self.end)
            line = said[begin:end]
            if not line.strip():
                if end == len(said):
                    break
                continue  # a blank line is inside where a deeper one follows
            depth = len(line) - len(line.lstrip(" \t"))
            if depth <= self.indent or (not begun and _MAPPING.match(line)):
                break
            begun, last = True, end
        return last


# --- objects


def data(value: Any) -> Any:
    """JSON's own types with each secret replaced: by its key, by its name in a list of variables or before it in one of
    arguments, or by its form."""
    if isinstance(value, Mapping):
        named = value.get("name")
        secret = isinstance(named, str) and _secret(named) and "value" in value
        return {
            str(key): _all_gone(item) if _secret(str(key)) or (secret and key == "value") else data(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            GONE if _announced(before, item) else data(item)
            for before, item in zip([None, *value], value, strict=False)
        ]
    return text(value) if isinstance(value, str) else value


def _all_gone(item: Any) -> Any:
    """What stands under a secret's name: a text, a number, or a list of them. A place that has one (`secret: {...}`) is none."""
    if isinstance(item, Mapping) or item is None or isinstance(item, bool) or item == "":
        return data(item)
    if isinstance(item, list | tuple):
        return [_all_gone(one) for one in item]
    return GONE


def _announced(before: Any, item: Any) -> bool:
    """Whether the argument before this one says that it is a secret: ["--password", "x"]."""
    flag = isinstance(before, str) and before.startswith("-") and _secret(before.lstrip("-"))
    return flag and isinstance(item, str) and not item.startswith("-")


# --- what is known to be secret here

_PIECE = 40
"""Characters of a key that are enough to know it by."""
_RUN = re.compile(rf"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/=]{{{_PIECE},}}+")
_SHORTEST = 4
"""Characters of a password below which it isn't looked for: it would stand everywhere."""


class Known:
    """Secrets of the site, to be searched for by what they are: passwords by their value, in each form in which a text has
    it, and keys, which never leave their hosts, by the sums of their pieces."""

    def __init__(self, values: Iterable[Secret] = (), pieces: Collection[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value.reveal())}
        every = sorted(filter(None, forms), key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, every))) if every else None
        self._pieces = frozenset(pieces)

    def gone(self, said: str) -> str:
        """The text without them."""
        said = self._values.sub(GONE, said) if self._values else said
        return _RUN.sub(lambda found: GONE if self._has(found[0]) else found[0], said) if self._pieces else said

    def _has(self, run: str) -> bool:
        windows = (run[at : at + _PIECE].encode() for at in range(len(run) - _PIECE + 1))
        return any(hashlib.sha256(window).hexdigest() in self._pieces for window in windows)


def _forms(value: bytes) -> Iterator[str]:
    """How a value may stand in a text: as it is, escaped, or in base64, also in the middle of what was encoded."""
    plain = value.decode(errors="surrogateescape")
    if len(plain) < _SHORTEST:
        return
    yield from (
        plain,
        json.dumps(plain)[1:-1],
        quote(plain, safe="", errors="replace"),
        quote_plus(plain, errors="replace"),
    )
    yield from (html.escape(plain), shlex.quote(plain).strip("'"))
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + value).decode().rstrip("=")
        first = (0, 2, 3)[shift]
        last = len(coded) - (1 if (shift + len(value)) % 3 else 0)
        if last - first >= 6:
            yield from (coded[first:last], coded[first:last].replace("+", "-").replace("/", "_"))
