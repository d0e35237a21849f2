"""Login shells and their start-up files: the tool gets in wherever `ssh HOST sh` does, and else names the cause."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import remote_shell
from tests.ssh import logins
from tests.ssh.conftest import One
from tests.ssh.logins import LOGINS, Login
from tests.ssh.server import HANG, Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logins")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with logins.serving(folder) as server:
        yield server


def judge(server: Server, login: Login, tmp_path: Path) -> bool:
    """Whether OpenSSH's client runs a command, gives it its input, and has its two outputs its exit code."""
    config = tmp_path / "judge"
    config.write_text(server.config(f"User {login.shell}"))
    command = "sh -c 'echo in; echo beware >&2; cat; exit 3'"
    try:
        done = subprocess.run(
            ["ssh", "-F", config, "host", command], input=b"data", capture_output=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return b"in\ndata" in done.stdout and b"beware" in done.stderr and b"beware" not in done.stdout


@pytest.mark.parametrize("login", LOGINS, ids=[f"{login.shell}: {login.name}" for login in LOGINS])
def test_login(
    login: Login, folder: Path, server: Server, one: One, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script and its data arrive whole and its result comes back; or nothing of it runs, and the error names the cause."""
    monkeypatch.setattr(remote_shell, "LOGIN", 2.5)  # some wait for input: the test takes twice as long for each
    logins.prepare(folder, login)
    session = one(server.config(), user=login.shell)
    mark = folder / "homes" / login.shell / "mark"
    data = os.urandom(200_000)
    script = f"umask 000; touch /mnt/{login.shell}/mark\nsha256sum; echo to stderr >&2\npwd; echo $PATH; exit 3"
    try:
        result = session.run(script, data, deadline=HANG)
    except Unreachable as error:
        assert login.cause and re.search(login.cause, f"{error.text} {error.fix}"), error
        assert not mark.exists()
        assert login.named or login.taken or not judge(server, login, tmp_path)
        return
    assert not login.cause or login.taken, result
    # what a shell said before the script may come with the script's own words: two streams have no order
    assert mark.exists() and result.err.decode().splitlines()[-1:] in (["to stderr"], [])
    out = f"{hashlib.sha256(data).hexdigest()}  -\n/\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    assert (result.out.decode(), result.code) == (out, 3)


PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://proxy.example:3128")
DANGEROUS = dict.fromkeys(("GIT_DIR", "CURL_HOME", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE", "PYTHONPATH"), "/nowhere")
DANGEROUS |= {
    "BASH_ENV": "/mnt/bash/evil",
    "ENV": "/mnt/bash/evil",
    "LD_LIBRARY_PATH": "/nowhere",
    "TZ": "Mars/Olympus",
}
DANGEROUS |= {"KUBECTL_EXTERNAL_DIFF": "false", "CONTAINERS_CONF": "/nowhere", "LC_MESSAGES": "de_DE"}
STATED = {"HOME", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "USER"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_environment_is_clean(shell: str, folder: Path, server: Server, one: One) -> None:
    """Of the login's variables no other than the stated ones reach a script: not the proxies of case 23 either."""
    variables = {**PROXIES, **DANGEROUS}
    form = {"bash": "export {}={}", "zsh": "export {}={}", "tcsh": "setenv {} {}", "fish": "set -x {} {}"}[shell]
    file = "\n".join(form.format(name, value) for name, value in variables.items())
    logins.prepare(folder, Login("variables", shell, file))
    result = one(server.config(), user=shell).run("env", deadline=HANG)
    environment = dict(line.split("=", 1) for line in result.out.decode().splitlines())
    assert environment.keys() - {"_", "SHLVL", "OLDPWD"} == STATED
    assert (environment["HOME"], environment["USER"], environment["SHELL"]) == (f"/mnt/{shell}", shell, "/bin/sh")
