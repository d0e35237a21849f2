"""Fixtures of the tests over SSH: a server, and connections to the hosts of an ssh_config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dws_on_csm.config.site import Host, Role
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.runner.connections import Sessions, connect_all
from dws_on_csm.transport.session import Session
from dws_on_csm.transport.sudo import AskPassword
from tests.ssh.server import Server, running


@dataclass(frozen=True)
class Ssh:
    config: Path
    connections: int = 8
    transport: str = "auto"
    sudo_password_command: str = ""


@dataclass(frozen=True)
class Deadlines:
    connect: float = 60.0


@dataclass(frozen=True)
class Master:
    path: str = "/usr/sbin:/usr/bin:/sbin:/bin"
    kubeconfig: str = "/etc/kubernetes/admin.conf"
    context: str = ""


@dataclass(frozen=True)
class Site:
    """The part of a site that connecting needs."""

    ssh: Ssh
    deadlines: Deadlines = Deadlines()
    master: Master = Master()


Connect = Callable[..., Sessions]
One = Callable[..., Session]
Refused = Callable[..., Unreachable]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An sshd for all tests that do not change it."""
    with running(tmp_path_factory.mktemp("sshd") / "server") as one:
        yield one


@pytest.fixture
def transport() -> str:
    """The site file's ssh.transport. A file whose tests must hold for each has a fixture of its own."""
    return "auto"


@pytest.fixture
def connect(tmp_path: Path, transport: str) -> Iterator[Connect]:
    """Connects to the hosts of an ssh_config (a text), and closes the connections after the test."""
    made: list[Sessions] = []

    def connected(
        config: str,
        *names: str,
        user: str = "root",
        sudo: bool = False,
        role: Role = "controller",
        ask: AskPassword | None = lambda question: pytest.fail("asked for a password"),
        command: str = "",
        waiting: Callable[[str, str, float], object] | None = None,
        **site: object,
    ) -> Sessions:
        file = tmp_path / "ssh_config"
        file.write_text(config)
        hosts = [Host(name, role, user, sudo) for name in names or ("host",)]
        ssh = Ssh(file, transport=transport, sudo_password_command=command)
        made.append(connect_all(Site(ssh, **site), hosts, ask, waiting))  # type: ignore[arg-type]
        return made[-1]

    yield connected
    for sessions in made:
        sessions.close()


@pytest.fixture
def one(connect: Connect) -> One:
    """The same for one host, to which the connection must succeed."""

    def session(config: str, **more: object) -> Session:
        (found,) = connect(config, **more).values()
        if isinstance(found, Unreachable):
            raise found
        assert isinstance(found, Session)
        return found

    return session


@pytest.fixture
def refused(connect: Connect) -> Refused:
    """The same for one host, to which the connection must fail."""

    def unreachable(config: str, **more: object) -> Unreachable:
        (found,) = connect(config, **more).values()
        assert isinstance(found, Unreachable)
        return found

    return unreachable


@pytest.fixture
def session(server: Server, one: One) -> Session:
    """A connection to the shared server."""
    return one(server.config())
