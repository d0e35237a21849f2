"""Texts that are made safe to show, or shortened."""

from __future__ import annotations

import pytest

from dws_on_csm.model.printable import first_few


@pytest.mark.parametrize(
    ("texts", "more", "expected"),
    [
        ([], {}, ""),
        (["a"], {}, "a"),
        (["a", "b", "c"], {}, "a; b; c"),
        (["a", "b", "c", "d"], {}, "a; b; c and 1 more"),
        (["a", "b", "c"], {"shown": 1, "separator": ", ", "noun": "lines"}, "a and 2 more lines"),
        (["a", "b"], {"shown": 2, "separator": ", ", "noun": "lines"}, "a, b"),
    ],
)
def test_a_long_list_says_how_many_more_there_are(texts: list[str], more: dict[str, object], expected: str) -> None:
    """A shortened list says how many more there are."""
    assert first_few(texts, **more) == expected  # type: ignore[arg-type]
