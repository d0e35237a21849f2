"""HTML made so that text can't become markup: only `tag` makes any, and everything else is escaped."""

from __future__ import annotations

import html

from dws_on_csm.model.printable import escaped


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str) -> Html:
    """`<name attributes>content</name>`. Content that isn't Html is escaped, as attributes are; `class_` is class."""
    given = "".join(f' {key.rstrip("_")}="{_safe(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{joined(*content)}</{name}>")


def joined(*content: str) -> Html:
    """One piece of HTML after the other; text among them is escaped."""
    return Html("".join(piece if isinstance(piece, Html) else _safe(piece) for piece in content))


def _safe(text: str) -> str:
    return html.escape(escaped(text))
