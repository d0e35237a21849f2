"""Content that must never be shown: a key, a password, a file that contains one."""

from __future__ import annotations

from typing import Final

REDACTED: Final = "(redacted)"
"""Replaces a secret in a text."""


class Secret:
    """Bytes that never appear in str, repr, an exception or a diff. Only `reveal()` returns them."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def reveal(self) -> bytes:
        """The bytes themselves, for the code that writes them to their destination."""
        return self._content

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not written anywhere")
