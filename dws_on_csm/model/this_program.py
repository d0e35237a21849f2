"""This program itself: the name by which it was typed, and its version."""

from __future__ import annotations

import sys
from pathlib import Path


def typed_name() -> str:
    """The program that the user typed: invoke, fab or dws-on-csm."""
    name = Path(sys.argv[0]).name
    return name if name in ("fab", "dws-on-csm") else "invoke"


def version() -> str:
    """The name and version of this tool."""
    import tomllib

    from dws_on_csm.config.load import ROOT

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['name']} {project['version']}"
