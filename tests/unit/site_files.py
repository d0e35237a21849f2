"""Site files for tests: written, loaded, and held against the schema by another reader of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dws_on_csm.config.load import SCHEMA, load
from dws_on_csm.config.yaml_file import SiteError

RULES: dict[str, Any] = json.loads(SCHEMA.read_text())
JUDGE = Draft202012Validator(RULES)
MINIMAL = "master: {host: m}\ncontrollers: [{host: c}]\n"
HOSTS = {"controllers": [{"host": "c"}], "master": {"host": "m"}}
"""The same as data: enough for a site."""


def write(tmp_path: Path, text: str | bytes) -> Path:
    """A site file with this content."""
    path = tmp_path / "hosts.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def said(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is wrong with such a file, line by line, without its path."""
    path = write(tmp_path, text)
    with pytest.raises(SiteError) as error:
        load(path)
    return [line.removeprefix(f"{path}:") for line in str(error.value).splitlines()]
