"""Values behind a secret's name in any text: YAML, JSON, settings, a command line, XML, headers.

In linear time. Where a value's end is unclear, more rather than less is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dws_on_csm.model.secret import REDACTED
from dws_on_csm.redaction.secret_names import HINT, names_secret, password, words

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


def redacted(text: str) -> str:
    """The text with the values of secrets' names replaced."""
    return "".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    at = last = 0
    called = -1  # the end of a variable's name that is a secret's
    while (begin := _next(text, at, called)) >= 0 and (match := _HEAD.search(text, begin)):
        at, key = match.end(), match["name"].lower()
        if key in ("name", "key") and (variable := _CALLED.match(text, at)) and names_secret(variable[1]):
            called = variable.end()
        if not (_named(text, match) or (key == "value" and _follows(text, called, match))):
            continue
        end, instead = _value(text, match)
        if end > at:
            yield text[last:at] + instead
            last = at = end
    yield text[last:]


def _next(text: str, at: int, called: int) -> int:
    """Where the search for a name continues from `at` on; -1: nowhere."""
    if called >= 0 and at - called <= _NEAR:
        return at
    hint = HINT.search(text, at)
    return max(at, hint.start() - _LONGEST) if hint else -1


def _follows(text: str, called: int, match: re.Match[str]) -> bool:
    """Whether this is the value of the variable whose name ended at `called`."""
    return called >= 0 and bool(_BETWEEN.fullmatch(text, called, match.start()))


def argument(text: str, at: int) -> tuple[int, str]:
    """The end of the word of a command line that begins at `at`, and its replacement."""
    opened = _OPEN.match(text, at)
    if text.startswith(REDACTED, opened.end() if opened else at):
        return at, ""
    if opened and (end := _closed(text, opened)):
        return end, f"{opened[0]}{REDACTED}{opened[0]}"
    return _word(text, at, ""), REDACTED


def _named(text: str, match: re.Match[str]) -> bool:
    """Whether this is a secret's name with its value behind it."""
    before = text[match.start() - 1 : match.start()]
    if before == "/" and match["sep"] != "=" and match["name"] != "password":
        return False  # a file's or an object's name: ca.key, nexus/nexus-admin-credential
    if match["of"] and not password(match["name"]):
        return False  # `token of joe: ...`: mostly a result, not a token
    return (not match["tag"] or before == "<") and names_secret(match["name"])


def _value(text: str, match: re.Match[str]) -> tuple[int, str]:
    """The end of the value behind the name, and its replacement. Where the end is the beginning, there is no value."""
    at, before = match.end(), text[match.start() - 1 : match.start()]
    opened = _OPEN.match(text, at)
    if text.startswith(REDACTED, opened.end() if opened else at):
        return at, ""
    if _NONE.match(text, at):
        return at, ""
    if opened:
        end = _closed(text, opened)
        return (end, f"{opened[0]}{REDACTED}{opened[0]}") if end else (_until(text, at, "\n"), REDACTED)
    if match["tag"]:
        return _until(text, at, "[<\n]"), REDACTED
    quoted = f"{match['close']}{REDACTED}{match['close']}"  # JSON stays JSON
    if match["close"] and (literal := _LITERAL.match(text, at)):
        return literal.end(), quoted
    if match["close"] and (listed := _LIST.match(text, at)):
        return _until(text, listed.end(), _LIST_END), f"[{quoted}"
    if (match["sep"] == ":" or (match["close"] and match["sep"] == "=")) and _STRUCTURE.match(text, at):
        return at, ""
    line = _Line.of(text, match)
    if line.first and match["sep"] == ":":
        return line.scalar(text, at), REDACTED
    if before in ("'", '"') and not match["close"]:
        return _until(text, at, rf"{before}|{line.end}"), REDACTED
    if match["item"] or words(match["name"])[-1] in _HEADERS:
        return _until(text, at, line.end), REDACTED
    return _word(text, at, before), REDACTED


def _word(text: str, at: int, before: str) -> int:
    """The end of a value without blanks; in a URL's query it ends at the next setting."""
    match = (_SETTING if before in ("?", "&") else _WORD).match(text, at)
    return at + max(1, len(match[0].rstrip(",;)]}"))) if match else at


def _until(text: str, at: int, stop: str) -> int:
    """The next place of the pattern `stop`, or the text's end."""
    match = re.compile(stop).search(text, at)
    return match.start() if match else len(text)


def _closed(text: str, opened: re.Match[str]) -> int:
    """The place behind the closing quote; 0 where it is missing."""
    slashes, mark = len(opened[1]), opened[2]
    at = opened.end()
    while (end := text.find(mark, at)) >= 0:
        if mark == "'" and not slashes:  # YAML's and the shell's: '' is one, and \ is itself
            if not text.startswith("''", end):
                return end + 1
            at = end + 2
            continue
        run = end - len(text[at:end].rstrip("\\")) - at
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
    def of(cls, text: str, match: re.Match[str]) -> _Line:
        back = max(0, match.start() - _BACK)
        start = max(text.rfind("\n", back, match.start()) + 1, back)
        escaped = text.rfind("\\n", start, match.start())
        if not match["close"] and text[match.start() - 1 : match.start()] == '"':
            escaped = match.start() - 2  # a text in JSON begins with it
        begin = start if escaped < 0 else escaped + 2
        indent = _INDENT.match(text, begin, match.start())
        assert indent is not None
        first = bool(_BEFORE.fullmatch(text, begin, match.start())) and (begin > back or back == 0)
        newline, end = ("\n", r"\n") if escaped < 0 else ("\\n", r"\n|\\n|(?<!\\)\\*+\"")
        return cls(first, indent.end() - begin, newline, end)

    def scalar(self, text: str, at: int) -> int:
        """The end of a YAML scalar that begins at `at`: this line's end, or that of the last line that is indented deeper."""
        end = _until(text, at, self.end)
        begun, listed = bool(text[at:end].strip()), False
        last = end if begun else at
        while text.startswith(self.newline, end):
            begin = end + len(self.newline)
            end = _until(text, begin, self.end)
            line = text[begin:end]
            if not line.strip():
                if end == len(text):
                    break
                continue  # a blank line is inside where a deeper one follows
            depth = len(line) - len(line.lstrip(" \t"))
            listed = (listed or not begun) and depth >= self.indent and bool(_ITEM.fullmatch(line))
            if not listed and (depth <= self.indent or (not begun and _MAPPING.match(line))):
                break
            begun, last = True, end
        return last
