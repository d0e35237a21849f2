"""A registry with TLS, for the tests of what is asked of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.registry_host import certified
from tests.unit.registry_server import Registry, serving


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A certificate for 127.0.0.1, and its file to trust."""
    return certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def registry(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Registry]:
    with serving(Registry(), tls[0]) as served:
        yield served
