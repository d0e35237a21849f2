"""The search for secrets in a text or in data: keys, passwords, tokens, in any form. Pure, in linear time.

JSON is parsed first: a whole text, a line, or a text inside JSON. Then the other modules search every text: known_secrets,
slurm_conf_secrets, secret_forms and named_values. Encoded parts (base64, percent, HTML) are decoded and searched in the same
way. YAML stays a text: its readers want its comments, and a parser would follow aliases that its author chose.
"""

from __future__ import annotations

import base64
import html
import json
import re
import string
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus

from dws_on_csm.model.secret import REDACTED
from dws_on_csm.redaction import named_values, secret_forms, slurm_conf_secrets
from dws_on_csm.redaction.known_secrets import Known
from dws_on_csm.redaction.secret_names import names_secret

NOTHING = Known()


def text(text: str, known: Known = NOTHING) -> str:
    """The text with each secret in it replaced, `known` secrets anywhere in it."""
    return _Search(known).text(text)


def data(value: Any, known: Known = NOTHING) -> Any:
    """JSON's own types with each secret replaced. Each is found by its key, by its name in a list of variables or arguments, or by
    its form."""
    return _Search(known).data(value)


_DECODER = json.JSONDecoder()
_TRIES = 4
"""Places in a line at which JSON may begin."""
_DEPTH = 4
"""Layers of encoding that are decoded and searched."""


@dataclass(frozen=True)
class _Search:
    """A search; `depth` counts the layers of encoding around the text."""

    known: Known
    depth: int = 0

    def text(self, text: str) -> str:
        """The redacted text: first its JSON, then all of it."""
        whole = self._json(text)
        if whole is None:
            whole = "\n".join(map(self._line, text.split("\n"))) if "{" in text or "[" in text else text
        return self.plain(whole)

    def plain(self, text: str) -> str:
        """A redacted text without JSON."""
        text = slurm_conf_secrets.redacted(self.known.redacted(text))
        text = named_values.redacted(secret_forms.redacted(text))
        if self.depth < _DEPTH:
            deeper = _Search(self.known, self.depth + 1)
            for layer in _LAYERS:
                text = layer.pattern.sub(lambda match: layer.searched(match[0], deeper), text)  # noqa: B023  # used at once
        return text

    def _line(self, line: str) -> str:
        """A line with its JSON redacted, which words may precede."""
        begin = 0
        for _ in range(_TRIES):
            begin = next((at for at in (line.find("{", begin), line.find('["', begin)) if at >= 0), -1)
            if begin < 0:
                break
            try:
                value, end = _DECODER.raw_decode(line, begin)
                clean = self.data(value)
            except (ValueError, RecursionError):
                begin += 1
                continue
            if clean != value:
                line = line[:begin] + _written(clean, line[begin:end]) + line[end:]
                break
            begin = end
        return line

    def _json(self, text: str) -> str | None:
        """The redacted JSON, unchanged where it has no secrets; None where this is no JSON."""
        if text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            value = json.loads(text)
            clean = self.data(value)
        except (ValueError, RecursionError):
            return None
        return text if clean == value else _written(clean, text)

    def data(self, value: Any) -> Any:
        """See `data` above."""
        if isinstance(value, Mapping):
            return self._object(value)
        if isinstance(value, list | tuple):
            return self._list(list(value))
        return self.text(value) if isinstance(value, str) else value

    def _object(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        lower = {str(key).lower(): item for key, item in value.items()}
        called = next((lower[key] for key in ("name", "key") if isinstance(lower.get(key), str)), "")
        whole = lower.get("kind") == "Secret"

        def is_secret(key: str) -> bool:
            return names_secret(key) or (key.lower() == "value" and names_secret(called))

        clean = {}
        for key, item in value.items():
            name = str(key)
            if whole and name in ("data", "stringData") and isinstance(item, Mapping):
                clean[name] = {str(field): REDACTED for field in item}
            else:
                clean[self.plain(name)] = self._all_redacted(item) if is_secret(name) else self.data(item)
        return clean

    def _all_redacted(self, item: Any) -> Any:
        """The redacted value of a secret's name: a text, a number, or a list of them. A mapping (`secret: {...}`) names the
        place of a secret, and has none itself."""
        if isinstance(item, Mapping) or item is None or isinstance(item, bool) or item == "":
            return self.data(item)
        if isinstance(item, list | tuple):
            return [self._all_redacted(value) for value in item]
        return REDACTED

    def _list(self, value: list[Any]) -> list[Any]:
        """Redacted items. Texts are also searched together: as lines of one text, and as a command with its arguments."""
        texts = len(value) > 1 and all(isinstance(item, str) for item in value)
        if texts and not any("\n" in item for item in value):
            lines = "\n".join(value)
            clean = self.plain(lines)
            value = value if clean == lines else clean.split("\n")
        value = [self.data(item) for item in value]
        if texts:
            written = json.dumps(value, ensure_ascii=False)
            clean = self.plain(written)
            with suppress(ValueError):
                value = value if clean == written else json.loads(clean)
        return value


def _written(value: Any, like: str) -> str:
    """JSON in the style of `like`: its indent, its blanks, its line end."""
    indent = re.match(r"\s*[\[{]\s*\n([ \t]+)", like)
    separators = None if indent or re.search(r'(?:"|[\w}\]],)[:,]?\s', like[:2000]) else (",", ":")
    begin, end = like[: len(like) - len(like.lstrip())], like[len(like.rstrip()) :]
    written = json.dumps(
        value, indent=indent[1] if indent else None, separators=separators, ensure_ascii=like.isascii()
    )
    return f"{begin}{written}{end}"


# --- encoded text


@dataclass(frozen=True)
class _Layer:
    """An encoding: its pattern, and the function that returns the replacement (the same text where it has no secret)."""

    pattern: re.Pattern[str]
    searched: Callable[[str, _Search], str]


def _percent(text: str, search: _Search) -> str:
    """A text with a secret is shown decoded, except for line ends."""
    plain = unquote_plus(text)
    clean = search.text(plain)
    return text if clean == plain else quote(clean, safe=string.punctuation + " ")


def _entities(text: str, search: _Search) -> str:
    plain = html.unescape(text)
    clean = search.text(plain)
    return text if clean == plain else html.escape(clean)


def _base64(text: str, search: _Search) -> str:
    """Replaced as a whole where any part is secret: nobody reads the rest."""
    run = re.sub(r"\\+[nr]|\s", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    for skip in range(4):
        content = base64.b64decode(run[skip : skip + (len(run) - skip) // 4 * 4] + _rest(run[skip:]))
        if _is_key(content):
            return REDACTED
        plain = _as_text(content)
        if plain and (_USER.fullmatch(plain) or search.text(plain) != plain):
            return REDACTED
    return REDACTED if _is_random(run) else text


def _rest(run: str) -> str:
    """The incomplete last group of four characters of base64, padded."""
    rest = len(run) % 4
    return run[-rest:] + "=" * (4 - rest) if rest > 1 else ""


def _as_text(content: bytes) -> str:
    """The decoded text, "" where it is no text; an incomplete last character is dropped."""
    try:
        plain = content.decode()
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3 or error.start < 8:
            return ""
        plain = content[: error.start].decode()
    return plain if all(character.isprintable() or character in "\t\r\n" for character in plain) else ""


_USER = re.compile(r"(?:[\w.@\\-]{2,64}|\$oauthtoken|<token>):(?!//)[^\s:/]\S{3,200}")
"""A user and a password, as in Basic authentication and podman's auth.json."""


def _is_key(content: bytes) -> bool:
    """Whether these bytes are a private key: an ASN.1 sequence that begins with a version, or OpenSSH's format."""
    return bool(_DER.match(content)) or content.startswith(b"openssh-key-v1")


_DER = re.compile(
    rb"0(?:[\x20-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01](?:\x02\x82|\x02\x81|\x30|\x04[\x20\x30\x42])", re.DOTALL
)
_RANDOM = 160


def _is_random(run: str) -> bool:
    """Whether it is long and random, like a key of Munge: no text, certificate, public key or compressed file."""
    if len(run) < _RANDOM or run.startswith(("MI", "AAAA", "H4sI", "UEs", "KLUv", "/Td6WFo", "iVBOR", "f0VMR")):
        return False
    kinds = all(re.search(kind, run) for kind in ("[A-Z]", "[a-z]", "[0-9]", r"\+", "/"))
    return kinds and len(set(run)) >= 48 and run.count("/") * 20 < len(run)


def _hexadecimal(text: str, search: _Search) -> str:
    """Replaced as a whole. The kernel's audit log writes a command's words like this, with a NUL between them."""
    plain = _as_text(bytes.fromhex(text).replace(b"\0", b" "))
    return REDACTED if plain and search.text(plain) != plain else text


_WRAPPED = r"(?:(?<=[A-Za-z0-9+/]{60})(?:\\{1,7}n|\r?\n)[ \t]{0,40}[A-Za-z0-9+/]++)*+"
_LAYERS = (
    _Layer(re.compile(r"(?<![^\s\"'<>|;])(?=[^\s\"'<>|;%]*+%[0-9A-Fa-f]{2})[^\s\"'<>|;]++"), _percent),
    _Layer(
        re.compile(r"(?<![^<>\n])(?=[^<>\n&]*+(?:&(?!(?:quot|apos|lt|gt|amp|#)[0-9A-Za-z]*+;)[^<>\n&]*+)*+&)[^<>\n]++"),
        _entities,
    ),
    _Layer(re.compile(r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}){12,}+(?![0-9A-Za-z])"), _hexadecimal),
    _Layer(re.compile(rf"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{{16,}}+{_WRAPPED}={{0,2}}"), _base64),
    _Layer(re.compile(r"(?<![\w+/=-])(?=[A-Za-z0-9]*+[_-])[\w-]{16,}+={0,2}"), _base64),
)
