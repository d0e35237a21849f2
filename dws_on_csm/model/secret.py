"""What nobody may see: a key, a password, a file that has them."""

from __future__ import annotations

from typing import Final

REDACTED: Final = "(redacted)"
"""Replaces a secret in a text."""


class Secret:
    """Bytes that show themselves to nobody: not in str, repr, an exception or a diff. `reveal()` is the only way in."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def reveal(self) -> bytes:
        """The bytes themselves, for the one who writes them to their destination."""
        return self._content

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not written anywhere")
