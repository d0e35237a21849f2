"""Values behind a secret's name in any text: YAML, JSON, settings, a command line, XML, headers.

In linear time. Where a value's end is unclear, more rather than less is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dws_on_csm.model.secret import REDACTED
from dws_on_csm.redaction.secret_names import HINT, password, secret, words

_HEAD = re.compile(
    r"""(?:(?<=\\[nrt])|(?<![\w.\\-]))(?P<dash>-{1,3})?\.{0,3}(?P<name>\w[\w.-]{0,400}+)"""
    r"""(?:(?P<close>\\{0,7}["'])?[ \t]{0,40}(?P<of>"""
    r"""(?:\([^()\n]{0,60}\)|(?:for|of)[ ](?:'[^'\n]{0,200}'|[^\s:]{1,200}))[ \t]{0,4}(?=:))?"""
    r"""(?P<sep>=>|:=|==?|:)[ \t]*+|(?P<tag>>)"""
    r"""|(?(dash)(?:\\{0,7}["'][ \t]*,?\s*(?:a[0-9]{1,4}=)?(?=\\{0,7}["'])|(?P<item>[ \t]*\n[ \t]*-[ \t]+)|[ \t]+(?!-))|(?!)))"""
)
"""A name, and the sign that its value follows: `name: `, `"name": `, `--name `, `"--name", `, `<name>`, `name (of): `."""
_LONGEST = 405
"""The most characters of a name and its prefix."""
_HEADERS = {"authorization", "cookie", "passphrase"}
"""Last words of names whose value may have blanks in it."""
_CALLED = re.compile(r"""\\{0,15}["']?([\w.-]{1,200})""")
_BETWEEN = re.compile(r"""(?:\\+[nrt]|[\s"'\\,;<>/]|name|key){0,80}""")
"""The text that may be between a variable's name and the word `value`: `"name": "DB_PASSWORD", "value": `."""
_OPEN = re.compile(r"(\\{0,7})([\"'])")
_INSIDE = r"""\\++(?!["'nrt])|\\*+["'](?![\s,:;}\])]|\Z)"""
_WORD = re.compile(rf"""(?:[^\s"'\\]|{_INSIDE})++""")
_SETTING = re.compile(rf"""(?:[^\s"'\\&]|{_INSIDE})++""")
_NONE = re.compile(r"(?:null|true|false|\(null\)|<none>|<nil>)(?=[\s,;.`}\])]|\\+[nrt]|\\*[\"']|\Z)")
_LITERAL = re.compile(r"-?[0-9][0-9.eE+-]*(?=[\s,}\]]|\Z)")
_BLANKS = r"(?:\s|\\{1,7}[nrt]){0,200}"
_LIST = re.compile(rf"\[(?!{_BLANKS}[\]{{[])")
_LIST_END = rf"\](?={_BLANKS}(?:[,}}\]\\\"]|\Z))"
_STRUCTURE = re.compile(rf"\{{{_BLANKS}(?:\}}|\\{{0,7}}[\"']|[\w.-]{{1,100}}\s*:)|\[{_BLANKS}[\]{{]")
_INDENT = re.compile(r"[ \t]*(?:[-?][ \t]+)*")
_BEFORE = re.compile(r"[+-]?[ \t]*(?:[-?][ \t]+)*(?:export[ \t]+)?\\{0,7}[\"']?")
_MAPPING = re.compile(r"[ \t]*(?:-[ \t]|[\"']?[\w./-]+[\"']?[ \t]*:(?:[ \t]|$))")
_ITEM = re.compile(r"[ \t]*-[ \t]+[^\s:]+[ \t]*")
"""An item of a list that is one word: in YAML it may be indented no deeper than the list's own key."""
_BACK = 500
"""Characters in which a line's beginning is searched: a name after more of them is not the first word in its line."""


_NEAR = 80
"""Characters behind a variable's name in which its value begins."""


def redacted(said: str) -> str:
    """The text with the values of secrets' names replaced."""
    return "".join(_parts(said))


def _parts(said: str) -> Iterator[str]:
    at = last = 0
    called = -1  # the end of a variable's name that is a secret's
    while (begin := _next(said, at, called)) >= 0 and (found := _HEAD.search(said, begin)):
        at, key = found.end(), found["name"].lower()
        if key in ("name", "key") and (variable := _CALLED.match(said, at)) and secret(variable[1]):
            called = variable.end()
        if not (_named(said, found) or (key == "value" and _follows(said, called, found))):
            continue
        end, instead = _value(said, found)
        if end > at:
            yield said[last:at] + instead
            last = at = end
    yield said[last:]


def _next(said: str, at: int, called: int) -> int:
    """Where the search for a name continues from `at` on; -1: nowhere."""
    if called >= 0 and at - called <= _NEAR:
        return at
    hint = HINT.search(said, at)
    return max(at, hint.start() - _LONGEST) if hint else -1


def _follows(said: str, called: int, found: re.Match[str]) -> bool:
    """Whether this is the value of the variable whose name ended at `called`."""
    return called >= 0 and bool(_BETWEEN.fullmatch(said, called, found.start()))


def argument(said: str, at: int) -> tuple[int, str]:
    """The end of the word of a command line that begins at `at`, and its replacement."""
    opened = _OPEN.match(said, at)
    if said.startswith(REDACTED, opened.end() if opened else at):
        return at, ""
    if opened and (end := _closed(said, opened)):
        return end, f"{opened[0]}{REDACTED}{opened[0]}"
    return _word(said, at, ""), REDACTED


def _named(said: str, found: re.Match[str]) -> bool:
    """Whether this is a secret's name with its value behind it."""
    before = said[found.start() - 1 : found.start()]
    if before == "/" and found["sep"] != "=" and found["name"] != "password":
        return False  # a file's or an object's name: ca.key, nexus/nexus-admin-credential
    if found["of"] and not password(found["name"]):
        return False  # `token of joe: ...`: mostly a result, not a token
    return (not found["tag"] or before == "<") and secret(found["name"])


def _value(said: str, found: re.Match[str]) -> tuple[int, str]:
    """The end of the value behind the name, and its replacement. Where the end is the beginning, there is no value."""
    at, before = found.end(), said[found.start() - 1 : found.start()]
    opened = _OPEN.match(said, at)
    if said.startswith(REDACTED, opened.end() if opened else at):
        return at, ""
    if _NONE.match(said, at):
        return at, ""
    if opened:
        end = _closed(said, opened)
        return (end, f"{opened[0]}{REDACTED}{opened[0]}") if end else (_until(said, at, "\n"), REDACTED)
    if found["tag"]:
        return _until(said, at, "[<\n]"), REDACTED
    quoted = f"{found['close']}{REDACTED}{found['close']}"  # JSON stays JSON
    if found["close"] and (literal := _LITERAL.match(said, at)):
        return literal.end(), quoted
    if found["close"] and (listed := _LIST.match(said, at)):
        return _until(said, listed.end(), _LIST_END), f"[{quoted}"
    if (found["sep"] == ":" or (found["close"] and found["sep"] == "=")) and _STRUCTURE.match(said, at):
        return at, ""
    line = _Line.of(said, found)
    if line.first and found["sep"] == ":":
        return line.scalar(said, at), REDACTED
    if before in ("'", '"') and not found["close"]:
        return _until(said, at, rf"{before}|{line.end}"), REDACTED
    if found["item"] or words(found["name"])[-1] in _HEADERS:
        return _until(said, at, line.end), REDACTED
    return _word(said, at, before), REDACTED


def _word(said: str, at: int, before: str) -> int:
    """The end of a value without blanks; in a URL's query it ends at the next setting."""
    found = (_SETTING if before in ("?", "&") else _WORD).match(said, at)
    return at + max(1, len(found[0].rstrip(",;)]}"))) if found else at


def _until(said: str, at: int, stop: str) -> int:
    """The next place of the pattern `stop`, or the text's end."""
    found = re.compile(stop).search(said, at)
    return found.start() if found else len(said)


def _closed(said: str, opened: re.Match[str]) -> int:
    """The place behind the closing quote; 0 where it is missing."""
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
    """The line with a name in it; in JSON a line of a text with escaped line ends.

    first    whether the name is the first word in it
    indent   the line's indent
    newline  the line end, and `end` the same as a pattern
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
        """The end of a YAML scalar that begins at `at`: this line's end, or that of the last line that is indented deeper."""
        end = _until(said, at, self.end)
        begun, listed = bool(said[at:end].strip()), False
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
            listed = (listed or not begun) and depth >= self.indent and bool(_ITEM.fullmatch(line))
            if not listed and (depth <= self.indent or (not begun and _MAPPING.match(line))):
                break
            begun, last = True, end
        return last
