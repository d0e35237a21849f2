"""sudo's settings: scripts run as root wherever sudo lets them, the password asked for is named, and a refusal has its cause."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport.sudo import Question
from tests.ssh import sudos
from tests.ssh.conftest import One
from tests.ssh.server import HANG, Server
from tests.ssh.sudos import PASSWORDS, SUDOS, Sudo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sudos")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with sudos.serving(folder) as server:
        yield server


@pytest.mark.parametrize("row", SUDOS, ids=[row.name for row in SUDOS])
def test_sudo(row: Sudo, folder: Path, server: Server, one: One) -> None:
    """Scripts run as root, with their data whole; or the error names the cause. Only passwords that sudo wants are asked for."""
    sudos.prepare(folder, row)
    asked: list[str] = []

    def ask(question: Question) -> str:
        asked.append(question.user or question.text)
        return row.wrong or PASSWORDS[question.user]

    session = one(server.config(), user=row.user, sudo=True, ask=ask)
    data = os.urandom(100_000)
    script = "sha256sum; echo to stderr >&2; id -u; umask; echo $http_proxy$HOME; exit 3"
    try:
        results = [session.run(script, data, deadline=HANG) for _ in range(2)]
    except Unreachable as error:
        assert row.cause and re.search(row.cause, f"{error.text} {error.fix}", re.DOTALL), error
        assert not any(password in str(error) for password in (row.wrong, *PASSWORDS.values()) if len(password) > 3)
    else:
        assert not row.cause, results
        out = f"{hashlib.sha256(data).hexdigest()}  -\n0\n0022\n/root\n"
        for result in results:
            assert (result.out.decode(), result.err.decode(), result.code) == (out, "to stderr\n", 3)
    assert tuple(asked) == row.asked


def test_variables_that_sudo_keeps_stay_out(folder: Path, server: Server, one: One) -> None:
    """sudoers and PAM give root's programs no variables, and root's home is root's."""
    keeps = 'Defaults env_keep += "http_proxy HOME"\nDefaults !env_reset\nDefaults env_file=/mnt/environment\n'
    pam = f"{sudos.PAM}session required pam_env.so envfile=/mnt/environment readenv=1\n"
    (folder / "mnt/environment").write_text("https_proxy=http://proxy.example:3128\nno_proxy=localhost\n")
    sudos.prepare(folder, Sudo("kept", keeps + sudos.FREE, "admin", pam=pam))
    session = one(server.config(), user="admin", sudo=True)
    names = {line.partition("=")[0] for line in session.run("env", deadline=HANG).out.decode().splitlines()}
    assert names - {"_", "SHLVL", "OLDPWD"} == {
        "HOME",
        "LC_ALL",
        "LOGNAME",
        "PATH",
        "PWD",
        "SHELL",
        "SUDO_USER",
        "USER",
    }
    assert session.run("echo $HOME", deadline=HANG).out == b"/root\n"
