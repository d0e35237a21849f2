"""Fixes of pods that are not ready, by what they wait for."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.commands.doctor import pod_fixes
from dws_on_csm.stages.dws.pod_waits import Lacking
from tests.unit.commands.doctor.context import MASTER, place

WORKERS = ["ncn-w001", "ncn-w002"]


def an_image(**others: Any) -> Lacking:
    """An image of DWS that two workers cannot pull."""
    base: Lacking = {"image": "registry.local/dws:1", "sandbox": False, "why": "", "workers": WORKERS, "holders": []}
    return {**base, **others}  # type: ignore[typeddict-item]


def test_a_sandbox_image_is_brought_from_a_node_that_has_it() -> None:
    """With the commands as they are typed, and the names of hosts."""
    item = an_image(image="lab.local/pause:1", sandbox=True, holders=["ncn-m001"])
    fix = pod_fixes.fix(place(MASTER), [an_image(), item])
    assert (
        "run `ctr -n k8s.io images export /root/sandbox-image.tar lab.local/pause:1` on ncn-m001, which has the image"
        in fix
    )
    assert "`ctr -n k8s.io images import /root/sandbox-image.tar` on ncn-w001, ncn-w002" in fix
    assert "where a host has the image, run" in pod_fixes.fix(place(MASTER), [{**item, "holders": []}])


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("[manifests 1]: 401 Unauthorized", "is asked for a password, and has none that counts"),
        ("x509: certificate signed by unknown authority", "does not trust the certificate"),
        ("registry.local/dws:1: not found", "asks an address that does not have them"),
        ("dial tcp: i/o timeout", "could not pull"),
    ],
)
def test_an_image_that_the_registry_has_is_the_workers_matter(why: str, expected: str) -> None:
    """The master has seen it in the registry; what the workers' containerd asks is set on them."""
    seen = {"registry.local/dws:1": {"registry": "sha256:ab", "pushed": "sha256:ab", "problem": ""}}
    fix = pod_fixes.fix(place(MASTER, images_pushed=seen), [an_image(why=why)])
    assert fix.startswith(f"the registry has registry.local/dws:1, but containerd on ncn-w001, ncn-w002 {expected}")
    assert "Run `cat /etc/containerd/certs.d/registry.local/hosts.toml` there" in fix


def test_what_the_registry_has_is_not_said_where_nobody_has_seen_it() -> None:
    """The registry may lack the image, or give no answer."""
    for state in ({}, {"registry.local/dws:1": {"registry": "absent", "pushed": "sha256:ab", "problem": ""}}):
        fix = pod_fixes.fix(place(MASTER, images_pushed=state), [an_image(why="not found")])
        assert fix.startswith("registry.local/dws:1 cannot be pulled: containerd on ncn-w001, ncn-w002")


def test_other_pods_are_described_by_kubectl() -> None:
    """Where nothing more is known."""
    assert pod_fixes.fix(place(MASTER), []).startswith("`kubectl -n dws-system describe pods`")
