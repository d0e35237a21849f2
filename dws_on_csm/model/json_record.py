"""What programs wrote down as lines of JSON, here and on hosts: a line that can't be read is none."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> dict[str, Any]:
    """The record that a line is; an empty one where the line is none, as when it was torn."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
