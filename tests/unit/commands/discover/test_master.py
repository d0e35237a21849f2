"""The look at the master: its script runs with the real sh, and what it prints is read whatever it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.commands.discover import master
from dws_on_csm.model import render


def test_the_script(tmp_path: Path) -> None:
    """Kubeconfig, CA and the API server are found, the registry and the source are asked, and nothing is left behind."""
    (tmp_path / "pki").mkdir()
    for name in ("pki/ca.crt", "pki/ca.key"):
        (tmp_path / name).touch()
    (tmp_path / "admin.conf").write_text("clusters:\n- cluster:\n    server: https://vip:6443\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in {
        "curl": "for last; do :; done; case $last in *registry*) printf 401 ;; *) printf 000; exit 6 ;; esac",
        "getent": '[ "$2" = slurmctl ]',
        "kubectl": ":",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    before = sorted(tmp_path.rglob("*"))
    given = {
        "kubeconfig": f"{tmp_path}/admin.conf",
        "pki": f"{tmp_path}/pki",
        "registry": "registry.x",
        "source": "https://s",
    }
    script = render.script("lib/as.sh", usual="slurmctl slurm", **given) + master.SCRIPT
    path = f"{tools}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True, env={"PATH": path})
    view = master.parse(done.stdout)
    assert (view.kubeconfig, view.pki, view.server) == (given["kubeconfig"], True, "https://vip:6443")
    assert (view.registry, view.source) == ("401", "000")
    assert view.names["slurmctl"] == "the master resolves this name"
    assert "slurm" not in view.names
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "proxy"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user:secret@proxy:3128/", "http://proxy:3128"),
        ("proxy:3128", ""),
        ("http://[", ""),
        ("", ""),
    ],
)
def test_a_proxy_never_keeps_its_password(line: str, proxy: str) -> None:
    """A site file takes none, and is read by others."""
    assert master.parse(f"proxy={line}\n".encode()).proxy == proxy


def test_names_in_etc_hosts_come_first() -> None:
    """A name that the master's own file lists is surer than one that some server knows."""
    names = master.parse(b"host=m\nresolves=slurm\nlisted=slurmctl2\nresolves=slurmctl2\n").names
    assert names == {"slurmctl2": "in /etc/hosts of m", "slurm": "the master resolves this name"}
