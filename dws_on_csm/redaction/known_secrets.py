"""The site's own secrets, found by value, in each spelling that a program may use."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator

from dws_on_csm.model.secret import REDACTED, Secret

_PIECE = 40
"""Characters of a key that are enough to recognize it."""
_RUN = re.compile(rf"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/=]{{{_PIECE},}}+")
_SHORTEST = 4
"""A shorter password is not searched for: it would occur everywhere."""


class Known:
    """Secrets of the site. Passwords are searched for by value, in every spelling; keys, which never leave their hosts, by the
    checksums of their pieces."""

    def __init__(self, values: Iterable[Secret] = (), pieces: Collection[str] = ()) -> None:
        plain = sorted({value.reveal() for value in values}, key=len, reverse=True)
        self._values = [re.compile(form) for value in plain for form in forms(value)]
        self._pieces = frozenset(pieces)

    def redacted(self, text: str) -> str:
        """The text with these secrets replaced."""
        for value in self._values:
            text = value.sub(REDACTED, text)
        return _RUN.sub(lambda match: REDACTED if self._has(match[0]) else match[0], text) if self._pieces else text

    def _has(self, run: str) -> bool:
        windows = (run[at : at + _PIECE].encode() for at in range(len(run) - _PIECE + 1))
        return any(hashlib.sha256(window).hexdigest() in self._pieces for window in windows)


def forms(value: bytes) -> Iterator[str]:
    """Patterns for a value in a text: character by character, each in any spelling; as bytes in hexadecimal (`%x` of Go,
    xxd) or decimal (`%v` of Go, journalctl --output=json); in base64, once or twice, at any offset, and in lines."""
    plain = value.decode(errors="surrogateescape")
    if len(plain) < _SHORTEST:
        return
    yield "".join(map(_spelled, re.findall(r"\\+|.", plain, re.DOTALL)))
    yield r"[ :,]{0,2}".join(rf"(?:0x)?{_any_case(byte)}" for byte in value)
    yield r"(?<![0-9])" + r"(?:, ?|\s{1,40}|,\s{1,40})".join(str(byte) for byte in value) + r"(?![0-9])"
    for once in _base64(value):
        yield _coded(once)
        yield from map(_coded, _base64(once.encode()))


def _spelled(run: str) -> str:
    """A pattern for a character (or a row of backslashes): itself, behind any number of backslashes, and as JSON, URLs, HTML, C
    and Python write it. No backslash is tried twice, since that would take time in a text with many of them."""
    character = run[0]
    if character.isascii() and character.isalnum():
        return character
    point, encoded = ord(character), character.encode(errors="surrogateescape")
    escapes = ["".join(f"x{_any_case(byte)}{_ESCAPE}" for byte in encoded).removesuffix(_ESCAPE)]
    escapes += [_ESCAPE.join(f"{byte:03o}" for byte in encoded), f"U{_digits(f'{point:08x}')}"]
    wide = character.encode("utf-16-be", errors="surrogatepass").hex()
    escapes.append(_ESCAPE.join(f"u{_digits(wide[at : at + 4])}" for at in range(0, len(wide), 4)))
    if character in "\t\n\r":
        escapes.append({9: "t", 10: "n", 13: "r"}[point])
    others = ["".join(rf"%(?:25){{0,3}}{_any_case(byte)}" for byte in encoded)]
    others += [rf"&(?:amp;)?#(?:0{{0,4}}{point}|[xX]0{{0,4}}{_digits(f'{point:x}')});"]
    if character in _NAMED:
        others.append(f"&(?:amp;)?{_NAMED[character]};")
    if character == " ":
        others.append(r"\+")
    if character == "'":
        others += [r"'(?:\\{1,15}+'|\\{0,15}+\"'\\{0,15}+\")'", "''"]
    if 0xDC80 <= point <= 0xDCFF:  # a byte that is no UTF-8: decoded text has this in its place
        others.append("\ufffd")
    if character == "\\":
        each = "|".join([f"{_ESCAPE}(?:{'|'.join(escapes)})", *others])
        return rf"(?:(?:{each}){{{len(run)}}}|\\{{{len(run)},{15 * len(run)}}}+)"
    own = [*others, re.escape(character), rf"(?<=\\)(?:{'|'.join(escapes)})"]
    return rf"\\{{0,15}}+(?:{'|'.join(own)})"


_ESCAPE = r"\\{1,15}+"
_NAMED = {'"': "quot", "'": "apos", "&": "amp", "<": "lt", ">": "gt"}


def _any_case(byte: int) -> str:
    return _digits(f"{byte:02x}")


def _digits(hexadecimal: str) -> str:
    """Hexadecimal digits in upper or lower case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in hexadecimal)


def _base64(value: bytes) -> Iterator[str]:
    """The base64 characters that the value alone decides, for each offset at which it may begin."""
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + value).decode().rstrip("=")
        first = (0, 2, 3)[shift]
        last = len(coded) - (1 if (shift + len(value)) % 3 else 0)
        if last - first >= 6:
            yield coded[first:last]


_WRAP = r"(?:(?:\\{1,15}[rn]|[\r\n]){1,2}[ \t]{0,40})?"


def _coded(run: str) -> str:
    """A pattern for base64 in either alphabet, escaped, percent-encoded, or in lines."""
    special = {"+": r"(?:[+-]|%2[bB]|\\{1,15}u002[bB])", "/": r"(?:\\{0,15}/|_|%2[fF]|\\{1,15}u002[fF])"}
    return _WRAP.join(special.get(character, character) for character in run)
