"""More hosts than a process may have open files: a separate process with a low limit, against a real sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import ComputeGroup, Host
from dws_on_csm.model.errors import Crowded, Unreachable
from dws_on_csm.runner.connections import Sessions, report_connections, roles
from dws_on_csm.transport.connect import Jumps
from tests.ssh.server import HANG, Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HOSTS = 40

CONNECT = """
import json, os, resource, sys
from pathlib import Path
config, *numbers = sys.argv[1:]
soft, hard, opened, count = map(int, numbers)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.config.site import Host
from tests.ssh.conftest import Site, Ssh
before = [os.open("/dev/null", os.O_RDONLY) for _ in range(opened)]
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
hosts = [Host(f"h{number}", "compute", "root", False) for number in range(count)]
sessions = connect_all(Site(Ssh(Path(config), 8)), hosts)
there = [name for name, one in sessions.items() if not isinstance(one, Unreachable)]
told = {name: (type(one).__name__, one.text, one.fix) for name, one in sessions.items() if isinstance(one, Unreachable)}
works = there and sessions[there[-1]].run("echo works", deadline=60).out.decode().strip()
print(json.dumps({"there": there, "told": told, "works": works}))
sys.stdout.flush()
os._exit(0)
"""


def connected(server: Server, tmp_path: Path, soft: int, hard: int, opened: int = 0) -> Any:
    config = tmp_path / "ssh_config"
    config.write_text(server.config(name="h*"))
    words = [sys.executable, "-c", CONNECT, *map(str, (config, soft, hard, opened, HOSTS))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=4 * HANG, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_limit_is_raised(server: Server, tmp_path: Path) -> None:
    """The limit is raised as far as allowed, and all hosts are connected."""
    found = connected(server, tmp_path, soft=48, hard=4096)
    assert len(found["there"]) == HOSTS and found["told"] == {} and found["works"] == "works"


def test_hosts_that_do_not_fit_are_refused_by_name(server: Server, tmp_path: Path) -> None:
    """Under a low limit the first hosts are connected; each other host is reported with the numbers and the fix."""
    found = connected(server, tmp_path, soft=128, hard=128)
    assert 1 <= len(found["there"]) < HOSTS and found["works"] == "works"
    assert found["there"] == [f"h{number}" for number in range(len(found["there"]))]
    assert len(found["there"]) + len(found["told"]) == HOSTS
    for kind, text, fix in found["told"].values():
        assert kind == "Crowded" and f"{HOSTS} hosts need {HOSTS} open files" in text and "(of 128 in all)" in text
        assert "`ulimit -n " in fix


def test_hosts_that_do_not_fit_are_not_down() -> None:
    """may_be_down of a group does not cover nodes that this machine has no open files for."""
    nodes = tuple(Host(f"n{number}", "compute", "root", False) for number in range(4))
    site = replace(load(DEFAULT), computes=(ComputeGroup(nodes, "check", 3),))
    for kind, down in ((Unreachable, ()), (Crowded, ("n1", "n2"))):
        sessions = Sessions(Jumps())
        sessions.update((name, kind(name, "no connection", "")) for name in ("n1", "n2"))
        assert report_connections(site, roles(site), sessions, lambda event: None)[1] == down


def test_with_a_thousand_open_files_a_connection_works(server: Server, tmp_path: Path) -> None:
    """A connection's file descriptor may be too large for select(2)."""
    found = connected(server, tmp_path, soft=1024, hard=4096, opened=1200)
    assert len(found["there"]) == HOSTS and found["works"] == "works"
